"""Leaving concepts out of an edit that knows its concepts apart, which restores them."""

from collections.abc import Iterable

from erasure.edits import residual_gates, separable
from erasure.edits.files import Edit
from erasure.errors import UserError
from erasure.training.naming import plain

_ONLY = {separable.KIND: separable.only, residual_gates.KIND: residual_gates.only}


def keep(edit: Edit, concepts: Iterable[str]) -> Edit:
    """The edit of some concepts only: all others are restored. Exactly what composing edits of those gives.

    Names may differ in case and spaces where that leaves one. UserError for a concept that the edit does not erase, and for a
    kind of edit that cannot tell its concepts apart.
    """
    return _only(edit, set(chosen(edit, concepts)))


def drop(edit: Edit, concepts: Iterable[str]) -> Edit:
    """The edit without some concepts: these are restored. UserError as `keep`, and if none would be left."""
    return _only(edit, set(edit.concepts) - set(chosen(edit, concepts)))


def chosen(edit: Edit, concepts: Iterable[str]) -> list[str]:
    """The edit's own names of concepts that a user names."""
    if edit.kind not in _ONLY:
        raise UserError(f"{edit.label()} has no parts that could be told apart")
    found = []
    for name in concepts:
        like = [own for own in edit.concepts if plain(own) == plain(name)]
        if name not in edit.concepts and len(like) != 1:
            raise UserError(f"{edit.label()} has no part of {name!r}")
        found.append(name if name in edit.concepts else like[0])
    return found


def _only(edit: Edit, concepts: set[str]) -> Edit:
    return _ONLY[edit.kind](edit, concepts)
