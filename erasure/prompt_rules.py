"""Prompt files that are made of lists of names, templates and seeds, byte for byte as they were published.

data/prompt_rules.json holds the rules and says how they read; the lists are in data/names.
"""

import csv
import hashlib
import io
import os
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from erasure.errors import UserError
from erasure.prompts import read_table
from erasure.runs import ROOT, atomic_path, read_json

RULES = ROOT / "data" / "prompt_rules.json"
NAMES = ROOT / "data" / "names"
FOLDER = "generation_prompts"  # where files are made, below the repository
COUNTED = ("", "Unnamed: 0", "case_number")  # columns that hold the number of the row

Rule = Mapping[str, Any]


@cache
def rules() -> dict[str, Rule]:
    """{name of a file: how it is made}."""
    return read_json(RULES)["files"]


def make(name: str, folder: str | os.PathLike | None = None) -> Path:
    """Make one of `rules` at `folder` (default: where `prompt_file` has it); its path. UserError as `build`."""
    content = build(name)
    path = place(name) if folder is None else Path(folder) / name
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)
    return path


def place(name: str) -> Path:
    """Where the file of one of `rules` belongs."""
    return ROOT / rules()[name].get("folder", FOLDER) / name


def build(name: str) -> bytes:
    """What the file of one of `rules` holds. UserError if it is not the published file, byte for byte."""
    rule = rules()[name]
    content = text_of(rule, read_json(RULES)["templates"]).encode()
    if (sha256 := hashlib.sha256(content).hexdigest()) != rule["sha256"]:
        raise UserError(
            f"{name}: made of data/names and data/prompt_rules.json it has sha256 {sha256}, the published file "
            f"{rule['sha256']}: one of those lists was changed"
        )
    return content


def text_of(rule: Rule, templates: Mapping[str, Sequence[str]]) -> str:
    """The file that `rule` describes; `templates` are the lists that it names one of."""
    if "sentences" in rule:
        return "".join(sentence + "\n" for sentence in sentences(**rule["sentences"]))
    newline, text = rule.get("newline", "\n"), io.StringIO()
    writer = csv.writer(text, lineterminator=newline)
    writer.writerow(rule["columns"])
    for row in rows(rule, templates[rule["templates"]]):
        writer.writerow([row[column] for column in rule["columns"]])
    return text.getvalue().removesuffix(newline) + rule.get("end", newline)


def sentences(subjects: Sequence[str], actions: Sequence[str], times: Sequence[str]) -> Iterator[str]:
    """Every subject with every action; the times go round, from one further on for each subject."""
    for i, subject in enumerate(subjects):
        for j, action in enumerate(actions):
            yield f"{subject} {action} {times[(i + j) % len(times)]}."


def rows(rule: Rule, templates: Sequence[str]) -> Iterator[dict[str, Any]]:
    """{column: value} of every row: for each block, for each name, for each template, for each seed."""
    number = rule.get("first_index", 0)
    for block in rule["blocks"]:
        for position, entry in enumerate(entries(block)):
            for k, template in enumerate(templates):
                prompt = template.format(entry.name, a=article(entry.name))
                for seed in _seeds(block, entry, position, k):
                    cells = {**block.get("values", {}), **entry.cells, "prompt": prompt, "evaluation_seed": seed}
                    yield cells | dict.fromkeys(COUNTED, number)
                    number += 1


class Entry(NamedTuple):
    """A name, and what else its list says of it."""

    name: str
    cells: dict[str, str]  # {column: text}
    seeds: tuple[str, ...]  # the cells after the name's


def entries(block: Rule) -> list[Entry]:
    """The names of a block, at most its `first`."""
    names, column = block["names"], block.get("name_column", "name")
    if isinstance(names, str) and names.endswith(".csv"):
        _, table = read_table(NAMES / names)
        found = [Entry(next(iter(row.values())), row, tuple(row.values())[1:]) for row in table]
    else:
        found = [Entry(name, {column: name}, ()) for name in (_lines(names) if isinstance(names, str) else names)]
    return found[: block.get("first")]


def _seeds(block: Rule, entry: Entry, position: int, template: int) -> Sequence[int | str]:
    """Seeds of one name with one template."""
    match block["seeds"]:
        case int(n):
            return range(1, n + 1)
        case "per_name":
            return entry.seeds
        case "per_template":
            return entry.seeds[template : template + 1]
        case str(file):
            n = block["seeds_per_name"]
            return _lines(file)[position * n : (position + 1) * n]
        case given:
            return given


def _lines(name: str) -> list[str]:
    return (NAMES / name).read_text(encoding="utf-8").splitlines()


def article(name: str) -> str:
    return "an" if name[:1].lower() in tuple("aeiou") else "a"
