"""Arrays out of pickles: every protocol, and nothing that a pickle names is run."""

import os
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from erasure.errors import UserError
from erasure.metrics import q16
from erasure.metrics.pickled_array import read
from erasure.runs import save_pt

arrays = st.tuples(st.integers(0, 1000), st.integers(1, 3), st.integers(1, 5)).map(
    lambda given: np.random.default_rng(given[0]).normal(size=given[1:])
)


@given(arrays, st.sampled_from(["f2", "f4", "f8"]), st.integers(2, 4), st.sampled_from("CF"))
def test_an_array_comes_back(tmp_path_factory, array, kind, protocol, order):
    path = tmp_path_factory.getbasetemp() / "a.p"
    array = np.asarray(array.astype(kind), order=order)
    path.write_bytes(pickle.dumps(array, protocol))
    assert np.array_equal(read(path), array.astype(np.float32))


class Harm:
    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return os.mkdir, (self.target,)


def test_pickled_code_is_refused_and_not_run(tmp_path):
    target = tmp_path / "made"
    (tmp_path / "harm.p").write_bytes(pickle.dumps(Harm(str(target))))
    with pytest.raises(UserError, match="mkdir"):
        read(tmp_path / "harm.p")
    assert not target.exists()


@pytest.mark.parametrize(
    "content",
    [b"", b"junk", pickle.dumps([1, 2]), pickle.dumps(np.array(["a"])), pickle.dumps(np.arange(3)),
     pickle.dumps(np.array([None], dtype=object)), pickle.dumps(np.ones(3))[:-20], pickle.dumps(np.ones(3, ">f4"))],
)  # fmt: skip
def test_anything_else_is_refused(tmp_path, content):
    (tmp_path / "x.p").write_bytes(content)
    with pytest.raises(UserError, match="not one pickled array of numbers"):
        read(tmp_path / "x.p")


def test_prompts_of_q16(tmp_path):
    import torch

    prompts = torch.randn(2, 4)
    save_pt(tmp_path / "mine.pt", prompts)
    found, facts = q16.read_prompts(tmp_path / "mine.pt")
    assert torch.equal(found, prompts) and facts["prompts"] == "mine.pt"
    save_pt(tmp_path / "prompts_finetuned.pt", prompts)
    with pytest.raises(UserError, match="not the published file"):
        q16.read_prompts(tmp_path / "prompts_finetuned.pt")
    save_pt(tmp_path / "three.pt", torch.randn(3, 4))
    with pytest.raises(UserError, match="two prompts"):
        q16.read_prompts(tmp_path / "three.pt")
