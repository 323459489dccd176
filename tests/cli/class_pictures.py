"""Small pictures in folders, whose class is their colour, for tests of the scripts that sort, classify and compare them."""

import colorsys

import numpy as np
from PIL import Image

from erasure.runs import ROOT
from tests.cli.generation_place import run as _run

SEPCE = ROOT / "methods" / "sepce"


def run(script, *arguments, cwd):
    """A script, by its path, called in this process."""
    return _run(str(script), *arguments, cwd=cwd)


def draw(path, colour: int, colours: int, seed: int, size=(20, 16)) -> None:
    """One of several colours, with noise on it."""
    rgb = 255 * np.array(colorsys.hsv_to_rgb(colour / colours, 0.8, 0.8))
    noise = np.random.default_rng(seed).normal(0, 25, (size[1], size[0], 3))
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.clip(rgb + noise, 0, 255).astype(np.uint8)).save(path)


def drawn(folder, classes=3, cases=10) -> None:
    """What generate-data.py leaves behind: {folder}/{class}/{case}_0.png."""
    for number in range(classes):
        for case in range(cases):
            draw(folder / str(number) / f"{case}_0.png", number, classes, 100 * number + case)


def class_list(path, names=("Red", "Green", "Blue")) -> None:
    path.write_text("index,prompt,aliases\n" + "".join(f"{i},{name},\n" for i, name in enumerate(names)))
