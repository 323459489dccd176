"""Measure speed and memory as ratios inside one run; figures and their machine are in benchmarks/README.md.

python benchmarks/run.py                                   # everything on the CPU; the README says how long it took
python benchmarks/run.py unet --models toy --dtypes float32
python benchmarks/run.py --device cuda --json benchmarks/results/a100.json
python benchmarks/render.py                                # benchmarks/README.md from benchmarks/results/*.json
"""

import argparse
import importlib
import re
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.harness import Settings, table
from benchmarks.models import CONFIGS
from erasure import errors

TOPICS = {  # each is a module of this package; a new method adds one
    "unet": "UNet forward and backward beside diffusers'",
    "esd": "ESD's iteration time and peak memory beside the form with two whole models",
    "closed_form": "UCE's and RECE's edits at SD v1's shapes beside the published form",
    "sepce": "SepCE's and SRS_ME's step and peak memory beside the form with two whole models",
    "nullspace": "SepCE's null spaces by elimination and SVD beside the published symbolic elimination",
    "cpe": "CPE's iterations, schedules and peak memory beside the form that runs all projections",
    "gates": "what CPE's gates add to a UNet forward, beside the form that evaluates them in every layer",
    "images": "images per second of the generator by batch size",
}
DTYPES = ("float32", "bfloat16", "float16")


def parse_arguments(argv=None):
    parser = argparse.ArgumentParser(
        prog="run.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    topics = "; ".join(f"{name}: {text}" for name, text in TOPICS.items())
    parser.add_argument("topics", nargs="*", metavar="topic", help=f"{topics} (default: all)")
    what = parser.add_argument_group("what")
    what.add_argument("--models", nargs="+", choices=CONFIGS, help="default: unet both, the others toy only")
    what.add_argument(
        "--dtypes", nargs="+", choices=DTYPES, default=["float32", "bfloat16"], help="default: %(default)s"
    )
    what.add_argument("--latents", type=int, help="side of SD v1's latents (default: 64; on a CPU 16 where 64 is slow)")
    what.add_argument(
        "--batches", type=int, nargs="+", default=[1, 4, 8, 16, 32], help="for images (default: %(default)s)"
    )
    how = parser.add_argument_group("how")
    how.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N (default: %(default)s)")
    how.add_argument("--threads", type=int, help="CPU threads (default: one per core)")
    how.add_argument("--seconds", type=float, default=12.0, help="spent on a comparison (default: %(default)s)")
    how.add_argument("--quick", action="store_true", help="one round of the smallest sizes: a test, not a measurement")
    out = parser.add_argument_group("output")
    out.add_argument("--json", metavar="FILE", help="all figures, with the facts about the machine")
    return check(parser.parse_args(argv), parser)


def check(arguments, parser):
    """Arguments with topics filled in; ends the process with code 2 on a mistake."""
    if unknown := [topic for topic in arguments.topics if topic not in TOPICS]:
        parser.error(f"unknown topic {unknown[0]!r}: choose from {', '.join(TOPICS)}")
    if arguments.latents is not None and (arguments.latents < 8 or arguments.latents % 8):
        parser.error(f"--latents must be a multiple of 8, not {arguments.latents}")
    for name in ("threads", "seconds"):
        if getattr(arguments, name) is not None and getattr(arguments, name) <= 0:
            parser.error(f"--{name} must be greater than 0")
    if min(arguments.batches) < 1:
        parser.error("--batches must be 1 or more")
    arguments.topics = list(dict.fromkeys(arguments.topics)) or list(TOPICS)
    return arguments


def main(argv=None) -> None:
    arguments = parse_arguments(argv)
    import torch

    from benchmarks import machine
    from erasure.runs import print_settings, write_json

    if arguments.device != "cpu" and not torch.cuda.is_available():
        raise errors.UserError(f"no CUDA device for --device {arguments.device}; use --device cpu")
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    settings = Settings(
        device=arguments.device,
        models=arguments.models and tuple(arguments.models),
        dtypes=tuple(arguments.dtypes),
        latents=arguments.latents,
        batches=tuple(arguments.batches),
        seconds=arguments.seconds,
        quick=arguments.quick,
    )
    facts = machine.facts(arguments.device)
    print_settings(facts | {"device": arguments.device}, "machine")
    results = {}
    for name in arguments.topics:
        topic = importlib.import_module(f"benchmarks.{name}")
        print(f"\n{topic.TITLE}", flush=True)
        started = time.monotonic()
        rows = topic.run(settings)
        results[name] = {"rows": rows, "seconds": round(time.monotonic() - started)}
        print(f"\n{table(rows, topic.COLUMNS)}", flush=True)
    if arguments.json:
        command = " ".join(["python benchmarks/run.py", *(sys.argv[1:] if argv is None else argv)])
        command = re.sub(r" --json[ =]\S+", "", command)  # where the figures went says nothing about them
        write_json(arguments.json, {"command": command, "machine": facts, "results": results})
        print(f"\nwritten: {arguments.json}")


if __name__ == "__main__":
    errors.run(main)
