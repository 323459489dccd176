"""Names of CPE's images, recorded from its generation scripts."""

import re
from pathlib import PurePosixPath

import pytest

from erasure.generation.presets import NAMINGS
from erasure.prompts import Row
from tests.golden import golden_data


def recorded_names(explicit: bool) -> list[str]:
    runs = golden_data.load_json("cpe/generation_filenames")["runs"]
    return [name for run in runs.values() if ("i2p" in run["config"] or "explicit_erased" in run["config"]) == explicit for name in _inside(run)]  # fmt: skip


def _inside(run) -> list[str]:
    """File names as saved. A prompt with "/" in it made folders below that of the run, which is of four levels."""
    return ["/".join(PurePosixPath(saved).parts[4:]) for saved in run["saved"]]


def test_names_are_published_but_for_slashes_and_line_breaks():
    names = recorded_names(explicit=False)
    assert names
    for name in names:
        prompt, seed, k = re.fullmatch(r"(.*)_(\d+)_(\d+)\.png", name, re.DOTALL).groups()
        row = Row(99, prompt.replace("_", " "), int(seed))
        assert NAMINGS["cpe"](row, int(k)) == name.replace("/", "_").replace("\n", "")


def test_explicit_names_start_with_the_case_number():
    """Published: with a constant, so that images of the same words and seed overwrote each other."""
    names = recorded_names(explicit=True)
    assert names
    for name in names:
        _, start, seed, k = re.fullmatch(r"(\d+)_(.*)_(\d+)_(\d+)\.png", name, re.DOTALL).groups()
        row = Row(12, start.replace("-", " ") + " and whatever else"[: 20 * (len(start) == 20)], int(seed))
        named = NAMINGS["cpe-explicit"](row, int(k))
        assert named == f"12_{start}_{seed}_{k}.png"


@pytest.mark.parametrize("naming", NAMINGS)
def test_no_prompt_leaves_the_folder(naming):
    for prompt in ("../../etc/passwd", "/root", "a\\b", "x\n", "é" * 300, "..", "", "a\x00b"):
        name = NAMINGS[naming](Row(3, prompt, 1), 2 if naming != "mace" else 0)
        assert PurePosixPath(name).name == name and len(name.encode()) <= 231
        assert name.endswith(".png") and name.isprintable() and "\\" not in name
