"""The small LatentDiffusion on which the golden runs of losses and samplers were recorded."""

import torch

from ldm.models.diffusion.ddpm import LatentDiffusion
from tests.golden.golden_data import load

IDENTITY = {"target": "ldm.models.autoencoder.IdentityFirstStage"}
PARAMS = {
    "linear_start": 0.00085,
    "linear_end": 0.012,
    "timesteps": 1000,
    "channels": 4,
    "conditioning_key": "crossattn",
    "use_ema": False,
}


def build(params=None, first_stage=None, cond_stage=None, shared=False, **overrides):
    """LatentDiffusion (eval mode) around the UNet of ``unet_xattn``; ``params`` as a json file lists them."""
    meta, tensors = load("ldm/unet_xattn", shared)
    model = LatentDiffusion(
        first_stage_config=first_stage or IDENTITY,
        cond_stage_config=cond_stage or IDENTITY,
        unet_config={"target": meta["class"], "params": meta["kwargs"]},
        **{**(params or PARAMS), **overrides},
    )
    model.model.diffusion_model.load_state_dict({k[2:]: v.float() for k, v in tensors.items() if k.startswith("w.")})
    return model.eval()


class Recorder:
    """Notes the timesteps and batch sizes of every ``apply_model`` call of a model."""

    def __init__(self, model):
        self.timesteps, self.batch_sizes, self._inner = [], [], model.apply_model
        model.apply_model = self

    def __call__(self, x, t, cond, **kwargs):
        self.timesteps.append(t[0].item())
        self.batch_sizes.append(x.shape[0])
        return self._inner(x, t, cond, **kwargs)


class Noises:
    """A ``noise_fn`` that hands out stored noises in order."""

    def __init__(self, noises):
        self.noises, self.used = noises, 0

    def __call__(self, shape, device):
        self.used += 1
        noise = self.noises[self.used - 1].to(device)
        assert noise.shape == torch.Size(shape)
        return noise
