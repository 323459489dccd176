"""Draw and judge what every selection of a group's edits makes of the same prompts and seeds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from erasure.errors import UserError
from erasure.interference.members import Group, Selection, put_in, selections, together
from erasure.interference.restoring import Check, checks
from erasure.metrics.intervals import Interval, wilson
from erasure.metrics.judging import Judge, Judgement, judge_folder, share_shown
from erasure.prompts import Row
from erasure.runs import tensors_sha256
from erasure.training.naming import plain


@dataclass(frozen=True)
class Bench:
    """What all groups share. name_of: an edit's concept -> how the prompts' column `concept` calls it."""

    model: Any  # LatentDiffusion, bare
    identity: Any  # its BaseIdentity
    rows: Sequence[Row]
    judge: Judge
    settings: Any  # GenerationSettings
    folder: Path
    name_of: Callable[[str], str] = str
    force: bool = False
    progress: bool = True

    def targets(self, group: Group) -> dict[str, int]:
        """Concept, as the prompts call it -> the member that erases it. UserError for one that no prompt is of."""
        by_name = {plain(row.extra.get("concept") or ""): row.extra.get("concept") for row in self.rows}
        found = {}
        for i, member in enumerate(group.members):
            for concept in member.edit.concepts:
                name = by_name.get(plain(self.name_of(concept)))
                if not name:
                    raise UserError(f"no prompt is of {concept!r}, which {member.edit.label()} erases")
                found[name] = i
        return found


@dataclass
class Measured:
    """A group's judgements by selection, and its checks."""

    group: Group
    folder: Path  # that the selections' folders are in
    targets: Mapping[str, int]  # concept -> member
    judged: dict[Selection, list[Judgement]] = field(default_factory=dict)
    checks: list[Check] = field(default_factory=list)

    @property
    def everything(self) -> Selection:
        return next(s for s in self.judged if s.kind == "all")

    def of(self, selection: Selection, target: str | None) -> list[Judgement]:
        """The judgements of a target's pictures, or (None) of everything else's; empty where none were drawn."""
        return [
            j for j in self.judged[selection] if j.concept == target or (not target and j.concept not in self.targets)
        ]

    def shown(self, selection: Selection, target: str | None) -> Interval | None:
        """How often the judge recognises what the prompts of `of` name; None where nothing was drawn."""
        judged = self.of(selection, target)
        return share_shown(judged) if judged else None

    def erases(self, selection: Selection, target: str) -> bool:
        return self.targets[target] in selection.chosen

    def pooled(self, cells: Sequence[tuple[Selection, str | None]]) -> Interval | None:
        """The share over the pictures of several cells."""
        found = [interval for cell in cells if (interval := self.shown(*cell))]
        shown = sum(round(i.value * i.n) for i in found)
        return wilson(shown, sum(i.n for i in found)) if found else None

    # ---- cells: (selection, target) ------------------------------------------------------------------------------

    def alone(self) -> list[tuple[Selection, str]]:
        """Every target under the one edit that erases it."""
        kind = "alone" if len(self.group.members) > 1 else "all"
        return [(s, t) for s in self.judged if s.kind == kind for t in self.targets if self.erases(s, t)]

    def all_together(self) -> list[tuple[Selection, str]]:
        return [(self.everything, t) for t in self.targets]

    def left_out(self) -> list[tuple[Selection, str]]:
        """Every target while all the others are erased."""
        count = len(self.group.members)
        rest = [s for s in self.judged if s.kind != "base" and len(s.chosen) == count - 1]
        return [(s, t) for s in rest for t in self.targets if not self.erases(s, t)]


def measure(bench: Bench, group: Group) -> Measured:
    """Draw (what is there is kept), judge and check a group. UserError for edits that the model cannot take together.

    Everything else, those prompts that are of no target, is drawn with the base, each edit alone and all of them; where one is
    left out, the targets only.
    """
    from erasure.generation import generate

    targets = bench.targets(group)
    measured = Measured(group, bench.folder, targets)
    prompts = [
        next(row.prompt for row in bench.rows if targets.get(row.extra.get("concept")) == i)
        for i in range(len(group.members))
    ]
    for selection in selections(len(group.members)):
        own = [row for row in bench.rows if selection.kind != "all but" or row.extra.get("concept") in targets]
        folder, applied = bench.folder / selection.folder(group), together(group.edits(selection))
        said = [{"method": e.method, "concepts": e.concepts, "sha256": tensors_sha256(e.tensors)} for e in applied]
        identity = {"base": bench.identity.to_dict(), "edits": said}
        with put_in(bench.model, bench.identity, applied, bench.force):
            print(generate(bench.model, own, folder, bench.settings, identity, bench.progress), flush=True)
        measured.judged[selection] = judge_folder(folder, own, bench.judge)
    measured.checks = checks(bench.model, bench.identity, group, prompts, bench.force, bench.progress)
    return measured
