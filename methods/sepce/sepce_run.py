"""A run of SepCE or SRS_ME: from settings to bases and the objective, and from the trained edit to its selections."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import torch

from erasure import edits
from erasure.edits import Edit
from erasure.errors import UserError
from erasure.text_states import TextStates
from erasure.training.naming import name_part
from erasure.training.run_folder import base_difference
from methods.sepce import WRITERS, bases, subset_suffix
from methods.sepce.bases_command import file_of
from methods.sepce.command import Task
from methods.sepce.objectives.sepce import UNSEEN, SepCE, SepceOptions, passing
from methods.sepce.run_folder import publish, weights_files
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
        others = [other for other in (*settings.concepts, *settings["known"]) if other != concept]
        worded = [wording.format(other) for other in others for wording in settings["protect_as"]]
        protected = [*worded, *settings["protect"]]
        if settings["bases_dir"]:
            found = read_for(concept, file_of(settings["bases_dir"], concept), encoder, settings["max_base"])
            warn_of_unprotected(found, texts, protected)
        else:
            how = dict(method=settings["basis"], tolerance=settings["tolerance"], encoder=encoder)
            found = bases.build(texts, concept, protected, **how).limited(settings["max_base"])
        yield found


def read_for(concept: str, file: Path, encoder: str, max_base: int | None) -> bases.Bases:
    """Bases of a file for a concept. UserError if they are another's; a pickle stream does not say whose it is."""
    found = bases.read(file, encoder, max_base)
    if found.prompts and found.concept != concept:
        raise UserError(f"{file}: the basis of {found.concept!r}, not of {concept!r}")
    return replace(found, concept=concept)


def warn_of_unprotected(found: bases.Bases, texts: TextStates, wanted: Sequence[str]) -> None:
    """Say which prompts that are to be protected see more of a term than its basis lets pass."""
    allowed = max(UNSEEN, 1.01 * (found.leak or 0))
    seeing = [text for text in dict.fromkeys(["", *wanted]) if passing(texts[text].states, found) > allowed]
    if seeing:
        print(
            f"warning: the basis of {found.concept!r} was not solved for {', '.join(map(repr, seeing))}, which will see its term"
        )


# ---- results -------------------------------------------------------------------------------------------------------


def work(task: Task) -> list[Path]:
    """Train the concepts jointly, or each alone; write the model of all, of each, and of few concepts every selection."""
    everything = list(range(len(task.settings.concepts)))
    separate = task.settings["mode"] == "separate" and len(everything) > 1
    single = [settings_of_one(task, j) for j in everything] if separate else []
    if not task.arguments.force:
        check_folders(task, single)
    if separate:
        runs = [task.train(own, selection_folder(task, [j])) for j, own in enumerate(single)]
        edit = edits.compose([run.edit for run in runs])
        write_model(task, edit, task.folder)
    else:
        edit = task.train().edit
    report(edit)
    folders = [selection_folder(task, chosen) for chosen in selections(task)]
    for chosen, folder in zip(selections(task), folders, strict=True):
        if not separate or len(chosen) > 1:  # single runs have theirs
            write_model(task, edits.keep(edit, [edit.concepts[j] for j in chosen]), folder)
    return [task.folder, *folders]


def settings_of_one(task: Task, j: int) -> SepceSettings:
    """The run of one concept, hidden from the others, which are not trained beside it."""
    s = task.settings
    own = s.own | {"known": [*s.concepts[:j], *s.concepts[j + 1 :], *s["known"]], "thresholds": [thresholds(s)[j]]}
    return replace(s, concepts=(s.concepts[j],), own=own | {"balance": "none"})


def report(edit: Edit) -> None:
    """Say of every concept when it stopped, or that it never did."""
    for part in edits.parts_of(edit):
        facts = part.facts
        what = f"running average {facts['momentum']:.2e}, threshold {facts['threshold']:g}"
        if facts["stopped"]:
            print(f"{part.concept!r}: stopped after {facts['steps']} steps ({what})")
        else:
            print(
                f"warning: {part.concept!r} was not stopped by its rule, but by the end of training after {facts['steps']} "
                f"steps ({what}): its term is as training left it; more --iter_break or images, or a higher --lr, may erase it"
            )


# ---- selections ----------------------------------------------------------------------------------------------------


def selections(task: Task) -> list[list[int]]:
    """Which of the concepts each further model erases, the others being restored."""
    count = len(task.settings.concepts)
    sizes = range(1, count) if count <= ALL_SUBSETS else (1,)
    return [list(chosen) for size in sizes for chosen in combinations(range(count), size)]


def selection_folder(task: Task, chosen: list[int]) -> Path:
    """models/...-onlykv13 beside models/...-onlykv123; with --exp_name, NAME-13."""
    everything = subset_suffix(range(len(task.settings.concepts)))
    name = task.folder.name
    stem = name.removesuffix(everything) if name == name_part(task.settings.run_name) else f"{name}-"
    return task.folder.with_name(stem + subset_suffix(chosen))


def write_model(task: Task, edit: Edit, folder: Path) -> None:
    """The folder of a model that no run trains: its edit, and the published files that are wanted. What is there already
    stays; files made of another edit go first."""
    there, save_format = folder / "edit.safetensors", task.settings.save_format
    if not (edits.is_edit(there) and same(edits.read(there), edit)):
        for file in (file for suffix in WRITERS[1:] for file in weights_files(folder, suffix)):
            file.unlink(missing_ok=True)
        edits.save_run(edit, folder)
    if save_format != "edit":
        publish(task.model, task.identity, edit, weights_files(folder, save_format))


def same(one: Edit, other: Edit) -> bool:
    facts = [(e.method, e.concepts, e.settings, e.base, e.kind, e.tensors.keys()) for e in (one, other)]
    return facts[0] == facts[1] and all(
        torch.equal(tensor, other.tensors[name]) for name, tensor in one.tensors.items()
    )


def check_folders(task: Task, single: Sequence[SepceSettings]) -> None:
    """UserError, before anything is trained, if a folder that is to be written holds a model of another run.

    single: settings of the runs of one concept each, or () where all are trained jointly.
    """
    everything = list(range(len(task.settings.concepts)))
    for chosen in (everything, *selections(task)):
        folder = task.folder if chosen == everything else selection_folder(task, chosen)
        wanted = [single[j] if single else task.settings for j in chosen]
        found = difference(folder, [task.settings.concepts[j] for j in chosen], wanted, task.identity)
        if not found and not single and chosen != everything and (folder / "checkpoint.safetensors").is_file():
            found = "of a run that was stopped"
        if found:
            raise UserError(
                f"{folder} holds another model ({found}): --force replaces it, --exp_name and --save_path put this one "
                "elsewhere"
            )


def difference(folder: Path, concepts: list[str], wanted: Sequence[SepceSettings], identity) -> str:
    """What makes the model of a folder another one than that of `concepts`, one of `wanted` each; empty if nothing does."""
    file = folder / "edit.safetensors"
    if not edits.is_edit(file):
        return ""
    header = edits.read_header(file)
    if header["concepts"] != concepts or header["kind"] != edits.SEPARABLE:
        return f"{header['method']} of {', '.join(header['concepts'])}"
    found = base_difference(identity.to_dict(), header["base"])
    for entry, settings in zip(header["settings"]["parts"], wanted, strict=True):
        found += settings.differences(entry.get("run", header["settings"]))
    return "; ".join(dict.fromkeys(found))
