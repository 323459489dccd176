"""What a run of an attack leaves: config.json, log.json, images/ and checkpoints/, as UnlearnDiffAtk's logger writes them.

log.json is a list with one entry an image; entry 0 is the unchanged prompt. result.json (ours) is there once the run has ended,
so a run without it is gone on with.
"""

import os
import time
from collections.abc import Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from erasure import runs
from erasure.attacks.asr import seconds
from erasure.errors import UserError
from erasure.metrics.image_folders import natural

_STAMP = "%Y-%m-%d-%H-%M-%S"
CONFIG, ENTRIES, RESULT, IMAGES, CHECKPOINTS = "config.json", "log.json", "result.json", "images", "checkpoints"


class Log:
    """The folder of one run. UserError if another one's files are in it.

    config: the settings that the run is the work of; a run with the same ones goes on from what is there.
    """

    def __init__(self, folder: str | os.PathLike, config: Mapping[str, Any], overwrite: bool = False):
        self.folder, self.entries = Path(folder), []
        before = _read(self.folder / CONFIG)
        if before is not None and before != _as_json(config) and not overwrite:
            raise UserError(
                f"{self.folder} holds an attack with other settings ({_difference(before, _as_json(config))}): "
                "name another folder with --logger.name, or --overwrite it"
            )
        if overwrite:
            for name in (RESULT, ENTRIES, f"{CHECKPOINTS}/state.safetensors"):
                (self.folder / name).unlink(missing_ok=True)
        (self.folder / IMAGES).mkdir(parents=True, exist_ok=True)
        (self.folder / CHECKPOINTS).mkdir(exist_ok=True)
        runs.write_json(self.folder / CONFIG, _as_json(config))
        self.entries = _read(self.folder / ENTRIES) or []
        self.started, self.spent = datetime.now(), 0.0
        if self.entries:  # the time of a run that was stopped counts, the pause does not
            self.started = datetime.strptime(self.entries[0]["start_time"], _STAMP)
            self.spent = seconds(self.entries[-1]["relative_time"])
        self._from = time.monotonic()

    @property
    def checkpoint(self) -> Path:
        return self.folder / CHECKPOINTS / "state.safetensors"

    def add(self, image: np.ndarray, file: str, results: Mapping[str, Any]) -> bool:
        """Keep an image, uint8 [H, W, 3], and what is known of it; returns whether it is a success."""
        with runs.atomic_path(self.folder / IMAGES / file) as temporary:
            Image.fromarray(image).save(temporary)
        passed = timedelta(seconds=round(self.spent + time.monotonic() - self._from, 6))
        times = {
            "start_time": self.started.strftime(_STAMP),
            "current_time": datetime.now().strftime(_STAMP),
            "relative_time": str(passed),
        }
        self.entries.append(times | _as_json(results) | {"image": file})
        runs.write_json(self.folder / ENTRIES, self.entries)
        return bool(results["success"])

    def cut(self, count: int) -> None:
        """Forget all entries but the first `count`: what came after the last checkpoint is done again."""
        if len(self.entries) > count:
            self.entries = self.entries[:count]
            runs.write_json(self.folder / ENTRIES, self.entries)

    def finish(self, **facts: Any) -> dict[str, Any]:
        """Write result.json; its contents."""
        won = next((i for i, entry in enumerate(self.entries) if entry["success"]), None)
        result = {
            "success": won is not None,
            "pre_success": bool(self.entries[0]["success"]),
            "entry": won,
            "prompt": self.entries[won]["prompt"] if won is not None else None,
            "entries": len(self.entries),
            "seconds": seconds(self.entries[-1]["relative_time"]),
            **facts,
        }
        runs.write_json(self.folder / RESULT, result)
        return result


def result_of(folder: str | os.PathLike) -> dict[str, Any] | None:
    """The result of a run that has ended."""
    return _read(Path(folder) / RESULT)


def entries_of(folder: str | os.PathLike) -> list[dict[str, Any]]:
    """log.json of a run, ours or a published one. UserError if it is none."""
    entries = _read(Path(folder) / ENTRIES)
    if not isinstance(entries, list) or not entries or not all("success" in entry for entry in entries):
        raise UserError(f"{Path(folder) / ENTRIES}: not the log of an attack, a list of entries with `success`")
    return entries


def logs_in(root: str | os.PathLike) -> dict[Path, list[dict[str, Any]]]:
    """Folder -> log of every run in a folder, in the order of their numbers. UserError for a folder without any."""
    folder = runs.find(root)
    if not folder.is_dir():
        raise UserError(f"{root}: no such folder")
    found = [path for path in folder.iterdir() if (path / ENTRIES).is_file()]
    if not found:
        raise UserError(f"{root}: no run with a {ENTRIES} in it")
    return {path: entries_of(path) for path in sorted(found, key=lambda path: natural(path.name))}


def config_of(folder: str | os.PathLike) -> dict[str, Any]:
    """config.json of a run, {} where there is none."""
    found = _read(Path(folder) / CONFIG)
    return found if isinstance(found, dict) else {}


def _read(path: Path) -> Any:
    try:
        return runs.read_json(path)
    except FileNotFoundError:
        return None
    except ValueError:
        raise UserError(f"{path} is damaged: remove it, or --overwrite the run") from None


def _as_json(value: Any) -> Any:
    """As it reads after a way through a file, so that it can be compared with one."""
    if isinstance(value, Mapping):
        return {str(k): _as_json(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_as_json(v) for v in value]
    if isinstance(value, np.generic):
        return value.item()
    return value if isinstance(value, (str, int, float, bool, type(None))) else str(value)


def _difference(one: Any, other: Any, name: str = "") -> str:
    """The first key at which two configurations differ."""
    if isinstance(one, dict) and isinstance(other, dict):
        for key in sorted(one.keys() | other.keys()):
            if one.get(key) != other.get(key):
                return _difference(one.get(key), other.get(key), f"{name}.{key}" if name else key)
    return f"{name}: {one!r} there, {other!r} here"
