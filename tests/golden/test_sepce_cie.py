"""The published CiE run, replayed until it stops by itself."""

import pytest
import torch

from methods.sepce.objectives.cie import CiE
from tests.golden.golden_data import load
from tests.golden.numeric import assert_relative_to_max
from tests.golden.sepce_model import GoldenModel, check_numbers, check_step, check_tensors, replay, step_of

NAMES = {"total": "loss"}  # ours, where they differ


@pytest.fixture(scope="module")
def golden():
    return GoldenModel()


def cie(golden, hyper):
    chosen = {name: hyper[name] for name in ("reg_beta", "threshold", "iterations")}
    return CiE(golden.model, golden.encode, hyper["prompt"], **chosen)


def test_training(golden):
    meta, tensors = load("sepce/cie")
    before = {name: value.clone() for name, value in golden.model.state_dict().items()}
    with cie(golden, meta["hyper"]) as objective:
        assert list(objective.trained) == golden.attn2_order
        steps = []
        for i, step in enumerate(replay(objective, tensors, meta["hyper"]["lr"])):
            recorded = {NAMES.get(name, name): value for name, value in meta["per_step"][i].items() if name != "t"}
            check_numbers(step.terms.numbers, recorded)
            check_step(step, tensors, i, golden.attn2_order)
            steps.append(step)
        edit = objective.edit(meta["hyper"], {})
        assert check_tensors(edit.tensors, tensors, "final.", golden.attn2_order, 2e-4)
    # the recording's images end where its stop rule says so: it was obeyed, and not one step earlier
    assert len(steps) == meta["steps_run"]
    assert [step.finished for step in steps] == [False] * (meta["steps_run"] - 1) + [_stopped_itself(meta)]
    assert set(edit.tensors) == set(golden.attn2_order)
    for name, value in golden.model.state_dict().items():
        assert torch.equal(value, before[name]), name


def _stopped_itself(meta):
    last, limits = meta["per_step"][-1], meta["hyper"]
    return meta["steps_run"] > 11 and (
        last["momentum"] < limits["threshold"] or meta["steps_run"] == limits["iterations"] + 1
    )


def test_predictions(golden):
    meta, tensors = load("sepce/cie")
    with cie(golden, meta["hyper"]) as objective:
        steps = replay(objective, tensors, meta["hyper"]["lr"])
        i = 0
        while f"step{i}.e_n" in tensors:
            step, contexts = step_of(tensors, i), list(objective.texts.values())
            x = objective.noised(step)
            assert_relative_to_max(x[0], tensors["z_t"][i], 1e-6, f"z_t {i}")
            with torch.no_grad():
                found = dict(zip(("e_0", "e_n"), objective.original(x, step.t, contexts), strict=True))
                found |= dict(zip(("e_p0", "e_pn"), objective.predict(x, step.t, contexts), strict=True))
            for name, value in found.items():
                # after a step of Adam, its parameters' error shows in the predictions
                assert_relative_to_max(value[0], tensors[f"step{i}.{name}"], 1e-5 if i == 0 else 5e-5, f"{name} {i}")
            next(steps)
            i += 1
        assert i
