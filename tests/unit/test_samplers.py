"""Properties of the samplers that no recorded run covers."""

import numpy as np
import pytest
import torch

from erasure.errors import UserError
from erasure.samplers import NAMES, lms_weights, sample
from ldm.models.diffusion.ddim import DDIMSampler
from ldm.models.diffusion.dpm_solver import DPM_Solver, DPMSolverSampler, NoiseScheduleVP
from ldm.models.diffusion.plms import PLMSSampler
from tests.tiny import tiny_model

SHAPE = (4, 8, 8)
LDM_SAMPLERS = (DDIMSampler, PLMSSampler, DPMSolverSampler)


@pytest.fixture(scope="module")
def model():
    return tiny_model()


@pytest.fixture(scope="module")
def batch():
    """(cond, uncond, x_T) of three rows."""
    generator = torch.Generator().manual_seed(1)
    cond, uncond = torch.randn(2, 3, 5, 32, generator=generator)
    return cond, uncond, torch.randn(3, *SHAPE, generator=generator)


class PointMass:
    """Stands for a model of data that is one point: its noise prediction is exact, so sampling must find the point."""

    parameterization, device = "eps", torch.device("cpu")

    def __init__(self, schedule_of, point):
        self.num_timesteps = schedule_of.num_timesteps
        for name in ("betas", "alphas_cumprod", "alphas_cumprod_prev"):
            setattr(self, name, getattr(schedule_of, name))
        self.point = point
        self.schedule = NoiseScheduleVP(alphas_cumprod=self.alphas_cumprod)

    def apply_model(self, x, t, cond):
        time = (t.float() + 1) / self.num_timesteps
        alpha, sigma = (f(time).view(-1, 1, 1, 1) for f in (self.schedule.marginal_alpha, self.schedule.marginal_std))
        return (x - alpha * self.point) / sigma


@pytest.mark.parametrize("name", NAMES)
def test_exact_model_is_followed_to_its_point(model, batch, name):
    point = torch.linspace(-1, 1, 256).view(1, *SHAPE)
    cond, _, x_T = batch
    out = sample(PointMass(model, point), name, 20, SHAPE, cond, None, 1.0, x_T)
    # The last step of the ldm samplers ends at the first timestep's noise level, about 0.03, not at zero.
    assert (out - point).abs().mean() < (1e-3 if name == "lms" else 0.04)


@pytest.mark.parametrize("name", NAMES)
def test_rows_do_not_influence_each_other(model, batch, name):
    cond, uncond, x_T = batch
    together = sample(model, name, 4, SHAPE, cond, uncond, 5.0, x_T)
    for i in range(len(x_T)):
        row = slice(i, i + 1)
        alone = sample(model, name, 4, SHAPE, cond[row], uncond[row], 5.0, x_T[row])
        assert torch.allclose(together[row], alone, atol=1e-4 * together.abs().max().item())


@pytest.mark.parametrize("name", NAMES)
def test_every_row_may_have_its_own_scale(model, batch, name):
    cond, uncond, x_T = batch
    scales = [1.0, 3.0, 7.5]
    together = sample(model, name, 4, SHAPE, cond, uncond, torch.tensor(scales), x_T)
    for i, scale in enumerate(scales):
        alone = sample(model, name, 4, SHAPE, cond, uncond, scale, x_T)
        assert torch.allclose(together[i], alone[i], atol=1e-4 * together.abs().max().item())


@pytest.mark.parametrize("name", NAMES)
def test_global_random_stream_is_left_alone(model, batch, name):
    cond, uncond, x_T = batch
    before = torch.get_rng_state()
    out = sample(model, name, 2, SHAPE, cond, uncond, 2.0, x_T)
    assert torch.equal(before, torch.get_rng_state())
    assert not out.requires_grad and out.shape == x_T.shape and out.isfinite().all()


