"""What eval-scripts/interference.py does, from flags to files; the embedded judge and prompts come in as arguments."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

from erasure import runs
from erasure.errors import UserError
from erasure.generation.presets import PRESET_OF_FAMILY, GenerationSettings
from erasure.generation.presets import settings as preset_settings
from erasure.metrics.judging import Judge
from erasure.prompts import Row

EMBEDDED = "embedded"
QUICK = {"sampler": "dpm", "steps": 8}  # as good on the embedded model as its preset, in a third of the calls


class Judging(NamedTuple):
    """A judge, what it is, how it calls an edit's concept, and prompts for some concepts where it brings them."""

    judge: Judge
    identity: dict[str, Any]
    name_of: Callable[[str], str] = str
    prompts: Callable[[Sequence[str]], list[Row]] | None = None


def judging(name: str | None, family: str, embedded: Callable[[], Judging]) -> Judging:
    """The judge that --judge names; on the embedded model its own is the default. UserError without one."""
    if name in (None, EMBEDDED):
        if family != "toy":
            why = "the embedded judge knows only the embedded model's world"
            raise UserError(f"{why}: give --judge PACKAGE.MODULE:FUNCTION, a function that returns (judge, identity)")
        return embedded()
    module, colon, function = name.partition(":")
    if not colon:
        raise UserError(f"--judge {name}: give embedded, or PACKAGE.MODULE:FUNCTION")
    sys.path.insert(0, "")
    try:
        made = getattr(importlib.import_module(module), function)()
        return Judging(made[0], dict(made[1]))
    except (ImportError, AttributeError, TypeError, IndexError) as error:
        raise UserError(f"--judge {name}: {error}") from None


def drawing(args: argparse.Namespace, family: str) -> GenerationSettings:
    """The family's preset, but quick on the embedded model, with what flags say."""
    given = {name: getattr(args, name) for name in ("sampler", "steps", "guidance", "image_size", "batch_size")}
    quick = QUICK if family == "toy" else {}
    return preset_settings(PRESET_OF_FAMILY[family], **quick | {k: v for k, v in given.items() if v is not None})


def read_groups(given: Sequence[Sequence[str]]):
    """A group for each time --edits was given, called after its methods."""
    from erasure.interference.members import Group, read_members

    groups = []
    for paths in given:
        members = [member for path in paths for member in read_members(path)]
        name = "+".join(dict.fromkeys(member.edit.method.upper() for member in members))
        taken = sum(group.name.partition(" (")[0] == name for group in groups)
        groups.append(Group(f"{name} ({taken + 1})" if taken else name, members))
    return groups


def run(args: argparse.Namespace, embedded: Callable[[], Judging]) -> int:
    """Read the edits, draw, judge, check, write. UserError for all that does not fit together, before anything is drawn."""
    from erasure.base_flags import load_base
    from erasure.interference import Bench, measure
    from erasure.prompts import read_csv

    groups = read_groups(args.edits)
    if args.base is None and args.ckpt_path is None:
        base = groups[0].members[0].edit.base
        args.base = base["path"] if base.get("path") and runs.find(base["path"]).exists() else None
    judged: list[Judging] = []
    model, identity = load_base(args, lambda family: judged.append(judging(args.judge, family, embedded)))
    found, s = judged[0], drawing(args, identity.family)
    concepts = list(dict.fromkeys(found.name_of(c) for group in groups for c in group.concepts))
    if args.prompts_path:
        rows = read_csv(args.prompts_path, s.default_seed)
    elif found.prompts:
        rows = found.prompts(concepts)
    else:
        raise UserError("--prompts_path: this judge brings no prompts (columns concept_kind and concept)")
    folder = Path(args.save_path)
    bench = Bench(model, identity, rows, found.judge, s, folder, found.name_of, args.force)
    resolved = {
        "groups": {group.name: group.concepts for group in groups},
        "base": identity.to_dict(),
        "judge": found.identity,
        "prompts": args.prompts_path or f"{len(rows)} of the embedded world",
        "pictures": asdict(s),
        "save_path": str(folder),
    }
    runs.print_settings(resolved)
    for group in groups:
        bench.targets(group)  # says what lacks a prompt before anything is drawn
    runs.write_json(folder / "settings.json", resolved | {"flags": vars(args), "versions": runs.versions()})
    present([measure(bench, group) for group in groups], folder, "Do these edits get in each other's way?",
            facts(identity, s, found.identity))  # fmt: skip
    return 0


def facts(identity, s: GenerationSettings, judge: dict[str, Any]) -> dict[str, str]:
    """For the foot of the report."""
    return {
        "base model": f"{identity.name} ({identity.sha256[:12]})",
        "pictures": f"{s.sampler.upper()}, {s.steps} steps, guidance {s.guidance:g}",
        "judge": f"{judge.get('name', 'given')} ({str(judge.get('sha256', ''))[:12]})",
        "torch": runs.versions().get("torch", "-"),
    }


def present(groups, folder: Path, title: str, said: dict[str, str]):
    """Write the report, print its table, the ways back and where the files are; returns the report."""
    from erasure.interference.presenting import report, ways_back, write
    from erasure.report import text_table

    subtitle = (
        "The same prompts and seeds in the base model, with each edit alone, with all together and with all but one; "
        "a judge names what every picture shows. What should be gone is framed in the matrices."
    )
    shown = report(groups, title, subtitle, said)
    paths = write(groups, shown, folder)
    print(f"\nHow often the judge recognises what the prompt names, with 95 % intervals\n\n{text_table(shown)}\n")
    print(ways_back(groups) + "\n")
    print(*paths, sep="\n")
    return shown
