"""SepCE: one term w_j (beta S_j) a concept on every key and value projection, trained jointly or one at a time.

The rows of S_j are directions that the protected prompts do not have (`bases`), so that the terms do not meet: a concept's
term is unseen by the prompts of the others, and by the empty one. With one concept this is the later SRS-ME.
"""

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from erasure.edits import Edit, Part, separable
from erasure.errors import UserError
from ldm.modules import kv_shift
from methods.sepce.bases import Bases
from methods.sepce.objectives import Encode, MomentumStop, Objective, Terms, mean_l1

UNSEEN = 1e-5  # of a prompt's states: below this, a basis solved in 24 bits passes too


@dataclass(frozen=True)
class SepceOptions:
    """What the two published algorithms differ in; the defaults are the joint one's."""

    scale_factor: float = 1e-4  # beta
    reg_beta: float = 1e-5  # lambda
    reg: str = "coef_mean"  # sum over projections of the mean |w|; delta_l1: mean over them of |w (beta S)|_1
    balance: str = "first"  # directions relative to the first concept's; paper: to the largest; none
    iter_break: int = 1000
    momentum: float = 0.9
    min_iter: int = 11


class SepCE(Objective):
    """loss = sum_j active_j (balance_j * mean(r_j * r0_j) + reg_beta * reg_j) / sum_j active_j

    r_j is what concept j adds to the prediction of the network with all terms, r0_j without. A concept stops being active
    when the running average of its first term is below its threshold; what its term was then is the result. UserError for
    thresholds of another number, and for bases of another model.
    """

    method = "sepce"

    def __init__(
        self, model, encode: Encode, bases: Sequence[Bases], thresholds: Sequence[float], options: SepceOptions
    ):
        super().__init__(model)
        if len(bases) != len(thresholds):
            raise UserError(f"{len(thresholds)} thresholds for {len(bases)} concepts: give one, or one for each")
        self.bases, self.options = list(bases), options
        self.concepts = [found.concept for found in bases]
        layers = kv_shift.cross_attentions(self.unet)
        self.projections = {
            f"{name}.{which}.weight": getattr(layer, which)
            for name, layer in layers.items()
            for which in ("to_k", "to_v")
        }
        self.scaled = [self._scaled(found) for found in bases]
        self.coefficients = [
            {
                name: torch.zeros(p.weight.shape[0], len(base), device=self.device)
                for name, p in self.projections.items()
            }
            for base in self.scaled
        ]
        self.trained = {f"{j}.{name}": w for j, own in enumerate(self.coefficients) for name, w in own.items()}
        with torch.no_grad():
            self.empty = encode("").to(self.device)
            self.texts = torch.cat([encode(concept).to(self.device) for concept in self.concepts])
        # then the network with the terms predicts the same for it, and no gradient comes from there
        self.unseen_by_empty = all(passing(self.empty, base) < UNSEEN for base in self.bases)
        self.unseen = [self.unseen_by_empty and self._unseen_by_others(j) for j in range(len(bases))]
        self.stops = [MomentumStop(options.momentum, tau, options.min_iter, options.iter_break) for tau in thresholds]
        self.results: list[dict[str, Any] | None] = [None] * len(self.concepts)  # of concepts that have stopped
        self.steps = 0

    def _scaled(self, found: Bases) -> Tensor:
        return (self.options.scale_factor * found.bases).to(self.device, torch.float32)

    def _unseen_by_others(self, j: int) -> bool:
        return all(passing(text, self.bases[j]) < UNSEEN for k, text in enumerate(self.texts.split(1)) if k != j)

    @property
    def active(self) -> list[int]:
        """Concepts that are still trained."""
        return [j for j, result in enumerate(self.results) if result is None]

    def __enter__(self) -> "SepCE":
        flat = [own[name] for name in self.projections for own in self.coefficients]
        self._stack = contextlib.ExitStack()
        self._shift = self._stack.enter_context(kv_shift.shifted(self.unet, flat, self.scaled))
        return super().__enter__()

    def __exit__(self, *exception) -> None:
        super().__exit__(*exception)
        self._stack.close()

    # ---- a step -----------------------------------------------------------------------------------------------------

    def predictions(self, step) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """(e_0, e_n, e_p0, e_pn), each [concepts, C, h, w]: the original network's for the empty text and for each
        concept at its own x_t, and those of the network with all terms."""
        n = len(self.concepts)
        x = torch.cat([self.noised(step, j) for j in range(n)])
        both, t = torch.cat([self.empty.expand(n, -1, -1), self.texts]), step.t.repeat(n)
        with torch.no_grad(), self._shift.suspended():
            e_0, e_n = self.model.apply_model(x.repeat(2, 1, 1, 1), t.repeat(2), both).float().chunk(2)
        if self.unseen_by_empty:
            return e_0, e_n, e_0, self.model.apply_model(x, t, self.texts).float()
        e_p0, e_pn = self.model.apply_model(x.repeat(2, 1, 1, 1), t.repeat(2), both).float().chunk(2)
        return e_0, e_n, e_p0, e_pn

    def terms(self, step) -> Terms:
        e_0, e_n, e_p0, e_pn = self.predictions(step)
        products = ((e_pn - e_p0) * (e_n - e_0)).flatten(1)
        directions, norms = products.mean(dim=1), products.detach().norm(dim=1)
        weights = balance(norms, self.options.balance)
        active = torch.zeros_like(norms)
        active[self.active] = 1
        regs = torch.stack([self.regulariser(j) for j in range(len(self.concepts))])
        loss = (active * (weights * directions + self.options.reg_beta * regs)).sum() / active.sum()
        values = {"direction": directions.tolist(), "norm": norms.tolist(), "weight": weights.tolist()}
        values |= {"reg": regs.tolist(), "active": active.tolist()}
        values["momentum"] = [stop.update(d) for stop, d in zip(self.stops, values["direction"], strict=True)]
        return Terms(loss, {"loss": loss.item()} | self._numbered(values))

    def regulariser(self, j: int) -> Tensor:
        coefficients = self.coefficients[j].values()
        if self.options.reg == "coef_mean":
            return torch.stack([w.abs().mean() for w in coefficients]).sum()
        return mean_l1(w @ self.scaled[j] for w in coefficients)

    def _numbered(self, values: Mapping[str, Sequence[float]]) -> dict[str, float]:
        """direction_1, direction_2 ...; of one concept without a number."""
        if len(self.concepts) == 1:
            return {name: value for name, (value,) in values.items()}
        return {f"{name}_{j}": value for name, own in values.items() for j, value in enumerate(own, start=1)}

    # ---- stopping ---------------------------------------------------------------------------------------------------

    def finished(self, iteration: int, numbers: dict[str, float]) -> bool:
        self.steps = iteration + 1
        for j in self.active:
            if self.stops[j].finished(iteration):
                self.results[j] = self._result(j, self.stops[j].below)
                self._hold(j)
        return not self.active

    def _result(self, j: int, stopped: bool) -> dict[str, Any]:
        """The term as it is now, and how it got there."""
        facts = {"stopped": stopped, "steps": self.steps, "momentum": self.stops[j].momentum}
        tensors = {name: w.detach().clone() for name, w in self.coefficients[j].items()}
        return {"tensors": tensors, "threshold": self.stops[j].threshold} | facts

    def _hold(self, j: int) -> None:
        """Where its term is seen by the texts of the training, the others are to be trained beside the result, not beside
        what drifts on.

        Published: a stopped term goes on moving, driven by old gradients; that is kept where nobody sees it.
        """
        if not self.unseen[j]:
            for w in self.coefficients[j].values():
                w.requires_grad_(False)
                w.grad = None

    # ---- state and result -------------------------------------------------------------------------------------------

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """With the bases: solved again elsewhere, the orthonormal ones could be turned, and the coefficients mean nothing."""
        done = {j: result for j, result in enumerate(self.results) if result is not None}
        tensors = {f"{j}.basis": found.bases for j, found in enumerate(self.bases)}
        tensors |= {f"{j}.{name}": w for j, result in done.items() for name, w in result["tensors"].items()}
        facts = {str(j): {k: v for k, v in result.items() if k != "tensors"} for j, result in done.items()}
        numbers = {"steps": self.steps, "momenta": [stop.momentum for stop in self.stops], "results": facts}
        return tensors, numbers | {"bases": [solved_for(found) for found in self.bases]}

    def load(self, tensors: dict[str, Tensor], numbers: dict[str, Any]) -> None:
        for j, (found, began_with) in enumerate(zip(self.bases, numbers["bases"], strict=True)):
            if solved_for(found) != began_with:
                raise UserError(
                    f"the basis of {found.concept!r} is not the one that the run began with: --force starts again"
                )
            self.bases[j] = replace(found, bases=tensors[f"{j}.basis"].cpu())
            self.scaled[j].copy_(self._scaled(self.bases[j]))
        self.steps = numbers["steps"]
        for stop, momentum in zip(self.stops, numbers["momenta"], strict=True):
            stop.momentum = momentum
        for key, facts in numbers["results"].items():
            own = {name: tensors[f"{key}.{name}"].to(self.device) for name in self.projections}
            self.results[int(key)] = {"tensors": own} | facts
            self._hold(int(key))

    def parts(self) -> list[Part]:
        """Every concept's term. One that never stopped is as training left it (published: zeros), and says so."""
        found = []
        for j, bases in enumerate(self.bases):
            result = self.results[j] or self._result(j, stopped=False)
            facts = {name: value for name, value in result.items() if name != "tensors"}
            tensors = {name: w.cpu() for name, w in result["tensors"].items()}
            scale = self.options.scale_factor
            found.append(Part(bases.concept, bases.bases, tensors, scale, bases.prompts, facts | about(bases)))
        return found

    def edit(self, settings: dict[str, Any], base: dict[str, Any]) -> Edit:
        return separable(self.parts(), base, self.method, settings)


def balance(norms: Tensor, how: str) -> Tensor:
    """Weights [concepts] of the directions, from the norms of r * r0: n_1 / n_j, or max_k n_k / n_j, or ones."""
    if how == "none":
        return torch.ones_like(norms)
    return (norms[0] if how == "first" else norms.max()) / norms


def passing(states: Tensor, bases: Bases) -> float:
    """The largest row of states S^T, relative to the largest row of states [..., L, D]. UserError for another D."""
    rows = states.detach().to("cpu", torch.float64).flatten(0, -2)
    if rows.shape[1] != bases.bases.shape[1]:
        dims = f"{bases.bases.shape[1]} dimensions, the model's conditioning of {rows.shape[1]}"
        raise UserError(f"the basis of {bases.concept!r} is of {dims}")
    return float((rows @ bases.bases.T).norm(dim=1).max() / rows.norm(dim=1).max())


def solved_for(bases: Bases) -> list[Any]:
    """What tells a basis from that of another run."""
    return [list(bases.prompts), list(bases.bases.shape), bases.method, bases.tolerance]


def about(bases: Bases) -> dict[str, Any]:
    return {"rank": bases.rank, "leak": bases.leak, "basis": bases.method, "tolerance": bases.tolerance}