def test_noise_of_ddim_comes_from_noise_fn(model, batch):
    cond, uncond, x_T = batch

    def draw(seed):
        generator = torch.Generator().manual_seed(seed)
        noise_fn = lambda shape, device: torch.randn(shape, generator=generator, device=device)  # noqa: E731
        return sample(model, "ddim", 4, SHAPE, cond, uncond, 2.0, x_T, eta=1.0, noise_fn=noise_fn)

    assert torch.equal(draw(1), draw(1))
    assert not torch.allclose(draw(1), draw(2))


@pytest.mark.parametrize(
    ("name", "steps", "eta", "message"),
    [
        ("euler", 10, 0.0, "choose from ddim"),
        ("plms", 10, 1.0, "eta must be 0"),
        ("dpm", 10, 0.5, "eta must be 0"),
        ("ddim", 9, 0.0, "divisor"),
        ("ddim", 0, 0.0, "at least 1"),
        ("plms", 5000, 0.0, "more than"),
        ("dpm", 1, 0.0, "at least 2"),
        ("lms", 1, 0.0, "at least 2"),
    ],
)
def test_mistakes_are_named(model, batch, name, steps, eta, message):
    cond, uncond, x_T = batch
    with pytest.raises(UserError, match=message):
        sample(model, name, steps, SHAPE, cond, uncond, 2.0, x_T, eta=eta)


@pytest.mark.parametrize("sampler", LDM_SAMPLERS)
def test_unknown_options_are_refused(model, batch, sampler):
    with pytest.raises(TypeError, match="till_t"):
        sampler(model).sample(4, 3, SHAPE, batch[0], till_t=3)


@pytest.mark.parametrize("sampler", LDM_SAMPLERS)
def test_conditioning_of_another_batch_size_warns(model, batch, sampler):
    cond, _, x_T = batch
    with pytest.warns(UserWarning, match="3 conditionings given for a batch of 2"), pytest.raises(RuntimeError):
        sampler(model).sample(2, 2, SHAPE, cond, x_T=x_T[:2])


@pytest.mark.parametrize("sampler", LDM_SAMPLERS)
def test_gradients_only_on_request(model, batch, sampler):
    cond = batch[0][:1].clone().requires_grad_()
    arguments = {"S": 2, "batch_size": 1, "shape": SHAPE, "conditioning": cond, "x_T": batch[2][:1]}
    assert not sampler(model).sample(**arguments)[0].requires_grad
    out, _ = sampler(model).sample(**arguments, grad=True)
    (gradient,) = torch.autograd.grad(out.sum(), cond)
    assert gradient.abs().max() > 0


def test_dict_conditionings_are_joined_key_by_key(model, batch):
    cond, uncond, x_T = batch
    plain, wrapped = (
        DDIMSampler(model).sample(
            2, 3, SHAPE, c, x_T=x_T, unconditional_guidance_scale=4.0, unconditional_conditioning=u
        )[0]
        for c, u in ((cond, uncond), ({"c_crossattn": [cond]}, {"c_crossattn": [uncond]}))
    )
    assert torch.equal(plain, wrapped)


def test_ddim_over_the_original_steps(model, batch):
    """Published: AttributeError."""
    sampler = DDIMSampler(model)
    sampler.make_schedule(10)
    x = batch[2]
    out = sampler.decode(x, batch[0], 3, use_original_steps=True)
    assert out.shape == x.shape and out.isfinite().all() and not torch.equal(out, x)


