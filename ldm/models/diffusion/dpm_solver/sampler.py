"""DPM-Solver++ 2M (arXiv 2211.01095) with the interface of the other samplers."""

import warnings

import torch

from ldm.models.diffusion.dpm_solver.dpm_solver import DPM_Solver, NoiseScheduleVP, model_wrapper
from ldm.models.diffusion.sampler_base import check_batch, gradients


class DPMSolverSampler:
    """Second-order multistep DPM-Solver++ with uniform times over a LatentDiffusion model, on the model's device."""

    def __init__(self, model):
        self.model = model

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
        verbose_iter=False,
        noise_fn=None,
        grad=False,
    ):
        """Sample latents [batch_size, *shape] with S calls of the model; returns (latents, None).

        The solver is deterministic and knows neither masks nor callbacks: such arguments are accepted, with a warning
        where they would have had an effect. verbose_iter: show a progress bar. grad: record gradients.
        Raises ValueError for fewer than 2 steps.
        """
        check_batch(conditioning, batch_size)
        ignored = {
            "callback": callback is not None,
            "img_callback": img_callback is not None,
            "quantize_x0": quantize_x0,
            "eta": eta != 0,
            "mask": mask is not None,
            "score_corrector": score_corrector is not None,
        }
        if any(ignored.values()):
            names = ", ".join(name for name, given in ignored.items() if given)
            warnings.warn(f"DPM-Solver ignores {names}", stacklevel=2)
        x = torch.randn((batch_size, *shape), device=self.model.device) if x_T is None else x_T
        schedule = NoiseScheduleVP("discrete", alphas_cumprod=self.model.alphas_cumprod)
        model_fn = model_wrapper(
            self.model,
            schedule,
            model_type="noise" if self.model.parameterization == "eps" else "x_start",
            condition=conditioning,
            unconditional_condition=unconditional_conditioning,
            guidance_scale=unconditional_guidance_scale,
        )
        with gradients(grad):
            solver = DPM_Solver(model_fn, schedule, predict_x0=True)
            return solver.sample(x, steps=S, order=2, method="multistep", progress=verbose_iter), None
