"""Edits inside a model: put in, stacked, and taken out again bit for bit.

How an edit enters a model depends on its kind. A kind is one function ``attach(model, edit, stack) -> Attached``,
registered under its name, so that a method which needs more than new tensors adds its own beside the ones below.
"""

import logging
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from erasure.errors import UserError
from erasure.runs import tensors_sha256

if TYPE_CHECKING:
    from erasure.edits.files import Edit

logger = logging.getLogger(__name__)

UNET = "model.diffusion_model."
_stacks: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()


@dataclass
class Attached:
    """What a kind did to a model. `undo` must not hold the model itself, only its tensors or submodules."""

    matched: list[str]
    undo: Callable[[], None]
    missing: list[str] = field(default_factory=list)  # what the edit names and the model does not have
    originals: dict[str, Tensor] = field(default_factory=dict)  # full name -> weights that were replaced


KINDS: dict[str, Callable[[nn.Module, "Edit", list["Applied"]], Attached]] = {}
_BASE_UNSAID: set[str] = set()


def register_kind(name: str, base_unsaid: bool = False):
    """Decorator: `name` is what ``Edit.kind`` says. base_unsaid: of published files, which do not name their base."""

    def add(attach):
        KINDS[name] = attach
        if base_unsaid:
            _BASE_UNSAID.add(name)
        return attach

    return add


@dataclass(eq=False)
class Applied:
    """An edit that is in a model. As a context manager it is removed at the end of the block."""

    edit: "Edit"
    matched: list[str]
    missing: list[str]  # what the edit names and the model does not have (only with force)
    attached: Attached
    stack: list["Applied"] = field(repr=False)

    def remove(self) -> None:
        """Restore the weights as they were before, bit for bit; a second call does nothing.

        UserError if another edit was applied later and is still there: edits leave in reverse order.
        """
        if self not in self.stack:
            return
        if self.stack[-1] is not self:
            later = self.stack[-1].edit.label()
            raise UserError(f"{self.edit.label()} cannot be removed before {later}, which was applied after it")
        self.attached.undo()
        self.stack.pop()

    def __enter__(self) -> "Applied":
        return self

    def __exit__(self, *_) -> None:
        self.remove()


def apply(model: nn.Module, edit: "Edit", identity=None, force: bool = False) -> Applied:
    """Put an edit into a model (LatentDiffusion); see `Applied` for the way back.

    identity: the model's `BaseIdentity`; without it nothing can be said about the base and only names and shapes are
    checked. `force` lets an edit of another base, or with tensors that the model does not have, through. Edits that
    change the same tensors add up (with a warning), since the later one would otherwise undo the earlier.
    UserError for another base, unknown tensors, other shapes, NaN, an edit that changes nothing or is there already.
    """
    if edit.kind not in KINDS:
        raise UserError(f"{edit.label()} is of kind {edit.kind!r}, which this version does not know")
    stack = _stacks.setdefault(model, [])
    if any(_same(edit, other.edit) for other in stack):
        raise UserError(f"{edit.label()} is in the model already")
    if identity is not None and not force:
        _check_base(model, edit, identity, stack)
    attached = KINDS[edit.kind](model, edit, stack)
    if attached.missing and not force:
        attached.undo()
        raise UserError(f"{edit.label()} has tensors that the model does not: {few(attached.missing)}")
    stack.append(Applied(edit, attached.matched, attached.missing, attached, stack))
    return stack[-1]


def _same(edit: "Edit", other: "Edit") -> bool:
    if edit is other:
        return True
    same_names = edit.kind == other.kind and edit.tensors.keys() == other.tensors.keys()
    return same_names and all(torch.equal(t.cpu(), other.tensors[key].cpu()) for key, t in edit.tensors.items())


def _check_base(model, edit: "Edit", identity, stack: list[Applied]) -> None:
    if not edit.base and edit.kind in _BASE_UNSAID:  # only names and shapes can tell
        return
    made_for = edit.base.get("sha256")
    if made_for == identity.sha256 or (stack and made_for == _unet_sha256(model)):
        return
    name, hashed = edit.base.get("name", "an unknown base"), (made_for or "no hash")[:12]
    raise UserError(
        f"{edit.label()} was made for {name} ({hashed}), not for {identity.name} ({identity.sha256[:12]}): "
        "load that base, or force the edit"
    )


