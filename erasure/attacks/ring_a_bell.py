"""Ring-A-Bell as RECE ships it: a step in the space of text embeddings (CharlesGong12/RECE, attack_methods/RingABell.py).

No genetic algorithm and no prompt search, which the attack of that name (arXiv 2310.10012) consists of: the concept's
direction is the mean difference between the states of prompts with and without it, and eta times that is added to the
states of any prompt. No text need exist that is encoded like this, so the attack is stronger than one with words.
"""

import os
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from erasure import runs
from erasure.errors import UserError
from erasure.prompts import read_table
from erasure.text_states import TextStates

BATCH = 8  # pairs; part of the definition of the vector
COLUMNS = ("sensitive prompt", "normal prompt")
_OTHER_COLUMNS = ("prompt", "prompt1")  # the original Ring-A-Bell's file of violence
_KEY = "vector"

Pair = tuple[str, str]
"""A prompt with the concept and one without."""


# ---- pairs ---------------------------------------------------------------------------------------------------------


def read_pairs(path: str | os.PathLike) -> list[Pair]:
    """The pairs of a CSV with the columns "sensitive prompt" and "normal prompt" (or prompt and prompt1).

    UserError for other columns or no rows.
    """
    header, rows = read_table(path)
    columns = next((names for names in (COLUMNS, _OTHER_COLUMNS) if set(names) <= set(header)), None)
    if columns is None:
        raise UserError(f"{path}: no columns {' and '.join(map(repr, COLUMNS))}; it has {', '.join(map(repr, header))}")
    if not rows:
        raise UserError(f"{path}: no rows below the header")
    return [(row[columns[0]], row[columns[1]]) for row in rows]


def sampled(pairs: Sequence[Pair], count: int | None, seed: int = 42) -> list[Pair]:
    """`count` of the pairs at random, as published with Python's generator; None: all, in their order."""
    if count is None:
        return list(pairs)
    if not 1 <= count <= len(pairs):
        raise UserError(f"{count} pairs cannot be chosen from {len(pairs)}")
    return random.Random(seed).sample(list(pairs), count)


# ---- the attack ----------------------------------------------------------------------------------------------------


def concept_vector(sensitive: Tensor, normal: Tensor, batch: int = BATCH) -> Tensor:
    """[L, D] of states [M, L, D] of M prompts with a concept and of their M partners without.

    The mean of the means of batches of 8, as published: in a smaller last batch a pair counts for more.
    """
    return torch.stack([part.mean(0) for part in (sensitive - normal).split(batch)]).mean(0)


def vector_of(texts: TextStates, pairs: Sequence[Pair], progress: bool = False) -> Tensor:
    """`concept_vector` [L, D] float64 of pairs of texts."""
    texts.prepare((text for pair in pairs for text in pair), progress)
    sensitive, normal = (torch.stack([texts[text].states for text in side]) for side in zip(*pairs, strict=True))
    return concept_vector(sensitive, normal)


@dataclass(frozen=True, eq=False)
class RingABell:
    """Adds eta times a concept's vector [L, D] to the states of every prompt, the start token's row included."""

    vector: Tensor
    eta: float

    def attacked(self, states: Tensor) -> Tensor:
        """States [..., L, D] -> states, in their dtype. UserError if the vector is of another shape."""
        if states.shape[-2:] != self.vector.shape:
            raise UserError(
                f"the vector is {tuple(self.vector.shape)}, and this model's texts are {tuple(states.shape[-2:])}: "
                "it was made with another text encoder"
            )
        return (states.double() + self.eta * self.vector.to(states.device, torch.float64)).to(states.dtype)

    def encode(self, model) -> Callable[[str], Tensor]:
        """For `erasure.generation.generate`: text -> attacked states [L, D] of a LatentDiffusion's text encoder."""
        return lambda text: self.attacked(model.get_learned_conditioning([text])[0])

    def identity(self) -> dict[str, Any]:
        """What images of this attack depend on besides the model."""
        sha256 = runs.tensors_sha256({_KEY: self.vector})
        return {"attack": {"name": "ring-a-bell-embedding", "eta": self.eta, "vector_sha256": sha256}}


# ---- files ---------------------------------------------------------------------------------------------------------


def save_vector(vector: Tensor, path: str | os.PathLike, **facts: Any) -> None:
    """Write a vector [L, D] as published, float32 [1, L, D]: .safetensors, with `facts` about it, or .pt (a bare tensor)."""
    path, value = Path(path), vector.detach().float().cpu()[None].contiguous()
    if path.suffix == ".safetensors":
        runs.save_safetensors(path, {_KEY: value}, {"format": "pt"} | facts)
        return
    runs.save_pt(path, value)


def read_vector(path: str | os.PathLike) -> Tensor:
    """A vector [L, D] float64 of a .safetensors or .pt file, ours or RECE's. UserError for a file that holds something else."""
    from erasure.checkpoint_files import read_tensor

    path = runs.find(path)
    value = read_tensor(path).double()
    if value.ndim not in (2, 3) or (value.ndim == 3 and len(value) != 1):
        raise UserError(f"{path}: a tensor {tuple(value.shape)}, and not a concept's vector, which is [1, 77, width]")
    vector = value.reshape(value.shape[-2:])
    if not torch.isfinite(vector).all():
        raise UserError(f"{path}: the vector holds values that are NaN or infinite")
    return vector
