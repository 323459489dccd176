"""Noise schedules, DDIM tables and the small layers shared by the UNet and the samplers.

Numbers follow the published code exactly (golden data: ``schedules``); see each docstring for the source.
"""

import math

import numpy as np
import torch
import torch.nn.functional as F
import torch.utils.checkpoint
from torch import nn

SiLU = nn.SiLU


# --- schedules -----------------------------------------------------------------------------------------------------


def make_beta_schedule(schedule, n_timestep, linear_start=1e-4, linear_end=2e-2, cosine_s=8e-3):
    """Forward-process variances beta_t as a float64 array of shape [n_timestep].

    ``linear`` is linear in sqrt(beta), what diffusers calls "scaled_linear" (Stable Diffusion's choice).
    Raises ValueError for an unknown schedule name.
    """
    if schedule == "linear":
        return np.linspace(linear_start**0.5, linear_end**0.5, n_timestep, dtype=np.float64) ** 2
    if schedule == "cosine":
        angles = (np.arange(n_timestep + 1, dtype=np.float64) / n_timestep + cosine_s) / (1 + cosine_s) * np.pi / 2
        alpha_bar = np.cos(angles) ** 2
        alpha_bar = alpha_bar / alpha_bar[0]
        return np.clip(1 - alpha_bar[1:] / alpha_bar[:-1], 0, 0.999)
    if schedule == "sqrt_linear":
        return np.linspace(linear_start, linear_end, n_timestep, dtype=np.float64)
    if schedule == "sqrt":
        return np.linspace(linear_start, linear_end, n_timestep, dtype=np.float64) ** 0.5
    raise ValueError(f"schedule '{schedule}' unknown.")


def betas_for_alpha_bar(num_diffusion_timesteps, alpha_bar, max_beta=0.999):
    """Betas that discretise a continuous cumulative product ``alpha_bar(t)``, t in [0, 1]; float64 [n]."""
    n = num_diffusion_timesteps
    return np.array([min(1 - alpha_bar((i + 1) / n) / alpha_bar(i / n), max_beta) for i in range(n)])


def make_ddim_timesteps(ddim_discr_method, num_ddim_timesteps, num_ddpm_timesteps, verbose=False):
    """DDIM's subset of the training timesteps, ascending int64 array.

    ``uniform`` steps by c = T // S starting at 1: the table has S entries only where S divides T (S=30 gives 31).
    Where it would run past the schedule (S=3, 9, 27, 36, 37, 101..111, ...) the published code crashed later with an
    IndexError; this raises ValueError at once.
    """
    if num_ddim_timesteps < 1:
        raise ValueError(f"the number of DDIM steps must be at least 1, not {num_ddim_timesteps}")
    if ddim_discr_method == "uniform":
        stride = num_ddpm_timesteps // num_ddim_timesteps
        if stride == 0:
            raise ValueError(f"{num_ddim_timesteps} DDIM steps are more than the {num_ddpm_timesteps} training steps")
        steps = np.arange(0, num_ddpm_timesteps, stride) + 1
    elif ddim_discr_method == "quad":
        steps = (np.linspace(0, np.sqrt(num_ddpm_timesteps * 0.8), num_ddim_timesteps) ** 2).astype(int) + 1
    else:
        raise NotImplementedError(f'There is no ddim discretization method called "{ddim_discr_method}"')
    if steps[-1] >= num_ddpm_timesteps:
        raise ValueError(
            f"{num_ddim_timesteps} DDIM steps do not fit a schedule of {num_ddpm_timesteps} "
            f"(the table would end at {steps[-1]}); choose a divisor of {num_ddpm_timesteps} such as 20, 25 or 50"
        )
    if verbose:
        print(f"Selected timesteps for ddim sampler: {steps}")
    return steps


def make_ddim_sampling_parameters(alphacums, ddim_timesteps, eta, verbose=False):
    """(sigmas, alphas, alphas_prev) of DDIM (arXiv 2010.02502, eq. 16) for the chosen timesteps.

    The last step lands on alphas_cumprod[0], not on 1, as published.
    """
    alphacums = alphacums.cpu() if torch.is_tensor(alphacums) else alphacums
    alphas = alphacums[ddim_timesteps]
    alphas_prev = np.asarray([float(alphacums[0])] + [float(a) for a in alphacums[ddim_timesteps[:-1]]])
    a = np.asarray(alphas)
    # 1 / (1 - a) is rounded to the type of the table (float32), the rest is float64: to the last bit as published
    sigmas = eta * np.sqrt((1 - alphas_prev) * np.reciprocal(1 - a) * (1 - a / alphas_prev))
    if verbose:
        print(f"Selected alphas for ddim sampler: a_t: {alphas}; a_(t-1): {alphas_prev}; eta {eta}: sigmas {sigmas}")
    return sigmas, alphas, alphas_prev


