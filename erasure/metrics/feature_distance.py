"""A distance of two pictures in the features of any network: LPIPS's formula without its learned weights, so not LPIPS.

The embedded model's judge is such a network; LPIPS needs ImageNet weights, and its numbers do not compare with these.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

Features = Callable[[Tensor], Sequence[Tensor]]
"""Pictures [B, 3, h, w] -> activations [B, c, h', w'] of some layers."""


def unit(features: Tensor, eps: float = 1e-10) -> Tensor:
    """Divided by the length over channels, to which eps is added, as LPIPS does."""
    return features / (features.square().sum(dim=1, keepdim=True).sqrt() + eps)


class FeatureDistance:
    """Sum over layers of the squared difference of unit-normalised features, summed over channels, mean over places."""

    def __init__(self, features: Features):
        self.features = features

    @torch.inference_mode()
    def __call__(self, x0: Tensor, x1: Tensor) -> Tensor:
        """[B] distances of pictures [B, 3, h, w]."""
        layers = zip(self.features(x0), self.features(x1), strict=True)
        return sum((unit(a) - unit(b)).square().sum(dim=1).mean(dim=(1, 2)) for a, b in layers).cpu()
