"""Prompt files: those made by rule of names, templates and seeds, and what is known of those that others wrote.

    python data/build_prompts.py --list
    prompt_file("generation_prompts/celebrity_50_erased.csv")       # made if it is not there yet

The first are data/prompt_rules.json (`erasure.prompt_rules`), the others are in data/sources.yaml.
"""

import os
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from erasure import prompt_rules
from erasure.errors import UserError
from erasure.runs import ROOT, find, sha256_file

SOURCES = ROOT / "data" / "sources.yaml"


def prompt_file(path: str | os.PathLike) -> Path:
    """The prompt file that `path` means: as it is, made by rule if it is one of those, or what stands in for it.

    A file that is there counts, from the working directory or the repository. One of `prompt_rules.rules` is made at
    generation_prompts/ of the repository, wherever `path` looked for it. UserError for any other; for one of `sources` it
    says where it is published, and how to know it.
    """
    found, name = find(path), Path(path).name
    source = next((s for s in sources().values() if Path(s["file"]).name == name), None)
    if found.is_file():
        if source:
            _compare(found, source)
        return found
    if rule := prompt_rules.rules().get(name):
        made = prompt_rules.place(name)
        if not made.is_file():
            prompt_rules.make(name)
            print(f"{path}: made by rule, {rule['rows']} rows -> {made}")
        return made
    if source is None:
        raise UserError(f"{path}: {'is a folder' if found.is_dir() else 'no such file'}")
    if "stand_in" in source:
        print(f"{path} is not here (data/sources.yaml): {source['stand_in']} stands in for it")
        return find(source["stand_in"])
    where = f"{source['published_in'][0]}; {source['rows']} rows, sha256 {source['sha256']}"
    raise UserError(f"{path} is not here, and is not part of this repository: copy it to {source['file']} from {where}")


def _compare(path: Path, source: Mapping[str, Any]) -> None:
    """Refuse a copy that is known to be damaged; say so if a file is not the published one."""
    sha256 = sha256_file(path)
    if reason := source.get("damaged", {}).get(sha256):
        raise UserError(f"{path}: {reason}; the whole file has sha256 {source['sha256']}")
    if sha256 != source["sha256"]:
        print(f"note: {path} is not the published file ({source['rows']} rows, sha256 {source['sha256']})")


@cache
def sources() -> dict[str, dict[str, Any]]:
    """{key: what is known of a third-party file}: file, published_in, rows, columns, sha256."""
    import yaml

    return yaml.safe_load(SOURCES.read_text(encoding="utf-8"))
