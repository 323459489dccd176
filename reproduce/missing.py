"""What a plan needs of the user and does not find: base weights, prompt sets, weights of metrics, COCO's pictures. Imports no torch."""

import contextlib
import io
from collections.abc import Iterator, Mapping
from pathlib import Path

from erasure import prompt_rules
from erasure.errors import UserError
from erasure.needs import NEEDS, commands
from erasure.prompt_sets import prompt_file, sources
from erasure.runs import ROOT
from reproduce.models import Plan
from reproduce.steps import Step
from reproduce.tables import measures


def missing(steps: Mapping[str, Step], plan: Plan) -> list[str]:
    """A line for each thing, with what to do about it, as the commands themselves would say it. Makes nothing."""
    with contextlib.redirect_stdout(io.StringIO()):  # what is found is no news here
        return list(dict.fromkeys([*_files(steps, plan), *_prompts(steps), *_places(steps, plan)]))


def _files(steps: Mapping[str, Step], plan: Plan) -> Iterator[str]:
    known = commands()
    scripts = {word for step in steps.values() for line in step.lines for word in line if word in known}
    needed = {name for script in scripts for name in known[script].needs if name != "toy"}
    for name in sorted({plan.base, *needed}):
        if (found := NEEDS[name].look(hashes=False)).state == "missing":
            yield found.text


def _prompts(steps: Mapping[str, Step]) -> Iterator[str]:
    """Those that images are drawn of, and others that are the user's to bring, as the pairs of Ring-A-Bell."""
    drawn = [line for step in steps.values() if step.kind == "images" for line in step.lines]
    brought = {source["file"] for source in sources().values()}
    named = [word for step in steps.values() for line in step.lines for word in line if word in brought]
    for path in dict.fromkeys([*(line[line.index("--prompts_path") + 1] for line in drawn), *named]):
        if Path(path).name in prompt_rules.rules():  # made when they are drawn
            continue
        try:
            prompt_file(path)
        except UserError as error:
            yield str(error)


def _places(steps: Mapping[str, Step], plan: Plan) -> Iterator[str]:
    """The user's own folders, which measures compare with."""
    used = {step.key.split("/")[1] for step in steps.values() if step.kind == "measure"}
    inputs = {measures()[name]["input"]: measures()[name]["place"] for name in used if "input" in measures()[name]}
    for name, place in inputs.items():
        path = Path(plan.inputs.get(name, ROOT / place))
        if not path.exists():
            yield f"no folder {place}, which FID compares with: name yours by --{name}"
