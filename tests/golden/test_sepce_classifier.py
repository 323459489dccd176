"""The artist classifier against the published script run whole, and the pictures it and its neighbours are fed."""

import re

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, IterableDataset

from erasure.metrics.network_inputs import imagenet, lpips_esd, square
from methods.sepce.classifier import Classifier, TrainingSettings, fit, rates
from tests.golden.golden_data import load


class Stub(nn.Module):
    """What stood in for ResNet-18 when the script was recorded; all sizes are those of the recorded weights."""

    def __init__(self, weights: dict[str, torch.Tensor]):
        super().__init__()
        width, inputs, *kernel = weights["conv.weight"].shape
        self.conv = nn.Conv2d(inputs, width, kernel, stride=kernel)
        self.bn = nn.BatchNorm2d(width)
        self.fc = nn.Linear(width, len(weights["fc.weight"]))
        self.load_state_dict(weights)

    def forward(self, x):
        return self.fc(self.bn(self.conv(x)).relu().mean(dim=(2, 3)))


@pytest.fixture(scope="module")
def recorded():
    meta, tensors = load("sepce/classifier_train")
    initial = {key.removeprefix("init.model."): value for key, value in tensors.items() if key.startswith("init.")}
    (low, _), (second, _), *others = meta["lr_and_momentum_per_step"]
    high = low + (second - low) * (len(others) + 2) / 2  # the slope is known, the peak may lie between two steps
    settings = TrainingSettings(batch_size=meta["batch_size"], epochs=meta["epochs"], lr_min=low, lr_max=high)
    return meta, tensors, initial, settings


def test_learning_rate_and_momentum(recorded):
    meta, _, _, settings = recorded
    schedule = meta["lr_and_momentum_per_step"]
    assert len(schedule) == meta["epochs"] * meta["batches_per_epoch"]
    for step, (lr, momentum) in enumerate(schedule):
        assert rates(step, len(schedule), settings) == pytest.approx((lr, momentum), abs=1e-9)


class Batches(IterableDataset):
    """Recorded batches, so many an epoch; all epochs may have the same ones."""

    def __init__(self, images, labels, per_epoch: int):
        self.batches, self.per_epoch, self.start = list(zip(images, labels, strict=True)), per_epoch, 0

    def __iter__(self):
        chosen = self.batches[self.start : self.start + self.per_epoch]
        self.start = (self.start + self.per_epoch) % len(self.batches)
        return iter(chosen)


def batches(images, labels, per_epoch=None):
    return DataLoader(Batches(images, labels, per_epoch or len(images)), batch_size=None)


def test_training(recorded):
    """Weights, statistics of the frozen trunk and printed lines."""
    meta, tensors, initial, settings = recorded
    steps = meta["epochs"] * meta["batches_per_epoch"]
    module = Classifier(Stub(initial), settings, steps)
    printed = []
    fit(
        module, batches(tensors["X"], tensors["y"], meta["batches_per_epoch"]), batches(tensors["eval_X"], tensors["eval_y"]),
        lambda m, epoch: printed.append(f"epoch_{epoch}--acc_{m.accuracy}"), progress=False,
    )  # fmt: skip
    assert printed == meta["printed"]
    final = {key.removeprefix("final."): value for key, value in tensors.items() if key.startswith("final.")}
    state = module.state_dict()
    assert final and final.keys() <= state.keys()
    for name, value in final.items():
        torch.testing.assert_close(state[name], value, atol=1e-6, rtol=1e-5, msg=lambda m, name=name: f"{name}: {m}")
    frozen = {
        name for name in initial if not name.startswith("fc.") and name not in ("bn.running_mean", "bn.running_var")
    }
    assert all(torch.equal(state[f"model.{n}"], initial[n]) for n in frozen - {"bn.num_batches_tracked"})


@pytest.fixture(scope="module")
def pictures():
    _, tensors = load("sepce/classifier_preproc")
    images = {key[3:]: Image.fromarray(value.numpy()) for key, value in tensors.items() if re.fullmatch(r"img\d+", key)}
    return tensors, images


def recorded_as(tensors, kind):
    """(target size, picture, tensor) of the tensors ``{kind}{size}.{picture}``."""
    found = []
    for key, value in tensors.items():
        if match := re.fullmatch(rf"{kind}(\d+)\.(\d+)", key):
            found.append((int(match[1]), match[2], value))
    assert found
    return found


@pytest.mark.parametrize("kind", ["cls_train", "cls_test"])
def test_pictures_of_the_classifier(pictures, kind):
    tensors, images = pictures
    for size, number, expected in recorded_as(tensors, kind):
        found = (square(size)(images[number]) * 255).round().to(torch.uint8)
        assert torch.equal(found, expected), (kind, size, number)


def test_pictures_of_imagenet(pictures):
    tensors, images = pictures
    for size, number, expected in recorded_as(tensors, "imagenet"):
        torch.testing.assert_close(imagenet(size)(images[number]), expected.float(), atol=2e-3, rtol=0)


def test_pictures_of_lpips(pictures):
    tensors, images = pictures
    for size, number, expected in recorded_as(tensors, "lpips"):
        torch.testing.assert_close(lpips_esd(size)(images[number])[None], expected, atol=1e-6, rtol=0)
        assert np.isfinite(expected.numpy()).all()
