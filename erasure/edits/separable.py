"""Edits with one separable part per concept: every key and value projection W becomes W + sum_j w_j (scale_j S_j).

Rows of the basis S_j are directions that the prompts protected from part j do not have (SepCE, arXiv 2402.05947): they see
nothing of it. So parts can be trained alone, put together in any selection, and left out again, which restores a concept.
A model of some parts is made from the base and these parts; nothing is ever subtracted, so it does not depend on what was
erased before.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from erasure.edits.applying import UNET, Attached, register_kind, replace_weights
from erasure.edits.context_maps import PROJECTIONS, context_projections
from erasure.edits.files import Edit
from erasure.errors import UserError

KIND = "separable"
_OWN = ("concept", "scale", "protected")  # of a part's entry in the settings; the others are its facts


@dataclass(frozen=True)
class Part:
    """What erases one concept."""

    concept: str
    basis: Tensor  # S [n_b, D] float64, unit rows
    coefficients: Mapping[str, Tensor]  # projection, without model.diffusion_model. -> w [C, n_b] float32
    scale: float  # beta
    protected: Sequence[str]  # prompts whose text states the basis was solved for, the empty one included
    facts: Mapping[str, Any] = field(default_factory=dict)  # for the header: "stopped", "steps", "momentum", ...

    def shift(self, name: str) -> Tensor:
        """w (scale S) [C, D] float64 of one projection."""
        return self.coefficients[name].double() @ (self.scale * self.basis.double())

    def moved_to(self, device) -> "Part":
        coefficients = {name: w.to(device) for name, w in self.coefficients.items()}
        return replace(self, basis=self.basis.to(device), coefficients=coefficients)


def separable(
    parts: Sequence[Part], base: Mapping[str, Any], method: str = "sepce", settings: Mapping[str, Any] | None = None
) -> Edit:
    """The edit of `parts`, in their order. `settings` of the run that made them precede those of the parts.

    UserError without parts, for a concept that two of them erase, and for tensors that do not fit together.
    """
    parts = list(parts)
    if not parts:
        raise UserError("no part is left: that is the base model itself")
    concepts = [part.concept for part in parts]
    if twice := sorted({concept for concept in concepts if concepts.count(concept) > 1}):
        raise UserError(f"two parts erase the same concept: {', '.join(twice)}")
    tensors = {}
    for j, part in enumerate(parts):
        _check(part, parts[0])
        tensors |= {f"{j}.basis": part.basis.double()}
        tensors |= {f"{j}.{name}": w.float() for name, w in part.coefficients.items()}
    entries = [{"concept": p.concept, "scale": p.scale, "protected": list(p.protected)} | dict(p.facts) for p in parts]
    return Edit(method, concepts, dict(settings or {}) | {"parts": entries}, dict(base), tensors, KIND)


def _check(part: Part, first: Part) -> None:
    rows, dim = part.basis.shape if part.basis.ndim == 2 else (0, 0)
    if not rows or not part.coefficients or dim != first.basis.shape[1]:
        raise UserError(f"the part of {part.concept!r} is none: basis {list(part.basis.shape)}, coefficients of "
                        f"{len(part.coefficients)} projections")  # fmt: skip
    for name, w in part.coefficients.items():
        if not name.endswith(PROJECTIONS):
            raise UserError(f"the part of {part.concept!r} shifts {name}, which does not see the prompt only")
        if w.ndim != 2 or w.shape[1] != rows:
            raise UserError(f"the part of {part.concept!r} has {rows} directions, and {list(w.shape)} for {name}")


def parts_of(edit: Edit) -> list[Part]:
    """The parts of a separable edit, in its order, each with the method and the settings of the run that made it.

    UserError for an edit of another kind, or with tensors or settings missing.
    """
    if edit.kind != KIND:
        raise UserError(f"{edit.label()} has no parts that could be told apart")
    run = {name: value for name, value in edit.settings.items() if name != "parts"}
    made_by = {"method": edit.method} | ({"run": run} if run else {})
    try:
        entries = edit.settings["parts"]
        parts = [_part(edit, j, made_by | entry) for j, entry in enumerate(entries)]
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{edit.label()} is incomplete: its parts lack {error}") from None
    if [part.concept for part in parts] != edit.concepts or sum(map(_size, parts)) != len(edit.tensors):
        raise UserError(f"{edit.label()} is incomplete: its {len(entries)} parts are not those of its tensors")
    return parts


def _part(edit: Edit, j: int, entry: dict[str, Any]) -> Part:
    own = {key.removeprefix(f"{j}."): t for key, t in edit.tensors.items() if key.startswith(f"{j}.")}
    basis, facts = own.pop("basis"), {name: value for name, value in entry.items() if name not in _OWN}
    return Part(entry["concept"], basis, own, float(entry["scale"]), tuple(entry["protected"]), facts)


def _size(part: Part) -> int:
    return 1 + len(part.coefficients)


# ---- selections ----------------------------------------------------------------------------------------------------


def only(edit: Edit, concepts: Collection[str]) -> Edit:
    """The edit of some parts: exactly what composing those gives. UserError without any."""
    return _of(edit.base, [part for part in parts_of(edit) if part.concept in concepts])


def united(edits: Sequence[Edit]) -> Edit:
    """The parts of several edits of the same base in one, in their order: `erasure.edits.compose`."""
    return _of(edits[0].base, [part for edit in edits for part in parts_of(edit)])


def _of(base: Mapping[str, Any], parts: Sequence[Part]) -> Edit:
    return separable(parts, base, "+".join(dict.fromkeys(part.facts["method"] for part in parts)))


# ---- in a model ----------------------------------------------------------------------------------------------------


@register_kind(KIND)
def _attach_separable(model: nn.Module, edit: Edit, stack) -> Attached:
    """Add the parts' shifts to the projections as they are now. The sum's order is that of the names, not of the file."""
    for earlier in stack:
        if earlier.edit.kind == KIND and (twice := sorted(set(edit.concepts) & set(earlier.edit.concepts))):
            raise UserError(f"{', '.join(twice)}: erased by {earlier.edit.label()} already, which is in the model")
    parts, weights = sorted(parts_of(edit), key=lambda part: part.concept), context_projections(model)
    names = dict.fromkeys(name for part in parts for name in part.coefficients)
    device = next((weight.device for weight in weights.values()), "cpu")
    parts = [part.moved_to(device) for part in parts]
    values = {UNET + n: _shifted(weights[UNET + n].data, parts, n, edit) for n in names if UNET + n in weights}
    attached = replace_weights(weights, values, edit.label())
    attached.matched = [name.removeprefix(UNET) for name in attached.matched]
    attached.missing = sorted(names.keys() - set(attached.matched))
    return attached


def _shifted(weight: Tensor, parts: Sequence[Part], name: str, edit: Edit) -> Tensor:
    """weight [C, D] with the shifts of all parts, in its dtype; summed in float64."""
    total = torch.zeros(weight.shape, dtype=torch.float64, device=weight.device)
    for part in parts:
        if name not in part.coefficients:
            continue
        shift = part.shift(name)
        if shift.shape != weight.shape:
            there, here = list(shift.shape), list(weight.shape)
            raise UserError(f"{edit.label()} is for another model: {name} is {there} in it, {here} in the model")
        total += shift
    return (weight.double() + total).to(weight.dtype)
