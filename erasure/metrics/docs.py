"""docs/metrics.md, written from the definitions that the scripts use.

python -m erasure.metrics.docs              # write it
python -m erasure.metrics.docs --check      # exit code 1 if it is not what the code says

Imports no torch.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable

from erasure import errors
from erasure.metrics.definitions import METRICS, Metric
from erasure.needs import NEEDS
from erasure.runs import ROOT, write_text

PATH = ROOT / "docs" / "metrics.md"
_HEAD = """# Metrics

<!-- written by python -m erasure.metrics.docs from erasure/metrics/definitions.py and erasure/needs.py: change those -->

Every metric is a script; where one was published, ours has its name, flags, file names and columns, and what is ours is added. Beside
the published file it leaves

- what it found of every image (CSV, NudeNet's as JSON; FID and KID are of whole sets), so that a summary can be computed again
  without the network, and
- a `*.summary.json` with `metric` (the definition below), `value` (with `low`, `high` and `n`), `n_images`, what is missing,
  and what was run: the network, the sha256 of its weights, the settings and the versions.

Intervals are 95 %. `eval-scripts/summarize.py` puts summaries into a table, tests before against after, and computes harmonic
means. `python -m erasure.doctor` says which files are here, where the others are from and where they go; nothing is ever
downloaded. `--allow_random_weights` tries a script without them: the summary says so, and its numbers mean nothing.
"""


def text() -> str:
    """The whole file."""
    overview = ["| metric | script | better | weights |", "|---|---|---|---|"]
    overview += [
        f"| [{one.title}](#{_anchor(one.title)}) | `{one.script}` | {one.better} | {_weights(one)} |"
        for one in METRICS.values()
    ]
    parts = [_HEAD, "\n".join(overview), *(_section(one) for one in METRICS.values()), _files()]
    return "\n\n".join(part.strip("\n") for part in parts) + "\n"


def _section(one: Metric) -> str:
    lines = [f"## {one.title}", "", _sentence(one.definition), ""]
    rows = [
        ("Scripts", _code((one.script, *one.scripts))),
        ("Writes", _code(one.files)),
        ("Published by", one.source),
        ("Interval", one.interval),
        ("Better", one.better),
        ("Weights", _weights(one)),
        ("Packages", ", ".join(one.packages) or "none"),
    ]
    lines += [f"- {name}: {value}" for name, value in rows]
    return "\n".join([*lines, *(f"- {note}" for note in one.notes)])


def _files() -> str:
    wanted = {name for one in METRICS.values() for name in one.needs + one.optional}
    lines = ["## Where the weights are from", "", "| weights | go to | from |", "|---|---|---|"]
    lines += [f"| {n.title} | `{n.place}` | {n.source} |" for name, n in NEEDS.items() if name in wanted]
    return "\n".join(lines)


def _weights(one: Metric) -> str:
    found = [NEEDS[name].title for name in one.needs] + [f"{NEEDS[name].title} (optional)" for name in one.optional]
    return ", ".join(found) or "none"


def _sentence(words: str) -> str:
    return words[0].upper() + words[1:].rstrip(".") + "."


def _code(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _anchor(title: str) -> str:
    """GitHub's: lower case, letters, digits and hyphens."""
    kept = "".join(c for c in title.lower() if c.isalnum() or c in " -_")
    return kept.replace(" ", "-")


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m erasure.metrics.docs",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--check", action="store_true", help="only say whether docs/metrics.md is up to date")
    if parser.parse_args().check:
        current = PATH.is_file() and PATH.read_text(encoding="utf-8") == text()
        print(f"{PATH} is {'up to date' if current else 'not what the code says: python -m erasure.metrics.docs'}")
        return 0 if current else 1
    write_text(PATH, text())
    print(f"written: {PATH}")
    return 0


if __name__ == "__main__":
    errors.run(main)
