"""Write the finished networks as float16 safetensors under Stable Diffusion's key names."""

import os
from pathlib import Path

import torch
from safetensors.torch import save_file

PREFIXES = ("model.diffusion_model.", "first_stage_model.", "cond_stage_model.transformer.")


def export_weights(model, judge, out):
    """``toy-v1.safetensors`` (UNet, autoencoder, text tower) and ``judge.safetensors`` in folder ``out``."""
    out = Path(out)
    weights = {k: v for k, v in model.state_dict().items() if k.startswith(PREFIXES)}
    _save(out / "toy-v1.safetensors", weights)
    _save(out / "judge.safetensors", judge.state_dict())


def _save(path, tensors):
    path.parent.mkdir(parents=True, exist_ok=True)
    halved = {k: (v.half() if v.is_floating_point() else v).detach().contiguous() for k, v in tensors.items()}
    for key, value in halved.items():
        if value.is_floating_point() and not torch.isfinite(value).all():
            raise FloatingPointError(f"{key} does not fit float16")
    temporary = path.with_suffix(".tmp")
    save_file(halved, temporary, metadata={"format": "pt"})
    os.replace(temporary, path)
    print(f"wrote {path} ({path.stat().st_size / 1e6:.1f} MB)")
