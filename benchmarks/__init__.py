"""Speed and memory, as ratios against peers inside one run: ``python benchmarks/run.py``."""
