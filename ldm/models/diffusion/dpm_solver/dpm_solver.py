"""DPM-Solver (arXiv 2206.00927) and DPM-Solver++ (arXiv 2211.01095) over a discrete noise schedule.

Both are exponential integrators in lambda = log(alpha / sigma). With h = lambda_t - lambda_s the exact solution is a
linear term plus an integral of the network's prediction m, which is expanded in derivatives of m. With
phi_1(h) = e^h - 1, phi_2(h) = phi_1(h) / h - 1 and phi_3(h) = phi_2(h) / h - 1/2:

    x_t = (alpha_t / alpha_s) x_s - sigma_t (phi_1(h) m + phi_2(h) D1 + phi_3(h) D2)        m predicts the noise
    x_t = (sigma_t / sigma_s) x_s - alpha_t (phi_1(-h) m + phi_2(-h) D1 + phi_3(-h) D2)     m predicts x_0 ("++")
"""

import torch
from tqdm import tqdm

from ldm.models.diffusion.sampler_base import guided_prediction
from ldm.models.diffusion.sampling_util import append_dims


def _interpolate(x, xp, yp):
    """Piecewise linear function through (xp, yp), xp ascending; the outermost segments extend beyond the ends."""
    right = torch.searchsorted(xp, x.contiguous()).clamp(1, len(xp) - 1)
    x0, x1, y0, y1 = xp[right - 1], xp[right], yp[right - 1], yp[right]
    return y0 + (x - x0) * (y1 - y0) / (x1 - x0)


class NoiseScheduleVP:
    """The schedule of a discrete-time model as functions of continuous time t: step i is t = (i + 1) / N.

    Only schedule "discrete" exists; give ``betas`` or ``alphas_cumprod`` [N]. Times and results are tensors of any
    shape, float32.
    """

    def __init__(self, schedule="discrete", betas=None, alphas_cumprod=None):
        if schedule != "discrete":
            raise ValueError(f"unsupported noise schedule {schedule!r}; only 'discrete' is")
        if (betas is None) == (alphas_cumprod is None):
            raise ValueError("give either betas or alphas_cumprod")
        log_abar = torch.log(1 - betas).cumsum(0) if alphas_cumprod is None else torch.log(alphas_cumprod)
        self.schedule = schedule
        self.log_alphas = 0.5 * log_abar.detach().float().cpu()
        self.total_N = len(self.log_alphas)
        self.T = 1.0
        self.times = torch.linspace(0.0, 1.0, self.total_N + 1)[1:]

    def marginal_log_mean_coeff(self, t):
        """log alpha_t."""
        return _interpolate(t, self.times.to(t.device), self.log_alphas.to(t.device))

    def marginal_alpha(self, t):
        """alpha_t: the factor of x_0 in x_t."""
        return self.marginal_log_mean_coeff(t).exp()

    def marginal_std(self, t):
        """sigma_t: the factor of the noise in x_t."""
        return (1.0 - (2.0 * self.marginal_log_mean_coeff(t)).exp()).sqrt()

    def marginal_lambda(self, t):
        """log(alpha_t / sigma_t), half the logarithm of the signal to noise ratio."""
        log_alpha = self.marginal_log_mean_coeff(t)
        return log_alpha - 0.5 * torch.log(1.0 - (2.0 * log_alpha).exp())

    def inverse_lambda(self, lamb):
        """The time t of a given lambda."""
        log_alpha = -0.5 * torch.logaddexp(torch.zeros_like(lamb), -2.0 * lamb)
        return _interpolate(log_alpha, self.log_alphas.flip(0).to(lamb.device), self.times.flip(0).to(lamb.device))


def model_wrapper(
    model, noise_schedule, model_type="noise", condition=None, unconditional_condition=None, guidance_scale=1.0
):
    """A function (x [B, ...], t scalar tensor) -> predicted noise, of a model with ``apply_model(x, t [B], cond)``.

    model_type: what the model predicts, "noise" or "x_start". The model is given the fractional timestep
    (t - 1/N) * 1000, whatever N is. Guidance: see ``guided_prediction``.
    """
    if model_type not in ("noise", "x_start"):
        raise ValueError(f"unsupported model_type {model_type!r}; choose noise or x_start")

    def predict(x, t):
        timestep = ((t - 1.0 / noise_schedule.total_N) * 1000.0).item()
        timesteps = torch.full((x.shape[0],), timestep, dtype=torch.float32, device=x.device)
        out = guided_prediction(model, x, timesteps, condition, guidance_scale, unconditional_condition)
        if model_type == "noise":
            return out
        return (x - noise_schedule.marginal_alpha(t) * out) / noise_schedule.marginal_std(t)

    return predict


