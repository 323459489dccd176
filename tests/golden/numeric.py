"""Comparisons with the tolerances that the golden data's README recommends."""

import torch


def assert_close(value, reference, atol=2e-5, what="output"):
    """Maximum absolute difference (blocks, UNet, VAE, text tower: 2e-5 in float32)."""
    assert value.shape == reference.shape, f"{what}: shape {tuple(value.shape)} != {tuple(reference.shape)}"
    difference = (value.detach().double() - reference.double()).abs().max().item() if value.numel() else 0.0
    assert difference <= atol, f"{what}: differs by {difference:.3g} > {atol:.3g}"


def assert_gradient(value, reference, what="gradient", rtol=1e-4):
    """1e-4 of the reference's maximum plus 2e-5: some gradients are zero in theory and rounding noise in practice."""
    value = torch.zeros_like(reference) if value is None else value
    assert_close(value, reference, rtol * reference.abs().max().item() + 2e-5, what)


def assert_relative_to_max(value, reference, rtol=5e-5, what="trajectory"):
    """Difference relative to the reference's maximum (sampler trajectories: 5e-5)."""
    assert_close(value, reference, rtol * max(reference.abs().max().item(), 1e-12), what)


def weights_from_formula(module):
    """Fill a module's parameters with the deterministic formula given in the golden json (no random numbers)."""
    with torch.no_grad():
        for j, (name, p) in enumerate(module.named_parameters()):
            i = torch.arange(p.numel(), dtype=torch.float64)
            v = torch.sin(1.7 * i + 0.9 * j + 0.3 * (i % 7))
            if p.ndim >= 2:
                v = v * (2 / p[0].numel()) ** 0.5
            elif name.endswith("weight"):
                v = 1 + 0.2 * v
            else:
                v = 0.2 * v
            p.copy_(v.reshape(p.shape).float())
