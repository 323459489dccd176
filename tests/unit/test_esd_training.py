"""Whole ESD runs on a tiny random model: what changes, what is written, and that a killed run goes on exactly."""

import dataclasses
import os
import signal
import threading

import pytest
import torch
from safetensors.torch import load_file

from erasure import edits, key_maps
from erasure.base_models import BaseIdentity
from erasure.errors import UserError
from methods.esd import training
from methods.esd.run_folder import RunFolder
from methods.esd.settings import EsdSettings
from methods.esd.training import Trainer, draw, train_esd
from tests.tiny import tiny_model

IDENTITY = BaseIdentity("tiny", "tiny.safetensors", "tiny.yaml", "only", "0" * 64, "toy")
QUICK = dict(iterations=3, ddim_steps=4, image_size=32, lr=1e-3, seed=5, save_every=0, checkpoint_every=1)
UNET = key_maps.PREFIXES["unet"]


class Killed(Exception):
    pass


@pytest.fixture(scope="module")
def model():
    """Shared by all tests, since training gives the base back; laid out in memory as a loaded model is."""
    model = tiny_model()
    model.model.diffusion_model.to(memory_format=torch.channels_last)
    return model


@pytest.fixture(autouse=True)
def base_comes_back(model):
    before = {name: (p.data_ptr(), p.detach().clone()) for name, p in model.named_parameters()}
    flags = {name: p.requires_grad for name, p in model.named_parameters()}
    yield
    for name, p in model.named_parameters():
        assert p.data_ptr() == before[name][0] and torch.equal(p, before[name][1]), name
        assert p.requires_grad == flags[name] and p.grad is None, name


def settings_of(**changes):
    return EsdSettings(**QUICK | changes)


def train(model, out, resume=False, force=False, **changes):
    return train_esd(model, IDENTITY, settings_of(**changes), out, resume, progress=False, force=force)


def killed_after(monkeypatch, iterations):
    """Training dies at the start of a later iteration, as if killed there."""
    real, count = Trainer.update, iter(range(10_000))

    def update(self, draws):
        if next(count) == iterations:
            raise Killed
        return real(self, draws)

    monkeypatch.setattr(Trainer, "update", update)


def same(found, expected):
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in found)


# ---- what is trained ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["xattn", "noxattn", "esd-x-strict"])
def test_only_the_selected_weights_change(model, tmp_path, method):
    edit = train(model, tmp_path, train_method=method)
    unet = dict(model.model.diffusion_model.named_parameters())
    selected = training.esd.select_parameters(model.model.diffusion_model, method)
    assert list(edit.tensors) == list(selected)
    assert all(not torch.equal(t, unet[name]) for name, t in edit.tensors.items())
    assert (edit.method, edit.concepts, edit.base) == ("esd", ["Van Gogh"], IDENTITY.to_dict())
    assert edit.settings == settings_of(train_method=method).to_dict()


def test_gradients_of_other_weights_are_never_made(model, tmp_path):
    with Trainer(model, settings_of()) as trainer:
        trainer.update(draw(trainer.settings, 0))
        with_gradient = {name for name, p in model.model.diffusion_model.named_parameters() if p.grad is not None}
    assert with_gradient == set(trainer.selected)


def test_network_is_called_as_little_as_it_can(model):
    """Two items a sampling step, both frozen predictions in one batch, one trained prediction; each text encoded once."""
    settings = settings_of(prompt="a, b, a", seperator=",")
    calls, encoded = [], []
    apply_model, encode = model.apply_model, model.get_learned_conditioning
    model.apply_model = lambda x, t, c: calls.append((len(x), torch.is_grad_enabled())) or apply_model(x, t, c)
    model.get_learned_conditioning = lambda texts: encoded.append(texts) or encode(texts)
    try:
        with Trainer(model, settings) as trainer:
            draws = dataclasses.replace(draw(settings, 0), t_enc=2)
            trainer.update(draws)
    finally:
        del model.apply_model, model.get_learned_conditioning
    assert sorted(encoded) == [[""], ["a"], ["b"]]
    assert calls == [(2, False)] * (settings.ddim_steps - 2) + [(2, False), (1, True)]


