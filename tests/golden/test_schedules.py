"""Noise schedules, DDIM tables and timestep embeddings against the original's numbers."""

import re

import numpy as np
import pytest
import torch

from ldm.models.diffusion.ddpm import DDPM
from ldm.modules.diffusionmodules import util
from tests.golden.golden_data import load

FLOAT64, FLOAT32, DERIVED = 1e-12, 1e-6, 1e-5  # relative tolerances of the data's README


@pytest.fixture(scope="module")
def golden():
    return load("ldm/schedules")


def assert_relative(found, expected, rtol, what):
    np.testing.assert_allclose(np.asarray(found), np.asarray(expected), rtol=rtol, atol=0, err_msg=what)
    assert np.asarray(found).dtype == np.asarray(expected).dtype, what


def test_beta_schedules(golden):
    meta, tensors = golden
    assert meta["beta_schedules"]
    for name, settings in meta["beta_schedules"].items():
        assert_relative(util.make_beta_schedule(**settings), tensors[f"betas_f64.{name}"], FLOAT64, name)


def test_betas_for_a_continuous_schedule(golden):
    for key, expected in golden[1].items():
        if key.startswith("betas_for_alpha_bar_f64.cos"):
            found = util.betas_for_alpha_bar(len(expected), lambda t: np.cos((t + 0.008) / 1.008 * np.pi / 2) ** 2)
            assert_relative(found, expected, FLOAT64, key)


def test_buffers_of_the_diffusion_model(golden):
    meta, tensors = golden
    network = {"target": "torch.nn.Linear", "params": {"in_features": 1, "out_features": 1}}
    for name, settings in meta["ddpm"].items():
        model = DDPM(network, use_ema=False, **settings)
        assert [key for key in model.state_dict() if not key.startswith("model.")] == meta["persistent_buffers"]
        for key in (*meta["persistent_buffers"], "lvlb_weights"):
            derived = key == "lvlb_weights" or key.startswith("posterior_")
            assert_relative(
                getattr(model, key), tensors[f"ddpm.{name}.{key}"], DERIVED if derived else FLOAT32, f"{name} {key}"
            )


def test_tables_of_ddim_timesteps(golden):
    tables = 0
    for key, by_steps in golden[0].items():
        if match := re.fullmatch(r"ddim_timesteps_([a-z]+)_(\d+)", key):
            method, total = match[1], int(match[2])
            for steps, expected in by_steps.items():
                assert util.make_ddim_timesteps(method, int(steps), total).tolist() == expected, (key, steps)
                tables += 1
    assert tables


def test_step_counts_on_which_the_original_crashed_are_refused(golden):
    key = next(key for key in golden[0] if key.startswith("ddim_S_whose_largest_timestep_is_"))
    total = int(re.search(r"is_(\d+)_", key)[1])
    for steps in golden[0][key]:
        with pytest.raises(ValueError, match="DDIM steps do not fit"):
            util.make_ddim_timesteps("uniform", steps, total)


def test_ddim_parameters(golden):
    meta, tensors = golden
    for settings in meta["ddim_parameter_sets"]:
        steps, eta = settings["S"], settings["eta"]
        abar = tensors[f"ddpm.{settings['alphas_cumprod'].split()[0]}.alphas_cumprod"]
        timesteps = util.make_ddim_timesteps("uniform", steps, len(abar))
        sigmas, alphas, alphas_prev = util.make_ddim_sampling_parameters(abar, timesteps, eta)
        found = {"sigmas": sigmas, "alphas": alphas, "alphas_prev": alphas_prev}
        found["sqrt_one_minus_alphas"] = torch.sqrt(1.0 - alphas)
        for key, value in found.items():
            expected = tensors[f"ddim.S{steps}_eta{eta}.{key}"]
            assert_relative(
                value, expected, FLOAT32 if expected.dtype == torch.float32 else FLOAT64, f"{settings} {key}"
            )


def test_timestep_embeddings(golden):
    _, tensors = golden
    seen = 0
    for key, expected in tensors.items():
        if match := re.fullmatch(r"temb\.(float_|repeat_only_)?dim(\d+)(_odd)?", key):
            t = tensors["temb.t_float" if match[1] == "float_" else "temb.t_long"]
            found = util.timestep_embedding(t, int(match[2]), repeat_only=match[1] == "repeat_only_")
            # processors differ in the last bit of a frequency, by which the angle at time t moves t times as far
            allowed = 2e-6 + 2 * torch.finfo(torch.float32).eps * t.double()[:, None]
            assert ((found - expected).double().abs() <= allowed).all(), key
            seen += 1
    assert seen
