"""The published FMN run, replayed to its end."""

import pytest
import torch

from methods.sepce.objectives.fmn import FMN
from tests.golden.golden_data import load
from tests.golden.numeric import assert_relative_to_max
from tests.golden.sepce_model import GoldenModel, check_numbers, check_step, replay, step_of


@pytest.fixture(scope="module")
def golden():
    return GoldenModel()


def fmn(golden, hyper):
    return FMN(golden.model, golden.encode, hyper["prompt"], hyper["iter_break"])


def test_training(golden):
    meta, tensors = load("sepce/fmn")
    with fmn(golden, meta["hyper"]) as objective:
        assert list(objective.prompts) == meta["hyper"]["prompts_used"]
        steps = list(replay(objective, tensors, meta["hyper"]["lr"]))
        edit = objective.edit(meta["hyper"], {})
    for i, step in enumerate(steps):
        check_numbers(step.terms.numbers, {k: v for k, v in meta["per_step"][i].items() if k != "t"})
        check_step(step, tensors, i, golden.attn2_order)
    untrained = {golden.attn2_order[j] for j in meta["no_grad_params"]}
    assert {name for name, grad in steps[0].grads.items() if grad is None} == untrained
    assert set(edit.tensors) == set(golden.attn2_order) - untrained
    assert len(steps) == meta["steps_run"] == meta["hyper"]["iter_break"] + 1
    assert [step.finished for step in steps] == [False] * meta["hyper"]["iter_break"] + [True]


@torch.no_grad()
def test_differences_of_logits(golden):
    meta, tensors = load("sepce/fmn")
    with fmn(golden, meta["hyper"]) as objective:
        step = step_of(tensors, 0)
        (eps,) = objective.predict(objective.noised(step), step.t, [golden.encode(objective.prompts[0])])
        assert_relative_to_max(eps, tensors["step0.eps"], 1e-5, "eps")
        found = list(objective.found.values())
    assert len(found) == sum(name.startswith("step0.d_sim.") for name in tensors)
    for i, value in enumerate(found):
        assert_relative_to_max(value, tensors[f"step0.d_sim.{i}"], 1e-5, f"layer {i}")
