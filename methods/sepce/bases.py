"""The basis S_j of a concept: solved from the text states of the prompts it must not touch, written, and read again.

The original wrote it as a stream of pickled arrays, one per vector and without a count. Such streams are read here, too,
by a reader that knows nothing but arrays of float64 and runs no code of the file's.
"""

import json
import os
import pickle
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from erasure.errors import UserError, about
from erasure.runs import find, save_safetensors, tensors_sha256
from erasure.text_states import TextStates
from methods.sepce.nullspace import DUPLICATE, Capacity, leak, nullspace_basis

_FORMAT, _VERSION = "sepce-bases", "1"
_FACTS = ("concept", "prompts", "rank", "leak", "method", "tolerance", "length", "encoder")


@dataclass(frozen=True)
class Bases:
    """Directions that are free to erase one concept with."""

    concept: str
    prompts: tuple[str, ...]  # protected, the empty one first; () for a pickle stream, which does not say
    bases: Tensor  # S [n_b, D] float64, unit rows
    rank: int  # dimensions that the protected prompts take
    leak: float | None  # largest row of e_m S^T relative to the largest of e_m: 0 but for rounding if exact
    method: str = "rref"
    tolerance: float = 0.0
    length: int = 77  # tokens of a prompt
    encoder: str = ""  # hash of the text encoder's weights

    @property
    def capacity(self) -> Capacity:
        return Capacity(self.bases.shape[1], self.rank, self.length, exact=self.tolerance == 0)

    def limited(self, max_base: int | None) -> "Bases":
        """The first `max_base` vectors, as the published scripts read them; all for None, and where there are no more."""
        if max_base is not None and max_base < 1:
            raise UserError(f"--max_base {max_base}: at least one vector is needed")
        return replace(self, bases=self.bases[:max_base])

    def report(self) -> str:
        """For the user, before training starts."""
        leaks = "" if self.leak is None or self.tolerance == 0 else f"; of their states {self.leak:.1%} passes at most"
        protected = ", ".join(map(repr, self.prompts)) or "of a file that does not name them"
        return f"{self.concept!r}: {self.capacity}{leaks}\n  protected: {protected}"


def build(
    texts: TextStates,
    concept: str,
    protected: Iterable[str],
    *,
    method: str = "rref",
    tolerance: float = 0.0,
    encoder: str = "",
) -> Bases:
    """Solve for the directions that the empty prompt and `protected` do not have; see `nullspace.nullspace_basis`.

    UserError if none is left, or if the concept is among the protected prompts, if only in other letters.
    """
    prompts = tuple(dict.fromkeys(["", *protected]))
    texts.prepare([*prompts, concept])
    own, em = texts[concept].states, torch.cat([texts[text].states for text in prompts]).numpy()
    with about(f"{concept!r}, protecting {len(prompts)} prompts"):
        for text in prompts:  # case, for one, makes no difference to the encoder
            if torch.allclose(texts[text].states, own, rtol=0, atol=DUPLICATE * float(own.abs().max())):
                raise UserError(f"{text!r} is the concept itself, so that nothing of it could be erased")
        basis = nullspace_basis(em, method, tolerance)
    length = len(own)
    rank, leaks = em.shape[1] - len(basis), leak(em, basis)
    return Bases(concept, prompts, torch.from_numpy(basis), rank, leaks, method, tolerance, length, encoder)


def encoder_id(model) -> str:
    """Hash of a model's text encoder: bases hold for no other."""
    return tensors_sha256(model.cond_stage_model.state_dict())


# ---- files ---------------------------------------------------------------------------------------------------------


def save(bases: Bases, path: str | os.PathLike) -> None:
    """Write a .safetensors file whose header says what the basis is for."""
    facts = {name: json.dumps(getattr(bases, name)) for name in _FACTS}
    save_safetensors(path, {"bases": bases.bases}, {"format": "pt", _FORMAT: _VERSION} | facts)


