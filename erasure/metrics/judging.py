"""What a folder of generated images shows, by a judge: one row an image, and a summary with intervals.

The judge comes in as a callable, so that any classifier can be one: `judge(images) -> list[dict]`, images uint8
[N, H, W, 3], each answer holding `style` and `subject` (names) and, optionally, `style_p` and `subject_p` (probabilities).
"""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from erasure.errors import UserError
from erasure.metrics.definitions import meaning
from erasure.metrics.image_folders import images_by_case
from erasure.metrics.intervals import LEVEL, Interval, wilson
from erasure.runs import write_json, write_text

Judge = Callable[[np.ndarray], list[dict]]

HEAD_OF_KIND = {"style": "style", "object": "subject", "person": "subject", "figure": "subject"}
"""Which of the judge's answers a prompt of this kind is compared with."""

_BATCH = 64


@dataclass(frozen=True)
class Judgement:
    """One image, what it should show and what the judge says it does."""

    case_number: int
    k: int  # which of the row's images
    file: str
    prompt: str
    concept_kind: str
    concept: str
    style: str
    style_p: float | None
    subject: str
    subject_p: float | None
    shown: bool  # the judge names the prompt's concept

    @property
    def answer(self) -> str:
        """What the judge said about the kind of thing that the prompt asks for."""
        return getattr(self, HEAD_OF_KIND[self.concept_kind])


def judge_folder(folder: str | os.PathLike, rows: Iterable, judge: Judge) -> list[Judgement]:
    """Judge the images `{case_number}_{k}.png` of `rows`, in the order of the rows and then of k.

    `rows` have `case_number`, `prompt` and `extra` with the columns concept_kind and concept (`erasure.prompts` reads
    them from a CSV). Images of other cases are left alone. Raises UserError for a row without the two columns or of an
    unknown kind, and for a row of which the folder holds no image.
    """
    wanted = []
    files = _images_by_case(Path(folder))
    for row in rows:
        kind, concept = _expected(row)
        images = files.get(row.case_number)
        if not images:
            raise UserError(f"{folder} holds no image of case {row.case_number} ({row.case_number}_0.png)")
        wanted += [(row, kind, concept, k, path) for k, path in images]
    answers = []
    for start in range(0, len(wanted), _BATCH):
        answers += judge(_read([item[-1] for item in wanted[start : start + _BATCH]]))
    return [
        Judgement(
            case_number=row.case_number,
            k=k,
            file=path.name,
            prompt=row.prompt,
            concept_kind=kind,
            concept=concept,
            style=answer["style"],
            style_p=answer.get("style_p"),
            subject=answer["subject"],
            subject_p=answer.get("subject_p"),
            shown=answer[HEAD_OF_KIND[kind]] == concept,
        )
        for (row, kind, concept, k, path), answer in zip(wanted, answers, strict=True)
    ]


def share_shown(judgements: Iterable[Judgement]) -> Interval:
    """Share of images in which the judge names the prompt's concept, with Wilson's interval."""
    shown = [judgement.shown for judgement in judgements]
    return wilson(sum(shown), len(shown))


def summary(judgements: Sequence[Judgement], judge_identity: dict | None = None) -> dict:
    """The scores of a folder, per kind and per concept, with the definition they rest on; ready for JSON.

    `judge_identity` says which judge it was, e.g. `{"name": ..., "sha256": ...}`.
    """
    kinds: dict[str, list[Judgement]] = {}
    concepts: dict[str, dict[str, list[Judgement]]] = {}
    for judgement in judgements:
        kinds.setdefault(judgement.concept_kind, []).append(judgement)
        concepts.setdefault(judgement.concept_kind, {}).setdefault(judgement.concept, []).append(judgement)
    return {
        "metric": meaning("judge"),
        "judge": judge_identity or {},
        "compared with": HEAD_OF_KIND,
        "interval": f"Wilson, {100 * LEVEL:.0f} %",
        "images": len(judgements),
        "n_images": len(judgements),
        "value": share_shown(judgements).as_dict() if judgements else None,
        "kinds": {kind: share_shown(items).as_dict() for kind, items in kinds.items()},
        "concepts": {
            kind: {concept: share_shown(items).as_dict() for concept, items in by_concept.items()}
            for kind, by_concept in concepts.items()
        },
    }


def write_judgements(judgements: Sequence[Judgement], csv_path: str | os.PathLike) -> None:
    """One row an image, with the fields of `Judgement` as columns."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(Judgement.__dataclass_fields__), lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(judgement) for judgement in judgements)
    write_text(csv_path, text.getvalue())


def judge_to_files(
    folder: str | os.PathLike,
    rows: Iterable,
    judge: Judge,
    csv_path: str | os.PathLike,
    json_path: str | os.PathLike,
    judge_identity: dict | None = None,
) -> list[Judgement]:
    """`judge_folder`, kept as a CSV (one row an image) and a JSON file (the summary)."""
    judgements = judge_folder(folder, rows, judge)
    write_judgements(judgements, csv_path)
    write_json(json_path, summary(judgements, judge_identity))
    return judgements


def _expected(row) -> tuple[str, str]:
    kind, concept = row.extra.get("concept_kind"), row.extra.get("concept")
    if not kind or not concept:
        raise UserError(f"case {row.case_number}: judging needs the columns concept_kind and concept")
    if kind not in HEAD_OF_KIND:
        raise UserError(f"case {row.case_number}: unknown concept_kind {kind!r}; choose from {', '.join(HEAD_OF_KIND)}")
    return kind, concept


def _images_by_case(folder: Path) -> dict[int, list[tuple[int, Path]]]:
    """Case number -> (k, file) of its images; the generator's are PNGs."""
    return {
        case: [(int(path.stem.partition("_")[2]), path) for path in images if path.suffix == ".png"]
        for case, images in images_by_case(folder).items()
    }


def _read(paths: Sequence[Path]) -> np.ndarray:
    """uint8 [N, H, W, 3]; UserError if the images differ in size or one cannot be read."""
    images = []
    for path in paths:
        try:
            with Image.open(path) as image:
                images.append(np.asarray(image.convert("RGB")))
        except OSError as error:
            raise UserError(f"{path} is not an image that can be read") from error
        if images[-1].shape != images[0].shape:
            raise UserError(f"{path} has another size than {paths[0]}")
    return np.stack(images)
