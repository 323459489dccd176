"""PLMS sampling: pseudo linear multistep for diffusion models (arXiv 2202.09778) over the tables of DDIM."""

from ldm.models.diffusion.ddim import DDIMSampler
from ldm.models.diffusion.sampler_base import StepOptions

# Adams-Bashforth weights of the newest prediction and of its predecessors, by the number of predecessors.
_WEIGHTS = {
    1: (3 / 2, -1 / 2),
    2: (23 / 12, -16 / 12, 5 / 12),
    3: (55 / 24, -59 / 24, 37 / 24, -9 / 24),
}


class PLMSSampler(DDIMSampler):
    """PLMS sampler; takes the arguments of ``DDIMSampler``, with eta 0. Calls the model once more than it has steps."""

    def make_schedule(self, ddim_num_steps, ddim_discretize="uniform", ddim_eta=0.0, verbose=False):
        """The tables of DDIM. Raises ValueError where ``ddim_eta`` is not 0."""
        if ddim_eta != 0:
            raise ValueError("PLMS is deterministic: eta must be 0")
        super().make_schedule(ddim_num_steps, ddim_discretize, ddim_eta, verbose)

    def plms_sampling(self, cond, shape, *args, **kwargs):
        """``ddim_sampling`` with PLMS steps."""
        return self.ddim_sampling(cond, shape, *args, **kwargs)

    def _stepper(self):
        history = []

        def step(img, cond, ts, ts_next, index, options):
            img, pred_x0, eps = self._plms_step(img, cond, ts, ts_next, index, options, history)
            history.append(eps)
            del history[:-3]
            return img, pred_x0

        return step

    def p_sample_plms(self, x, c, t, index, *, old_eps=None, t_next=None, **options):
        """(x_prev, pred_x0, eps) of one step from x [B, C, H, W] at timesteps t [B].

        old_eps: up to three earlier predictions, newest last. t_next [B]: the following timesteps, needed while there
        are none. options: see ``StepOptions``.
        """
        return self._plms_step(x, c, t, t_next, index, StepOptions(**options), old_eps or [])

    def _plms_step(self, x, cond, t, t_next, index, options, history):
        eps = self.predict_noise(x, t, cond, options)
        if history:
            newest_first = [eps, *reversed(history)]
            effective = sum(w * e for w, e in zip(_WEIGHTS[len(history)], newest_first, strict=True))
        else:  # improved Euler: average with the prediction one step ahead
            x_ahead, _ = self.ddim_update(x, eps, index, options)
            effective = (eps + self.predict_noise(x_ahead, t_next, cond, options)) / 2
        return *self.ddim_update(x, effective, index, options), eps
