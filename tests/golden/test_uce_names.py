"""What the 2023 command lines come to: lists, scales, file names; and where its two mistakes are put right."""

import re

import pytest

from erasure.errors import UserError
from methods.uce import train_erase
from methods.uce.settings import UceSettings
from tests.golden.golden_data import load_json


@pytest.fixture(scope="module")
def golden():
    return load_json("uce/uce_erase_2023_cli_names")


def settings_of(argv) -> UceSettings:
    return UceSettings.of(train_erase.build_parser().parse_args(argv))


def seed_of(golden) -> list[str]:
    """The note says to what the recorded runs were seeded."""
    found = re.search(r"random\.seed\((\d+)\)", golden.get("note", ""))
    return ["--seed", found[1]] if found else []


def as_published(argv):
    """There any value of --add_prompts, even False, meant True."""
    argv = list(argv)
    if "--add_prompts" in argv:
        argv[argv.index("--add_prompts") + 1] = "True"
    return argv


def test_lists_and_names(golden):
    cases = [case for case in golden["cases"] if "error" not in case]
    assert cases
    for case in cases:
        settings = settings_of([*as_published(case["argv"]), *seed_of(golden)])
        plan = settings.plan(golden["artists_in_the_csv_used"])
        assert list(plan.concepts) == case["concepts"] == case["info_content"]
        assert [pair.text for pair in plan.pairs] == case["old_texts"]
        assert [pair.guide for pair in plan.pairs] == case["new_texts"]
        assert list(plan.preserved) == case["retain_texts"]
        assert plan.preserve_scale == case["preserve_scale"]
        assert settings.erase_scale == case["erase_scale"]
        assert [f"{plan.name}.pt"] == case["models"]
        assert [f"{plan.name}.txt"] == case["info"]


def test_false_is_false(golden):
    cases = [case["argv"] for case in golden["cases"] if case["argv"][-2:] == ["--add_prompts", "False"]]
    for argv in cases:
        plan = settings_of(argv).plan(golden["artists_in_the_csv_used"])
        assert [pair.text for pair in plan.pairs] == list(plan.concepts)


def test_what_was_an_error(golden):
    """A list of preserved texts works; a wrong number of guides says so."""
    for case in golden["cases"]:
        if "error" not in case:
            continue
        settings = settings_of(case["argv"])
        if "AssertionError" in case["error"]:
            with pytest.raises(UserError, match="guides for .* concepts"):
                settings.plan(golden["artists_in_the_csv_used"])
        else:
            plan = settings.plan(golden["artists_in_the_csv_used"])
            assert list(plan.preserved) == ["", *settings.preserve_concepts.split(", ")]
            assert "-preserve_true-" in plan.name
