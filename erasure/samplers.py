"""One call for every sampler, so that a script picks one by its name.

All of them are functions of each row alone: a row's latent does not depend on what else is in the batch, nor is the
global random stream read or moved unless noise is asked for and no ``noise_fn`` gives it.
"""

import numpy as np
import torch
from tqdm import tqdm

from erasure.errors import UserError
from ldm.models.diffusion.ddim import DDIMSampler
from ldm.models.diffusion.dpm_solver import DPMSolverSampler
from ldm.models.diffusion.plms import PLMSSampler
from ldm.models.diffusion.sampler_base import guided_prediction

_LDM_SAMPLERS = {"ddim": DDIMSampler, "plms": PLMSSampler, "dpm": DPMSolverSampler}
NAMES = (*_LDM_SAMPLERS, "lms")
_LMS_ORDER = 4


@torch.no_grad()
def sample(model, name, steps, shape, cond, uncond, scale, x_T, eta=0.0, noise_fn=None, progress=False):
    """Latents [B, C, H, W] that ``model`` (LatentDiffusion) denoises from x_T [B, C, H, W], standard normal.

    name: one of ``NAMES``. shape: (C, H, W). cond, uncond: conditionings [B, L, D]; uncond None: no guidance.
    scale: guidance scale, a number or a tensor [B]. eta: noise added per step, DDIM only. noise_fn(shape, device): its
    source, called once a step; default the device's generator. progress: show a bar.
    Raises UserError for a name, a number of steps or an eta that a sampler cannot do.
    """
    if name not in NAMES:
        raise UserError(f"unknown sampler {name!r}; choose from {', '.join(NAMES)}")
    if eta and name != "ddim":
        raise UserError(f"sampler {name} is deterministic: eta must be 0, not {eta}; ddim can add noise")
    if tuple(x_T.shape[1:]) != tuple(shape):
        raise ValueError(f"x_T has rows of shape {tuple(x_T.shape[1:])}, not {tuple(shape)}")
    if steps < 2 and name in ("dpm", "lms"):
        raise UserError(f"sampler {name} needs at least 2 steps, not {steps}")
    if name == "lms":
        return _lms(model, steps, cond, uncond, scale, x_T, progress)
    if noise_fn is None and not eta:
        noise_fn = no_noise
    try:
        latents, _ = _LDM_SAMPLERS[name](model).sample(
            S=steps,
            batch_size=x_T.shape[0],
            shape=tuple(shape),
            conditioning=cond,
            unconditional_conditioning=uncond,
            unconditional_guidance_scale=scale,
            eta=eta,
            x_T=x_T,
            verbose_iter=progress,
            noise_fn=noise_fn,
        )
    except ValueError as error:
        if "steps" in str(error):  # a number of steps that makes no table
            raise UserError(str(error)) from error
        raise
    return latents


def no_noise(shape, device):
    """A `noise_fn` for samplers that add none: the global random stream is not touched."""
    raise AssertionError("a deterministic sampler asked for noise")


# --- LMS ---------------------------------------------------------------------------------------------------------


def lms_schedule(alphas_cumprod, steps):
    """(timesteps [steps], sigmas [steps + 1]) from the noisiest down, float64; the last sigma is 0.

    sigma = sqrt((1 - abar) / abar), interpolated linearly at timesteps spaced evenly over the whole schedule.
    """
    abar = alphas_cumprod.detach().cpu().numpy().astype(np.float64)
    timesteps = np.linspace(0, len(abar) - 1, steps)[::-1]
    sigmas = np.interp(timesteps, np.arange(len(abar)), np.sqrt((1 - abar) / abar))
    return timesteps, np.append(sigmas, 0.0)


def lms_weights(sigmas, i):
    """Weights of the predictions at sigmas[i], sigmas[i - 1], ... in the step from sigmas[i] to sigmas[i + 1].

    They integrate the polynomial through the last predictions (at most four) over that interval.
    """
    nodes = [sigmas[i - k] for k in range(min(i + 1, _LMS_ORDER))]
    weights = []
    for k, node in enumerate(nodes):
        others = nodes[:k] + nodes[k + 1 :]
        lagrange = np.polynomial.Polynomial.fromroots(others) if others else np.polynomial.Polynomial([1.0])
        antiderivative = (lagrange / np.prod([node - other for other in others])).integ(lbnd=sigmas[i])
        weights.append(float(antiderivative(sigmas[i + 1])))
    return weights


def _lms(model, steps, cond, uncond, scale, x_T, progress):
    """Linear multistep (Adams-Bashforth, order 4) in sigma for dx / dsigma = eps, as in arXiv 2206.00364, table 1.

    The sampler that the first evaluations of erasure used; equals the LMSDiscreteScheduler of diffusers.
    """
    timesteps, sigmas = lms_schedule(model.alphas_cumprod, steps)
    x, history = x_T * float(sigmas[0]), []
    for i in tqdm(range(steps), desc="LMS sampling", disable=not progress):
        t = torch.full((x.shape[0],), float(timesteps[i]), dtype=torch.float32, device=x.device)
        scaled = x / float(sigmas[i] ** 2 + 1) ** 0.5
        eps = guided_prediction(model, scaled, t, cond, scale, uncond)
        history = [eps, *history[: _LMS_ORDER - 1]]
        x = x + sum(w * e for w, e in zip(lms_weights(sigmas, i), history, strict=True))
    return x
