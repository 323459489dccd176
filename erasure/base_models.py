"""From a name or a path to a model: Stable Diffusion v1 checkpoints, the embedded model, diffusers folders.

Published ``*-full-ema.ckpt`` files hold two sets of UNet weights: the raw ones, under the UNet's own names, and their
moving average (EMA). The scripts of ESD and SepCE start from the raw ones, diffusers' copies of the same model are the
EMA ones; `load` takes either and says which.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from erasure.errors import UserError, about
from erasure.runs import ROOT, find

if TYPE_CHECKING:
    import torch

SD_CKPT = "models/ldm/stable-diffusion-v1/sd-v1-4-full-ema.ckpt"
SD_CONFIG = "configs/stable-diffusion/v1-inference.yaml"
TOY_CKPT = "models/toy/toy-v1.safetensors"
TOY_CONFIG = "configs/toy/v1-inference.yaml"
NAMES = {
    "toy": (TOY_CKPT, TOY_CONFIG),
    "toy-v1": (TOY_CKPT, TOY_CONFIG),
    "sd-v1-4": (SD_CKPT, SD_CONFIG),
    "sd-v1": (SD_CKPT, SD_CONFIG),
}
PUBLISHED_BASES = {"1.4": "sd-v1-4", "1_4": "sd-v1-4", "CompVis/stable-diffusion-v1-4": "sd-v1-4"}  # UCE, RECE; CPE
WEIGHTS = ("auto", "raw", "ema")
SD_CONTEXT_DIM = 768

_UNET = "model.diffusion_model."
_TEXT = "cond_stage_model.transformer."
_HASH_CACHE_FROM = 500_000_000  # bytes; hashing a smaller UNet takes less than half a second


@dataclass(frozen=True)
class BaseIdentity:
    """Which model an edit was made for. `asdict` of it goes into every result."""

    name: str
    path: str
    config_path: str
    weights: str  # raw | ema where the file has both, otherwise only
    sha256: str  # of the UNet's tensors (names, shapes, values as float32), whatever file they came in
    family: str  # toy | sd-v1, by the width of the text context

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def resolve(
    name_or_path: str | os.PathLike | None = None,
    config: str | os.PathLike | None = None,
    unsafe_pickle: bool = False,
):
    """(weights Path, configuration Path) of a model named by the user.

    None means Stable Diffusion where its checkpoint is installed, else the embedded model. Paths are looked up from the
    working directory, then from the repository. Without `config`, a YAML file of the same name beside the weights is
    taken, or the configuration that fits the width of the UNet's text context. UserError if something is missing.
    """
    known = None
    if name_or_path is None:
        known = NAMES["sd-v1-4" if _installed(SD_CKPT).is_file() else "toy"]
    elif isinstance(name_or_path, str):
        known = NAMES.get(name_or_path.lower())
    path = _installed(known[0]) if known else find(name_or_path)
    if not path.exists():
        hint = "put the checkpoint there" if known else f"give a file, a diffusers folder or one of {', '.join(NAMES)}"
        raise UserError(f"no model at {path}: {hint}")
    if config is not None:
        config_path = find(config)
    elif known:
        config_path = find(known[1])
    else:
        config_path = _config_beside(path) or find(_fitting_config(path, unsafe_pickle))
    if not config_path.is_file():
        raise UserError(f"no configuration at {config_path}")
    return path, config_path


def published_base(base: str | None) -> str | None:
    """--base as UCE, RECE and CPE take it, 1.4, 2.1 or a name of the hub, as one that `resolve` knows. UserError for 2.1."""
    if base == "2.1":
        raise UserError("--base 2.1: Stable Diffusion 2 has another architecture, and only v1 can be loaded")
    return PUBLISHED_BASES.get(base, base)


def _installed(checkpoint: str) -> Path:
    """Where a known model's checkpoint is; the same file converted to .safetensors will do."""
    converted = find(Path(checkpoint).with_suffix(".safetensors"))
    return converted if converted.is_file() and not find(checkpoint).is_file() else find(checkpoint)


def read_state_dict(path: str | os.PathLike, unsafe_pickle: bool = False) -> "dict[str, torch.Tensor]":
    """Tensors of a checkpoint or a diffusers folder under CompVis names.

    The text tower is always named ``text_model.*`` and stored position_ids are dropped. A file with only a UNet, in
    either naming, gets the prefix ``model.diffusion_model.``. Everything else keeps its name and dtype.
    """
    from erasure import key_maps
    from erasure.checkpoint_files import read_tensors

    path = find(path)
    if path.is_dir():
        return key_maps.diffusers_to_compvis(_read_folder(path, unsafe_pickle))
    tensors = read_tensors(path, unsafe_pickle)
    if any(key.startswith("down_blocks.") for key in tensors):
        tensors = key_maps.unet_to_compvis(tensors)
    if any(key.startswith("input_blocks.") for key in tensors):
        return {_UNET + key: tensor for key, tensor in tensors.items()}
    text = key_maps.text_tower({k.removeprefix(_TEXT): t for k, t in tensors.items() if k.startswith(_TEXT)})
    rest = {key: tensor for key, tensor in tensors.items() if not key.startswith(_TEXT)}
    return rest | {_TEXT + key: tensor for key, tensor in text.items()}


