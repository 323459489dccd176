"""Erase a concept from the embedded model with every method, and report what is gone and what is left.

    python -m toyworld.quickstart                            # "van gogh", a few minutes on two CPU cores
    python -m toyworld.quickstart --concept "golf ball"      # any style, object or person of the toy world
    python -m toyworld.quickstart --methods uce,rece         # only some of the methods

Writes report.html, report.png, scores.json, the pictures (base/, and a folder a method) and one row a picture (base.csv,
...) to outputs/quickstart/. What a run has finished is not done again: the second one takes seconds.
"""

from __future__ import annotations

import argparse
import functools
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from toyworld.prompts import CONCEPTS
from toyworld.quickstart_methods import METHODS, Made, Task

ROOT = Path(__file__).resolve().parents[1]
DEFAULT_CONCEPT = "van gogh"
BASE = "base"  # the first version, before those of the methods


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m toyworld.quickstart",
        description="Erase a concept from the embedded model with every method; report what is gone and what is left.",
        epilog='example: python -m toyworld.quickstart --concept "golf ball" --methods uce,rece',
        allow_abbrev=False,
    )
    what = parser.add_argument_group("what to erase")
    what.add_argument(
        "--concept",
        default=DEFAULT_CONCEPT,
        type=str.lower,
        choices=CONCEPTS,
        metavar="CONCEPT",
        help=f"a style, an object or a person: {', '.join(CONCEPTS)} (default: %(default)s)",
    )
    how = parser.add_argument_group("how")
    every = ",".join(METHODS)
    how.add_argument("--methods", type=methods, default=every, help="with which methods (default: %(default)s)")
    how.add_argument("--train_method", help="which weights ESD trains (default: xattn; noxattn for an object)")
    how.add_argument("--iterations", type=int, help="of ESD (default: the embedded model's preset)")
    how.add_argument("--pictures", type=int, help="draw only the first N prompts, for a quick look (default: all)")
    how.add_argument("--device", default="cpu", help="cpu, or a GPU as in cuda:0 (default: %(default)s)")
    how.add_argument("--out", type=Path, help="folder to write (default: outputs/quickstart[-CONCEPT])")
    return parser


def methods(text: str) -> list[str]:
    """Names in a comma list, in the order of METHODS."""
    asked = {name.strip().lower() for name in text.split(",")}
    if unknown := sorted(asked - METHODS.keys()):
        raise argparse.ArgumentTypeError(f"no method {unknown[0]!r}; choose from {', '.join(METHODS)}")
    return [name for name in METHODS if name in asked]


