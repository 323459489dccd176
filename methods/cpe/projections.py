"""The frozen key and value projections of a UNet, as training sees them: all it needs of the network.

CPE's losses compare what a projection W of layer l yields, ||W y - s c up||^2 with y made of text states and c, up of the
residual (`losses`). So no projection is ever applied: the sum over layers of ||W y||^2 is one quadratic form y K y^T, and of
the mixed term only up W is needed, once per step, for all layers of one width together.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from erasure.edits.residual_gates import layer_names
from erasure.errors import UserError

KINDS = ("to_k", "to_v")


@dataclass
class Projections:
    """L projections in the published order: of every layer to_k, then to_v; the middle block last."""

    names: Sequence[str]  # of the modules: input_blocks.1.1.transformer_blocks.0.attn2.to_k
    layers: Sequence[str]  # of the same in files of gates: lora_unet_down_blocks_0_...
    widths: Sequence[int]  # C
    strength: Tensor  # [L] c of each: how much an error there can change the layer's output ("lipschitz")
    groups: Sequence[tuple[Tensor, Tensor]]  # of one width each: (places [n], weights [n, C, D])
    forms: Tensor  # [2, D, D] of keys and of values: sum of strength / (L C) W^T W

    @cached_property
    def whole_form(self) -> Tensor:
        """[D, D] of keys and values together."""
        return self.forms.sum(dim=0)

    @property
    def dim(self) -> int:
        return self.forms.shape[-1]

    @property
    def device(self) -> torch.device:
        return self.forms.device

    @property
    def weight(self) -> Tensor:
        """[L] strength / (L C): of a projection's squared error, summed over channels, in a loss."""
        return self.strength / torch.tensor(self.widths, device=self.device) / len(self.widths)

    @property
    def of_kind(self) -> Tensor:
        """[2, L] one where a projection is one of keys, of values."""
        rows = [[name.endswith(kind) for name in self.names] for kind in KINDS]
        return torch.tensor(rows, dtype=self.forms.dtype, device=self.device)

    @classmethod
    def of(cls, unet, tokens: int) -> "Projections":
        """tokens: T, of a text's states."""
        weights = unet.state_dict()
        return cls.of_weights(weights, layer_names(weights), tokens)

    @classmethod
    @torch.no_grad()
    def of_weights(cls, weights: Mapping[str, Tensor], names: Mapping[str, str], tokens: int) -> "Projections":
        """weights: of the cross-attentions of a UNet, all four of each, under CompVis names without prefix.

        names: projection -> layer (`layer_names`), in the order wanted. UserError without any.
        """
        if not names:
            raise UserError("the UNet has no cross-attention: it is not conditioned on text")
        matrices = [weights[f"{name}.weight"].float() for name in names]
        strength = torch.tensor([_strength(weights, name, tokens) for name in names], device=matrices[0].device)
        widths = [len(matrix) for matrix in matrices]
        groups = []
        for width in sorted(set(widths)):
            places = [i for i, other in enumerate(widths) if other == width]
            groups.append((torch.tensor(places), torch.stack([matrices[i] for i in places])))
        forms = [_form(matrices, strength, [n.endswith(kind) for n in names]) for kind in KINDS]
        return cls(list(names), list(names.values()), widths, strength, groups, torch.stack(forms))


def _strength(weights: Mapping[str, Tensor], name: str, tokens: int) -> float:
    """c of a projection. Keys: ||W_o W_v|| ||W_q|| / T; values: ||W_o||; spectral norms of the matrices of all heads."""
    layer, _, kind = name.rpartition(".")
    query, value, out = (weights[f"{layer}.{part}.weight"].double() for part in ("to_q", "to_v", "to_out.0"))
    if kind == "to_v":
        return _spectral_norm(out)
    return _spectral_norm(out @ value) * _spectral_norm(query) / tokens


def _spectral_norm(matrix: Tensor) -> float:
    """Largest singular value, from the Gram matrix in float64: half the time of a decomposition in float32, and more exact."""
    gram = matrix @ matrix.T if len(matrix) < matrix.shape[1] else matrix.T @ matrix
    return math.sqrt(max(float(torch.linalg.eigvalsh(gram)[-1]), 0))


def _form(matrices: Sequence[Tensor], strength: Tensor, chosen: Sequence[bool]) -> Tensor:
    """sum of c / (L C) W^T W [D, D] over the chosen projections, in float64 and then float32."""
    total = torch.zeros(matrices[0].shape[1], matrices[0].shape[1], dtype=torch.float64, device=matrices[0].device)
    for matrix, c, counts in zip(matrices, strength, chosen, strict=True):
        if counts:
            total += c / (len(matrices) * len(matrix)) * (matrix.double().T @ matrix.double())
    return total.float()
