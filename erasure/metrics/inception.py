"""Inception features for FID and KID, from weights that the user has; nothing is ever downloaded.

    network = Inception()                                     # models/inception/pt_inception-2015-12-05-6726825d.pth
    features = features_of("images/esd", network)             # [N, 2048], remembered in the folder

The network is TensorFlow's of 2015, which all FID programs use: assembled here from torch-fidelity's blocks, whose names are
those of the published file of tensors. clean-fid, which CPE's and RECE's scripts called, holds the same weights as a program
(TorchScript); a file of tensors can be read without running anything. Images are resized as clean-fid's mode "clean" does.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import sys
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from tqdm import tqdm

from erasure import runs
from erasure.errors import UserError
from erasure.metrics.image_folders import images_in
from erasure.metrics.inception_weights import FILES, find_file
from erasure.metrics.network_inputs import (
    Preprocess,
    batches,
    full_precision,
    inception_bilinear,
    inception_clean,
    read_image,
)
from erasure.metrics.user_weights import checked_sha256

FEATURES = "inception_features.safetensors"
DIMENSIONS = 2048
PREPROCESS: dict[str, tuple[Preprocess, str]] = {
    "clean": (inception_clean, 'clean-fid "clean": 299 x 299, bicubic with antialiasing'),
    "pytorch-fid": (inception_bilinear, "pytorch-fid: 299 x 299, bilinear without antialiasing"),
}
"""How images are fed -> (function, what it is)."""
_BATCH = 32
_SEED = 0  # of random weights


class Inception:
    """[B, 3, 299, 299] in 0 ... 255 -> [B, 2048], the pooled features in float32.

    weights: file of tensors (None: where `inception_weights` looks). random: fixed random weights, to try scripts.
    preprocess: one of `PREPROCESS`, that `features_of` feeds images by. `identity` says what it is. UserError for weights that
    are not there, damaged or another network's.
    """

    def __init__(
        self,
        weights: str | os.PathLike | None = None,
        random: bool = False,
        device: str = "cpu",
        preprocess: str = "clean",
    ):
        self.device = device
        self.preprocess, how = PREPROCESS[preprocess]
        facts: dict = {"random_weights": True}
        if random:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(_SEED)
                self.network = _visible(_network())
        else:
            path = find_file(weights)
            facts = {"weights": path.name, "sha256": checked_sha256(path, FILES)}
            self.network = _with_weights(path)
        self.network.requires_grad_(False).eval().to(device)
        package = f"torch-fidelity {importlib.metadata.version('torch-fidelity')}"
        self.identity = {"network": "Inception v3 2015-12-05, 2048 pooled features", "package": package, **facts}
        self.identity["preprocess"] = how

    @torch.inference_mode()
    def __call__(self, pixels: Tensor) -> Tensor:
        with full_precision():
            return self.network((pixels.to(self.device) - 128) / 128).cpu()


def _network() -> nn.Sequential:
    from torch_fidelity import feature_extractor_inceptionv3 as blocks

    def conv(channels_in, channels_out, **options):
        return blocks.BasicConv2d(channels_in, channels_out, **options)

    def pool():
        return nn.MaxPool2d(kernel_size=3, stride=2)

    layers = OrderedDict(
        Conv2d_1a_3x3=conv(3, 32, kernel_size=3, stride=2),
        Conv2d_2a_3x3=conv(32, 32, kernel_size=3),
        Conv2d_2b_3x3=conv(32, 64, kernel_size=3, padding=1),
        MaxPool_1=pool(),
        Conv2d_3b_1x1=conv(64, 80, kernel_size=1),
        Conv2d_4a_3x3=conv(80, 192, kernel_size=3),
        MaxPool_2=pool(),
        Mixed_5b=blocks.InceptionA(192, pool_features=32),
        Mixed_5c=blocks.InceptionA(256, pool_features=64),
        Mixed_5d=blocks.InceptionA(288, pool_features=64),
        Mixed_6a=blocks.InceptionB(288),
        Mixed_6b=blocks.InceptionC(768, channels_7x7=128),
        Mixed_6c=blocks.InceptionC(768, channels_7x7=160),
        Mixed_6d=blocks.InceptionC(768, channels_7x7=160),
        Mixed_6e=blocks.InceptionC(768, channels_7x7=192),
        Mixed_7a=blocks.InceptionD(768),
        Mixed_7b=blocks.InceptionE_1(1280),
        Mixed_7c=blocks.InceptionE_2(DIMENSIONS),
        AvgPool=nn.AdaptiveAvgPool2d(1),
        flat=nn.Flatten(),
    )
    return nn.Sequential(layers)


def _visible(network: nn.Sequential) -> nn.Sequential:
    """Random weights whose features do not fade to nothing on the way."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
    return network


