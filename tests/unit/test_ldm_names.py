"""Every public name of the model tree that scripts and configurations of the published repositories use."""

import importlib
import subprocess
import sys

import pytest

NAMES = {
    "ldm.util": "instantiate_from_config get_obj_from_str default exists ismap isimage mean_flat count_params "
    "log_txt_as_img load_model_from_config",
    "ldm.lr_scheduler": "LambdaWarmUpCosineScheduler LambdaWarmUpCosineScheduler2 LambdaLinearScheduler",
    "ldm.models.autoencoder": "AutoencoderKL IdentityFirstStage VQModel VQModelInterface",
    "ldm.models.diffusion.ddpm": "DDPM LatentDiffusion DiffusionWrapper disabled_train uniform_on_device "
    "__conditioning_keys__",
    "ldm.models.diffusion.ddim": "DDIMSampler",
    "ldm.models.diffusion.plms": "PLMSSampler",
    "ldm.models.diffusion.dpm_solver": "DPMSolverSampler NoiseScheduleVP model_wrapper DPM_Solver",
    "ldm.models.diffusion.sampling_util": "append_dims norm_thresholding spatial_norm_thresholding renorm_thresholding",
    "ldm.modules.attention": "CrossAttention BasicTransformerBlock SpatialTransformer FeedForward GEGLU LinearAttention "
    "SpatialSelfAttention Normalize zero_module exists default uniq max_neg_value init_ CrossAttention2",
    "ldm.modules.diffusionmodules.openaimodel": "UNetModel TimestepBlock TimestepEmbedSequential ResBlock AttentionBlock "
    "QKVAttention QKVAttentionLegacy Upsample Downsample TransposedUpsample convert_module_to_f16 convert_module_to_f32",
    "ldm.modules.diffusionmodules.model": "Encoder Decoder ResnetBlock AttnBlock Upsample Downsample make_attn Normalize "
    "nonlinearity",
    "ldm.modules.diffusionmodules.util": "make_beta_schedule make_ddim_timesteps make_ddim_sampling_parameters "
    "betas_for_alpha_bar extract_into_tensor checkpoint timestep_embedding zero_module scale_module mean_flat "
    "normalization GroupNorm32 SiLU conv_nd linear avg_pool_nd noise_like",
    "ldm.modules.distributions.distributions": "DiagonalGaussianDistribution DiracDistribution AbstractDistribution "
    "normal_kl",
    "ldm.modules.ema": "LitEma",
    "ldm.modules.encoders.modules": "AbstractEncoder FrozenCLIPEmbedder ClassEmbedder SpatialRescaler IdentityEncoder",
    "ldm.extras": "load_model_from_config load_training_dir all_logging_disabled",
}
HEAVY = (
    "lightning",
    "pytorch_lightning",
    "taming",
    "diffusers",
    "transformers",
    "clip",
    "xformers",
    "omegaconf",
    "pandas",
)


@pytest.mark.parametrize("module", NAMES)
def test_names_exist(module):
    found = importlib.import_module(module)
    assert [name for name in NAMES[module].split() if not hasattr(found, name)] == []


def test_nothing_heavy_is_imported():
    code = f"import sys, {', '.join(NAMES)}; print([name for name in {HEAVY!r} if name in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
