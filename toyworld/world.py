"""Pictures of the toy world; run as a program it draws a contact sheet of everything in it."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from PIL import Image

from toyworld.concepts import FIGURES, IMAGE_SIZE, OBJECTS, PEOPLE, STRANGER, STYLES, SUBJECTS, Label
from toyworld.drawing import pick
from toyworld.objects import draw_object
from toyworld.people import draw_figure, draw_person
from toyworld.styles import paint

__all__ = [
    "FIGURES",
    "IMAGE_SIZE",
    "OBJECTS",
    "PEOPLE",
    "STRANGER",
    "STYLES",
    "SUBJECTS",
    "Label",
    "contact_sheet",
    "render",
]

PHOTO_GRAIN = 1.0  # standard deviation; enough that flat areas are not exactly flat, too little to be worth learning


def render(subject: str | None, style: str | None, rng: np.random.Generator) -> np.ndarray:
    """Draws one picture, uint8 [IMAGE_SIZE, IMAGE_SIZE, 3].

    `subject` is one of SUBJECTS, or None for a random object; `style` one of STYLES, or None for a plain "photo".
    The picture depends on the arguments and on `rng`'s state alone. Raises KeyError for an unknown name.
    """
    label = Label.of(subject if subject is not None else pick(rng, OBJECTS), style)
    if label.object:
        canvas = draw_object(label.object, rng)
    elif label.person:
        canvas = draw_person(label.person, rng)
    else:
        canvas = draw_figure(label.figure, rng)
    picture = canvas.finish()
    if style is None:
        picture = picture + rng.normal(0, PHOTO_GRAIN, picture.shape[:2])[..., None]
    else:
        picture = paint(picture, style, rng)
    return np.clip(picture, 0, 255).astype(np.uint8)


def contact_sheet(seed: int = 0) -> np.ndarray:
    """Every concept once, uint8 [rows * IMAGE_SIZE, 10 * IMAGE_SIZE, 3].

    Rows: the objects as photos, then by each painter; the people, strangers and figures; a portrait by each painter.
    """
    rng = np.random.default_rng(seed)
    rows = [[render(subject, style, rng) for subject in OBJECTS] for style in (None, *STYLES)]
    people = [*PEOPLE, STRANGER, STRANGER, *FIGURES]
    rows += [[render(subject, None, rng) for subject in people[i : i + 10]] for i in (0, 10)]
    rows.append([render(STRANGER, style, rng) for style in STYLES])
    return np.concatenate([np.concatenate(row, 1) for row in rows], 0)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m toyworld.world",
        description="Draw a contact sheet of the toy world.",
        epilog="example: python -m toyworld.world --out world.png",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--out", default="world.png", help="PNG file to write")
    parser.add_argument("--seed", type=int, default=0, help="seed of everything that varies")
    arguments = parser.parse_args()
    from erasure.runs import atomic_path

    if arguments.seed < 0 or Path(arguments.out).suffix.lower() != ".png":
        parser.error("--seed must not be negative, and --out must end in .png")
    with atomic_path(arguments.out) as temporary:
        Image.fromarray(contact_sheet(arguments.seed)).save(temporary)
    print(f"wrote {arguments.out}")


if __name__ == "__main__":
    from erasure import errors

    errors.run(main)
