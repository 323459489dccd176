"""From a configuration and weights to a model, strictly: nothing stays random and nothing is skipped without a word."""

import itertools
import logging
from collections.abc import Mapping
from os import PathLike

import torch
from torch.overrides import TorchFunctionMode

from ldm.checkpoint_files import CheckpointError, read_tensors
from ldm.util import instantiate_from_config

logger = logging.getLogger(__name__)

# What checkpoints hold besides the weights. The schedule is computed from the configuration, EMA copies are chosen
# before loading, position_ids are arange(77), and a first stage's training loss is not part of the model.
_EMA = "model_ema."
_IGNORED_PREFIXES = (_EMA, "first_stage_model.loss.")
_IGNORED_NAMES = ("lvlb_weights", "logvar", "scale_factor")


def load_model_from_config(config, ckpt, device="cpu", verbose=False, *, dtype=torch.float32):
    """The model that `config` describes with the weights `ckpt`, in evaluation mode on `device`.

    config: a YAML file, or its content (with or without the ``model`` level). ckpt: a state dict under CompVis names,
    whose tensors the model takes over, or a file (.safetensors, or a checkpoint whose pickled code is never run).
    Weights are cast to `dtype`, the schedule stays float32. The model is built on the meta device, so memory holds the
    weights once. `verbose` reports what was ignored. Raises CheckpointError for missing, unknown or misshapen weights.
    """
    state_dict = read_tensors(ckpt) if isinstance(ckpt, (str, PathLike)) else ckpt
    with torch.device("meta"), _NoRandomWeights():
        model = instantiate_from_config(_model_node(config))
    state_dict, ignored = _split(model, state_dict)
    if verbose and ignored:
        print(f"ignored {len(ignored)} entries of the checkpoint: {_few(ignored)}")
    if not state_dict:
        raise CheckpointError("it changes nothing: none of its tensors is a weight of the model")
    weights = {key: _cast(key, value, dtype) for key, value in state_dict.items()}
    try:
        result = model.load_state_dict(weights, strict=False, assign=True)
    except RuntimeError as error:  # torch lists all of them, one line each
        raise CheckpointError(_first_mismatch(str(error))) from None
    _complete(model, result)
    return model.to(device).eval()


def init_from_ckpt(module, path, ignore_keys=()):
    """Load what a file holds of a module's weights, except keys with an ignored prefix: (missing, unexpected) keys.

    Differences are logged, as published; CheckpointError if a shape differs or nothing fits at all.
    """
    state_dict = {key: value for key, value in read_tensors(path).items() if not key.startswith(tuple(ignore_keys))}
    try:
        result = module.load_state_dict(state_dict, strict=False)
    except RuntimeError as error:
        raise CheckpointError(f"{path}: {_first_mismatch(str(error))}") from None
    if len(result.unexpected_keys) == len(state_dict):
        raise CheckpointError(f"{path}: it changes nothing: none of its tensors is a weight of the model")
    for kind, keys in (("missing", result.missing_keys), ("unexpected", result.unexpected_keys)):
        if keys:
            logger.warning("%s: %s keys: %s", path, kind, _few(keys))
    return result.missing_keys, result.unexpected_keys


class _NoRandomWeights(TorchFunctionMode):
    """Skips filling new weights. On the meta device that fills nothing, but takes a second and imports torch._dynamo."""

    SKIPPED = frozenset(
        [getattr(torch.nn.init, name) for name in ("uniform_", "normal_", "kaiming_uniform_", "xavier_uniform_")]
        + [torch.Tensor.uniform_, torch.Tensor.normal_]
    )

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func in self.SKIPPED:
            return args[0] if args else kwargs["tensor"]
        return func(*args, **kwargs)


def _model_node(config):
    if isinstance(config, (str, PathLike)):
        from omegaconf import OmegaConf

        config = OmegaConf.load(config)
    return config.get("model", config)


