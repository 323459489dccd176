"""Pairing pictures of two folders, means over them, and the files of weights that only the user can bring."""

import hashlib
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from erasure.errors import UserError
from erasure.metrics import lpips_folders, network_inputs, torchvision_weights
from erasure.metrics.image_folders import case_of, class_folders, images_by_case
from erasure.metrics.lpips_folders import Pair, Pairs, means
from erasure.runs import save_pt


def picture(path, size=(30, 20), value=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((size[1], size[0], 3), value, np.uint8)).save(path)
    return path


def test_images_are_found_in_numeric_order(tmp_path):
    for name in ("10_0.png", "2_10.png", "2_9.JPG", "2_0.jpeg", "x_0.png", "3.png", "2_0.txt", "02.png"):
        (tmp_path / name).touch()
    (tmp_path / "4_0.png").mkdir()
    found = images_by_case(tmp_path)
    assert {case: [path.name for path in paths] for case, paths in found.items()} == {
        2: ["2_0.jpeg", "2_9.JPG", "2_10.png"], 10: ["10_0.png"],
    }  # fmt: skip
    assert list(found) == [2, 10] and case_of("12_0.png") == 12 and case_of("1.png") is None


def test_class_folders(tmp_path):
    for name in ("10", "2", "a", "-1"):
        (tmp_path / name).mkdir()
    (tmp_path / "3").touch()
    assert list(class_folders(tmp_path)) == [2, 10]
    assert lpips_folders.has_classes(tmp_path)
    picture(tmp_path / "0_0.png")
    assert not lpips_folders.has_classes(tmp_path)


def test_pairs_by_case_and_by_class(tmp_path):
    for name in ("1_0.png", "1_1.png", "12_0.png"):
        picture(tmp_path / "a" / name)
        picture(tmp_path / "c" / "0" / name)
        if name != "1_1.png":
            picture(tmp_path / "b" / name)
            picture(tmp_path / "d" / "0" / name)
    (tmp_path / "c" / "1").mkdir()
    found = lpips_folders.by_case(tmp_path / "a", tmp_path / "b", [1, 2])
    assert [(pair.group, pair.edited.name) for pair in found.pairs] == [(1, "1_0.png")]
    assert found.missing == [str(tmp_path / "b" / "1_1.png")]
    classes = lpips_folders.by_class(tmp_path / "c", tmp_path / "d")
    assert classes.groups == [0, 1] and len(classes.pairs) == 2 and len(classes.missing) == 1
    assert math.isnan(means(classes, [1.0, 2.0])[1]) and means(classes, [1.0, 2.0])[0] == 1.5
    assert len(lpips_folders.by_class(tmp_path / "c", tmp_path / "d", [12]).pairs) == 1
    with pytest.raises(UserError, match="in common"):
        lpips_folders.by_case(tmp_path / "a", tmp_path / "b", [3])


@given(st.lists(st.tuples(st.integers(0, 4), st.floats(0, 1)), min_size=1, max_size=40))
def test_means(values):
    found = Pairs(list(range(5)), [Pair(group, None, None) for group, _ in values])
    for group, mean in means(found, [value for _, value in values]).items():
        mine = [value for g, value in values if g == group]
        assert mean == pytest.approx(np.mean(mine)) if mine else math.isnan(mean)


def brightness(x0, x1):
    assert x0.shape == x1.shape
    return (x0 - x1).abs().mean(dim=(1, 2, 3))


def test_measuring_keeps_the_order_over_batches_and_sizes(tmp_path):
    pairs = []
    for n, size in enumerate([(30, 20), (30, 20), (30, 20), (20, 30), (30, 20)]):
        a = picture(tmp_path / f"a{n}.png", size)
        pairs.append(Pair(n, a, picture(tmp_path / f"b{n}.png", size, 51 * (n + 1))))
    found = lpips_folders.measure(pairs, brightness, network_inputs.full_resolution(), False, batch_size=2)
    assert found == pytest.approx([0.4, 0.8, 1.2, 1.6, 2.0], abs=1e-6)


def test_measuring_refuses(tmp_path):
    a, b = picture(tmp_path / "a.png", (30, 20)), picture(tmp_path / "b.png", (20, 20))
    with pytest.raises(UserError, match="30x20 and 20x20"):
        lpips_folders.measure([Pair(0, a, b)], brightness, network_inputs.full_resolution(), False)
    with pytest.raises(UserError, match="not a number"):
        nan = lambda x0, x1: brightness(x0, x1) * torch.nan  # noqa: E731
        lpips_folders.measure([Pair(0, a, a)], nan, network_inputs.full_resolution(), False)


# ---- weights -------------------------------------------------------------------------------------------------------


def test_where_weights_are_looked_for(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "cache"))
    name = torchvision_weights.FILES["alexnet"]
    with pytest.raises(UserError, match=f"{name}.*models/torchvision.*--w"):
        torchvision_weights.find_file("alexnet", None, "--w")
    cached, placed = tmp_path / "cache" / "hub" / "checkpoints" / name, tmp_path / "models" / "torchvision" / name
    for path in (cached, placed):
        path.parent.mkdir(parents=True)
        path.touch()
        assert torchvision_weights.find_file("alexnet", None, "--w").samefile(path)
    (tmp_path / "mine.pth").touch()
    assert torchvision_weights.find_file("alexnet", "mine.pth", "--w").name == "mine.pth"


def test_weights_are_checked(tmp_path):
    """A file of torchvision's name has the hash in it; another name is the user's business, but it must fit."""
    import torchvision

    weights = torchvision.models.squeezenet1_1().state_dict()
    named = tmp_path / torchvision_weights.FILES["squeezenet1_1"]
    save_pt(named, weights)
    with pytest.raises(UserError, match="is damaged"):
        torchvision_weights.load("squeezenet1_1", named)
    other = named.rename(tmp_path / "mine.pth")
    network, identity = torchvision_weights.load("squeezenet1_1", other)
    assert identity["sha256"] == hashlib.sha256(other.read_bytes()).hexdigest() and not network.training
    assert all(torch.equal(value, weights[name]) for name, value in network.state_dict().items())
    with pytest.raises(UserError, match="not the weights of torchvision's resnet18"):
        torchvision_weights.load("resnet18", other)


def test_random_weights_are_the_same_each_time_and_leave_the_generator_alone():
    state = torch.random.get_rng_state()
    (one, facts), (other, _) = (torchvision_weights.load("squeezenet1_1", random=True) for _ in range(2))
    assert facts["random_weights"] and torch.equal(torch.random.get_rng_state(), state)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))
