"""DDIM options of the ESD trainer (t_start, till_T, thresholding, callback, inversion) against the published fork."""

import pytest
import torch

from ldm.models.diffusion.ddim import DDIMSampler
from ldm.models.diffusion.sampling_util import norm_thresholding, spatial_norm_thresholding
from ldm.modules.diffusionmodules import util
from tests.golden.diffusion_model import Noises, Recorder, build
from tests.golden.golden_data import load
from tests.golden.numeric import assert_close, assert_relative_to_max


def _runs():
    try:
        return list(load("ldm/esd_ddim")[0]["runs"])
    except BaseException:  # reported by the test itself
        return ["default"]


def _arguments(tensors):
    return {"conditioning": tensors["cond"], "unconditional_conditioning": tensors["uncond"], "x_T": tensors["x_T"]}


@pytest.mark.parametrize("name", _runs())
def test_runs(name, monkeypatch):
    meta, tensors = load("ldm/esd_ddim")
    run = meta["runs"][name]
    model = build()
    seen = Recorder(model)
    draws = []
    monkeypatch.setattr(util, "noise_like", lambda shape, *a, f=util.noise_like: draws.append(shape) or f(shape, *a))
    stored = tensors.get(f"{name}/noises")
    batch, *shape = tensors["x_T"].shape
    out, intermediates = DDIMSampler(model).sample(
        run["S"],
        batch,
        shape,
        **_arguments(tensors),
        unconditional_guidance_scale=run["unconditional_guidance_scale"],
        log_every_t=1,
        noise_fn=Noises(stored) if stored is not None else None,
        **{"t_start": -1, **run["kwargs"]},
    )
    assert seen.timesteps == run["timesteps_visited"]
    if stored is None:
        assert len(draws) == run["n_noise_draws"]
    assert_relative_to_max(out, tensors[f"{name}/out"])
    for key in ("x_inter", "pred_x0"):
        assert_relative_to_max(torch.stack(intermediates[key]), tensors[f"{name}/{key}"], what=key)


def _s(meta):
    return next(iter(meta["runs"].values()))["S"]


def test_callback_replaces_latent():
    meta, tensors = load("ldm/esd_ddim")
    batch, *shape = tensors["x_T"].shape

    def callback(i, img, pred_x0):
        return img * 0.9 if i == 1 else img

    sampler = DDIMSampler(build())
    out, _ = sampler.sample(
        _s(meta), batch, shape, tensors["cond"], callback=callback, x_T=tensors["x_T"], t_start=-1, verbose=False
    )
    assert_relative_to_max(out, tensors["callback/out"])


def test_inversion():
    meta, tensors = load("ldm/esd_ddim")
    settings = meta["encode"]
    model = build()
    sampler = DDIMSampler(model)
    sampler.make_schedule(_s(meta))

    def encode(**flags):
        seen = Recorder(model)
        result = sampler.encode(
            tensors["encode/x0"],
            tensors["cond"],
            settings["t_enc"],
            return_intermediates=settings["return_intermediates"],
            unconditional_guidance_scale=settings["scale"],
            unconditional_conditioning=tensors["uncond"],
            **flags,
        )
        return *result, seen.timesteps

    x, out, timesteps = encode(legacy_timesteps=True)
    assert timesteps == settings["timesteps_fed_to_model"]
    assert out["intermediate_steps"] == settings["intermediate_steps"]
    assert_relative_to_max(x, tensors["encode/x_encoded"])
    assert_relative_to_max(torch.stack(out["intermediates"]), tensors["encode/intermediates"])
    *_, timesteps = encode()
    assert timesteps == sampler.ddim_timesteps[: settings["t_enc"]].tolist()


def test_thresholding():
    _, tensors = load("ldm/esd_ddim")
    for key, reference in tensors.items():
        if ".out_" in key:
            name, value = key.split(".out_")
            function = {f.__name__: f for f in (norm_thresholding, spatial_norm_thresholding)}[name]
            assert_close(function(tensors["norm_thresholding.in"], float(value)), reference, what=key)
