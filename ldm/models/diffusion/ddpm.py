"""Denoising diffusion (DDPM) and its latent, conditional version, as plain modules.

Follows "Denoising Diffusion Probabilistic Models" (arXiv 2006.11239) and "High-Resolution Image Synthesis with Latent
Diffusion Models" (arXiv 2112.10752). State-dict names equal those of the published checkpoints. Notation: x_0 a clean
latent [B, C, H, W], x_t its noised version at timestep t (int64 [B]), abar = alphas_cumprod.
"""

import contextlib
import functools
import logging

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from ldm.loading import init_from_ckpt
from ldm.models.diffusion.noise_schedule import NoiseSchedule
from ldm.modules.diffusionmodules.util import noise_like
from ldm.util import default, instantiate_from_config

logger = logging.getLogger(__name__)

__conditioning_keys__ = {"concat": "c_concat", "crossattn": "c_crossattn", "adm": "y"}


def disabled_train(self, mode=True):
    """Replacement of ``Module.train`` for frozen stages: they stay in evaluation mode."""
    return self


def uniform_on_device(r1, r2, shape, device):
    """Uniform random numbers between r2 and r1."""
    return (r1 - r2) * torch.rand(*shape, device=device) + r2


def _freeze(stage):
    stage.eval()
    stage.train = functools.partial(disabled_train, stage)
    return stage.requires_grad_(False)


class DiffusionWrapper(nn.Module):
    """The denoiser together with the way its conditioning enters.

    ``conditioning_key``: None (unconditional), concat, crossattn, hybrid (both), adm (class embedding) or hybrid-adm.
    """

    KEYS = (None, "concat", "crossattn", "hybrid", "adm", "hybrid-adm")

    def __init__(self, diff_model_config, conditioning_key):
        super().__init__()
        if conditioning_key not in self.KEYS:
            raise ValueError(f"unknown conditioning_key {conditioning_key!r}, expected one of {self.KEYS}")
        self.diffusion_model = instantiate_from_config(diff_model_config)
        self.conditioning_key = conditioning_key

    def forward(self, x, t, c_concat=None, c_crossattn=None, c_adm=None):
        """Prediction [B, C, H, W]; conditionings are lists of tensors, joined along channels or tokens."""
        key = self.conditioning_key
        arguments = {}
        if key in ("concat", "hybrid", "hybrid-adm"):
            x = torch.cat([x, *c_concat], dim=1)
        if key in ("crossattn", "hybrid", "hybrid-adm"):
            arguments["context"] = c_crossattn[0] if len(c_crossattn) == 1 else torch.cat(c_crossattn, dim=1)
        if key == "adm":
            arguments["y"] = c_crossattn[0]
        if key == "hybrid-adm":
            arguments["y"] = c_adm
        return self.diffusion_model(x, t, **arguments)


