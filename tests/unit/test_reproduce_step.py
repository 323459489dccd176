"""Steps of a plan: commands run in their folders, results are filled in, and what cannot be had is passed on."""

import os
from pathlib import Path

import pytest

from erasure import runs
from erasure.errors import UserError
from reproduce import step, steps, workflow
from reproduce.models import Plan
from reproduce.steps import Step

MISSING = ("python", "eval-scripts/check_asr.py", "--root", "nowhere", "--root-no-attack", "nowhere")
LISTED = ("python", "data/build_prompts.py", "--list")


def planned(tmp_path: Path, *made: Step) -> step.Planned:
    plan = Plan("toy", tmp_path / "root")
    step.write_plan(tmp_path / "plan.json", plan, {one.key: one for one in made})
    return step.read_plan(tmp_path / "plan.json")


def test_a_command_runs_in_the_folder_of_its_step(tmp_path):
    plan = planned(tmp_path, Step("measure/a", "", (LISTED,)))
    step.run_step(plan, "measure/a")
    record = plan.record("measure/a")
    assert record["why"] is None and record["seconds"] > 0 and record["commands"] == [[*LISTED]]


def test_what_cannot_be_had_is_passed_on(tmp_path, capfd):
    plan = planned(tmp_path, Step("measure/a", "", (MISSING, LISTED)), Step("measure/b", "", (LISTED,), ("measure/a",)))
    step.run_step(plan, "measure/a")
    why = plan.record("measure/a")["why"]
    assert "nowhere" in why and why in capfd.readouterr().err
    step.run_step(plan, "measure/b")
    assert plan.record("measure/b")["why"] == why
    assert workflow.unavailable(plan.plan, plan.steps) == {"measure/a": why, "measure/b": why}


def test_a_step_that_needs_another_waits_for_it(tmp_path):
    plan = planned(tmp_path, Step("measure/b", "", (LISTED,), ("measure/a",)))
    with pytest.raises(UserError, match="measure/a is not done yet"):
        step.run_step(plan, "measure/b")


def test_a_training_that_fails_fails(tmp_path):
    plan = planned(tmp_path, Step("train/a", "", (MISSING,), result="models/*"))
    with pytest.raises(UserError, match="nowhere"):
        step.run_step(plan, "train/a")
    assert not (plan.folder("train/a") / steps.RECORD).exists()


def test_results_of_trainings_are_filled_in(tmp_path):
    plan = planned(tmp_path)
    for key, names in (("train/a", ["models/one"]), ("train/b", ["models/x-time0", "models/x-time1"])):
        runs.write_json(plan.folder(key) / steps.RECORD, {"results": names})
    root = plan.plan.root
    assert plan.filled("@{train/a:}") == str(root / "train/a/models/one")
    assert plan.filled("--ckpt=@{train/b:time1}") == f"--ckpt={root}/train/b/models/x-time1"
    with pytest.raises(UserError, match="left 2 results"):
        plan.filled("@{train/b:}")
    with pytest.raises(UserError, match="left 0 results of time7"):
        plan.filled("@{train/b:time7}")


def test_images_are_spread_over_processes():
    alone = [*step._program(("python", "eval-scripts/generate-images.py", "--x"), 1)]
    spread = [*step._program(("python", "eval-scripts/generate-images.py", "--x"), 4)]
    assert alone[1:] == [str(runs.ROOT / "eval-scripts/generate-images.py"), "--x"]
    assert spread[1:6] == ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "4"]
    assert spread[6:] == alone[1:]
    assert [*step._program(("python", "methods/esd/train-esd.py"), 4)][1:] == [
        str(runs.ROOT / "methods/esd/train-esd.py")
    ]


def test_one_run_at_a_time(tmp_path):
    with (
        workflow._lock(tmp_path),
        pytest.raises(UserError, match="another run is at work here"),
        workflow._lock(tmp_path),
    ):
        pass
    with workflow._lock(tmp_path):  # free again
        assert os.path.exists(tmp_path / ".lock")


def test_what_could_not_be_had_is_tried_again_and_tables_of_other_steps_are_made_again(tmp_path):
    made = [Step("measure/a", "", (LISTED,)), Step("measure/b", "", (LISTED,))]
    made += [Step(f"table/{name}", "", needs=(f"measure/{of}",)) for name, of in (("t", "a"), ("u", "b"), ("v", "b"))]
    plan = planned(tmp_path, *made)
    for one in made:
        needs = ["measure/c"] if one.key == "table/v" else list(one.needs)
        record = {"why": "gone" if one.key == "measure/a" else None, "needs": needs}
        runs.write_json(plan.folder(one.key) / steps.RECORD, record)
    workflow._forget(plan.plan, {one.key: one for one in made})
    left = {key for key in plan.steps if (plan.folder(key) / steps.RECORD).exists()}
    assert left == {"measure/b", "table/u"}
