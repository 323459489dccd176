"""The methods that the quickstart compares: each makes an edit of the embedded model, and says what that cost.

To add one, write a function from a Task to Made and list it in METHODS: it becomes a row of the report.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from erasure.report.wording import duration, file_size
from toyworld.concepts import OBJECTS, STYLES

SEED = 0  # of training, so that everybody gets the same table
COST_FILE = "cost.json"  # beside an edit, written when it was made


@dataclass(frozen=True)
class Task:
    """What is to be erased from which model, and where the runs' folders go."""

    concept: str
    model: Any  # LatentDiffusion
    identity: Any  # its BaseIdentity
    out: Path
    train_method: str | None = None  # of ESD; None: what suits the concept
    iterations: int | None = None  # of ESD; None: the preset's

    def folder(self, name: str) -> Path:
        """With the base in its name, so that an edit made on earlier weights is not in the way."""
        return self.out / f"{name}-{self.identity.sha256[:8]}"


@dataclass(frozen=True)
class Made:
    """An edit and how it came about."""

    edit: Any  # erasure.edits.Edit
    note: str  # in a few words
    settings: str  # in one line
    seconds: float  # after loading the model, texts encoded included
    resumed: bool  # then `seconds` are those since
    size: int  # of its file, bytes

    def costs(self) -> dict[str, str]:
        """For a report."""
        took = duration(self.seconds) + (", resumed" if self.resumed else "")
        return {"Erasing took": took, "Edit": file_size(self.size)}


def esd(task: Task) -> Made:
    """Fine-tuning (`methods/esd`). Goes on where it was stopped."""
    from erasure.runs import read_json
    from methods.esd.settings import EsdSettings
    from methods.esd.training import train_esd

    settings = EsdSettings.for_family(
        task.identity.family,
        prompt=task.concept,
        train_method=task.train_method or ("noxattn" if task.concept in OBJECTS else "xattn"),
        iterations=task.iterations,
        seed=SEED,
        save_format="edit",
    )
    folder = task.folder(settings.run_name)
    there, resumed = ((folder / name).is_file() for name in ("edit.safetensors", "checkpoint.safetensors"))
    edit = train_esd(task.model, task.identity, settings, folder, resume=True)
    if not there or not (folder / COST_FILE).is_file():
        _keep_cost(folder, read_json(folder / "settings.json")["seconds"], resumed)
    note = f"{_count(settings.iterations, 'iteration')}, {settings.train_method}"
    return _made(folder, edit, note, f"{note}, lr {settings.lr:g}, seed {SEED}")


def uce(task: Task) -> Made:
    """A closed form (`methods/uce`) at its published scales; the other names of the toy world are preserved."""
    from methods.uce.run import erase

    settings, plan = _uce_settings(task)

    def solve():
        return erase(task.model, task.identity, settings, plan, progress=False).edit

    about = f"towards {plan.guides[0]!r}, lamb {settings.lamb:g}, {len(plan.preserved) - 1} names preserved"
    return _closed_form(task, "uce", settings.resolved(plan).to_dict(), solve, "closed form", about)


def rece(task: Task) -> Made:
    """UCE, then what brings the concept back is erased too (`methods/rece`), at the embedded model's preset."""
    from erasure.edits import context_projections
    from erasure.text_states import TextStates
    from methods.rece.rece import Rece
    from methods.rece.settings import ReceSettings
    from methods.rece.starts import Start, edit_of
    from methods.uce.erase import context_map
    from methods.uce.run import erasures

    uce_settings, plan = _uce_settings(task)
    settings = ReceSettings(plan.concepts, plan.guides, retained=(*plan.preserved, *plan.concepts), epochs=1)

    def solve():
        texts = TextStates.of(task.model)
        projections = {name: weight.detach().cpu() for name, weight in context_projections(task.model).items()}
        start = Start("UCE", context_map(erasures(uce_settings, plan)[0], texts)[0])
        run = Rece(texts, projections, start.projections, settings)
        for _ in range(settings.epochs):
            run.epoch()
        return edit_of(run, start, task.identity.to_dict(), list(plan.concepts), settings.to_dict())

    note = f"UCE, then {_count(settings.epochs, 'epoch')}"
    about = f"{note}, {settings.emb_computing} {settings.regular_scale:g}"
    return _closed_form(task, "rece", settings.to_dict(), solve, note, about)


