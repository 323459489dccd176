"""Parts of the artist classifier: its rates, its networks and their file, the tables of what it answered."""

import csv
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from erasure.errors import UserError
from erasure.runs import save_pt, write_json
from methods.sepce import networks
from methods.sepce.class_lists import ClassList, PictureClass
from methods.sepce.classifier import Classifier, TrainingSettings, rates
from methods.sepce.classifier_run import Shuffled
from methods.sepce.classify_folder import OTHER, Answer, Example, accuracies, confusion, summary, table, write_results


@given(st.integers(1, 200), st.floats(0, 0.1), st.floats(0.1, 1))
def test_cyclic_rates_are_those_of_torch(half, low, high):
    steps = 2 * half
    settings = TrainingSettings(lr_min=low, lr_max=high)
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=high, momentum=0.5)
    schedule = torch.optim.lr_scheduler.CyclicLR(optimizer, low, high, step_size_up=half, step_size_down=half)
    for step in range(steps):
        group = optimizer.param_groups[0]
        assert rates(step, steps, settings) == pytest.approx((group["lr"], group["momentum"]), abs=1e-9)
        optimizer.step()
        schedule.step()


def test_multistep_rates():
    settings = TrainingSettings(lr_schedule="multistep", lr_max=1.0, momentum=0.3)
    found = [rates(step, 110, settings) for step in (0, 99, 100, 104, 105, 109)]
    assert found == [(pytest.approx(lr), 0.3) for lr in (1, 1, 0.1, 0.1, 0.01, 0.01)]


@pytest.mark.parametrize(
    "wrong", [dict(epochs=0), dict(lr_min=1.0), dict(lr_max=math.nan), dict(lr_max=0.0), dict(weight_decay=-1.0)]
)
def test_bad_settings(wrong):
    with pytest.raises(UserError):
        TrainingSettings(**wrong)


def test_orders_of_epochs_are_repeatable_and_differ():
    def order(first, epoch, seed=0):
        sampler = Shuffled(50, seed, first)
        sampler.set_epoch(epoch)
        return list(sampler)

    assert order(0, 3) == order(3, 0) and sorted(order(0, 3)) == list(range(50))
    assert len({tuple(order(0, 0)), tuple(order(0, 1)), tuple(order(0, 0, seed=1)), tuple(range(50))}) == 4


@pytest.mark.parametrize("scratch", [False, True])
def test_what_is_trained(scratch):
    module = Classifier(networks.build("resnet18", 4), TrainingSettings(from_scratch=scratch), steps=1)
    names = {name for name, _ in module.model.named_parameters()}
    assert module.trained().keys() == (names if scratch else {"fc.weight", "fc.bias"})
    assert all(name.startswith("model.") for name in module.state_dict())


@pytest.mark.parametrize("architecture", networks.ARCHITECTURES)
@pytest.mark.parametrize("prefix", ["", "model.", "module.model."])
def test_file_of_a_classifier(tmp_path, architecture, prefix):
    network = networks.build(architecture, 5).eval()
    save_pt(tmp_path / "c.pth", {prefix + name: value for name, value in network.state_dict().items()})
    classes = ClassList(tuple(PictureClass(i, f"p{i}") for i in range(5)))
    for note in (None, {"classes": classes.to_list(), "accuracy": 1}):
        if note:
            write_json(tmp_path / "c.json", note)
        read, found = networks.read_classifier(tmp_path / "c.pth")
        images = torch.rand(3, 3, 32, 32)
        assert not read.training and torch.equal(read(images), network(images)) and found == (note or {})
    assert networks.classes_of(found).to_list() == classes.to_list() and networks.classes_of({}) is None
    (tmp_path / "c.json").write_text("{")
    with pytest.raises(UserError, match="is not JSON"):
        networks.read_classifier(tmp_path / "c.pth")


def answers(pairs):
    return [Answer(Example(f"{n}_0.png", label), answer, 0.5) for n, (label, answer) in enumerate(pairs)]


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(-1, 3)), max_size=60))
def test_confusion(pairs):
    matrix = confusion(answers(pairs), 4)
    assert matrix.shape == (4, 5) and matrix.sum() == len(pairs)
    for label, share in enumerate(accuracies(matrix)):
        mine = [answer == label for of, answer in pairs if of == label]
        assert share == pytest.approx(np.mean(mine)) if mine else math.isnan(share)
        assert matrix[label, 4] == pairs.count((label, OTHER))


def test_files_and_tables(tmp_path):
    from pathlib import Path

    found = [Answer(Example(Path(f"{n}_0.png"), label), answer, 0.5) for n, (label, answer) in
             enumerate([(0, 0), (0, 0), (0, 1), (1, OTHER)])]  # fmt: skip
    names = ["Van Gogh", "Picasso", "Cezanne"]
    files = write_results(tmp_path / "eval", names, found, {"what": "test"})
    assert [file.name for file in files] == [
        "eval.csv", "eval_confusion.csv", "eval_per_image.csv", "eval.summary.json",
    ]  # fmt: skip
    with open(files[1], newline="") as file:
        assert list(csv.reader(file)) == [
            ["class", "0", "1", "2", "other"], ["0", "2", "1", "0", "0"], ["1", "0", "0", "0", "1"], ["2", *"0000"],
        ]  # fmt: skip
    matrix = confusion(found, 3)
    assert summary(names, matrix, {})["value"]["value"] == 0.5
    assert "value" not in summary(names, matrix, {})["per_group"]["2"]
    text = table(names, matrix)
    assert "67 % [" in text and "other" in text and "other" not in table(names, matrix[:, :3])
