"""Reading files of weights without ever running code that is pickled inside them.

Legacy checkpoints are pickles. They are read with torch's restricted unpickler, in which everything but tensors and
plain containers is refused. What training frameworks leave beside the weights (callbacks, numpy scalars, settings) is
replaced by inert stand-ins, so that neither those packages nor any pickled code is needed.
"""

import os
import pickle
import re
from collections.abc import Mapping
from pathlib import Path

import torch

# Packages whose objects lie beside the weights in checkpoints found in circulation.
_BYSTANDERS = (
    "pytorch_lightning",
    "lightning",
    "lightning_fabric",
    "lightning_utilities",
    "torchmetrics",
    "omegaconf",
    "numpy",
    "ldm",
    "taming",
)
_BYSTANDER_NAMES = {
    "_codecs.encode",
    "argparse.Namespace",
    "collections.defaultdict",
    "collections.deque",
    "datetime.datetime",
    "datetime.timedelta",
    "pathlib.Path",
    "pathlib.PosixPath",
    "pathlib.WindowsPath",
    "typing.Any",
    "__main__.CUDACallback",
    "__main__.ImageLogger",
    "__main__.SetupCallback",
}
_LEGACY_NAMES = (  # archives of the old format cannot be listed beforehand
    "pytorch_lightning.callbacks.model_checkpoint.ModelCheckpoint",
    "pytorch_lightning.utilities.parsing.AttributeDict",
    "numpy.core.multiarray.scalar",
    "numpy._core.multiarray.scalar",
    "numpy.dtype",
    "_codecs.encode",
)
_MMAP_FROM = 256 << 20  # bytes; smaller files are simply read
_NESTS = ("state_dict", "model_state_dict")


class CheckpointError(ValueError):
    """A file of weights cannot be read, or does not fit a configuration; the message is one line."""


class _Inert:
    """Stands in for any pickled object: takes whatever it is given and keeps nothing."""

    def __new__(cls, *args, **kwargs):
        return object.__new__(cls)

    def __init__(self, *args, **kwargs):
        pass

    def __setstate__(self, state):
        pass

    def __setitem__(self, key, value):
        pass

    def append(self, item):
        pass

    def extend(self, items):
        pass


def read_tensors(path: str | os.PathLike, unsafe_pickle: bool = False) -> dict[str, torch.Tensor]:
    """Tensors of a .safetensors file or of a pickled checkpoint, on the CPU, under the names they have in the file.

    A checkpoint may be a bare dict or hold the weights under ``state_dict``; entries that are not tensors are left out.
    `unsafe_pickle` lets a pickle run its code: only for files you made yourself. CheckpointError for a file that is missing,
    damaged, of another kind, without tensors, or that needs pickled code.
    """
    tensors = _state_dict(_read(Path(path), unsafe_pickle))
    if not tensors:
        raise CheckpointError(f"{path}: holds no tensors")
    return tensors


def read_tensor(path: str | os.PathLike) -> torch.Tensor:
    """The one tensor of a file, bare (as embeddings are saved) or under any name; CheckpointError as `read_tensors`."""
    content = _read(Path(path), unsafe_pickle=False)
    tensors = [content.detach()] if isinstance(content, torch.Tensor) else list(_state_dict(content).values())
    if len(tensors) != 1:
        raise CheckpointError(f"{path}: holds {len(tensors) or 'no'} tensors, and one is expected")
    return tensors[0]


def _read(path: Path, unsafe_pickle: bool):
    if not path.is_file():
        raise CheckpointError(f"{path}: {'is a folder, not a file of weights' if path.is_dir() else 'no such file'}")
    return _read_safetensors(path) if _is_safetensors(path) else _read_pickle(path, unsafe_pickle)


