"""Steps of a plan: commands run in their folders, results are filled in, and what cannot be had is passed on."""

from pathlib import Path

import pytest

from erasure import runs
from erasure.errors import UserError
from reproduce import locks, step, workflow
from reproduce.models import RECORD, Plan
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
    assert not (plan.folder("train/a") / RECORD).exists()


def test_results_of_trainings_are_filled_in(tmp_path):
    plan = planned(tmp_path)
    for key, names in (("train/a", ["models/one"]), ("train/b", ["models/x-time0", "models/x-time1"])):
        runs.write_json(plan.folder(key) / RECORD, {"results": names})
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


def test_one_process_at_a_time(tmp_path):
    lock = tmp_path / "folder" / "lock"
    with locks.held(lock, "taken"), pytest.raises(UserError, match="taken"), locks.held(lock, "taken"):
        pass
    with locks.held(lock, "taken"):  # free again
        assert lock.exists()


def test_steps_have_gpus_of_their_own(tmp_path, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3, 5,7")
    assert locks.gpus() == ["3", "5", "7"]
    with locks.gpus_of_its_own(tmp_path, 1) as first, locks.gpus_of_its_own(tmp_path, 2) as second:
        taken = [*first["CUDA_VISIBLE_DEVICES"].split(","), *second["CUDA_VISIBLE_DEVICES"].split(",")]
        assert sorted(taken) == ["3", "5", "7"]
    with locks.gpus_of_its_own(tmp_path, 3) as everything:
        assert everything == {}
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with locks.gpus_of_its_own(tmp_path, 1) as none:
        assert none == {} and locks.gpus() == []


def test_a_flag_that_does_not_exist_is_a_failure(tmp_path):
    plan = planned(tmp_path, Step("measure/a", "", ((*LISTED, "--nonsense"),)))
    with pytest.raises(UserError, match="build_prompts.py ended with 2.*--nonsense"):
        step.run_step(plan, "measure/a")
    assert not (plan.folder("measure/a") / RECORD).exists()


def test_a_checkpoint_is_not_lost(tmp_path):
    plan = planned(tmp_path, Step("train/a", "", (MISSING,), result="models/*", resume="--csv-path=x"))
    kept = plan.folder("train/a") / "models" / "run" / "checkpoint.safetensors"
    kept.parent.mkdir(parents=True)
    kept.touch()
    with pytest.raises(UserError, match="nowhere.*to start again"):
        step.run_step(plan, "train/a")
    assert kept.exists()


def test_what_could_not_be_had_is_tried_again_and_tables_of_other_steps_are_made_again(tmp_path):
    made = [Step("measure/a", "", (LISTED,)), Step("measure/b", "", (LISTED,))]
    made += [Step(f"table/{name}", "", needs=(f"measure/{of}",)) for name, of in (("t", "a"), ("u", "b"), ("v", "b"))]
    plan = planned(tmp_path, *made)
    for one in made:
        needs = ["measure/c"] if one.key == "table/v" else list(one.needs)
        record = {"why": "gone" if one.key == "measure/a" else None, "needs": needs}
        runs.write_json(plan.folder(one.key) / RECORD, record)
    workflow._forget(plan.plan, {one.key: one for one in made})
    left = {key for key in plan.steps if (plan.folder(key) / RECORD).exists()}
    assert left == {"measure/b", "table/u"}