def _with_weights(path: Path) -> nn.Sequential:
    from erasure.checkpoint_files import read_tensors

    with torch.device("meta"):
        network = _network()
    tensors = {name: value for name, value in read_tensors(path).items() if not name.startswith("fc.")}
    try:
        network.load_state_dict(tensors, assign=True)
    except RuntimeError as error:
        raise UserError(f"{path}: not the weights of the FID Inception ({error})"[:300]) from None
    return network.float()


# ---- features of a folder ------------------------------------------------------------------------------------------


def features_of(
    folder: str | os.PathLike,
    network: Callable[[Tensor], Tensor],
    progress: bool = True,
    batch_size: int = _BATCH,
    remember: bool = True,
) -> Tensor:
    """[N, 2048] of all images of a folder and its subfolders, in the order of their names.

    They are kept in folder/inception_features.safetensors by the hashes of the images, for the next time. UserError if there
    is no image or one cannot be read.
    """
    folder = Path(folder)
    files = images_in(folder, recursive=True)
    path = folder / FEATURES
    known = _remembered(path, network.identity) if remember else {}
    feed = getattr(network, "preprocess", inception_clean)

    def load(file: Path) -> tuple[str, Tensor | None]:
        data = file.read_bytes()  # hashed and decoded from the same bytes, whoever writes meanwhile
        sha256 = hashlib.sha256(data).hexdigest()
        return sha256, None if sha256 in known else feed(read_image(file, data))

    hashes: list[str] = []
    fresh = 0
    with tqdm(total=len(files), desc=f"Inception {folder.name}", unit=" images", disable=not progress) as bar:
        for batch in batches(files, load, batch_size):
            new = {sha256: pixels for sha256, pixels in batch if pixels is not None}
            if new:
                known |= zip(new, network(torch.stack(list(new.values()))), strict=True)
            hashes += [sha256 for sha256, _ in batch]
            fresh += len(new)
            bar.update(len(batch))
    features = torch.stack([known[sha256] for sha256 in hashes])
    if not features.isfinite().all():
        raise UserError(f"the features of some images of {folder} are not numbers: Inception's weights are damaged")
    if remember and fresh:
        _remember(path, hashes, features, network.identity)
    return features


def _remembered(path: Path, identity: Mapping) -> dict[str, Tensor]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            facts = file.metadata() or {}
            if facts.get("network") == _text(identity):
                return dict(zip(facts["images"].split(), file.get_tensor("features"), strict=True))
    except (OSError, SafetensorError, ValueError, KeyError):
        pass  # whatever is wrong with it: compute them again
    return {}


def _remember(path: Path, hashes: Sequence[str], features: Tensor, identity: Mapping) -> None:
    try:
        runs.save_safetensors(path, {"features": features}, {"network": _text(identity), "images": " ".join(hashes)})
    except OSError as error:  # a reference set may lie where nobody may write
        print(f"note: the features are not kept in {path.parent} ({error.strerror})", file=sys.stderr)


def _text(identity: Mapping) -> str:
    return "; ".join(f"{name} {value}" for name, value in identity.items())
