"""What every run leaves behind: files that are whole or absent, the settings it ran with, and hashes to tell runs apart."""

import contextlib
import csv
import hashlib
import importlib.metadata
import io
import json
import os
import platform
import secrets
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

ROOT = Path(__file__).resolve().parent.parent
"""The repository: user paths that are not found from the working directory are looked up here."""

WEIGHTS_SUFFIXES = (".safetensors", ".pt", ".pth", ".ckpt", ".bin")
"""Files that weights are written to: safetensors, or by any of the others a pickle of nothing but tensors."""

REPORTED_PACKAGES = ("torch", "numpy", "safetensors", "pillow")


def find(path: str | os.PathLike) -> Path:
    """`path` as the user meant it: relative to the working directory, else to the repository."""
    path = Path(path).expanduser()
    in_repository = ROOT / path
    return in_repository if not path.exists() and in_repository.exists() else path


@contextlib.contextmanager
def atomic_path(path: str | os.PathLike) -> Iterator[Path]:
    """Yield a temporary path beside `path`; it takes the final name only if the block ends well.

    The suffix is kept, since writers such as Pillow choose the format by it.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}-{secrets.token_hex(4)}.tmp{path.suffix}")
    temporary.touch()
    mode = temporary.stat().st_mode
    try:
        yield temporary
        os.chmod(temporary, mode)  # safetensors makes files that nobody else may read
        with open(temporary, "rb") as written:  # without this a power cut could leave the new name on an empty file
            os.fsync(written.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: str | os.PathLike, text: str) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: str | os.PathLike, value: Any) -> None:
    """Write `value` as indented JSON; NaN and infinities are refused (ValueError), since JSON has none."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False, default=str) + "\n")


def write_csv(path: str | os.PathLike, rows: Iterable[Iterable[Any]]) -> None:
    """Write rows of cells, the header the first of them; lines end in a line feed on every system."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    write_text(path, text.getvalue())


def read_json(path: str | os.PathLike) -> Any:
    return json.loads(Path(path).read_text(encoding="utf-8"))


def save_safetensors(
    path: str | os.PathLike, tensors: Mapping[str, "torch.Tensor"], metadata: Mapping[str, Any] | None = None
) -> None:
    """Write tensors; values of `metadata` that are not strings are stored as JSON, as the format's header has only strings."""
    from safetensors.torch import save_file

    header = {
        k: v if isinstance(v, str) else json.dumps(v, sort_keys=True, default=str) for k, v in (metadata or {}).items()
    }
    with atomic_path(path) as temporary:
        save_file({name: t.detach().contiguous().cpu() for name, t in tensors.items()}, temporary, metadata=header)
        _sort_metadata(temporary)


def _sort_metadata(path: Path) -> None:
    """The library writes it in an order that differs from run to run: the same contents are to be the same bytes."""
    with open(path, "r+b") as file:
        size = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(size))
        if metadata := header.get("__metadata__"):
            header["__metadata__"] = dict(sorted(metadata.items()))
            text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
            if len(text) <= size:  # it always is: only the order has changed
                file.seek(8)
                file.write(text.ljust(size))


def save_pt(path: str | os.PathLike, value: Any) -> None:
    """Write a tensor, or a dict of tensors, with torch.save: the same value is the same bytes."""
    import torch

    # to a file object: given a path, torch writes its name into the file
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        torch.save(value, file)


def sha256_file(path: str | os.PathLike) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() if hasattr(hashlib, "file_digest") else _digest(file)


def _digest(file) -> str:  # Python 3.10 has no hashlib.file_digest
    digest = hashlib.sha256()
    while block := file.read(1 << 20):
        digest.update(block)
    return digest.hexdigest()


def tensors_sha256(tensors: Mapping[str, "torch.Tensor"]) -> str:
    """A hash of names, shapes and values that does not depend on the order or the file they came in.

    Values are hashed as float32, so that a half-precision file and the model loaded from it agree.
    """
    import torch

    digest = hashlib.sha256()
    for name in sorted(tensors):
        value = tensors[name].detach().to("cpu", torch.float32).contiguous()
        digest.update(f"{name}{tuple(value.shape)}".encode())
        # flat first: the strides of a channels_last 1x1 kernel count as contiguous, but cannot be viewed as bytes
        digest.update(value.reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that can change a result."""
    found = {"python": platform.python_version()}
    for package in REPORTED_PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[package] = importlib.metadata.version(package)
    return found


def print_settings(settings: Mapping[str, Any], title: str = "settings") -> None:
    """Print resolved settings, one aligned line each."""
    width = max((len(name) for name in settings), default=0)
    print(f"{title}:")
    for name, value in settings.items():
        print(f"  {name:<{width}}  {value}")
