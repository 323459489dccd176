"""The ten objects: one function each, which draws its object into a canvas already placed over a background."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from toyworld.drawing import Canvas, arc_points, vary

Rng = np.random.Generator

# (sky, ground) of the places where objects stand
PLACES = {
    "sky": ((150, 195, 235), (190, 215, 235)),
    "room": ((205, 195, 180), (140, 115, 95)),
    "field": ((160, 200, 230), (95, 150, 80)),
}

DARK = (28, 28, 32)
STEEL = (165, 170, 175)

_DRAWERS: dict[str, tuple[str, Callable[[Canvas, Rng], None]]] = {}


def draw_object(name: str, rng: Rng) -> Canvas:
    """A canvas with the object `name` somewhere near the middle, facing left or right. Raises KeyError if unknown."""
    place, draw = _DRAWERS[name]
    canvas = draw_place(place, rng)
    canvas.place(
        rng.uniform(0.45, 0.55), rng.uniform(0.47, 0.55), rng.uniform(0.37, 0.43), mirrored=bool(rng.integers(2))
    )
    draw(canvas, rng)
    return canvas


def draw_place(place: str, rng: Rng) -> Canvas:
    """An empty place of PLACES: sky or wall above, ground below."""
    sky, ground = PLACES[place]
    canvas = Canvas(vary(rng, sky, 14))
    canvas.ground(rng.uniform(0.64, 0.74), vary(rng, ground, 14))
    return canvas


def _object(name: str, place: str):
    def register(draw):
        _DRAWERS[name] = (place, draw)
        return draw

    return register


@_object("tench", "sky")
def _tench(canvas: Canvas, rng: Rng) -> None:
    back, belly = vary(rng, (100, 112, 45), 10), vary(rng, (165, 160, 80), 10)
    canvas.polygon([(0.55, 0), (1.05, -0.45), (1.05, 0.45)], back)
    canvas.polygon([(-0.25, -0.38), (0.2, -0.72), (0.45, -0.3)], back)
    canvas.ellipse(-1, -0.46, 0.78, 0.46, back)
    canvas.ellipse(-0.88, 0.02, 0.5, 0.42, belly)
    canvas.disc(-0.7, -0.12, 0.11, (245, 225, 90))
    canvas.disc(-0.7, -0.12, 0.05, DARK)


@_object("english springer", "field")
def _english_springer(canvas: Canvas, rng: Rng) -> None:
    brown, white = vary(rng, (115, 62, 35), 9), vary(rng, (240, 235, 225), 5)
    canvas.ellipse(-0.55, -0.1, 0.85, 0.65, white)
    canvas.ellipse(0.05, -0.07, 0.72, 0.48, brown)
    for x in (-0.42, 0.45):
        canvas.rectangle(x, 0.4, x + 0.22, 0.98, white)
    canvas.ellipse(-0.95, -0.8, -0.15, 0.1, brown)
    canvas.polygon([(-0.68, -0.76), (-0.46, -0.8), (-0.43, -0.1), (-0.8, -0.1)], white)
    canvas.ellipse(-1.0, -0.35, -0.55, 0.1, white)
    canvas.ellipse(-0.37, -0.7, 0.02, 0.28, vary(rng, (80, 40, 25), 6))
    canvas.disc(-0.92, -0.22, 0.1, DARK)
    canvas.disc(-0.56, -0.48, 0.07, DARK)


@_object("cassette player", "room")
def _cassette_player(canvas: Canvas, rng: Rng) -> None:
    canvas.rectangle(-0.98, -0.62, 0.98, 0.62, vary(rng, (85, 92, 108), 10), DARK, 0.04)
    canvas.rectangle(-0.8, -0.45, 0.8, 0.2, vary(rng, (228, 218, 190), 6))
    for x in (-0.42, 0.42):
        canvas.disc(x, -0.12, 0.25, (55, 55, 60))
        canvas.disc(x, -0.12, 0.11, (235, 235, 235))
    for i in range(4):
        left = -0.76 + i * 0.4
        canvas.rectangle(left, 0.31, left + 0.3, 0.5, vary(rng, (205, 55, 50) if i == 0 else (222, 222, 222), 5))


@_object("chain saw", "field")
def _chain_saw(canvas: Canvas, rng: Rng) -> None:
    for i in range(6):
        left = i * 0.2
        for side in (-1, 1):
            canvas.polygon([(left, 0.13 * side), (left + 0.1, 0.3 * side), (left + 0.2, 0.13 * side)], (85, 85, 92))
    canvas.rectangle(-0.1, -0.14, 1.2, 0.14, STEEL)
    canvas.line([(-0.85, -0.3), (-0.62, -0.68), (-0.15, -0.64), (0, -0.3)], (35, 35, 40), 0.12)
    canvas.polygon([(-1.0, -0.34), (-0.05, -0.48), (0.08, 0.44), (-0.95, 0.5)], vary(rng, (232, 98, 28), 10))
    canvas.rectangle(-0.76, -0.1, -0.28, 0.22, (48, 48, 54))


@_object("church", "field")
def _church(canvas: Canvas, rng: Rng) -> None:
    wall, roof = vary(rng, (235, 228, 212), 6), vary(rng, (160, 62, 50), 10)
    canvas.rectangle(-0.35, -0.05, 0.98, 0.88, wall)
    canvas.polygon([(-0.45, -0.02), (0.1, -0.5), (0.6, -0.5), (1.1, -0.02)], roof)
    canvas.rectangle(-0.88, -0.35, -0.3, 0.88, wall)
    canvas.polygon([(-0.98, -0.33), (-0.59, -1.0), (-0.2, -0.33)], roof)
    canvas.line([(-0.59, -1.24), (-0.59, -0.9)], (60, 50, 40), 0.07)
    canvas.line([(-0.72, -1.13), (-0.46, -1.13)], (60, 50, 40), 0.07)
    canvas.rectangle(-0.73, 0.36, -0.45, 0.88, (92, 56, 36))
    for x in (0.0, 0.36, 0.72):
        canvas.ellipse(x - 0.1, 0.14, x + 0.12, 0.58, (65, 105, 175))


@_object("french horn", "room")
def _french_horn(canvas: Canvas, rng: Rng) -> None:
    brass, shade = vary(rng, (222, 168, 42), 9), vary(rng, (160, 108, 25), 8)
    canvas.line([(-0.5, -0.35), (-1.0, -0.85)], brass, 0.1)
    canvas.polygon([(0.2, 0.62), (0.62, 0.2), (1.15, 0.72), (0.72, 1.15)], brass)
    canvas.disc(0.9, 0.9, 0.32, shade)
    canvas.ring(-0.08, -0.08, 0.74, shade, 0.19)
    canvas.ring(-0.08, -0.08, 0.72, brass, 0.15)
    canvas.ring(-0.08, -0.08, 0.42, brass, 0.13)
    for x in (-0.3, -0.08, 0.14):
        canvas.rectangle(x - 0.07, -0.25, x + 0.07, 0.12, shade)


@_object("garbage truck", "field")
def _garbage_truck(canvas: Canvas, rng: Rng) -> None:
    canvas.polygon([(0.95, -0.6), (1.2, 0.0), (1.05, 0.42), (0.9, 0.42)], vary(rng, (32, 92, 48), 7))
    canvas.rectangle(-0.38, -0.62, 1.0, 0.42, vary(rng, (42, 132, 66), 10))
    for x in (-0.05, 0.3, 0.65):
        canvas.line([(x, -0.56), (x, 0.36)], (24, 82, 40), 0.05)
    canvas.rectangle(-1.05, -0.3, -0.38, 0.42, vary(rng, (238, 238, 236), 5))
    canvas.rectangle(-0.98, -0.21, -0.58, 0.08, (115, 168, 212))
    for x in (-0.72, 0.2, 0.74):
        canvas.disc(x, 0.46, 0.23, DARK)
        canvas.disc(x, 0.46, 0.09, (155, 155, 155))


@_object("gas pump", "field")
def _gas_pump(canvas: Canvas, rng: Rng) -> None:
    canvas.line([(0.35, -0.1), (0.66, -0.1), (0.7, 0.55), (0.92, 0.55), (0.9, -0.5), (0.7, -0.68)], DARK, 0.11)
    canvas.rectangle(-0.62, 0.82, 0.5, 1.0, (85, 85, 92))
    canvas.rectangle(-0.52, -0.92, 0.4, 0.86, vary(rng, (210, 42, 42), 9))
    canvas.rectangle(-0.38, -0.74, 0.26, -0.22, (232, 236, 226))
    canvas.line([(-0.3, -0.48), (0.18, -0.48)], (40, 40, 40), 0.07)


@_object("golf ball", "field")
def _golf_ball(canvas: Canvas, rng: Rng) -> None:
    canvas.polygon([(-0.2, 0.55), (0.2, 0.55), (0.06, 1.12), (-0.06, 1.12)], vary(rng, (205, 150, 85), 9))
    canvas.ellipse(-0.72, -0.76, 0.72, 0.68, vary(rng, (246, 246, 246), 3), (185, 185, 190), 0.04)
    for row in range(-2, 3):
        for column in range(-2, 3):
            x, y = 0.24 * column + (0.12 if row % 2 else 0), 0.23 * row
            if x * x + y * y < 0.33:
                canvas.disc(x, y - 0.04, 0.075, (190, 192, 198))


@_object("parachute", "sky")
def _parachute(canvas: Canvas, rng: Rng) -> None:
    colours = [vary(rng, c, 9) for c in ((225, 55, 55), (248, 208, 55), (55, 105, 205), (242, 242, 242))]
    for x in (-0.95, -0.36, 0.36, 0.95):
        canvas.line([(x, -0.2), (0, 0.72)], (65, 65, 70), 0.03)
    for i in range(6):
        gore = arc_points(1.0, 0.85, 180 + 30 * i, 210 + 30 * i, centre=(0, -0.15))
        canvas.polygon([(0, -0.15), *gore], colours[i % 4])
    canvas.disc(0, 0.72, 0.13, (235, 190, 150))
    canvas.rectangle(-0.16, 0.82, 0.16, 1.14, (48, 58, 125))
