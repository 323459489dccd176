"""The tables of the papers: what they say, what it takes to make them anew, and making them: ours beside the published numbers.

python reproduce/run.py --list                                           # all tables
python reproduce/run.py --list rece:nudity                               # its published numbers, each with how sure it is
python reproduce/run.py --table rece:nudity                              # its small counterpart on the embedded model
python reproduce/run.py --table esd:objects uce:objects --base sd-v1-4 --dry-run --tflops 60      # jobs, images, hours
python reproduce/run.py --table all --base sd-v1-4 --coco_reference coco/val2014 --processes 4 -- --executor slurm --jobs 20

What is done is kept: a run that was stopped goes on with the same command, and another table takes what it shares with this one.
What stands behind -- is Snakemake's, which runs the steps.
"""

import argparse
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from erasure import errors, runs
from erasure.errors import UserError
from reproduce.commands import shell_line
from reproduce.costs import MODELS, Cost
from reproduce.models import Plan
from reproduce.reports.verdicts import MARKS
from reproduce.steps import Step, graph, table_key
from reproduce.tables import CERTAINTIES, Table, table, tables


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="run.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    what = parser.add_argument_group("what")
    what.add_argument("--table", nargs="+", metavar="PAPER:TABLE", help="tables to make; all: every one that can be")
    what.add_argument(
        "--list", nargs="?", const="", metavar="PAPER[:TABLE]", help="say what tables there are, or what one says"
    )
    what.add_argument(
        "--base", choices=MODELS, default="toy", help="base model (default: %(default)s, the embedded one)"
    )
    what.add_argument(
        "--allow_missing", action="store_true", help="make what can be made without the files that are not here"
    )
    what.add_argument(
        "--coco_reference", metavar="DIR", help="COCO's real pictures (val2014), for FID on Stable Diffusion"
    )
    how = parser.add_argument_group("how")
    how.add_argument("--dry-run", action="store_true", help="only list steps, images, operations and hours")
    how.add_argument(
        "--tflops", type=float, help="what your device sustains, for the hours (default: see reproduce/costs.py)"
    )
    how.add_argument(
        "--cores", type=int, default=os.cpu_count(), help="steps at once (default: %(default)s, all cores)"
    )
    how.add_argument(
        "--processes", type=int, default=1,
        help="GPUs that the images of one step are spread over, with the same images whatever the number (default: 1)",
    )  # fmt: skip
    out = parser.add_argument_group("output")
    out.add_argument("--out", metavar="DIR", help="folder of everything (default: outputs/reproduce/{base})")
    return parser


def main(argv: list[str] | None = None) -> int | None:
    given = sys.argv[1:] if argv is None else argv
    end = given.index("--") if "--" in given else len(given)
    args, more = build_parser().parse_args(given[:end]), given[end + 1 :]
    for name in ("tflops", "cores", "processes"):
        value = getattr(args, name)
        if value is not None and not value > 0:
            raise UserError(f"--{name} must be above 0, not {value}")
    if args.list is not None:
        return _list(args.list)
    if not args.table:
        raise UserError("name tables with --table, as in --table rece:nudity --dry-run, or give --list")
    plan = _plan(args)
    chosen = _chosen(args.table, args.base)
    steps = graph(chosen, plan)
    if args.dry_run:
        return _dry_run(chosen, steps, plan, args.tflops)
    return _make(chosen, steps, plan, args, more)


def _plan(args: argparse.Namespace) -> Plan:
    root = Path(args.out or runs.ROOT / "outputs" / "reproduce" / args.base).expanduser().resolve()
    inputs = {"coco_reference": args.coco_reference} if args.coco_reference else {}
    for name, path in inputs.items():
        if not runs.find(path).exists():
            raise UserError(f"--{name} {path}: no such file or folder")
    return Plan(args.base, root, {name: str(runs.find(path).resolve()) for name, path in inputs.items()})


def _chosen(names: list[str], base: str) -> list[Table]:
    if names != ["all"]:
        return [table(name) for name in names]
    here = [one for one in tables().values() if not one.not_here]
    return [one for one in here if base != "toy" or one.embedded or one.computed_from]


# ---- making them ---------------------------------------------------------------------------------------------------


