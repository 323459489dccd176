"""The tables of the papers: what they say, and what it takes to make them anew.

python reproduce/run.py --list                                           # all tables
python reproduce/run.py --list rece:nudity                               # its published numbers, each with how sure it is
python reproduce/run.py --table rece:nudity --dry-run                    # its counterpart on the embedded model: jobs, images, hours
python reproduce/run.py --table esd:objects uce:objects --base sd-v1-4 --dry-run --tflops 60

Only --list and --dry-run are here: the workflow that runs the jobs is not part of the repository yet.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from erasure import errors
from erasure.errors import UserError
from reproduce import jobs
from reproduce.costs import MODELS, Cost
from reproduce.tables import CERTAINTIES, Table, table, tables

SIGNS = {"recalled": "?", "secondary": "*"}  # after a value; what is missing has none


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="run.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    what = parser.add_argument_group("what")
    what.add_argument("--table", nargs="+", metavar="PAPER:TABLE", help="tables to make; all: every one that can be")
    what.add_argument(
        "--list", nargs="?", const="", metavar="PAPER[:TABLE]", help="say what tables there are, or what one says"
    )
    how = parser.add_argument_group("how")
    how.add_argument("--dry-run", action="store_true", help="only list jobs, images, operations and hours")
    how.add_argument(
        "--base", choices=MODELS, default="toy", help="base model (default: %(default)s, the embedded one)"
    )
    how.add_argument(
        "--tflops", type=float, help="what your device sustains, for the hours (default: see reproduce/costs.py)"
    )
    return parser


def main(argv: list[str] | None = None) -> None:
    args = build_parser().parse_args(argv)
    if args.list is not None:
        _list(args.list)
    elif not args.table:
        raise UserError("name tables with --table, as in --table rece:nudity --dry-run, or give --list")
    elif args.tflops is not None and not args.tflops > 0:
        raise UserError(f"--tflops must be above 0, not {args.tflops}")
    elif not args.dry_run:
        raise UserError("tables can only be listed yet: add --dry-run for the commands of a table, or give --list")
    else:
        _dry_run(_chosen(args.table, args.base), args.base, args.tflops)


def _chosen(names: list[str], base: str) -> list[Table]:
    if names != ["all"]:
        return [table(name) for name in names]
    here = [one for one in tables().values() if not one.not_here]
    return [one for one in here if base != "toy" or one.embedded or one.computed_from]


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
        value = "-" if cell.value is None else f"{cell.value:g}{SIGNS.get(cell.certainty, '')}"
        name = f"{cell.metric} {cell.part or ''}".strip()
        print(f"  {f'{cell.method} {where}'.strip():44} {name:28} {value:>9}  {cell.better:9} {cell.measure}")
    print("? recalled, no published number; * as a later paper prints it")


# ---- what it takes -------------------------------------------------------------------------------------------------


def _dry_run(chosen: list[Table], base: str, tflops: float | None) -> None:
    model, rate = MODELS[base], tflops * 1e12 if tflops else None
    device = f"one device at {tflops:g} TFLOP/s" if tflops else model.device
    found = jobs.jobs_of(chosen, base)
    names = [one.name for one in chosen]
    print(f"{', '.join(names) if len(names) < 5 else f'{len(names)} tables'} on {base}, {device}")
    for job in found:
        size = f"{job.images:>8} {job.cost.flops / 1e12:>12,.1f} {_time(job.cost.hours(model, rate)):>9}"
        print(f"{job.kind:8} {size if job.kind != 'measure' else ' ' * 31}  {job.what}")
        if job.command and job.kind == "train":
            print(f"{'':43}{jobs.shell_line(job.command)}")
    total = sum((job.cost for job in found), Cost())
    n = sum(job.images for job in found)
    print(f"{'total':8} {n:>8} {total.flops / 1e12:>12,.1f} {_time(total.hours(model, rate)):>9}  {len(found)} jobs")
    print("columns: kind, images, TFLOP, time; estimated by reproduce/costs.py, without loading, measuring and attacks")


def _time(hours: float) -> str:
    return f"{3600 * hours:,.0f} s" if hours < 0.1 else f"{hours:,.1f} h"


if __name__ == "__main__":
    errors.run(main)