def sepce(task: Task) -> Made:
    """A term on keys and values that the empty prompt does not see (`methods/sepce`); its training images are drawn first.

    Goes on where it was stopped.
    """
    from erasure import edits
    from erasure.runs import read_json
    from methods.sepce.images import training_images
    from methods.sepce.run_folder import RunFolder
    from methods.sepce.sepce_run import make_objective
    from methods.sepce.settings import SepceSettings
    from methods.sepce.training import text_encoder, train

    settings = SepceSettings.for_family("SepCE", task.identity.family, [task.concept], seed=SEED)
    folder = RunFolder(task.folder(f"{settings.run_name}-{task.concept}"), settings, task.identity)
    found = folder.open(resume=True)
    if not isinstance(found, edits.Edit):
        started = time.perf_counter()
        images = training_images(task.model, task.identity, settings, task.out / "training-images")
        drawing = time.perf_counter() - started
        train(make_objective(task.model, text_encoder(task.model), settings), images, folder, found)
        _keep_cost(folder.path, read_json(folder.path / "settings.json")["seconds"] + drawing, found is not None)
    facts = read_json(folder.path / "settings.json")
    note = f"{_count(facts['steps'], 'step')}, {_count(settings.num_images, 'training image')}"
    return _made(folder.path, edits.read(folder.edit_file), note, f"{note}, lr {settings.lr:g}, seed {SEED}")


def cpe(task: Task) -> Made:
    """Residual attention gates (`methods/cpe`), with the embedded model's configuration for the kind of concept.

    Goes on where it was stopped.
    """
    from erasure import edits
    from erasure.runs import read_json
    from methods.cpe.preparing import Preparation
    from methods.cpe.run_folder import RunFolder
    from methods.cpe.settings import CpeSettings
    from methods.cpe.training import train

    domain = "artist" if task.concept in STYLES else "object" if task.concept in OBJECTS else "celeb"
    settings = CpeSettings.for_concept(domain, task.identity.family, task.concept, seed=SEED)
    folder = RunFolder(task.folder(f"cpe-{task.concept}"), settings, task.identity)
    edit = folder.open(resume=True)
    if not isinstance(edit, edits.Edit):
        started, resumed = time.perf_counter(), edit is not None
        problem = Preparation(task.model, [task.concept], progress=False).problem(settings)
        preparing = time.perf_counter() - started
        edit = train(problem, folder, edit)
        _keep_cost(folder.path, read_json(folder.path / "settings.json")["seconds"] + preparing, resumed)
    note = f"{_count(settings.num_stages, 'stage')}, gate of rank {settings.gate_rank}"
    about = f"{note}, gamma {settings.guidance:g}, pal {settings.pal:g}, seed {SEED}"
    return _made(folder.path, edit, note, about, folder.edit_file.name)


def _uce_settings(task: Task):
    """(settings, plan) of the UCE edit, with which RECE begins, too."""
    from methods.uce.concepts import world
    from methods.uce.settings import UceSettings

    others = ",".join(name for name in world("toy").kept if name != task.concept)
    settings = UceSettings(task.concept, "art" if task.concept in STYLES else "other", None, others, base="toy")
    return settings, settings.plan(artists=())


def _closed_form(task: Task, name: str, settings: dict, solve: Callable, note: str, about: str) -> Made:
    """The edit that `solve` computes, or the one that is there with these settings."""
    from erasure import edits

    folder, base = task.folder(name), task.identity.to_dict()
    file = folder / "edit.safetensors"
    if file.is_file() and (folder / COST_FILE).is_file():
        edit = edits.read(file)
        as_read = json.loads(json.dumps(settings))  # tuples come back as lists
        if (edit.concepts, edit.settings, edit.base) == ([task.concept], as_read, base):
            return _made(folder, edit, note, about)
    task.model.get_learned_conditioning([""])  # the first text also loads the tokenizer, as part of the model
    started = time.perf_counter()
    edit = solve()
    seconds = time.perf_counter() - started
    edits.save_run(edit, folder)
    _keep_cost(folder, seconds)
    return _made(folder, edit, note, about)


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}" + ("" if number == 1 else "s")


def _keep_cost(folder: Path, seconds: float, resumed: bool = False) -> None:
    from erasure.runs import write_json

    write_json(folder / COST_FILE, {"seconds": round(seconds, 4), "resumed": resumed})


def _made(folder: Path, edit, note: str, settings: str, file: str = "edit.safetensors") -> Made:
    from erasure.runs import read_json

    cost = read_json(folder / COST_FILE)
    size = (folder / file).stat().st_size
    return Made(edit, note, settings, cost["seconds"], cost["resumed"], size)


class Method(NamedTuple):
    name: str
    erase: Callable[[Task], Made]


METHODS = {
    "esd": Method("ESD", esd),
    "uce": Method("UCE", uce),
    "rece": Method("RECE", rece),
    "sepce": Method("SepCE", sepce),
    "cpe": Method("CPE", cpe),
}
