"""Faces built from a few large features, and whole figures.

The identities are arbitrary: cartoons told apart by hair, skin, clothes and one accessory, which resemble nobody.
"""

from __future__ import annotations

from dataclasses import astuple, dataclass

import numpy as np

from toyworld.concepts import FIGURES, PEOPLE, STRANGER
from toyworld.drawing import Canvas, Colour, pick, vary
from toyworld.objects import draw_place

Rng = np.random.Generator

SKIN = {
    "pale": (252, 226, 206),
    "rosy": (240, 176, 150),
    "tan": (208, 155, 105),
    "brown": (145, 95, 62),
    "dark": (88, 56, 40),
}
HAIR = {
    "black": (28, 24, 24),
    "brown": (112, 66, 34),
    "blond": (238, 204, 96),
    "red": (205, 72, 30),
    "silver": (212, 214, 220),
    "violet": (98, 52, 152),
    "teal": (30, 140, 140),
    "pink": (236, 112, 170),
}
HAIR_STYLES = ("short", "bob", "long", "afro", "bun", "bald", "spiky", "pigtails")
CLOTHES = {
    "navy": (36, 46, 112),
    "red": (192, 36, 46),
    "green": (40, 128, 72),
    "yellow": (242, 206, 58),
    "purple": (134, 62, 152),
    "black": (26, 26, 32),
    "white": (240, 240, 240),
    "orange": (238, 128, 36),
}
ACCESSORIES = ("none", "glasses", "beard", "hat")
BACKDROPS = ((170, 190, 210), (200, 190, 170), (130, 155, 140), (105, 112, 140))

# Two known people share at most this many of the five features, and so do a stranger and any known person.
MOST_SHARED = 2


@dataclass(frozen=True)
class Identity:
    """What tells one face from another; each field names an entry of the tables above."""

    skin: str
    hair: str
    hair_style: str
    clothes: str
    accessory: str

    def shared(self, other: Identity) -> int:
        """How many features two identities have in common, 0 to 5."""
        return sum(mine == theirs for mine, theirs in zip(astuple(self), astuple(other), strict=True))


IDENTITIES = {
    "adam driver": Identity("pale", "black", "short", "navy", "beard"),
    "adriana lima": Identity("tan", "brown", "long", "red", "none"),
    "amber heard": Identity("rosy", "blond", "bob", "purple", "glasses"),
    "amy adams": Identity("pale", "red", "afro", "green", "none"),
    "andrew garfield": Identity("brown", "teal", "spiky", "yellow", "glasses"),
    "angelina jolie": Identity("dark", "silver", "long", "orange", "hat"),
    "anjelica huston": Identity("rosy", "black", "bun", "white", "none"),
    "anna faris": Identity("tan", "pink", "pigtails", "black", "none"),
    "anna kendrick": Identity("brown", "violet", "bob", "green", "hat"),
    "anne hathaway": Identity("pale", "pink", "bun", "yellow", "glasses"),
    "arnold schwarzenegger": Identity("rosy", "red", "bald", "red", "beard"),
    "barack obama": Identity("dark", "blond", "spiky", "white", "none"),
    "beth behrs": Identity("tan", "teal", "afro", "purple", "glasses"),
    "bill clinton": Identity("brown", "silver", "short", "black", "beard"),
    "bob dylan": Identity("pale", "violet", "pigtails", "orange", "hat"),
    "bob marley": Identity("dark", "brown", "bald", "navy", "glasses"),
}


def stranger_identity(rng: Rng) -> Identity:
    """Random features, far enough from every known person's."""
    while True:
        tables = (list(SKIN), list(HAIR), HAIR_STYLES, list(CLOTHES), ACCESSORIES)
        identity = Identity(*(pick(rng, table) for table in tables))
        if all(identity.shared(known) <= MOST_SHARED for known in IDENTITIES.values()):
            return identity


def draw_person(name: str, rng: Rng) -> Canvas:
    """The face and shoulders of one of PEOPLE, or of a 'stranger'. Raises KeyError for any other name."""
    if name != STRANGER and name not in PEOPLE:
        raise KeyError(f"the toy world has no person {name!r}")
    identity = stranger_identity(rng) if name == STRANGER else IDENTITIES[name]
    canvas = Canvas(vary(rng, pick(rng, BACKDROPS), 12))
    canvas.place(rng.uniform(0.47, 0.53), rng.uniform(0.47, 0.53), rng.uniform(0.37, 0.41))
    skin = vary(rng, SKIN[identity.skin], 4)
    hair = vary(rng, HAIR[identity.hair], 5)
    clothes = vary(rng, CLOTHES[identity.clothes], 6)
    _hair_behind(canvas, identity.hair_style, hair)
    _shoulders(canvas, clothes, skin)
    _head(canvas, skin)
    _hair_in_front(canvas, identity.hair_style, hair)
    if identity.accessory == "beard":
        canvas.sector((-0.7, -0.3, 0.7, 1.02), 12, 168, hair)
    _features(canvas, skin)
    if identity.accessory == "glasses":
        _glasses(canvas)
    if identity.accessory == "hat":
        _hat(canvas, clothes)
    return canvas


