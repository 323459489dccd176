"""The loop of SepCE's trainers with a small objective: gradients, images, ends, and that a killed run goes on exactly."""

import csv
import dataclasses
import os
import signal

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from erasure import edits
from erasure.base_models import BaseIdentity
from erasure.errors import UserError
from erasure.training.draws import NUM_TIMESTEPS, iteration_generators
from erasure.training.frozen import FrozenWeights
from methods.sepce.images import ConceptImages
from methods.sepce.objectives import Objective, Terms
from methods.sepce.run_folder import RunFolder
from methods.sepce.settings import SepceSettings
from methods.sepce.training import Step, Trainer, draw_step, text_encoder, train
from tests.tiny import tiny_model
from tests.unit.test_sepce_images import fill

IDENTITY = BaseIdentity("tiny", "tiny.safetensors", "tiny.yaml", "only", "0" * 64, "toy")
CONCEPTS = ("a", "b c")
IMAGES = 3
QUICK = dict(lr=1e-2, iter_break=5, image_size=32, seed=5, checkpoint_every=1)
LATE = 2  # the step from which on one parameter of the objective has a gradient


class Killed(Exception):
    pass


class Biases(Objective):
    """Moves one bias by what the steps say: cheap, but with all that an objective can have: tensors without a gradient for
    some time or for good, tensors and numbers of its own, and an end that depends on them."""

    method = "biases"

    def __init__(self, model, limit, concepts=CONCEPTS):
        super().__init__(model)
        self.concepts, self.limit = list(concepts), limit
        self.trained = {
            name: self.unet.get_parameter(name) for name in ("out.2.bias", "time_embed.0.bias", "out.0.bias")
        }
        self.momentum, self.seen = 0.0, []
        self.sum = torch.zeros(4)

    def __enter__(self):
        self._frozen = FrozenWeights(self.model.apply_model, self.trained)
        return super().__enter__()

    def __exit__(self, *exception):
        super().__exit__(*exception)
        self._frozen.restore()

    def terms(self, step):
        bias, late = self.trained["out.2.bias"], self.trained["time_embed.0.bias"]
        x = sum(
            self.model.q_sample(z, step.t, n).mean(dim=(0, 2, 3))
            for z, n in zip(step.latents, step.noises, strict=True)
        )
        loss = ((bias - x) ** 2).sum() + (self.sum * bias).sum()
        if len(self.seen) >= LATE:
            loss = loss + (late**2).sum()
        self.seen.append(step)
        self.sum = self.sum + 0.1 * x
        self.momentum = 0.9 * self.momentum + 0.1 * loss.item()
        return Terms(loss, {"loss": loss.item(), "momentum": self.momentum})

    def finished(self, iteration, numbers):
        return iteration >= self.limit

    def state(self):
        return {"sum": self.sum}, {"momentum": self.momentum, "seen": len(self.seen)}

    def load(self, tensors, numbers):
        self.sum, self.momentum = tensors["sum"].clone(), numbers["momentum"]
        self.seen = [None] * numbers["seen"]

    def edit(self, settings, base):
        tensors = {name: p.detach().clone() for name, p in self.trained.items()}
        return edits.Edit(self.method, self.concepts, settings, base, tensors)


@pytest.fixture(scope="module")
def model():
    return tiny_model()


@pytest.fixture(autouse=True)
def base_comes_back(model):
    before = {name: (p.data_ptr(), p.detach().clone(), p.requires_grad) for name, p in model.named_parameters()}
    yield
    for name, p in model.named_parameters():
        pointer, value, required = before[name]
        assert p.data_ptr() == pointer and torch.equal(p, value), name
        assert p.requires_grad == required and p.grad is None, name


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    return [
        fill(root / concept, [f"{i}_0.png" for i in range(count)])
        for concept, count in zip(CONCEPTS, (IMAGES, 11), strict=True)
    ]


@pytest.fixture
def images(model, folders):
    return [ConceptImages(folder, model, 32) for folder in folders]


def settings_of(**chosen):
    return SepceSettings.for_family("FMN", "toy", CONCEPTS, **QUICK | chosen)


def run(model, images, out, resume=False, force=False, objective=None, **chosen):
    """(edit, objective) of a run in the folder `out`."""
    folder = RunFolder(out, settings_of(**chosen), IDENTITY)
    found = folder.open(resume, force)
    objective = objective or Biases(model, folder.settings.iter_break)
    return train(objective, images, folder, found, progress=False), objective