def extract_into_tensor(a, t, x_shape):
    """Values a[t] (t int64 [B]) reshaped to [B, 1, 1, ...] so that they broadcast over ``x_shape``."""
    return a.gather(-1, t).reshape(t.shape[0], *((1,) * (len(x_shape) - 1)))


def noise_like(shape, device, repeat=False):
    """Standard normal noise from the device's default generator; ``repeat`` shares one draw over the batch."""
    if repeat:
        return torch.randn((1, *shape[1:]), device=device).repeat(shape[0], *((1,) * (len(shape) - 1)))
    return torch.randn(shape, device=device)


def timestep_embedding(timesteps, dim, max_period=10000, repeat_only=False):
    """Sinusoidal embedding [B, dim] of (possibly fractional) timesteps [B]: cosines first, then sines; float32."""
    if repeat_only:
        return timesteps[:, None].repeat(1, dim)
    half = dim // 2
    # scaled before the division, as published: near t = 1000 another order changes the angle's last bit by 6e-5
    exponents = -math.log(max_period) * torch.arange(half, dtype=torch.float32, device=timesteps.device) / half
    angles = timesteps[:, None].float() * torch.exp(exponents)[None]
    embedding = torch.cat([angles.cos(), angles.sin()], dim=-1)
    return F.pad(embedding, (0, 1)) if dim % 2 else embedding


# --- layers --------------------------------------------------------------------------------------------------------


def checkpoint(func, inputs, params, flag):
    """Call ``func(*inputs)``, recomputing its activations in the backward pass when ``flag`` is set.

    ``params`` is accepted for compatibility and unused: unlike the published autograd Function this one allows any
    parameter to be frozen, and is skipped when no gradient is being recorded.
    """
    if flag and torch.is_grad_enabled():
        return torch.utils.checkpoint.checkpoint(func, *inputs, use_reentrant=False)
    return func(*inputs)


class GroupNorm32(nn.GroupNorm):
    """GroupNorm whose statistics are computed in float32 whatever the dtype of the activations (eps 1e-5)."""

    def forward(self, x):
        if x.dtype == self.weight.dtype and x.device.type in ("cpu", "cuda"):
            return super().forward(x)  # these kernels accumulate half precision in float32 themselves, without copies
        weight, bias = self.weight.float(), self.bias.float()
        return F.group_norm(x.float(), self.num_groups, weight, bias, self.eps).to(x.dtype)


def normalization(channels):
    """The UNet's normalisation: GroupNorm32 with 32 groups and eps 1e-5 (attention layers use 1e-6)."""
    return GroupNorm32(32, channels)


def zero_module(module):
    """Set all parameters of a module to zero and return it."""
    for parameter in module.parameters():
        parameter.detach().zero_()
    return module


def scale_module(module, scale):
    """Multiply all parameters of a module by ``scale`` and return it."""
    for parameter in module.parameters():
        parameter.detach().mul_(scale)
    return module


def mean_flat(tensor):
    """Mean over all dimensions but the first."""
    return tensor.mean(dim=list(range(1, tensor.ndim)))


def _by_dims(dims, *classes):
    if dims not in (1, 2, 3):
        raise ValueError(f"unsupported dimensions: {dims}")
    return classes[dims - 1]


def conv_nd(dims, *args, **kwargs):
    """1-, 2- or 3-dimensional convolution."""
    return _by_dims(dims, nn.Conv1d, nn.Conv2d, nn.Conv3d)(*args, **kwargs)


def avg_pool_nd(dims, *args, **kwargs):
    """1-, 2- or 3-dimensional average pooling."""
    return _by_dims(dims, nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d)(*args, **kwargs)


def linear(*args, **kwargs):
    """A linear layer (the published name)."""
    return nn.Linear(*args, **kwargs)
