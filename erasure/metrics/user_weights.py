"""Weights that cannot be bundled: where they are looked for, and the one line that says which file goes where.

Imports no torch, so that a script can say what is missing before anything heavy loads.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable
from pathlib import Path

from erasure.errors import UserError
from erasure.runs import find, sha256_file


def locate(
    given: str | os.PathLike | None,
    flag: str,
    places: Iterable[Path],
    missing: str,
    usable: Callable[[Path], bool] = Path.is_file,
) -> Path:
    """The weights given by `flag`, else the first of `places` that is `usable`.

    UserError if the given ones are not usable; if none of the places is, one that reads `missing` and names the flag.
    """
    if given:
        path = find(given)
        if not usable(path):
            raise UserError(f"{flag} {given}: " + (f"not usable: {missing}" if path.exists() else "no such file"))
        return path
    for path in places:
        if usable(path := find(path)):
            return path
    raise UserError(f"{missing}, or name it with {flag}")


def cache_folder(variable: str, name: str) -> Path:
    """A library's own folder of downloads: of the environment's variable, else `name` in the user's cache."""
    given = os.environ.get(variable)
    return Path(given or Path(os.environ.get("XDG_CACHE_HOME", "~/.cache"), name)).expanduser()


def checked_sha256(path: Path, published: Iterable[str]) -> str:
    """A file's sha256. UserError if its name is a published one that ends in the hash's start, and that differs."""
    sha256 = sha256_file(path)
    promised = re.search(r"-([0-9a-f]{8})$", path.stem)
    if path.name in published and promised and not sha256.startswith(promised[1]):
        raise UserError(f"{path} is damaged: its sha256 starts with {sha256[:8]}, not {promised[1]}")
    return sha256
