"""Style and content loss of two pictures at VGG-19's first five convolutions (Gatys et al. 2016), as ESD's styleloss.py computes them.

losses = StyleLoss(vgg19.features)(original, edited)         # [B, 3]: style, content, total of pictures [B, 3, h, w] in 0 ... 1
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from erasure.metrics.network_inputs import IMAGENET_MEAN, IMAGENET_STD, Preprocess, resized, to_tensor

STYLE_WEIGHT = 1e6
CONVOLUTIONS = 5
_CONTENT = 3  # the fourth convolution
COLUMNS = ("style_loss", "content_loss", "total_loss")


def preprocess(size: int) -> Preprocess:
    """Shorter side to `size`, values 0 ... 1."""
    resize = resized(size)
    return lambda image: to_tensor(resize(image))


def gram(features: Tensor) -> Tensor:
    """[B, C, C] of features [B, C, h, w]: F F^T / (C h w)."""
    b, c, h, w = features.shape
    flat = features.reshape(b, c, h * w)
    return flat @ flat.transpose(1, 2) / (c * h * w)


class StyleLoss:
    """features: torchvision's `vgg19().features`, or any Sequential of convolutions, ReLUs and poolings."""

    def __init__(self, features: nn.Sequential, device: str = "cpu"):
        self.layers, self.device = [], device
        for layer in features:
            if isinstance(layer, nn.ReLU):
                layer = nn.ReLU(inplace=False)  # the losses are taken in front of it
            self.layers.append(layer.to(device).eval())
            if sum(isinstance(one, nn.Conv2d) for one in self.layers) == CONVOLUTIONS:
                break
        self.mean, self.std = (torch.tensor(v, device=device).view(1, 3, 1, 1) for v in (IMAGENET_MEAN, IMAGENET_STD))

    def _outputs(self, images: Tensor) -> list[Tensor]:
        """What the convolutions make of pictures, before their ReLUs."""
        x, found = (images.to(self.device) - self.mean) / self.std, []
        for layer in self.layers:
            x = layer(x)
            if isinstance(layer, nn.Conv2d):
                found.append(x)
        return found

    @torch.inference_mode()
    def terms(self, original: Tensor, edited: Tensor) -> tuple[Tensor, Tensor]:
        """([B, 5] style terms, [B] content)."""
        a, b = self._outputs(original), self._outputs(edited)
        style = [F.mse_loss(gram(y), gram(x), reduction="none").mean(dim=(1, 2)) for x, y in zip(a, b, strict=True)]
        content = F.mse_loss(b[_CONTENT], a[_CONTENT], reduction="none").mean(dim=(1, 2, 3))
        return torch.stack(style, dim=1).cpu(), content.cpu()

    def __call__(self, original: Tensor, edited: Tensor) -> Tensor:
        """[B, 3] in the order of COLUMNS."""
        style, content = self.terms(original, edited)
        summed = style.double().sum(dim=1)
        return torch.stack([summed, content.double(), STYLE_WEIGHT * summed + content.double()], dim=1)
