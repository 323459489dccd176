"""The texts that CPE's published trainings encoded, from the targets, templates and word lists that are here."""

import hashlib

import pytest

from erasure.runs import ROOT
from methods.cpe import prompts
from methods.cpe.yaml_files import read_config, read_yaml
from tests.golden import golden_data

DOMAINS = ("celeb", "artist", "explicit")


@pytest.fixture(scope="module", params=DOMAINS)
def domain(request):
    """(what was recorded, settings, templates)."""
    recorded = golden_data.load_json("cpe/train_prompts")["domains"][request.param]
    settings = read_config(ROOT / f"configs/train_{request.param}/config.yaml", "sd-v1")
    return recorded, settings, prompts.read_templates(settings["scripts_file"], settings["replace_word"])


def sha256(texts):
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()


def test_targets_in_templates(domain):
    recorded, settings, templates = domain
    (target,) = [t for t in read_yaml(settings["prompts_file"]) if t["target"] == recorded["target"]]
    assert target["neutral"] == recorded["neutral"]
    assert len(templates) == recorded["n_erase_templates_incl_bare"]
    for name in ("target", "neutral"):
        assert prompts.fill_all(templates, settings["replace_word"], target[name]) == recorded[f"{name}_prompts"]


def test_general_words(domain):
    recorded, settings, templates = domain
    if "general" not in settings["anchors"]:
        pytest.skip("this domain has sentences instead, which are not part of the repository")
    filled = [
        prompts.fill_all(templates, settings["replace_word"], word)
        for word in prompts.read_words(settings["anchors"]["general"])
    ]
    assert [texts[-1] for texts in filled] == recorded["general_word_blocks_bare_form"]
    assert sha256(text for texts in filled for text in texts) == recorded["general_words_sha256_all_prompts"]


def test_candidates(domain):
    recorded, settings, _ = domain
    if "candidates" not in settings["anchors"]:
        pytest.skip("this domain has sentences instead, which are not part of the repository")
    names = prompts.read_words(settings["anchors"]["candidates"])
    left = prompts.candidates_without(names, recorded["target"])
    assert len(left) == recorded["n_candidates_after_filter"]
    assert sha256(sorted(left)) == recorded["candidates_sorted_sha256"]
