"""The steps that tables are made in, each once: pictures (to train on), train, images, measure, table.

steps = graph([table("rece:nudity")], Plan("toy", Path("outputs/reproduce/toy")))      # {key: Step}, by kind

A step's folder is {root}/{key}; when it is done it leaves step.json there, so that what is done is known by files. Keys name what a
step does and carry a hash of it: with other settings it is another step.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from erasure.errors import UserError
from erasure.generation.presets import PRESETS
from reproduce import commands, costs
from reproduce.commands import Command
from reproduce.costs import MODELS, Cost
from reproduce.measures import measuring
from reproduce.measures.measuring import Shown
from reproduce.models import (
    Plan,
    base_images_key,
    images_key,
    models,
    named,
    prompts_name,
    shown,
    training_key,
    trainings,
    undrawn,
)
from reproduce.models import model_name as name_of
from reproduce.tables import Run, Table, measures, methods, table

KINDS = ("pictures", "train", "images", "measure", "table")
DATA = "data"  # training pictures, in the root


@dataclass(frozen=True)
class Step:
    key: str  # kind/name
    what: str
    lines: tuple[Command, ...] = ()  # commands; of a table there are none: reproduce.tabling makes it
    needs: tuple[str, ...] = ()  # keys
    images: int = 0
    cost: Cost = Cost()
    result: str = ""  # pattern of what a training leaves in its folder
    resume: str = ""  # flag that makes it go on where it was killed

    @property
    def kind(self) -> str:
        return self.key.partition("/")[0]


def graph(tables: Iterable[Table], plan: Plan) -> dict[str, Step]:
    """{key: step} of some tables, by kind; what several tables need is there once.

    UserError for a table of which nothing can be made, or that has no counterpart on the embedded model.
    """
    if plan.base not in MODELS:
        raise UserError(f"unknown base {plan.base!r}; choose from {', '.join(MODELS)}")
    found: dict[str, Step] = {}
    for one in tables:
        own = [
            step for source in sources_of(one) for run in models(source, plan) for step in _of_run(source, run, plan)
        ]
        last = Step(table_key(one.name), f"{one.name}: {one.title}", needs=tuple(dict.fromkeys(s.key for s in own)))
        for step in [*own, last]:
            found.setdefault(step.key, step)  # it is called as by the first that needs it
    return dict(sorted(found.items(), key=lambda item: KINDS.index(item[1].kind)))


def sources_of(one: Table) -> list[Table]:
    """The tables whose numbers one consists of: its own, or those that it is computed from."""
    if one.not_here:
        raise UserError(f"{one.name} cannot be made here: {one.not_here}")
    return [table(name) for name in one.computed_from] if one.computed_from else [one]


def table_key(name: str) -> str:
    return f"table/{name.replace(':', '_')}"


def measure_key(measure: str, of: Shown, plan: Plan) -> str:
    """With what its commands are, so that another way to measure, or another place of the user's, is another step."""
    lines = [[word.replace(str(plan.root), "") for word in line] for line in _lines(measure, of, Path("out"), plan)]
    name = named(Path(of.images.prompts).stem, [prompts_name(of.images), lines])
    return f"measure/{measure}/{name_of(of.run, of.base)}/{name}"


def _lines(measure: str, of: Shown, out: Path, plan: Plan) -> list[list[str]]:
    return measuring.commands(measure, of, out, {name: Path(place) for name, place in plan.inputs.items()})


def taken(one: Table, run: Run, measure: str, plan: Plan) -> list[tuple[Shown, Path]]:
    """(pictures, folder of what was measured of them) of a run, where the table's measure wants them."""
    wanted = _wanted(one, measure, plan.embedded)
    drawn = shown(one, run, plan) if one.drawn(plan.embedded) else [undrawn(run, plan)]
    found = [entry for entry in drawn if wanted is None or entry.images.prompts in wanted]
    return [(entry, plan.root / measure_key(measure, entry, plan)) for entry in found]


def _wanted(one: Table, measure: str, embedded: bool) -> set[str] | None:
    """The prompt sets that a measure is taken of; None: all."""
    named_sets = [what.get("prompts") for _, _, what in one.parts(embedded) if what["measure"] == measure]
    if not named_sets or None in named_sets:
        return None
    return {name for names in named_sets for name in ([names] if isinstance(names, str) else names)}


# ---- steps of a run ------------------------------------------------------------------------------------------------


def _of_run(one: Table, run: Run, plan: Plan) -> Iterator[Step]:
    model: list[str] = []
    for settings in trainings(run):
        steps = _training(run, settings, plan)
        yield from steps
        model.append(steps[-1].key)
    for entry in shown(one, run, plan):
        yield _drawing(entry, model, plan)
    for measure in one.measures(plan.embedded):
        for entry, out in taken(one, run, measure, plan):
            if lines := _lines(measure, entry, out, plan):
                yield _measuring(out.relative_to(plan.root).as_posix(), measure, entry, lines, plan.base)


def _training(run: Run, settings: Mapping[str, Any], plan: Plan) -> list[Step]:
    """The steps that draw what is trained on, and the training."""
    model, method = MODELS[plan.base], methods()[run.method]
    concepts = costs.pictures(model, method.get("cost", ""), settings)
    drawn = [_concept(concept, number, plan) for concept, number in concepts.items()]
    command = commands.train(run.method, settings, plan.base)
    if drawn:
        data = str(plan.root / DATA)
        command = (f"DATA={data}", *command) if commands.is_variable(command[0]) else (*command, "--data_root", data)
    return [
        *drawn,
        Step(
            training_key(run.method, settings, plan.base),
            run.label,
            (command,),
            needs=tuple(step.key for step in drawn),
            cost=costs.training(model, method["cost"], settings),
            result=method["result"],
            resume=method.get("resume", ""),
        ),
    ]


def _concept(concept: str, number: int, plan: Plan) -> Step:
    preset = "toy-fast" if plan.embedded else "sepce"
    command = commands.pictures(concept, number, plan.base, preset, str(plan.root / DATA))
    cost = costs.images(MODELS[plan.base], number, PRESETS[preset])
    key = f"pictures/{named(concept, [concept, number, preset])}"
    return Step(key, f"base: {concept}, to train on", (command,), images=number, cost=cost)


def _drawing(of: Shown, model: Sequence[str], plan: Plan) -> Step:
    key, drawn, run = images_key(of.run, of.images, plan.base), of.images, of.run
    restored = f", {run.without} restored" if run.without and run.without not in run.label else ""
    return Step(
        key,
        f"{run.name}{restored}: {drawn.prompts} ({drawn.preset})",
        (commands.images(drawn, of.model_flags, plan.base, str(plan.root / key)),),
        needs=tuple(model),
        images=drawn.number,
        cost=costs.images(MODELS[plan.base], drawn.number, PRESETS[drawn.preset]),
    )


def _measuring(key: str, measure: str, of: Shown, lines: Sequence[Sequence[str]], base: str) -> Step:
    needs = [images_key(of.run, of.images, base)]
    if measures()[measure].get("needs_base"):
        needs.append(base_images_key(of.images))
    what = f"{measure} of {of.run.name}: {of.images.prompts}"
    return Step(key, what, tuple(("python", *line) for line in lines), tuple(dict.fromkeys(needs)))
