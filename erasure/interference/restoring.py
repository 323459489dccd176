"""Whether the way back is exact: taking edits out, and leaving one of several out.

Bit for bit is what the mathematics allows: the base model after everything has left, and, after one edit is left out, the model
that has only the others. The latter is not the base: what the others change of the restored concept is measured instead.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import torch
from torch import Tensor
from tqdm import tqdm

from erasure import edits
from erasure.edits import Edit
from erasure.interference.members import UNITED, Group, Selection, put_in, selections, together
from erasure.runs import tensors_sha256

TIMESTEP = 500


@dataclass(frozen=True)
class Check:
    """One way back, compared in every weight and in what the UNet answers."""

    name: str
    weights: bool  # bit for bit
    outputs: bool
    remaining: float | None = (
        None  # of a restored concept: share of its erasure's change that the other edits still make
    )

    @property
    def exact(self) -> bool:
        return self.weights and self.outputs

    def as_dict(self) -> dict:
        return asdict(self) | {"exact": self.exact}


@dataclass(frozen=True)
class _State:
    sha256: str
    outputs: Tensor  # [P, C, H, W], of a prompt each

    def same(self, other: _State) -> tuple[bool, bool]:
        return self.sha256 == other.sha256, torch.equal(self.outputs, other.outputs)


class Probe:
    """What a model is, bit for bit: its weights, and its UNet's answers for some prompts and one noise."""

    def __init__(self, model, prompts: Sequence[str], seed: int = 0):
        self.model = model
        size = model.image_size
        noise = torch.randn(1, model.channels, size, size, generator=torch.Generator().manual_seed(seed))
        self.x = noise.to(model.device, model.model.diffusion_model.dtype)
        self.t = torch.full((1,), TIMESTEP, device=model.device)
        self.contexts = [model.get_learned_conditioning([prompt]) for prompt in prompts]

    @torch.no_grad()
    def __call__(self) -> _State:
        answers = [self.model.apply_model(self.x, self.t, context).float().cpu() for context in self.contexts]
        return _State(tensors_sha256(self.model.state_dict()), torch.cat(answers))


def checks(
    model, identity, group: Group, prompts: Sequence[str], force: bool = False, progress: bool = True
) -> list[Check]:
    """The checks of a group. prompts: one a member, of what it erases. The model comes bare and is left so."""
    probe = Probe(model, prompts)
    base, whole = probe(), together(m.edit for m in group.members)
    with put_in(model, identity, whole, force):
        erased = probe()
    found = [Check("all taken out", *base.same(probe()))]
    left_out = [s for s in selections(len(group.members)) if s.kind == "all but"]
    if len(group.members) == 2:
        left_out = [Selection("all but", (1 - i,), i) for i in range(2)]
    for selection in tqdm(left_out, desc=f"{group.name}: ways back", mininterval=2, disable=not progress):
        i = selection.about
        with put_in(model, identity, together(group.edits(selection)), force):
            others = probe()
        with put_in(model, identity, without(whole, group.members[i].edit), force):
            same = others.same(probe())
        found.append(Check(f"{group.members[i].name} left out", *same, _remaining(base, erased, others, i)))
    return found


def without(whole: Sequence[Edit], left_out: Edit) -> list[Edit]:
    """What is applied after an edit was left out of those of `together`: parts and gates are dropped from the united edit."""
    found = []
    for edit in whole:
        if edit is left_out:
            continue
        if edit.kind == left_out.kind and edit.kind in UNITED:
            edit = edits.drop(edit, left_out.concepts)
        found.append(edit)
    return found


def _remaining(base: _State, erased: _State, others: _State, i: int) -> float | None:
    """||others - base|| / ||erased - base|| of the answer for prompt i: 0 where it is restored entirely."""
    change = (erased.outputs[i] - base.outputs[i]).norm().item()
    return (others.outputs[i] - base.outputs[i]).norm().item() / change if change else None
