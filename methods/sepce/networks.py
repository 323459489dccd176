"""The artist classifier's networks and its file: a torch-saved dictionary of tensors ``model.*``, with a note beside it.

`resnet18` is the published one: torchvision's, of which only the last layer is trained unless it is trained from scratch.
`small` is for the embedded model's pictures, a minute of training on a laptop.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from erasure.checkpoint_files import read_tensors
from erasure.errors import UserError
from erasure.runs import read_json
from methods.sepce.class_lists import ClassList

SMALL, RESNET18 = "small", "resnet18"
ARCHITECTURES = (SMALL, RESNET18)
PREFIX = "model."  # of the tensors in the file
_WIDTHS = (16, 32, 64, 96)


class SmallNetwork(nn.Module):
    """Four stages of stride 2; the means of all their channels say which painter it is. RGB [B, 3, h, w], h, w >= 16."""

    def __init__(self, classes: int):
        super().__init__()
        sizes = (3, *_WIDTHS)
        self.stages = nn.ModuleList(_stage(sizes[i], sizes[i + 1], 5 if i == 0 else 3) for i in range(len(_WIDTHS)))
        self.fc = nn.Linear(sum(_WIDTHS), classes)

    def forward(self, x: Tensor) -> Tensor:
        means = []
        for stage in self.stages:
            x = stage(x)
            means.append(x.mean(dim=(2, 3)))
        return self.fc(torch.cat(means, dim=1))


def _stage(inputs: int, outputs: int, kernel: int) -> nn.Sequential:
    convolution = nn.Conv2d(inputs, outputs, kernel, stride=2, padding=kernel // 2, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs), nn.ReLU())


def build(architecture: str, classes: int) -> nn.Module:
    """A network with random weights and a last layer `fc` of that many outputs."""
    if architecture == SMALL:
        return SmallNetwork(classes)
    import torchvision

    return torchvision.models.resnet18(weights=None, num_classes=classes)


def with_new_head(network: nn.Module, classes: int) -> nn.Module:
    """torchvision's ResNet-18 with a fresh last layer."""
    network.fc = nn.Linear(network.fc.in_features, classes)
    return network


# ---- the file of a trained classifier ------------------------------------------------------------------------------


def note_of(model_path: str | Path) -> Path:
    """What says how a classifier was trained, and on which classes: beside the file."""
    return Path(model_path).with_suffix(".json")


def read_classifier(model_path: str | Path) -> tuple[nn.Module, dict]:
    """(network in evaluation mode, its note; {} without one, as with the authors' files).

    Tensors may be called ``model.*``, ``module.model.*`` or plainly by the network's names. UserError for any other file.
    """
    tensors = plain_names(read_tensors(model_path))
    if "fc.weight" not in tensors:
        raise UserError(f"{model_path}: not an artist classifier (no fc.weight)")
    architecture = SMALL if any(name.startswith("stages.") for name in tensors) else RESNET18
    network = build(architecture, len(tensors["fc.weight"]))
    try:
        network.load_state_dict(tensors)
    except RuntimeError as error:
        raise UserError(f"{model_path}: not an artist classifier ({error})"[:300]) from None
    return network.eval(), _note(model_path)


def plain_names(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Without what torch's DataParallel and the published class put in front."""
    return {name.removeprefix("module.").removeprefix(PREFIX): tensor for name, tensor in tensors.items()}


def classes_of(note: dict) -> ClassList | None:
    """The classes a classifier was trained on, if its note says so."""
    try:
        return ClassList.from_list(note["classes"], "its training")
    except (KeyError, TypeError, ValueError):
        return None


def _note(model_path: str | Path) -> dict:
    file = note_of(model_path)
    try:
        note = read_json(file) if file.is_file() else {}
    except ValueError:
        raise UserError(f"{file} is not JSON: remove it, or train again") from None
    return note if isinstance(note, dict) else {}
