"""Where golden data lives and how it is read (GOLDEN_DIR, else the copy in this repository)."""

import json
import os
from pathlib import Path

import pytest
from safetensors.torch import load_file

_REPOSITORY = Path(__file__).resolve().parents[2]
_DEFAULTS = (Path(__file__).parent / "data", _REPOSITORY.parent / "shared" / "golden")


def path(name: str, shared: bool = False) -> Path:
    """Absolute path of one golden file, e.g. ``ldm/units.json``.

    An explicitly given GOLDEN_DIR may hold only some of the files (the test is skipped); the default set must be complete.
    `shared` reads the default set whatever is given: for cases recorded on its weights.
    """
    explicit = None if shared else os.environ.get("GOLDEN_DIR")
    candidates = [Path(explicit)] if explicit else _DEFAULTS
    for directory in candidates:
        if (directory / name).exists():
            return directory / name
    if explicit:
        pytest.skip(f"{name} is not in GOLDEN_DIR")
    if name in _left_out():
        pytest.skip(f"{name} is not part of the repository (tests/golden/data/NOT_COPIED.txt)")
    pytest.fail(f"golden file {name} is missing")


def _left_out() -> set[str]:
    listing = Path(__file__).parent / "data" / "NOT_COPIED.txt"
    return set(listing.read_text(encoding="utf-8").splitlines())


def load_json(name: str, shared: bool = False) -> dict:
    """One json file, e.g. ``load_json("ldm/tokenizer")``."""
    return json.loads(path(f"{name}.json", shared).read_text(encoding="utf-8"))


def load_tensors(name: str, suffix: str = "", shared: bool = False) -> dict:
    """Tensors of one safetensors file as stored (weights may be float16: cast them to float32)."""
    return load_file(path(f"{name}{suffix}.safetensors", shared))


def load(name: str, shared: bool = False) -> tuple[dict, dict]:
    """(meta, tensors) of a golden case stored as ``<name>.json`` and ``<name>.safetensors``."""
    return load_json(name, shared), load_tensors(name, shared=shared)
