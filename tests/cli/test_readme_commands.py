"""The commands that the READMEs show: their scripts are there, and parse them as they stand."""

import importlib.util
import re
import shlex

import pytest

from erasure.runs import ROOT

READMES = [ROOT / "README.md", *sorted(ROOT.glob("methods/**/README.md"))]
_PLACEHOLDERS = re.compile(r"[…{]|\bRUN\b")


def commands(readme):
    """(words of a command) for every line of the ```sh blocks, those that go on in the next line joined."""
    for block in re.findall(r"^```sh\n(.*?)^```", readme.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE):
        for line in block.replace("\\\n", " ").splitlines():
            for command in line.split(" && "):
                words = shlex.split(command, comments=True)
                if words and not _PLACEHOLDERS.search(command):
                    yield words


def shown():
    return [
        pytest.param(words, id=f"{readme.parent.name}: {' '.join(words)[:90]}")
        for readme in READMES
        for words in commands(readme)
    ]


def parser_of(script):
    """A script's parser; None where the script has none of its own."""
    spec = importlib.util.spec_from_file_location("shown_script", script)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.build_parser() if hasattr(module, "build_parser") else None


@pytest.mark.parametrize("words", shown())
def test_a_shown_command_parses(words):
    while "=" in words[0]:  # variables
        words = words[1:]
    program, *rest = words
    if program == "sh":
        assert (ROOT / rest[0]).is_file()
    if program != "python" or rest[0] == "-m":
        return
    assert (ROOT / rest[0]).is_file()
    parser = parser_of(ROOT / rest[0])
    if parser and "--help" not in rest:
        parser.parse_args(rest[1:])


def test_every_readme_shows_some():
    assert all(list(commands(readme)) for readme in READMES)