def test_inversion_is_undone_by_sampling(model, batch):
    """Up to the error of its steps, which shrinks as they do."""
    point = torch.linspace(-1, 1, 256).view(1, *SHAPE)
    sampler = DDIMSampler(PointMass(model, point))
    x0 = point + 0.03 * batch[2]

    def error(steps, **flags):
        sampler.make_schedule(steps)
        x, _ = sampler.encode(x0, batch[0], steps // 2, **flags)
        return (sampler.decode(x, batch[0], steps // 2) - x0).abs().mean()

    assert error(500) < error(20) / 2
    assert error(500) < error(500, legacy_timesteps=True) / 2


def test_dpm_solver_warns_of_what_it_ignores(model, batch):
    with pytest.warns(UserWarning, match="ignores eta, mask"):
        DPMSolverSampler(model).sample(2, 3, SHAPE, batch[0], eta=1.0, mask=torch.ones(3, 1, 8, 8), x_T=batch[2])


@pytest.mark.parametrize("order", [1, 2, 3])
@pytest.mark.parametrize("method", ["multistep", "singlestep_fixed"])
@pytest.mark.parametrize("predict_x0", [True, False])
def test_dpm_solver_converges_with_its_order(model, order, method, predict_x0):
    """Halving the steps divides the error by about 2^order, with the exact model of Gaussian data.

    Multistep starts with a step of first order, which limits the whole run to order 2.
    """
    schedule = NoiseScheduleVP(alphas_cumprod=model.alphas_cumprod.double())
    schedule.log_alphas, schedule.times = _smooth_schedule()
    variance = 0.25

    def model_fn(x, t):
        alpha, sigma = schedule.marginal_alpha(t), schedule.marginal_std(t)
        return x * sigma / (alpha**2 * variance + sigma**2)

    def spread(t):
        return (schedule.marginal_alpha(t) ** 2 * variance + schedule.marginal_std(t) ** 2).sqrt()

    solver = DPM_Solver(model_fn, schedule, predict_x0=predict_x0)
    start, end = (torch.tensor(v, dtype=torch.float64) for v in (0.9, 0.1))
    exact = (spread(end) / spread(start)).item()

    def error(steps):
        x = torch.ones(1, 1, dtype=torch.float64)
        out = solver.sample(x, steps, start.item(), end.item(), order=order, method=method, lower_order_final=False)
        return abs(out.item() - exact)

    reached = min(order, 2) if method == "multistep" else order
    assert error(96) / error(192) > 2 ** (reached - 0.4)


def _smooth_schedule():
    """(log alpha, times) of a schedule without kinks, fine enough that interpolation does not show."""
    times = torch.linspace(0.0, 1.0, 200_001, dtype=torch.float64)[1:]
    return -0.5 * (0.1 * times + 0.5 * 9.9 * times**2), times


def test_lms_weights_integrate_cubics_exactly():
    sigmas = np.array([14.0, 9.0, 6.5, 4.0, 2.5, 0.0])
    for i in range(len(sigmas) - 1):
        weights = lms_weights(sigmas, i)
        for power in range(len(weights)):
            total = sum(w * sigmas[i - k] ** power for k, w in enumerate(weights))
            exact = (sigmas[i + 1] ** (power + 1) - sigmas[i] ** (power + 1)) / (power + 1)
            assert total == pytest.approx(exact, rel=1e-9)


def test_lms_equals_diffusers(model, batch):
    pytest.importorskip("scipy", reason="diffusers' LMS scheduler needs scipy")
    diffusers = pytest.importorskip("diffusers")
    scheduler = diffusers.LMSDiscreteScheduler(
        beta_start=model.linear_start, beta_end=model.linear_end, beta_schedule="scaled_linear"
    )
    scheduler.set_timesteps(10)
    cond, uncond, x_T = batch
    x = x_T * scheduler.init_noise_sigma
    with torch.no_grad():
        for t in scheduler.timesteps:
            scaled = scheduler.scale_model_input(x, t)
            ts = t.float().expand(len(x))
            eps_uncond, eps = (model.apply_model(scaled, ts, c) for c in (uncond, cond))
            x = scheduler.step(eps_uncond + 3.0 * (eps - eps_uncond), t, x).prev_sample
    ours = sample(model, "lms", 10, SHAPE, cond, uncond, 3.0, x_T)
    assert (ours - x).abs().max() < 5e-4 * x.abs().max()