def choose_weights(state_dict: "Mapping[str, torch.Tensor]", weights: str = "auto"):
    """(state dict without EMA copies, which UNet it holds: 'raw', 'ema' or 'only').

    ``auto`` and ``raw`` keep what is stored under the UNet's own names; ``ema`` puts the moving averages there, as
    ``prefer_ema`` does where the file has any. UserError if they are wanted and not all there.
    """
    if weights == "prefer_ema":
        weights = "ema" if any(key.startswith("model_ema.diffusion_model") for key in state_dict) else "auto"
    if weights not in WEIGHTS:
        raise UserError(f"weights {weights!r} is not one of {', '.join(WEIGHTS)}")
    chosen = {key: tensor for key, tensor in state_dict.items() if not key.startswith("model_ema.")}
    averages = {key: _ema_key(key) for key in chosen if key.startswith(_UNET)}
    stored = [key for key, average in averages.items() if average in state_dict]
    if weights == "ema":
        if not averages or len(stored) < len(averages):
            raise UserError(
                f"the checkpoint holds moving averages of {len(stored)} of {len(averages)} UNet tensors: "
                "load it with the raw weights"
            )
        return chosen | {key: state_dict[average] for key, average in averages.items()}, "ema"
    return chosen, "raw" if stored else "only"


def load(
    name_or_path: str | os.PathLike | None = None,
    config: str | os.PathLike | None = None,
    device="cpu",
    dtype=None,
    weights: str = "auto",
    *,
    unsafe_pickle: bool = False,
):
    """Load a base model: (LatentDiffusion in eval mode on `device`, `BaseIdentity`).

    `dtype` defaults to float32 whatever the file holds. UserError, in one line, for anything wrong with the files:
    missing, damaged, of another model (missing keys, other shapes), or needing pickled code.
    """
    import torch

    from ldm.loading import CheckpointError, load_model_from_config

    state_dict, identity = read(name_or_path, config, weights, unsafe_pickle)
    node, _ = _read_config(Path(identity.config_path))
    try:
        model = load_model_from_config(node, state_dict, device=device, dtype=dtype or torch.float32)
    except CheckpointError as error:
        raise UserError(f"{identity.path} does not fit {identity.config_path}: {error}") from None
    return model, identity


def read(
    name_or_path: str | os.PathLike | None = None,
    config: str | os.PathLike | None = None,
    weights: str = "auto",
    unsafe_pickle: bool = False,
):
    """(state dict under CompVis names, `BaseIdentity`) of a base, which may be a UNet alone; no model is built.

    UserError for files that are missing, damaged, without a UNet, with NaN in it, or needing pickled code.
    """
    path, config_path = resolve(name_or_path, config, unsafe_pickle)
    _, context_dim = _read_config(config_path)
    with about(path):
        state_dict, which = choose_weights(read_state_dict(path, unsafe_pickle), weights)
    if not any(key.startswith(_UNET) for key in state_dict):
        raise UserError(f"{path}: none of its {len(state_dict)} tensors belongs to a UNet, so nothing would be loaded")
    sha256 = _unet_hash(path, which, state_dict)
    return state_dict, BaseIdentity(path.stem, str(path), str(config_path), which, sha256, _family(context_dim))


def family_of(config_path: Path) -> str:
    """The family of a model that is not loaded yet, by its configuration."""
    return _family(_read_config(config_path)[1])


def _family(context_dim: int | None) -> str:
    return "sd-v1" if context_dim == SD_CONTEXT_DIM else "toy"


def _ema_key(key: str) -> str:
    """Where Lightning's EMA keeps the copy: the name from ``diffusion_model`` on, without dots."""
    return "model_ema." + key.removeprefix("model.").replace(".", "")


def _read_config(path: Path):
    """(OmegaConf node, width of the text context)."""
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    try:
        node = OmegaConf.load(path)
        return node, node.model.params.unet_config.params.get("context_dim")
    except (YAMLError, OmegaConfBaseException, AttributeError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())[:120]
        raise UserError(f"{path}: not a model configuration (model.params.unet_config.params): {reason}") from None


def _config_beside(path: Path) -> Path | None:
    names = (path / FOLDER_CONFIG,) if path.is_dir() else (path.with_suffix(".yaml"), path.with_suffix(".yml"))
    return next((name for name in names if name.is_file()), None)


