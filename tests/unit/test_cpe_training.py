"""The training of one concept on random states: killed, stopped and resumed, repeated, from a stage on, diverged; its files."""

import contextlib
import csv
import dataclasses
import os
import shutil
import signal

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from erasure import edits
from erasure.base_models import BaseIdentity
from erasure.edits.residual_gates import KEY
from erasure.errors import UserError
from erasure.runs import read_json
from methods.cpe import sampling
from methods.cpe.anchors import StateCache
from methods.cpe.projections import Projections
from methods.cpe.residuals import Residuals
from methods.cpe.run_folder import EARLIER, NEWEST, RunFolder
from methods.cpe.schedule import ATTACK, ERASE, phases
from methods.cpe.settings import CpeSettings
from methods.cpe.training import Problem, Trainer, train
from tests.unit.test_cpe_losses import cross_attentions

TOKENS, DIM, TEMPLATES = 4, 6, 3
IDENTITY = BaseIdentity("tiny", "tiny.safetensors", "tiny.yaml", "only", "0" * 64, "toy")
QUICK = dict(
    name="tiny", gate_rank=2, rank=2, alpha=1.0, seed=5, guidance=0.3, pal=10.0, sampling_batch_size=3, num_stages=3,
    iterations=3, factor_init_iter=2, lr=1e-2, lr_warmup_steps=1, do_adv_learn=True, iterations_adv=2, lr_adv=1e-2,
    lr_warmup_steps_adv=1, num_add_prompts=2, adv_coef=1.0, checkpoint_every=0, log_every=1,
)  # fmt: skip
UPDATES = 6 + 2 + 3 + 2 + 3 + 2  # of all phases


class Killed(Exception):
    pass


def problem_of(seed=0, target=None):
    weights, names = cross_attentions(seed, [2, 3, 2], DIM)
    generator = torch.Generator().manual_seed(seed)

    def states(*shape):
        return torch.randn(*shape, TOKENS, DIM, generator=generator)

    cache = StateCache([(states(5), torch.tensor([0, 1, 2, 3, 4, 0])), (states(2), torch.tensor([1, 0]))])
    projections = Projections.of_weights({n: w.float() for n, w in weights.items()}, names, TOKENS)
    return Problem(projections, states(TEMPLATES) if target is None else target, states(TEMPLATES), states(1), cache)


def settings_of(**chosen):
    given = {"target": "chris evans", "neutral": "a person", "word": "actor", "scripts_file": "-"}
    return CpeSettings(**given | {"anchors": {"prompts": ["a"]}} | QUICK | chosen)


def folder_of(path, identity=IDENTITY, **chosen):
    return RunFolder(path, settings_of(**chosen), identity)


def run(path, resume=False, force=False, problem=None, **chosen):
    folder = folder_of(path, **chosen)
    found = folder.open(resume, force)
    return found if isinstance(found, edits.Edit) else train(problem or problem_of(), folder, found, progress=False)


def contents(path):
    """Bytes of every file; settings.json says how long it took, and is left out."""
    return {f.name: f.read_bytes() for f in path.iterdir() if f.name != "settings.json"}


def same_tensors(one, other):
    return one.keys() == other.keys() and all(torch.equal(t, other[name]) for name, t in one.items())


def losses_in(path):
    with open(path / "losses.csv", newline="") as file:
        return list(csv.DictReader(file))


def on_update(monkeypatch, number, act):
    """`act` happens at the start of the update of that number, counted through all phases."""
    real, count = Trainer.update, iter(range(10_000))

    def update(self, *arguments):
        if next(count) == number:
            act()
        return real(self, *arguments)

    monkeypatch.setattr(Trainer, "update", update)


def kill():
    raise Killed


def interrupt():
    os.kill(os.getpid(), signal.SIGINT)


@pytest.fixture(scope="module")
def whole_with(tmp_path_factory):
    """whole_with(**settings): a folder with an undisturbed run of such settings."""
    made = {}

    def get(**chosen):
        key = tuple(chosen.items())
        if key not in made:
            made[key] = tmp_path_factory.mktemp("whole")
            run(made[key], **chosen)
        return made[key]

    return get


@pytest.fixture(scope="module")
def whole(whole_with):
    return whole_with()