def test_sampler_model_and_exact_sampling(model):
    """The frozen sampler does not see the training; exact latents carry the label of their noise."""
    latents = {}
    for sampler in ("esd", "frozen"):
        with Trainer(model, settings_of(sampler_model=sampler)) as trainer:
            draws = dataclasses.replace(draw(trainer.settings, 0), t_enc=1)
            first = trainer.latent(draws)
            for parameter in trainer.selected.values():
                parameter.data.mul_(1.5)
            latents[sampler] = (first, trainer.latent(draws))
    assert torch.equal(latents["esd"][0], latents["frozen"][0])
    assert not torch.equal(*latents["esd"])
    assert torch.equal(*latents["frozen"])
    exact = settings_of(exact_sampling=True)
    assert {draw(exact, i).t_ddpm for i in range(40)} == {1, 251, 501, 751}


def test_erase_from_conditions_on_the_origin(model, tmp_path):
    plain = train(model, tmp_path / "plain", prompt="cowboy hat")
    origin = train(model, tmp_path / "from", prompt="cowboy hat", erase_from="cowboy")
    assert not torch.equal(*(next(iter(e.tensors.values())) for e in (plain, origin)))
    draws = draw(settings_of(prompt="a,b", seperator=",", erase_from="c,d"), 0)
    assert (draws.concept, draws.origin) in [("a", "c"), ("b", "d")]


def test_every_concept_is_drawn():
    settings = settings_of(prompt="a, b, c", seperator=",")
    assert {draw(settings, i).concept for i in range(60)} == {"a", "b", "c"}


def test_nan_and_wrong_sizes_are_refused(model, tmp_path, monkeypatch):
    with pytest.raises(UserError, match="multiple of 16 for this model"):
        train(model, tmp_path, image_size=24)
    with pytest.raises(UserError, match="'xlayer' selects no parameter"):
        train(model, tmp_path, train_method="xlayer")
    apply_model = model.apply_model
    monkeypatch.setattr(model, "apply_model", lambda *a: apply_model(*a) * float("nan"))
    with pytest.raises(UserError, match=r"loss is nan in iteration 1: training diverged; lower --lr \(now 0.001\)"):
        train(model, tmp_path)
    assert not (tmp_path / "edit.safetensors").exists()


# ---- what is written ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("save_format", ["safetensors", "pt"])
def test_published_files_hold_the_edited_model(model, tmp_path, save_format):
    settings = settings_of(save_format=save_format)
    edit = train_esd(model, IDENTITY, settings, tmp_path, progress=False)
    names = [n + "." + save_format for n in (settings.run_name, settings.run_name.replace("compvis", "diffusers"))]
    assert {f.name for f in tmp_path.iterdir()} == {"edit.safetensors", "loss.txt", "loss.png", "settings.json", *names}
    read = load_file if save_format == "safetensors" else lambda f: torch.load(f, weights_only=True)
    compvis, diffusers = (read(tmp_path / name) for name in names)
    with edits.apply(model, edits.read(tmp_path / "edit.safetensors"), IDENTITY):
        same(compvis, edits.compvis_state_dict(model))
        unet = {k.removeprefix(UNET): t for k, t in model.state_dict().items() if k.startswith(UNET)}
        same(diffusers, key_maps.unet_to_diffusers(unet))
    same(edits.read(tmp_path / "edit.safetensors").tensors, edit.tensors)
    losses = [float(line) for line in (tmp_path / "loss.txt").read_text().splitlines()]
    assert len(losses) == settings.iterations and all(loss > 0 for loss in losses)


@pytest.mark.parametrize("save_format", ["pt", "edit"])
def test_epochs_are_named_by_finished_iterations(model, tmp_path, save_format):
    settings = settings_of(save_format=save_format, save_every=1)
    train_esd(model, IDENTITY, settings, tmp_path, progress=False)
    pattern = f"{settings.run_name}-epoch_*.pt" if save_format == "pt" else "edit-epoch_*.safetensors"
    found = sorted(file.stem.rpartition("_")[2] for file in tmp_path.glob(pattern))
    assert found == ["1", "2"]  # the last one is the result itself
    first = train(model, tmp_path / "short", iterations=1)
    with edits.load_into(model, IDENTITY, next(tmp_path.glob(pattern.replace("*", "1")))):
        unet = dict(model.model.diffusion_model.named_parameters())
        assert all(torch.equal(unet[name], tensor) for name, tensor in first.tensors.items())


