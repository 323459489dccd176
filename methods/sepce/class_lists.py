"""The classes that pictures are sorted into: a CSV (index, prompt, aliases), and which of them a prompt belongs to.

    classes = read("data/artist_classes.csv")
    classes.of("KeithHaring").index           # 5: upper and lower case, spaces and punctuation do not matter

`aliases` are other spellings, separated by semicolons. An empty prompt is a class as well: pictures of no prompt.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from erasure.errors import UserError
from erasure.prompts import read_table

DEFAULT = "data/artist_classes.csv"
OBJECTS = "data/object_classes.csv"
COLUMNS = ("index", "prompt", "aliases")


def squeezed(prompt: str) -> str:
    """What of a prompt counts: its letters and digits, in lower case."""
    return "".join(c for c in prompt.casefold() if c.isalnum())


@dataclass(frozen=True)
class PictureClass:
    index: int  # name of its folder, and the classifier's number
    prompt: str
    aliases: tuple[str, ...] = ()
    extra: dict[str, str] = field(default_factory=dict)  # other columns

    @property
    def name(self) -> str:
        return self.prompt or "(no prompt)"


@dataclass(frozen=True)
class ClassList:
    """Classes 0, 1, ... in order."""

    classes: tuple[PictureClass, ...]
    source: str = ""

    def __len__(self) -> int:
        return len(self.classes)

    def __iter__(self):
        return iter(self.classes)

    def of(self, prompt: str) -> PictureClass:
        """The class of a prompt. UserError for a prompt of none."""
        for one in self.classes:
            if squeezed(prompt) in {squeezed(name) for name in (one.prompt, *one.aliases)}:
                return one
        names = ", ".join(repr(one.prompt) for one in self.classes)
        raise UserError(f"prompt {prompt!r} is of no class in {self.source or 'the list'}: {names}")

    def to_list(self) -> list[dict]:
        return [{"index": c.index, "prompt": c.prompt, "aliases": list(c.aliases)} for c in self.classes]

    @classmethod
    def from_list(cls, values: list[dict], source: str = "") -> ClassList:
        """What `to_list` gave. KeyError, TypeError or ValueError for anything else."""
        return cls(tuple(PictureClass(int(v["index"]), v["prompt"], tuple(v["aliases"])) for v in values), source)


def read(path: str | os.PathLike) -> ClassList:
    """The list in a CSV. UserError, naming what is wrong: no such column, indices other than 0, 1, ..., one name twice."""
    header, rows = read_table(path)
    if missing := [name for name in COLUMNS[:2] if name not in header]:
        raise UserError(f"{path}: no column {missing[0]}; it has {', '.join(map(repr, header))}")
    found = []
    for row in rows:
        if not row["index"].strip().isdecimal():
            raise UserError(f"{path}: index {row['index']!r} is not a whole number")
        aliases = tuple(filter(None, (alias.strip() for alias in row.get("aliases", "").split(";"))))
        extra = {name: text for name, text in row.items() if name not in COLUMNS}
        found.append(PictureClass(int(row["index"]), row["prompt"].strip(), aliases, extra))
    found.sort(key=lambda one: one.index)
    if not found:
        raise UserError(f"{path}: no classes below the header")
    if [one.index for one in found] != list(range(len(found))):
        raise UserError(f"{path}: indices must be 0 to {len(found) - 1}, each once, not {[c.index for c in found]}")
    names: dict[str, int] = {}
    for one in found:
        for name in (one.prompt, *one.aliases):
            if names.setdefault(squeezed(name), one.index) != one.index:
                raise UserError(f"{path}: {name!r} is in class {names[squeezed(name)]} and in class {one.index}")
    return ClassList(tuple(found), str(Path(path)))
