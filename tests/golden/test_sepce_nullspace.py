"""Null-space bases of SepCE against those that its own script solved symbolically."""

import numpy as np
import pytest

from methods.sepce.nullspace import leak, nullspace_basis, rank
from tests.golden.golden_data import load


@pytest.fixture(scope="module")
def golden():
    return load("sepce/nullspace")


def test_bases(golden):
    meta, tensors = golden
    for case in meta["cases"]:
        tag = case["tag"]
        em, expected = tensors[f"{tag}.em"].numpy(), tensors[f"{tag}.bases"].numpy()
        basis = nullspace_basis(em)
        assert basis.shape == expected.shape == (case["n_base"], case["dim"]), tag
        assert basis.dtype == np.float64
        assert np.abs(basis - expected).max() < 5e-5, tag
        assert np.abs(em.astype(np.float64) @ basis.T).max() < 1e-10, tag
        np.testing.assert_allclose(np.linalg.norm(basis, axis=1), 1, atol=1e-12)


def test_ranks(golden):
    meta, tensors = golden
    for case in meta["cases"]:
        assert rank(tensors[f"{case['tag']}.em"].numpy()) == case["rank"]


def test_svd_spans_the_same_space(golden):
    meta, tensors = golden
    for case in meta["cases"]:
        em, expected = tensors[f"{case['tag']}.em"].numpy(), tensors[f"{case['tag']}.bases"].numpy()
        basis = nullspace_basis(em, "svd")
        np.testing.assert_allclose(basis @ basis.T, np.eye(len(expected)), atol=1e-12)
        assert np.abs(expected - expected @ basis.T @ basis).max() < 5e-5
        assert leak(em, basis) < 1e-10
