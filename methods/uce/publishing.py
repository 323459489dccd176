"""UCE's published files: the whole UNet (2023) or only the edited projections (2025), under diffusers' names."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from pathlib import Path

from torch import Tensor

from erasure import edits, key_maps
from erasure.edits import Edit, context_projections
from erasure.edits.applying import UNET


def publish(model, identity, edit: Edit | None, path: Path, variant: str, layers: Iterable[str] | None = None) -> None:
    """Write the file of a LatentDiffusion with an edit (None: as it is). layers: as `diffusers_projections`."""
    with edits.apply(model, edit, identity) if edit else contextlib.nullcontext():
        if variant == "2023":
            edits.export_diffusers(model, path)
        else:
            edits.write_weights(path, diffusers_projections(model, layers))


def diffusers_projections(model, layers: Iterable[str] | None = None) -> dict[str, Tensor]:
    """Projections [O, D] as they are in the model, under diffusers' names.

    layers: which of them and in which order, by CompVis names without ``model.diffusion_model.``; None: all.
    """
    weights = {name.removeprefix(UNET): p.detach() for name, p in context_projections(model).items()}
    names = key_maps.unet_keys_map(key.removeprefix(UNET) for key in model.state_dict() if key.startswith(UNET))
    return {names[name]: weights[name] for name in (weights if layers is None else layers)}
