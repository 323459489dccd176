"""The gate and residuals of one concept in training: all layers side by side, and as the tensors of a published file."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from erasure.edits.residual_gates import ALPHA, DOWN, KEY, QUERY, SCALER, UP
from ldm.modules.residual_gate import attention
from methods.cpe.projections import Projections


@dataclass
class Residuals:
    """Trained tensors of one concept. Adam works element by element, so that stacking changes nothing."""

    query: Tensor  # w_q [D, r]
    key: Tensor  # w_k [D, r]; trained only if separate_key
    scaler: Tensor  # v [D, 1]
    down: Tensor  # [D, L, rho]
    ups: list[Tensor]  # by width, as Projections.groups: [n, rho, C]
    alpha: float = 1.0
    separate_key: bool = False

    @property
    def scale(self) -> float:
        """s = alpha / rho."""
        return self.alpha / self.down.shape[2]

    def trained(self) -> dict[str, Tensor]:
        """Name -> tensor of all that a gradient reaches."""
        ups = {f"up{i}": up for i, up in enumerate(self.ups)}
        key = {"key": self.key} if self.separate_key else {}
        return {"query": self.query, **key, "scaler": self.scaler, "down": self.down, **ups}

    def coefficients(self, x: Tensor) -> Tensor:
        """c [B, T, L, rho] for text states x [B, T, D]: c_l(x_t) = g(x)_t (A x)_t down_l. The residual is s c up.

        x down comes before A: L rho columns in place of D.
        """
        columns = x @ torch.cat([self.scaler, self.down.flatten(1)], dim=1)
        query = self.query.unsqueeze(0)
        weights = attention(x, query, self.key.unsqueeze(0) if self.separate_key else query).squeeze(1)
        mixed = weights @ columns
        return (torch.sigmoid(mixed[..., :1]) * mixed[..., 1:]).unflatten(-1, self.down.shape[1:])

    # ---- beginning and files --------------------------------------------------------------------------------------

    @classmethod
    def fresh(
        cls, projections: Projections, gate_rank: int, rank: int, alpha: float, separate_key: bool, generator
    ) -> "Residuals":
        """At the beginning: every gate is 0.5 and every residual 0. Bounds of the uniform draws as published."""
        dim, count, device = projections.dim, len(projections.names), projections.device

        def uniform(shape: tuple[int, ...], bound: float) -> Tensor:
            return ((2 * torch.rand(shape, generator=generator) - 1) * bound).to(device)

        gate_bound = 1 / math.sqrt(dim * gate_rank) / dim**2
        return cls(
            uniform((dim, gate_rank), gate_bound),
            uniform((dim, gate_rank), gate_bound),
            torch.zeros(dim, 1, device=device),
            uniform((dim, count, rank), 1 / math.sqrt(dim * rank)),
            [torch.zeros(len(places), rank, w.shape[1], device=device) for places, w in projections.groups],
            alpha,
            separate_key,
        )

    def tensors(self, projections: Projections) -> dict[str, Tensor]:
        """As a file of gates has them, with the leading axis of one concept."""
        named = {QUERY: self.query, KEY: self.key, SCALER: self.scaler}
        places = torch.cat([places for places, _ in projections.groups]).tolist()
        ups = dict(zip(places, (up for own in self.ups for up in own), strict=True))
        for i, layer in enumerate(projections.layers):
            named |= {layer + DOWN: self.down[:, i], layer + UP: ups[i]}
        tensors = {name: tensor.detach().clone().unsqueeze(0) for name, tensor in named.items()}
        return tensors | {layer + ALPHA: torch.tensor(float(self.alpha)) for layer in projections.layers}

    @classmethod
    def of_tensors(
        cls, tensors: Mapping[str, Tensor], projections: Projections, separate_key: bool = False
    ) -> "Residuals":
        """Of a file with one concept."""
        first = {name: t.squeeze(0).to(projections.device) for name, t in tensors.items() if t.ndim}
        return cls(
            first[QUERY].clone(),
            first[KEY].clone(),
            first[SCALER].clone(),
            torch.stack([first[layer + DOWN] for layer in projections.layers], dim=1),
            [torch.stack([first[projections.layers[i] + UP] for i in places]) for places, _ in projections.groups],
            float(tensors[projections.layers[0] + ALPHA]),
            separate_key,
        )
