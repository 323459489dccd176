"""The report as one picture, drawn with Pillow: scores with their intervals, then before/after strips."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from erasure.report.content import Picture, Report, Score, Strip

INK, QUIET, FAINT, LINE, PAPER = "#16181d", "#5b6270", "#9aa1ad", "#e4e7ec", "#ffffff"
ERASE, KEEP, BEFORE, BAD = "#c2410c", "#0f766e", "#9aa1ad", "#b91c1c"

MARGIN = 56
GUTTER = 96  # left of the strips: "before", "after"
TILE, GAP = 136, 10
COLUMNS = 10
WIDTH = 2 * MARGIN + GUTTER + COLUMNS * TILE + (COLUMNS - 1) * GAP


@lru_cache
def font(size: int, bold: bool = False) -> ImageFont.FreeTypeFont:
    """DejaVu Sans as matplotlib ships it; Pillow's built-in face where matplotlib is absent."""
    try:
        import matplotlib

        name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
        return ImageFont.truetype(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / name, size)
    except (ImportError, OSError):
        return ImageFont.load_default(size)


@dataclass
class Page:
    """A canvas and how far down it is filled."""

    draw: ImageDraw.ImageDraw
    image: Image.Image
    y: int = MARGIN

    def text(self, x, y, text, size, fill=INK, bold=False, anchor="ls"):
        self.draw.text((x, y), text, font=font(size, bold), fill=fill, anchor=anchor)


def to_image(report: Report) -> Image.Image:
    """The report as an RGB image WIDTH pixels wide and as tall as it needs."""
    height = _draw(report, Image.new("RGB", (WIDTH, 1), PAPER))
    image = Image.new("RGB", (WIDTH, height), PAPER)
    _draw(report, image)
    return image


def _draw(report: Report, image: Image.Image) -> int:
    """Lay the report out on `image` (what falls outside is lost); returns the height it takes."""
    page = Page(ImageDraw.Draw(image), image)
    _heading(page, report)
    _scores(page, report)
    for strip in report.strips:
        _strip(page, strip)
    _facts(page, report.facts)
    return page.y + MARGIN - 12


def _heading(page: Page, report: Report) -> None:
    page.text(MARGIN, page.y + 32, report.title, 38, bold=True)
    page.y += 54
    for line in wrap(report.subtitle, font(18), WIDTH - 2 * MARGIN):
        page.text(MARGIN, page.y + 18, line, 18, QUIET)
        page.y += 27
    page.y += 30


def _scores(page: Page, report: Report) -> None:
    left, right = MARGIN + 330, WIDTH - MARGIN - 500
    before, after = right + 50, right + 290
    page.text(MARGIN, page.y + 16, report.score_title, 17, bold=True)
    page.text(before, page.y + 16, "before", 15, QUIET)
    page.text(after, page.y + 16, "after", 15, QUIET)
    page.y += 34
    for score in report.scores:
        page.draw.line((MARGIN, page.y, WIDTH - MARGIN, page.y), fill=LINE)
        middle, colour = page.y + 31, ERASE if score.goal == "erase" else KEEP
        page.text(MARGIN, middle - 1, score.label, 18, anchor="lm", bold=score.goal == "erase")
        _interval_bars(page, score, left, right, middle, colour)
        for x, interval, fill in ((before, score.before, QUIET), (after, score.after, colour)):
            page.text(x + 68, middle, f"{100 * interval.value:.0f} %", 20, fill, bold=True, anchor="rm")
            page.text(
                x + 82, middle + 1, f"{100 * interval.low:.0f} – {100 * interval.high:.0f}", 15, FAINT, anchor="lm"
            )
        page.y += 62
    page.draw.line((MARGIN, page.y, WIDTH - MARGIN, page.y), fill=LINE)
    for percent in (0, 50, 100):
        x = left + (right - left) * percent / 100
        page.text(x, page.y + 20, f"{percent} %", 13, FAINT, anchor="ms")
    images = "; ".join(f"{score.label}: {score.after.n}" for score in report.scores)
    page.y += 46
    page.text(MARGIN, page.y, f"Grey: before. Coloured: after. Bars: 95 % intervals. Images: {images}.", 13, FAINT)
    page.y += 40


def _interval_bars(page: Page, score: Score, left: int, right: int, middle: int, colour: str) -> None:
    """Two thin bars on one scale: the interval as a bar, the estimate as a dot."""
    page.draw.line((left, middle, right, middle), fill=LINE, width=1)
    for percent in (0, 50, 100):
        x = left + (right - left) * percent / 100
        page.draw.line((x, middle - 22, x, middle + 22), fill=LINE)
    for interval, fill, y in ((score.before, BEFORE, middle - 10), (score.after, colour, middle + 10)):
        low, value, high = (left + (right - left) * v for v in (interval.low, interval.value, interval.high))
        page.draw.rounded_rectangle((low, y - 3, high, y + 3), 3, fill=_lighter(fill))
        _dot(page.image, value, y, 7, fill)


