"""A table's models: how each is trained, what it is called in all tables, and how the generator is told of it.

Words like @{train/KEY:STATE} stand for the file that a training left, which is known when it has run (`reproduce.step`).
"""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from erasure.errors import UserError
from erasure.generation.presets import image_folder
from erasure.runs import ROOT
from reproduce import commands
from reproduce.measures.measuring import Shown
from reproduce.tables import Images, Run, Table, measures, methods

BASE_NAME = "base"
RECORD = "step.json"  # what a step that is done leaves in its folder
_EVENT = re.compile(r"scene (\d+) time t(\d+)")
_NAME = 48  # characters of a name before its hash


@dataclass(frozen=True)
class Plan:
    """Where and with what tables are made."""

    base: str  # one of costs.MODELS
    root: Path  # a step's folder is {root}/{its key}
    inputs: Mapping[str, str] = field(default_factory=dict)  # the user's own files, as coco_reference

    @property
    def embedded(self) -> bool:
        return self.base == "toy"

    def record(self, key: str) -> Path:
        """Where a step says that it is done."""
        return self.root / key / RECORD


def named(name: str, content: Any) -> str:
    """A file name that says what something is, and tells it from everything of other content."""
    digest = hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()[:8]
    return f"{re.sub(r'[^a-z0-9]+', '_', name.lower()).strip('_')[:_NAME]}-{digest}"


def models(one: Table, plan: Plan) -> list[Run]:
    """The models of a table on the plan's base. UserError if it has no counterpart on the embedded one."""
    if plan.embedded and not one.embedded:
        raise UserError(f"{one.name} has no counterpart on the embedded model; it is made with --base sd-v1-4")
    runs = one.models(plan.embedded)
    against_base = any(measures()[name].get("needs_base") for name in one.measures(plan.embedded))
    if against_base and all(trainings(run) for run in runs):  # the table has no row of the base, but needs its pictures
        runs = [Run("base", "base"), *runs]
    return runs


def trainings(run: Run) -> list[dict[str, Any]]:
    """The settings of the trainings that act in a run: of several, those of the concepts that its state says are erased."""
    if "script" not in methods()[run.method]:
        return []
    settings = [dict(one) for one in run.trainings]
    if run.state and run.state.startswith("erased"):
        erased = run.state.split()[1:]
        return [one for one in settings if str(one.get("erased_index")) in erased]
    return settings


def training_key(method: str, settings: Mapping[str, Any], base: str) -> str:
    told = [
        str(settings[name]) for name in ("concepts", "prompt", "concept", "erased_index", "SCENE") if name in settings
    ]
    about = told[0] if told else Path(str(settings.get("config_file", ""))).parent.name
    return f"train/{named(f'{method} {about}', commands.train(method, settings, base))}"


def model_name(run: Run, base: str) -> str:
    """The name of a model, the same in all tables."""
    keys = [training_key(run.method, settings, base).partition("/")[2] for settings in trainings(run)]
    if not keys:
        return BASE_NAME
    ways = [_event(run), run.without]
    return keys[0] if len(keys) == 1 and not any(ways) else named(f"{run.method} {run.name}", [keys, ways])


def model_flags(run: Run, base: str) -> tuple[str, ...]:
    """What generate-images.py is told besides the base model."""
    flag = methods()[run.method].get("flag", "--edit")
    files = [f"@{{{training_key(run.method, settings, base)}:{_event(run)}}}" for settings in trainings(run)]
    found = [word for file in files for word in (flag, file)]
    return (*found, "--without", run.without) if run.without else tuple(found)


def _event(run: Run) -> str:
    """How the name of an event's model ends, of a method that leaves one for each."""
    event = _EVENT.fullmatch(run.state or "")
    return f"scene{event[1]}-time{event[2]}" if event else ""


# ---- pictures ------------------------------------------------------------------------------------------------------


def prompts_name(drawn: Images) -> str:
    return named(Path(drawn.prompts).stem, [drawn.prompts, drawn.preset, drawn.samples, drawn.first])


def images_key(run: Run, drawn: Images, base: str) -> str:
    return f"images/{model_name(run, base)}/{prompts_name(drawn)}"


def base_images_key(drawn: Images) -> str:
    return f"images/{BASE_NAME}/{prompts_name(drawn)}"


def shown(one: Table, run: Run, plan: Plan) -> list[Shown]:
    """A run's pictures: a folder for each prompt file of the table; none of a table that draws nothing."""
    return [_shown(run, drawn, plan) for drawn in one.drawn(plan.embedded)]


def undrawn(run: Run, plan: Plan) -> Shown:
    """What stands for a model of which nothing is drawn: its duration and its weights can be measured."""
    return _shown(run, Images("", "toy" if plan.embedded else "esd"), plan)


def _shown(run: Run, drawn: Images, plan: Plan) -> Shown:
    def folder(key: str) -> Path:
        return image_folder(drawn.preset, plan.root / key, commands.PICTURES)

    return Shown(
        label=run.name,
        run=run,
        images=drawn,
        folder=folder(images_key(run, drawn, plan.base)),
        prompts=ROOT / commands.prompts_path(drawn.prompts),
        base_folder=folder(base_images_key(drawn)) if trainings(run) else None,
        model_flags=model_flags(run, plan.base),
        base=plan.base,
        trainings=tuple(plan.root / training_key(run.method, settings, plan.base) for settings in trainings(run)),
    )