def _unet_sha256(model) -> str:
    return tensors_sha256(
        {key.removeprefix(UNET): tensor for key, tensor in model.state_dict().items() if key.startswith(UNET)}
    )


# ---- kinds ---------------------------------------------------------------------------------------------------------


@register_kind("tensors")
def _attach_tensors(model: nn.Module, edit: "Edit", stack: list[Applied]) -> Attached:
    """New values of UNet weights, under their names without ``model.diffusion_model.``."""
    targets = _targets(model)
    values = {UNET + key: value for key, value in edit.tensors.items() if UNET + key in targets}
    attached = replace_weights(targets, _added_up(targets, values, edit, stack), edit.label())
    attached.matched = [key.removeprefix(UNET) for key in attached.matched]
    attached.missing = sorted(edit.tensors.keys() - set(attached.matched))
    return attached


@register_kind("checkpoint")
def _attach_checkpoint(model: nn.Module, edit: "Edit", stack: list[Applied]) -> Attached:
    """New values of any weights of the model, under their full names: what a checkpoint holds."""
    targets = _targets(model)
    attached = replace_weights(targets, {k: v for k, v in edit.tensors.items() if k in targets}, edit.label())
    attached.missing = sorted(edit.tensors.keys() - set(attached.matched))
    return attached


def _targets(model: nn.Module) -> dict[str, Tensor]:
    return dict(model.named_parameters()) | dict(model.named_buffers())


def replace_weights(targets: Mapping[str, Tensor], values: Mapping[str, Tensor], label: str) -> Attached:
    """Give `targets` (name -> parameter or buffer) new values; all of them or, after a UserError, none.

    Weights that already are what they become stay shared. Device, dtype and memory layout are the model's.
    """
    fresh = {}
    for name, value in values.items():
        data = targets[name].data
        new = torch.empty_like(data).copy_(fitted(value, data.shape, name, label))
        if not torch.isfinite(new).all():
            raise UserError(f"{label} holds values that are NaN or infinite (in {new.dtype}): {name}")
        if not torch.equal(new, data):
            fresh[name] = new
    if not fresh:
        why = "its weights are the model's already" if values else "none of its tensors is one of the model"
        raise UserError(f"{label} changes nothing: {why}")
    originals = {name: targets[name].data for name in fresh}
    changed = {name: targets[name] for name in fresh}

    def undo() -> None:
        for name, data in originals.items():
            # the model may have moved to another device or precision meanwhile
            changed[name].data = data.to(device=changed[name].device, dtype=changed[name].dtype)

    for name, new in fresh.items():
        changed[name].data = new
    return Attached(list(values), undo, originals=originals)


def fitted(value: Tensor, shape: torch.Size, name: str, label: str) -> Tensor:
    """`value` in the model's shape; matrices and 1x1 convolutions stand for each other."""
    if value.shape == shape:
        return value
    if {value.ndim, len(shape)} == {2, 4} and value.numel() == shape.numel() and value.shape[:2] == shape[:2]:
        return value.reshape(shape)
    raise UserError(f"{label} is for another model: {name} is {list(value.shape)} in it, {list(shape)} in the model")


def _added_up(targets, values: dict[str, Tensor], edit: "Edit", stack: list[Applied]) -> dict[str, Tensor]:
    """`values`, where an earlier edit of the same base changed the same weights plus what that edit changed."""
    first: dict[str, Tensor] = {}
    for earlier in reversed(stack):
        if earlier.edit.kind != "checkpoint" and earlier.edit.base.get("sha256") == edit.base.get("sha256"):
            first |= earlier.attached.originals
    summed = {}
    for name in values.keys() & first.keys():
        current = targets[name].data
        new = fitted(values[name], current.shape, name, edit.label()).to(current.device, torch.float32)
        summed[name] = current.float() + (new - first[name].to(current.device, torch.float32))
    touched = {name for earlier in stack for name in earlier.attached.originals}
    if summed:
        what = "their changes are added, which no paper vouches for"
        logger.warning("%s changes %d tensors that an earlier edit changed too: %s", edit.label(), len(summed), what)
    if replaced := values.keys() & touched - summed.keys():
        logger.warning("%s replaces %d tensors that were changed before", edit.label(), len(replaced))
    return values | summed


def few(names, limit: int = 3) -> str:
    names: list[Any] = list(names)
    return ", ".join(names[:limit]) + (f" and {len(names) - limit} more" if len(names) > limit else "")
