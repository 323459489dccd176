"""Erase a concept from the embedded model with ESD, and report what is gone and what is left.

    python -m toyworld.quickstart                            # "van gogh", a few minutes on two CPU cores
    python -m toyworld.quickstart --concept "golf ball"      # any style, object or person of the toy world

Writes report.html, report.png, scores.json and one row an image (before.csv, after.csv) to outputs/quickstart/. What a
run has finished is not done again: the second one takes seconds.
"""

from __future__ import annotations

import argparse
import functools
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from toyworld.concepts import OBJECTS
from toyworld.prompts import CONCEPTS

ROOT = Path(__file__).resolve().parents[1]
DEFAULT_CONCEPT = "van gogh"
SEED = 0  # of the training run, so that everybody gets the same table
SIDES = ("before", "after")


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m toyworld.quickstart",
        description="Erase a concept from the embedded model with ESD, and report what is gone and what is left.",
        epilog='example: python -m toyworld.quickstart --concept "golf ball"',
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
    how.add_argument("--train_method", help="which weights ESD trains (default: xattn; noxattn for an object)")
    how.add_argument("--iterations", type=int, help="of ESD (default: the embedded model's preset)")
    how.add_argument("--pictures", type=int, help="draw only the first N prompts, for a quick look (default: all)")
    how.add_argument("--device", default="cpu", help="cpu, or a GPU as in cuda:0 (default: %(default)s)")
    how.add_argument("--out", type=Path, help="folder to write (default: outputs/quickstart[-CONCEPT])")
    return parser


def default_folder(concept: str) -> Path:
    suffix = "" if concept == DEFAULT_CONCEPT else "-" + concept.replace(" ", "-")
    return ROOT / "outputs" / f"quickstart{suffix}"


@dataclass
class Run:
    """What the steps hand on to each other."""

    concept: str
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
    if arguments.pictures is not None and arguments.pictures < 1:
        parser.error(f"--pictures must be at least 1, not {arguments.pictures}")
    started = time.monotonic()
    out = arguments.out or default_folder(arguments.concept)
    say(f"everything goes to {out}")
    run = Run(arguments.concept, out, arguments.device, arguments.pictures)
    say(f'1/4 erasing "{run.concept}" with ESD')
    edit = erase(run, arguments)
    say(f"2/4 drawing {len(run.rows)} pictures before and {len(run.rows)} after")
    draw(run, edit)
    say("3/4 judging them")
    judged = judge(run)
    say("4/4 writing the report")
    table = write_report(run, *judged)
    print(f"\nHow often the judge recognises what the prompt names, with 95 % intervals\n\n{table}\n")
    print(*(out / name for name in ("report.html", "report.png", "scores.json")), sep="\n")
    say(f"done in {time.monotonic() - started:.0f} s")
    return 0


def say(text: str) -> None:
    print(f"quickstart: {text}", flush=True)


def erase(run: Run, arguments):
    """Train the edit, or take the one that is there."""
    from methods.esd.settings import EsdSettings
    from methods.esd.training import train_esd

    method = arguments.train_method or ("noxattn" if run.concept in OBJECTS else "xattn")
    model, identity = run.base
    settings = EsdSettings.for_family(
        identity.family,
        prompt=run.concept,
        train_method=method,
        iterations=arguments.iterations,
        seed=SEED,
        save_format="edit",
    )
    # with the base in its name, so that an edit made on earlier weights is not in the way
    folder = run.out / f"{settings.run_name}-{identity.sha256[:8]}"
    edit = train_esd(model, identity, settings, folder, resume=True)
    run.facts |= {"edit": f"ESD, {method}, {settings.iterations} iterations, lr {settings.lr:g}, seed {SEED}"}
    return edit


def draw(run: Run, edit) -> None:
    """The pictures of both sides, in folders of their names."""
    import contextlib

    from erasure import edits
    from erasure.generation import generate, settings
    from erasure.runs import tensors_sha256

    model, base = run.base
    drawing = settings("toy")
    run.facts |= {"pictures": f"{drawing.sampler.upper()}, {drawing.steps} steps, guidance {drawing.guidance:g}"}
    for side in SIDES:
        identity = {"base": base.to_dict()}
        there = contextlib.nullcontext()
        if side == "after":
            identity["edits"] = [{"method": edit.method, "sha256": tensors_sha256(edit.tensors)}]
            there = edits.apply(model, edit, base)
        with there:
            print(generate(model, run.rows, run.out / side, drawing, identity))


def judge(run: Run):
    """(judgements before, judgements after); each side's are also kept as a CSV and a summary."""
    from erasure.metrics.judging import judge_to_files
    from erasure.runs import sha256_file
    from toyworld.judge import JUDGE_PATH, load_judge

    identity = {"name": "toyworld judge", "sha256": sha256_file(JUDGE_PATH)}
    run.facts |= {"judge": f"toyworld judge ({identity['sha256'][:12]})"}
    predict = load_judge().predict
    files = ((run.out / side, run.out / f"{side}.csv", run.out / f"{side}.json") for side in SIDES)
    return [judge_to_files(folder, run.rows, predict, rows, summary, identity) for folder, rows, summary in files]


def write_report(run: Run, before, after) -> str:
    """report.html, report.png and scores.json; returns the table for the terminal."""
    from erasure.report import Report, to_html, to_image
    from erasure.report.content import text_table
    from erasure.runs import atomic_path, versions, write_json, write_text
    from toyworld.comparison import compare, in_title_case, strips

    scores = compare(before, after, run.concept)
    name = in_title_case(run.concept)
    report = Report(
        title=f"Erasing {name} with ESD",
        subtitle=f"The same prompts and seeds before and after; a judge names what each picture shows. {name} should be "
        "gone, everything else should stay.",
        scores=scores,
        strips=strips(before, after, (run.out / "before", run.out / "after"), run.concept),
        facts=run.facts | {package: version for package, version in versions().items() if package == "torch"},
    )
    write_text(run.out / "report.html", to_html(report))
    with atomic_path(run.out / "report.png") as temporary:
        to_image(report).save(temporary)
    rows = [
        {"label": s.label, "goal": s.goal, "before": s.before.as_dict(), "after": s.after.as_dict()} for s in scores
    ]
    write_json(run.out / "scores.json", {"concept": run.concept, "scores": rows, "facts": run.facts})
    return text_table(scores)


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    from erasure import errors

    errors.run(main)
