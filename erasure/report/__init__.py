"""Reports of a run: one self-contained HTML file and one PNG, drawn from the same `Report`."""

from erasure.report.content import Picture, Report, Score, Shown, Strip, Version, text_table
from erasure.report.html import to_html
from erasure.report.png import to_image

__all__ = ["Picture", "Report", "Score", "Shown", "Strip", "Version", "text_table", "to_html", "to_image"]
