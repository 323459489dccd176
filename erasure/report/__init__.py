"""Reports of a run: one self-contained HTML file and one PNG, drawn from the same `Report`."""

from erasure.report.content import Panel, Picture, Report, Score, Shown, Strip, Version, text_table
from erasure.report.html import to_html
from erasure.report.matrix import Cell, Matrix
from erasure.report.png import to_image
from erasure.report.scatter import Scatter, Series, Spot

__all__ = [
    "Cell",
    "Matrix",
    "Panel",
    "Picture",
    "Report",
    "Scatter",
    "Score",
    "Series",
    "Shown",
    "Spot",
    "Strip",
    "Version",
    "text_table",
    "to_html",
    "to_image",
]
