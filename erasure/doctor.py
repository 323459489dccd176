"""What every command needs, what of it is here, and where the rest comes from and goes.

python -m erasure.doctor
python -m erasure.doctor eval-scripts/lpips_eval.py imageclassify.py
python -m erasure.doctor --no_hash --json doctor.json

Exit code 0 if the commands named (default: all) have what they need, else 1. The lines of what is missing are the commands' own, which
find their files by the same code. Optional files are for other choices than the default, or for Stable Diffusion in place of the
embedded model. Nothing is downloaded or loaded.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from erasure import errors, needs, runs
from erasure.errors import UserError

REQUIREMENTS = runs.ROOT / "requirements.txt"
_LINE = re.compile(r"(?P<name>[A-Za-z0-9_.-]+)==(?P<version>[^\s;#]+)[^#]*(?:#\s*(?P<about>.*))?")


@dataclass(frozen=True)
class Package:
    """A line of requirements.txt: the versions that are tested, the one that is installed (None: none)."""

    name: str
    tested: tuple[str, ...]
    optional: bool
    installed: str | None

    @property
    def state(self) -> str:
        if self.installed is None:
            return "optional, not here" if self.optional else "missing"
        release = self.installed.partition("+")[0]  # torch 2.10.0+cpu
        return "ok" if release in self.tested else "ok, another version than tested"


def packages() -> dict[str, Package]:
    """Name -> package, of requirements.txt."""
    lines: dict[str, list[re.Match]] = {}
    for line in REQUIREMENTS.read_text(encoding="utf-8").splitlines():
        if found := _LINE.match(line):
            lines.setdefault(found["name"], []).append(found)
    return {name: _package(name, found) for name, found in lines.items()}


def _package(name: str, lines: list[re.Match]) -> Package:
    try:
        installed = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        installed = None
    optional = any((line["about"] or "").startswith("optional") for line in lines)
    return Package(name, tuple(line["version"] for line in lines), optional, installed)


def chosen(names: Iterable[str]) -> dict[str, needs.Command]:
    """The commands called so, by path or by file name; all without names. UserError for an unknown one."""
    known, found = needs.commands(), {}
    for name in names:
        given = Path(name).as_posix().removeprefix("./")
        fits = [path for path in known if path == given or path.endswith("/" + given)]
        if not fits:
            raise UserError(f"no command {name}; python -m erasure.doctor lists them all")
        found |= {path: known[path] for path in fits}
    return found or known


def lacking(command: needs.Command, files: dict[str, needs.Found], installed: dict[str, Package]) -> list[str]:
    """Why a command cannot run: needs that are not there or damaged, packages that are not installed."""
    found = [name for name in command.needs if files[name].state != "ok"]
    return found + [f"package {name}" for name in command.packages if installed[name].installed is None]


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m erasure.doctor",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("commands", nargs="*", metavar="COMMAND", help="scripts, by path or file name (default: all)")
    parser.add_argument(
        "--no_hash", action="store_true", help="do not read the files to hash them, which takes a while"
    )
    parser.add_argument("--json", metavar="FILE", help="also write the findings to this file")
    return parser


def _size(path: Path) -> str:
    if not path.is_file():
        return "folder"
    size = path.stat().st_size
    return f"{size / 1e6:.1f} MB" if size < 1e9 else f"{size / 1e9:.2f} GB"


def _print_files(files: dict[str, needs.Found]) -> None:
    print("files")
    for name, found in files.items():
        title = f"{name} ({needs.NEEDS[name].title})"
        if found.path:
            print(f"  {found.state:<8} {title}: {found.path}, {_size(found.path)}")
            if found.sha256:
                print(f"           sha256 {found.sha256}")
        if found.text:
            print(f"  {found.state:<8} {title}: {found.text}" if not found.path else f"           {found.text}")
        if found.state != "ok" and needs.NEEDS[name].source not in found.text:
            print(f"           from {needs.NEEDS[name].source}")


def _print_packages(installed: dict[str, Package]) -> None:
    print("packages")
    for one in installed.values():
        print(f"  {one.name} {one.installed or '-'}: {one.state} (tested: {', '.join(one.tested)})")


def _print_commands(picked: dict[str, needs.Command], files: dict[str, needs.Found], why: dict[str, list[str]]) -> None:
    print("commands")
    for path, command in picked.items():
        text = f"lacks {', '.join(why[path])}" if why[path] else "can run"
        absent = [name for name in command.optional if files[name].state != "ok"]
        print(f"  {'missing' if why[path] else 'ok':<8} {path}: {text}" + _optional(absent))


def _optional(absent: list[str]) -> str:
    return f"; without the optional {', '.join(absent)}" if absent else ""


def main() -> int:
    args = build_parser().parse_args()
    picked = chosen(args.commands)
    wanted = {name for command in picked.values() for name in command.needs + command.optional}
    files = {name: need.look(not args.no_hash) for name, need in needs.NEEDS.items() if name in wanted}
    installed = packages()
    why = {path: lacking(command, files, installed) for path, command in picked.items()}
    _print_files(files)
    _print_packages(installed)
    _print_commands(picked, files, why)
    print("prompt sets of others: python data/import_prompts.py --list")
    broken = [one.name for one in installed.values() if one.state == "missing"]
    unable = [path for path, lacks in why.items() if lacks]
    print(
        f"{len(picked) - len(unable)} of {len(picked)} commands can run; packages missing: {', '.join(broken) or 'none'}"
    )
    if args.json:
        runs.write_json(args.json, {
            "files": {name: vars(found) for name, found in files.items()},
            "packages": {name: vars(one) | {"state": one.state} for name, one in installed.items()},
            "commands": {path: vars(picked[path]) | {"lacks": why[path]} for path in picked},
        })  # fmt: skip
    return 1 if unable or broken else 0


if __name__ == "__main__":
    errors.run(main)
