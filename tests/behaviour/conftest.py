"""The embedded model, its judge, and edits trained once for the whole run (also across workers)."""

import contextlib
import fcntl
import os
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from erasure import base_models, edits
from erasure.generation import generate, settings
from erasure.metrics.judging import judge_folder
from erasure.prompts import Row
from toyworld.captions import evaluation_prompts
from toyworld.judge import load_judge

SEED = 0
FIRST_SEED = 50_000  # of the pictures; the shipped evaluation and the quickstart use others


TARGET_PROMPTS = 10
MANY = {"style": 3, "object": 2, "person": 1, "figure": 2}  # prompts of every concept that is no target
QUICK_SAMPLER = {"sampler": "dpm", "steps": 8}  # as good as the preset's here, in a third of its calls
# Half of the preset's iterations or less, larger and from shorter samplings: as complete here, in a quarter of the time.
QUICK_ESD = {
    "xattn": {"iterations": 60, "lr": 2e-4, "ddim_steps": 5},
    "noxattn": {"iterations": 80, "lr": 6e-5, "ddim_steps": 5},
}
FEW = {"style": 2, "object": 1, "person": 1, "figure": 2}


def prompts(*targets: str, others: dict[str, int] = MANY) -> list[Row]:
    """The first prompts of every concept; a prompt has the same seed in every measurement: the base draws it once."""
    seen, rows = defaultdict(int), []
    for i, asked in enumerate(evaluation_prompts(TARGET_PROMPTS, seed=1)):
        seen[asked.concept] += 1
        if seen[asked.concept] <= (TARGET_PROMPTS if asked.concept in targets else others[asked.kind]):
            extra = {"concept_kind": asked.kind, "concept": asked.concept}
            rows.append(Row(i, asked.prompt, FIRST_SEED + i, extra=extra))
    return rows


def base_folder(drawing: dict) -> str:
    """Of the base's pictures, which all tests that draw in this way share."""
    return "-".join(["base", *map(str, drawing.values())])


@dataclass
class Shares:
    """Share of pictures that show what their prompt names, by kind and concept."""

    by_concept: dict[tuple[str, str], float]

    def kind(self, kind: str, *but: str) -> dict[str, float]:
        return {concept: share for (k, concept), share in self.by_concept.items() if k == kind and concept not in but}

    def mean(self, kind: str, *but: str) -> float:
        return float(np.mean(list(self.kind(kind, *but).values())))

    def of(self, concept: str) -> float:
        return next(share for (_, name), share in self.by_concept.items() if name == concept)


class Bench:
    """Draws and judges; everything it makes lies in one folder that the workers share."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.judge = load_judge()

    @contextlib.contextmanager
    def locked(self, name: str):
        """One worker at a time: the second finds what the first has made."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with open(self.folder / f"{name}.lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def measure(self, name: str, rows: list[Row], edit=None, **drawing) -> Shares:
        """Shares of the base model's pictures of some prompts, or of those with an edit; drawing: other than the preset."""
        model, identity = base_models.load("toy")
        facts = {"base": identity.to_dict(), "edits": [edit.settings] if edit else []}
        with self.locked(name), edits.apply(model, edit, identity) if edit else contextlib.nullcontext():
            generate(model, rows, self.folder / name, settings("toy", **drawing), facts, progress=False)
        right = defaultdict(list)
        for j in judge_folder(self.folder / name, rows, self.judge.predict):
            right[j.concept_kind, j.concept].append(j.shown)
        return Shares({concept: float(np.mean(shown)) for concept, shown in right.items()})

    def esd(self, prompt: str, train_method: str):
        """The edit that a quick training makes of a prompt; every test that asks for it gets the same."""
        from methods.esd.settings import EsdSettings
        from methods.esd.training import train_esd

        chosen = dict(
            prompt=prompt, train_method=train_method, seed=SEED, save_format="edit", **QUICK_ESD[train_method]
        )
        s = EsdSettings.for_family("toy", **chosen)
        with self.locked(s.run_name):
            model, identity = base_models.load("toy")
            return train_esd(model, identity, s, self.folder / s.run_name, resume=True, progress=False)


@pytest.fixture(scope="session")
def bench(tmp_path_factory):
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent
    return Bench(shared / "behaviour")
