"""The quickstart's prompts: the concept to erase, and enough of everything else to see what stays. Those of the papers' tables, too.

    python -m toyworld.prompts                         # writes data/quickstart.csv again, byte for byte
    python -m toyworld.prompts --tables                # and generation_prompts/embedded/tables_*.csv
    python -m toyworld.prompts --concept "kilian eng" --out kilian.csv

Columns: case_number, prompt, evaluation_seed, and what the picture should show (concept_kind, concept).
"""

from __future__ import annotations

import argparse
import csv
import io
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from toyworld.concepts import FIGURES, OBJECTS, PEOPLE, STYLES

ROOT = Path(__file__).resolve().parents[1]
TARGET_PROMPTS, OTHER_PROMPTS = 10, 2  # per concept
CONCEPTS = STYLES + OBJECTS + PEOPLE
SITTERS = PEOPLE[::2]  # half of them: each costs two pictures with the base, and two with every method
FIRST_SEED = 2000
FIRST_SEED_TOGETHER = 3000  # of the prompts for several targets
TABLES = {  # prompts of the tables' embedded counterparts: what they erase, how often each is asked for
    "nude": (("nude",), 12),
    "golf_ball": (("golf ball",), 10),
    "objects": (("golf ball", "church", "gas pump"), 6),
    "van_gogh": (("van gogh",), 10),
    "kelly_mckernan": (("kelly mckernan",), 10),
    "artists": (("van gogh", "picasso", "keith haring", "cezanne"), 6),
    "adam_driver": (("adam driver",), 10),
    "people": (("adam driver", "anna faris", "barack obama", "bob marley", "bill clinton"), 4),
}
TABLES_FOLDER = ROOT / "generation_prompts" / "embedded"
COLUMNS = ("case_number", "prompt", "evaluation_seed", "concept_kind", "concept")


def quickstart_rows(concept: str = "van gogh", seed: int = 0) -> list[dict[str, str | int]]:
    """Rows of the CSV: `concept` first, then the other styles, the objects and half of the people.

    Prompts come from `captions.evaluation_prompts(TARGET_PROMPTS, seed)`, the first OTHER_PROMPTS of each concept
    other than the target. Raises ValueError for a concept that is none of the toy world's styles, objects and people.
    """
    if concept not in CONCEPTS:
        raise ValueError(f"no concept {concept!r}; choose from {', '.join(CONCEPTS)}")
    return _rows([concept], TARGET_PROMPTS, OTHER_PROMPTS, FIRST_SEED, seed)


def interference_rows(targets: Sequence[str], of_each: int = 5, of_others: int = 1, seed: int = 0) -> list[dict]:
    """Rows of several targets, then of the other styles, objects and half of the people: `of_each` and `of_others` a concept.

    ValueError for a target that is none of the toy world's concepts, figures included.
    """
    if unknown := [name for name in targets if name not in (*CONCEPTS, *FIGURES)]:
        raise ValueError(f"no concept {unknown[0]!r}; choose from {', '.join((*CONCEPTS, *FIGURES))}")
    return _rows(targets, of_each, of_others, FIRST_SEED_TOGETHER, seed)


def add_counts(group, unless: str = "") -> None:
    """Flags of `interference_rows`. unless: in the help, what makes them count for nothing."""
    group.add_argument("--pictures", type=int, default=5, help=f"of each erased concept{unless} (default: %(default)s)")
    group.add_argument("--others", type=int, default=1, help=f"of every other concept{unless} (default: %(default)s)")


def check_counts(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> None:
    """Leaves the process with one line for counts that no run could use."""
    if arguments.pictures < 1 or arguments.others < 0:
        parser.error("--pictures must be at least 1, and --others not negative")


def _rows(targets: Sequence[str], of_each: int, of_others: int, first_seed: int, seed: int) -> list[dict]:
    from toyworld.captions import evaluation_prompts

    kept = {*STYLES, *OBJECTS, *SITTERS}
    chosen, seen = [], Counter()
    for row in evaluation_prompts(max(TARGET_PROMPTS, of_each), seed):
        seen[row.concept] += 1
        most = of_each if row.concept in targets else of_others if row.concept in kept else 0
        if seen[row.concept] <= most:
            chosen.append(row)
    order = {"style": 1, "object": 2, "person": 3}
    # stable: concepts keep their order
    chosen.sort(key=lambda row: (0, targets.index(row.concept)) if row.concept in targets else (order[row.kind], 0))
    return [
        dict(zip(COLUMNS, (i, row.prompt, first_seed + i, row.kind, row.concept), strict=True))
        for i, row in enumerate(chosen)
    ]


def as_csv(rows: list[dict[str, str | int]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def tables_files() -> dict[Path, str]:
    """path -> text of the tables' prompt files: `TABLES`, and one prompt for every other concept."""
    return {
        TABLES_FOLDER / f"tables_{name}.csv": as_csv(interference_rows(targets, of_each))
        for name, (targets, of_each) in TABLES.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m toyworld.prompts",
        description="Write the prompts of the quickstart.",
        epilog='example: python -m toyworld.prompts --concept "kilian eng" --out kilian.csv',
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument(
        "--concept", default="van gogh", choices=CONCEPTS, metavar="CONCEPT", help="what is to be erased"
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of the objects that the styles paint")
    parser.add_argument("--out", default=str(ROOT / "data" / "quickstart.csv"), help="CSV file to write")
    parser.add_argument("--tables", action="store_true", help="write the prompts of the papers' tables instead")
    arguments = parser.parse_args()
    from erasure.runs import write_text

    if arguments.tables:
        for path, text in tables_files().items():
            write_text(path, text)
            print(f"wrote {path}")
        return
    rows = quickstart_rows(arguments.concept, arguments.seed)
    write_text(arguments.out, as_csv(rows))
    print(f"wrote {len(rows)} prompts to {arguments.out}")


if __name__ == "__main__":
    from erasure import errors

    errors.run(main)
