"""Make the prompt files that consist of names, templates and seeds, byte for byte as they were published.

python data/build_prompts.py --list
python data/build_prompts.py celebrity_50_erased art_100_erased      # into generation_prompts/
python data/build_prompts.py --all --out prompts_csv
python data/build_prompts.py --check                                 # makes all in memory, and compares their sha256

Generation makes a file of these by itself when it is named and not there yet.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from erasure import errors, prompt_rules
from erasure.errors import UserError


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="build_prompts.py",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="files to make, with or without their ending")
    which = parser.add_argument_group("or instead of names")
    which.add_argument("--all", action="store_true", help="make every file")
    which.add_argument("--list", action="store_true", help="only say what there is")
    which.add_argument("--check", action="store_true", help="write nothing, compare with what was published")
    parser.add_argument("--out", help="folder to write to (default: generation_prompts/ of the repository)")
    return parser


def main(argv: list[str] | None = None) -> None:
    args = build_parser().parse_args(argv)
    if not (args.names or args.all or args.list or args.check):
        raise UserError("name files to make, or give --all, --list or --check")
    names = [_known(name) for name in args.names] or list(prompt_rules.rules())
    for name in names:
        rule = prompt_rules.rules()[name]
        if args.list:
            print(f"{name:30} {rule['rows']:>5} rows  {rule['published_in']}")
        elif args.check:
            prompt_rules.build(name)
            print(f"{name:30} {rule['rows']:>5} rows  sha256 as recorded")
        else:
            print(f"{rule['rows']:>5} rows -> {prompt_rules.make(name, args.out)}")


def _known(name: str) -> str:
    names = prompt_rules.rules()
    found = [known for known in names if name in (known, Path(known).stem)]
    if not found:
        raise UserError(f"no rule for {name!r}; there are {', '.join(Path(known).stem for known in names)}")
    return found[0]


if __name__ == "__main__":
    errors.run(main)