def _dot(image: Image.Image, x: float, y: float, radius: int, fill: str) -> None:
    """A disc with smooth edges: Pillow's own are jagged."""
    scale = 8
    size = 2 * radius + 2
    mask = Image.new("L", (size * scale, size * scale), 0)
    ImageDraw.Draw(mask).ellipse((scale, scale, (size - 1) * scale, (size - 1) * scale), fill=255)
    image.paste(fill, (round(x) - size // 2, round(y) - size // 2), mask.resize((size, size), Image.Resampling.LANCZOS))


def _lighter(colour: str, share: float = 0.62) -> str:
    channels = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return "#" + "".join(f"{round(c + (255 - c) * share):02x}" for c in channels)


def _strip(page: Page, strip: Strip) -> None:
    page.text(MARGIN, page.y + 18, strip.title, 20, bold=True)
    if strip.note:
        page.text(MARGIN + font(20, True).getlength(strip.title) + 16, page.y + 18, strip.note, 15, QUIET)
    page.y += 36
    for start in range(0, len(strip.pictures), COLUMNS):
        _picture_rows(page, strip.pictures[start : start + COLUMNS])
    page.y += 22


def _picture_rows(page: Page, pictures: list[Picture]) -> None:
    captions = [wrap(picture.caption, font(12), TILE)[:3] for picture in pictures]
    answers = any(picture.judged_before or picture.judged_after for picture in pictures)
    caption_height = 15 * max(map(len, captions)) + 8
    row_height = TILE + (24 if answers else 8)
    for i, (picture, lines) in enumerate(zip(pictures, captions, strict=True)):
        x, y = MARGIN + GUTTER + i * (TILE + GAP), page.y
        for j, line in enumerate(lines):
            # bottom-aligned: captions of one and of two lines both sit right above their picture
            page.text(x, y + caption_height - 10 - 15 * (len(lines) - 1 - j), line, 12, QUIET)
        y += caption_height
        sides = ((picture.before, picture.judged_before, picture.good_before, QUIET),
                 (picture.after, picture.judged_after, picture.good_after, KEEP))  # fmt: skip
        for shown, answer, good, colour in sides:
            page.image.paste(tile(shown), (x, y))
            page.text(x, y + TILE + 16, fit(answer, font(12), TILE), 12, colour if good else BAD)
            y += row_height
    for name, row in (("before", 0), ("after", 1)):
        middle = page.y + caption_height + row * row_height + TILE / 2
        page.text(MARGIN, middle, name, 17, INK if row else QUIET, anchor="lm", bold=bool(row))
    page.y += caption_height + 2 * row_height + 8


def _facts(page: Page, facts: dict[str, str]) -> None:
    if not facts:
        return
    page.draw.line((MARGIN, page.y, WIDTH - MARGIN, page.y), fill=LINE)
    page.y += 10
    for line in wrap("   ·   ".join(f"{name} {value}" for name, value in facts.items()), font(13), WIDTH - 2 * MARGIN):
        page.y += 20
        page.text(MARGIN, page.y, line, 13, FAINT)


def tile(image: Image.Image) -> Image.Image:
    """`image` fitted into a square of TILE pixels, uncropped, with rounded corners on white."""
    image = image.convert("RGB")
    scale = TILE / max(image.size)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    square = Image.new("RGB", (TILE, TILE), PAPER)
    square.paste(image.resize(size, Image.Resampling.LANCZOS), ((TILE - size[0]) // 2, (TILE - size[1]) // 2))
    mask = Image.new("L", (4 * TILE, 4 * TILE), 0)
    ImageDraw.Draw(mask).rounded_rectangle((0, 0, 4 * TILE - 1, 4 * TILE - 1), 28, fill=255)
    out = Image.new("RGB", (TILE, TILE), PAPER)
    out.paste(square, mask=mask.resize((TILE, TILE), Image.Resampling.LANCZOS))
    return out


def wrap(text: str, face: ImageFont.FreeTypeFont, width: float) -> list[str]:
    """Lines of whole words no wider than `width`; a longer word is cut with an ellipsis."""
    lines = [""]
    for word in text.split(" "):
        longer = f"{lines[-1]} {word}".strip() if lines[-1] else word
        if face.getlength(longer) <= width:
            lines[-1] = longer
        elif lines[-1]:
            lines.append(fit(word, face, width))
        else:
            lines[-1] = fit(word, face, width)
    return lines


def fit(text: str, face: ImageFont.FreeTypeFont, width: float) -> str:
    """`text`, cut with an ellipsis where it is wider than `width`."""
    if face.getlength(text) <= width:
        return text
    while text and face.getlength(text + "…") > width:
        text = text[:-1]
    return text + "…"
