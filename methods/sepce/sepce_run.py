"""A run of SepCE or SRS_ME: from settings to bases and the objective, and from the trained edit to its selections."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import combinations
from pathlib import Path

from erasure import edits
from erasure.edits import Edit
from erasure.errors import UserError
from erasure.text_states import TextStates
from erasure.training.naming import name_part
from methods.sepce import bases, subset_suffix
from methods.sepce.command import Task
from methods.sepce.run_folder import publish
from methods.sepce.sepce import SepCE, SepceOptions
from methods.sepce.settings import SepceSettings

ALL_SUBSETS = 3  # of at most so many concepts every selection is written, as published; of more, single ones and all
_OPTIONS = ("scale_factor", "reg_beta", "reg", "balance", "momentum", "min_iter")


def objective(model, encode, settings: SepceSettings, found: list[bases.Bases]) -> SepCE:
    """Says what is protected and how much room is left, before training starts."""
    for own in found:
        print(own.report())
    options = SepceOptions(iter_break=settings.iter_break, **{name: settings[name] for name in _OPTIONS})
    return SepCE(model, encode, found, thresholds(settings), options)


def thresholds(settings: SepceSettings) -> list[float]:
    """One for each concept: those given, or the one for all. UserError for another number of them."""
    given, count = settings["thresholds"], len(settings.concepts)
    if len(given) not in (1, count):
        raise UserError(f"{len(given)} --thresholds for {count} concepts: give one for all, or one for each")
    return list(given) * count if len(given) == 1 else list(given)


def make_objective(model, encode, settings: SepceSettings) -> SepCE:
    return objective(model, encode, settings, list(solved(model, settings)))


def solved(model, settings: SepceSettings) -> Iterator[bases.Bases]:
    """The basis of every concept: read from --bases_dir, or solved for the empty prompt and all that is protected."""
    texts, encoder = TextStates.of(model), bases.encoder_id(model)
    for concept in settings.concepts:
        if settings["bases_dir"]:
            yield bases.read(file_of(settings["bases_dir"], concept), encoder, settings["max_base"])
            continue
        others = [other for other in (*settings.concepts, *settings["known"]) if other != concept]
        worded = [wording.format(other) for other in others for wording in settings["protect_as"]]
        yield bases.build(
            texts,
            concept,
            [*worded, *settings["protect"]],
            method=settings["basis"],
            tolerance=settings["tolerance"],
            encoder=encoder,
        ).limited(settings["max_base"])


def file_of(folder: str | Path, name: str) -> Path:
    """{name}.safetensors, or the published {name}.pickle where only that is there."""
    files = [Path(folder).expanduser() / f"{name_part(name)}{suffix}" for suffix in (".safetensors", ".pickle")]
    return next((file for file in files if file.is_file()), files[0])


# ---- results -------------------------------------------------------------------------------------------------------


def work(task: Task) -> list[Path]:
    """Train the concepts jointly, or each alone; write the model of all, of each, and of few concepts every selection."""
    if task.settings["mode"] == "joint":
        edit = task.train().edit
    else:
        edit = edits.compose([alone(task, j).edit for j in range(len(task.settings.concepts))])
        edits.save_run(edit, task.folder)
    report(edit)
    return [task.folder, *write_selections(task, edit)]


def alone(task: Task, j: int):
    """The run of one concept, hidden from the others, which are not trained beside it."""
    s = task.settings
    own = s.own | {"known": [*s["known"], *s.concepts[:j], *s.concepts[j + 1 :]], "thresholds": [thresholds(s)[j]]}
    own |= {"balance": "none"}
    return task.train(replace(s, concepts=(s.concepts[j],), own=own), selection_folder(task, [j]))


def report(edit: Edit) -> None:
    """Say of every concept when it stopped, or that it never did."""
    for part in edits.parts_of(edit):
        facts = part.facts
        what = f"running average {facts['momentum']:.2e}, threshold {facts['threshold']:g}"
        if facts["stopped"]:
            print(f"{part.concept!r}: stopped after {facts['steps']} steps ({what})")
        else:
            print(
                f"warning: {part.concept!r} never fell below its threshold ({what}): its term is as training left it; "
                "more --iter_break or images, or a higher --lr, may erase it"
            )


def selection_folder(task: Task, chosen: list[int]) -> Path:
    """models/...-onlykv13 beside models/...-onlykv123; with --exp_name, NAME-13."""
    everything = subset_suffix(range(len(task.settings.concepts)))
    name = task.folder.name
    stem = name.removesuffix(everything) if name == task.settings.run_name else f"{name}-"
    return task.folder.with_name(stem + subset_suffix(chosen))


def write_selections(task: Task, edit: Edit) -> list[Path]:
    """The models of some of the concepts: with the others restored."""
    count, save_format = len(edit.concepts), task.settings.save_format
    sizes = range(1, count) if count <= ALL_SUBSETS else (1,) if count > 1 else ()
    folders = []
    for chosen in (list(c) for size in sizes for c in combinations(range(count), size)):
        folder = selection_folder(task, chosen)
        kept = edits.keep(edit, [edit.concepts[j] for j in chosen])
        if task.settings["mode"] == "joint" or len(chosen) > 1:  # single runs have theirs
            edits.save_run(kept, folder)
            if save_format != "edit":
                files = tuple(folder / f"{prefix}{folder.name}.{save_format}" for prefix in ("", "compvis-"))
                publish(task.model, task.identity, kept, files)
        folders.append(folder)
    return folders