def _phis(h):
    """[phi_1, phi_2, phi_3] of h."""
    phi_1 = torch.expm1(h)
    phi_2 = phi_1 / h - 1.0
    return [phi_1, phi_2, phi_2 / h - 0.5]


class DPM_Solver:
    """Solver around ``model_fn(x, t) -> noise`` (see ``model_wrapper``).

    predict_x0: DPM-Solver++. thresholding: clamp the predicted x_0 to its 99.5 % quantile, rescaled to max_val (arXiv
    2205.11487); only with predict_x0. The published class also had adaptive steps and the method "singlestep", which
    crashed; neither exists here.
    """

    def __init__(self, model_fn, noise_schedule, predict_x0=False, thresholding=False, max_val=1.0):
        self.model = model_fn
        self.noise_schedule = noise_schedule
        self.predict_x0 = predict_x0
        self.thresholding = thresholding
        self.max_val = max_val

    def sample(
        self,
        x,
        steps=20,
        t_start=None,
        t_end=None,
        order=2,
        skip_type="time_uniform",
        method="multistep",
        denoise_to_zero=False,
        lower_order_final=True,
        solver_type="dpm_solver",
        *,
        progress=False,
    ):
        """Integrate x [B, ...] from t_start (default 1) to t_end (default 1/N) with ``steps`` calls of the model.

        order: 1 to 3. skip_type: spacing of the times, "time_uniform", "time_quadratic" or "logSNR".
        method: "multistep", or "singlestep_fixed" (steps // order steps, each of ``order`` calls).
        denoise_to_zero: return the x_0 predicted at the end, one more call. lower_order_final: lower the order of the
        last multistep steps where there are fewer than 15. solver_type: "dpm_solver" or "taylor", how the first
        derivative enters at order 2 (and at order 3 of singlestep_fixed).
        Raises ValueError for other names and for fewer steps than ``order``.
        """
        self._check(steps, order, method, solver_type)
        t_start = self.noise_schedule.T if t_start is None else t_start
        t_end = 1.0 / self.noise_schedule.total_N if t_end is None else t_end
        if method == "multistep":
            times = self.get_time_steps(skip_type, t_start, t_end, steps)
            last_order = order if not lower_order_final or steps >= 15 else 1
            x = self._multistep(x, times, order, last_order, solver_type, progress)
        else:
            times = self.get_time_steps(skip_type, t_start, t_end, steps // order)
            for s, t in tqdm(list(zip(times[:-1], times[1:], strict=True)), desc="DPM-Solver", disable=not progress):
                inner = self.get_time_steps(skip_type, s.item(), t.item(), order)
                x = self._singlestep(x, s, t, inner, solver_type)
        return self.data_prediction(x, times[-1]) if denoise_to_zero else x

    @staticmethod
    def _check(steps, order, method, solver_type):
        if method not in ("multistep", "singlestep_fixed"):
            raise ValueError(f"unsupported method {method!r}; choose multistep or singlestep_fixed")
        if solver_type not in ("dpm_solver", "taylor"):
            raise ValueError(f"unsupported solver_type {solver_type!r}; choose dpm_solver or taylor")
        if order not in (1, 2, 3):
            raise ValueError(f"order must be 1, 2 or 3, not {order}")
        if steps < order:
            raise ValueError(f"a solver of order {order} needs at least {order} steps, not {steps}")

    def get_time_steps(self, skip_type, t_T, t_0, N):
        """The N + 1 times from t_T down to t_0, float32 on the CPU."""
        if skip_type == "time_uniform":
            return torch.linspace(t_T, t_0, N + 1)
        if skip_type == "time_quadratic":
            return torch.linspace(t_T**0.5, t_0**0.5, N + 1).square()
        if skip_type == "logSNR":
            ends = self.noise_schedule.marginal_lambda(torch.tensor([t_T, t_0])).tolist()
            return self.noise_schedule.inverse_lambda(torch.linspace(*ends, N + 1))
        raise ValueError(f"unsupported skip_type {skip_type!r}; choose time_uniform, time_quadratic or logSNR")

    # --- predictions ---------------------------------------------------------------------------------------------

    def data_prediction(self, x, t):
        """x_0 predicted from x at time t."""
        noise = self.model(x, t)
        x0 = (x - self.noise_schedule.marginal_std(t) * noise) / self.noise_schedule.marginal_alpha(t)
        if not self.thresholding:
            return x0
        bound = x0.flatten(1).abs().float().quantile(0.995, dim=1).clamp(min=self.max_val).to(x0.dtype)
        bound = append_dims(bound, x0.ndim)
        return x0.clamp(-bound, bound) / (bound / self.max_val)

    def _predict(self, x, t):
        return self.data_prediction(x, t) if self.predict_x0 else self.model(x, t)

    # --- steps ---------------------------------------------------------------------------------------------------

    def _update(self, x, s, t, *derivatives, half=False):
        """x at time t from x at time s and [m, D1, D2]; ``half`` replaces phi_2 by phi_1 / 2 (equal to leading order).

        Coefficients are 0-dimensional tensors on the CPU: they cost no synchronisation with the device.
        """
        schedule = self.noise_schedule
        h = schedule.marginal_lambda(t) - schedule.marginal_lambda(s)
        if self.predict_x0:
            ratio = schedule.marginal_std(t) / schedule.marginal_std(s)
            factor, phis = schedule.marginal_alpha(t), _phis(-h)
        else:
            ratio = torch.exp(schedule.marginal_log_mean_coeff(t) - schedule.marginal_log_mean_coeff(s))
            factor, phis = schedule.marginal_std(t), _phis(h)
        if half:
            phis[1] = 0.5 * phis[0]
        out = ratio * x
        for phi, derivative in zip(phis, derivatives, strict=False):
            out = out - factor * phi * derivative
        return out

    def _multistep(self, x, times, order, last_order, solver_type, progress):
        """Steps from the predictions at the last ``order`` times; the first steps have fewer and a lower order."""
        steps = len(times) - 1
        lambdas = self.noise_schedule.marginal_lambda(times)
        history = []  # predictions, newest first
        for i in tqdm(range(steps), desc="DPM-Solver", disable=not progress):
            history = [self._predict(x, times[i]), *history[: order - 1]]
            used = min(len(history), last_order + steps - 1 - i)
            h = lambdas[i + 1] - lambdas[i]
            gaps = [(lambdas[i - k] - lambdas[i - k - 1]) / h for k in range(used - 1)]
            derivatives = self._divided_differences(history[:used], gaps)
            half = used == 2 and solver_type == "dpm_solver"
            x = self._update(x, times[i], times[i + 1], *derivatives, half=half)
        return x

    @staticmethod
    def _divided_differences(history, gaps):
        """[m, D1, D2] by backward differences; gaps: distances of the predictions' lambdas over the step's."""
        slopes = [(new - old) / gap for new, old, gap in zip(history[:-1], history[1:], gaps, strict=True)]
        if len(slopes) < 2:
            return [history[0], *slopes]
        curvature = (slopes[0] - slopes[1]) / (gaps[0] + gaps[1])
        return [history[0], slopes[0] + gaps[0] * curvature, curvature]

    def _singlestep(self, x, s, t, inner, solver_type):
        """One step from s to t through the intermediate times that lie where ``inner`` [order + 1] does in lambda."""
        schedule = self.noise_schedule
        lambdas = schedule.marginal_lambda(inner)
        lambda_s, h = lambdas[0], lambdas[-1] - lambdas[0]
        r = (lambdas[1:-1] - lambda_s) / h
        between = schedule.inverse_lambda(lambda_s + r * h)
        m = self._predict(x, s)
        if len(r) == 0:
            return self._update(x, s, t, m)
        slope = (self._predict(self._update(x, s, between[0], m), between[0]) - m) / r[0]
        if len(r) == 1:
            return self._update(x, s, t, m, slope, half=solver_type == "dpm_solver")
        x2 = self._update(x, s, between[1], m, r[1] * slope)
        slope2 = (self._predict(x2, between[1]) - m) / r[1]
        if solver_type == "dpm_solver":
            return self._update(x, s, t, m, slope2)
        gap = r[1] - r[0]
        return self._update(x, s, t, m, (r[1] * slope - r[0] * slope2) / gap, 2 * (slope2 - slope) / gap)
