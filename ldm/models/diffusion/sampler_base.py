"""What the DDIM and PLMS samplers share: tables, classifier-free guidance, the DDIM update and the sampling loop."""

import dataclasses
import inspect
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from tqdm import tqdm

from ldm.models.diffusion.sampling_util import norm_thresholding
from ldm.modules.diffusionmodules import util


def join_conditionings(first, second):
    """Concatenate two conditionings along the batch: tensors, lists of tensors or dicts of either, key by key."""
    if isinstance(first, dict):
        return {key: join_conditionings(first[key], second[key]) for key in second}
    if isinstance(first, (list, tuple)):
        return [torch.cat(pair) for pair in zip(first, second, strict=True)]
    return torch.cat([first, second])


def guided_prediction(model, x, t, cond, scale=1.0, uncond=None):
    """Noise prediction under classifier-free guidance (arXiv 2207.12598), in one call on a doubled batch.

    eps = eps(uncond) + scale * (eps(cond) - eps(uncond)); one plain call where ``uncond`` is None or ``scale`` is 1.
    scale: a number, or a tensor [B] with one number per item.
    """
    if isinstance(scale, torch.Tensor):
        scale = scale.to(x).view(-1, *((1,) * (x.ndim - 1)))
        plain = False
    else:
        plain = scale == 1.0
    if uncond is None or plain:
        return model.apply_model(x, t, cond)
    both = model.apply_model(torch.cat([x, x]), torch.cat([t, t]), join_conditionings(uncond, cond))
    eps_uncond, eps_cond = both.chunk(2)
    return eps_uncond + scale * (eps_cond - eps_uncond)


def _first_tensor(conditioning):
    while isinstance(conditioning, (dict, list, tuple)):
        conditioning = next(iter(conditioning.values() if isinstance(conditioning, dict) else conditioning))
    return conditioning


def call_callback(callback, img, *arguments):
    """Call ``callback`` with as many of the arguments as it takes; a tensor it returns replaces ``img``."""
    try:
        parameters = inspect.signature(callback).parameters.values()
    except ValueError:  # builtins without a signature
        parameters = ()
    if not any(p.kind is p.VAR_POSITIONAL for p in parameters):
        arguments = arguments[: sum(p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) for p in parameters)]
    result = callback(*arguments)
    return result if isinstance(result, torch.Tensor) else img


@dataclasses.dataclass
class StepOptions:
    """Settings of one denoising step; the names are those of the samplers' public arguments."""

    unconditional_guidance_scale: float = 1.0
    unconditional_conditioning: Any = None
    quantize_denoised: bool = False
    temperature: float = 1.0
    noise_dropout: float = 0.0
    repeat_noise: bool = False
    score_corrector: Any = None
    corrector_kwargs: dict | None = None
    dynamic_threshold: float | None = None
    noise_fn: Callable | None = None
    use_original_steps: bool = False