def read(path: str | os.PathLike, encoder: str = "", max_base: int | None = None) -> Bases:
    """Bases from a file of ours or a published pickle stream. UserError for anything else, and for another text encoder.

    encoder: of the model they are for, by `encoder_id`; a stream does not say, and is believed.
    """
    path = find(path)
    if not path.is_file():
        raise UserError(f"{path}: no such file of bases; generate_bases.py makes them")
    found = _read_safetensors(path) if path.suffix == ".safetensors" else _read_stream(path)
    if encoder and found.encoder and found.encoder != encoder:
        raise UserError(f"{path}: made with another text encoder than the model's: generate_bases.py makes them anew")
    if found.bases.ndim != 2 or not len(found.bases) or not torch.isfinite(found.bases).all():
        raise UserError(f"{path}: {list(found.bases.shape)} is no basis, or holds NaN")
    return found.limited(max_base)


def _read_safetensors(path: Path) -> Bases:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            if header.get(_FORMAT) != _VERSION:
                raise UserError(f"{path}: not a file of bases")
            facts = {name: json.loads(header[name]) for name in _FACTS}
            bases = file.get_tensor("bases").double()
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise UserError(f"{path}: not a file of bases, or damaged ({error})") from None
    return Bases(bases=bases, **facts | {"prompts": tuple(facts["prompts"])})


def _read_stream(path: Path) -> Bases:
    """Vectors of a published file. They are all of one length, and the file ends where one ends."""
    vectors = []
    with path.open("rb") as file:
        end = os.fstat(file.fileno()).st_size
        while file.tell() < end:
            try:
                vectors.append(_vector(_ArraysOnly(file).load()))
            except UserError as error:
                raise UserError(f"{path}: refused ({error})") from None
            except Exception as error:  # what a damaged stream raises is anything
                raise UserError(f"{path}: damaged after {len(vectors)} vectors ({type(error).__name__})") from None
    if len({len(vector) for vector in vectors}) != 1:
        raise UserError(f"{path}: {'its vectors are of different lengths' if vectors else 'the file is empty'}")
    bases = np.stack(vectors)
    return Bases(path.stem, (), torch.from_numpy(bases), bases.shape[1] - len(bases), None)


# ---- arrays in pickles, without numpy's help: what it does with a hostile state is not known -------------------------


class _DType:
    """numpy.dtype: only float64 has no objects in it."""

    def __init__(self, code, *_):
        if code not in ("f8", "<f8", ">f8"):
            raise UserError(f"values of type {code!r}, where float64 is expected")
        self.order = "<"

    def __setstate__(self, state: Sequence):
        self.order = ">" if state[1] == ">" else "<"


class _Array:
    """numpy.ndarray, as its pickles build it: empty first, then (version, shape, dtype, order, bytes)."""

    def __init__(self, *_):
        self.values = np.empty(0)

    def __setstate__(self, state: Sequence):
        _, shape, dtype, fortran, data = state
        self.values = _values(data, dtype, shape, "F" if fortran else "C")


def _from_buffer(data, dtype, shape, order) -> _Array:
    array = _Array()
    array.values = _values(data, dtype, shape, order)
    return array


def _values(data: bytes | bytearray, dtype: _DType, shape, order: str) -> np.ndarray:
    return np.frombuffer(memoryview(data), f"{dtype.order}f8").astype(np.float64).reshape(shape, order=order)


def _latin1(text: str, encoding: str) -> bytes:
    return str(text).encode("latin1")


_KNOWN = {"numpy.ndarray": _Array, "numpy.dtype": _DType, "_codecs.encode": _latin1}
for _core in ("core", "_core"):  # numpy 1 and 2
    _KNOWN |= {f"numpy.{_core}.multiarray._reconstruct": _Array, f"numpy.{_core}.numeric._frombuffer": _from_buffer}


class _ArraysOnly(pickle.Unpickler):
    """An unpickler whose every name is one of the stand-ins above."""

    def find_class(self, module: str, name: str):
        if (known := _KNOWN.get(f"{module}.{name}")) is None:
            raise UserError(f"reading it would run {module}.{name}, and a basis is arrays of float64")
        return known


def _vector(item) -> np.ndarray:
    if not isinstance(item, _Array) or item.values.size < 2 or item.values.size != max(item.values.shape):
        raise UserError("it holds something that is not a vector of float64")
    return item.values.ravel()
