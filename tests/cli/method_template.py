"""docs/method-template copied to methods/mymethod/ of a folder that is not the repository, and importable from there."""

import contextlib
import re
import shutil
import sys
from pathlib import Path

import methods
from erasure.runs import ROOT

TEMPLATE, PAGE = ROOT / "docs" / "method-template", ROOT / "docs" / "add-a-method.md"
NAME = "mymethod"  # as the template and the page call it
_PACKAGE = f"methods.{NAME}"


def copy(root: Path) -> Path:
    """What the page's `cp` does, under another root; returns the folder."""
    folder = root / "methods" / NAME
    shutil.copytree(TEMPLATE, folder, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(methods.__file__, folder.parent)
    return folder


@contextlib.contextmanager
def importable(folder: Path):
    """Within this context ``methods.mymethod`` is the package in `folder`."""
    path = list(methods.__path__)
    methods.__path__ = [*path, str(folder.parent)]
    try:
        yield
    finally:
        methods.__path__ = path
        for name in [name for name in sys.modules if name == _PACKAGE or name.startswith(f"{_PACKAGE}.")]:
            del sys.modules[name]
        if hasattr(methods, NAME):
            delattr(methods, NAME)


def snippets() -> dict[str, str]:
    """{file that a block of the page goes to, by its first line: the block}."""
    blocks = re.findall(r"^```(?:python|yaml)\n# (\S+)\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.M)
    return dict(blocks)
