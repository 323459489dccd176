"""Judged folders of the same prompts and seeds, one a version of the model, as scores and pictures of a report."""

from __future__ import annotations

import os
from collections.abc import Sequence

from erasure.metrics.judging import Judgement, share_shown
from erasure.report import Score, Strip
from erasure.report.judged import picture, spread

GROUP_NAMES = {
    "style": ("other styles", "styles"),
    "object": ("other objects", "objects"),
    "person": ("other people", "people"),
    "figure": ("other figures", "figures"),
}  # kind -> its name when the target is one of them, and when it is not
IN_HTML = 10  # pictures of each group
IN_PNG = {"target": 4, "its kind": 3, "another kind": 2}


def in_title_case(concept: str) -> str:
    return " ".join(word.capitalize() for word in concept.split())


def groups(judgements: Sequence[Judgement], target: str) -> dict[str, list[Judgement]]:
    """Judgements by the columns of the table: the target concept, then the rest by kind."""
    target_kind = next((j.concept_kind for j in judgements if j.concept == target), None)
    found = {in_title_case(target): [j for j in judgements if j.concept == target]}
    for kind, names in GROUP_NAMES.items():
        found[names[0 if kind == target_kind else 1]] = [
            j for j in judgements if j.concept_kind == kind and j.concept != target
        ]
    return {name: items for name, items in found.items() if items}


def compare(versions: Sequence[Sequence[Judgement]], target: str) -> list[Score]:
    """How often each group is recognised in each version; the target's comes first."""
    grouped = [groups(judgements, target) for judgements in versions]
    return [
        Score(_title(name), "erase" if items[0].concept == target else "keep", [share_shown(g[name]) for g in grouped])
        for name, items in grouped[0].items()
    ]


def strips(
    versions: Sequence[Sequence[Judgement]], folders: Sequence[str | os.PathLike], target: str, most: int = IN_HTML
) -> list[Strip]:
    """One strip a group, at most `most` pictures each: every concept's first picture, then the second ones."""
    found = [{(j.case_number, j.k): j for j in judgements} for judgements in versions]
    shown = []
    for name, items in groups(versions[0], target).items():
        erased = items[0].concept == target
        same = [[by_case[j.case_number, j.k] for by_case in found] for j in list(spread(items))[:most]]
        pictures = [picture(judgements, folders, erased) for judgements in same]
        part = "target" if erased else "its kind" if name.startswith("other") else "another kind"
        shown.append(Strip(_title(name), pictures, "erase" if erased else "keep", IN_PNG[part]))
    return shown


def _title(name: str) -> str:
    return name[:1].upper() + name[1:]
