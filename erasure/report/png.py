"""The report as one picture, drawn with Pillow: a table of scores with their intervals, then pictures side by side."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from PIL import Image

from erasure.metrics.intervals import Interval
from erasure.report.content import WANTED, Panel, Picture, Report, Strip
from erasure.report.drawing import (
    BAD,
    FAINT,
    GOALS,
    INK,
    LINE,
    PAPER,
    QUIET,
    TRACK,
    Page,
    balanced,
    fit,
    font,
    lighter,
    tile,
    widest,
    wrap,
)  # fmt: skip

BASE = FAINT

MARGIN = 56
GUTTER = 112  # left of the pictures: names of versions
TILE, GAP, SECTION_GAP = 128, 8, 36  # 128: pictures of the embedded model as they are
COLUMNS = 11
ROOM = COLUMNS * TILE + 7 * GAP + 3 * SECTION_GAP  # for the pictures of a line: eleven in four sections
WIDTH = 2 * MARGIN + GUTTER + ROOM
CAPTION, ANSWER = 13, 13  # font sizes
CAPTION_LINE, ANSWER_LINE = 16, 27
HEAD, ROW, COLUMN = 58, 82, 400  # heights in the table, and the width of a score at most
DOT = 7  # radius
PANEL_GAP = 40


def to_image(report: Report) -> Image.Image:
    """The report as an RGB image WIDTH pixels wide and as tall as it needs."""
    height = _draw(report, Image.new("RGB", (WIDTH, 1), PAPER))
    image = Image.new("RGB", (WIDTH, height), PAPER)
    _draw(report, image)
    return image


def _draw(report: Report, image: Image.Image) -> int:
    """Lay the report out on `image` (what falls outside is lost); returns the height it takes."""
    page = Page(image, MARGIN)
    _heading(page, report)
    if report.scores:
        _table(page, report)
    for panels in _panel_lines(report.panels):
        _draw_panels(page, panels)
    for line in _lines(report.strips):
        _picture_line(page, report, line)
    _facts(page, report)
    return page.y + MARGIN - 12


def _heading(page: Page, report: Report) -> None:
    title = fit(report.title, font(42, True), WIDTH - 2 * MARGIN)
    page.text(MARGIN, page.y + 34, title, 42, INK, bold=True)
    page.y += 58
    for line in balanced(report.subtitle, font(19), WIDTH - 2 * MARGIN):
        page.text(MARGIN, page.y + 19, line, 19, QUIET)
        page.y += 28
    page.y += 34


# ---- the table: a row a version, a column a score ------------------------------------------------------------------


def _table(page: Page, report: Report) -> None:
    names = max(widest([v.name for v in report.versions], font(21, True)),
                widest([v.note for v in report.versions], font(14)))  # fmt: skip
    left = MARGIN + min(round(names) + 36, 330)
    costs = [round(_cost_width(report, name)) + 28 for name in report.cost_names]
    width = min(COLUMN, (WIDTH - MARGIN - sum(costs) - left) // len(report.scores))
    columns = [left + i * width for i in range(len(report.scores))]
    ends = [WIDTH - MARGIN - sum(costs[i + 1 :]) for i in range(len(costs))]  # costs are flush right
    page.text(MARGIN, page.y + 18, report.score_title, 18, INK, bold=True)
    page.y += 40
    for x, score in zip(columns, report.scores, strict=True):
        page.text(x, page.y + 18, fit(score.label, font(17, True), width - 16), 17, INK, bold=True)
        about = fit(f"{WANTED[score.goal]} · {score.images}", font(14), width - 16)
        page.text(x, page.y + 40, about, 14, GOALS[score.goal])
    for x, name in zip(ends, report.cost_names, strict=True):
        page.text(x, page.y + 18, name, 17, INK, bold=True, anchor="rs")
    page.y += HEAD
    for i, version in enumerate(report.versions):
        page.rule(MARGIN, WIDTH - MARGIN, LINE)
        middle = page.y + ROW // 2
        page.text(
            MARGIN, middle - 4, fit(version.name, font(21, True), left - MARGIN - 16), 21, INK if i else QUIET, True
        )
        page.text(MARGIN, middle + 22, fit(version.note, font(14), left - MARGIN - 16), 14, QUIET)
        for x, score in zip(columns, report.scores, strict=True):
            _cell(page, x, x + width - 44, middle, score.intervals[i], GOALS[score.goal] if i else BASE)
        for x, name in zip(ends, report.cost_names, strict=True):
            cost = version.costs.get(name, "")
            page.text(x, middle - 4, cost or "–", 19, INK if cost else FAINT, anchor="rs")
        page.y += ROW
    page.rule(MARGIN, WIDTH - MARGIN, LINE)
    _legend(page, left)
    page.y += 62


def _cost_width(report: Report, name: str) -> float:
    return max(font(17, True).getlength(name), widest([v.costs.get(name, "") for v in report.versions], font(19)))


def _cell(page: Page, left: int, right: int, middle: int, interval: Interval, colour: str) -> None:
    """The value and its interval as numbers, and under them on a scale from 0 to 100 %."""
    value, low, high = (f"{100 * x:.0f}" for x in (interval.value, interval.low, interval.high))
    strong = colour if colour != BASE else QUIET
    page.text(left, middle - 4, f"{value} %", 23, strong, bold=True)
    page.text(left + font(23, True).getlength(f"{value} %") + 12, middle - 4, f"{low} – {high}", 15, FAINT)
    _scale(page, left + DOT, right, middle + 18, interval, colour)


def _scale(page: Page, left: int, right: int, y: int, interval: Interval, colour: str) -> None:
    low, value, high = (left + (right - left) * v for v in (interval.low, interval.value, interval.high))
    page.bar(left, right, y, 6, TRACK)
    page.bar(low, high, y, 6, lighter(colour, 0.58))
    page.dot(value, y, DOT, colour)


def _legend(page: Page, left: int) -> None:
    page.text(left, page.y + 24, "Values and 95 % intervals, on scales from 0 to 100 %", 13, FAINT)


# ---- panels: as many side by side as there is room for -------------------------------------------------------------


def _panel_lines(panels: Sequence[Panel]) -> Iterator[list[Panel]]:
    line: list[Panel] = []
    for panel in panels:
        if line and sum(p.size()[0] + PANEL_GAP for p in [*line, panel]) - PANEL_GAP > WIDTH - 2 * MARGIN:
            yield line
            line = []
        line.append(panel)
    if line:
        yield line


def _draw_panels(page: Page, panels: Sequence[Panel]) -> None:
    x = MARGIN
    for panel in panels:
        panel.draw(page, x, page.y)
        x += panel.size()[0] + PANEL_GAP
    page.y += max(panel.size()[1] for panel in panels) + 44


# ---- pictures: a row a version, strips side by side ----------------------------------------------------------------

Part = tuple[Strip, Sequence[Picture]]


def _lines(strips: Sequence[Strip]) -> Iterator[list[Part]]:
    """Strips, or the parts of long ones, as many in a line as there is room for."""
    line: list[Part] = []
    for strip in strips:
        pictures = strip.pictures[: strip.png_pictures]
        for start in range(0, len(pictures), COLUMNS):
            part = (strip, pictures[start : start + COLUMNS])
            if line and _room([*line, part]) > ROOM:
                yield line
                line = []
            line.append(part)
    if line:
        yield line


def _room(line: Sequence[Part]) -> int:
    return sum(_part_width(pictures) for _, pictures in line) + (len(line) - 1) * SECTION_GAP


def _part_width(pictures: Sequence[Picture]) -> int:
    return len(pictures) * (TILE + GAP) - GAP


def _picture_line(page: Page, report: Report, line: Sequence[Part]) -> None:
    pictures = [picture for _, some in line for picture in some]
    captions = max(len(_caption(picture)) for picture in pictures)
    answers = any(shown.answer for picture in pictures for shown in picture.shown)
    row_height = TILE + (ANSWER_LINE if answers else GAP)
    top = page.y + 46 + CAPTION_LINE * captions + 8
    x = MARGIN + GUTTER
    for strip, some in line:
        _section_head(page, strip, x, _part_width(some))
        for picture in some:
            _picture(page, picture, x, top, row_height)
            x += TILE + GAP
        x += SECTION_GAP - GAP
    names = [version.name for version in report.versions]
    size = next((size for size in (19, 17) if widest(names, font(size, True)) <= GUTTER - 12), 15)
    for row, name in enumerate(names):
        lines = wrap(name, font(size, True), GUTTER - 12, most=4)
        middle = top + row * row_height + TILE / 2 - (len(lines) - 1) * (size + 4) / 2
        for i, text in enumerate(lines):
            page.text(MARGIN, middle + i * (size + 4), text, size, INK if row else QUIET, True, "lm")
    page.y = top + len(report.versions) * row_height + 26


def _section_head(page: Page, strip: Strip, x: int, width: int) -> None:
    colour = GOALS[strip.goal] if strip.goal else FAINT
    title = fit(strip.title, font(19, True), width)
    page.text(x, page.y + 19, title, 19, INK, bold=True)
    taken = font(19, True).getlength(title) + 14
    if strip.goal and taken + font(14).getlength(WANTED[strip.goal]) <= width:
        page.text(x + taken, page.y + 19, WANTED[strip.goal], 14, colour)
    page.rule(x, x + width - 1, colour, y=page.y + 30, width=2)


def _picture(page: Page, picture: Picture, x: int, y: int, row_height: int) -> None:
    """One prompt: its caption right above y, and under it the picture of each version."""
    for i, text in enumerate(reversed(_caption(picture))):
        page.text(x, y - 9 - CAPTION_LINE * i, text, CAPTION, QUIET)
    for row, shown in enumerate(picture.shown):
        page.image.paste(tile(shown.image, TILE), (x, y))
        colour = BAD if not shown.good else GOALS["keep"] if row else QUIET
        page.text(x, y + TILE + 17, fit(shown.verdict, font(ANSWER), TILE), ANSWER, colour)
        y += row_height


def _caption(picture: Picture) -> list[str]:
    return wrap(picture.caption, font(CAPTION), TILE, most=4)


def _facts(page: Page, report: Report) -> None:
    if not report.facts:
        return
    page.rule(MARGIN, WIDTH - MARGIN, LINE)
    page.y += 8
    # spaces that do not break: a line ends between two facts
    facts = (f"{name}: {value}".replace(" ", "\N{NO-BREAK SPACE}") for name, value in report.facts.items())
    text = " \N{NO-BREAK SPACE}·\N{NO-BREAK SPACE} ".join(facts)
    for line in wrap(text, font(13), WIDTH - 2 * MARGIN):
        page.y += 21
        page.text(MARGIN, page.y, line.strip(" ·\N{NO-BREAK SPACE}"), 13, FAINT)