# ---- killed, stopped, repeated -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("after", "every"), [(0, 1), (3, 2), (5, 1), (6, 1), (6, 2), (7, 1), (8, 2), (12, 1), (14, 2), (17, 1)]
)
def test_a_killed_run_goes_on_to_the_same_bytes(whole_with, tmp_path, monkeypatch, after, every):
    """At the first, the last and another iteration of an erasing phase (0 to 5, 8 to 10, 13 to 15) and of an adversarial one."""
    with monkeypatch.context() as patch, pytest.raises(Killed):
        on_update(patch, after, kill)
        run(tmp_path, checkpoint_every=every)
    assert not (tmp_path / "tiny_last.safetensors").exists()
    assert (tmp_path / "checkpoint.safetensors").exists() == (after >= every)
    if after >= every:
        with pytest.raises(UserError, match="stopped after iteration .* of stage .*--resume goes on"):
            run(tmp_path, checkpoint_every=every)
    run(tmp_path, resume=True, checkpoint_every=every)
    assert contents(tmp_path) == contents(whole_with(checkpoint_every=every))


@pytest.mark.parametrize(
    ("number", "at"), [(signal.SIGTERM, 2), (signal.SIGINT, 5), (signal.SIGINT, 6), (signal.SIGTERM, UPDATES - 1)]
)
def test_a_stop_keeps_the_iteration(whole, tmp_path, monkeypatch, number, at):
    """At the last iteration of a phase and of the run, too."""
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        on_update(patch, at, lambda: os.kill(os.getpid(), number))
        run(tmp_path)
    assert len(losses_in(tmp_path)) == at + 1 and not (tmp_path / "tiny_last.safetensors").exists()
    count, real = [], Trainer.update
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "update", lambda *arguments: count.append(1) or real(*arguments))
        run(tmp_path, resume=True)
    assert len(count) == UPDATES - at - 1
    assert contents(tmp_path) == contents(whole)


@given(st.sets(st.integers(0, UPDATES - 1), min_size=2, max_size=2), st.booleans(), st.sampled_from(["Adam", "AdamW"]))
@settings(max_examples=4, deadline=None)
def test_killed_twice(whole_with, tmp_path_factory, kills, separate_key, optimizer_type):
    chosen = {"separate_key": separate_key, "optimizer_type": optimizer_type, "checkpoint_every": 2}
    path = tmp_path_factory.mktemp("killed")
    for after in kills:
        with pytest.MonkeyPatch.context() as patch, contextlib.suppress(Killed):
            on_update(patch, after, kill)
            run(path, resume=True, **chosen)
    run(path, resume=True, **chosen)
    assert contents(path) == contents(whole_with(**chosen))


def test_a_finished_run_is_not_repeated(whole, tmp_path, monkeypatch):
    path = shutil.copytree(whole, tmp_path / "run")
    before = {f.name: f.stat().st_mtime_ns for f in path.iterdir()}
    monkeypatch.setattr(Trainer, "update", lambda *_: pytest.fail("trained again"))
    for resume in (False, True):
        edit = run(path, resume=resume, checkpoint_every=7, log_every=2, stage_interval=2)
        assert edit.concepts == ["chris evans"] and edit.settings == settings_of().to_dict()
    assert {f.name: f.stat().st_mtime_ns for f in path.iterdir()} == before


OTHERS = [{"lr": 0.5}, {"pal": 1.0}, {"num_stages": 2}, {"seed": 6}, {"target": "emma stone"}, {"separate_key": True},
          {"anchors": {"prompts": ["b"]}}, {"resume_stage": 1}]  # fmt: skip


def test_another_run_is_refused(whole, tmp_path, monkeypatch):
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        on_update(patch, 3, interrupt)
        run(tmp_path)
    for other in OTHERS:
        (name,) = other
        with pytest.raises(UserError, match=f"finished run with other settings .*{name} .*--force.*--output_root puts"):
            run(whole, **other)
        with pytest.raises(UserError, match=f"started run with other settings .*{name}"):
            run(tmp_path, resume=True, **other)
    with pytest.raises(UserError, match="base model 000000000000 there, 111111111111 here"):
        folder_of(tmp_path, dataclasses.replace(IDENTITY, sha256="1" * 64)).open(resume=True)


def test_force_replaces_all_of_an_earlier_run_and_nothing_else(whole, tmp_path):
    path = shutil.copytree(whole, tmp_path / "run")
    kept = {"notes.txt", "tiny_other_last.safetensors", "tiny_stagex.safetensors", "other_stage1.safetensors"}
    for name in kept:
        (path / name).write_text("mine")
    edit = run(path, force=True, num_stages=1, lr=2e-2)
    assert edit.settings["lr"] == 2e-2
    made = {"tiny_last", "tiny_stage1", "tiny_adv_prompts_last", "tiny_adv_prompts_stage1"}
    assert {f.name for f in path.iterdir()} == kept | {f"{n}.safetensors" for n in made} | {
        "losses.csv",
        "settings.json",
    }