class DDPM(NoiseSchedule):
    """Unconditional diffusion model: schedule, forward process, losses and ancestral sampling."""

    def __init__(
        self,
        unet_config,
        timesteps=1000,
        beta_schedule="linear",
        loss_type="l2",
        ckpt_path=None,
        ignore_keys=(),
        load_only_unet=False,
        monitor="val/loss",
        use_ema=True,
        first_stage_key="image",
        image_size=256,
        channels=3,
        log_every_t=100,
        clip_denoised=True,
        linear_start=1e-4,
        linear_end=2e-2,
        cosine_s=8e-3,
        given_betas=None,
        original_elbo_weight=0.0,
        v_posterior=0.0,
        l_simple_weight=1.0,
        conditioning_key=None,
        parameterization="eps",
        scheduler_config=None,
        use_positional_encodings=False,
        learn_logvar=False,
        logvar_init=0.0,
        ucg_training=None,
    ):
        super().__init__()
        if parameterization not in ("eps", "x0"):
            raise ValueError('currently only supporting "eps" and "x0"')
        self.parameterization = parameterization
        self.loss_type = loss_type
        self.clip_denoised = clip_denoised
        self.log_every_t = log_every_t
        self.first_stage_key = first_stage_key
        self.image_size = image_size
        self.channels = channels
        self.monitor = monitor
        self.scheduler_config = scheduler_config
        self.use_scheduler = scheduler_config is not None
        self.use_positional_encodings = use_positional_encodings
        self.v_posterior = v_posterior
        self.original_elbo_weight = original_elbo_weight
        self.l_simple_weight = l_simple_weight
        self.learn_logvar = learn_logvar
        self.logvar_init = logvar_init
        self.cond_stage_model = None
        self.model = DiffusionWrapper(unet_config, conditioning_key)
        self.use_ema = use_ema
        if use_ema:
            from ldm.modules.ema import LitEma

            self.model_ema = LitEma(self.model)
        self._schedule = dict(
            given_betas=given_betas,
            beta_schedule=beta_schedule,
            timesteps=timesteps,
            linear_start=linear_start,
            linear_end=linear_end,
            cosine_s=cosine_s,
        )
        self.register_schedule()
        if learn_logvar:
            self.logvar = nn.Parameter(torch.full((self.num_timesteps,), float(logvar_init)))
        self.ucg_training = ucg_training or {}
        self._ucg_random = np.random.RandomState()
        if ckpt_path is not None:
            self.init_from_ckpt(ckpt_path, ignore_keys, only_model=load_only_unet)

    # --- losses --------------------------------------------------------------------------------------------------

    def get_loss(self, pred, target, mean=True):
        """l1 or l2 loss, averaged or elementwise (``mean=False``)."""
        if self.loss_type not in ("l1", "l2"):
            raise NotImplementedError(f"unknown loss type '{self.loss_type}'")
        loss = (target - pred).abs() if self.loss_type == "l1" else F.mse_loss(pred, target, reduction="none")
        return loss.mean() if mean else loss

    def _denoise(self, x, t, cond):
        return self.model(x, t)

    def _losses(self, x_start, cond, t, noise, use_logvar):
        noise = torch.randn_like(x_start) if noise is None else noise
        output = self._denoise(self.q_sample(x_start, t, noise), t, cond)
        target = noise if self.parameterization == "eps" else x_start
        simple = self.get_loss(output, target, mean=False).mean(dim=(1, 2, 3))
        prefix = "train" if self.training else "val"
        logs = {f"{prefix}/loss_simple": simple.mean()}
        weighted = simple
        if use_logvar:
            logvar = self.logvar[t]
            weighted = simple / torch.exp(logvar) + logvar
            if self.learn_logvar:
                logs.update({f"{prefix}/loss_gamma": weighted.mean(), "logvar": self.logvar.detach().mean()})
        bound = (self.lvlb_weights[t] * simple).mean()
        loss = self.l_simple_weight * weighted.mean() + self.original_elbo_weight * bound
        logs.update({f"{prefix}/loss_vlb": bound, f"{prefix}/loss": loss})
        return loss, logs

    def p_losses(self, x_start, t, noise=None):
        """(loss, dict of its parts) of predicting the noise (or x_0) at timesteps t."""
        return self._losses(x_start, None, t, noise, use_logvar=False)

    def _random_timesteps(self, x):
        return torch.randint(0, self.num_timesteps, (x.shape[0],), device=self.device).long()

    def forward(self, x, *args, **kwargs):
        """Training loss at random timesteps."""
        return self.p_losses(x, self._random_timesteps(x), *args, **kwargs)

    # --- ancestral sampling --------------------------------------------------------------------------------------

    def p_mean_variance(self, x, c, t, clip_denoised, return_x0=False):
        """Mean, variance, clipped log variance (and predicted x_0) of p(x_{t-1} | x_t)."""
        output = self._denoise(x, t, c)
        x0 = self.predict_start_from_noise(x, t, output) if self.parameterization == "eps" else output
        if clip_denoised:
            x0 = x0.clamp(-1.0, 1.0)
        moments = self.q_posterior(x0, x, t)
        return (*moments, x0) if return_x0 else moments

    @torch.no_grad()
    def p_sample(
        self, x, c, t, clip_denoised=False, repeat_noise=False, return_x0=False, temperature=1.0, noise_dropout=0.0
    ):
        """One ancestral step x_t -> x_{t-1}; no noise is added to items at t = 0."""
        mean, _, log_variance, x0 = self.p_mean_variance(x, c, t, clip_denoised, return_x0=True)
        noise = noise_like(x.shape, x.device, repeat_noise) * temperature
        if noise_dropout > 0.0:
            noise = F.dropout(noise, p=noise_dropout)
        nonzero = (t != 0).float().reshape(-1, *((1,) * (x.ndim - 1)))
        out = mean + nonzero * torch.exp(0.5 * log_variance) * noise
        return (out, x0) if return_x0 else out

    @torch.no_grad()
    def p_sample_loop(
        self,
        cond,
        shape,
        return_intermediates=False,
        x_T=None,
        callback=None,
        timesteps=None,
        mask=None,
        x0=None,
        img_callback=None,
        start_T=None,
        till_T=0,
        log_every_t=None,
    ):
        """Ancestral sampling from x_T (drawn unless given) [B, C, H, W] over timesteps start_T-1 .. till_T.

        With ``mask`` (1 = keep) the region of ``x0`` is put back, noised, after every step.
        """
        log_every_t = log_every_t or self.log_every_t
        timesteps = self.num_timesteps if timesteps is None else timesteps
        timesteps = min(timesteps, start_T) if start_T is not None else timesteps
        img = torch.randn(shape, device=self.device) if x_T is None else x_T
        intermediates = [img]
        for i in reversed(range(till_T or 0, timesteps)):
            t = torch.full((shape[0],), i, device=self.device, dtype=torch.long)
            img = self.p_sample(img, cond, t, clip_denoised=self.clip_denoised)
            if mask is not None:
                img = self.q_sample(x0, t) * mask + (1.0 - mask) * img
            if i % log_every_t == 0 or i == timesteps - 1:
                intermediates.append(img)
            if callback:
                callback(i)
            if img_callback:
                img_callback(img, i)
        return (img, intermediates) if return_intermediates else img

    @torch.no_grad()
    def sample(self, cond=None, batch_size=16, return_intermediates=False, x_T=None, shape=None, **kwargs):
        """Ancestral samples [batch_size, C, H, W]; see ``p_sample_loop`` for the options."""
        shape = (batch_size, self.channels, self.image_size, self.image_size) if shape is None else tuple(shape)
        return self.p_sample_loop(cond, shape, return_intermediates, x_T, **kwargs)

    # --- training support ----------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def ema_scope(self, context=None):
        """Run with the averaged weights (a no-op for a model without EMA)."""
        if self.use_ema:
            self.model_ema.store(self.model.parameters())
            self.model_ema.copy_to(self.model)
            logger.debug("%s: switched to EMA weights", context)
        try:
            yield None
        finally:
            if self.use_ema:
                self.model_ema.restore(self.model.parameters())

    def init_from_ckpt(self, path, ignore_keys=(), only_model=False):
        """Load a checkpoint's weights except keys with an ignored prefix; returns (missing, unexpected) keys."""
        return init_from_ckpt(self.model if only_model else self, path, ignore_keys)

    def get_input(self, batch, k):
        """Images batch[k], [B, H, W, C] or [B, H, W], as float32 [B, C, H, W]."""
        x = batch[k]
        x = x[..., None] if x.ndim == 3 else x
        return x.permute(0, 3, 1, 2).contiguous().float()

    def _drop_captions(self, batch):
        """Replace entries batch[key][i] by ``val`` with probability ``p`` (trains the unconditional branch)."""
        batch = dict(batch)
        for key, rule in self.ucg_training.items():
            value = rule.get("val") or ""
            drop = self._ucg_random.uniform(size=len(batch[key])) < rule["p"]
            batch[key] = [value if d else v for d, v in zip(drop, batch[key], strict=True)]
        return batch

    def shared_step(self, batch):
        """(loss, parts) of one batch of the data set."""
        return self(self.get_input(self._drop_captions(batch), self.first_stage_key))

    def _trained_parameters(self):
        return list(self.model.parameters()) + ([self.logvar] if self.learn_logvar else [])

    def configure_optimizers(self, learning_rate):
        """(AdamW, per-step LambdaLR or None) of the trained parameters."""
        optimizer = torch.optim.AdamW(self._trained_parameters(), lr=learning_rate)
        if not self.use_scheduler:
            return optimizer, None
        schedule = instantiate_from_config(self.scheduler_config).schedule
        return optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, lr_lambda=schedule)


