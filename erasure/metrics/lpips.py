"""LPIPS, the perceptual distance of two pictures (Zhang et al. 2018), by the authors' own package.

    distance = Lpips("alex")                       # ImageNet trunk from a file that the user has, see torchvision_weights
    distance(x0, x1)                               # [B], pictures [B, 3, h, w] in -1 ... 1

The package ships the linear layers and would download the trunk: here it is given one.
"""

from __future__ import annotations

import importlib.metadata
import warnings
from collections.abc import Mapping

import torch
from torch import Tensor

from erasure.errors import UserError
from erasure.metrics import torchvision_weights

TRUNKS = {"alex": "alexnet", "vgg": "vgg16", "squeeze": "squeezenet1_1"}
"""The package's names of networks -> torchvision's."""

_SEED = 0  # of random trunks


class Lpips:
    """Version 0.1 with one of `TRUNKS`.

    trunk_weights: file of the trunk (None: where `torchvision_weights` looks). random: a fixed random trunk, to try
    scripts; `identity` then says so. UserError for a trunk that is not there or not this network's.
    """

    def __init__(self, net: str = "alex", trunk_weights=None, random: bool = False, device="cpu"):
        if net not in TRUNKS:
            raise UserError(f"LPIPS network {net!r} is not one of {', '.join(TRUNKS)}")
        if not random:  # what is missing is said before anything is built
            torchvision_weights.find_file(TRUNKS[net], trunk_weights, "--trunk_weights")
        self.network, facts = _network(net), {"random_weights": True}
        if not random:
            trunk, facts = torchvision_weights.load(TRUNKS[net], trunk_weights, "--trunk_weights")
            _give_trunk(self.network, trunk.features.state_dict())
        self.network.to(device)
        self.device = device
        package = f"lpips {importlib.metadata.version('lpips')}"
        self.identity = {"package": package, "version": "0.1", "net": net, "trunk": facts}

    @torch.no_grad()
    def per_layer(self, x0: Tensor, x1: Tensor) -> Tensor:
        """[B, layers]: what each of the trunk's layers adds."""
        _, layers = self.network(x0.to(self.device), x1.to(self.device), retPerLayer=True)
        return torch.stack([layer.flatten() for layer in layers], dim=1).cpu()

    def __call__(self, x0: Tensor, x1: Tensor) -> Tensor:
        """[B] distances of pictures [B, 3, h, w] in -1 ... 1."""
        return self.per_layer(x0, x1).sum(dim=1)


def _network(net: str):
    """The package's network with its linear layers and a trunk of random weights, the same each time."""
    import lpips

    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(_SEED)
        warnings.simplefilter("ignore")  # the package builds its trunk by arguments that torchvision has renamed
        return lpips.LPIPS(net=net, version="0.1", pnet_rand=True, verbose=False).eval()


def _give_trunk(network: torch.nn.Module, features: Mapping[str, Tensor]) -> None:
    """The package cuts the trunk into slices, whose parts keep their number in torchvision's `features`."""
    network.net.load_state_dict({name: features[name.partition(".")[2]] for name in network.net.state_dict()})
