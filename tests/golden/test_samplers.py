"""DDIM, PLMS and DPM-Solver against recorded runs: trajectories, timesteps, noise draws, image to image, masks."""

import re

import pytest
import torch

from ldm.models.diffusion.ddim import DDIMSampler
from ldm.models.diffusion.dpm_solver import DPM_Solver, DPMSolverSampler, NoiseScheduleVP, model_wrapper
from ldm.models.diffusion.plms import PLMSSampler
from ldm.modules.diffusionmodules import util
from tests.golden.diffusion_model import Noises, Recorder, build
from tests.golden.golden_data import load
from tests.golden.numeric import assert_close, assert_relative_to_max

SAMPLERS = {c.__name__: c for c in (DDIMSampler, PLMSSampler, DPMSolverSampler)}


@pytest.fixture(scope="module")
def golden():
    meta, tensors = load("ldm/samplers")
    return meta, tensors, build(meta["latent_diffusion_params"])


@pytest.fixture
def draws(monkeypatch):
    """Shapes of the noises that the samplers draw."""
    shapes, original = [], util.noise_like
    monkeypatch.setattr(util, "noise_like", lambda shape, *args: shapes.append(shape) or original(shape, *args))
    return shapes


def _names(key, wanted=lambda run: True):
    try:
        return [name for name, run in load("ldm/samplers")[0][key].items() if wanted(run)]
    except BaseException:  # a missing file is reported by the test itself
        return ["missing"]


def _conditionings(tensors, scale):
    """Both conditionings where there is guidance; runs without were recorded with the conditional one alone."""
    uncond = {"unconditional_conditioning": tensors["uncond"], "unconditional_guidance_scale": scale}
    return {"conditioning": tensors["cond"], **({} if scale is None or scale == 1 else uncond)}


def _calls(model, monkeypatch):
    monkeypatch.setattr(model, "apply_model", model.apply_model)  # restored after the test
    return Recorder(model)


@pytest.mark.parametrize("name", _names("runs", lambda run: "sampler" in run))
def test_runs(golden, draws, monkeypatch, name):
    meta, tensors, model = golden
    run = meta["runs"][name]
    kwargs = dict(run["kwargs"])
    batch, *shape = tensors["x_T"].shape
    seen = _calls(model, monkeypatch)
    noises = Noises(tensors[f"{name}/noises"]) if kwargs.get("eta") else None
    out, intermediates = SAMPLERS[run["sampler"]](model).sample(
        run["S"],
        batch,
        shape,
        **_conditionings(tensors, kwargs.pop("unconditional_guidance_scale", None)),
        x_T=tensors["x_T"],
        log_every_t=run["log_every_t"],
        noise_fn=noises,
        **kwargs,
    )
    assert_relative_to_max(out, tensors[f"{name}/out"])
    assert len(seen.timesteps) == run["n_model_calls"]
    assert seen.timesteps == pytest.approx(run["model_call_timesteps_first_batch_item"], rel=1e-6)
    assert seen.batch_sizes == run["model_call_batch_sizes"]
    assert (noises.used if noises else len(draws)) == run["n_noise_draws"]
    for key in ("x_inter", "pred_x0"):
        if f"{name}/{key}" in tensors:
            assert_relative_to_max(torch.stack(intermediates[key]), tensors[f"{name}/{key}"], what=key)


@pytest.mark.parametrize("name", _names("runs", lambda run: "rng_contract" in run))
def test_seeded_runs(golden, name):
    """From a seed alone: what is drawn, in which order and how much of it is part of the contract."""
    meta, tensors, model = golden
    contract = meta["runs"][name]["rng_contract"]
    seed, steps = (int(re.search(pattern, contract)[1]) for pattern in (r"manual_seed\((\d+)\)", r"\bS=(\d+)"))
    scale = float(re.search(r"unconditional_guidance_scale=(\d+(\.\d+)?)", contract)[1])
    sampler = next(c for key, c in SAMPLERS.items() if key.lower().startswith(name.partition("_")[0]))
    batch, *shape = tensors["x_T"].shape
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        out, _ = sampler(model).sample(steps, batch, shape, **_conditionings(tensors, scale))
        after = torch.randn(8)
    assert_relative_to_max(out, tensors[f"{name}/out"])
    assert torch.equal(after, tensors[f"{name}/next_randn8_after_sampling"])


