"""A canvas in unit coordinates, drawn at twice the size and halved at the end so that edges come out smooth."""

from __future__ import annotations

import math

import numpy as np
from PIL import Image, ImageDraw

from toyworld.concepts import IMAGE_SIZE

SUPERSAMPLING = 2
CANVAS_SIZE = IMAGE_SIZE * SUPERSAMPLING

Colour = tuple[int, int, int]
Point = tuple[float, float]


def vary(rng: np.random.Generator, colour: Colour, spread: float) -> Colour:
    """`colour` with normal noise of standard deviation `spread` (in 0..255 units) on each channel."""
    return tuple(int(min(max(c + n, 0), 255)) for c, n in zip(colour, rng.normal(0, spread, 3), strict=True))


def pick(rng: np.random.Generator, choices):
    """One of `choices`, unchanged in type (Generator.choice would turn tuples into arrays)."""
    return choices[int(rng.integers(len(choices)))]


class Canvas:
    """A square picture whose subject lives in a frame of its own.

    In the frame (0, 0) is the subject's middle, x grows to the right (to the left when mirrored), y downwards, and
    the subject reaches about -1..1. `place` sets the frame; every drawing method takes frame coordinates, and line
    widths in the frame's unit.
    """

    def __init__(self, background: Colour):
        self.image = Image.new("RGB", (CANVAS_SIZE, CANVAS_SIZE), background)
        self._draw = ImageDraw.Draw(self.image)
        self.place()

    def place(self, x: float = 0.5, y: float = 0.5, scale: float = 0.5, mirrored: bool = False) -> None:
        """Puts the frame's origin at (x, y) and sets its unit to `scale`, all three as fractions of the picture."""
        self._x, self._y, self._unit = x * CANVAS_SIZE, y * CANVAS_SIZE, scale * CANVAS_SIZE
        self._x_unit = -self._unit if mirrored else self._unit

    def ground(self, horizon: float, colour: Colour) -> None:
        """Fills everything below `horizon`, a fraction of the picture's height."""
        self._draw.rectangle((0, horizon * CANVAS_SIZE, CANVAS_SIZE, CANVAS_SIZE), fill=colour)

    def polygon(self, points: list[Point], fill: Colour) -> None:
        self._draw.polygon([self._at(*point) for point in points], fill=fill)

    def ellipse(
        self, left: float, top: float, right: float, bottom: float, fill=None, outline=None, width: float = 0
    ) -> None:
        self._draw.ellipse(self._box(left, top, right, bottom), fill, outline, self._pixels(width))

    def disc(self, x: float, y: float, radius: float, fill: Colour) -> None:
        self.ellipse(x - radius, y - radius, x + radius, y + radius, fill)

    def ring(self, x: float, y: float, radius: float, colour: Colour, width: float) -> None:
        self.ellipse(x - radius, y - radius, x + radius, y + radius, None, colour, width)

    def rectangle(
        self, left: float, top: float, right: float, bottom: float, fill=None, outline=None, width: float = 0
    ) -> None:
        self._draw.rectangle(self._box(left, top, right, bottom), fill, outline, self._pixels(width))

    def sector(self, box: tuple[float, float, float, float], start: float, end: float, fill: Colour) -> None:
        """The part of the ellipse in `box` between two angles in degrees, clockwise from the right.

        The angles do not follow the mirroring: use it for symmetric shapes.
        """
        self._draw.pieslice(self._box(*box), start, end, fill=fill)

    def line(self, points: list[Point], colour: Colour, width: float) -> None:
        self._draw.line([self._at(*point) for point in points], colour, self._pixels(width), joint="curve")

    def finish(self) -> np.ndarray:
        """The picture, float32 [IMAGE_SIZE, IMAGE_SIZE, 3] in 0..255."""
        return np.asarray(self.image.reduce(SUPERSAMPLING), np.float32)

    def _at(self, x: float, y: float) -> Point:
        return self._x + x * self._x_unit, self._y + y * self._unit

    def _box(self, left: float, top: float, right: float, bottom: float) -> tuple[float, float, float, float]:
        (x0, y0), (x1, y1) = self._at(left, top), self._at(right, bottom)
        return min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1)

    def _pixels(self, width: float) -> int:
        return max(1, round(width * self._unit))


def arc_points(
    radius_x: float, radius_y: float, start: float, end: float, centre: Point, steps: int = 6
) -> list[Point]:
    """Points along an ellipse between two angles in degrees, clockwise from the right."""
    angles = (math.radians(start + (end - start) * i / (steps - 1)) for i in range(steps))
    return [(centre[0] + radius_x * math.cos(a), centre[1] + radius_y * math.sin(a)) for a in angles]
