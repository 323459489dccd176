"""DDIM sampling (arXiv 2010.02502), its inversion and the options the ESD trainer needs."""

import torch

from ldm.models.diffusion.sampler_base import Sampler, StepOptions, check_batch, gradients, guided_prediction
from ldm.modules.diffusionmodules.util import extract_into_tensor


class DDIMSampler(Sampler):
    """DDIM sampler over a LatentDiffusion model; runs on the model's device."""

    def sample(
        self,
        S,
        batch_size,
        shape,
        conditioning=None,
        callback=None,
        normals_sequence=None,
        img_callback=None,
        quantize_x0=False,
        eta=0.0,
        mask=None,
        x0=None,
        temperature=1.0,
        noise_dropout=0.0,
        score_corrector=None,
        corrector_kwargs=None,
        verbose=True,
        x_T=None,
        log_every_t=100,
        unconditional_guidance_scale=1.0,
        unconditional_conditioning=None,
        *,
        t_start=None,
        till_T=None,
        dynamic_threshold=None,
        verbose_iter=False,
        noise_fn=None,
        grad=False,
    ):
        """Sample latents [batch_size, *shape] in about S steps; returns (latents, intermediates).

        eta: 0 deterministic, 1 ancestral. mask (1 = keep) and x0: keep a region of x0. callback(i, img, pred_x0) may
        take fewer arguments and may return a latent that replaces img. intermediates: lists "x_inter" and "pred_x0".
        t_start: use ddim_timesteps[:t_start] (None = all; -1, as published by ESD, drops the noisiest step).
        till_T=k: stop after the step of index k - 1 (indices count down to 0); None or 0 runs to the end.
        dynamic_threshold: bound on the root mean square of the predicted x0. verbose_iter: show a progress bar.
        noise_fn(shape, device): source of the noise added per step. grad: record gradients through the steps.
        ``normals_sequence`` and ``verbose`` are accepted and unused. Raises ValueError for an S without a table.
        """
        check_batch(conditioning, batch_size)
        self.make_schedule(ddim_num_steps=S, ddim_eta=eta, verbose=False)
        return self.ddim_sampling(
            conditioning,
            (batch_size, *shape),
            x_T=x_T,
            callback=callback,
            quantize_denoised=quantize_x0,
            mask=mask,
            x0=x0,
            img_callback=img_callback,
            log_every_t=log_every_t,
            temperature=temperature,
            noise_dropout=noise_dropout,
            score_corrector=score_corrector,
            corrector_kwargs=corrector_kwargs,
            unconditional_guidance_scale=unconditional_guidance_scale,
            unconditional_conditioning=unconditional_conditioning,
            dynamic_threshold=dynamic_threshold,
            till_T=till_T,
            verbose_iter=verbose_iter,
            t_start=t_start,
            noise_fn=noise_fn,
            grad=grad,
        )

    def ddim_sampling(
        self,
        cond,
        shape,
        x_T=None,
        ddim_use_original_steps=False,
        callback=None,
        timesteps=None,
        quantize_denoised=False,
        mask=None,
        x0=None,
        img_callback=None,
        log_every_t=100,
        temperature=1.0,
        noise_dropout=0.0,
        score_corrector=None,
        corrector_kwargs=None,
        unconditional_guidance_scale=1.0,
        unconditional_conditioning=None,
        *,
        dynamic_threshold=None,
        till_T=None,
        verbose_iter=False,
        t_start=None,
        noise_fn=None,
        grad=False,
    ):
        """The loop of ``sample`` for a full shape (B, C, H, W), after ``make_schedule``.

        timesteps=k runs the k - 1 lowest timesteps (one fewer than asked, as published).
        """
        options = StepOptions(
            unconditional_guidance_scale=unconditional_guidance_scale,
            unconditional_conditioning=unconditional_conditioning,
            quantize_denoised=quantize_denoised,
            temperature=temperature,
            noise_dropout=noise_dropout,
            score_corrector=score_corrector,
            corrector_kwargs=corrector_kwargs,
            dynamic_threshold=dynamic_threshold,
            noise_fn=noise_fn,
            use_original_steps=ddim_use_original_steps,
        )
        with gradients(grad):
            return self.run(
                self._stepper(),
                cond,
                shape,
                options,
                x_T=x_T,
                callback=callback,
                timesteps=timesteps,
                mask=mask,
                x0=x0,
                img_callback=img_callback,
                log_every_t=log_every_t,
                t_start=t_start,
                till_T=till_T,
                verbose_iter=verbose_iter,
            )

    def _stepper(self):
        """The function that makes a run's steps (see ``run``); asked for once per run."""
        return self._step

    def _step(self, img, cond, ts, ts_next, index, options):
        return self.ddim_update(img, self.predict_noise(img, ts, cond, options), index, options)

    def p_sample_ddim(self, x, c, t, index, **options):
        """(x_prev, pred_x0) of one step from x [B, C, H, W] at timesteps t [B]; options: see ``StepOptions``."""
        return self._step(x, c, t, None, index, StepOptions(**options))

    # --- image to image ------------------------------------------------------------------------------------------

    def stochastic_encode(self, x0, t, use_original_steps=False, noise=None):
        """Noise latents x0 [B, C, H, W] to table index t [B] (a DDPM timestep with ``use_original_steps``)."""
        if use_original_steps:
            sqrt_a, sqrt_1ma = self.sqrt_alphas_cumprod, self.sqrt_one_minus_alphas_cumprod
        else:
            sqrt_a, sqrt_1ma = self.ddim_alphas.sqrt(), self.ddim_sqrt_one_minus_alphas
        noise = torch.randn_like(x0) if noise is None else noise
        return extract_into_tensor(sqrt_a, t, x0.shape) * x0 + extract_into_tensor(sqrt_1ma, t, x0.shape) * noise

    def decode(
        self,
        x_latent,
        cond,
        t_start,
        unconditional_guidance_scale=1.0,
        unconditional_conditioning=None,
        use_original_steps=False,
        callback=None,
        *,
        verbose_iter=False,
        noise_fn=None,
        grad=False,
    ):
        """Denoise x_latent [B, C, H, W] with the last ``t_start`` steps of the table."""
        latents, _ = self.ddim_sampling(
            cond,
            x_latent.shape,
            x_T=x_latent,
            ddim_use_original_steps=use_original_steps,
            callback=callback,
            unconditional_guidance_scale=unconditional_guidance_scale,
            unconditional_conditioning=unconditional_conditioning,
            t_start=int(t_start),
            verbose_iter=verbose_iter,
            noise_fn=noise_fn,
            grad=grad,
        )
        return latents

    def encode(
        self,
        x0,
        c,
        t_enc,
        use_original_steps=False,
        return_intermediates=None,
        unconditional_guidance_scale=1.0,
        unconditional_conditioning=None,
        *,
        legacy_timesteps=False,
        grad=False,
    ):
        """Deterministic inversion of x0 [B, C, H, W] by ``t_enc`` steps.

        Returns (x, {"x_encoded", "intermediate_steps"[, "intermediates"]}); ``return_intermediates`` is about how
        many to keep. ``legacy_timesteps`` gives the model the step's index 0, 1, 2, ... in place of its timestep, as
        the published function did by mistake.
        """
        steps = range(self.ddpm_num_timesteps) if use_original_steps else self.ddim_timesteps.tolist()
        if not 0 <= t_enc <= len(steps):
            raise ValueError(f"t_enc must be within 0..{len(steps)}, not {t_enc}")
        if use_original_steps:
            above, below = self.alphas_cumprod, self.alphas_cumprod_prev
        else:
            above = self.ddim_alphas
            below = torch.as_tensor(self.ddim_alphas_prev).to(above)
        scales = (above / below).sqrt()
        shifts = above.sqrt() * ((1 / above - 1).sqrt() - (1 / below - 1).sqrt())
        every = max(1, t_enc // return_intermediates) if return_intermediates else None
        x, kept = x0, {}
        with gradients(grad):
            for i in range(t_enc):
                t = torch.full((x0.shape[0],), i if legacy_timesteps else steps[i], device=x0.device, dtype=torch.long)
                eps = guided_prediction(self.model, x, t, c, unconditional_guidance_scale, unconditional_conditioning)
                x = scales[i] * x + shifts[i] * eps
                if every and (i % every == 0 or i >= t_enc - 2):
                    kept[i] = x
        out = {"x_encoded": x, "intermediate_steps": list(kept)}
        if return_intermediates:
            out["intermediates"] = list(kept.values())
        return x, out
