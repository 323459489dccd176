"""FID, KID and the resizing of clean-fid."""

import re

import numpy as np
import pytest
import torch
from PIL import Image

from erasure.metrics.frechet import frechet_distance, kernel_distance, squared_mmd, statistics
from erasure.metrics.network_inputs import inception_clean
from tests.golden.golden_data import load


@pytest.fixture(scope="module")
def golden():
    return load("eval/fid_kid")


def sets(tensors):
    return tensors["feats_a"], tensors["feats_b"]


def test_statistics(golden):
    _, t = golden
    found = statistics(t["feats_a"])
    torch.testing.assert_close(found.mean.float(), t["mu_a"].float())
    torch.testing.assert_close(found.covariance, t["sigma_a"])


def test_frechet_distance(golden):
    meta, t = golden
    relative, absolute = map(float, re.findall(r"\d+e-\d+", meta["tolerance"]["fid"]))
    a, b = map(statistics, sets(t))
    assert frechet_distance(a, b) == pytest.approx(meta["fid_ab"], rel=relative)
    assert frechet_distance(a, b) == pytest.approx(meta["torch_fidelity_0.4.0"]["frechet_inception_distance"], rel=1e-6)
    assert frechet_distance(a, a) == pytest.approx(meta["fid_aa"], abs=absolute)
    for name in (
        name for name in meta if re.fullmatch(r"fid_a_c\d+", name)
    ):  # the first rows of b: a singular covariance
        few = statistics(t["feats_b"][: int(name.rpartition("c")[2])])
        assert frechet_distance(a, few) == pytest.approx(meta[name], abs=absolute)


def test_kernel_distance(golden):
    meta, t = golden
    a, b = sets(t)
    for name in (name for name in meta if name.startswith("kid_")):
        subsets, size = (int(n) for n in (re.findall(r"(\d+)subsets_of_(\d+)", name) or [(100, 1000)])[0])
        x, y = (a, a) if "aa" in name else (a, b)
        if equal := re.search(r"equal_n(\d+)", name):
            x, y = a[: int(equal[1])], b[: int(equal[1])]
        seed = int((re.findall(r"seed(\d+)", name) or [0])[0])
        assert kernel_distance(x, y, subsets, size, seed) == pytest.approx(meta[name], rel=1e-5), name


def test_kernel_distance_of_recorded_subsets(golden):
    meta, t = golden
    a, b = (s.double() for s in sets(t))
    drawn = zip(t["kid_subset_idx_a"], t["kid_subset_idx_b"], strict=True)
    values = [squared_mmd(a[of_a], b[of_b]) for of_a, of_b in drawn]
    (name,) = (name for name in meta if re.fullmatch(rf"kid_{len(values)}subsets_of_\d+_seed\d+", name))
    assert np.mean(values) == pytest.approx(meta[name], rel=1e-5)


def test_clean_resizing(golden):
    meta, t = golden
    (name,) = (name for name in t if name.startswith("resize_out"))
    every = int(re.search(r"\d+", name)[0])
    found = inception_clean(Image.fromarray(t["resize_in"].numpy()))[:, ::every, ::every].permute(1, 2, 0)
    assert (found - t[name]).abs().max() <= float(meta["tolerance"]["resize"])