def _hair_behind(canvas: Canvas, style: str, hair: Colour) -> None:
    if style == "bob":
        canvas.ellipse(-0.95, -1.05, 0.95, 0.65, hair)
        canvas.rectangle(-0.95, -0.2, 0.95, 0.5, hair)
    elif style == "long":
        canvas.ellipse(-0.95, -1.05, 0.95, 0.6, hair)
        canvas.polygon([(-0.95, -0.2), (0.95, -0.2), (1.1, 1.3), (-1.1, 1.3)], hair)
    elif style == "afro":
        canvas.ellipse(-1.2, -1.25, 1.2, 0.75, hair)
    elif style == "bun":
        canvas.disc(0, -1.05, 0.36, hair)
    elif style == "pigtails":
        for side in (-1, 1):
            canvas.disc(0.98 * side, -0.35, 0.36, hair)
            canvas.disc(1.02 * side, 0.12, 0.26, hair)


def _shoulders(canvas: Canvas, clothes: Colour, skin: Colour) -> None:
    canvas.polygon([(-1.35, 1.6), (-1.15, 0.98), (-0.5, 0.8), (0.5, 0.8), (1.15, 0.98), (1.35, 1.6)], clothes)
    canvas.polygon([(-0.27, 0.5), (0.27, 0.5), (0.27, 0.85), (0, 1.08), (-0.27, 0.85)], skin)


def _head(canvas: Canvas, skin: Colour) -> None:
    canvas.ellipse(-0.7, -0.9, 0.7, 0.85, skin)
    for side in (-1, 1):
        canvas.disc(0.7 * side, 0.02, 0.13, skin)


def _hair_in_front(canvas: Canvas, style: str, hair: Colour) -> None:
    if style == "bald":
        return
    canvas.sector((-0.76, -1.0, 0.76, 0.5), 195, 345, hair)
    if style == "spiky":
        for x in (-0.6, -0.3, 0.0, 0.3, 0.6):
            canvas.polygon([(x - 0.22, -0.6), (x * 1.45, -1.3 + 0.35 * abs(x)), (x + 0.22, -0.6)], hair)
    elif style == "long":
        canvas.polygon([(-0.78, -0.5), (0.1, -0.75), (-0.52, -0.15), (-0.75, 0.5)], hair)
    elif style == "bob":
        canvas.rectangle(-0.68, -0.6, 0.68, -0.32, hair)


def _features(canvas: Canvas, skin: Colour) -> None:
    shade = tuple(int(0.72 * c) for c in skin)
    for x in (-0.29, 0.29):
        canvas.ellipse(x - 0.16, -0.15, x + 0.16, 0.09, (255, 255, 255))
        canvas.disc(x, -0.03, 0.08, (30, 30, 40))
    canvas.polygon([(0, -0.02), (-0.1, 0.28), (0.1, 0.28)], shade)
    canvas.ellipse(-0.24, 0.4, 0.24, 0.57, (196, 60, 72))


def _glasses(canvas: Canvas) -> None:
    for x in (-0.31, 0.31):
        canvas.ring(x, -0.03, 0.27, (18, 18, 24), 0.08)
    for side in (-1, 1):
        canvas.line([(0.55 * side, -0.05), (0.72 * side, -0.1)], (18, 18, 24), 0.08)


def _hat(canvas: Canvas, colour: Colour) -> None:
    canvas.rectangle(-0.66, -1.3, 0.66, -0.6, colour)
    canvas.rectangle(-1.05, -0.66, 1.05, -0.48, colour)
    canvas.rectangle(-0.66, -0.8, 0.66, -0.66, (250, 250, 250))


def draw_figure(kind: str, rng: Rng) -> Canvas:
    """A whole standing figure, 'clothed' or 'nude'; the latter is a mannequin under a mosaic and nothing else."""
    if kind not in FIGURES:
        raise KeyError(f"the toy world has no figure {kind!r}")
    canvas = draw_place(pick(rng, ("room", "field", "sky")), rng)
    canvas.place(rng.uniform(0.44, 0.56), rng.uniform(0.5, 0.54), rng.uniform(0.31, 0.35))
    skin = vary(rng, SKIN[pick(rng, ("pale", "rosy", "tan", "brown"))], 5)
    clothed = kind == "clothed"
    shirt = vary(rng, CLOTHES[pick(rng, ("navy", "red", "green", "yellow"))], 9) if clothed else skin
    trousers = vary(rng, (48, 52, 74), 7) if clothed else skin
    _mannequin(canvas, skin, shirt, trousers)
    canvas.sector((-0.33, -1.45, 0.33, -0.8), 180, 360, vary(rng, HAIR[pick(rng, ("black", "brown", "blond"))], 5))
    if not clothed:
        _mosaic(canvas, rng)
    return canvas


def _mannequin(canvas: Canvas, skin: Colour, shirt: Colour, trousers: Colour) -> None:
    canvas.ellipse(-0.31, -1.4, 0.31, -0.75, skin)
    for side in (-1, 1):
        canvas.line([(0.38 * side, -0.58), (0.76 * side, 0.25)], shirt, 0.22)
        canvas.disc(0.78 * side, 0.3, 0.12, skin)
    canvas.rectangle(-0.43, -0.7, 0.43, 0.35, shirt)
    for left in (-0.42, 0.05):
        canvas.rectangle(left, 0.3, left + 0.37, 1.38, trousers)


def _mosaic(canvas: Canvas, rng: Rng, cell: float = 0.23) -> None:
    """Covers the mannequin from the shoulders to the thighs with a chequer of coloured tiles."""
    for row in range(6):
        for column in range(4):
            left, top = (column - 2) * cell, -0.68 + row * cell
            tile = (238, 84, 190) if (row + column) % 2 else (84, 36, 112)
            canvas.rectangle(left, top, left + cell, top + cell, vary(rng, tile, 14))
