"""A random latent diffusion model with Stable Diffusion v1's layout, small enough to build in a test (about 4 M weights)."""

import copy

import torch

# 64 UNet channels: with 32, GroupNorm(32) has one channel a group and cancels the timestep embedding.
_CONFIG = {
    "model": {
        "target": "ldm.models.diffusion.ddpm.LatentDiffusion",
        "params": {
            "linear_start": 0.00085,
            "linear_end": 0.0120,
            "timesteps": 1000,
            "first_stage_key": "jpg",
            "cond_stage_key": "txt",
            "image_size": 8,
            "channels": 4,
            "cond_stage_trainable": False,
            "conditioning_key": "crossattn",
            "scale_factor": 0.5,
            "use_ema": False,
            "unet_config": {
                "target": "ldm.modules.diffusionmodules.openaimodel.UNetModel",
                "params": {
                    "image_size": 8,
                    "in_channels": 4,
                    "out_channels": 4,
                    "model_channels": 64,
                    "attention_resolutions": [1, 2],
                    "num_res_blocks": 1,
                    "channel_mult": [1, 1],
                    "num_heads": 2,
                    "use_spatial_transformer": True,
                    "transformer_depth": 1,
                    "context_dim": 32,
                    "use_checkpoint": False,
                    "legacy": False,
                },
            },
            "first_stage_config": {
                "target": "ldm.models.autoencoder.AutoencoderKL",
                "params": {
                    "embed_dim": 4,
                    "ddconfig": {
                        "double_z": True,
                        "z_channels": 4,
                        "resolution": 64,
                        "in_channels": 3,
                        "out_ch": 3,
                        "ch": 32,
                        "ch_mult": [1, 1, 1, 1],
                        "num_res_blocks": 1,
                        "attn_resolutions": [],
                        "dropout": 0.0,
                    },
                    "lossconfig": {"target": "torch.nn.Identity"},
                },
            },
            "cond_stage_config": {
                "target": "ldm.modules.encoders.modules.FrozenCLIPEmbedder",
                "params": {
                    "hidden_size": 32,
                    "intermediate_size": 64,
                    "num_hidden_layers": 1,
                    "num_attention_heads": 2,
                },
            },
        },
    }
}


def tiny_config() -> dict:
    """A fresh copy of the configuration: 64x64 images, latents 4x8x8, two levels with attention, context 32."""
    return copy.deepcopy(_CONFIG)


def tiny_model(seed: int = 0, config: dict | None = None):
    """A LatentDiffusion of ``tiny_config``, or of a changed one, in eval mode on the CPU.

    All weights are random, those that are built as zero (the last layer of every residual branch) included: a model
    whose output is exactly zero hides every mistake.
    """
    from ldm.util import instantiate_from_config

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = instantiate_from_config((config or tiny_config())["model"])
        for p in model.parameters():
            if p.ndim > 1 and not p.detach().any():
                torch.nn.init.normal_(p.detach(), std=p[0].numel() ** -0.5)
    return model.eval()


def model_of_short_prompts(tokens: int = 8, levels: int = 2):
    """`tiny_model` with prompts of few tokens, so that its 32 dimensions hold several: three of 8, which share their first,
    leave 10. levels: of the UNet; with one it is half as large."""
    config = tiny_config()
    params = config["model"]["params"]
    params["cond_stage_config"]["params"]["max_length"] = tokens
    params["unet_config"]["params"] |= {"channel_mult": [1] * levels, "attention_resolutions": [1, 2][:levels]}
    return tiny_model(config=config)


def save_tiny_config(path):
    """Write ``tiny_config`` as YAML for commands that take a configuration file; returns the path."""
    from omegaconf import OmegaConf

    OmegaConf.save(OmegaConf.create(tiny_config()), path)
    return path