def _cast(key: str, value: torch.Tensor, dtype) -> torch.Tensor:
    if not value.is_floating_point():
        return value
    return value.to(torch.float32 if key.startswith(_EMA) else dtype)  # an average moves by less than a half's step


# ---- what is loaded and what is not --------------------------------------------------------------------------------


def _split(model, state_dict: Mapping[str, torch.Tensor]):
    """(what is to be loaded, names of what is not). Warns where a stored schedule is not the configuration's."""
    computed = _computed_buffers(model)
    own_keys = set(model.state_dict())
    loaded, ignored = {}, []
    for key, value in state_dict.items():
        if key in computed or _is_ignored(model, own_keys, key):
            ignored.append(key)
        else:
            loaded[key] = value
    differing = [key for key in ignored if key in computed and not _agree(computed[key], state_dict[key])]
    if differing:
        logger.warning(
            "the checkpoint's noise schedule differs from the configuration's, which is used: %s", _few(differing)
        )
    return loaded, ignored


def _computed_buffers(model) -> dict[str, torch.Tensor]:
    """The schedule: buffers that have values although the model was built on the meta device."""
    return {key: value for key, value in model.named_buffers(recurse=False) if not value.is_meta}


def _agree(own: torch.Tensor, stored: torch.Tensor) -> bool:
    if own.shape != stored.shape or stored.is_meta:
        return own.shape == stored.shape
    steps = 2 * torch.finfo(stored.dtype).eps if stored.is_floating_point() else 0
    return torch.allclose(own, stored.to(own), rtol=max(1e-4, steps), atol=1e-6)


def _is_ignored(model, own_keys, key: str) -> bool:
    if key.startswith(_EMA) and model.use_ema:
        return False
    named = key in _IGNORED_NAMES and key not in own_keys
    return named or key.endswith("position_ids") or key.startswith(_IGNORED_PREFIXES)


def _first_mismatch(message: str) -> str:
    lines = [line.strip() for line in message.splitlines() if "size mismatch" in line]
    more = f" (and {len(lines) - 1} more)" if len(lines) > 1 else ""
    return (lines[0].rstrip(".") if lines else " ".join(message.split())) + more


def _complete(model, result) -> None:
    """Check what was loaded and make what the file need not hold."""
    if result.unexpected_keys:
        raise CheckpointError(f"unexpected keys: {_few(result.unexpected_keys)}")
    computed = _computed_buffers(model)
    missing = [key for key in result.missing_keys if key not in computed]
    averages = [key for key in missing if key.startswith(_EMA)]
    if weights := [key for key in missing if not key.startswith(_EMA)]:
        raise CheckpointError(f"missing keys: {_few(weights)}")
    if averages:
        _start_ema(model, averages)
    _check_nothing_is_on_meta(model)


def _start_ema(model, missing: list[str]) -> None:
    """Averages that start from the weights, for a file without any (``sd-v1-4.ckpt`` has only their two counters)."""
    from ldm.modules.ema import LitEma

    old = model.model_ema
    shadows = {_EMA + name for name in old.m_name2s_name.values()}
    if absent := [key for key in missing if key in shadows]:
        if len(absent) < len(shadows):
            raise CheckpointError(f"missing keys: {_few(absent)}")
        model.model_ema = LitEma(model.model)
    for name, value in (("decay", old.decay), ("num_updates", old.num_updates)):
        if not value.is_meta:
            getattr(model.model_ema, name).copy_(value)


def _check_nothing_is_on_meta(model) -> None:
    tensors = list(itertools.chain(model.named_parameters(), model.named_buffers()))
    weights_on_meta = all(parameter.is_meta for parameter in model.parameters())  # the caller's own are
    if not weights_on_meta and (empty := [key for key, value in tensors if value.is_meta]):
        raise CheckpointError(f"no values for: {_few(empty)}")


def _few(keys) -> str:
    keys = list(keys)
    return ", ".join(keys[:3]) + (f" and {len(keys) - 3} more" if len(keys) > 3 else "")
