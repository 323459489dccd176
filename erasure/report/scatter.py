"""Erasure against preservation: a dot a method, with the 95 % intervals of both."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape

from erasure.metrics.intervals import Interval
from erasure.report.drawing import FAINT, INK, LINE, PAPER, QUIET, Page, fit, font, lighter

COLOURS = ("#2563eb", "#d97706", "#7c3aed", "#15803d", "#db2777", "#0e7490", "#57534e", "#b91c1c")
WIDTH, HEIGHT = 528, 296
LEFT, RIGHT, TOP, BOTTOM = 58, 52, 88, 46  # around the plot
DOT, SMALL = 8, 4  # radii


@dataclass(frozen=True)
class Spot:
    """x and y with their intervals, both shares."""

    x: Interval
    y: Interval


@dataclass(frozen=True)
class Series:
    """A method: its dot, and smaller ones of what it is made of."""

    name: str
    spot: Spot
    small: Sequence[Spot] = field(default_factory=tuple)


@dataclass(frozen=True)
class Mark:
    """A dot as it is drawn, in pixels from the upper left corner of the panel."""

    series: int
    small: bool
    x: float
    y: float
    whiskers: tuple[float, float, float, float]  # x from, x to, y from, y to
    across: float  # y of the line from x to x


@dataclass(frozen=True)
class Scatter:
    """Shares of both axes run from below the lowest interval to 100 %."""

    title: str
    note: str
    x_label: str
    y_label: str
    series: Sequence[Series]

    def size(self) -> tuple[int, int]:
        return WIDTH, HEIGHT

    # ---- where everything is -----------------------------------------------------------------------------------------

    def starts(self) -> tuple[float, float]:
        """The lower ends of the axes, in tenths."""
        spots = [spot for one in self.series for spot in (one.spot, *one.small)]
        lowest = ([s.spot.x.low for s in self.series], [s.spot.y.low for s in self.series])
        values = ([spot.x.value for spot in spots], [spot.y.value for spot in spots])
        ends = (min(a + b, default=0.0) for a, b in zip(lowest, values, strict=True))
        x, y = (max(0.0, min(0.9, math.floor(10 * end - 1e-9) / 10)) for end in ends)
        return x, y

    def _place(self, x: float, y: float) -> tuple[float, float]:
        x0, y0 = self.starts()
        wide, high = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM
        return LEFT + wide * (x - x0) / (1 - x0), TOP + high * (1 - y) / (1 - y0)

    def marks(self) -> list[Mark]:
        """Small dots first; of several dots at one spot each is moved to the side, so that all are seen."""
        order = [(i, True, spot) for i, one in enumerate(self.series) for spot in one.small]
        order += [(i, False, one.spot) for i, one in enumerate(self.series)]
        found: list[Mark] = []
        for small in (True, False):
            taken: dict[tuple[int, int], int] = {}
            these = [(i, spot, self._place(spot.x.value, spot.y.value)) for i, s, spot in order if s == small]
            spots = [_rounded(at) for _, _, at in these]
            for (i, spot, (x, y)), key in zip(these, spots, strict=True):
                step = 2 * (SMALL if small else DOT) + 1
                x += (taken.get(key, 0) - (spots.count(key) - 1) / 2) * step
                y += DOT + 2 * SMALL if small and key in self._large() else 0  # below the large ones
                apart = 3 * (taken.get(key, 0) - (spots.count(key) - 1) / 2)  # lines across, too
                taken[key] = taken.get(key, 0) + 1
                low, high = self._place(spot.x.low, spot.y.low), self._place(spot.x.high, spot.y.high)
                whiskers = (max(LEFT, low[0]), high[0], min(HEIGHT - BOTTOM, low[1]), high[1])
                found.append(Mark(i, small, x, y, whiskers, y + apart))
        return found

    def _large(self) -> set[tuple[int, int]]:
        return {_rounded(self._place(s.spot.x.value, s.spot.y.value)) for s in self.series}

    def ticks(self) -> tuple[list[float], list[float]]:
        """Shares at which the axes have a line."""
        return tuple(_ticks(start) for start in self.starts())  # type: ignore[return-value]

    def legend(self) -> list[tuple[int, float]]:
        """(series, y) of its entries, in the lower left corner, where good methods are not."""
        return [(i, HEIGHT - BOTTOM - 14 - 22 * (len(self.series) - 1 - i)) for i in range(len(self.series))]

    # ---- in a picture ------------------------------------------------------------------------------------------------

    def draw(self, page: Page, x: int, y: int) -> None:
        page.text(x, y + 19, fit(self.title, font(19, True), WIDTH), 19, INK, bold=True)
        page.text(x, y + 40, fit(self.note, font(13), WIDTH), 13, FAINT)
        across, up = self.ticks()
        right, bottom = x + WIDTH - RIGHT, y + HEIGHT - BOTTOM
        for share in up:
            at = round(y + self._place(1, share)[1])
            page.rule(x + LEFT, right, LINE, y=at)
            page.text(x + LEFT - 8, at, f"{100 * share:.0f} %", 12, QUIET, anchor="rm")
        for share in across:
            at = round(x + self._place(share, 1)[0])
            page.draw.line((at, y + TOP, at, bottom), fill=LINE)
            page.text(at, bottom + 16, f"{100 * share:.0f} %", 12, QUIET, anchor="ms")
        page.text((x + LEFT + right) / 2, bottom + 38, self.x_label, 14, QUIET, anchor="ms")
        page.text(x, y + TOP - 17, self.y_label, 14, QUIET)
        for mark in self.marks():
            _draw_mark(page, x, y, mark)
        for i, at in self.legend():
            page.dot(x + LEFT + 18, round(y + at), 6, _colour(i))
            page.text(x + LEFT + 32, y + at, self.series[i].name, 14, INK, anchor="lm")

    # ---- in a document -----------------------------------------------------------------------------------------------

    def html(self) -> str:
        across, up = self.ticks()
        right, bottom = WIDTH - RIGHT, HEIGHT - BOTTOM
        parts = []
        for share in up:
            at = self._place(1, share)[1]
            parts.append(
                _line(LEFT, at, right, at, "var(--line)") + _text(LEFT - 8, at + 4, f"{100 * share:.0f} %", "end")
            )
        for share in across:
            at = self._place(share, 1)[0]
            parts.append(
                _line(at, TOP, at, bottom, "var(--line)") + _text(at, bottom + 16, f"{100 * share:.0f} %", "middle")
            )
        parts.append(
            _text((LEFT + right) / 2, bottom + 38, self.x_label, "middle") + _text(0, TOP - 17, self.y_label, "start")
        )
        for mark in self.marks():
            parts.append(_svg_mark(mark, self.series[mark.series].name))
        for i, at in self.legend():
            parts.append(f"<circle cx='{LEFT + 18}' cy='{at}' r='6' fill='{_colour(i)}'/>")
            parts.append(_text(LEFT + 32, at + 4, self.series[i].name, "start"))
        top = TOP - 34
        return (
            f"<p class='legend'>{escape(self.note)}</p>\n<svg class='plot' role='img' aria-label='{escape(self.title)}' "
            f"viewBox='0 {top} {WIDTH} {HEIGHT - top}'>{''.join(parts)}</svg>"
        )


def _rounded(at: tuple[float, float]) -> tuple[int, int]:
    return round(at[0] / 4), round(at[1] / 4)


def _ticks(start: float) -> list[float]:
    step = 0.25 if start == 0 else 0.2 if start < 0.4 else 0.1 if start < 0.8 else 0.05
    count = math.floor((1 - start) / step + 1e-9)
    return [1 - k * step for k in range(count, -1, -1)]


def _colour(series: int) -> str:
    return COLOURS[series % len(COLOURS)]


def _draw_mark(page: Page, x: int, y: int, mark: Mark) -> None:
    colour = _colour(mark.series)
    if mark.small:
        page.dot(x + mark.x, round(y + mark.y), SMALL, lighter(colour, 0.45))
        return
    left, right, low, high = mark.whiskers
    pale = lighter(colour, 0.5)
    page.draw.line((x + left, y + mark.across, x + right, y + mark.across), fill=pale, width=2)
    page.draw.line((x + mark.x, y + low, x + mark.x, y + high), fill=pale, width=2)
    page.dot(x + mark.x, round(y + mark.y), DOT, PAPER)
    page.dot(x + mark.x, round(y + mark.y), DOT - 1, colour)


def _svg_mark(mark: Mark, name: str) -> str:
    colour = _colour(mark.series)
    if mark.small:
        return f"<circle cx='{mark.x:.1f}' cy='{mark.y:.1f}' r='{SMALL}' fill='{colour}' opacity='.55'/>"
    left, right, low, high = mark.whiskers
    lines = _line(left, mark.across, right, mark.across, colour, 0.4) + _line(mark.x, low, mark.x, high, colour, 0.4)
    return f"{lines}<circle cx='{mark.x:.1f}' cy='{mark.y:.1f}' r='{DOT - 1}' fill='{colour}'><title>{escape(name)}</title></circle>"


def _line(x0: float, y0: float, x1: float, y1: float, colour: str, opacity: float = 1) -> str:
    return f"<path d='M{x0:.1f} {y0:.1f}L{x1:.1f} {y1:.1f}' stroke='{colour}' stroke-width='1.5' opacity='{opacity}'/>"


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return (
        f"<text x='{x:.1f}' y='{y:.1f}' text-anchor='{anchor}' font-size='13' fill='var(--quiet)'>{escape(text)}</text>"
    )
