"""Bring in prompt sets that are not part of this repository (I2P, COCO captions, sets of other projects) from a copy of yours.

python data/import_prompts.py --list                                        # all sets: what they are, where they go, if they are here
python data/import_prompts.py i2p ~/erasing/data/unsafe-prompts4703.csv     # checked, copied, and the sets made of it
python data/import_prompts.py coco_30k_case coco_30k.csv --link             # a link in place of a copy
python data/import_prompts.py i2p --check                                   # is it here, and is it the published file?

Nothing is downloaded. A command that needs a set which is not here says so, and where the set is published.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from erasure import errors, prompt_imports
from erasure.errors import UserError
from erasure.prompt_sets import how_to_import, sources


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="import_prompts.py",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("key", nargs="?", metavar="KEY", help="which set, by its name in data/sources.yaml")
    parser.add_argument("file", nargs="?", metavar="FILE", help="your copy of its published file")
    how = parser.add_argument_group("how")
    how.add_argument("--link", action="store_true", help="link to FILE (default: copy it)")
    how.add_argument(
        "--accept_changed",
        action="store_true",
        help="FILE may have other bytes than the published one (its line ends, say), but not other rows and columns",
    )
    only = parser.add_argument_group("or only say what there is")
    only.add_argument("--list", action="store_true", help="every set, or everything about KEY")
    only.add_argument("--check", action="store_true", help="compare what is here (of KEY) with what was published")
    parser.add_argument("--root", help="put files below this folder (default: the repository)")
    return parser


def main(argv: list[str] | None = None) -> int | None:
    args = build_parser().parse_args(argv)
    if args.key and args.key not in sources():
        raise UserError(f"no prompt set {args.key!r}; there are {', '.join(sources())}")
    if args.list:
        return _tell(args.key) if args.key else _list(args.root)
    if args.check:
        return _check([args.key] if args.key else list(sources()), args.root)
    if not args.file:
        raise UserError("name a set and your copy of it, as in i2p FILE, or give --list or --check")
    if args.file and args.link and any(name in sources()[args.key] for name in ("becomes", "layout")):
        raise UserError(f"{args.key} is rewritten on the way: it cannot be linked to")
    for placed in prompt_imports.bring_in(args.key, args.file, args.link, args.accept_changed, args.root):
        exact = {True: "the published file", False: "not the published file byte for byte", None: "made here"}
        print(f"{placed.key:28} {placed.rows:>6} rows  {exact[placed.exact]} -> {placed.path}")


def _list(root: str | None) -> None:
    for key, source in sources().items():
        print(f"{key:28} {source['rows']:>6} rows  {prompt_imports.state(key, root):12}  {source['about']}")


def _tell(key: str) -> None:
    source = sources()[key]
    for name in ("about", "kind", "licence", "published_in", "needed_by", "file", "also", "rows", "columns", "sha256"):
        if name in source:
            value = source[name]
            text = ", ".join(repr(v) if v == "" else v for v in value) if isinstance(value, list) else value
            print(f"{name:13} {text}")
    if not source.get("shipped"):
        print(how_to_import(key))


def _check(keys: list[str], root: str | None) -> int:
    """Exit code 1 if a set that is here is not the published file; one that is named has to be here."""
    states = {key: prompt_imports.state(key, root) for key in keys}
    for key, state in states.items():
        if state != "absent" or len(keys) == 1:
            print(f"{key:28} {state:12}  {prompt_imports.place(key, root)}")
    return int("changed" in states.values() or (len(keys) == 1 and "absent" in states.values()))


if __name__ == "__main__":
    errors.run(main)
