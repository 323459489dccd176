"""The folder of a debiasing run: what a finished run holds, and what a killed one goes on from.

``ratios.json`` has the ratios of every iteration, text by text as they were measured. ``checkpoint.safetensors`` has the
weights after the last edit; all else follows from the ratios.
"""

import contextlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from erasure import edits
from erasure.checkpoint_files import read_tensors
from erasure.errors import UserError
from erasure.runs import read_json, save_safetensors, write_json, write_text
from methods.uce.debias_settings import DebiasPlan, DebiasSettings

_ABOUT_FILES = ("exp_name", "base")


class DebiasFolder:
    """Paths and files of one run. UserError for a folder of a run with other settings, base or classifier.

    force: discard what is there.
    """

    def __init__(self, path: Path, settings: DebiasSettings, identity, classifier: Mapping[str, Any], force=False):
        self.path = Path(path)
        self.edit_file, self.settings_file = self.path / "edit.safetensors", self.path / "settings.json"
        self.ratios_file, self.checkpoint_file = self.path / "ratios.json", self.path / "checkpoint.safetensors"
        chosen = {name: value for name, value in settings.to_dict().items() if name not in _ABOUT_FILES}
        self.made_from = json.loads(
            json.dumps({"settings": chosen, "base": identity.sha256, "classifier": classifier["sha256"]})
        )
        if force:
            for file in (self.edit_file, self.settings_file, self.checkpoint_file, self.ratios_file):
                file.unlink(missing_ok=True)
        self.finished = self._is_finished()
        self._ratios = self._read_ratios()
        self.edited = self._read_edited()  # edits whose weights are saved
        if self.finished:
            self.checkpoint_file.unlink(missing_ok=True)

    def _is_finished(self) -> bool:
        """The last file of a run is its settings. UserError if they are of another script's run: 2025 calls all alike."""
        if not self.settings_file.is_file():
            return False
        with contextlib.suppress(ValueError):
            if "classifier" in read_json(self.settings_file):
                return True
        raise UserError(f"{self.path} holds another run: give --exp_name to keep both, or --force")

    # ---- while it runs ----------------------------------------------------------------------------------------------

    def measured(self, iteration: int) -> list[Tensor]:
        """Ratios [J], float64, of the first texts of an iteration."""
        known = self._ratios[iteration] if iteration < len(self._ratios) else []
        return [torch.tensor(shares, dtype=torch.float64) for shares in known]

    def add(self, iteration: int, shares: Tensor) -> None:
        """Ratios [J] of the next text of the last iteration, or of the first text of the next one."""
        if iteration == len(self._ratios):
            self._ratios.append([])
        self._ratios[iteration].append(shares.tolist())
        write_json(self.ratios_file, {"made_from": self.made_from, "ratios": self._ratios})

    def save_weights(self, weights: Mapping[str, Tensor], edited: int) -> None:
        save_safetensors(self.checkpoint_file, weights, {"made_from": self.made_from, "edited": str(edited)})
        self.edited = edited

    def weights(self, like: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The weights after `edited` edits, where those of `like` are."""
        tensors = read_tensors(self.checkpoint_file)
        if {k: t.shape for k, t in tensors.items()} != {k: t.shape for k, t in like.items()}:
            raise UserError(f"{self.checkpoint_file}: not the weights of this model; --force starts again")
        return {name: tensors[name].to(old.device) for name, old in like.items()}

    def _read_ratios(self) -> list[list[list[float]]]:
        if not self.ratios_file.is_file():
            return []
        try:
            saved = read_json(self.ratios_file)
            self._agree(saved["made_from"])
            return saved["ratios"]
        except (ValueError, KeyError, TypeError):
            raise UserError(f"{self.ratios_file}: not the ratios of a run; --force starts again") from None

    def _agree(self, there: Mapping[str, Any]) -> None:
        mine, other = self.made_from, there
        differ = [name for name in mine["settings"] if other["settings"].get(name) != mine["settings"][name]]
        differ += [name for name in ("base", "classifier") if other[name] != mine[name]]
        if differ:
            raise UserError(
                f"{self.path} holds a run of other {', '.join(differ)}: give --exp_name to keep both, or --force"
            )

    def _read_edited(self) -> int:
        from safetensors import SafetensorError, safe_open

        if not self.checkpoint_file.is_file():
            return 0
        try:
            with safe_open(self.checkpoint_file, framework="pt") as file:
                header = file.metadata()
            edited = int(header["edited"])
            self._agree(json.loads(header["made_from"]))
        except (SafetensorError, OSError, KeyError, TypeError, ValueError):
            raise UserError(f"{self.checkpoint_file}: not the state of a run; --force starts again") from None
        if edited > len(self._ratios):
            raise UserError(f"{self.ratios_file} does not belong to {self.checkpoint_file}; --force starts again")
        return edited

    # ---- results ----------------------------------------------------------------------------------------------------

    def write(self, run, plan: DebiasPlan, info: Path, **facts: Any) -> list[Path]:
        """The edit, the published text file (also at `info`) and, last, the settings; returns what was written."""
        name = plan.name if plan.name.startswith("unbiased-") else f"unbiased-{plan.name}"
        text = _published_text(run, plan)
        files = [self.path / f"{name}.txt", info / f"{name}.txt", self.ratios_file]
        for file in files[:2]:
            write_text(file, text)
        if run.edit is None:
            write_json(self.settings_file, facts)
        else:
            files.insert(0, edits.save_run(run.edit, self.path, **facts))
        self.checkpoint_file.unlink(missing_ok=True)
        return [*files, self.settings_file]


def _published_text(run, plan: DebiasPlan) -> str:
    """Four lines: edited texts, weights of the last edit, first ratios, last ratios (as JSON lists)."""
    lines = (plan.texts, run.weights.tolist(), run.ratios[0].tolist(), run.ratios[-1].tolist())
    return "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
