"""torchvision's networks with the ImageNet weights that the user has; nothing is ever downloaded.

network, identity = load("resnet18")                             # models/torchvision/resnet18-f37072fd.pth
network, identity = load("resnet50", given="weights/r50.pth")
"""

from __future__ import annotations

import os
from pathlib import Path

from erasure.errors import UserError
from erasure.metrics.user_weights import cache_folder, checked_sha256, locate
from erasure.runs import ROOT

FOLDER = "models/torchvision"
FILES = {
    "alexnet": "alexnet-owt-7be5be79.pth",
    "vgg16": "vgg16-397923af.pth",
    "squeezenet1_1": "squeezenet1_1-b8a52dc0.pth",
    "resnet18": "resnet18-f37072fd.pth",
    "resnet50": "resnet50-0676ba61.pth",
    "resnet50_v2": "resnet50-11ad3fa6.pth",
    "vgg19": "vgg19-dcbb9e9d.pth",
}
"""The files torchvision publishes as IMAGENET1K_V1 and, of a name that ends in _v2, as IMAGENET1K_V2; the names of the files
end in the hash's start."""
SOURCE = "https://download.pytorch.org/models"
_SEED = 0  # of random weights


def find_file(name: str, given: str | os.PathLike | None, flag: str) -> Path:
    """The weights of a network: the file given, else FOLDER's, else the one in torchvision's own cache.

    UserError, saying where to get the file and where to put it, where there is none. Imports no torch.
    """
    cached = cache_folder("TORCH_HOME", "torch") / "hub" / "checkpoints" / FILES[name]
    return locate(
        given,
        flag,
        (Path(FOLDER, FILES[name]), cached),
        f"no ImageNet weights of {_network(name)}: get {SOURCE}/{FILES[name]} (torchvision's IMAGENET1K_"
        f"{'V2' if name.endswith('_v2') else 'V1'}, sha256 {Path(FILES[name]).stem[-8:]}...) and put it into {ROOT / FOLDER}",
    )


def _network(name: str) -> str:
    return name.removesuffix("_v2")


def load(name: str, given: str | os.PathLike | None = None, flag: str = "--weights", random: bool = False):
    """(network in evaluation mode, what it is in words and a hash). `random`: of fixed random weights, to try scripts."""
    import torch
    import torchvision

    build = getattr(torchvision.models, _network(name))
    if random:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(_SEED)
            return build(weights=None).eval(), {"network": name, "random_weights": True}
    from erasure.checkpoint_files import read_tensors

    path = find_file(name, given, flag)
    sha256 = checked_sha256(path, FILES.values())
    with torch.device("meta"):
        network = build(weights=None)
    try:
        network.load_state_dict(read_tensors(path), assign=True)
    except RuntimeError as error:
        raise UserError(f"{path}: not the weights of torchvision's {name} ({error})"[:300]) from None
    return network.float().eval(), {"network": name, "weights": path.name, "sha256": sha256}
