"""The shipped embedded model and its judge, on a sample of what `python -m toyworld.evaluate` measures in full."""

import numpy as np
import pytest

from erasure import base_models
from erasure.generation import PRESETS
from erasure.runs import ROOT, read_json
from tests.behaviour.conftest import QUICK_SAMPLER, prompts
from toyworld.evaluate import RENDER_SEED
from toyworld.training.data import render_chunk

pytestmark = [pytest.mark.behaviour, pytest.mark.slow]
TOY = ROOT / "models" / "toy"


def test_the_judge_names_fresh_renders(bench):
    images, rows = render_chunk(RENDER_SEED + 1, 0, 500)
    answers = bench.judge.predict(images)
    style = np.mean([a["style"] == (r["style"] or "photo") for a, r in zip(answers, rows, strict=True)])
    subject = np.mean([a["subject"] == r["subject"] for a, r in zip(answers, rows, strict=True)])
    assert style >= 0.99 and subject >= 0.98  # 500 renders; the bar of 99 % is measured on 4000


def test_every_concept_is_drawn(bench):
    shares = bench.measure(
        "base-dpm-8", prompts(), **QUICK_SAMPLER
    ).by_concept  # the pictures that erasures are held against
    assert len(shares) == 38
    assert {concept: share for concept, share in shares.items() if share <= 0.5} == {}
    assert np.mean(list(shares.values())) >= 0.95


def test_published_scores_are_those_of_the_shipped_weights():
    scores = read_json(TOY / "scores.json")
    _, identity = base_models.load("toy")
    assert scores["model"] == identity.sha256
    assert min(scores["judge"]["style"], scores["judge"]["subject"]) >= 0.99
    assert min(scores["worst"].values()) >= 0.9
    assert scores["a photo"]["its share"] <= 0.5
    assert scores["settings"]["guidance"] == PRESETS["toy"].guidance
    text = (TOY / "README.md").read_text()
    assert f"{scores['judge']['subject']:.2%}" in text


def test_the_weights_fit_their_budget():
    assert sum(file.stat().st_size for file in TOY.iterdir()) <= 30e6
