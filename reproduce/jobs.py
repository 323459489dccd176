"""What it takes to make a table anew: models to train, images to draw, measures to take, each job once."""

import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from erasure.base_models import NAMES
from erasure.errors import UserError
from erasure.generation.presets import PRESETS
from reproduce.costs import MODELS, Cost, Model, images, pictures, training
from reproduce.tables import Images, Run, Table, measures, methods, table


@dataclass(frozen=True)
class Job:
    kind: str  # train, images or measure
    what: str
    command: tuple[str, ...] = ()  # of train: as it is given to a shell
    images: int = 0
    cost: Cost = Cost()


def jobs_of(tables: Iterable[Table], base: str) -> list[Job]:
    """The jobs of some tables on a base of `costs.MODELS`; what several of them need is there once.

    UserError for a table of which nothing can be made, or that has no counterpart on the embedded model.
    """
    if base not in MODELS:
        raise UserError(f"unknown base {base!r}; choose from {', '.join(MODELS)}")
    found: dict[Any, Job] = {}
    for one in tables:
        for source in _sources(one):
            found |= _of_table(source, base)
    return sorted(found.values(), key=lambda job: ("train", "images", "measure").index(job.kind))


def _sources(one: Table) -> list[Table]:
    if one.not_here:
        raise UserError(f"{one.name} cannot be made here: {one.not_here}")
    return [table(name) for name in one.computed_from] if one.computed_from else [one]


def _of_table(one: Table, base: str) -> dict[Any, Job]:
    """{what tells a job apart: it}."""
    model, embedded = MODELS[base], base == "toy"
    if embedded and not one.embedded:
        raise UserError(f"{one.name} has no counterpart on the embedded model; it is made with --base sd-v1-4")
    found: dict[Any, Job] = {}
    for run in one.models(embedded):
        commands = _trainings(run, base)
        found |= _pictures(run, model)
        found |= {command: Job("train", run.label, command, cost=cost) for command, cost in commands.items()}
        for drawn in one.drawn(embedded):
            key = (*commands, run.state, run.without, drawn)
            found[key] = _drawing(run, drawn, model)
    for measure in one.measures(embedded):
        script = measures()[measure].get("script")
        found[measure] = Job("measure", f"{measure}: {measures()[measure]['about']}", (script,) if script else ())
    return found


def _trainings(run: Run, base: str) -> dict[tuple[str, ...], Cost]:
    method = methods()[run.method]
    if "script" not in method:
        return {}
    return {
        command_of(run.method, dict(settings), base): training(MODELS[base], method["cost"], dict(settings))
        for settings in run.trainings
    }


def _pictures(run: Run, model: Model) -> dict[Any, Job]:
    """What the base model draws for a method that trains on images."""
    drawn = PRESETS[model.preset]
    return {
        ("pictures", concept): Job("images", f"base: {concept}, to train on", images=n, cost=images(model, n, drawn))
        for settings in run.trainings
        for concept, n in pictures(model, methods()[run.method].get("cost", ""), dict(settings)).items()
    }


def _drawing(run: Run, drawn: Images, model: Model) -> Job:
    restored = f", {run.without} restored" if run.without and run.without not in run.label else ""
    return Job(
        "images",
        f"{run.name}{restored}: {drawn.prompts} ({drawn.preset})",
        images=drawn.number,
        cost=images(model, drawn.number, PRESETS[drawn.preset]),
    )


def command_of(method: str, settings: Mapping[str, Any], base: str) -> tuple[str, ...]:
    """The command line of a training: flags are the settings; names in capitals are variables of a shell script."""
    script, place = methods()[method]["script"], NAMES[base][0]
    variables = {name: value for name, value in settings.items() if name.isupper()}
    flags = [word for name, value in settings.items() if not name.isupper() for word in _flag(name, value)]
    if script.endswith(".sh"):
        return (*(f"{name}={value}" for name, value in {"BASE": place, **variables}.items()), "sh", script, *flags)
    return ("python", script, *flags, "--ckpt_path", place)


def _flag(name: str, value: Any) -> tuple[str, ...]:
    return (f"--{name}",) if value is True else (f"--{name}", str(value))


def shell_line(command: tuple[str, ...]) -> str:
    """A command as it is typed."""
    return " ".join(
        f"{word.partition('=')[0]}={shlex.quote(word.partition('=')[2])}" if _is_variable(word) else shlex.quote(word)
        for word in command
    )


def _is_variable(word: str) -> bool:
    name, equals, _ = word.partition("=")
    return bool(equals) and name.isupper()
