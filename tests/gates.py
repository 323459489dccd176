"""Files of gates that act at once: random ones for any model, in the published format."""

from pathlib import Path

import torch

from erasure import edits
from erasure.edits import residual_gates
from erasure.edits.applying import UNET

PLACE = "{concept}/singleton_onebyone_person_last.safetensors"


def gate_tensors(model, seed: int = 0, gate_rank: int = 4, rank: int = 1) -> dict[str, torch.Tensor]:
    """The tensors of one concept for a LatentDiffusion."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(shape, generator=generator)

    weights = {name.removeprefix(UNET): weight for name, weight in edits.context_projections(model).items()}
    width = next(iter(weights.values())).shape[1]
    found = {
        residual_gates.QUERY: 0.1 * normal(1, width, gate_rank),
        residual_gates.KEY: 0.1 * normal(1, width, gate_rank),
        residual_gates.SCALER: normal(1, width, 1),
    }
    for projection, layer in residual_gates.layer_names(model.model.diffusion_model.state_dict()).items():
        found[layer + residual_gates.DOWN] = normal(1, width, rank) / width**0.5
        found[layer + residual_gates.UP] = normal(1, rank, len(weights[f"{projection}.weight"]))
        found[layer + residual_gates.ALPHA] = torch.tensor(1.0)
    return found


def save_gates(model, base: dict, folder: Path, *concepts: str, **shape) -> None:
    """One file a concept, in folders as training leaves them; base: `BaseIdentity.to_dict()`, {} for files as published."""
    for seed, concept in enumerate(concepts):
        edit = edits.Edit("cpe", [concept], {}, base, gate_tensors(model, seed, **shape), residual_gates.KIND)
        path = folder / PLACE.format(concept=concept.replace(" ", "_"))
        path.parent.mkdir(parents=True, exist_ok=True)
        residual_gates.save_gates(edit, path)