# ---- resuming -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("after", [0, 1, 3])
def test_killed_run_goes_on_bit_for_bit(model, tmp_path, monkeypatch, after):
    changes = dict(iterations=4, checkpoint_every=2, prompt="a,b", seperator=",", train_method="noxattn")
    undisturbed = train(model, tmp_path / "whole", **changes)
    with monkeypatch.context() as patch, pytest.raises(Killed):
        killed_after(patch, after)
        train(model, tmp_path / "killed", **changes)
    assert (tmp_path / "killed" / "checkpoint.safetensors").exists() == (after >= 2)
    resumed = train(model, tmp_path / "killed", resume=True, **changes)
    same(resumed.tensors, undisturbed.tensors)
    texts = [(tmp_path / run / "loss.txt").read_text() for run in ("whole", "killed")]
    assert texts[0] == texts[1]
    assert not (tmp_path / "killed" / "checkpoint.safetensors").exists()


def test_drawn_seed_is_kept_for_the_resumed_run(model, tmp_path, monkeypatch):
    with monkeypatch.context() as patch, pytest.raises(Killed):
        killed_after(patch, 2)
        train(model, tmp_path / "killed", seed=None)
    resumed = train(model, tmp_path / "killed", resume=True, seed=None)
    seed = resumed.settings["seed"]
    assert isinstance(seed, int)
    same(train(model, tmp_path / "whole", seed=seed).tensors, resumed.tensors)
    assert train(model, tmp_path / "other", seed=None).settings["seed"] != seed


def test_unfinished_run_is_neither_lost_nor_mixed(model, tmp_path, monkeypatch):
    with monkeypatch.context() as patch, pytest.raises(Killed):
        killed_after(patch, 2)
        train(model, tmp_path)
    with pytest.raises(UserError, match="stopped after 2 of 3 iterations: --resume goes on, --force starts again"):
        train(model, tmp_path)
    with pytest.raises(UserError, match="lr 0.001 there, 0.1 here"):
        train(model, tmp_path, resume=True, lr=0.1)
    other = dataclasses.replace(IDENTITY, sha256="1" * 64)
    with pytest.raises(UserError, match="base model 000000000000 there, 111111111111 here"):
        train_esd(model, other, settings_of(), tmp_path, resume=True, progress=False)
    forced = train(model, tmp_path, force=True, lr=0.1)
    assert forced.settings["lr"] == 0.1


def test_finished_run_is_not_repeated(model, tmp_path, monkeypatch, capsys):
    first = train(model, tmp_path, save_format="edit")
    assert not list(tmp_path.glob("compvis-*"))
    with monkeypatch.context() as patch:
        killed_after(patch, 0)
        again = train_esd(model, IDENTITY, settings_of(seed=None, save_format="pt"), tmp_path)
        assert "finished: nothing to train" in capsys.readouterr().out
        same(again.tensors, first.tensors)
        assert len(list(tmp_path.glob("*.pt"))) == 2  # files that were not wanted before are made from the edit
        with pytest.raises(UserError, match="finished run with other settings .seed 5 there, 6 here.*--force"):
            train(model, tmp_path, seed=6)
        with pytest.raises(Killed):
            train(model, tmp_path, force=True)
    assert {file.name for file in tmp_path.iterdir()} == {"settings.json"}  # of the forced run; nothing stale is left


def test_damaged_checkpoint(model, tmp_path, monkeypatch):
    with monkeypatch.context() as patch, pytest.raises(Killed):
        killed_after(patch, 2)
        train(model, tmp_path)
    file = RunFolder(tmp_path, settings_of(), IDENTITY).checkpoint_file
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(UserError, match="not the checkpoint of a run .*--force starts again"):
        train(model, tmp_path, resume=True)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stop_signal_keeps_the_iteration(model, tmp_path, monkeypatch, number):
    assert threading.current_thread() is threading.main_thread()
    real = Trainer.update

    def interrupted(self, draws):
        os.kill(os.getpid(), number)  # in the middle of the second iteration
        return real(self, draws)

    handlers = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Trainer, "update", lambda self, d: (interrupted if self.losses else real)(self, d))
        train(model, tmp_path / "stopped", checkpoint_every=0)
    assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)] == handlers
    assert len((tmp_path / "stopped" / "loss.txt").read_text().splitlines()) == 2
    resumed = train(model, tmp_path / "stopped", resume=True)
    same(resumed.tensors, train(model, tmp_path / "whole").tensors)
