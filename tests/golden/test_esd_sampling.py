"""ESD's partial sampling and its ranges of timesteps against the published trainer."""

import pytest
import torch

from ldm.models.diffusion.ddim import DDIMSampler
from ldm.models.diffusion.ddpm import LatentDiffusion
from methods.esd.esd import sample_till, t_range
from tests.golden.diffusion_model import IDENTITY, PARAMS, Recorder
from tests.golden.golden_data import load, load_json, load_tensors
from tests.golden.numeric import assert_close, assert_relative_to_max


@pytest.fixture(scope="module")
def golden():
    meta, tensors = load("esd/sample_till_t")
    model = LatentDiffusion(
        first_stage_config=IDENTITY,
        cond_stage_config=IDENTITY,
        unet_config={
            "target": "ldm.modules.diffusionmodules.openaimodel.UNetModel",
            "params": meta["unet_config"],
        },
        **PARAMS,
    )
    weights = load_tensors(f"esd/{meta['weights_file'].removesuffix('.safetensors')}")
    model.model.diffusion_model.load_state_dict({key: value.float() for key, value in weights.items()})
    return meta, tensors, model.eval()


def _cases():
    try:
        return list(load_json("esd/sample_till_t")["cases"])
    except BaseException:  # a missing file is reported by the test itself
        return ["missing"]


@pytest.mark.parametrize("t_enc", _cases())
def test_sample_till_t(golden, monkeypatch, t_enc):
    meta, tensors, model = golden
    case = meta["cases"][t_enc]
    assert meta["eta"] == 0
    monkeypatch.setattr(model, "apply_model", model.apply_model)  # restored after the test
    seen = Recorder(model)
    z = sample_till(
        DDIMSampler(model),
        tensors["emb"],
        tensors["emb_uncond"],
        meta["scale"],
        tensors["start_code"],
        int(t_enc),
        meta["ddim_steps"],
    )
    assert seen.timesteps == case["timesteps"]
    assert len(seen.timesteps) == case["n_steps"]
    assert set(seen.batch_sizes) == {case["model_batch"]}
    assert_relative_to_max(z, tensors[f"z.{t_enc}"], rtol=2e-5)


def test_tables(golden):
    meta, tensors, model = golden
    sampler = DDIMSampler(model)
    sampler.make_schedule(meta["ddim_steps"])
    assert sampler.ddim_timesteps.tolist() == meta["ddim_timesteps"]
    for name in ("ddim_alphas", "ddim_alphas_prev"):
        value = torch.as_tensor(getattr(sampler, name)).to(tensors[name].dtype)
        assert_close(value, tensors[name], 1e-6, name)


def test_t_ranges():
    table = load_json("esd/t_ranges")["table"]
    assert table
    for ddim_steps, ranges in table.items():
        for t_enc, expected in enumerate(ranges):
            assert list(t_range(t_enc, int(ddim_steps))) == expected, (ddim_steps, t_enc)
