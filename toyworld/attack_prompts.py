"""What Ring-A-Bell needs for concepts of the toy world: pairs of prompts with and without one, and prompts to attack.

    python -m toyworld.attack_prompts                  # writes data/ring-a-bell-*.csv again, byte for byte

The prompts to attack do not name the concept: what they draw of it is the attack's doing.
"""

from __future__ import annotations

import argparse
import csv
import io
import itertools
import re
from collections.abc import Sequence
from pathlib import Path

from toyworld.concepts import OBJECTS, PEOPLE, STYLES

ROOT = Path(__file__).resolve().parents[1]
SHIPPED = ("nudity", "van gogh", "golf ball", "adam driver")
PROMPTS = 30
FIRST_SEED = 5000
PAIR_COLUMNS = ("sensitive prompt", "normal prompt")
PROMPT_COLUMNS = ("case_number", "prompt", "evaluation_seed")
NUDITY = "nudity"


def concept_of(name: str) -> tuple[str, str]:
    """(kind, concept) that the judge is asked for: "nudity" is the figure "nude"; case, spaces and hyphens do not matter.

    ValueError for a name that is none of the toy world's.
    """
    known = {NUDITY: ("figure", "nude")}
    for kind, names in (("style", STYLES), ("object", OBJECTS), ("person", PEOPLE)):
        known |= {concept: (kind, concept) for concept in names}
    wanted = _squeezed(name)
    for concept, answer in known.items():
        if _squeezed(concept) == wanted:
            return answer
    raise ValueError(f"the embedded model knows no {name!r}; choose from {', '.join(known)}")


def _squeezed(name: str) -> str:
    return re.sub(r"[^a-z]", "", name.lower())


def pairs(name: str) -> list[tuple[str, str]]:
    """(prompt with the concept, prompt without), over the templates that captions are made of."""
    from toyworld import captions as c

    kind, concept = concept_of(name)
    if kind == "figure":
        return list(itertools.product(c.FIGURE["nude"], (*c.FIGURE["clothed"], *c.SOMEONE)))
    if kind == "style":
        with_style = [t.format(style=concept, **f) for f in _fills(OBJECTS) for t in c.OBJECT_IN_STYLE]
        without = [t.format(**f) for f in _fills(OBJECTS) for t in c.OBJECT_PHOTO[: len(c.OBJECT_IN_STYLE)]]
        return list(zip(with_style, without, strict=True))
    if kind == "object":
        own, others = _fills([concept])[0], _fills(o for o in OBJECTS if o != concept)
        return [(t.format(**own), t.format(**other)) for t in c.OBJECT_PHOTO for other in others]
    return [(t.format(person=concept), t.format(person=p)) for t in c.PERSON for p in PEOPLE if p != concept]


def attacked_prompts(name: str, count: int = PROMPTS) -> list[str]:
    """`count` prompts that name other things of the concept's kind, in turn: someone, an object, another person."""
    from toyworld import captions as c

    kind, concept = concept_of(name)
    if kind == "figure":
        prompts = [*c.FIGURE["clothed"], *c.SOMEONE]
    elif kind in ("style", "object"):
        fills = _fills(o for o in OBJECTS if o != concept)
        prompts = [t.format(**fill) for t in c.OBJECT_PHOTO for fill in fills]
    else:
        prompts = [t.format(person=p) for t in c.PERSON for p in PEOPLE if p != concept]
    return [prompts[i % len(prompts)] for i in range(count)]


def _fills(names) -> list[dict[str, str]]:
    from toyworld.captions import with_article

    return [{"object": with_article(name), "name": name} for name in names]


# ---- files ---------------------------------------------------------------------------------------------------------


def pairs_file(name: str) -> Path:
    """Where a concept's pairs are, if it is one of SHIPPED."""
    return _file(name, "")


def prompts_file(name: str) -> Path:
    return _file(name, "-prompts")


def _file(name: str, end: str) -> Path:
    kind, concept = concept_of(name)
    return ROOT / "data" / f"ring-a-bell-{(NUDITY if kind == 'figure' else concept).replace(' ', '-')}{end}.csv"


def as_csv(columns: Sequence[str], rows) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    return text.getvalue()


def contents(name: str) -> dict[Path, str]:
    """path -> text of a concept's two files."""
    rows = [(case, prompt, FIRST_SEED + case) for case, prompt in enumerate(attacked_prompts(name))]
    return {pairs_file(name): as_csv(PAIR_COLUMNS, pairs(name)), prompts_file(name): as_csv(PROMPT_COLUMNS, rows)}


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m toyworld.attack_prompts",
        description="Write the pairs and prompts that Ring-A-Bell attacks the embedded model with.",
        epilog="example: python -m toyworld.attack_prompts --concepts 'kilian eng' --out .",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--concepts", nargs="+", default=SHIPPED, metavar="CONCEPT", help="whose files to write")
    parser.add_argument("--out", type=Path, default=ROOT / "data", help="folder")
    arguments = parser.parse_args()
    from erasure.runs import write_text

    for name in arguments.concepts:
        try:
            files = contents(name)
        except ValueError as error:
            parser.error(str(error))
        for path, text in files.items():
            write_text(arguments.out / path.name, text)
            print(f"wrote {arguments.out / path.name}")


if __name__ == "__main__":
    from erasure import errors

    errors.run(main)
