"""The embedded judge and prompts for `erasure.interference`."""

from __future__ import annotations

from collections.abc import Sequence

from erasure import runs
from erasure.errors import UserError
from erasure.interference.command import Judging
from erasure.prompts import Row
from toyworld.attack_prompts import concept_of
from toyworld.prompts import interference_rows


def embedded_judge(of_each: int = 5, of_others: int = 1) -> Judging:
    """The judge of the toy world. of_each, of_others: prompts of a target, and of every other concept."""
    from toyworld.judge import JUDGE_PATH, load_judge

    identity = {"name": "toyworld judge", "sha256": runs.sha256_file(JUDGE_PATH)}

    def prompts(targets: Sequence[str]) -> list[Row]:
        return as_rows(targets, of_each, of_others)

    return Judging(load_judge().predict, identity, name_of, prompts)


def name_of(concept: str) -> str:
    """What the judge calls a concept; one that the toy world does not have keeps its name, and a user's CSV may have it."""
    try:
        return concept_of(concept)[1]
    except ValueError:
        return concept


def as_rows(targets: Sequence[str], of_each: int, of_others: int) -> list[Row]:
    try:
        found = interference_rows(list(targets), of_each, of_others)
    except ValueError as error:
        raise UserError(f"{error}; or give --prompts_path") from None
    return [
        Row(r["case_number"], r["prompt"], r["evaluation_seed"], extra={k: r[k] for k in ("concept_kind", "concept")})
        for r in found
    ]