def losses(folder):
    with open(folder / "losses.csv", newline="") as file:
        return list(csv.DictReader(file))


def killed_after(monkeypatch, steps):
    """Training dies at the start of a later step, as if killed there."""
    real, count = Trainer.update, iter(range(10_000))

    def update(self, step):
        if next(count) == steps:
            raise Killed
        return real(self, step)

    monkeypatch.setattr(Trainer, "update", update)


# ---- draws ---------------------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 2**31), st.integers(0, 1000), st.integers(1, 1000))
def test_step_depends_on_seed_and_number_alone(model, folders, seed, iteration, ddim_steps):
    images = [ConceptImages(folder, model, 32) for folder in folders]
    torch.manual_seed(0)
    state = torch.get_rng_state()
    first = draw_step(images, seed, iteration, ddim_steps)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(1)
    draw_step(images, seed, iteration + 1, ddim_steps)
    again = draw_step(images, seed, iteration, ddim_steps)
    for a, b in zip([first.t, *first.latents, *first.noises], [again.t, *again.latents, *again.noises], strict=True):
        assert torch.equal(a, b)
    assert 0 <= first.t.item() < NUM_TIMESTEPS and first.t.dtype == torch.int64 and first.t.shape == (1,)
    everything = [*first.latents, *first.noises]
    assert all(x.shape == (1, 4, 4, 4) for x in everything)
    assert not any(torch.equal(a, b) for i, a in enumerate(everything) for b in everything[:i])


def test_device_of_a_step_changes_no_draw(images):
    here, there = draw_step(images, 3, 7), draw_step(images, 3, 7, device="meta")
    assert {x.device.type for x in [there.t, *there.latents, *there.noises]} == {"meta"}
    assert [x.shape for x in there.latents] == [x.shape for x in here.latents]
    assert torch.equal(draw_step(images, 3, 7).noises[1], here.noises[1])


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_device_of_a_step_changes_no_value(images):
    here, there = draw_step(images, 3, 7), draw_step(images, 3, 7, device="cuda")
    for a, b in zip([*here.latents, *here.noises], [*there.latents, *there.noises], strict=True):
        assert torch.equal(a, b.cpu())


def test_streams_of_methods_are_unrelated():
    draws = {iteration_generators(name, 1, 2)[0].random() for name in ("esd", "sepce")}
    assert len(draws) == 2


def test_texts_are_encoded_once(model, monkeypatch):
    calls, real = [], model.get_learned_conditioning
    monkeypatch.setattr(model, "get_learned_conditioning", lambda texts: calls.append(texts) or real(texts))
    encode = text_encoder(model)
    assert torch.equal(encode("a"), real(["a"])) and encode("a") is encode("a")
    assert calls == [["a"]] and not encode("a").requires_grad


# ---- steps ---------------------------------------------------------------------------------------------------------


class Slope(Objective):
    """The loss is slope * weight, with a slope that each step's time gives: gradients are known."""

    method, concepts = "slope", ["a"]

    def __init__(self, weight):
        self.trained, self.device = {"weight": weight.requires_grad_()}, weight.device

    def terms(self, step):
        loss = step.t[0] * self.trained["weight"].sum()
        return Terms(loss, {"loss": loss.item()})

    def finished(self, iteration, numbers):
        return iteration >= 3

    def edit(self, settings, base):
        raise NotImplementedError


