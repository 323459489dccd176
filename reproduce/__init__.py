"""Every table of the five papers as data, and what it takes to make it anew.

python reproduce/run.py --list
python reproduce/run.py --table rece:nudity --dry-run
"""
