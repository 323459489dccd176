"""A NumPy array out of a pickle, without running anything that the pickle names.

    read("prompts.p")                        # float32 [2, 768]

Of the names that a pickled array needs, stand-ins take down shape, type and bytes; any other name is refused.
"""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np

from erasure.errors import UserError

_TYPES = ("f2", "f4", "f8")


class _Type:
    """numpy.dtype: its name and byte order."""

    def __init__(self, name: str, *_):
        self.name, self.order = str(name), "<"

    def __setstate__(self, state):
        self.order = state[1]


class _Array:
    """numpy.ndarray: (version, shape, type, Fortran order, bytes)."""

    state: tuple | None = None

    def __setstate__(self, state):
        self.state = state


class _Ndarray:
    """numpy.ndarray as an argument only."""


def _encode(text: str, encoding: str = "latin1") -> bytes:
    """_codecs.encode, by which protocol 2 writes bytes."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"bytes in {encoding}")
    return text.encode("latin1")


def _reconstruct(*_) -> _Array:
    return _Array()


_STAND_INS: dict[tuple[str, str], Any] = {("numpy", "ndarray"): _Ndarray, ("numpy", "dtype"): _Type}
_STAND_INS[("_codecs", "encode")] = _encode
_STAND_INS |= {(module, "_reconstruct"): _reconstruct for module in ("numpy.core.multiarray", "numpy._core.multiarray")}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str):
        if (module, name) not in _STAND_INS:
            raise pickle.UnpicklingError(f"it names {module}.{name}")
        return _STAND_INS[module, name]

    def persistent_load(self, pid):
        raise pickle.UnpicklingError("it refers to something outside")


def read(path: str | os.PathLike) -> np.ndarray:
    """The array of floating-point numbers, as float32. UserError for a file that holds anything else."""
    path = Path(path)
    try:
        with path.open("rb") as file:
            content = _Unpickler(file).load()
        _, shape, kind, fortran, data = content.state
        if kind.name not in _TYPES or kind.order not in "<=|":
            raise ValueError(f"numbers of type {kind.order}{kind.name}")
        array = np.frombuffer(data, dtype="<" + kind.name)
        return array.reshape(shape, order="F" if fortran else "C").astype(np.float32)
    except OSError:
        raise
    except Exception as error:  # a damaged pickle can raise anything
        raise UserError(f"{path} is not one pickled array of numbers ({error})"[:300]) from None
