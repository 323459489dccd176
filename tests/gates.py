"""Gates that act at once: random ones for any model, as edits and as files in the published format."""

from pathlib import Path

import torch

from erasure import edits
from erasure.base_models import BaseIdentity
from erasure.edits import residual_gates
from erasure.edits.applying import UNET
from erasure.runs import tensors_sha256
from tests.tiny import tiny_config, tiny_model

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


def gate_edit(model, base=None, *concepts: str, seed: int = 0, settings=(), **shape) -> edits.Edit:
    """An edit of several concepts; base: `BaseIdentity`, None for one as published."""
    known = base.to_dict() if base else {}
    found = [
        edits.Edit("cpe", [c], dict(settings), known, gate_tensors(model, seed + n, **shape), residual_gates.KIND)
        for n, c in enumerate(concepts or ("drake",))
    ]
    return edits.compose(found)


def model_of_two_widths(checkpointed: bool = False):
    """`tiny_model`, frozen, with layers of 64 and of 128 channels."""
    config = tiny_config()
    config["model"]["params"]["unet_config"]["params"] |= {"channel_mult": [1, 2], "use_checkpoint": checkpointed}
    return tiny_model(config=config).requires_grad_(False)


def unet_weights(model) -> dict[str, torch.Tensor]:
    """By their names in the UNet."""
    return {name.removeprefix(UNET): w for name, w in model.state_dict().items() if name.startswith(UNET)}


def identity_of(model) -> BaseIdentity:
    return BaseIdentity("tiny", "tiny.safetensors", "tiny.yaml", "only", tensors_sha256(unet_weights(model)), "toy")
