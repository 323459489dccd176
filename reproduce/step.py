"""Runs one step of a plan: its commands, in its folder, with the results of the steps that it needs filled in.

python reproduce/step.py outputs/reproduce/toy/plan.json train/uce_van_gogh-0f1c2d3e

reproduce/run.py writes the plan, and Snakemake calls this for every step. What is done leaves step.json: how long it took, or why a
measure or images could not be had (a file of the user's that is missing). Such a why is passed on to the steps that need it.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from erasure import errors, runs
from erasure.errors import UserError
from erasure.runs import ROOT
from reproduce import locks
from reproduce.commands import is_variable
from reproduce.models import Plan
from reproduce.steps import Step

_REFERENCE = re.compile(r"@\{(train/[^:}]+):([^}]*)\}")
# how commands of the repository end, and what they say, if the user can put it right
_USER_ERROR, _MISTAKE = 2, "error: "
LOCKS = ".locks"  # folder in the root


@dataclass(frozen=True)
class Planned:
    """A plan as it is kept in a file, so that every process works on the same one."""

    plan: Plan
    steps: Mapping[str, Mapping[str, Any]]

    def folder(self, key: str) -> Path:
        return self.plan.root / key

    def record(self, key: str) -> dict[str, Any]:
        """What a step left. UserError for one that is not done."""
        path = self.plan.record(key)
        if not path.is_file():
            raise UserError(f"{key} is not done yet: {path} is missing")
        return runs.read_json(path)

    def results(self, key: str, state: str = "") -> list[Path]:
        """The files or folders that a training left; of several, those whose name ends in the state. UserError if it left none."""
        record = self.record(key)
        if "results" not in record:
            raise UserError(record.get("why") or f"{key} is no training")
        return [self.folder(key) / name for name in record["results"] if name.endswith(state)]

    def filled(self, word: str) -> str:
        """A word of a command with the results of trainings in place of their keys. UserError for what is not one."""
        return _REFERENCE.sub(lambda found: str(self._result(found[1], found[2])), word)

    def _result(self, key: str, state: str) -> Path:
        found = self.results(key, state)
        if len(found) != 1:
            raise UserError(f"{self.folder(key)}: the training left {len(found)} results of {state or 'it'}, not one")
        return found[0]


def write_plan(path: Path, plan: Plan, steps: Mapping[str, Step]) -> None:
    kept = {key: {k: v for k, v in asdict(step).items() if k not in ("key", "cost")} for key, step in steps.items()}
    runs.write_json(path, {"base": plan.base, "root": plan.root, "inputs": dict(plan.inputs), "steps": kept})


def read_plan(path: Path) -> Planned:
    data = runs.read_json(path)
    return Planned(Plan(data["base"], Path(data["root"]), data["inputs"]), data["steps"])


def run_step(planned: Planned, key: str, processes: int = 1) -> None:
    """Run a step and leave its record. UserError for a command that failed for anything but a missing file of the user's."""
    step, kind, folder = planned.steps[key], key.partition("/")[0], planned.folder(key)
    missing = next((why for need in step["needs"] if (why := planned.record(need).get("why"))), None)
    start, record = time.time(), {}
    if kind == "table":
        from reproduce import tabling

        tabling.make(planned, key)
    elif missing:
        record["why"] = missing
    elif kind == "train":
        record["results"] = _train(planned, step, folder)
    else:
        folder.mkdir(parents=True, exist_ok=True)
        record["why"] = next((why for line in step["lines"] if (why := _run(planned, line, folder, processes))), None)
    seconds = round(time.time() - start, 2)
    facts = {"step": key, "commands": step["lines"], "needs": step["needs"], "seconds": seconds}
    runs.write_json(planned.plan.record(key), facts | record)


# ---- commands ------------------------------------------------------------------------------------------------------


def _train(planned: Planned, step: Mapping[str, Any], folder: Path) -> list[str]:
    """Train where nothing else is, going on if a killed run left something to go on from; returns what there is then."""
    (line,) = step["lines"]
    # a method of several trainings has begun before its result is there
    if step["resume"] and any(path.is_file() for path in folder.rglob("*")):
        why = _run(planned, [*line, step["resume"]], folder)
        if why is None:
            return _left(folder, step["result"])
        if any(folder.rglob("checkpoint*")):  # work that a full disk, say, is no reason to lose
            raise UserError(f"{why} (or remove {folder}, to start again)")
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "models").mkdir(parents=True)  # where it is, methods put their runs into it
    if why := _run(planned, line, folder):
        raise UserError(why)
    return _left(folder, step["result"])


def _left(folder: Path, pattern: str) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.glob(pattern) if not path.name.startswith("."))


def _run(planned: Planned, line: Sequence[str], folder: Path, processes: int = 1) -> str | None:
    """Run a command of the repository in a folder; returns what it says is the user's to put right, or None.

    UserError, with the last line that it wrote, if it failed otherwise.
    """
    words = [planned.filled(word) for word in line]
    variables = dict(word.split("=", 1) for word in words if is_variable(word))
    program = words[len(variables) :]
    command = [*_program(program, processes)]
    print("+", *command, flush=True)
    environment = {**os.environ, **variables, "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1")}
    last = mistake = ""
    with locks.gpus_of_its_own(planned.plan.root / LOCKS, processes) as own:
        with subprocess.Popen(command, cwd=folder, env=environment | own, stderr=subprocess.PIPE, text=True) as process:
            for text in process.stderr:
                sys.stderr.write(text)
                last = text.strip() or last
                mistake = text.strip() if text.startswith(_MISTAKE) else mistake
    spread = "torch.distributed.run" in command  # which ends with 1 and a summary, whatever its processes end with
    if mistake and (process.returncode == _USER_ERROR or (process.returncode and spread)):
        return mistake.removeprefix(_MISTAKE)
    if process.returncode:  # a flag that does not exist is one of these: the plan is wrong
        raise UserError(f"{' '.join(program[:2])} ended with {process.returncode}: {last}")
    return None


def _program(words: Sequence[str], processes: int) -> Iterator[str]:
    """Our scripts by this Python, whatever the folder; images by so many processes of it."""
    program, script, *arguments = words
    yield from [sys.executable] if program == "python" else [program]
    if processes > 1 and Path(script).name.startswith("generate-"):
        yield from ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes))
    yield from (str(ROOT / script), *arguments)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="step.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("plan", type=Path, help="the file that reproduce/run.py wrote")
    parser.add_argument("step", help="the key of a step")
    parser.add_argument(
        "--processes", type=int, default=1, help="that images of a step are spread over (default: %(default)s)"
    )
    args = parser.parse_args()
    planned = read_plan(args.plan)
    if args.step not in planned.steps:
        raise UserError(f"{args.plan} has no step {args.step!r}")
    lock = planned.plan.root / LOCKS / args.step.replace("/", "_")
    with locks.held(lock, f"{args.step}: another process is at work on it"):
        run_step(planned, args.step, args.processes)


if __name__ == "__main__":
    errors.run(main)
