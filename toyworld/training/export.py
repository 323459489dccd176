"""Write the finished networks as float16 safetensors under Stable Diffusion's key names."""

from pathlib import Path

import torch

from erasure.runs import save_safetensors

PREFIXES = ("model.diffusion_model.", "first_stage_model.", "cond_stage_model.transformer.")


def export_weights(model, judge, out):
    """``toy-v1.safetensors`` (UNet, autoencoder, text tower) and ``judge.safetensors`` in folder ``out``."""
    weights = {k: v for k, v in model.state_dict().items() if k.startswith(PREFIXES)}
    export(Path(out) / "toy-v1.safetensors", weights)
    export(Path(out) / "judge.safetensors", judge.state_dict())


def export(path, tensors):
    """One file, floating point as float16. FloatingPointError for a value that does not fit."""
    halved = {k: v.half() if v.is_floating_point() else v for k, v in tensors.items()}
    for key, value in halved.items():
        if value.is_floating_point() and not torch.isfinite(value).all():
            raise FloatingPointError(f"{key} does not fit float16")
    save_safetensors(path, halved, {"format": "pt"})
    print(f"wrote {path} ({path.stat().st_size / 1e6:.1f} MB)")