@pytest.mark.parametrize("accumulate", [True, False])
def test_gradients_add_up_unless_told_otherwise(accumulate):
    """Against Adam's formula, with the sum of all gradients so far or with the last one."""
    slopes = [3.0, -5.0, 1.0, 4.0]
    trainer = Trainer(Slope(torch.tensor([1.0, 2.0], dtype=torch.float64)), 0.1, accumulate)
    weight, m, v = torch.tensor([1.0, 2.0], dtype=torch.float64), 0.0, 0.0
    for n, slope in enumerate(slopes, start=1):
        assert not trainer.finished
        trainer.update(Step(torch.tensor([slope], dtype=torch.float64), [], []))
        gradient = sum(slopes[:n]) if accumulate else slope
        assert trainer.objective.trained["weight"].grad.tolist() == [gradient] * 2
        m, v = 0.9 * m + 0.1 * gradient, 0.999 * v + 0.001 * gradient**2
        weight = weight - 0.1 * (m / (1 - 0.9**n)) / ((v / (1 - 0.999**n)) ** 0.5 + 1e-8)
        torch.testing.assert_close(trainer.objective.trained["weight"].detach(), weight)
    assert trainer.finished and trainer.steps == 4  # as many steps as iter_break, and one


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_nan_aborts_and_changes_nothing(bad):
    trainer = Trainer(Slope(torch.ones(2)), 0.1)
    trainer.update(Step(torch.tensor([1.0]), [], []))
    before = trainer.objective.trained["weight"].detach().clone()
    with pytest.raises(UserError, match=rf"loss is {bad} in step 2: training diverged; lower --lr \(now 0.1\)"):
        trainer.update(Step(torch.tensor([bad]), [], []))
    assert torch.equal(trainer.objective.trained["weight"], before) and trainer.steps == 1


def test_nan_leaves_no_result(model, images, tmp_path, monkeypatch):
    monkeypatch.setattr(
        ConceptImages, "latent", lambda self, i, g: torch.full((1, 4, 4, 4), float("nan") if i == 2 else 1.0)
    )
    with pytest.raises(UserError, match="loss is nan in step 3"):
        run(model, images, tmp_path)
    assert not (tmp_path / "edit.safetensors").exists()


# ---- images --------------------------------------------------------------------------------------------------------


def test_step_i_takes_image_i_and_training_ends_with_them(model, images, tmp_path, monkeypatch):
    used, real = [], ConceptImages.posterior
    monkeypatch.setattr(
        ConceptImages,
        "posterior",
        lambda self, i: used.append((self.files[i].parent.name, self.files[i].name)) or real(self, i),
    )
    _, objective = run(model, images, tmp_path, cycle_images=False)
    assert used == [(concept, f"{i}_0.png") for i in range(IMAGES) for concept in CONCEPTS]
    folder = RunFolder(tmp_path, settings_of(), IDENTITY)
    assert len(objective.seen) == len(losses(tmp_path)) == IMAGES
    assert "3 steps" in folder.how_it_ended() and "the images ran out" in folder.how_it_ended()


def test_images_go_round_when_asked(model, images, tmp_path, monkeypatch):
    used, real = [], ConceptImages.posterior
    monkeypatch.setattr(ConceptImages, "posterior", lambda self, i: used.append(self.files[i].name) or real(self, i))
    run(model, images, tmp_path, cycle_images=True)
    assert used[::2] == [f"{i % IMAGES}_0.png" for i in range(6)]
    assert used[1::2] == [f"{i}_0.png" for i in range(6)]
    assert "by its rule" in RunFolder(tmp_path, settings_of(), IDENTITY).how_it_ended()


# ---- runs ----------------------------------------------------------------------------------------------------------


def test_files_of_a_run(model, images, tmp_path):
    edit, objective = run(model, images, tmp_path)
    assert {f.name for f in tmp_path.iterdir()} == {"edit.safetensors", "losses.csv", "settings.json"}
    read = edits.read(tmp_path / "edit.safetensors")
    assert read.settings == settings_of().to_dict() and read.base == IDENTITY.to_dict()
    assert all(torch.equal(read.tensors[name], tensor) for name, tensor in edit.tensors.items())
    rows = losses(tmp_path)
    assert [int(row["step"]) for row in rows] == [1, 2, 3, 4, 5, 6]
    assert float(rows[-1]["momentum"]) == objective.momentum


@pytest.mark.parametrize("zero_grad", [False, True])
@pytest.mark.parametrize(("after", "every"), [(0, 1), (1, 1), (2, 1), (3, 1), (5, 1), (3, 2), (4, 3)])
def test_killed_run_goes_on_to_the_same_bytes(model, images, tmp_path, monkeypatch, after, every, zero_grad):
    changes = dict(checkpoint_every=every, zero_grad=zero_grad)
    run(model, images, tmp_path / "whole", **changes)
    with monkeypatch.context() as patch, pytest.raises(Killed):
        killed_after(patch, after)
        run(model, images, tmp_path / "killed", **changes)
    assert (tmp_path / "killed" / "checkpoint.safetensors").exists() == (after >= every)
    run(model, images, tmp_path / "killed", resume=True, **changes)
    for name in ("edit.safetensors", "losses.csv"):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "killed" / name).read_bytes(), name
    assert not (tmp_path / "killed" / "checkpoint.safetensors").exists()