def test_what_cannot_be_gone_on_from(whole, tmp_path, monkeypatch):
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        on_update(patch, 3, interrupt)
        run(tmp_path)
    file = tmp_path / "checkpoint.safetensors"
    for damaged in (file.read_bytes()[:500], (whole / "tiny_last.safetensors").read_bytes(), b""):
        file.write_bytes(damaged)
        with pytest.raises(UserError, match="not the checkpoint of a run .*--force starts again"):
            run(tmp_path, resume=True)
    published = tmp_path / "tiny_last.safetensors"
    save_file(load_file(whole / "tiny_last.safetensors"), published, {"prompts": "chris evans", "rank": "2"})
    with pytest.raises(UserError, match="not an edit made here"):
        run(tmp_path)


def test_draws_do_not_depend_on_what_was_drawn_before(whole, tmp_path):
    torch.manual_seed(77)
    state = torch.get_rng_state()
    run(tmp_path)
    assert torch.equal(torch.get_rng_state(), state)
    assert contents(tmp_path) == contents(whole)
    other = run(tmp_path / "other", seed=6, stage_interval=9)
    assert not same_tensors(other.tensors, load_file(whole / "tiny_last.safetensors"))


def test_every_iteration_draws_for_itself(tmp_path, monkeypatch):
    seen, real = [], sampling.draw_anchors

    def draw_anchors(*arguments):
        seen.append(real(*arguments))
        return seen[-1]

    monkeypatch.setattr(sampling, "draw_anchors", draw_anchors)
    run(tmp_path, stage_interval=9)
    run(tmp_path / "other", stage_interval=9, seed=6)
    assert len(seen) == 2 * (6 + 3 + 3)
    assert not any(torch.equal(one, other) for i, one in enumerate(seen) for other in seen[:i])


# ---- stages --------------------------------------------------------------------------------------------------------


def stage_files(path, stage):
    return [path / f"tiny_stage{stage}.safetensors", path / f"tiny_adv_prompts_stage{stage}.safetensors"]


@pytest.mark.parametrize(("stage", "killed"), [(1, False), (1, True), (2, False)])
def test_from_a_stage_on_it_is_the_undisturbed_run(whole, tmp_path, monkeypatch, stage, killed):
    """But for the sets of offsets of earlier stages, which are kept for nothing and are not in the files of a stage."""
    for file in stage_files(whole, stage):
        shutil.copy(file, tmp_path)
    if killed:
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            on_update(patch, 3, interrupt)
            run(tmp_path, resume_stage=stage)
    run(tmp_path, resume=killed, resume_stage=stage)
    later = [file.name for n in range(stage + 1, 4) for file in stage_files(whole, n)]
    for name in (*later, "tiny_last.safetensors"):
        assert same_tensors(load_file(whole / name), load_file(tmp_path / name)), name
    assert losses_in(tmp_path) == [row for row in losses_in(whole) if int(row["stage"]) >= stage]
    ours, theirs = (load_file(path / "tiny_adv_prompts_last.safetensors") for path in (tmp_path, whole))
    assert torch.equal(ours[NEWEST], theirs[NEWEST])
    sets = QUICK["num_add_prompts"]
    assert torch.equal(ours[EARLIER], theirs[EARLIER][sets * (stage - 1) :])


def test_a_finished_run_can_be_done_again_from_a_stage_on(whole, tmp_path):
    path = shutil.copytree(whole, tmp_path / "run")
    run(path, force=True, resume_stage=2)
    assert {f.name for f in path.iterdir()} == {f.name for f in whole.iterdir()}
    for stage in (1, 2):
        assert all(f.read_bytes() == (path / f.name).read_bytes() for f in stage_files(whole, stage))
    assert same_tensors(load_file(whole / "tiny_last.safetensors"), load_file(path / "tiny_last.safetensors"))


def test_a_stage_that_is_missing_or_of_another_run(whole, tmp_path):
    with pytest.raises(UserError, match="tiny_stage1.safetensors: no such file"):
        run(tmp_path, resume_stage=1)
    gates, offsets = stage_files(whole, 1)
    shutil.copy(gates, tmp_path)
    with pytest.raises(
        UserError, match="tiny_adv_prompts_stage1.safetensors: no such file, and stage 2 starts from it"
    ):
        run(tmp_path, resume_stage=1)
    shutil.copy(offsets, tmp_path)
    for chosen, words in (
        ({"target": "emma stone"}, "target chris evans there, emma stone here"),
        ({"gate_rank": 3}, "gate_rank 2 there, 3 here"),
        ({"rank": 1}, "rank 2 there, 1 here"),
        ({"alpha": 0.5}, "alpha 1.0 there, 0.5 here"),
        ({"separate_key": True}, "separate_key False there, True here"),
    ):
        with pytest.raises(UserError, match=f"tiny_stage1.safetensors is not of this run: {words}"):
            run(tmp_path, resume_stage=1, **chosen)
    other = folder_of(tmp_path, dataclasses.replace(IDENTITY, sha256="1" * 64), resume_stage=1)
    with pytest.raises(UserError, match="base model 000000000000 there, 111111111111 here"):
        train(problem_of(), other, other.open(), progress=False)


