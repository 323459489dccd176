"""ESD's style and content losses, on VGG-19 with procedural weights."""

import pytest
import torch
from PIL import Image

from erasure.metrics.style_loss import STYLE_WEIGHT, StyleLoss, preprocess
from tests.golden.golden_data import load
from tests.golden.test_lpips import procedural


@pytest.fixture(scope="module")
def loss():
    import torchvision

    features = torchvision.models.vgg19(weights=None).features[:12]
    for k, module in enumerate(one for one in features if isinstance(one, torch.nn.Conv2d)):
        module.weight.data = procedural(module.weight.shape, k)
        module.bias.data = procedural(module.bias.shape, k)
    return StyleLoss(features)


def test_losses(loss):
    meta, tensors = load("eval/styleloss")
    for case in meta["cases"]:
        i = case["i"]
        sides = [
            preprocess(128)(Image.fromarray(tensors[f"{name}_{i}"].numpy()))[None] for name in ("original", "edited")
        ]
        assert list(sides[0].shape) == case["in_size"]
        style, content = loss.terms(*sides)
        torch.testing.assert_close(style[0], tensors[f"style_terms_{i}"], rtol=1e-4, atol=1e-12)
        torch.testing.assert_close(content, tensors[f"content_terms_{i}"], rtol=1e-4, atol=1e-9)
        found = loss(*sides)[0].tolist()
        assert found == pytest.approx([case["style"], case["content"], case["total"]], rel=1e-4, abs=1e-12)
        assert found[2] == pytest.approx(STYLE_WEIGHT * found[0] + found[1])
