"""The forward (noising) process of a diffusion model: schedule buffers, q(x_t | x_0) and its posterior."""

import functools

import numpy as np
import torch
from torch import nn

from ldm.modules.diffusionmodules.util import extract_into_tensor, make_beta_schedule


class NoiseSchedule(nn.Module):
    """Base of the diffusion models (equations of arXiv 2006.11239).

    A subclass sets ``_schedule`` (the arguments of ``register_schedule``), ``parameterization``, ``v_posterior``,
    ``learn_logvar`` and ``logvar_init`` and builds its network before it calls ``register_schedule``.
    """

    @property
    def device(self):
        """Device of the parameters."""
        return next(self.parameters()).device

    # --- schedule ------------------------------------------------------------------------------------------------

    def register_schedule(self, **settings):
        """Compute the noise schedule's buffers (float32 [T], from float64) on the model's device.

        Settings not given (given_betas, beta_schedule, timesteps, linear_start, linear_end, cosine_s) keep the values
        the model was built with. The buffers are real even when the model is built on the meta device; call it again
        after ``to_empty`` has discarded them.
        """
        unknown = set(settings) - set(self._schedule)
        if unknown:
            raise TypeError(f"register_schedule() got unexpected arguments {sorted(unknown)}")
        self._schedule.update(settings)
        schedule = dict(self._schedule)
        given, name, steps = (schedule.pop(k) for k in ("given_betas", "beta_schedule", "timesteps"))
        betas = make_beta_schedule(name, steps, **schedule) if given is None else np.asarray(given, dtype=np.float64)
        self.num_timesteps = len(betas)
        self.linear_start, self.linear_end = schedule["linear_start"], schedule["linear_end"]

        abar = np.cumprod(1.0 - betas)
        abar_prev = np.append(1.0, abar[:-1])
        posterior = (1 - self.v_posterior) * betas * (1 - abar_prev) / (1 - abar) + self.v_posterior * betas
        buffers = {
            "betas": betas,
            "alphas_cumprod": abar,
            "alphas_cumprod_prev": abar_prev,
            "sqrt_alphas_cumprod": np.sqrt(abar),
            "sqrt_one_minus_alphas_cumprod": np.sqrt(1 - abar),
            "log_one_minus_alphas_cumprod": np.log(1 - abar),
            "sqrt_recip_alphas_cumprod": np.sqrt(1 / abar),
            "sqrt_recipm1_alphas_cumprod": np.sqrt(1 / abar - 1),
            "posterior_variance": posterior,
            "posterior_log_variance_clipped": np.log(np.maximum(posterior, 1e-20)),
            "posterior_mean_coef1": betas * np.sqrt(abar_prev) / (1 - abar),
            "posterior_mean_coef2": (1 - abar_prev) * np.sqrt(1 - betas) / (1 - abar),
        }
        buffers = {key: value.astype(np.float32) for key, value in buffers.items()}
        for key, value in buffers.items():
            self._register(key, value)
        self._register("lvlb_weights", self._bound_weights(buffers), persistent=False)
        if not self.learn_logvar:
            # a buffer, so that indexing with timesteps on another device works; not in the published checkpoints
            self._register("logvar", np.full(self.num_timesteps, self.logvar_init, np.float32), persistent=False)

    def _register(self, key, array, persistent=True):
        # from_numpy, unlike torch.tensor, ignores a surrounding torch.device("meta"): there the values stay on the CPU
        value = torch.from_numpy(array)
        if self.device.type != "meta":
            value = value.to(self.device)
        self.register_buffer(key, value, persistent=persistent)

    def _bound_weights(self, buffers):
        """Per-timestep weights of the variational bound, in float32 arithmetic like the published code."""
        betas, abar = buffers["betas"], buffers["alphas_cumprod"]
        one = np.float32(1)
        with np.errstate(divide="ignore", invalid="ignore"):
            if self.parameterization == "eps":
                alphas = (1.0 - betas.astype(np.float64)).astype(np.float32)
                weights = betas**2 / (2 * buffers["posterior_variance"] * alphas * (one - abar))
            else:
                weights = np.float32(0.5) * np.sqrt(abar) / (np.float32(2) - abar)  # "2 * 1 - abar" as published
        if len(weights) > 1:
            weights[0] = weights[1]
        return weights

    # --- forward process and posterior ---------------------------------------------------------------------------

    def q_mean_variance(self, x_start, t):
        """Mean [B, C, H, W], variance and log variance [B, 1, 1, 1] of q(x_t | x_0)."""
        at = functools.partial(extract_into_tensor, t=t, x_shape=x_start.shape)
        return (
            at(self.sqrt_alphas_cumprod) * x_start,
            at(1.0 - self.alphas_cumprod),
            at(self.log_one_minus_alphas_cumprod),
        )

    def q_sample(self, x_start, t, noise=None):
        """x_t = sqrt(abar_t) x_0 + sqrt(1 - abar_t) noise; noise is drawn like x_0 unless given."""
        noise = torch.randn_like(x_start) if noise is None else noise
        at = functools.partial(extract_into_tensor, t=t, x_shape=x_start.shape)
        return at(self.sqrt_alphas_cumprod) * x_start + at(self.sqrt_one_minus_alphas_cumprod) * noise

    def predict_start_from_noise(self, x_t, t, noise):
        """x_0 implied by x_t and the noise it contains."""
        at = functools.partial(extract_into_tensor, t=t, x_shape=x_t.shape)
        return at(self.sqrt_recip_alphas_cumprod) * x_t - at(self.sqrt_recipm1_alphas_cumprod) * noise

    def _predict_eps_from_xstart(self, x_t, t, pred_xstart):
        at = functools.partial(extract_into_tensor, t=t, x_shape=x_t.shape)
        return (at(self.sqrt_recip_alphas_cumprod) * x_t - pred_xstart) / at(self.sqrt_recipm1_alphas_cumprod)

    def q_posterior(self, x_start, x_t, t):
        """Mean, variance and clipped log variance of q(x_{t-1} | x_t, x_0)."""
        at = functools.partial(extract_into_tensor, t=t, x_shape=x_t.shape)
        mean = at(self.posterior_mean_coef1) * x_start + at(self.posterior_mean_coef2) * x_t
        return mean, at(self.posterior_variance), at(self.posterior_log_variance_clipped)