def test_image_to_image(golden):
    meta, tensors, model = golden
    settings = meta["img2img"]
    sampler = DDIMSampler(model)
    sampler.make_schedule(settings["S"], ddim_eta=settings["eta"])
    x0, noise = tensors["img2img/x0"], tensors["img2img/noise"]
    encoded = sampler.stochastic_encode(x0, torch.full((len(x0),), settings["t_enc"]), noise=noise)
    assert_relative_to_max(encoded, tensors["img2img/stochastic_encode"])
    arguments = _conditionings(tensors, settings["scale"])
    decoded = sampler.decode(encoded, arguments.pop("conditioning"), settings["t_enc"], **arguments)
    assert_relative_to_max(decoded, tensors["img2img/decode"])
    t = torch.tensor(settings["original_steps_t"])
    encoded = sampler.stochastic_encode(x0, t, use_original_steps=True, noise=noise)
    assert_relative_to_max(encoded, tensors["img2img/stochastic_encode_original_steps"])


def test_mask(golden, monkeypatch):
    meta, tensors, model = golden
    noises, original = iter(tensors["mask/q_sample_noises"]), model.q_sample
    monkeypatch.setattr(model, "q_sample", lambda x, t: original(x, t, noise=next(noises)))
    batch, *shape = tensors["x_T"].shape
    out, _ = DDIMSampler(model).sample(
        int(re.search(r"\bS=(\d+)", meta["mask"])[1]),
        batch,
        shape,
        tensors["cond"],
        x_T=tensors["x_T"],
        x0=tensors["img2img/x0"],
        mask=tensors["mask/mask"],
    )
    assert_relative_to_max(out, tensors["mask/out"])


def test_subset_of_timesteps(golden):
    meta, tensors, model = golden
    steps, timesteps, every = (
        int(re.search(pattern, meta["subset"])[1])
        for pattern in (r"make_schedule\((\d+)\)", r"timesteps=(\d+)", r"log_every_t=(\d+)")
    )
    sampler = DDIMSampler(model)
    sampler.make_schedule(steps)
    x_T = tensors["x_T"]
    out, intermediates = sampler.ddim_sampling(
        tensors["cond"], x_T.shape, x_T=x_T, timesteps=timesteps, log_every_t=every
    )
    assert_relative_to_max(out, tensors["subset/out"])
    for key in ("x_inter", "pred_x0"):
        assert_relative_to_max(torch.stack(intermediates[key]), tensors[f"subset/{key}"], what=key)


def test_noise_schedule_of_dpm_solver(golden):
    _, tensors, model = golden
    schedule = NoiseScheduleVP("discrete", alphas_cumprod=model.alphas_cumprod)
    t = tensors["dpm_ns/t"]
    lambdas = schedule.marginal_lambda(t)
    for name, value in {
        "log_alpha": schedule.marginal_log_mean_coeff(t),
        "std": schedule.marginal_std(t),
        "lambda": lambdas,
        "inverse_lambda_roundtrip": schedule.inverse_lambda(lambdas),
        "inverse_lambda.out": schedule.inverse_lambda(tensors["dpm_ns/inverse_lambda.in"]),
    }.items():
        assert_close(value, tensors[f"dpm_ns/{name}"], what=name)


@pytest.mark.parametrize("name", _names("dpm_variants"))
def test_variants_of_dpm_solver(golden, name):
    meta, tensors, model = golden
    variant = meta["dpm_variants"][name]
    schedule = NoiseScheduleVP("discrete", alphas_cumprod=model.alphas_cumprod)
    model_fn = model_wrapper(
        model,
        schedule,
        condition=tensors["cond"],
        unconditional_condition=tensors["uncond"],
        guidance_scale=variant["guidance_scale"],
    )
    with torch.no_grad():
        out = DPM_Solver(model_fn, schedule, **variant["DPM_Solver"]).sample(tensors["x_T"], **variant["sample"])
    assert_relative_to_max(out, tensors[f"dpm_variants/{name}"])
