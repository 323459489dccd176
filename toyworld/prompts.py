"""The quickstart's prompts: the concept to erase, and enough of everything else to see what stays.

    python -m toyworld.prompts                         # writes data/quickstart.csv again, byte for byte
    python -m toyworld.prompts --style "kilian eng" --out kilian.csv

Columns: case_number, prompt, evaluation_seed, and what the picture should show (concept_kind, concept).
"""

from __future__ import annotations

import argparse
import csv
import io
from pathlib import Path

from toyworld.concepts import PEOPLE, STYLES

ROOT = Path(__file__).resolve().parents[1]
TARGET_PROMPTS, OTHER_PROMPTS = 10, 2  # per concept
SITTERS = PEOPLE[::2]  # half of them: each costs two pictures before and two after
FIRST_SEED = 2000
COLUMNS = ("case_number", "prompt", "evaluation_seed", "concept_kind", "concept")


def quickstart_rows(style: str = "van gogh", seed: int = 0) -> list[dict[str, str | int]]:
    """Rows of the CSV: `style` first, then the other styles, the objects and half of the people.

    Prompts come from `captions.evaluation_prompts(TARGET_PROMPTS, seed)`, the first OTHER_PROMPTS of each concept
    other than the target. Raises ValueError for a style that the toy world does not have.
    """
    from toyworld.captions import evaluation_prompts

    if style not in STYLES:
        raise ValueError(f"no style {style!r}; choose from {', '.join(STYLES)}")
    chosen, seen = [], {}
    for row in evaluation_prompts(TARGET_PROMPTS, seed):
        seen[row.concept] = seen.get(row.concept, 0) + 1
        wanted = row.kind in ("style", "object") or row.concept in SITTERS
        if row.concept == style or (wanted and seen[row.concept] <= OTHER_PROMPTS):
            chosen.append(row)
    order = {"style": 1, "object": 2, "person": 3}
    chosen.sort(key=lambda row: 0 if row.concept == style else order[row.kind])  # stable: concepts keep their order
    return [
        dict(zip(COLUMNS, (i, row.prompt, FIRST_SEED + i, row.kind, row.concept), strict=True))
        for i, row in enumerate(chosen)
    ]


def as_csv(rows: list[dict[str, str | int]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m toyworld.prompts",
        description="Write the prompts of the quickstart.",
        epilog='example: python -m toyworld.prompts --style "kilian eng" --out kilian.csv',
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--style", default="van gogh", choices=STYLES, metavar="STYLE", help="style to erase")
    parser.add_argument("--seed", type=int, default=0, help="seed of the choice of objects per style")
    parser.add_argument("--out", default=str(ROOT / "data" / "quickstart.csv"), help="CSV file to write")
    arguments = parser.parse_args()
    rows = quickstart_rows(arguments.style, arguments.seed)
    Path(arguments.out).write_text(as_csv(rows), encoding="utf-8")
    print(f"wrote {len(rows)} prompts to {arguments.out}")


if __name__ == "__main__":
    main()
