"""A run of artist-cls-train.py: pictures in folders -> artis_model_10.pth, its note, and what a killed run goes on from."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Sampler
from tqdm import tqdm

from erasure.errors import UserError
from erasure.metrics.network_inputs import square
from erasure.runs import read_json, save_pt, save_safetensors, versions, write_json
from methods.sepce.class_lists import ClassList
from methods.sepce.classifier import Classifier, TrainingSettings, fit
from methods.sepce.classify_folder import Example, Pictures, examples_in
from methods.sepce.networks import note_of

MODEL = "artis_model_10.pth"  # sic
PUBLISHED_TEST_SIZE = 256  # the published test's, though it trained at 512


class Shuffled(Sampler):
    """An order of its own for every epoch, drawn from (seed, epoch): a run that goes on meets the same batches."""

    def __init__(self, count: int, seed: int, first_epoch: int = 0):
        self.count, self.seed, self.first_epoch, self.epoch = count, seed, first_epoch, 0

    def set_epoch(self, epoch: int) -> None:  # Lightning calls it, counting from 0
        self.epoch = epoch

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.first_epoch + self.epoch)
        yield from torch.randperm(self.count, generator=generator).tolist()


@dataclass
class Progress:
    """A training between two epochs."""

    tensors: dict[str, Tensor] = field(default_factory=dict)  # model.*
    momenta: dict[str, Tensor] = field(default_factory=dict)
    accuracies: list[float] = field(default_factory=list)  # of the epochs so far

    @property
    def best(self) -> float:
        return max(self.accuracies, default=0.0)


class ClassifierRun:
    """Paths, pictures and files of a training."""

    def __init__(self, data: Path, model_path: Path, classes: ClassList, settings: TrainingSettings, backbone: dict):
        self.classes, self.settings, self.backbone = classes, settings, backbone
        self.examples = {side: examples_in(data / side, len(classes), every=True) for side in ("train", "eval")}
        self.model_file = Path(model_path) / MODEL
        self.note_file = note_of(self.model_file)
        self.resume_file = self.model_file.with_suffix(".resume.safetensors")

    @cached_property
    def identity(self) -> dict[str, Any]:
        """What makes it this training and no other."""
        return {
            "settings": self.settings.to_dict(),
            "classes": self.classes.to_list(),
            "backbone": self.backbone,
            "data": {side: {"images": len(e), "sha256": _digest(e)} for side, e in self.examples.items()},
        }

    # ---- what is there ---------------------------------------------------------------------------------------------

    def open(self, resume: bool = False, force: bool = False) -> Progress | dict:
        """Where to start: `Progress`, or the note of a training that is finished.

        UserError for a training with other settings or pictures, for a killed one without `resume`, and for a classifier
        of unknown origin; `force` discards them.
        """
        if force:
            for file in (self.resume_file, self.note_file, self.model_file):
                file.unlink(missing_ok=True)
        if self.resume_file.is_file():
            identity, progress = self._read_progress()
            self._agree(identity, "started")
            if not resume:
                raise UserError(
                    f"{self.resume_file.parent} holds a training that stopped after {len(progress.accuracies)} of "
                    f"{self.settings.epochs} epochs: --resume goes on, --force starts again"
                )
            return progress
        if self.model_file.is_file():
            note = _read_note(self.note_file)
            if not note:
                raise UserError(f"{self.model_file} is a classifier of unknown training: --force replaces it")
            self._agree(note, "finished")
            if note.get("finished"):
                return note
        return Progress()

    def _agree(self, there: dict, what: str) -> None:
        wanted = json.loads(json.dumps(self.identity))
        if different := [key for key, value in wanted.items() if there.get(key) != value]:
            raise UserError(
                f"{self.model_file.parent} holds a {what} classifier with other {', '.join(different)}: --force replaces "
                "it, --model_path puts this one elsewhere"
            )

    def _read_progress(self) -> tuple[dict, Progress]:
        from safetensors import SafetensorError, safe_open

        groups: dict[str, dict[str, Tensor]] = {"state": {}, "momentum": {}}
        try:
            with safe_open(self.resume_file, framework="pt") as file:
                run = json.loads(file.metadata()["training"])
                for key in file.keys():
                    group, _, name = key.partition(".")
                    groups[group][name] = file.get_tensor(key)
            return run["identity"], Progress(groups["state"], groups["momentum"], run["accuracies"])
        except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
            raise UserError(f"{self.resume_file}: not a training ({error}); --force starts again") from None

    # ---- training --------------------------------------------------------------------------------------------------

    def train(
        self, network: Callable[[], nn.Module], progress: Progress, device="cpu", workers: int = 0, bar: bool = True
    ) -> dict:
        """Train from `progress` to the end; returns the note. network: makes the network a training starts with."""
        s, first_epoch = self.settings, len(progress.accuracies)
        shuffled = Shuffled(len(self.examples["train"]), s.seed, first_epoch)
        loaders = {
            side: DataLoader(
                Pictures(examples, square(s.image_size)), s.batch_size, num_workers=workers,
                sampler=shuffled if side == "train" else None, persistent_workers=workers > 0,
            )
            for side, examples in self.examples.items()
        }  # fmt: skip
        module = Classifier(network(), s, steps=s.epochs * len(loaders["train"]))
        if progress.tensors:
            module.load_state_dict(progress.tensors)
            module.momenta, module.first_step = progress.momenta, first_epoch * len(loaders["train"])

        def told(module: Classifier, epoch: int) -> None:
            """The published line; the best so far is kept, of equals the last; then what a killed run goes on from."""
            tqdm.write(f"epoch_{epoch}--acc_{module.accuracy}")
            best = module.accuracy >= progress.best
            progress.accuracies.append(module.accuracy)
            if best:
                self._keep(module, progress)
            self._save_progress(module, progress)

        if first_epoch < s.epochs:
            fit(module, loaders["train"], loaders["eval"], told, first_epoch, device, bar)
        note = _read_note(self.note_file) | {"finished": True, "accuracies": progress.accuracies}
        write_json(self.note_file, note)
        self.resume_file.unlink(missing_ok=True)
        return note

    def _keep(self, module: Classifier, progress: Progress) -> None:
        """The note first: a file without one is not ours."""
        s = self.settings
        note = self.identity | {
            "architecture": s.architecture,
            "image_size": s.image_size,
            "test_image_size": s.image_size if s.from_scratch else PUBLISHED_TEST_SIZE,
            "epoch": len(progress.accuracies) - 1,
            "accuracy": module.accuracy,
            "confusion": module.confusion.tolist(),
            "accuracies": progress.accuracies,
            "finished": False,
            "versions": versions(),
        }
        write_json(self.note_file, note)
        save_pt(self.model_file, {name: t.detach().cpu().clone() for name, t in module.state_dict().items()})

    def _save_progress(self, module: Classifier, progress: Progress) -> None:
        tensors = {f"state.{name}": t for name, t in module.state_dict().items()}
        tensors |= {f"momentum.{name}": t for name, t in module.sgd_momenta().items()}
        run = {"identity": self.identity, "accuracies": progress.accuracies}
        save_safetensors(self.resume_file, tensors, {"format": "pt", "training": run})


def _read_note(file: Path) -> dict:
    try:
        note = read_json(file)
    except FileNotFoundError:
        return {}
    except ValueError:
        raise UserError(f"{file} is not JSON: --force trains again") from None
    return note if isinstance(note, dict) else {}


def _digest(examples: list[Example]) -> str:
    """Of the pictures' names and sizes in bytes: reading thousands of pictures would take longer than it is worth."""
    lines = (f"{one.label}/{one.path.name} {one.path.stat().st_size}\n" for one in examples)
    return hashlib.sha256("".join(lines).encode()).hexdigest()