def shapes(path: str | os.PathLike, unsafe_pickle: bool = False) -> dict[str, tuple[int, ...]]:
    """Name -> shape of every tensor, without reading the values of a .safetensors file."""
    path = Path(path)
    if path.is_file() and _is_safetensors(path):
        from safetensors import SafetensorError, safe_open

        _refuse_pointer(path)
        try:
            with safe_open(path, framework="pt") as file:
                return {key: tuple(file.get_slice(key).get_shape()) for key in file.keys()}  # noqa: SIM118
        except SafetensorError as error:
            raise _damaged(path, error) from None
    return {key: tuple(tensor.shape) for key, tensor in read_tensors(path, unsafe_pickle).items()}


def _is_safetensors(path: Path) -> bool:
    """By suffix, or by the file's first bytes: a length, then a JSON object."""
    if path.suffix == ".safetensors":
        return True
    with path.open("rb") as file:
        return file.read(9)[8:] == b"{"


def _read_safetensors(path: Path) -> dict[str, torch.Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    _refuse_pointer(path)
    try:
        return load_file(path)
    except (SafetensorError, ValueError, OSError) as error:
        raise _damaged(path, error) from None


def _read_pickle(path: Path, unsafe_pickle: bool):
    _refuse_pointer(path)
    options = {"map_location": "cpu"}
    try:
        if _is_zip(path):
            options["mmap"] = path.stat().st_size >= _MMAP_FROM
            names = torch.serialization.get_unsafe_globals_in_checkpoint(path)
        else:
            names = list(_LEGACY_NAMES)
        if unsafe_pickle:
            return torch.load(path, weights_only=False, **options)
        if refused := [name for name in names if not _is_bystander(name)]:
            raise _needs_code(path, refused)
        stand_ins = [(type("Inert", (_Inert,), {}), name) for name in names]
        with torch.serialization.safe_globals(stand_ins):
            return torch.load(path, weights_only=True, **options)
    except CheckpointError:
        raise
    except pickle.UnpicklingError as error:
        if found := re.findall(r"GLOBAL (\S+)", str(error)):
            raise _needs_code(path, found[:1]) from None
        raise _damaged(path, error) from None
    except (RuntimeError, EOFError, ValueError, KeyError, IndexError, TypeError, AttributeError, OSError) as error:
        raise _damaged(path, error) from None


def _is_zip(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4) == b"PK\x03\x04"


def _is_bystander(name: str) -> bool:
    return name in _BYSTANDER_NAMES or name.split(".")[0] in _BYSTANDERS


def _state_dict(content) -> dict[str, torch.Tensor]:
    while isinstance(content, Mapping) and (
        nest := next((n for n in _NESTS if isinstance(content.get(n), Mapping)), 0)
    ):
        content = content[nest]
    if not isinstance(content, Mapping):
        return {}
    tensors = {key: t for key, t in content.items() if isinstance(key, str) and isinstance(t, torch.Tensor)}
    if tensors and all(key.startswith("module.") for key in tensors):  # saved from a data-parallel wrapper
        tensors = {key.removeprefix("module."): tensor for key, tensor in tensors.items()}
    return {key: tensor.detach() for key, tensor in tensors.items()}


def _refuse_pointer(path: Path) -> None:
    with path.open("rb") as file:
        start = file.read(64).lstrip().lower()
    if not start:
        raise CheckpointError(f"{path}: the file is empty")
    if start.startswith(b"version https://git-lfs"):
        raise CheckpointError(f"{path}: a Git LFS pointer, not the weights: fetch the file itself (git lfs pull)")
    if start.startswith((b"<!doctype", b"<html")):
        raise CheckpointError(f"{path}: a web page, not weights: the download went wrong")


def _needs_code(path: Path, names: list[str]) -> CheckpointError:
    listed = ", ".join(sorted(names)[:4]) + (" ..." if len(names) > 4 else "")
    return CheckpointError(f"{path}: refused, since reading it would run code pickled in it ({listed})")


def _damaged(path: Path, error: Exception) -> CheckpointError:
    reason = " ".join(str(error).split())[:120] or type(error).__name__
    return CheckpointError(f"{path}: damaged, truncated or not a file of weights ({reason})")
