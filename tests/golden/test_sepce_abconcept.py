"""The published Abconcept run, replayed to its end."""

import pytest
import torch

from methods.sepce.objectives.abconcept import Abconcept
from tests.golden.golden_data import load
from tests.golden.numeric import assert_relative_to_max
from tests.golden.sepce_model import GoldenModel, check_numbers, check_step, replay, step_of

NAMES = {"ten_times_anchor_term": "anchor_term"}  # ours, where they differ


@pytest.fixture(scope="module")
def golden():
    return GoldenModel()


def abconcept(golden, hyper):
    return Abconcept(golden.model, golden.encode, hyper["prompt"], hyper["iter_break"], hyper["anchor_weight"])


def test_training(golden):
    meta, tensors = load("sepce/abconcept")
    with abconcept(golden, meta["hyper"]) as objective:
        assert list(objective.prompts) == meta["hyper"]["prompts_used"]
        steps = list(replay(objective, tensors, meta["hyper"]["lr"]))
    for i, step in enumerate(steps):
        recorded = {NAMES.get(name, name): value for name, value in meta["per_step"][i].items() if name != "t"}
        check_numbers(step.terms.numbers, recorded)
        check_step(step, tensors, i, golden.attn2_order)
    assert steps[0].terms.numbers["anchor_term"] == pytest.approx(0, abs=1e-9)
    assert len(steps) == meta["steps_run"] == meta["hyper"]["iter_break"] + 1
    assert [step.finished for step in steps] == [False] * meta["hyper"]["iter_break"] + [True]


@torch.no_grad()
def test_predictions(golden):
    meta, tensors = load("sepce/abconcept")
    with abconcept(golden, meta["hyper"]) as objective:
        step = step_of(tensors, 0)
        x, contexts = objective.noised(step), [golden.encode(prompt) for prompt in objective.prompts]
        found = {"e_n": objective.original(x, step.t, contexts[1:])[0]}
        found["e_pn"], found["e_p0"] = objective.predict(x, step.t, contexts)
        for name, value in found.items():
            assert_relative_to_max(value[0], tensors[f"step0.{name}"], 1e-5, name)
