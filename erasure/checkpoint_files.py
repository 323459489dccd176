"""Files of weights that a user names: `ldm.checkpoint_files`, whose refusals become the user's one line."""

import contextlib
import os
from collections.abc import Iterator

import torch

from erasure.errors import UserError
from ldm import checkpoint_files


@contextlib.contextmanager
def refusals_for_the_user() -> Iterator[None]:
    """A CheckpointError of the block leaves it as a UserError with the same message."""
    try:
        yield
    except checkpoint_files.CheckpointError as error:
        raise UserError(str(error)) from None


def read_tensors(path: str | os.PathLike, unsafe_pickle: bool = False) -> dict[str, torch.Tensor]:
    """Tensors of a file on the CPU, see `ldm.checkpoint_files.read_tensors`; UserError for one that cannot be read."""
    with refusals_for_the_user():
        return checkpoint_files.read_tensors(path, unsafe_pickle)


def read_tensor(path: str | os.PathLike) -> torch.Tensor:
    """The one tensor of a file, such as an embedding, on the CPU; UserError as `read_tensors`, and for several."""
    with refusals_for_the_user():
        return checkpoint_files.read_tensor(path)


def shapes(path: str | os.PathLike, unsafe_pickle: bool = False) -> dict[str, tuple[int, ...]]:
    """Name -> shape of every tensor, without reading the values of a .safetensors file; UserError as `read_tensors`."""
    with refusals_for_the_user():
        return checkpoint_files.shapes(path, unsafe_pickle)