def _make(chosen: list[Table], steps: dict[str, Step], plan: Plan, args: argparse.Namespace, more: list[str]) -> int:
    """Run the steps, then say what came out. 1 if something of the user's was missing, so that numbers are."""
    from erasure import base_models
    from reproduce import workflow
    from reproduce.missing import missing

    base_models.resolve(plan.base)
    if (gaps := missing(steps, plan)) and not args.allow_missing:
        print(*(f"missing: {gap}" for gap in gaps), sep="\n", file=sys.stderr)
        raise UserError(f"{len(gaps)} things are missing; --allow_missing makes what can be made without them")
    settings = {"tables": len(chosen), "base": plan.base, "steps": len(steps), "cores": args.cores, "out": plan.root}
    runs.print_settings(settings | {"processes of an images step": args.processes} | dict(plan.inputs))
    try:
        unavailable = workflow.run(plan, steps, args.cores, args.processes, more)
    finally:  # what was made before a step failed is shown, too
        made = _present([one.name for one in chosen], plan)
    if not made:  # Snakemake was told not to
        raise UserError(f"no table was made: {plan.root / 'snakemake.log'} says what was done")
    for why in dict.fromkeys(unavailable.values()):
        print(f"missing: {why}", file=sys.stderr)
    return 1 if unavailable else 0


def _present(names: list[str], plan: Plan) -> list[str]:
    """Print the tables of these names that are made, and write the index of all that are; returns whose are."""
    from reproduce import results
    from reproduce.reports import report

    done = [name for name in tables() if plan.record(table_key(name)).is_file()]
    made = {name: results.read(plan.root / table_key(name) / results.FILE) for name in done}
    asked = [name for name in names if name in made]
    for name in asked:
        print(f"\n{report.text(made[name])}")
    if made:
        print(f"\n{report.overview([*made.values()], plan.root)}")
    return asked


# ---- what they say -------------------------------------------------------------------------------------------------


def _list(name: str) -> None:
    if ":" in name:
        return _show(table(name))
    known = [one for one in tables().values() if not name or one.name.startswith(f"{name}:")]
    if not known:
        raise UserError(f"no paper {name!r}; there are {', '.join(dict.fromkeys(n.split(':')[0] for n in tables()))}")
    for one in known:
        values = sum(cell.value is not None for cell in one.cells())
        here = "not here" if one.not_here else "embedded" if one.embedded or one.computed_from else "SD only"
        print(f"{one.name:26} {values:>5} values  {one.certainty:10}  {here:8}  {one.title}")
    return None


def _show(one: Table) -> None:
    print(f"{one.name}: {one.title}\n{one.source}\n{one.certainty}: {CERTAINTIES[one.certainty]}")
    for name, value in one.published.items():
        print(f"  {name:14} {value}")
    for label in ("note", "remark", "not_here", "computed_from"):
        if getattr(one, label):
            print(f"{label}: {getattr(one, label)}")
    for cell in one.cells():
        row = one.rows[cell.row]
        where = " ".join(str(row[key]) for key in ("erased", "scene", "t") if key in row)
        value = "-" if cell.value is None else f"{cell.value:g}{MARKS.get(cell.certainty, '')}"
        name = f"{cell.metric} {cell.part or ''}".strip()
        print(f"  {f'{cell.method} {where}'.strip():44} {name:28} {value:>9}  {cell.better:9} {cell.measure}")
    print("? recalled, no published number; * as a later paper prints it")


# ---- what it takes -------------------------------------------------------------------------------------------------


def _dry_run(chosen: list[Table], steps: dict[str, Step], plan: Plan, tflops: float | None) -> None:
    from reproduce.missing import missing

    model, rate = MODELS[plan.base], tflops * 1e12 if tflops else None
    device = f"one device at {tflops:g} TFLOP/s" if tflops else model.device
    names = [one.name for one in chosen]
    print(f"{', '.join(names) if len(names) < 5 else f'{len(names)} tables'} on {plan.base}, {device}")
    for step in steps.values():
        size = f"{step.images:>8} {step.cost.flops / 1e12:>12,.1f} {_time(step.cost.hours(model, rate)):>9}"
        print(f"{step.kind:8} {size if step.cost.flops else ' ' * 31}  {step.what}")
        if step.kind == "train":
            print(f"{'':43}{shell_line(step.lines[0])}")
    total = sum((step.cost for step in steps.values()), Cost())
    n = sum(step.images for step in steps.values())
    print(f"{'total':8} {n:>8} {total.flops / 1e12:>12,.1f} {_time(total.hours(model, rate)):>9}  {len(steps)} steps")
    for gap in missing(steps, plan):
        print(f"missing: {gap}")
    print("columns: kind, images, TFLOP, time; estimated by reproduce/costs.py, without loading, measuring and attacks")


def _time(hours: float) -> str:
    return f"{3600 * hours:,.0f} s" if hours < 0.1 else f"{hours:,.1f} h"


if __name__ == "__main__":
    errors.run(main)
