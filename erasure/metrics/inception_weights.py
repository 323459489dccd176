"""Where the Inception weights of FID and KID are looked for. Imports no torch."""

from __future__ import annotations

import os
from pathlib import Path

from erasure.metrics.user_weights import cache_folder, locate
from erasure.runs import ROOT

FOLDER = "models/inception"
FILES = ("pt_inception-2015-12-05-6726825d.pth", "weights-inception-2015-12-05-6726825d.pth")
"""One and the same file as pytorch-fid and torch-fidelity publish it; the names end in the start of its sha256."""
SOURCES = (
    "https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights",
    "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0",
)


def find_file(given: str | os.PathLike | None, flag: str = "--inception_weights") -> Path:
    """The weights given, else FOLDER's, else those in torch's own cache, where both packages put them.

    UserError, saying where to get the file and where to put it, if there are none.
    """
    cache = cache_folder("TORCH_HOME", "torch") / "hub" / "checkpoints"
    places = [folder / name for folder in (Path(FOLDER), cache) for name in FILES]
    missing = (
        f"no Inception weights: get {SOURCES[0]}/{FILES[0]} (or {SOURCES[1]}/{FILES[1]}; 91 MB, sha256 6726825d...) "
        f"and put it into {ROOT / FOLDER}"
    )
    return locate(given, flag, places, missing)
