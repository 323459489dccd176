"""A matrix of shares: which concepts are still recognised (rows) under which sets of edits (columns)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from erasure.metrics.intervals import Interval
from erasure.report.drawing import FAINT, GOALS, INK, LINE, QUIET, TRACK, Page, fit, font, lighter, wrap

LABEL, CELL, ROW, GAP = 116, 48, 46, 3  # pixels: names of rows, columns, rows, between cells
WIDEST = 1684  # with more columns, they get narrower
_HEADS = 112  # above the cells: title, note, groups and names of columns


@dataclass(frozen=True)
class Cell:
    """A share, and whether the concept is meant to be gone there; interval None where nothing was drawn."""

    interval: Interval | None
    goal: str  # erase or keep


@dataclass(frozen=True)
class Matrix:
    """ValueError where cells and names do not match."""

    title: str
    note: str
    rows: Sequence[str]
    columns: Sequence[tuple[str, Sequence[str]]]  # (group of columns, their names)
    cells: Sequence[Sequence[Cell]]  # a row each

    def __post_init__(self):
        if len(self.cells) != len(self.rows) or {len(row) for row in self.cells} - {len(self.names)}:
            raise ValueError(f"cells of another shape than {len(self.rows)} rows, {len(self.names)} columns")

    @property
    def names(self) -> list[str]:
        return [name for _, names in self.columns for name in names]

    # ---- in a picture ------------------------------------------------------------------------------------------------

    @property
    def _cell(self) -> float:
        room = WIDEST - LABEL - (len(self.columns) - 1) * 3 * GAP
        return min(CELL, room / len(self.names))

    def size(self) -> tuple[int, int]:
        """(width, height) in pixels."""
        width = LABEL + len(self.names) * self._cell + (len(self.columns) - 1) * 3 * GAP
        return round(width), _HEADS + len(self.rows) * ROW

    def draw(self, page: Page, x: int, y: int) -> None:
        width = self.size()[0]
        page.text(x, y + 19, fit(self.title, font(19, True), width), 19, INK, bold=True)
        page.text(x, y + 40, fit(self.note, font(13), width), 13, FAINT)
        lefts = self._column_heads(page, x + LABEL, y)
        for i, (row, cells) in enumerate(zip(self.rows, self.cells, strict=True)):
            top = y + _HEADS + i * ROW
            size = next((size for size in (15, 14, 13) if font(size).getlength(row) <= LABEL - 8), 12)
            page.text(x, top + (ROW - GAP) / 2, fit(row, font(size), LABEL - 8), size, INK, anchor="lm")
            for left, cell in zip(lefts, cells, strict=True):
                _draw_cell(page, round(left), top, round(self._cell) - GAP, ROW - GAP, cell)

    def _column_heads(self, page: Page, left: float, y: int) -> list[float]:
        """Draw the names of columns and of their groups; the left edges of the columns."""
        lefts = []
        for group, names in self.columns:
            width = len(names) * self._cell - GAP
            page.text(left, y + 65, fit(group, font(13, True), width + 2), 13, QUIET, bold=True)
            page.rule(round(left), round(left + width), LINE, y=y + 71, width=2)
            for name in names:
                lines = wrap(name, font(12), self._cell - GAP, most=2)
                for k, line in enumerate(lines):
                    page.text(left, y + 88 + 14 * k, line, 12, QUIET)
                lefts.append(left)
                left += self._cell
            left += 3 * GAP
        return lefts

    # ---- in a document -----------------------------------------------------------------------------------------------

    def html(self) -> str:
        groups = "".join(f"<th colspan='{len(names)}'>{escape(group)}</th>" for group, names in self.columns)
        names = "".join(f"<th>{escape(name)}</th>" for name in self.names)
        body = "\n".join(
            f"<tr><th scope='row'>{escape(row)}</th>{''.join(map(_html_cell, cells))}</tr>"
            for row, cells in zip(self.rows, self.cells, strict=True)
        )
        return f"""<p class="legend">{escape(self.note)}</p>
<table class="matrix"><thead><tr><th></th>{groups}</tr><tr><th></th>{names}</tr></thead>
<tbody>
{body}
</tbody></table>"""


def _draw_cell(page: Page, x: int, y: int, width: int, height: int, cell: Cell) -> None:
    """The share as a number on a ground that is the stronger the larger it is, framed where the concept should be gone."""
    if cell.interval is None:
        page.text(x + width / 2, y + height / 2, "–", 15, FAINT, anchor="mm")
        return
    colour, share = GOALS[cell.goal], cell.interval.value
    page.draw.rounded_rectangle((x, y, x + width - 1, y + height - 1), 5, fill=_ground(colour, share))
    if cell.goal == "erase":
        page.draw.rounded_rectangle((x, y, x + width - 1, y + height - 1), 5, outline=colour, width=2)
    if width >= font(15).getlength("100"):
        ink = "#ffffff" if share > 0.6 else INK
        page.text(x + width / 2, y + height / 2, f"{100 * share:.0f}", 15, ink, cell.goal == "erase", anchor="mm")


def _ground(colour: str, share: float) -> str:
    return lighter(colour, 1 - 0.72 * share) if share else TRACK


def _html_cell(cell: Cell) -> str:
    if cell.interval is None:
        return "<td>–</td>"
    i, colour = cell.interval, GOALS[cell.goal]
    ink = "#fff" if i.value > 0.6 else "#16181d"
    frame = f";outline:2px solid {colour};outline-offset:-2px" if cell.goal == "erase" else ""
    style = f"background:{_ground(colour, i.value)};color:{ink}{frame}"
    return f"<td style='{style}' title='{i.percent()} of {i.n}'>{100 * i.value:.0f}</td>"
