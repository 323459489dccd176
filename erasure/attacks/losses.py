"""The losses of white-box attacks (OPTML-Group/Diffusion-MU-Attack, 5a3e5d3)."""

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor

from erasure.errors import UserError

CRITERIA: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"l1": F.l1_loss, "l2": F.mse_loss}
Network = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(x_t [B, C, H, W], t [B], states [B, L, D]) -> predicted noise."""


def criterion(name: str) -> Callable[[Tensor, Tensor], Tensor]:
    if name not in CRITERIA:
        raise UserError(f"criterion {name!r} is not one of {', '.join(CRITERIA)}")
    return CRITERIA[name]


def noised(x0: Tensor, noise: Tensor, alpha_bar: Tensor | float) -> Tensor:
    """x_t of x_0."""
    return alpha_bar**0.5 * x0 + (1 - alpha_bar) ** 0.5 * noise


def sampled_timesteps(count: int = 50, total: int = 1000) -> list[int]:
    """`count` times evenly over the process, each in the middle of its part: 10, 30, ..., 990."""
    step = total // count
    return list(range(step // 2, total, step))[:count]
