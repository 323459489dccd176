"""The folder of a training run: what a finished run holds, and what a killed one goes on from.

The edit is written before all that can be made from it at any time: where it is, training is done. Until then
``checkpoint.safetensors`` holds all that the next iteration depends on.
"""

import dataclasses
import json
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from erasure import edits
from erasure.errors import UserError
from erasure.runs import save_safetensors, versions, write_json


@dataclass
class Checkpoint:
    """A run between two iterations: tensors by group and name (a group of one has the name ""), and a header of JSON."""

    groups: dict[str, dict[str, Tensor]]
    header: dict[str, Any]


class RunFolder:
    """Paths and files of one run of `method`. `settings` has its seed once `open` has returned.

    settings: a dataclass with `seed` (None: drawn when the run starts), `to_dict()` and `differences(dict)`, which names
    what makes a run another one than the run of the given settings. A method's own class says what else is in the folder.
    """

    method: str
    elsewhere = "--save_path"  # the flag that says where runs go

    def __init__(self, path: Path, settings, identity):
        self.path, self.settings, self.base = Path(path), settings, identity.to_dict()
        self.edit_file = self.path / "edit.safetensors"
        self.checkpoint_file = self.path / "checkpoint.safetensors"

    # ---- for a method to say --------------------------------------------------------------------------------------

    def progress_of(self, checkpoint: Checkpoint) -> Any:
        """What a method goes on from. Errors of what does not fit (KeyError, TypeError, ValueError) may leave it."""
        raise NotImplementedError

    def iterations(self, progress: Any, settings: Mapping[str, Any]) -> str:
        """How far it got, for messages: '3 of 10 iterations'."""
        raise NotImplementedError

    def own_files(self) -> Iterable[Path]:
        """Files of the method's runs, which --force removes, beside those of every run."""
        return ()

    # ---- what is there --------------------------------------------------------------------------------------------

    def open(self, resume: bool = False, force: bool = False) -> Any:
        """What is there already: the `Edit` of a finished run, the progress of a killed one, or None.

        `force` discards both. UserError for a run with other settings or another base, for a killed one without `resume`
        (its work would be lost), and for a checkpoint that cannot be read.
        """
        if force:
            self._discard()
        if self.edit_file.is_file():
            edit = edits.read(self.edit_file)
            self._agree(edit.settings, edit.base, "finished run")
            self.checkpoint_file.unlink(missing_ok=True)
            return edit
        if self.checkpoint_file.is_file():
            run, progress = self._read_checkpoint()
            if not resume:
                raise UserError(
                    f"{self.path} holds a run that stopped after {self.iterations(progress, run['settings'])}: "
                    "--resume goes on, --force starts again"
                )
            self._agree(run["settings"], run["base"], "started run")
            return progress
        if self.settings.seed is None:
            self.settings = dataclasses.replace(self.settings, seed=secrets.randbits(31))
        return None

    def _agree(self, settings: dict[str, Any], base: dict[str, Any], what: str) -> None:
        """Refuse a run that is not the one asked for; take its seed if none was asked for."""
        found = self.settings.differences(settings) + base_difference(self.base, base)
        if found:
            raise UserError(
                f"{self.path} holds a {what} with other settings ({'; '.join(found)}): --force replaces it, "
                f"{self.elsewhere} puts this one elsewhere"
            )
        self.settings = dataclasses.replace(self.settings, seed=settings["seed"])

    def _discard(self) -> None:
        """Remove the files of an earlier run, and nothing else."""
        common = [file for name in ("edit*.safetensors", "settings.json") for file in self.path.glob(name)]
        for file in filter(Path.is_file, [*common, self.checkpoint_file, *self.own_files()]):
            file.unlink(missing_ok=True)

    # ---- checkpoints ----------------------------------------------------------------------------------------------

    def write_checkpoint(self, groups: Mapping[str, Mapping[str, Tensor]], **header: Any) -> None:
        tensors = {f"{group}.{name}" if name else group: t for group, ts in groups.items() for name, t in ts.items()}
        run = {"settings": self.settings.to_dict(), "base": self.base} | header
        save_safetensors(self.checkpoint_file, tensors, {"format": "pt", f"{self.method}_run": run})

    def _read_checkpoint(self) -> tuple[dict[str, Any], Any]:
        from safetensors import SafetensorError, safe_open

        groups: dict[str, dict[str, Tensor]] = {}
        try:
            with safe_open(self.checkpoint_file, framework="pt") as file:
                run = json.loads(file.metadata()[f"{self.method}_run"])
                for key in file.keys():
                    group, _, name = key.partition(".")
                    groups.setdefault(group, {})[name] = file.get_tensor(key)
            return run, self.progress_of(Checkpoint(groups, run))
        except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
            raise UserError(
                f"{self.checkpoint_file}: not the checkpoint of a run ({error}); --force starts again"
            ) from None

    # ---- results --------------------------------------------------------------------------------------------------

    def write_settings(self, **facts: Any) -> None:
        run = {"method": self.method, "settings": self.settings.to_dict(), "base": self.base, "versions": versions()}
        write_json(self.path / "settings.json", run | facts)


def settings_differences(
    wanted: Mapping[str, Any], there: Mapping[str, Any], about_files: Iterable[str], defaults: Mapping[str, Any] = {}
) -> list[str]:
    """Settings that are others in a run there than here, in words. A wanted seed of None agrees with any.

    about_files: settings that change files and not weights. defaults: of settings that an older run did not know.
    """
    found = []
    for name, value in wanted.items():
        other = there.get(name, defaults.get(name))
        if name in about_files or (name == "seed" and value is None) or value == other:
            continue
        found.append(f"{name} {other} there, {value} here")
    return found


def base_difference(wanted: Mapping[str, Any], there: Mapping[str, Any]) -> list[str]:
    """Whether two bases are the same weights, in words like `settings_differences`."""
    here, other = wanted["sha256"], there.get("sha256", "")
    return [] if here == other else [f"base model {other[:12]} there, {here[:12]} here"]
