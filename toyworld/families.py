"""Erase a few concepts from the embedded model with all five families, put the edits together, and compare.

    python -m toyworld.families                                              # outputs/families/
    python -m toyworld.families --methods uce,rece --concepts 'picasso,church'

Each concept is erased by itself; then the edits of a family are applied alone, together and all but one. Writes report.html,
report.png, matrix.csv and report.json. What is there is kept. --picture writes the PNG once more, small, for a README.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import asdict
from pathlib import Path

from toyworld.prompts import CONCEPTS, add_counts, check_counts
from toyworld.quickstart import methods
from toyworld.quickstart_methods import METHODS, Task

ROOT = Path(__file__).resolve().parents[1]
DEFAULT_CONCEPTS = "van gogh,golf ball,adam driver"
PICTURE_WIDTH, PICTURE_COLOURS = 1200, 256


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m toyworld.families",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    what = parser.add_argument_group("what to erase")
    what.add_argument(
        "--concepts", type=concepts, default=DEFAULT_CONCEPTS, metavar="A,B,...",
        help="styles, objects and people of the toy world (default: %(default)s)",
    )  # fmt: skip
    how = parser.add_argument_group("how")
    how.add_argument("--methods", type=methods, default=",".join(METHODS), help="with which (default: %(default)s)")
    how.add_argument("--iterations", type=int, help="of ESD (default: the embedded model's preset)")
    add_counts(how)
    how.add_argument("--device", default="cpu", help="cpu, or a GPU as in cuda:0 (default: %(default)s)")
    out = parser.add_argument_group("output")
    out.add_argument("--out", type=Path, default=ROOT / "outputs" / "families", help="folder (default: %(default)s)")
    out.add_argument("--picture", type=Path, metavar="PNG", help="also write the report's picture here, in few colours")
    return parser


def concepts(text: str) -> list[str]:
    """Names in a comma list, each once."""
    asked = list(dict.fromkeys(" ".join(name.split()).lower() for name in text.split(",")))
    if unknown := [name for name in asked if name not in CONCEPTS]:
        raise argparse.ArgumentTypeError(f"no concept {unknown[0]!r}; choose from {', '.join(CONCEPTS)}")
    return asked


def main() -> int:
    parser = build_parser()
    arguments = parser.parse_args()
    check_counts(parser, arguments)
    import torch

    from erasure import runs
    from erasure.base_models import load
    from erasure.generation.models import pick_device
    from erasure.generation.presets import settings
    from erasure.interference import Bench, measure
    from erasure.interference.command import QUICK, facts, present
    from toyworld.interference_judge import embedded_judge

    model, identity = load("toy", device=pick_device(arguments.device))
    judging, drawing = embedded_judge(arguments.pictures, arguments.others), settings("toy", **QUICK)
    resolved = vars(arguments) | {"base": identity.to_dict(), "judge": judging.identity, "drawing": asdict(drawing)}
    runs.print_settings(resolved)
    runs.write_json(arguments.out / "settings.json", resolved | {"versions": runs.versions()})
    groups, said = make(arguments, model, identity)
    rows = judging.prompts(arguments.concepts)
    bench = Bench(model, identity, rows, judging.judge, drawing, arguments.out, judging.name_of)
    said["threads"] = str(torch.get_num_threads())  # that seconds were measured with
    names = title_of(arguments.concepts)
    shown = present(
        [measure(bench, group) for group in groups],
        arguments.out,
        f"{names} erased together",
        facts(identity, drawing, judging.identity) | said,
    )
    if arguments.picture:
        write_picture(shown, arguments.picture)
        print(arguments.picture)
    return 0


def make(arguments: argparse.Namespace, model, identity):
    """(groups, settings of each family for the foot of the report): an edit a concept, made or taken as it is there."""
    from erasure.interference import Group, Member

    groups, said = [], {}
    for name in arguments.methods:
        members = []
        for concept in arguments.concepts:
            out = arguments.out / "edits" / concept.replace(" ", "-")
            iterations = arguments.iterations if name == "esd" else None
            made = METHODS[name].erase(Task(concept, model, identity, out, iterations=iterations))
            print(f"{METHODS[name].name}: erasing {concept!r} took {made.costs()['Erasing took']}", flush=True)
            members.append(Member(made.edit, made.seconds, made.size))
        groups.append(Group(METHODS[name].name, members))
        said[METHODS[name].name] = made.settings
    return groups, said


def title_of(names: list[str]) -> str:
    titles = [" ".join(word.capitalize() for word in name.split()) for name in names]
    return f"{', '.join(titles[:-1])} and {titles[-1]}" if len(titles) > 1 else titles[0]


def write_picture(shown, path: Path) -> None:
    """The report's picture, narrower and in few colours: a fifth of the bytes."""
    from PIL import Image

    from erasure.report import to_image
    from erasure.report.drawing import GOALS
    from erasure.report.scatter import COLOURS
    from erasure.runs import atomic_path

    image = to_image(shown)
    size = (PICTURE_WIDTH, round(image.height * PICTURE_WIDTH / image.width))
    small = image.resize(size, Image.Resampling.LANCZOS)
    # the colours that tell methods apart are few pixels, which a palette of the most frequent ones would merge
    own = [int(colour[i : i + 2], 16) for colour in (*COLOURS, *GOALS.values()) for i in (1, 3, 5)]
    frequent = small.quantize(PICTURE_COLOURS - len(own) // 3).getpalette()
    palette = Image.new("P", (1, 1))
    palette.putpalette((own + frequent)[: 3 * PICTURE_COLOURS])
    small = small.quantize(palette=palette, dither=Image.Dither.NONE)
    with atomic_path(path) as temporary:
        small.save(temporary, optimize=True)


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    from erasure import errors

    errors.run(main)
