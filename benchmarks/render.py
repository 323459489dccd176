"""Write the tables of benchmarks/README.md from the JSON files of `run.py`.

python benchmarks/render.py                          # all of benchmarks/results/
python benchmarks/render.py mine.json --readme -     # print the tables of one file
python benchmarks/render.py --check                  # code 1 if the README says anything that no file does
"""

import argparse
import importlib
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.harness import table
from erasure import errors, runs

README = ROOT / "benchmarks" / "README.md"
RESULTS = ROOT / "benchmarks" / "results"
START, END = "<!-- figures: written by render.py -->", "<!-- end of figures -->"


def parse_arguments(argv=None):
    parser = argparse.ArgumentParser(
        prog="render.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("files", nargs="*", help="JSON files of run.py (default: benchmarks/results/*.json)")
    parser.add_argument("--readme", default=str(README), help="file to update, - to print (default: %(default)s)")
    parser.add_argument("--check", action="store_true", help="write nothing; compare")
    return parser.parse_args(argv)


def main(argv=None) -> int:
    arguments = parse_arguments(argv)
    files = [Path(name) for name in arguments.files] or sorted(RESULTS.glob("*.json"))
    if not files:
        raise errors.UserError(f"no figures in {RESULTS}: make some with run.py --json FILE")
    figures = "\n\n".join(section(file) for file in files)
    if arguments.readme == "-":
        print(figures)
        return 0
    old = Path(arguments.readme).read_text(encoding="utf-8")
    new = replaced(old, figures, arguments.readme)
    if arguments.check:
        print(
            "the README has the figures of the files" if new == old else "the README has other figures: run render.py"
        )
        return int(new != old)
    runs.write_text(arguments.readme, new)
    print(f"written: {arguments.readme}, from {', '.join(file.name for file in files)}")
    return 0


def section(file: Path) -> str:
    """Markdown of one file: the machine, the command, a table per topic. UserError if `run.py` did not write it."""
    try:
        content = runs.read_json(file)
        return _section(content)
    except (ValueError, KeyError, TypeError, AttributeError, ModuleNotFoundError) as error:
        raise errors.UserError(f"{file}: not a file of run.py --json ({type(error).__name__}: {error})") from None


def _section(content: dict) -> str:
    machine = content["machine"]
    where = f"{machine['gpu']}, " if "gpu" in machine else ""
    bf16 = "" if machine["bf16 instructions"] == "yes" else ", no bfloat16 instructions"
    parts = [
        f"## {where}{machine['threads']} of {machine['cores']} cores of an {machine['cpu']} "
        f"({machine['instructions']}{bf16})",
        f"{machine['date']}, torch {machine['torch']}, diffusers {machine['diffusers']}, load {machine['load at start']} at "
        f"the start: `{content['command']}`",
    ]
    for name, result in content["results"].items():
        topic = importlib.import_module(f"benchmarks.{name}")
        parts += [f"### {topic.TITLE}", table(result["rows"], topic.COLUMNS), topic.NOTE]
    return "\n\n".join(parts)


def replaced(text: str, figures: str, name: str) -> str:
    """`text` with the part between the markers replaced."""
    before, start, rest = text.partition(START)
    _, end, after = rest.partition(END)
    if not (start and end):
        raise errors.UserError(f"{name}: has no lines {START} and {END} to write between")
    return f"{before}{START}\n\n{figures}\n\n{END}{after}"


if __name__ == "__main__":
    errors.run(main)
