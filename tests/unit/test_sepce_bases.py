"""Files of bases: what is solved for a concept, read again, and read from the pickles that the published script wrote."""

import os
import pickle
import struct

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from erasure.errors import UserError
from erasure.text_states import TextStates
from methods.sepce import bases
from methods.sepce.bases import Bases
from methods.sepce.nullspace import nullspace_basis

DIM, TOKENS = 40, 6


@pytest.fixture
def texts():
    """Random states, whose first row all texts share; case does not count, as for CLIP."""

    def states(text):
        seed = int.from_bytes(text.lower().encode()[:6], "little")
        rows = torch.randn(TOKENS, DIM, generator=torch.Generator().manual_seed(seed))
        rows[0] = torch.linspace(-3, 3, DIM)
        return rows

    return TextStates(lambda several: (torch.stack([states(t) for t in several]), [1] * len(several)))


def test_build(texts):
    found = bases.build(texts, "VanGogh", ["Cezanne", "", "Picasso", "Cezanne"], encoder="abc")
    assert found.concept == "VanGogh" and found.prompts == ("", "Cezanne", "Picasso") and found.encoder == "abc"
    em = torch.cat([texts[text].states for text in found.prompts]).numpy()
    np.testing.assert_array_equal(found.bases.numpy(), nullspace_basis(em))
    assert found.rank == 1 + 3 * (TOKENS - 1) and len(found.bases) == DIM - found.rank and found.leak < 1e-10
    assert found.capacity.more_prompts == (DIM - found.rank - 1) // (TOKENS - 1)
    assert "'Cezanne'" in found.report() and "24 are left" in found.report() and "4 more of 6 tokens" in found.report()


def test_the_empty_prompt_is_always_protected(texts):
    assert bases.build(texts, "VanGogh", []).prompts == ("",)


@pytest.mark.parametrize("same", ["VanGogh", "vangogh"])
def test_a_concept_cannot_be_hidden_from_itself(texts, same):
    with pytest.raises(UserError, match="'VanGogh', protecting 3 prompts: .* the concept itself"):
        bases.build(texts, "VanGogh", ["Cezanne", same])


def test_too_many_prompts(texts):
    many = [f"p{n}" for n in range(8)]
    with pytest.raises(UserError, match="'VanGogh', protecting 9 prompts: .* all 40 dimensions"):
        bases.build(texts, "VanGogh", many)
    found = bases.build(texts, "VanGogh", many, tolerance=0.3, method="svd")
    assert 0 < found.leak < 1 and not found.capacity.exact and "% passes at most" in found.report()


def test_max_base(texts):
    whole = bases.build(texts, "VanGogh", [])
    assert torch.equal(whole.limited(3).bases, whole.bases[:3])
    assert torch.equal(whole.limited(691).bases, whole.bases) and whole.limited(None).bases is not None
    with pytest.raises(UserError, match="--max_base 0"):
        whole.limited(0)


def test_round_trip(texts, tmp_path):
    found = bases.build(texts, "VanGogh", ["Picasso", "naïve, ünd"], method="svd", tolerance=1e-3, encoder="abc")
    for name in ("one", "other"):
        bases.save(found, tmp_path / f"{name}.safetensors")
    assert (tmp_path / "one.safetensors").read_bytes() == (tmp_path / "other.safetensors").read_bytes()
    again = bases.read(tmp_path / "one.safetensors", encoder="abc")
    assert torch.equal(again.bases, found.bases)
    assert vars(again) | {"bases": 0} == vars(found) | {"bases": 0}
    assert len(bases.read(tmp_path / "one.safetensors", max_base=4).bases) == 4
    with pytest.raises(UserError, match="another text encoder"):
        bases.read(tmp_path / "one.safetensors", encoder="def")