@pytest.mark.parametrize("at", [0, 3, 5])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stop_signal_keeps_the_step(model, images, tmp_path, monkeypatch, number, at):
    """At the last step, too: what is left then is to write the result."""
    real = Trainer.update

    def interrupted(self, step):
        if self.steps == at:
            os.kill(os.getpid(), number)
        return real(self, step)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Trainer, "update", interrupted)
        run(model, images, tmp_path / "stopped", checkpoint_every=0)
    assert len(losses(tmp_path / "stopped")) == at + 1
    run(model, images, tmp_path / "stopped", resume=True)
    run(model, images, tmp_path / "whole")
    for name in ("edit.safetensors", "losses.csv"):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "stopped" / name).read_bytes(), name


def test_unfinished_run_is_neither_lost_nor_mixed(model, images, folders, tmp_path, monkeypatch):
    with monkeypatch.context() as patch, pytest.raises(Killed):
        killed_after(patch, 2)
        run(model, images, tmp_path)
    with pytest.raises(UserError, match="stopped after 2 steps: --resume goes on, --force starts again"):
        run(model, images, tmp_path)
    with pytest.raises(UserError, match="lr 0.01 there, 0.1 here"):
        run(model, images, tmp_path, resume=True, lr=0.1)
    with pytest.raises(UserError, match="zero_grad False there, True here"):
        run(model, images, tmp_path, resume=True, zero_grad=True)
    other = dataclasses.replace(IDENTITY, sha256="1" * 64)
    with pytest.raises(UserError, match="base model 000000000000 there, 111111111111 here"):
        RunFolder(tmp_path, settings_of(), other).open(resume=True)
    with pytest.raises(UserError, match="does not hold the images that .* began with"):
        run(model, [images[1], images[1]], tmp_path, resume=True)
    edit, _ = run(model, images, tmp_path, force=True, lr=0.1)
    assert edit.settings["lr"] == 0.1


def test_drawn_seed_is_kept_for_the_resumed_run(model, images, tmp_path, monkeypatch):
    with monkeypatch.context() as patch, pytest.raises(Killed):
        killed_after(patch, 2)
        run(model, images, tmp_path / "killed", seed=None)
    resumed, _ = run(model, images, tmp_path / "killed", resume=True, seed=None)
    seed = resumed.settings["seed"]
    assert isinstance(seed, int)
    again, _ = run(model, images, tmp_path / "whole", seed=seed)
    assert all(torch.equal(again.tensors[name], tensor) for name, tensor in resumed.tensors.items())


def test_damaged_checkpoint(model, images, tmp_path, monkeypatch):
    with monkeypatch.context() as patch, pytest.raises(Killed):
        killed_after(patch, 2)
        run(model, images, tmp_path)
    file = tmp_path / "checkpoint.safetensors"
    file.write_bytes(file.read_bytes()[:500])
    with pytest.raises(UserError, match="not the checkpoint of a run .*--force starts again"):
        run(model, images, tmp_path, resume=True)


@pytest.mark.parametrize("save_format", ["safetensors", "pt"])
def test_published_pair(model, images, tmp_path, save_format):
    """Both files, apart from each other; they change the base to what the edit makes of it."""
    edit, _ = run(model, images, tmp_path, save_format=save_format)
    folder = RunFolder(tmp_path, settings_of(save_format=save_format), IDENTITY)
    folder.publish(model, IDENTITY, edit)
    name = f"{tmp_path.name}.{save_format}"  # that of the folder
    for file in (tmp_path / name, tmp_path / f"compvis-{name}"):
        with edits.load_into(model, IDENTITY, file):
            for key, tensor in edit.tensors.items():
                assert torch.equal(model.model.diffusion_model.get_parameter(key), tensor), (file.name, key)
    written = {f.name: f.stat().st_mtime_ns for f in tmp_path.iterdir()}
    folder.publish(model, IDENTITY, edit)
    assert {f.name: f.stat().st_mtime_ns for f in tmp_path.iterdir()} == written
    folder.open(force=True)
    assert not list(tmp_path.glob(f"*{name}")) and not (tmp_path / "edit.safetensors").exists()
