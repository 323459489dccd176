"""The commands that READMEs and docs/ show: their scripts are there, and parse them as they stand."""

import contextlib
import importlib.util
import re
import shlex

import pytest

from erasure.runs import ROOT
from tests.cli import method_template

PAGES = [
    ROOT / "README.md",
    *(ROOT / folder / "README.md" for folder in ("data", "reproduce", "docs/method-template")),
    *sorted(ROOT.glob("methods/**/README.md")),
    *(ROOT / "docs" / name for name in ("add-a-method.md", "attacks.md", "reproduce.md")),
]
_PLACEHOLDERS = re.compile(r"[…{]|\bRUN\b")


def commands(page):
    """(words of a command) for every line of the ```sh blocks, those that go on in the next line joined."""
    for block in re.findall(r"^```sh\n(.*?)^```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE):
        for line in block.replace("\\\n", " ").splitlines():
            for command in line.split(" && "):
                words = shlex.split(command, comments=True)
                if words and not _PLACEHOLDERS.search(command):
                    yield words


def shown():
    return [
        pytest.param(words, id=f"{page.parent.name}: {' '.join(words)[:90]}")
        for page in PAGES
        for words in commands(page)
    ]


def parser_of(script):
    """A script's parser; None where the script has none of its own."""
    spec = importlib.util.spec_from_file_location("shown_script", script)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.build_parser() if hasattr(module, "build_parser") else None


@contextlib.contextmanager
def place_of(script, tmp_path):
    """Where a shown script is; the method that a page has the reader make is a copy of the template."""
    if not script.startswith(f"methods/{method_template.NAME}/"):
        yield ROOT / script
        return
    folder = method_template.copy(tmp_path)
    with method_template.importable(folder):
        yield tmp_path / script


@pytest.mark.parametrize("words", shown())
def test_a_shown_command_parses(words, tmp_path):
    while "=" in words[0]:  # variables
        words = words[1:]
    program, *rest = words
    if program in ("sh", "cp"):
        there = [word for word in rest if not word.startswith("-")][0]
        assert (ROOT / there).exists() and (program == "cp" or (ROOT / there).is_file())
    if program != "python" or rest[0] == "-m":
        return
    with place_of(rest[0], tmp_path) as script:
        assert script.is_file()
        parser = parser_of(script)
        if parser and "--help" not in rest:
            own = rest[: rest.index("--")] if "--" in rest else rest  # what stands behind is another program's
            parser.parse_args(own[1:])


def test_every_page_shows_some():
    assert all(list(commands(page)) for page in PAGES)
