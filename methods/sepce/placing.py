"""Pictures sorted into folders without ever losing one: linked, copied or moved, whole or not at all."""

from __future__ import annotations

import filecmp
import os
import shutil
from pathlib import Path

from erasure.errors import UserError
from erasure.runs import atomic_path


def same(one: Path, other: Path) -> bool:
    return one.samefile(other) or filecmp.cmp(one, other, shallow=False)


def link(source: Path, target: Path, copy: bool = False, overwrite: bool = False) -> bool:
    """Let `target` be the picture `source` as well; False if it is already.

    A hard link (the picture is stored once, and stays as long as one name is left), or a copy where links cannot be or are
    not wanted. UserError if another picture has the name, unless `overwrite`.
    """
    if target.exists():
        if same(source, target):
            return False
        if not overwrite:
            raise UserError(
                f"{target} is another picture than {source}: remove it, or have it replaced (make_dataset.py --overwrite)"
            )
        with atomic_path(target) as temporary:
            shutil.copyfile(source, temporary)
        return True
    target.parent.mkdir(parents=True, exist_ok=True)
    if not copy:
        try:
            os.link(source, target)
            return True
        except OSError:
            pass  # another file system, or one without links
    with atomic_path(target) as temporary:
        shutil.copyfile(source, temporary)
    return True


def move(source: Path, target: Path) -> bool:
    """Give a picture another place, in one step; False if the picture was there already and the second name is gone.

    UserError if another picture has the name.
    """
    moved = not target.exists()
    if not moved and not same(source, target):
        raise UserError(f"{target} is another picture than {source}: neither was touched")
    target.parent.mkdir(parents=True, exist_ok=True)
    if moved:
        link(source, target)
    source.unlink()
    return moved
