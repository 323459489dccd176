"""LatentDiffusion against the original: forward process, losses with gradients, ancestral sampling, scaling."""

import re

import pytest
import torch

from ldm.models.diffusion import ddpm
from tests.golden.diffusion_model import build
from tests.golden.golden_data import load
from tests.golden.numeric import assert_close, assert_gradient, assert_relative_to_max

LOSS_RTOL = 1e-5


@pytest.fixture(scope="module")
def golden():
    meta, tensors = load("ldm/latent_diffusion")
    return meta, tensors, build(meta["params"])


def _losses():
    try:
        return list(load("ldm/latent_diffusion")[0]["p_losses"])
    except BaseException:  # a missing file is reported by the test itself
        return ["missing"]


def test_forward_process_and_posterior(golden):
    _, tensors, model = golden
    x0, t, noise = tensors["x_start"], tensors["t"], tensors["noise"]
    noisy = model.q_sample(x0, t, noise)
    found = {"q_sample": noisy, "predict_start_from_noise": model.predict_start_from_noise(noisy, t, noise)}
    found |= zip(("q_mean", "q_var", "q_logvar"), model.q_mean_variance(x0, t), strict=True)
    names = ("q_posterior_mean", "q_posterior_var", "q_posterior_logvar")
    found |= zip(names, model.q_posterior(x0, noisy, t), strict=True)
    found["predict_eps_from_xstart"] = model._predict_eps_from_xstart(noisy, t, x0)
    for name, value in found.items():
        torch.testing.assert_close(
            value, tensors[name], rtol=1e-5, atol=2e-5, msg=lambda text, name=name: f"{name}: {text}"
        )


@torch.no_grad()
def test_denoiser(golden):
    _, tensors, model = golden
    found = model.apply_model(tensors["q_sample"], tensors["t"], tensors["cond"])
    assert_close(found, tensors["apply_model"])


@pytest.mark.parametrize("name", _losses())
def test_losses(name):
    meta, tensors = load("ldm/latent_diffusion")
    case = meta["p_losses"][name]
    model = build(meta["params"], **case["overrides"])
    model.train(any(key.startswith("train/") for key in case["loss_dict"]))
    loss, parts = model.p_losses(tensors["x_start"], tensors["cond"], tensors["t"], noise=tensors["noise"])
    assert loss.item() == pytest.approx(case["loss"], rel=LOSS_RTOL)
    assert {key: value.item() for key, value in parts.items()} == pytest.approx(case["loss_dict"], rel=LOSS_RTOL)
    loss.backward()
    prefix = f"p_losses.{name}.grad."
    for key, expected in tensors.items():
        if key.startswith(prefix):
            assert_gradient(model.get_parameter(key.removeprefix(prefix)).grad, expected, key)


def test_loss_at_seeded_timesteps(golden, monkeypatch):
    meta, tensors, model = golden
    seen = {}
    original = model.p_losses
    monkeypatch.setattr(model, "p_losses", lambda x, c, t, **kwargs: seen.update(t=t) or original(x, c, t, **kwargs))
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(int(re.search(r"manual_seed\((\d+)\)", meta["forward_seeded"])[1]))
        loss, _ = model(tensors["x_start"], tensors["cond"])
    assert torch.equal(seen["t"], tensors["forward_seeded.t"])
    assert loss.item() == pytest.approx(tensors["forward_seeded.loss"].item(), rel=LOSS_RTOL)


@pytest.fixture
def stored_noise(monkeypatch):
    """Hands the given tensors to ancestral sampling in place of random draws."""

    def replace(noises):
        noises = iter(noises)
        monkeypatch.setattr(ddpm, "noise_like", lambda *args, **kwargs: next(noises))

    return replace


def test_ancestral_steps(golden, stored_noise):
    _, tensors, model = golden
    names = [key.removesuffix(".out") for key in tensors if re.fullmatch(r"p_sample(_clip_temp[\d.]+)?\.out", key)]
    for name in names:
        stored_noise([tensors[f"{name}.noise"]])
        temperature = re.search(r"temp([\d.]+)", name)
        out, x0 = model.p_sample(
            tensors["q_sample"],
            tensors["cond"],
            tensors["p_sample.t"],
            clip_denoised="_clip" in name,
            return_x0=True,
            temperature=float(temperature[1]) if temperature else 1.0,
        )
        assert_relative_to_max(out, tensors[f"{name}.out"], what=name)
        assert_relative_to_max(x0, tensors[f"{name}.x0"], what=name)
    assert names


def test_ancestral_loops(golden, stored_noise):
    meta, tensors, _ = golden
    names = [key.removesuffix(".out") for key in tensors if re.fullmatch(r"p_sample_loop\d+\.out", key)]
    for name in names:
        settings = dict(re.findall(r"(timesteps|log_every_t)=(\d+)", meta[name]))
        model = build(meta["params"], **{key: int(value) for key, value in settings.items()})
        stored_noise(tensors[f"{name}.noises"])
        x_T = tensors[f"{name}.x_T"]
        out, steps = model.sample(tensors["cond"], len(x_T), x_T=x_T, shape=x_T.shape, return_intermediates=True)
        assert_relative_to_max(out, tensors[f"{name}.out"])
        assert_relative_to_max(torch.stack(steps), tensors[f"{name}.intermediates"])
    assert names


def test_scaling_of_the_first_stage(golden):
    _, tensors, model = golden
    z = tensors["first_stage_encoding.z"]
    assert_close(model.get_first_stage_encoding(z), tensors["first_stage_encoding.out"])
    assert_close(model.decode_first_stage(z), tensors["decode_first_stage.out_identity"])
