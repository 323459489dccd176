"""The Esd run of SepCE's repository on methods/esd's trainer: all that follows the latent, which it sampled to the end."""

import pytest
import torch

from ldm.models.diffusion.ddim import DDIMSampler
from methods.esd import esd
from methods.esd.settings import EsdSettings
from methods.esd.training import Draws, Trainer
from tests.golden.golden_data import load
from tests.golden.numeric import assert_relative_to_max
from tests.golden.sepce_model import GoldenModel, check_numbers, check_tensors


@pytest.fixture(scope="module")
def golden():
    golden = GoldenModel()
    golden.model.get_learned_conditioning = lambda texts: torch.cat([golden.encode(text) for text in texts])
    return golden


@pytest.fixture
def trainer(golden):
    meta, tensors = load("sepce/esd")
    chosen = {name: value for name, value in meta["hyper"].items() if name in EsdSettings.__dataclass_fields__}
    settings = EsdSettings(**chosen, image_size=8 * tensors["x_T"].shape[-1], seed=0)
    with Trainer(golden.model, settings) as trainer:
        yield meta, tensors, trainer


def test_training(golden, trainer, monkeypatch):
    meta, tensors, trainer = trainer
    assert list(trainer.selected) == golden.attn2_order
    for i, t in enumerate(meta["t"]):
        z = tensors["z"][i : i + 1]
        monkeypatch.setattr(trainer, "latent", lambda draws, z=z: z)
        _check_latent(trainer, tensors, i)
        _check_predictions(trainer, tensors, i, torch.tensor([t]))
        draws = Draws(meta["hyper"]["prompt"], None, meta["till_T_passed"][i], t, tensors["x_T"][i : i + 1])
        check_numbers({"loss": trainer.update(draws)}, {"loss": meta["losses"][i]})
        grads = {name: p.grad for name, p in trainer.selected.items()}
        assert check_tensors(grads, tensors, f"step{i}.grad.", golden.attn2_order, 1e-4) or i
        assert check_tensors(trainer.tensors(), tensors, f"step{i}.after.", golden.attn2_order, 2e-4)


def _check_latent(trainer, tensors, i):
    """The trained network's guided sample, denoised to the end as the published sampler did whatever it was asked."""
    settings, texts = trainer.settings, trainer.embeddings
    z, _ = DDIMSampler(trainer.model).sample(
        settings.ddim_steps,
        1,
        tuple(tensors["x_T"].shape[1:]),
        conditioning=texts[settings.prompt],
        unconditional_conditioning=texts[""],
        unconditional_guidance_scale=settings.start_guidance,
        eta=0.0,
        x_T=tensors["x_T"][i : i + 1],
        verbose=False,
    )
    assert_relative_to_max(z[0], tensors["z"][i], 1e-4, f"z {i}")


@torch.no_grad()
def _check_predictions(trainer, tensors, i, t):
    texts, z = trainer.embeddings, tensors["z"][i : i + 1]
    e_0, e_p = esd.frozen_predictions(trainer.frozen, z, t, [texts[""], texts[trainer.settings.prompt]])
    e_n = trainer.model.apply_model(z, t, texts[trainer.settings.prompt])
    for name, value in {"e_0": e_0, "e_p": e_p, "e_n": e_n}.items():
        # after a step of Adam, its parameters' error shows in the predictions
        assert_relative_to_max(value[0], tensors[f"step{i}.{name}"], 1e-5 if i == 0 or name != "e_n" else 5e-5, name)


def test_times_belong_to_their_steps(trainer):
    """The published times are those of ESD's draws."""
    meta, _, trainer = trainer
    for t_enc, t in zip(meta["till_T_passed"], meta["t"], strict=True):
        low, high = esd.t_range(t_enc, trainer.settings.ddim_steps)
        assert low <= t < high
