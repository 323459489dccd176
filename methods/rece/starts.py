"""What RECE begins with: its own UCE edit, an edit that is there, foreign weights, or nothing at all."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from erasure import edits
from erasure.edits import ContextMap, Edit, context_projections
from erasure.edits.applying import UNET
from erasure.errors import UserError
from methods.rece.rece import Rece

METHOD, KIND_OF_MAPS = "rece", "context_map"


@dataclass
class Start:
    """Where the epochs begin. `projections`: what `Rece` takes; `changed`: weights that a foreign start brings with it."""

    label: str
    projections: ContextMap | dict[str, Tensor] | None = None
    changed: dict[str, Tensor] = field(default_factory=dict)  # UNet names without prefix -> weights unlike the base's
    concepts: tuple[str, ...] = ()  # that it erases, as far as is known

    def edit(self, base: dict) -> Edit | None:
        """The start as an edit of the base; None for the base itself."""
        if isinstance(self.projections, ContextMap):
            tensors = self.projections.tensors()
            return Edit("uce", list(self.concepts), {"start": self.label}, base, tensors, KIND_OF_MAPS)
        return Edit("start", list(self.concepts), {"start": self.label}, base, self.changed) if self.changed else None


def read_start(model, identity, given: str) -> Start:
    """The start that --target_ckpt names; '' is the base itself.

    Takes what `edits.load_into` takes, and the name of a run or of a published file under models/. The model is left as it
    was. UserError if there is no such file, if it is of another base, or if it changes other things than the UNet.
    """
    if not given:
        return Start("the original weights")
    path = edits.find_for(given) or edits.find_for(Path("models") / given) or Path(given)
    if not path.exists():
        raise UserError(
            f"--target_ckpt {given!r}: no such file; leave the flag out to begin with a UCE edit made here, "
            "or give '' to begin with the original weights"
        )
    with edits.load_into(model, identity, path) as applied:
        edit = applied.edit
        if edit.kind == KIND_OF_MAPS:
            return Start(str(path), ContextMap.from_tensors(edit.tensors), concepts=tuple(edit.concepts))
        parameters = dict(model.named_parameters())
        changed = {name: parameters[name].detach().cpu().clone() for name in applied.attached.originals}
        if outside := [name for name in changed if not name.startswith(UNET)]:
            raise UserError(f"{path} changes more than the UNet: {edits.few(outside)}")
        weights = {name: w.detach().cpu().clone() for name, w in context_projections(model).items()}
    short = {name.removeprefix(UNET): tensor for name, tensor in changed.items()}
    return Start(str(path), weights, short, tuple(edit.concepts))


def edit_of(rece: Rece, start: Start, base: dict, concepts: list[str], settings: Mapping) -> Edit:
    """The whole edit of the base as it is now: a small map, or weights where there is none."""
    total = rece.context_map()
    if total is not None:
        return Edit(METHOD, concepts, dict(settings), base, total.tensors(), KIND_OF_MAPS)
    tensors = {name.removeprefix(UNET): weight.to(torch.float32) for name, weight in rece.weights().items()}
    return Edit(METHOD, concepts, dict(settings), base, start.changed | tensors)