def test_without_the_last_adversarial_phase_the_gates_are_the_same(whole, tmp_path):
    edit = run(tmp_path, skip_last_adv=True)
    assert same_tensors(edit.tensors, load_file(whole / "tiny_last.safetensors"))
    assert load_file(tmp_path / "tiny_adv_prompts_last.safetensors").keys() == {NEWEST, EARLIER}
    ours, before = (load_file(f) for f in (stage_files(tmp_path, 3)[1], stage_files(whole, 2)[1]))
    assert same_tensors(ours, before)


@pytest.mark.parametrize(("interval", "stages"), [(2, {2}), (3, {3}), (7, set())])
def test_interval_of_stages(tmp_path, interval, stages):
    run(tmp_path, stage_interval=interval)
    found = {f.name for f in tmp_path.glob("*stage*")}
    assert found == {f.name for n in stages for f in stage_files(tmp_path, n)}


def test_without_adversarial_phases_there_are_no_offsets(tmp_path):
    run(tmp_path, do_adv_learn=False)
    assert not list(tmp_path.glob("*adv_prompts*"))
    rows = losses_in(tmp_path)
    assert {row["phase"] for row in rows} == {ERASE} and "adversarial" not in rows[0]
    for file in (tmp_path / "tiny_last.safetensors", stage_files(tmp_path, 3)[0]):
        file.unlink()
    run(tmp_path, do_adv_learn=False, resume_stage=2)
    assert len(losses_in(tmp_path)) == QUICK["iterations"]


# ---- what a run leaves ---------------------------------------------------------------------------------------------


def test_files_of_a_run(whole):
    stages = [f for n in (1, 2, 3) for f in stage_files(whole, n)]
    ends = [whole / "tiny_last.safetensors", whole / "tiny_adv_prompts_last.safetensors"]
    assert set(whole.iterdir()) == {*stages, *ends, whole / "losses.csv", whole / "settings.json"}
    assert edits.gate_files(whole) == [ends[0]]
    edit = edits.read_gates(whole)
    assert (edit.method, edit.concepts, edit.base) == ("cpe", ["chris evans"], IDENTITY.to_dict())
    assert same_tensors(load_file(stages[4]), edit.tensors)
    for file in (*stages, *ends):
        with safe_open(file, framework="pt") as opened:
            header = opened.metadata()
        assert [header[name] for name in ("prompts", "rank", "alpha")] == ["chris evans", "2", "1.0"], file
    last = load_file(ends[1])
    assert (last[NEWEST].shape, last[EARLIER].shape) == ((2, TOKENS, DIM), (4, TOKENS, DIM))
    for n in (1, 2, 3):
        sets = load_file(stages[2 * n - 1])
        assert sets.keys() == {NEWEST}
        assert torch.equal(sets[NEWEST], torch.cat([last[EARLIER], last[NEWEST]])[2 * (n - 1) : 2 * n])
    saved = read_json(whole / "settings.json")
    assert saved["settings"] == settings_of().to_dict() and saved["base"] == IDENTITY.to_dict()
    assert saved["device"] == "cpu" and saved["seconds"] >= 0


def test_losses_are_noted(whole, tmp_path):
    rows, plan = losses_in(whole), phases(settings_of())
    places = [(str(p.stage), p.kind, str(i)) for p in plan for i in range(p.iterations)]
    assert [(r["stage"], r["phase"], r["iteration"]) for r in rows] == places
    assert [float(r["lr"]) for r in rows] == [p.lr_at(i) for p in plan for i in range(p.iterations)]
    for row in rows:
        assert bool(row["adversarial"]) == (row["phase"] == ERASE and row["stage"] != "0")
        if row["phase"] == ERASE:
            total = float(row["erasing"]) + float(row["adversarial"] or 0) + 10 * float(row["anchoring"])
            assert float(row["loss"]) == pytest.approx(total, rel=1e-4)
        else:
            assert float(row["loss"]) == pytest.approx(float(row["loss_k"]) + float(row["loss_v"]), rel=1e-4)
    assert rows[0]["lr"] == "0.0" and rows[1]["lr"] != "0.0"
    assert rows[0]["anchoring"] == rows[1]["anchoring"] == "0.0", "the first step changes nothing"
    run(tmp_path, log_every=4)
    chosen = [i for p in plan for i in range(p.iterations) if i % 4 == 0 or i == p.iterations - 1]
    assert [int(row["iteration"]) for row in losses_in(tmp_path)] == chosen