class LatentDiffusion(DDPM):
    """Conditional diffusion in the latent space of a frozen first stage (autoencoder)."""

    def __init__(
        self,
        first_stage_config,
        cond_stage_config,
        num_timesteps_cond=None,
        cond_stage_key="image",
        cond_stage_trainable=False,
        concat_mode=True,
        cond_stage_forward=None,
        conditioning_key=None,
        scale_factor=1.0,
        scale_by_std=False,
        unet_trainable=True,
        *args,
        **kwargs,
    ):
        if default(num_timesteps_cond, 1) != 1:
            raise ValueError("num_timesteps_cond > 1 (shortened conditioning schedules) is not supported")
        if conditioning_key is None:
            conditioning_key = "concat" if concat_mode else "crossattn"
        if cond_stage_config == "__is_unconditional__":
            conditioning_key = None
        ckpt_path, ignore_keys = kwargs.pop("ckpt_path", None), kwargs.pop("ignore_keys", ())
        super().__init__(*args, conditioning_key=conditioning_key, **kwargs)
        self.clip_denoised = False
        self.num_timesteps_cond = 1
        self.cond_stage_key = cond_stage_key
        self.cond_stage_trainable = cond_stage_trainable
        self.cond_stage_forward = cond_stage_forward
        self.concat_mode = concat_mode
        self.unet_trainable = unet_trainable
        self.scale_by_std = scale_by_std
        if scale_by_std:
            self.register_buffer("scale_factor", torch.tensor(scale_factor))
        else:
            self.scale_factor = scale_factor
        self.first_stage_model = _freeze(instantiate_from_config(first_stage_config))
        self._build_cond_stage(cond_stage_config)
        if ckpt_path is not None:
            self.init_from_ckpt(ckpt_path, ignore_keys)

    def _build_cond_stage(self, config):
        if config == "__is_first_stage__":
            self.cond_stage_model = self.first_stage_model
        elif config == "__is_unconditional__":
            self.cond_stage_model = None
        else:
            stage = instantiate_from_config(config)
            self.cond_stage_model = stage if self.cond_stage_trainable else _freeze(stage)

    # --- first stage and conditioning ----------------------------------------------------------------------------

    @torch.no_grad()
    def encode_first_stage(self, x):
        """Posterior (or latent) of images [B, 3, H, W] in [-1, 1]."""
        return self.first_stage_model.encode(x)

    def get_first_stage_encoding(self, encoder_posterior):
        """Scaled latent [B, C, H/8, W/8]: a sample of the posterior, or the given tensor."""
        is_latent = isinstance(encoder_posterior, torch.Tensor)
        return self.scale_factor * (encoder_posterior if is_latent else encoder_posterior.sample())

    def differentiable_decode_first_stage(self, z):
        """Images [B, 3, 8H, 8W], about [-1, 1], of scaled latents, with gradients."""
        return self.first_stage_model.decode((1.0 / self.scale_factor) * z)

    @torch.no_grad()
    def decode_first_stage(self, z):
        """Images [B, 3, 8H, 8W], about [-1, 1], of scaled latents, without gradients."""
        return self.differentiable_decode_first_stage(z)

    def set_scale_by_std(self, x):
        """Rescale latents to unit standard deviation, measured on images x (``scale_by_std`` models)."""
        self.scale_factor.fill_(1.0)
        self.scale_factor.copy_(1.0 / self.get_first_stage_encoding(self.encode_first_stage(x)).flatten().std())

    def get_learned_conditioning(self, c):
        """Conditioning tensor of raw conditions, e.g. [B, 77, 768] of a list of B prompts."""
        stage = self.cond_stage_model
        if self.cond_stage_forward is not None:
            return getattr(stage, self.cond_stage_forward)(c)
        c = stage.encode(c) if callable(getattr(stage, "encode", None)) else stage(c)
        return c if isinstance(c, torch.Tensor) or not hasattr(c, "mode") else c.mode()

    @torch.no_grad()
    def get_input(self, batch, k, force_c_encode=False, cond_key=None, bs=None):
        """[scaled latents, conditioning] of a batch {k: images [B, H, W, C], cond_stage_key: captions or images}."""
        x = super().get_input(batch, k)[:bs].to(self.device)
        z = self.get_first_stage_encoding(self.encode_first_stage(x))
        if self.model.conditioning_key is None:
            return [z, None]
        cond_key = cond_key or self.cond_stage_key
        c = batch[cond_key]
        if cond_key == k:
            c = x
        elif isinstance(c, torch.Tensor) and c.ndim == 4:
            c = super().get_input(batch, cond_key).to(self.device)
        if not self.cond_stage_trainable or force_c_encode:
            c = self.get_learned_conditioning(c)
        return [z, c if bs is None else c[:bs]]

    # --- denoiser and losses -------------------------------------------------------------------------------------

    def apply_model(self, x_noisy, t, cond, return_ids=False):
        """Denoiser's prediction [B, C, H, W]; ``cond``: a tensor, a list of tensors, or a dict of lists."""
        if not isinstance(cond, dict):
            key = "c_concat" if self.model.conditioning_key == "concat" else "c_crossattn"
            cond = {key: cond if isinstance(cond, list) else [cond]}
        out = self.model(x_noisy, t, **cond)
        return out[0] if isinstance(out, tuple) and not return_ids else out

    def _denoise(self, x, t, cond):
        return self.apply_model(x, t, cond)

    def p_losses(self, x_start, cond, t, noise=None):
        """(loss, dict of its parts) of predicting the noise (or x_0) of noised latents under ``cond``."""
        return self._losses(x_start, cond, t, noise, use_logvar=True)

    def forward(self, x, c, *args, **kwargs):
        """Training loss at random timesteps; ``c`` is encoded here if the conditioning stage is trained."""
        t = self._random_timesteps(x)
        if self.model.conditioning_key is not None and self.cond_stage_trainable:
            c = self.get_learned_conditioning(c)
        return self.p_losses(x, c, t, *args, **kwargs)

    def shared_step(self, batch):
        """(loss, parts) of one batch of the data set."""
        return self(*self.get_input(self._drop_captions(batch), self.first_stage_key))

    @torch.no_grad()
    def sample(self, cond, batch_size=16, return_intermediates=False, x_T=None, shape=None, **kwargs):
        """Ancestral samples; ``cond`` (tensor, list or dict of them) is cut to ``batch_size``."""
        if isinstance(cond, dict):
            cond = {k: [c[:batch_size] for c in v] if isinstance(v, list) else v[:batch_size] for k, v in cond.items()}
        elif cond is not None:
            cond = [c[:batch_size] for c in cond] if isinstance(cond, list) else cond[:batch_size]
        return super().sample(cond, batch_size, return_intermediates, x_T, shape, **kwargs)

    def _trained_parameters(self):
        only = "attn2" if self.unet_trainable == "attn" else ""
        parameters = [p for name, p in self.model.named_parameters() if only in name]
        parameters += [self.logvar] if self.learn_logvar else []
        return parameters + (list(self.cond_stage_model.parameters()) if self.cond_stage_trainable else [])
