"""Saved edits that are put into one model together, and the selections of them that are compared.

Which edits act together, and how, is a matter of their kind:

- maps of the conditioning (UCE, RECE) multiply, in the order given;
- separable parts (SepCE) and gates (CPE) unite into one edit: shifts add up, of several gates the largest counts;
- new values of weights (ESD) add up their changes where they overlap, which no paper vouches for.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from erasure import edits
from erasure.edits import GATES, SEPARABLE, Edit
from erasure.errors import UserError, about
from erasure.runs import find, read_json
from erasure.training.naming import name_part

UNITED = (SEPARABLE, GATES)
"""Kinds of which several edits become one, which knows its concepts apart."""


@dataclass(frozen=True)
class Member:
    """One edit of a group and what it cost."""

    edit: Edit
    seconds: float | None = None  # that making it took, where its run says so
    size: int = 0  # of its file, bytes

    @property
    def name(self) -> str:
        return ", ".join(self.edit.concepts)


@dataclass(frozen=True)
class Group:
    """Edits that are applied together. UserError without any, and for a concept that two of them erase."""

    name: str
    members: Sequence[Member]

    def __post_init__(self):
        if not self.members:
            raise UserError(f"{self.name}: no edits")
        if twice := sorted({c for c in self.concepts if self.concepts.count(c) > 1}):
            raise UserError(f"{self.name}: {', '.join(twice)} is erased by two of its edits")

    @property
    def concepts(self) -> list[str]:
        return [concept for member in self.members for concept in member.edit.concepts]

    def edits(self, selection: Selection) -> list[Edit]:
        return [self.members[i].edit for i in selection.chosen]


@dataclass(frozen=True)
class Selection:
    """Which members are in the model. kind: base, alone, all or all but."""

    kind: str
    chosen: tuple[int, ...]
    about: int | None = None  # the member that is alone, or left out

    def folder(self, group: Group) -> Path:
        """Of its pictures, below a report's; the base's are shared by all groups."""
        if self.kind == "base":
            return Path("base")
        which = [] if self.about is None else [name_part(group.members[self.about].name).replace(" ", "-")]
        return Path(name_part(group.name)) / "-".join([self.kind.replace(" ", "-"), *which])


BASE = Selection("base", ())


def selections(count: int) -> list[Selection]:
    """None, each alone, all, all but one; of two, either alone is the other left out, and one alone is all."""
    every = tuple(range(count))
    found = [BASE]
    if count > 1:
        found += [Selection("alone", (i,), i) for i in every]
    found.append(Selection("all", every))
    if count > 2:
        found += [Selection("all but", tuple(k for k in every if k != i), i) for i in every]
    return found


# ---- from files ----------------------------------------------------------------------------------------------------


def read_members(path: str | os.PathLike) -> list[Member]:
    """The edit at a path (a file, a run folder or name, gates or a folder of them), split where it knows its concepts apart.

    UserError for what is no edit, and for one that does not say which concepts it erases.
    """
    path = find(path)
    if edits.is_gate_file(path) or edits.has_gates(path):
        return [member for file in edits.gate_files(path) for member in _split(edits.read_gates(file), file)]
    file = edits.find_for(path)
    if file is None:
        raise UserError(f"{path}: no edit there")
    with about(file):
        if edits.is_gate_file(file):
            return _split(edits.read_gates(file), file)
        edit = edits.read(file)
        if not edit.concepts:
            raise UserError("does not say which concept it erases")
        return _split(edit, file)


def _split(edit: Edit, file: Path) -> list[Member]:
    """Members of an edit; those of one file share its size and seconds."""
    seconds, size, count = _seconds(file.parent), file.stat().st_size, len(edit.concepts)
    if edit.kind not in UNITED or count == 1:
        return [Member(edit, seconds, size)]
    share = None if seconds is None else seconds / count
    return [Member(edits.keep(edit, [concept]), share, size // count) for concept in edit.concepts]


def _seconds(folder: Path) -> float | None:
    """What a run folder says of how long making its edit took."""
    for name in ("cost.json", "settings.json"):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            return float(read_json(folder / name)["seconds"])
    return None


# ---- in a model ----------------------------------------------------------------------------------------------------


def together(chosen: Iterable[Edit]) -> list[Edit]:
    """What is applied, one after the other: kinds of `UNITED` composed at the place of the first of each."""
    found: dict[object, list[Edit]] = {}
    for edit in chosen:
        found.setdefault(edit.kind if edit.kind in UNITED else id(edit), []).append(edit)
    return [edits.compose(same) if len(same) > 1 else same[0] for same in found.values()]


@contextlib.contextmanager
def put_in(model, identity, applied: Sequence[Edit], force: bool = False) -> Iterator[None]:
    """The model with edits in it, one after the other; they leave at the end in reverse order."""
    with contextlib.ExitStack() as stack, _quiet():
        for edit in applied:
            stack.enter_context(edits.apply(model, edit, identity, force=force))
        yield


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The report says once what would be warned of with every selection."""
    logger = logging.getLogger(edits.apply.__module__)
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def how_together(group: Group) -> str:
    """In words, what putting the group's edits together means."""
    kinds = dict.fromkeys(member.edit.kind for member in group.members)
    if len(group.members) == 1:
        return "a single edit"
    return "; ".join(_HOW[kind](group) if kind in _HOW else f"{kind}: one after the other" for kind in kinds)


def _added(group: Group) -> str:
    seen: set[str] = set()
    shared: set[str] = set()
    for member in group.members:
        if member.edit.kind == "tensors":
            shared |= seen & member.edit.tensors.keys()
            seen |= member.edit.tensors.keys()
    return f"changes of weights added up, {len(shared)} tensors in several edits" if shared else "different weights"


_HOW = {
    "tensors": _added,
    "context_map": lambda _: "maps of the text multiplied",
    SEPARABLE: lambda _: "separable parts united",
    GATES: lambda _: "gates united, the largest counts",
}