def _fitting_config(path: Path, unsafe_pickle: bool) -> str:
    """The configuration of the model family that the weights belong to, by the width of what attn2.to_k reads."""
    from erasure.checkpoint_files import shapes

    files = _shards(_weights_file(path / "unet", "diffusion_pytorch_model")) if path.is_dir() else [path]
    found = (item for file in files for item in shapes(file, unsafe_pickle).items())
    widths = {shape[1] for key, shape in found if key.endswith("attn2.to_k.weight")}
    if not widths:
        raise UserError(f"{path}: no UNet with text attention in it; if there is one, name its configuration")
    for config in (SD_CONFIG, TOY_CONFIG):
        if widths == {_read_config(find(config))[1]}:
            return config
    raise UserError(f"{path}: no configuration here reads text of width {sorted(widths)}: name the model's own")


# ---- diffusers folders ---------------------------------------------------------------------------------------------

FOLDER_CONFIG = "v1-inference.yaml"  # ours; diffusers does not look at it
FOLDER_FILES = {"unet": "diffusion_pytorch_model", "vae": "diffusion_pytorch_model", "text_encoder": "model"}


def _read_folder(path: Path, unsafe_pickle: bool):
    from erasure.checkpoint_files import read_tensors

    if not (path / "unet").is_dir():
        raise UserError(f"{path}: not a diffusers model, which has folders unet, vae and text_encoder")
    parts = {}
    for part, stem in FOLDER_FILES.items():
        if (path / part).is_dir():
            parts[part] = _read_part(_weights_file(path / part, stem), read_tensors, unsafe_pickle)
    return parts


def _read_part(file: Path, read_tensors, unsafe_pickle: bool):
    return {key: tensor for shard in _shards(file) for key, tensor in read_tensors(shard, unsafe_pickle).items()}


def _shards(file: Path) -> list[Path]:
    """The files that an index of weights names; a file of weights is the only one of its kind."""
    if file.suffix != ".json":
        return [file]
    try:
        return [
            file.parent / n for n in sorted(set(json.loads(file.read_text(encoding="utf-8"))["weight_map"].values()))
        ]
    except (ValueError, KeyError, AttributeError):
        raise UserError(f"{file}: not an index of weights") from None


def _weights_file(folder: Path, stem: str) -> Path:
    """The weights of one part: safetensors before pickles, full precision before variants such as fp16."""
    pickled = "pytorch_model" if stem == "model" else stem
    wanted = (f"{stem}.safetensors", f"{stem}.safetensors.index.json", f"{pickled}.bin", f"{pickled}.bin.index.json")
    variants = (f"{stem}.fp16.safetensors", f"{pickled}.fp16.bin")
    for name in (*wanted, *variants):
        if (folder / name).is_file():
            return folder / name
    raise UserError(f"{folder}: no {stem}.safetensors (or {pickled}.bin) in it")


# ---- identity ------------------------------------------------------------------------------------------------------


def _unet_hash(path: Path, which: str, state_dict: "Mapping[str, torch.Tensor]") -> str:
    """Hash of the UNet; for large ones remembered per file, as long as its size and time stay the same.

    All weights are checked for NaN when the hash is made, so once a file.
    """
    from erasure.runs import read_json, write_json

    unet = {key.removeprefix(_UNET): tensor for key, tensor in state_dict.items() if key.startswith(_UNET)}
    if path.is_dir() or sum(tensor.nbytes for tensor in unet.values()) < _HASH_CACHE_FROM:
        return _checked_hash(path, state_dict, unet)
    stat = path.stat()
    name = json.dumps([str(path.resolve()), stat.st_size, stat.st_mtime_ns, which])
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "concept-erasure"
    file = cache / f"{hashlib.sha256(name.encode()).hexdigest()[:32]}.json"
    try:
        return read_json(file)["unet_sha256"]
    except (OSError, ValueError, KeyError, TypeError):
        sha256 = _checked_hash(path, state_dict, unet)
    try:
        write_json(file, {"file": name, "unet_sha256": sha256})
    except OSError:
        pass  # a read-only home costs time, nothing else
    return sha256


def _checked_hash(path: Path, state_dict, unet) -> str:
    import torch

    from erasure.runs import tensors_sha256

    for key, tensor in state_dict.items():
        if not torch.isfinite(tensor).all():
            raise UserError(f"{path}: holds values that are NaN or infinite ({key})")
    return tensors_sha256(unet)


__all__ = [
    "NAMES",
    "ROOT",
    "SD_CKPT",
    "SD_CONFIG",
    "TOY_CKPT",
    "TOY_CONFIG",
    "WEIGHTS",
    "BaseIdentity",
    "choose_weights",
    "load",
    "read",
    "read_state_dict",
    "resolve",
]
