"""Random choices of an iteration: from the seed and its number alone, so that a resumed run draws the same."""

import hashlib
import random

import torch

NUM_TIMESTEPS = 1000  # of the diffusion process; t_range() is defined on it


def t_range(t_enc: int, ddim_steps: int) -> tuple[int, int]:
    """Half-open range of DDPM times that belongs to DDIM step ``t_enc`` (Python's round, half to even, as published)."""
    return round(t_enc / ddim_steps * NUM_TIMESTEPS), round((t_enc + 1) / ddim_steps * NUM_TIMESTEPS)


def draw_timestep(ddim_steps: int, generator: torch.Generator | None = None) -> tuple[int, int]:
    """Draw ``(t_enc, t_ddpm)``: where sampling stops (0 ... ddim_steps-1) and the time the networks are asked about."""
    t_enc = int(torch.randint(0, ddim_steps, (1,), generator=generator))
    low, high = t_range(t_enc, ddim_steps)
    return t_enc, int(torch.randint(low, max(high, low + 1), (1,), generator=generator))


def iteration_generators(name: str, seed: int, iteration: int) -> tuple[random.Random, torch.Generator]:
    """Random streams of one iteration of a method, both on the CPU; those of other methods are unrelated."""
    digest = hashlib.sha256(f"{name}:{seed}:{iteration}".encode()).digest()
    number = int.from_bytes(digest[:8], "big") >> 1
    return random.Random(number), torch.Generator().manual_seed(number)
