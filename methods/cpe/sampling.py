"""Anchors of an iteration: mixtures of pairs of protected texts' states, with noise (src/engine/sampling.py).

    a = lambda e_1 + (1 - lambda) e_2,   e_i = states + 0.001 |states| n_i,   lambda uniform in [0, 1]

with n_i standard normal and |states| the norm over all tokens and channels. Published: 0.001 whatever the settings say.
"""

import random

import torch
from torch import Tensor

NOISE_SCALE = 0.001


def anchors_of(states: Tensor, noise: Tensor, mix: Tensor, noise_scale: float = NOISE_SCALE) -> Tensor:
    """[S, T, D] from 2S states and noises [2S, T, D], pairs beside each other, and lambda [S]: as published."""
    sigma = noise_scale * states.flatten(1).norm(dim=1)[:, None, None]
    first, second = (states + sigma * noise).unflatten(0, (-1, 2)).unbind(1)
    mix = mix.to(states.dtype)[:, None, None]
    return mix * first + (1 - mix) * second


def mixed_anchors(states: Tensor, noise: Tensor, mix: Tensor, noise_scale: float = NOISE_SCALE) -> Tensor:
    """The same distribution from half the random numbers, noise [S, T, D]: a weighted sum of two normal ones is one."""
    first, second = states.unflatten(0, (-1, 2)).unbind(1)
    sigma = noise_scale * states.flatten(1).norm(dim=1).unflatten(0, (-1, 2))
    mix = mix.to(states.dtype)
    spread = ((mix * sigma[:, 0]) ** 2 + ((1 - mix) * sigma[:, 1]) ** 2).sqrt()
    return torch.lerp(second, first, mix[:, None, None]).addcmul_(spread[:, None, None], noise)


def draw_anchors(
    cache, count: int, rng: random.Random, generator: torch.Generator, noise_scale: float, mixup: bool = True
) -> Tensor:
    """`count` anchors of a cache of M states (`anchors.StateCache`), drawn with replacement, on the cache's device.

    The noise is drawn where the generator is. Without mixup an anchor is the first of its pair, and the second one is not looked at.
    """
    indices = [rng.randrange(len(cache)) for _ in range(2 * count)]
    mix = [rng.random() for _ in range(count)]
    if not mixup:
        indices, mix = [i for i in indices[::2] for _ in range(2)], [1.0] * count
    states = cache.take(indices)
    noise = torch.randn(count, *states.shape[1:], generator=generator, device=generator.device).to(states.device)
    return mixed_anchors(states, noise, torch.tensor(mix, device=states.device), noise_scale)
