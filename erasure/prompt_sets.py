"""Prompt files: those made by rule of names, templates and seeds, and what is known of those that others wrote.

    python data/build_prompts.py --list
    python data/import_prompts.py --list
    prompt_file("generation_prompts/celebrity_50_erased.csv")       # made if it is not there yet
    prompt_file("data/unsafe-prompts4703.csv")                      # I2P, wherever it was imported to

The first are data/prompt_rules.json (`erasure.prompt_rules`), the others are in data/sources.yaml (`erasure.prompt_imports`).
"""

import os
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from erasure import prompt_rules
from erasure.errors import UserError
from erasure.runs import ROOT, find, sha256_file

SOURCES = ROOT / "data" / "sources.yaml"
EMBEDDED = ROOT / "generation_prompts" / "embedded"
OWN = (EMBEDDED, ROOT / "data" / "attacks")  # our own small sets, some under the names of those they stand for

Source = Mapping[str, Any]


def prompt_file(path: str | os.PathLike) -> Path:
    """The prompt file that `path` means: as it is, made by rule if it is one of those, or what stands in for it.

    A file that is there counts, from the working directory or the repository. One of `prompt_rules.rules` is made at
    generation_prompts/ of the repository, wherever `path` looked for it; one of `sources` is found where it was imported to.
    UserError for any other; for one of `sources` it says where it is published, how to know it, and how to bring it in.
    """
    found, name = find(path), Path(path).name
    known = called(name)
    if found.is_file():
        if known and not any(found.resolve().is_relative_to(folder) for folder in OWN):
            _compare(found, known.values())
        return found
    if rule := prompt_rules.rules().get(name):
        made = prompt_rules.place(name)
        if not made.is_file():
            prompt_rules.make(name)
            print(f"{path}: made by rule, {rule['rows']} rows -> {made}")
        return made
    if not known:
        raise UserError(f"{path}: {'is a folder' if found.is_dir() else 'no such file'}")
    key, source = next(iter(known.items()))
    if (here := find(source["file"])).is_file():
        print(f"{path}: the imported {key} is used, {here}")
        _compare(here, [source])
        return here
    if "stand_in" in source:
        print(f"{path} is not here (data/sources.yaml): {source['stand_in']} stands in for it")
        return find(source["stand_in"])
    raise UserError(f"{path} is not here, and is not part of this repository: {how_to_import(key)}")


def is_here(path: str | os.PathLike) -> bool:
    """Whether the file is there, or the set that it means was imported: `prompt_file` has nothing to make or to miss."""
    places = [path, *(source["file"] for source in called(Path(path).name).values())]
    return any(find(place).is_file() for place in places)


def called(name: str) -> dict[str, Source]:
    """Those of `sources` that commands ask for by a file name."""
    return {
        key: source
        for key, source in sources().items()
        if name in (Path(source["file"]).name, *source.get("also", ())) and not source.get("shipped")
    }


def how_to_import(key: str) -> str:
    """Where the published file of `key` is, how to know it, and the command that brings it in: the end of a sentence."""
    source = sources()[key]
    known_by = f"{source['rows']} rows" + (f", sha256 {source['sha256']}" if "sha256" in source else "")
    parent = source.get("from", {}).get("of")
    made = f", or import {parent}, which it is made of" if parent else ""
    return (
        f"python data/import_prompts.py {key} FILE puts it at {source['file']}{made}; "
        f"FILE is a copy of {source['published_in'][0]}; {known_by}"
    )


def _compare(path: Path, known: Iterable[Source]) -> None:
    """Refuse a copy that is known to be damaged; say so if a file is none of the published ones."""
    known, sha256 = list(known), sha256_file(path)
    for source in known:
        if reason := source.get("damaged", {}).get(sha256):
            raise UserError(f"{path}: {reason}; the whole file has sha256 {source['sha256']}")
    wanted = [source for source in known if "sha256" in source]
    if wanted and sha256 not in [source["sha256"] for source in wanted] and "layout" not in wanted[0]:
        print(f"note: {path} is not the published file ({wanted[0]['rows']} rows, sha256 {wanted[0]['sha256']})")


@cache
def sources() -> dict[str, dict[str, Any]]:
    """{key: what is known of a third-party file}: file, published_in, rows, columns, sha256, ... as data/sources.yaml says."""
    import yaml

    return yaml.safe_load(SOURCES.read_text(encoding="utf-8"))
