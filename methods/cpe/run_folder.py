"""The folder of one concept's training: the gates after the last and after every stage, in the published format."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from erasure import edits
from erasure.edits.residual_gates import ALPHA, KIND, UP, gate_rank, layers_of
from erasure.errors import UserError
from erasure.runs import save_safetensors, versions, write_csv
from erasure.training import run_folder

Tensors = dict[str, Tensor]
NEWEST, EARLIER = "prompts.weight", "prompts_prev.weight"  # in a file of adversarial offsets


@dataclass
class Progress:
    """A training between two iterations. Moments are Adam's in the phase that is running."""

    gates: Tensors  # as in a file of gates
    offsets: Tensors  # NEWEST [A, T, D] and EARLIER [k A, T, D], those there are
    exp_avg: Tensors = field(default_factory=dict)
    exp_avg_sq: Tensors = field(default_factory=dict)
    step: Tensors = field(default_factory=dict)
    phase: int = 0  # of `schedule.phases`
    iteration: int = 0  # that comes next in it
    rows: list[dict[str, Any]] = field(default_factory=list)  # of losses.csv


_IN_HEADER = ("phase", "iteration", "rows")


class RunFolder(run_folder.RunFolder):
    """Paths and files of one training."""

    method, elsewhere = "cpe", "--output_root"

    def __init__(self, path: Path, settings, identity):
        super().__init__(path, settings, identity)
        self.edit_file = self.stage_file()

    def stage_file(self, stage: int | None = None) -> Path:
        """Gates after so many stages; None: at the end."""
        return self.path / f"{self.settings.name}_{'last' if stage is None else f'stage{stage}'}.safetensors"

    def offsets_file(self, stage: int | None = None) -> Path:
        part = "last" if stage is None else f"stage{stage}"
        return self.path / f"{self.settings.name}_adv_prompts_{part}.safetensors"

    def progress_of(self, checkpoint: run_folder.Checkpoint) -> Progress:
        groups = {"offsets": {}} | checkpoint.groups
        return Progress(**groups, **{name: checkpoint.header[name] for name in _IN_HEADER})

    def iterations(self, progress: Progress, settings: Mapping[str, Any]) -> str:
        return f"iteration {progress.iteration} of stage {progress.rows[-1]['stage'] if progress.rows else 0}"

    def own_files(self) -> list[Path]:
        """All but the stages up to the one that this run goes on from."""
        pattern = re.compile(re.escape(self.settings.name) + r"(?:_adv_prompts)?_(?:last|stage(\d+))\.safetensors")
        found = [(file, pattern.fullmatch(file.name)) for file in self.path.glob("*.safetensors")]
        kept = self.settings.resume_stage
        return [self.path / "losses.csv", *(file for file, m in found if m and not (m[1] and int(m[1]) <= kept))]

    def save_checkpoint(self, progress: Progress) -> None:
        groups = {name: value for name, value in vars(progress).items() if name not in _IN_HEADER}
        self.write_checkpoint(groups, **{name: getattr(progress, name) for name in _IN_HEADER})
        self.write_losses(progress.rows)

    # ---- results ---------------------------------------------------------------------------------------------------

    def edit_of(self, gates: Tensors) -> edits.Edit:
        s = self.settings
        return edits.Edit("cpe", [s.target], s.to_dict(), self.base, gates, KIND, versions=versions())

    def write_stage(self, gates: Tensors, offsets: Tensors, stage: int) -> None:
        """What a later run goes on from with --resume_stage (published: never the offsets that it looked for)."""
        self.write_offsets(offsets if EARLIER not in offsets else {NEWEST: offsets[NEWEST]}, stage)
        edits.save_gates(self.edit_of(gates), self.stage_file(stage))

    def write_offsets(self, offsets: Tensors, stage: int | None = None) -> None:
        """UserError if they hold NaN: the attack diverged."""
        if offsets:
            s = self.settings
            if not torch.isfinite(offsets[NEWEST]).all():
                raise UserError(f"the offsets of {s.target} hold values that are NaN or infinite: lower lr_adv")
            header = {"prompts": s.target, "rank": str(s.rank), "alpha": str(s.alpha), "format": "pt"}
            save_safetensors(self.offsets_file(stage), offsets, header)

    def read_stage(self, stage: int) -> Progress:
        """Gates and offsets after so many stages. UserError if a file is missing, or of a run of another kind."""
        from erasure.checkpoint_files import read_tensors

        gates = edits.read_gates(self.stage_file(stage))
        layer = layers_of(gates.tensors)[0]
        there = {
            "target": gates.concepts[0],
            "gate_rank": gate_rank(gates),
            "rank": gates.tensors[layer + UP].shape[1],
            "alpha": float(gates.tensors[layer + ALPHA]),
            "separate_key": bool(gates.settings.get("separate_key")),
        }
        found = run_folder.settings_differences({name: getattr(self.settings, name) for name in there}, there, ())
        found += run_folder.base_difference(self.base, gates.base) if gates.base else []
        if found:
            raise UserError(f"{self.stage_file(stage)} is not of this run: {'; '.join(found)}")
        if self.settings.do_adv_learn and not self.offsets_file(stage).is_file():
            raise UserError(f"{self.offsets_file(stage)}: no such file, and stage {stage + 1} starts from it")
        offsets = read_tensors(self.offsets_file(stage)) if self.settings.do_adv_learn else {}
        return Progress(gates.tensors, offsets)

    def write_losses(self, rows: list[dict[str, Any]]) -> None:
        """losses.csv: a line for every so many iterations, a column for each number that any of them had."""
        first = ["stage", "phase", "iteration", "lr", "loss"]
        names = first + sorted({name for row in rows for name in row} - set(first))
        write_csv(self.path / "losses.csv", [names, *([row.get(name, "") for name in names] for row in rows)])


def stacked(earlier: Tensors, newest: Tensor) -> Tensors:
    """Offsets with one more set: the one before it joins those of earlier stages, which are kept and not used."""
    if NEWEST not in earlier:
        return {NEWEST: newest}
    before = [earlier[EARLIER]] if EARLIER in earlier else []
    return {NEWEST: newest, EARLIER: torch.cat([*before, earlier[NEWEST]])}
