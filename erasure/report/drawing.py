"""Drawing with Pillow: text that fits, smooth dots and bars, pictures as tiles."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

PAPER = "#ffffff"
INK, QUIET, FAINT, LINE, TRACK, BAD = "#16181d", "#5b6270", "#8d95a2", "#e4e7ec", "#eef0f3", "#b91c1c"
GOALS = {"erase": "#c2410c", "keep": "#0f766e"}
_SMOOTH = 8  # times larger than it will be: Pillow's own edges are jagged


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

    image: Image.Image
    y: int

    def __post_init__(self):
        self.draw = ImageDraw.Draw(self.image)

    def text(self, x, y, text, size, fill, bold=False, anchor="ls"):
        self.draw.text((x, y), text, font=font(size, bold), fill=fill, anchor=anchor)

    def rule(self, x0, x1, fill, y=None, width=1):
        y = self.y if y is None else y
        self.draw.rectangle((x0, y, x1, y + width - 1), fill=fill)

    def bar(self, x0: float, x1: float, y: int, height: int, fill: str) -> None:
        """A bar with round ends around `y`."""
        left, width = round(x0 - height / 2), max(height, round(x1 - x0) + height)
        mask = rounded_mask(width, height, height / 2)
        self.image.paste(fill, (left, y - height // 2), mask)

    def dot(self, x: float, y: int, radius: int, fill: str) -> None:
        self.bar(x, x, y, 2 * radius, fill)


@lru_cache(maxsize=256)
def rounded_mask(width: int, height: int, radius: float) -> Image.Image:
    """Opaque but for its corners."""
    large = Image.new("L", (width * _SMOOTH, height * _SMOOTH), 0)
    box = (0, 0, width * _SMOOTH - 1, height * _SMOOTH - 1)
    ImageDraw.Draw(large).rounded_rectangle(box, radius * _SMOOTH, fill=255)
    return large.resize((width, height), Image.Resampling.BOX)


def lighter(colour: str, share: float) -> str:
    """`colour` (#rrggbb), with `share` of the way to white."""
    channels = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return "#" + "".join(f"{round(c + (255 - c) * share):02x}" for c in channels)


def tile(image: Image.Image, size: int) -> Image.Image:
    """`image` fitted into a square of `size` pixels, uncropped, with rounded corners on white."""
    image = image.convert("RGB")
    scale = size / max(image.size)
    if scale != 1:
        fitted = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
        image = image.resize(fitted, Image.Resampling.LANCZOS)
    square = Image.new("RGB", (size, size), PAPER)
    square.paste(image, ((size - image.width) // 2, (size - image.height) // 2))
    out = Image.new("RGB", (size, size), PAPER)
    out.paste(square, mask=rounded_mask(size, size, 7))
    return out


def wrap(text: str, face: ImageFont.FreeTypeFont, width: float, most: int | None = None) -> list[str]:
    """Lines of whole words no wider than `width`; a longer word, and what follows line `most`, end in an ellipsis."""
    lines = [""]
    for word in text.split(" "):
        longer = f"{lines[-1]} {word}" if lines[-1] else word
        if face.getlength(longer) <= width:
            lines[-1] = longer
        elif lines[-1]:
            lines.append(fit(word, face, width))
        else:
            lines[-1] = fit(word, face, width)
    if most and len(lines) > most:
        return [*lines[: most - 1], fit(" ".join(lines[most - 1 :]), face, width)]
    return lines


def balanced(text: str, face: ImageFont.FreeTypeFont, width: float) -> list[str]:
    """As few lines as `wrap` makes, and about as long as each other."""
    lines = wrap(text, face, width)
    for narrower in range(round(width) - 20, 0, -20):
        tried = wrap(text, face, narrower)
        if len(tried) > len(lines) or any(line.endswith("…") for line in tried):
            break
        lines = tried
    return lines


def fit(text: str, face: ImageFont.FreeTypeFont, width: float) -> str:
    """`text`, cut with an ellipsis where it is wider than `width`."""
    if face.getlength(text) <= width:
        return text
    while text and face.getlength(text + "…") > width:
        text = text[:-1]
    return text + "…"


def widest(texts: Sequence[str], face: ImageFont.FreeTypeFont) -> float:
    return max((face.getlength(text) for text in texts), default=0)
