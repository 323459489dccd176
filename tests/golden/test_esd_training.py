"""Three iterations of the published trainer, case by case: every intermediate result, gradients and weights."""

import os
from pathlib import Path

import pytest
import torch
from torch import nn

from ldm.models.diffusion.ddpm import LatentDiffusion
from methods.esd import esd
from methods.esd.settings import EsdSettings
from methods.esd.training import Draws, Trainer
from tests.golden import golden_data
from tests.golden.diffusion_model import IDENTITY, Recorder
from tests.golden.numeric import assert_relative_to_max

RELATIVE = 1e-4  # of losses and gradient norms


def _cases():
    """Names of the cases of the data in use; those left out of the repository are skipped with a reason."""
    explicit = os.environ.get("GOLDEN_DIR")
    folders = [Path(explicit)] if explicit else golden_data._DEFAULTS
    files = {f"esd/{file.name}" for folder in folders for file in (folder / "esd").glob("train_*.json")}
    files |= set() if explicit else {name for name in golden_data._left_out() if name.startswith("esd/train_")}
    return sorted({Path(name).stem for name in files if "method_names" not in name}) or ["train_xattn_ng3"]


class StoredTexts(nn.Module):
    """Stands in for the text encoder: every text has a stored embedding."""

    def __init__(self, embeddings):
        super().__init__()
        self.embeddings, self.encoded = embeddings, []

    def encode(self, texts):
        self.encoded += texts
        return torch.cat([self.embeddings[text] for text in texts])


@pytest.fixture(scope="module", params=_cases())
def golden(request):
    return golden_data.load(f"esd/{request.param}")


def model_of(meta, tensors):
    schedule = {k: v for k, v in meta["schedule"].items() if k != "beta_schedule"}
    model = LatentDiffusion(
        first_stage_config=IDENTITY,
        cond_stage_config=IDENTITY,
        unet_config={"target": "ldm.modules.diffusionmodules.openaimodel.UNetModel", "params": meta["unet_config"]},
        channels=meta["unet_config"]["in_channels"],
        conditioning_key="crossattn",
        use_ema=False,
        **schedule,
    )
    weights = golden_data.load_tensors(f"esd/{meta['weights_file'].removesuffix('.safetensors')}")
    model.model.diffusion_model.load_state_dict({name: value.float() for name, value in weights.items()})
    model.cond_stage_model = StoredTexts({text: tensors[name] for name, text in meta["embeddings"].items()})
    return model.eval()


def settings_of(meta):
    names = EsdSettings.__dataclass_fields__
    return EsdSettings(**{name: value for name, value in meta["args"].items() if name in names}, seed=0)


def assert_weights(selected, tensors, prefix, lr):
    """Adam's first steps amplify rounding where a gradient is about zero, so a few elements may be off by more."""
    stored = {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
    for name, reference in stored.items():
        difference = (selected[name].detach() - reference).abs()
        assert difference.max() <= 0.2 * lr, name
        assert (difference > 0.01 * lr).float().mean() <= 1e-3, name


def test_training(golden, monkeypatch):
    meta, tensors = golden
    model, settings = model_of(meta, tensors), settings_of(meta)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    lr = meta["adam"]["lr"]
    assert any(name.startswith(("grad", "after")) for name in tensors)
    assert settings.concepts == meta["words"]
    with Trainer(model, settings) as trainer:
        assert list(trainer.selected) == meta["selected"]
        assert sorted(model.cond_stage_model.encoded) == sorted({"", *meta["words"]})  # once each
        for i, step in enumerate(meta["iterations"]):
            _check_iteration(trainer, tensors, step, i, monkeypatch)
            _check_gradients(trainer, tensors, i)
            assert_weights(trainer.selected, tensors, f"after{i + 1}.", lr)
    for name, p in model.named_parameters():
        if name.removeprefix("model.diffusion_model.") not in meta["selected"]:
            assert torch.equal(p, before[name]), name


def _check_iteration(trainer, tensors, step, i, monkeypatch):
    """Intermediate results as the trainer's own parts compute them, then the trainer's own step."""
    model, settings = trainer.model, trainer.settings
    expected = {name: tensors[f"it{i}.{name}"] for name in ("start_code", "z", "e_0", "e_p", "e_n", "target")}
    assert esd.t_range(step["t_enc"], settings.ddim_steps) == (step["og_num"], step["og_num_lim"])
    draws = Draws(step["word"], None, step["t_enc"], step["t_enc_ddpm"], expected["start_code"])
    monkeypatch.setattr(model, "apply_model", model.apply_model)
    seen = Recorder(model)
    z = trainer.latent(draws)
    monkeypatch.undo()
    assert seen.timesteps == step["ddim_timesteps"]
    assert len(seen.timesteps) == step["n_ddim_steps"]
    assert set(seen.batch_sizes) == {step["ddim_model_batch"]}
    t = torch.tensor([step["t_enc_ddpm"]])
    emb_0, emb_p = trainer.embeddings[""], tensors[step["emb_p"]]
    e_0, e_p = esd.frozen_predictions(trainer.frozen, z, t, [emb_0, emb_p])
    with torch.no_grad():
        e_n = model.apply_model(z, t, emb_p)
    target = esd.esd_target(e_0, e_p, settings.negative_guidance)
    for name, value in {"z": z, "e_0": e_0, "e_p": e_p, "e_n": e_n, "target": target}.items():
        assert_relative_to_max(value, expected[name], what=f"iteration {i}: {name}")
    monkeypatch.setattr(trainer, "latent", lambda same: z)  # drawn once is enough
    assert trainer.update(draws) == pytest.approx(step["loss"], rel=RELATIVE)
    monkeypatch.undo()
    norms = {name: p.grad.norm().item() for name, p in trainer.selected.items()}
    assert norms == pytest.approx(step["grad_l2"], rel=RELATIVE)


def _check_gradients(trainer, tensors, i):
    prefix = f"grad{i + 1}."
    for name, reference in tensors.items():
        if name.startswith(prefix):
            assert_relative_to_max(trainer.selected[name.removeprefix(prefix)].grad, reference, what=name)
