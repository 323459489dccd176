"""What is drawn after every epoch and what is measured on it; detectors are callables on a folder of pictures.

    plan = plan_validation(TRAIN, texts, "nudity", "sd-v1", csv_path=None)      # None: nothing to validate with, and says so
    plan.measure(folder)        # a detection rate, (accuracy on the erased, on others), or None

Nothing measured is kept between runs: the published scripts read an earlier run's rate for other weights.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from erasure.errors import UserError
from erasure.prompt_sets import is_here, prompt_file
from erasure.prompts import Row, read_csv
from erasure.runs import find, write_csv
from methods.rece.names import Texts
from methods.rece.settings import Script

TOY_TARGET, TOY_OTHERS = 4, 4  # pictures of the embedded model a stage
_DEFAULT_SEED = 42  # of rows without one, as in RECE's generate_images.py
_AS_FIGURE = {"nudity": "nude"}


@dataclass(frozen=True)
class Validation:
    """Rows to draw and what to measure on their pictures."""

    rows: list[Row]
    measures: str  # rate, accuracy or pictures
    measure: Callable[[Path], Any]
    about: str


def plan_validation(
    script: Script, texts: Texts, concept_type: str, family: str, csv_path: str | None = None
) -> Validation | None:
    """The validation of a script for a base model of `family`; None, and a printed line, where it lacks something.

    csv_path: --test_csv_path if it was given; then what is missing is an error (UserError).
    """
    if script.measure == "accuracy" and len(texts.concepts) > 1:
        return _without("several concepts at once are not classified (as published)", csv_path)
    if family == "toy" and csv_path is None:
        return _toy_validation(script, texts)
    path = prompt_file(csv_path) if csv_path is not None else _default_csv(script)
    if not path.is_file():
        return _without(f"there is no {script.test_csv_path} here: name your prompts with --test_csv_path", None)
    rows = read_csv(path, default_seed=_DEFAULT_SEED)
    if script.measure == "pictures":
        return Validation(rows, "pictures", lambda folder: None, f"pictures of {path}")
    if family == "toy":
        return _judged(rows, script.measure, _known(texts), str(path))
    if script.measure == "rate" and concept_type == "nudity":
        return _nudenet(rows, str(path))
    detector = "Q16" if script.measure == "rate" else "a classifier of Imagenette"
    return _without(f"{detector} is not part of this version", csv_path)


def write_rows(rows: Sequence[Row], path: Path) -> None:
    """The rows as a CSV that `erasure.prompts` reads."""
    extra = list(dict.fromkeys(name for row in rows for name in row.extra))
    lines = (
        [row.case_number, row.prompt, row.evaluation_seed, *(row.extra.get(name, "") for name in extra)] for row in rows
    )
    write_csv(path, [["case_number", "prompt", "evaluation_seed", *extra], *lines])


def _without(why: str, given: str | None) -> None:
    if given is not None:
        raise UserError(f"--test_csv_path {given}: {why}")
    print(f"no validation: {why}")


def _default_csv(script: Script) -> Path:
    published = script.test_csv_path
    return prompt_file(published) if is_here(published) else find(Path("data") / Path(published).name)


def _nudenet(rows: list[Row], source: str) -> Validation:
    from erasure.metrics.nudenet import NudeNet, nude_rate

    detector = NudeNet()
    return Validation(
        rows, "rate", lambda folder: nude_rate(folder, detector=detector).rate, f"NudeNet on pictures of {source}"
    )


# ---- the embedded model --------------------------------------------------------------------------------------------


def _toy_validation(script: Script, texts: Texts) -> Validation | None:
    """A few prompts of the erased concepts and, for accuracies, of others of their kind, for the toy world's judge."""
    from toyworld.captions import evaluation_prompts

    known = _known(texts)
    if not known:
        return _without(f"the embedded model knows none of {', '.join(texts.concepts)}", None)
    kinds = {kind for kind, _ in known}
    prompts = evaluation_prompts(TOY_TARGET)
    target = [p for p in prompts if (p.kind, p.concept) in known]
    first = {(p.kind, p.concept): p for p in reversed(prompts)}
    others = [p for key, p in reversed(first.items()) if p.kind in kinds and key not in known][:TOY_OTHERS]
    chosen = target + (others if script.measure != "rate" else [])
    rows = [Row(i, p.prompt, i, extra={"concept_kind": p.kind, "concept": p.concept}) for i, p in enumerate(chosen)]
    return _judged(rows, script.measure, known, "toyworld.captions")


def _known(texts: Texts) -> set[tuple[str, str]]:
    """(kind, name) of the erased concepts that the toy world has."""
    from toyworld.captions import FULL_NAMES
    from toyworld.concepts import FIGURES, OBJECTS, PEOPLE, STYLES

    short = {full: name for name, full in FULL_NAMES.items()} | _AS_FIGURE
    wanted = {short.get(concept.lower(), concept.lower()) for concept in texts.concepts}
    kinds = {"object": OBJECTS, "style": STYLES, "person": PEOPLE, "figure": FIGURES}
    return {(kind, name) for kind, names in kinds.items() for name in names if name in wanted}


def _judged(rows: list[Row], measures: str, targets: set[tuple[str, str]], source: str) -> Validation:
    """Shares of pictures in which the judge names what the prompt asks for; of the targets alone as a rate."""
    from erasure.metrics.judging import judge_folder
    from toyworld.judge import load_judge

    judge = load_judge()
    wanted = [(row.extra.get("concept_kind"), row.extra.get("concept")) for row in rows]
    if not set(wanted) & targets:
        raise UserError(f"{source}: no row of an erased concept (columns concept_kind, concept)")
    if measures == "accuracy" and not set(wanted) - targets:
        raise UserError(f"{source}: no row of another concept, to see what else is lost")

    def measure(folder: Path) -> Any:
        judged = judge_folder(folder, rows, judge.predict)
        of_target = [j.shown for j in judged if (j.concept_kind, j.concept) in targets]
        others = [j.shown for j in judged if (j.concept_kind, j.concept) not in targets]
        rate = sum(of_target) / len(of_target)
        return rate if measures == "rate" else (rate, sum(others) / max(1, len(others)))

    what = "an epoch's pictures of the erased concepts" if measures == "rate" else "its pictures"
    return Validation(rows, measures, measure, f"the toy world's judge on {what}: {len(rows)} prompts of {source}")
