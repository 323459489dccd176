"""data/build_prompts.py: makes, lists and checks the prompt files that have a rule."""

import pytest

from erasure import prompt_rules
from erasure.errors import UserError
from erasure.runs import ROOT
from tests.cli.process import help_without_torch, load

SCRIPT = ROOT / "data" / "build_prompts.py"


def test_help_needs_no_torch():
    assert "--check" in help_without_torch(SCRIPT)


def test_makes_what_is_named(tmp_path, capsys):
    load(SCRIPT).main(["character_64", "style_classify.csv", "--out", str(tmp_path)])
    assert {path.name for path in tmp_path.iterdir()} == {"character_64.csv", "style_classify.csv"}
    for path in tmp_path.iterdir():
        assert path.read_bytes() == prompt_rules.build(path.name)
    assert "325 rows" in capsys.readouterr().out


@pytest.mark.parametrize("flag", ["--list", "--check"])
def test_goes_through_all_of_them(flag, capsys, tmp_path):
    load(SCRIPT).main([flag, "--out", str(tmp_path)])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(prompt_rules.rules())
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "what"), [(["nope"], "no rule for 'nope'; there are celebrity_1"), ([], "--all")]
)
def test_mistakes(arguments, what):
    with pytest.raises(UserError, match=what):
        load(SCRIPT).main(arguments)
