"""Runs a plan by Snakemake, with a bar of the steps that are done; what is done stays done, so that the same command goes on."""

import importlib.util
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from erasure import runs
from erasure.errors import UserError
from reproduce import locks
from reproduce.models import Plan
from reproduce.step import write_plan
from reproduce.steps import Step

SNAKEFILE = Path(__file__).resolve().parent / "Snakefile"
PLAN_FILE = "plan.json"
_NO_LIMIT = 1000  # without a GPU, steps share the cores
_LOG_LINES = 5  # of a step that failed


def check() -> None:
    """UserError where Snakemake cannot be run."""
    if importlib.util.find_spec("snakemake") is None:
        raise UserError(
            "snakemake is not installed (it needs Python 3.11 or newer): sh shell_scripts/setup.sh, or add --dry-run"
        )


def run(plan: Plan, steps: Mapping[str, Step], cores: int, processes: int, more: Sequence[str]) -> dict[str, str]:
    """Do the steps that are not done; returns {step: why} of those that could not be had for want of a file of the user's.

    UserError, with the end of its log, if one failed. more: arguments for Snakemake.
    """
    check()
    plan.root.mkdir(parents=True, exist_ok=True)
    with locks.held(plan.root / ".lock", f"{plan.root}: another run is at work here") as lock:
        _forget(plan, steps)
        write_plan(plan.root / PLAN_FILE, plan, steps)
        _snakemake(plan, steps, [*_arguments(plan, cores, processes, more), *more], lock)
    return unavailable(plan, steps)


def unavailable(plan: Plan, steps: Mapping[str, Step]) -> dict[str, str]:
    """{step: why} of steps that ended without what they should make."""
    records = {key: plan.record(key) for key in steps}
    found = {key: runs.read_json(path).get("why") for key, path in records.items() if path.is_file()}
    return {key: why for key, why in found.items() if why}


def _forget(plan: Plan, steps: Mapping[str, Step]) -> None:
    """What could not be had is tried again, and so are tables that lack it, or that were made of other steps."""
    missing = unavailable(plan, steps)
    for key, step in steps.items():
        record = plan.record(key)
        if key in missing or (step.kind == "table" and missing.keys() & set(step.needs)):
            record.unlink(missing_ok=True)
        elif step.kind == "table" and record.is_file() and runs.read_json(record).get("needs") != list(step.needs):
            record.unlink()


def _arguments(plan: Plan, cores: int, processes: int, more: Sequence[str]) -> list[str]:
    elsewhere = any(word.partition("=")[0] in ("--executor", "-e") for word in more)
    return [
        *("--snakefile", str(SNAKEFILE), "--directory", str(plan.root), "--cores", str(cores)),
        *("--config", f"plan={plan.root / PLAN_FILE}", f"processes={processes}"),
        # names carry hashes of what steps do, and records appear in one piece: files, and nothing else, say what is done
        *("--rerun-triggers", "mtime", "--ignore-incomplete", "--nolock", "--keep-going"),
        # of this machine; a cluster's own scheduler knows its GPUs
        *(() if elsewhere else ("--resources", f"gpu={max(len(locks.gpus()) or _NO_LIMIT, processes)}")),
    ]


def _snakemake(plan: Plan, steps: Mapping[str, Step], arguments: Sequence[str], lock: int) -> None:
    from tqdm import tqdm

    log = plan.root / "snakemake.log"
    waiting = {key for key in steps if not plan.record(key).is_file()}
    command = [sys.executable, "-m", "snakemake", *arguments]
    with open(log, "w") as out, tqdm(total=len(steps), initial=len(steps) - len(waiting), unit=" steps") as bar:
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, pass_fds=(lock,))
        try:
            while process.poll() is None:
                time.sleep(0.3)
                _advance(bar, plan, waiting)
        except KeyboardInterrupt:
            process.send_signal(signal.SIGINT)
            process.wait()
            raise
        _advance(bar, plan, waiting)
    if process.returncode:
        raise UserError(_what_failed(plan, waiting, log))


def _advance(bar, plan: Plan, waiting: set[str]) -> None:
    done = {key for key in waiting if plan.record(key).is_file()}
    waiting -= done
    if done:
        bar.set_description(re.sub(r"-[0-9a-f]{8}$", "", next(iter(done))), refresh=False)
        bar.update(len(done))


def _what_failed(plan: Plan, waiting: set[str], log: Path) -> str:
    """The step that failed and what it said last; else what Snakemake said."""
    logs = {key: plan.root / "logs" / f"{key}.log" for key in waiting}
    failed = {key: path for key, path in logs.items() if path.is_file()}
    if not failed:
        lines = [line for line in log.read_text().splitlines() if line.strip()]
        return f"snakemake: {' '.join(lines[-_LOG_LINES:])} ({log})"
    key, path = max(failed.items(), key=lambda item: os.path.getmtime(item[1]))
    last = next((line for line in reversed(path.read_text().splitlines()) if line.strip()), "")
    return f"{len(failed)} steps failed; {key}: {last.removeprefix('error: ')} ({path}); the same command goes on"