def check(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> None:
    if arguments.pictures is not None and arguments.pictures < 1:
        parser.error(f"--pictures must be at least 1, not {arguments.pictures}")
    for flag in ("train_method", "iterations"):
        if getattr(arguments, flag) is not None and "esd" not in arguments.methods:
            parser.error(f"--{flag} is of ESD, which is not among --methods {','.join(arguments.methods)}")


def default_folder(concept: str) -> Path:
    suffix = "" if concept == DEFAULT_CONCEPT else "-" + concept.replace(" ", "-")
    return ROOT / "outputs" / f"quickstart{suffix}"


@dataclass
class Run:
    """What the steps hand on to each other."""

    concept: str
    methods: list[str]
    out: Path
    device: str
    pictures: int | None = None
    facts: dict[str, str] = field(default_factory=dict)  # for the foot of the report

    def __post_init__(self):
        from erasure.prompts import read_csv
        from erasure.runs import write_text
        from toyworld.prompts import as_csv, quickstart_rows

        write_text(self.out / "prompts.csv", as_csv(quickstart_rows(self.concept)[: self.pictures]))
        self.rows = read_csv(self.out / "prompts.csv")

    @property
    def versions(self) -> list[str]:
        """Names of the folders of pictures."""
        return [BASE, *self.methods]

    @property
    def method_names(self) -> str:
        *most, last = (METHODS[name].name for name in self.methods)
        return f"{', '.join(most)} and {last}" if most else last

    @functools.cached_property
    def base(self):
        """(the embedded model, its identity)."""
        from erasure.base_models import load
        from erasure.generation.models import pick_device

        model, identity = load("toy", device=pick_device(self.device))
        self.facts["base model"] = f"{identity.name} ({identity.sha256[:12]})"
        return model, identity


def main() -> int:
    parser = build_parser()
    arguments = parser.parse_args()
    check(parser, arguments)
    started = time.monotonic()
    out = arguments.out or default_folder(arguments.concept)
    say(f"everything goes to {out}")
    run = Run(arguments.concept, arguments.methods, out, arguments.device, arguments.pictures)
    say(f'1/4 erasing "{run.concept}" with {run.method_names}')
    made = erase(run, arguments.train_method, arguments.iterations)
    say(f"2/4 drawing {len(run.rows)} pictures with each of {', '.join(run.versions)}")
    draw(run, made)
    say("3/4 judging them")
    judged = judge(run)
    say("4/4 writing the report")
    table = write_report(run, made, judged)
    print(f"\nHow often the judge recognises what the prompt names, with 95 % intervals\n\n{table}\n")
    print(*(out / name for name in ("report.html", "report.png", "scores.json")), sep="\n")
    say(f"done in {time.monotonic() - started:.0f} s")
    return 0


def say(text: str) -> None:
    print(f"quickstart: {text}", flush=True)


def erase(run: Run, train_method: str | None = None, iterations: int | None = None) -> dict[str, Made]:
    """Make the edits, or take those that are there."""
    task = Task(run.concept, *run.base, run.out, train_method, iterations)
    made = {}
    for name in run.methods:
        made[name] = METHODS[name].erase(task)
        run.facts[METHODS[name].name] = made[name].settings
        say(f"{METHODS[name].name}: erasing took {made[name].costs()['Erasing took']}")
    return made


def draw(run: Run, made: dict[str, Made]) -> None:
    """The pictures of every version, in folders of their names."""
    import contextlib

    from erasure import edits
    from erasure.generation import generate, settings
    from erasure.runs import tensors_sha256

    model, base = run.base
    drawing = settings("toy-fast")
    run.facts |= {"pictures": f"{drawing.sampler.upper()}, {drawing.steps} steps, guidance {drawing.guidance:g}"}
    for version in run.versions:
        identity = {"base": base.to_dict()}
        there = contextlib.nullcontext()
        if version in made:
            edit = made[version].edit
            identity["edits"] = [{"method": edit.method, "sha256": tensors_sha256(edit.tensors)}]
            there = edits.apply(model, edit, base)
        with there:
            print(generate(model, run.rows, run.out / version, drawing, identity))


def judge(run: Run):
    """Judgements of every version; each one's are also kept as a CSV and a summary."""
    from erasure.metrics.judging import judge_to_files
    from erasure.runs import sha256_file
    from toyworld.judge import JUDGE_PATH, load_judge

    identity = {"name": "toyworld judge", "sha256": sha256_file(JUDGE_PATH)}
    run.facts |= {"judge": f"toyworld judge ({identity['sha256'][:12]})"}
    predict = load_judge().predict
    paths = [run.out / version for version in run.versions]
    files = ((path, path.with_suffix(".csv"), path.with_suffix(".json")) for path in paths)
    return [judge_to_files(folder, run.rows, predict, rows, summary, identity) for folder, rows, summary in files]


def write_report(run: Run, made: dict[str, Made], judged) -> str:
    """report.html, report.png and scores.json; returns the table for the terminal."""
    from erasure.report import Report, Version, text_table, to_html, to_image
    from erasure.runs import atomic_path, versions, write_json, write_text
    from toyworld.comparison import compare, in_title_case, strips

    concept = in_title_case(run.concept)
    rows = [Version(METHODS[name].name, made[name].note, made[name].costs()) for name in run.methods]
    report = Report(
        title=f"Erasing {concept} with {run.method_names}",
        subtitle="The same prompts and seeds before and after each erasure; a judge names what every picture shows. "
        f"{concept} should be gone, everything else should stay.",
        versions=[Version(BASE, "the embedded model"), *rows],
        scores=compare(judged, run.concept),
        strips=strips(judged, [run.out / version for version in run.versions], run.concept),
        facts=run.facts | {package: version for package, version in versions().items() if package == "torch"},
    )
    write_text(run.out / "report.html", to_html(report))
    with atomic_path(run.out / "report.png") as temporary:
        to_image(report).save(temporary)
    write_json(run.out / "scores.json", as_json(run, made, report))
    return text_table(report)


def as_json(run: Run, made: dict[str, Made], report) -> dict:
    """The report without its pictures."""
    scores = [
        {
            "label": score.label,
            "goal": score.goal,
            "versions": {v: i.as_dict() for v, i in zip(run.versions, score.intervals, strict=True)},
        }
        for score in report.scores
    ]
    costs = {
        name: {"seconds": one.seconds, "resumed": one.resumed, "edit_bytes": one.size} for name, one in made.items()
    }
    return {"concept": run.concept, "versions": run.versions, "scores": scores, "costs": costs, "facts": run.facts}


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    from erasure import errors

    errors.run(main)
