"""Which prompt a picture was drawn from: by the list that was written with it, else by its file name.

    found = match("generated_images/celeb_50/.../erased")                    # its index.csv or manifest.json
    found = match("coco", "generation_prompts/coco_30k.csv")                 # file names against the CSV's prompts

CPE's script took the first prompt that is a part of the file name. Here the whole prompt has to be the name's, so that "a cat"
is not found in `a_cat_on_a_mat_1_0.png`, and what is not found is listed. Imports no torch.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from erasure import runs
from erasure.errors import UserError
from erasure.metrics.image_folders import images_in
from erasure.prompt_sets import prompt_file
from erasure.prompts import Row, read_csv, read_table

INDEX, MANIFEST = "index.csv", "manifest.json"
_SHORT = 20  # characters of a prompt in the names of CPE's explicit images


@dataclass(frozen=True)
class ImagePrompt:
    """A picture and the text it was drawn from."""

    file: Path
    prompt: str


@dataclass
class Match:
    """Pictures with a prompt, those without, and files that a list names but the folder lacks; `source` is where it was read."""

    source: str
    pairs: list[ImagePrompt] = field(default_factory=list)
    unmatched: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)

    def problems(self) -> list[str]:
        """A line for each kind of picture that is not measured."""
        lines = []
        if self.unmatched:
            lines.append(f"{len(self.unmatched)} images match no prompt of {self.source}, e.g. {self.unmatched[0]}")
        if self.missing:
            lines.append(f"{len(self.missing)} images of {self.source} are not there, e.g. {self.missing[0]}")
        return lines


def match(folder: str | os.PathLike, prompts_path: str | os.PathLike | None = None) -> Match:
    """The prompts of the pictures of a folder: of its index.csv, else its manifest.json, else by file names.

    prompts_path: CSV with the prompts that count; needed where the folder has no list. UserError if no picture has a prompt.
    """
    folder = Path(folder)
    images = images_in(folder)
    table = prompt_file(prompts_path) if prompts_path else None
    rows = read_csv(table, default_seed=0) if table else None
    listed = listed_prompts(folder)
    if listed is not None:
        source, prompts = listed
        found = _by_list(images, folder, source, prompts, rows)
    elif rows is None:
        raise UserError(f"{folder} has no {INDEX} or {MANIFEST}: name the CSV of its prompts with --prompts_path")
    else:
        found = _by_name(images, str(prompts_path), NameTable(rows, _has_seeds(table)))
    if not found.pairs:
        raise UserError(f"no image of {folder} matches a prompt of {prompts_path or found.source}")
    return found


# ---- lists ---------------------------------------------------------------------------------------------------------


def listed_prompts(folder: Path) -> tuple[str, Mapping[str, str]] | None:
    """(name of the list, file -> prompt) of a folder's index.csv, else its manifest.json; None without. UserError for others."""
    if (folder / INDEX).is_file():
        header, rows = read_table(folder / INDEX)
        if not {"file", "prompt"} <= set(header):
            raise UserError(f"{folder / INDEX}: no columns file and prompt; it has {', '.join(header)}")
        return INDEX, {row["file"]: row["prompt"] for row in rows}
    if (folder / MANIFEST).is_file():
        try:
            images = runs.read_json(folder / MANIFEST)["images"]
            return MANIFEST, {file: record["prompt"] for file, record in images.items()}
        except (ValueError, KeyError, TypeError, AttributeError):
            raise UserError(f"{folder / MANIFEST} is not a list of generated images") from None
    return None


def _by_list(
    images: list[Path], folder: Path, source: str, prompts: Mapping[str, str], rows: list[Row] | None
) -> Match:
    wanted = None if rows is None else {row.prompt for row in rows}
    found = Match(source)
    for path in images:
        prompt = prompts.get(path.name)
        if prompt is None or (wanted is not None and prompt not in wanted):
            found.unmatched.append(path.name)
        else:
            found.pairs.append(ImagePrompt(path, prompt))
    there = {path.name for path in images}
    found.missing = [file for file in prompts if file not in there and not (folder / file).is_file()]
    return found


# ---- names ---------------------------------------------------------------------------------------------------------


def _by_name(images: list[Path], source: str, table: NameTable) -> Match:
    found = Match(source)
    for path in images:
        prompt = table.prompt_of(path.stem)
        if prompt is None:
            found.unmatched.append(path.name)
        else:
            found.pairs.append(ImagePrompt(path, prompt))
    return found


def _has_seeds(prompts_path: Path) -> bool:
    from erasure.prompts import ALIASES

    return bool({*read_table(prompts_path)[0]} & {*ALIASES["evaluation_seed"]})


class NameTable:
    """The prompts of a CSV by what the published generators made of them in file names.

    {case_number}_{k}; {prompt}_{seed}_{k} (CPE); {prompt}_{seed} (MACE); {case_number}_{first 20 characters}_{seed}_{k} (CPE,
    explicit). A blank, "-", "_" and "/" count as the same. seeded: the rows' seeds are real ones, which must be the name's
    if that prompt has a row with it.
    """

    def __init__(self, rows: Iterable[Row], seeded: bool = True):
        self.seeded = seeded
        self.by_case: dict[int, Row] = {}
        self.by_prompt: dict[str, list[Row]] = {}
        self.by_start: dict[str, list[Row]] = {}
        for row in rows:
            self.by_case[row.case_number] = row
            self.by_prompt.setdefault(key(row.prompt), []).append(row)
            self.by_start.setdefault(key(row.prompt[:_SHORT].replace("/", "")), []).append(row)

    def prompt_of(self, stem: str) -> str | None:
        """The prompt of a file name without suffix; None if there is none, or if it could be of several."""
        if plain := re.fullmatch(r"(\d+)_\d+", stem):
            row = self.by_case.get(int(plain[1]))
            return row.prompt if row else None
        weak = None
        for text, seed in _readings(stem):
            rows = self.by_prompt.get(key(text), [])
            with_seed = [row for row in rows if self.seeded and row.evaluation_seed == seed]
            prompt = _the_one(with_seed or rows, text)
            if with_seed:
                return prompt
            weak = weak or prompt
        return weak or self._of_short_name(stem)

    def _of_short_name(self, stem: str) -> str | None:
        if not (short := re.fullmatch(r"(\d+)_(.*)_(\d+)_\d+", stem, re.DOTALL)):
            return None
        rows = self.by_start.get(key(short[2]), [])
        # the number in front is the case's; published it was the same for all, and the seed has to tell
        own = [row for row in rows if row.case_number == int(short[1])]
        exact = [row for row in own or rows if row.evaluation_seed == int(short[3])]
        return _the_one(exact if self.seeded else own, short[2])


def key(text: str) -> str:
    """A text as it looks in any of the published file names."""
    return re.sub(r"[ \-/]", "_", re.sub(r"[\r\n]", "", text))


def _readings(stem: str) -> Iterator[tuple[str, int | None]]:
    """(prompt, seed) that a name can stand for, the longer prompt first where both are without a seed's support."""
    for pattern in (r"(.*)_(\d+)", r"(.*)_(\d+)_\d+"):
        if read := re.fullmatch(pattern, stem, re.DOTALL):  # published names kept newlines
            yield read[1], int(read[2])
    yield stem, None


def _the_one(rows: list[Row], text: str) -> str | None:
    """The prompt of rows that agree; of several, the one that the name spells exactly."""
    prompts = {row.prompt for row in rows}
    if len(prompts) > 1:
        prompts = {p for p in prompts if text in (p, p.replace(" ", "_"), p.replace(" ", "-"))}
    return prompts.pop() if len(prompts) == 1 else None
