"""Small helpers used by configurations and scripts of latent diffusion models."""

import importlib
from collections.abc import Mapping
from inspect import isfunction

import torch

_NO_STAGE = ("__is_first_stage__", "__is_unconditional__")


def exists(x) -> bool:
    """True unless x is None."""
    return x is not None


def default(val, d):
    """val, or d where val is None; a plain function d is called for the value."""
    if val is not None:
        return val
    return d() if isfunction(d) else d


def ismap(x) -> bool:
    """True for a feature map: a tensor [B, C, H, W] with C > 3."""
    return isinstance(x, torch.Tensor) and x.ndim == 4 and x.shape[1] > 3


def isimage(x) -> bool:
    """True for a batch of grey or colour images: a tensor [B, 1 or 3, H, W]."""
    return isinstance(x, torch.Tensor) and x.ndim == 4 and x.shape[1] in (1, 3)


def mean_flat(tensor):
    """Mean over all dimensions but the first: [B, ...] -> [B]."""
    return tensor.mean(dim=list(range(1, tensor.ndim)))


def count_params(model, verbose: bool = False) -> int:
    """Number of parameters; ``verbose`` prints it in millions."""
    total = sum(p.numel() for p in model.parameters())
    if verbose:
        print(f"{type(model).__name__} has {total * 1e-6:.2f} M params.")
    return total


def get_obj_from_str(string: str, reload: bool = False):
    """The object a dotted path names, e.g. ``torch.nn.Identity``; ``reload`` runs its module again first."""
    module_name, _, name = string.rpartition(".")
    if not module_name:
        raise ImportError(f"{string!r} is not a dotted path of a module and a name in it")
    module = importlib.import_module(module_name)
    if reload:
        module = importlib.reload(module)
    return getattr(module, name)


def instantiate_from_config(config):
    """Build what a configuration node (dict or OmegaConf) with ``target`` and optional ``params`` describes.

    The markers ``__is_first_stage__`` and ``__is_unconditional__`` give None; anything else without a target raises
    KeyError.
    """
    if isinstance(config, str) and config in _NO_STAGE:
        return None
    if not _is_mapping(config) or "target" not in config:
        raise KeyError("Expected key `target` to instantiate.")
    params = config.get("params")
    return get_obj_from_str(config["target"])(**(params if params is not None else {}))


def load_model_from_config(config, ckpt, device="cpu", verbose=False, **options):
    """The model a configuration describes with a checkpoint's weights; see ``ldm.loading``."""
    from ldm import loading  # which needs this module

    return loading.load_model_from_config(config, ckpt, device, verbose, **options)


def _is_mapping(config) -> bool:
    # an OmegaConf DictConfig is not registered as a Mapping, and omegaconf need not be imported to recognise one
    return isinstance(config, Mapping) or type(config).__name__ == "DictConfig"


def log_txt_as_img(wh, xc, size: int = 10):
    """Captions drawn in black on white: (width, height), n texts -> float tensor [n, 3, height, width] in [-1, 1].

    Lines are broken after int(40 * width / 256) characters.
    """
    import numpy as np
    from PIL import Image, ImageDraw, ImageFont

    width, height = wh
    per_line = max(1, int(40 * width / 256))
    font = ImageFont.load_default(size=size)
    images = []
    for caption in xc:
        image = Image.new("RGB", (width, height), "white")
        lines = [caption[start : start + per_line] for start in range(0, len(caption), per_line)]
        ImageDraw.Draw(image).multiline_text((0, 0), "\n".join(lines), fill="black", font=font)
        images.append(torch.from_numpy(np.array(image)).permute(2, 0, 1) / 127.5 - 1.0)
    return torch.stack(images) if images else torch.empty(0, 3, height, width)