def test_files_of_something_else(tmp_path):
    save_file({"bases": torch.ones(2, 3)}, tmp_path / "weights.safetensors")
    (tmp_path / "text.safetensors").write_text("no")
    for name, words in (("weights.safetensors", "not a file"), ("text.safetensors", "not a file"), ("none", "no such")):
        with pytest.raises(UserError, match=words):
            bases.read(tmp_path / name)
    broken = Bases("x", ("",), torch.full((2, 3), torch.nan, dtype=torch.float64), 1, 0.0)
    bases.save(broken, tmp_path / "nan.safetensors")
    with pytest.raises(UserError, match="NaN"):
        bases.read(tmp_path / "nan.safetensors")


# ---- published pickles ---------------------------------------------------------------------------------------------


def write_stream(path, items, protocol=None):
    with path.open("wb") as file:
        for item in items:
            pickle.dump(item, file, protocol)
    return path


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize(
    "form", [lambda v: v, lambda v: v[:, None], lambda v: v[None].T.copy("F"), lambda v: v.astype(">f8")]
)
def test_a_stream_of_pickles(tmp_path, protocol, form):
    vectors = np.linalg.qr(np.random.default_rng(0).standard_normal((20, 20)))[0][:7]
    path = write_stream(tmp_path / "VanGogh.pickle", map(form, vectors), protocol)
    found = bases.read(path)
    np.testing.assert_array_equal(found.bases.numpy(), vectors)
    assert found.concept == "VanGogh" and found.rank == 13 and found.prompts == () and found.leak is None
    assert "7 are left" in found.report() and "does not name them" in found.report()
    np.testing.assert_array_equal(bases.read(path, max_base=2).bases.numpy(), vectors[:2])


def test_names_of_the_other_numpy(tmp_path):
    """Streams were written with numpy 1, and its private modules have other names in numpy 2."""
    stream = pickle.dumps(np.arange(3.0), 2)
    here, there = (b"numpy._core", b"numpy.core")
    if here not in stream:
        here, there = there, here
    path = tmp_path / "x.pickle"
    path.write_bytes(stream.replace(here, there))
    np.testing.assert_array_equal(bases.read(path).bases.numpy(), [[0, 1, 2]])


class Hostile:
    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def test_nothing_of_a_stream_is_run(tmp_path):
    trace = tmp_path / "trace"
    good = np.arange(3.0)
    for item in (
        Hostile(os.mkdir, str(trace)),
        Hostile(eval, f"__import__('os').mkdir({str(trace)!r})"),
        Hostile(np.save, str(trace), 1),
        [good, Hostile(os.system, f"mkdir {trace}")],
    ):
        with pytest.raises(UserError, match="refused .*would run"):
            bases.read(write_stream(tmp_path / "x.pickle", [good, item]))
        assert not trace.exists()


def test_streams_of_other_things(tmp_path):
    good = np.arange(3.0)
    for items, words in (
        ([good, np.arange(3)], "refused .*'i8'"),
        ([np.array([good, None], object)], "refused .*'O8'"),
        ([good, [1.0, 2.0, 3.0]], "refused .*not a vector"),
        ([np.eye(3)], "refused .*not a vector"),
        ([good, np.arange(4.0)], "different lengths"),
        ([], "empty"),
    ):
        with pytest.raises(UserError, match=words):
            bases.read(write_stream(tmp_path / "x.pickle", items))


def test_damaged_streams(tmp_path):
    whole = write_stream(tmp_path / "x.pickle", [np.arange(30.0)] * 2).read_bytes()
    path = tmp_path / "cut.pickle"
    for size in range(len(whole) // 2 + 1, len(whole)):
        path.write_bytes(whole[:size])
        with pytest.raises(UserError, match="damaged after 1 vectors"):
            bases.read(path)
    path.write_bytes(b"MZ" + bytes(range(50)))
    with pytest.raises(UserError, match="damaged after 0"):
        bases.read(path)
    # the number of bytes that an array is to have, without the bytes
    state = pickle.dumps(np.arange(3.0), 4)
    at = state.index(struct.pack("<d", 1.0)) - 8
    length = state[at - 2 : at]
    assert length == b"C\x18"
    path.write_bytes(state[: at - 2] + b"J\xff\xff\xff\x7f" + state[at + 24 :])
    with pytest.raises(UserError, match="damaged after 0"):
        bases.read(path)