class Sampler:
    """Base of the samplers over DDIM tables. Tables live on the model's device."""

    def __init__(self, model, schedule="linear"):
        self.model = model
        self.schedule = schedule
        self.ddpm_num_timesteps = model.num_timesteps
        self.device = model.device

    def register_buffer(self, name, value):
        """Keep ``value`` as an attribute; tensors go to the sampler's device."""
        setattr(self, name, value.to(self.device) if isinstance(value, torch.Tensor) else value)

    def to(self, device):
        """Move the tables to another device (the model is moved by its owner); returns the sampler."""
        self.device = torch.device(device)
        for name, value in list(vars(self).items()):
            if isinstance(value, torch.Tensor):
                self.register_buffer(name, value)
        return self

    # --- tables --------------------------------------------------------------------------------------------------

    def make_schedule(self, ddim_num_steps, ddim_discretize="uniform", ddim_eta=0.0, verbose=False):
        """Compute the timesteps and coefficients for about ``ddim_num_steps`` steps (see ``make_ddim_timesteps``).

        Raises ValueError for a number of steps whose table would run past the model's schedule.
        """
        model = self.model
        self.device = model.device
        self.ddim_eta = ddim_eta
        steps = util.make_ddim_timesteps(ddim_discretize, ddim_num_steps, self.ddpm_num_timesteps, verbose=verbose)
        self.ddim_timesteps = steps
        for name in ("betas", "alphas_cumprod", "alphas_cumprod_prev"):
            self.register_buffer(name, getattr(model, name).detach().clone().float())
        abar, abar_prev = (a.detach().float().cpu() for a in (model.alphas_cumprod, model.alphas_cumprod_prev))
        self.register_buffer("sqrt_alphas_cumprod", abar.sqrt())
        self.register_buffer("sqrt_one_minus_alphas_cumprod", (1.0 - abar).sqrt())
        self.register_buffer("log_one_minus_alphas_cumprod", (1.0 - abar).log())
        self.register_buffer("sqrt_recip_alphas_cumprod", (1.0 / abar).sqrt())
        self.register_buffer("sqrt_recipm1_alphas_cumprod", (1.0 / abar - 1).sqrt())

        sigmas, alphas, alphas_prev = util.make_ddim_sampling_parameters(abar, steps, ddim_eta, verbose=verbose)
        sigmas, alphas, alphas_prev = (torch.as_tensor(v).cpu() for v in (sigmas, alphas, alphas_prev))
        original = ddim_eta * ((1 - abar_prev) / (1 - abar) * (1 - abar / abar_prev)).sqrt()
        self.register_buffer("ddim_sigmas", sigmas)
        self.register_buffer("ddim_alphas", alphas)
        self.register_buffer("ddim_alphas_prev", np.asarray(alphas_prev))
        self.register_buffer("ddim_sqrt_one_minus_alphas", (1.0 - alphas).sqrt())
        self.register_buffer("ddim_sigmas_for_original_num_steps", original)
        self.register_buffer("_step_table", self._coefficients(alphas, alphas_prev, sigmas))
        self.register_buffer("_original_step_table", self._coefficients(abar, abar_prev, original))

    @staticmethod
    def _coefficients(alphas, alphas_prev, sigmas):
        """float32 [S, 5]: sqrt(a), sqrt(1 - a), sqrt(a_prev), sqrt(1 - a_prev - sigma^2), sigma of every step.

        a, a_prev and sigma are rounded to float32 first, as in the published step; computing the table once avoids
        a device synchronisation per step.
        """
        a, a_prev, sigma = alphas.float(), alphas_prev.float(), sigmas.float()
        # rounding can take the direction's variance a hair below zero where sigma^2 = 1 - a_prev
        direction = (1.0 - a_prev - sigma**2).clamp(min=0).sqrt()
        return torch.stack([a.sqrt(), (1.0 - a).sqrt(), a_prev.sqrt(), direction, sigma], dim=1)

    # --- one step ------------------------------------------------------------------------------------------------

    def predict_noise(self, x, t, cond, options):
        """Guided, and possibly corrected, noise prediction for x [B, C, H, W] at timesteps t [B]."""
        scale, uncond = options.unconditional_guidance_scale, options.unconditional_conditioning
        eps = guided_prediction(self.model, x, t, cond, scale, uncond)
        if options.score_corrector is not None:
            if self.model.parameterization != "eps":
                raise ValueError("score_corrector needs a model that predicts the noise")
            eps = options.score_corrector.modify_score(self.model, eps, x, t, cond, **(options.corrector_kwargs or {}))
        return eps

    def ddim_update(self, x, eps, index, options):
        """(x_prev, pred_x0) of one DDIM step (arXiv 2010.02502, eq. 12) with table index ``index`` (0 = last step).

        Noise is drawn even where sigma is 0, so that a seed gives the published images; an explicit ``noise_fn`` is
        only asked where its noise counts.
        """
        table = self._original_step_table if options.use_original_steps else self._step_table
        sqrt_a, sqrt_1ma, sqrt_a_prev, direction, sigma = table[index].view(-1, *((1,) * x.ndim)).unbind()
        pred_x0 = (x - sqrt_1ma * eps) / sqrt_a
        if options.quantize_denoised:
            pred_x0, *_ = self.model.first_stage_model.quantize(pred_x0)
        if options.dynamic_threshold is not None:
            pred_x0 = norm_thresholding(pred_x0, options.dynamic_threshold)
        x_prev = sqrt_a_prev * pred_x0 + direction * eps
        if options.noise_fn is None:
            noise = util.noise_like(x.shape, x.device, options.repeat_noise)
        else:
            noise = options.noise_fn(x.shape, x.device) if self.ddim_eta else None
        if self.ddim_eta:
            noise = sigma * noise * options.temperature
            x_prev = x_prev + (F.dropout(noise, p=options.noise_dropout) if options.noise_dropout > 0.0 else noise)
        return x_prev.to(x.dtype), pred_x0

    # --- the loop ------------------------------------------------------------------------------------------------

    def _steps(self, timesteps, t_start, use_original_steps):
        """The ascending timesteps to run."""
        table = np.arange(self.ddpm_num_timesteps) if use_original_steps else self.ddim_timesteps
        if timesteps is None:
            return table[:t_start]
        if use_original_steps:
            return table[:timesteps]
        # published behaviour: one step fewer than asked for
        return table[: int(min(timesteps / len(table), 1) * len(table)) - 1]

    def run(
        self,
        step,
        cond,
        shape,
        options,
        *,
        x_T=None,
        callback=None,
        timesteps=None,
        mask=None,
        x0=None,
        img_callback=None,
        log_every_t=100,
        t_start=None,
        till_T=None,
        verbose_iter=False,
    ):
        """Run ``step(img, cond, ts, ts_next, index, options) -> (img, pred_x0)`` down the timesteps.

        Returns the final latent and {"x_inter": [...], "pred_x0": [...]}, both starting with x_T.
        """
        model, batch = self.model, shape[0]
        img = torch.randn(shape, device=self.device) if x_T is None else x_T
        steps = np.flip(self._steps(timesteps, t_start, options.use_original_steps)).tolist()
        table = torch.tensor(steps, dtype=torch.long, device=img.device)
        intermediates = {"x_inter": [img], "pred_x0": [img]}
        log_every_t = log_every_t or 100
        name = type(self).__name__.removesuffix("Sampler")
        for i in tqdm(range(len(steps)), desc=f"{name} sampling", disable=not verbose_iter):
            index = len(steps) - i - 1
            ts, ts_next = (table[k].expand(batch) for k in (i, min(i + 1, len(steps) - 1)))
            if mask is not None:
                img = model.q_sample(x0, ts) * mask + (1.0 - mask) * img
            img, pred_x0 = step(img, cond, ts, ts_next, index, options)
            if callback is not None:
                img = call_callback(callback, img, i, img, pred_x0)
            if img_callback is not None:
                img_callback(pred_x0, i)
            if index % log_every_t == 0 or index == len(steps) - 1:
                intermediates["x_inter"].append(img)
                intermediates["pred_x0"].append(pred_x0)
            if till_T and index == till_T - 1:
                break
        return img, intermediates


def gradients(enabled):
    """Context in which a sampler runs: without gradients unless they are asked for."""
    return torch.set_grad_enabled(bool(enabled) and torch.is_grad_enabled())


def check_batch(conditioning, batch_size):
    """Warn where the conditioning's batch is not the one asked for."""
    first = _first_tensor(conditioning)
    if first is not None and first.shape[0] != batch_size:
        warnings.warn(f"{first.shape[0]} conditionings given for a batch of {batch_size}", stacklevel=3)