def test_training_erases_and_attacks(tmp_path):
    problem = problem_of()
    one = dataclasses.replace(problem, target=problem.target[:1], neutral=problem.neutral[:1])  # one template
    run(tmp_path, problem=one, num_stages=1, iterations=15, lr=0.2, pal=0.01, iterations_adv=20, lr_adv=0.1)
    for kind, name in ((ERASE, "erasing"), (ATTACK, "loss")):
        found = [float(row[name]) for row in losses_in(tmp_path) if row["phase"] == kind]
        assert sum(found[-5:]) < 0.8 * sum(found[:5]), kind


@pytest.mark.parametrize("separate_key", [False, True])
def test_key_is_trained_only_if_it_is_used(tmp_path, separate_key):
    edit = run(tmp_path, separate_key=separate_key, do_adv_learn=False, stage_interval=1)
    first = load_file(stage_files(tmp_path, 1)[0])
    assert torch.equal(first[KEY], edit.tensors[KEY]) == (not separate_key)
    assert edits.read_gates(tmp_path).settings["separate_key"] == separate_key


def test_gradients_are_clipped_together(tmp_path, monkeypatch):
    """A bound that is never reached changes nothing; one that is holds for all tensors of a step."""
    norms = []
    step = torch.optim.AdamW.step

    def watched(optimizer, *arguments):
        norms.append(torch.stack([p.grad.norm() for p in optimizer.param_groups[0]["params"]]).norm().item())
        return step(optimizer, *arguments)

    monkeypatch.setattr(torch.optim.AdamW, "step", watched)
    plain = run(tmp_path / "plain")
    largest = max(norms)
    assert same_tensors(run(tmp_path / "loose", max_grad_norm=2 * largest).tensors, plain.tensors)
    norms.clear()
    bound = largest / 10
    assert not same_tensors(run(tmp_path / "tight", max_grad_norm=bound).tensors, plain.tensors)
    assert max(norms) <= bound * 1.001


# ---- training that fails -------------------------------------------------------------------------------------------

LAST_STEP = dict(num_stages=1, factor_init_iter=1, iterations=1, iterations_adv=1, lr_warmup_steps=0,
                 lr_warmup_steps_adv=0)  # fmt: skip


@pytest.mark.parametrize(
    ("chosen", "words"),
    [
        (dict(lr=1e30), r"the loss is (inf|nan) in iteration 2 of stage 0 \(erase\): training diverged"),
        (
            dict(lr_adv=1e30, iterations_adv=4),
            r"the loss is (inf|nan) in iteration \d of stage 0 \(adv\): training diverged",
        ),
        (dict(lr=1e39, do_adv_learn=False) | LAST_STEP, "NaN or infinite"),
        (dict(lr_adv=1e39) | LAST_STEP, "NaN or infinite"),
    ],
    ids=["erasing", "attacking", "last step", "last attack"],
)
def test_a_training_that_diverges_leaves_no_gates(tmp_path, chosen, words):
    with pytest.raises(UserError, match=words):
        run(tmp_path, checkpoint_every=0, **chosen)
    assert {f.name for f in tmp_path.iterdir()} <= {"settings.json", "losses.csv"}


def test_states_that_are_nan(tmp_path):
    target = torch.full((TEMPLATES, TOKENS, DIM), float("nan"))
    with pytest.raises(UserError, match="the loss is nan in iteration 0 of stage 0"):
        run(tmp_path, problem=problem_of(target=target))
    assert {f.name for f in tmp_path.iterdir()} == {"settings.json"}


def test_a_loss_that_is_nan_changes_nothing():
    problem, plan = problem_of(), phases(settings_of())
    residuals = Residuals.fresh(problem.projections, 2, 2, 1.0, False, torch.Generator().manual_seed(0))
    trainer = Trainer(problem, settings_of(), residuals, {})
    trainer.start(plan[0])
    for iteration in range(3):
        trainer.update(iteration, wanted=True)
    before = trainer.residuals.tensors(problem.projections)
    problem.empty.fill_(float("nan"))
    with pytest.raises(UserError, match="iteration 3"):
        trainer.update(3, wanted=True)
    assert same_tensors(trainer.residuals.tensors(problem.projections), before) and len(trainer.rows) == 3
