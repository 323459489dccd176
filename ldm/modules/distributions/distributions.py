"""Distributions of the first-stage latents."""

import math

import torch


class AbstractDistribution:
    """Something that can be sampled and has a mode."""

    def sample(self):
        raise NotImplementedError

    def mode(self):
        raise NotImplementedError


class DiracDistribution(AbstractDistribution):
    """All mass on one value."""

    def __init__(self, value):
        self.value = value

    def sample(self):
        return self.value

    def mode(self):
        return self.value


class DiagonalGaussianDistribution:
    """Gaussian with diagonal covariance from ``parameters`` [B, 2C, H, W] = (mean, log variance)."""

    def __init__(self, parameters, deterministic=False):
        self.parameters = parameters
        self.mean, logvar = parameters.chunk(2, dim=1)
        self.logvar = logvar.clamp(-30.0, 20.0)
        self.deterministic = deterministic
        self.std = torch.exp(0.5 * self.logvar)
        self.var = torch.exp(self.logvar)
        if deterministic:
            self.std = self.var = torch.zeros_like(self.mean)

    def sample(self):
        """Mean plus noise drawn from the CPU's default generator (the published seed contract)."""
        return self.mean + self.std * torch.randn(self.mean.shape).to(self.mean)

    def mode(self):
        return self.mean

    def kl(self, other=None):
        """KL divergence to ``other`` (default: standard normal), summed per item: [B]."""
        if self.deterministic:
            return self.mean.new_zeros(1)
        if other is None:
            return 0.5 * (self.mean.square() + self.var - 1.0 - self.logvar).sum(dim=[1, 2, 3])
        ratio = (self.mean - other.mean).square() / other.var + self.var / other.var
        return 0.5 * (ratio - 1.0 - self.logvar + other.logvar).sum(dim=[1, 2, 3])

    def nll(self, sample, dims=(1, 2, 3)):
        """Negative log-likelihood of ``sample``, summed over ``dims``."""
        if self.deterministic:
            return self.mean.new_zeros(1)
        error = (sample - self.mean).square() / self.var
        return 0.5 * (math.log(2.0 * math.pi) + self.logvar + error).sum(dim=list(dims))


def normal_kl(mean1, logvar1, mean2, logvar2):
    """Elementwise KL divergence between two Gaussians; at least one argument is a tensor."""
    tensor = next(t for t in (mean1, logvar1, mean2, logvar2) if torch.is_tensor(t))
    logvar1, logvar2 = (t if torch.is_tensor(t) else torch.tensor(t).to(tensor) for t in (logvar1, logvar2))
    return 0.5 * (-1.0 + logvar2 - logvar1 + (logvar1 - logvar2).exp() + (mean1 - mean2) ** 2 * (-logvar2).exp())
