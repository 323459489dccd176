"""What white-box attacks optimise: k tokens, as a distribution over the vocabulary or as an embedding next to one.

Both are used alike:

    embeddings = search.embeddings()      # [k, D], to be put into the prompt
    loss(embeddings).backward()
    search.update()
    search.ids()                          # [k], the tokens found so far

Sources: UnlearnDiffAtk (arXiv 2310.11868) and P4D (arXiv 2309.06135) as OPTML-Group/Diffusion-MU-Attack (5a3e5d3) has them.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

_TOLERANCE = 1e-5
MOMENTS = ("exp_avg", "exp_avg_sq", "step")


def projected(a: Tensor) -> Tensor:
    """The point of {0 <= u <= 1, sum u = 1} nearest to every row of a [..., V].

    By bisection on a shift of the row, to within 1e-5 of it, as published: for large V the sum is 1 only roughly.
    """
    clipped = a.clamp(0, 1)
    low, high = (a - 1).min(-1, keepdim=True).values, a.max(-1, keepdim=True).values
    middle = (low + high) / 2
    while bool(((high - low) > _TOLERANCE).any()):
        middle = (low + high) / 2
        above = (a - middle).clamp(0, 1).sum(-1, keepdim=True) > 1
        low, high = torch.where(above, middle, low), torch.where(above, high, middle)
    inside = (clipped.sum(-1, keepdim=True) - 1).abs() <= _TOLERANCE
    return torch.where(inside, clipped, (a - middle).clamp(0, 1))


def drawn(u: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """One id [k] for every row of weights u [k, V]."""
    return torch.multinomial(u, 1, generator=generator).squeeze(-1)


def through(gradient: Tensor) -> Tensor:
    """The gradient of a distribution, given that of the one-hot rows drawn from it: straight through, within [-1, 1]."""
    return gradient.clamp(-1, 1)


def nearest(embeddings: Tensor, table: Tensor) -> Tensor:
    """Ids [k] of the rows of a table [V, D] with the largest cosine similarity to embeddings [k, D]."""
    return (torch.nn.functional.normalize(embeddings, dim=-1) @ torch.nn.functional.normalize(table, dim=-1).T).argmax(
        -1
    )


@dataclass(frozen=True)
class Steps:
    """Of Adam; weight decay is part of the gradient."""

    lr: float = 0.01
    weight_decay: float = 0.1


class Search:
    """`variable`, its optimizer, and a place for the gradient at what stands for it in the network."""

    def __init__(self, variable: Tensor, table: Tensor, steps: Steps):
        self.table, self.variable = table, torch.nn.Parameter(variable)
        self.adam = torch.optim.Adam([self.variable], lr=steps.lr, weight_decay=steps.weight_decay)
        self.leaf: Tensor | None = None

    def chosen(self) -> Tensor:
        """Ids [k] to evaluate the loss at."""
        raise NotImplementedError

    def embeddings(self) -> Tensor:
        """[k, D] of those ids: a leaf, whose gradient `update` takes."""
        self.leaf = self.table[self.chosen()].clone().requires_grad_()
        return self.leaf

    def step(self, gradient: Tensor) -> None:
        self.variable.grad = gradient.to(self.variable.dtype)
        self.adam.step()

    def state(self) -> dict[str, Tensor]:
        """Everything that the next update depends on, but the generator."""
        moments = self.adam.state.get(self.variable, {})
        return {"variable": self.variable.detach().clone()} | {m: moments[m].clone() for m in MOMENTS if m in moments}

    def load_state(self, state: dict[str, Tensor]) -> None:
        self.variable.data.copy_(state["variable"])
        if "step" in state:
            groups = self.adam.state_dict()["param_groups"]
            self.adam.load_state_dict({"state": {0: {m: state[m] for m in MOMENTS}}, "param_groups": groups})


class TextGrad(Search):
    """UnlearnDiffAtk: a distribution over the vocabulary for each token, from which one is drawn for every update."""

    def __init__(self, k: int, table: Tensor, steps: Steps, generator: torch.Generator | None = None, rand_init=False):
        size = (k, len(table))
        start = torch.full(size, 1 / len(table), device=table.device)
        if rand_init:
            start = torch.rand(size, generator=generator, device=table.device)
        super().__init__(projected(start), table, steps)
        self.generator = generator

    def chosen(self) -> Tensor:
        return drawn(self.variable.detach(), self.generator)

    def update(self) -> None:
        self.move(self.leaf.grad @ self.table.T)

    def move(self, gradient: Tensor) -> None:
        """One update by the gradient [k, V] with respect to the one-hot rows."""
        self.step(through(gradient))
        self.variable.data = projected(self.variable.data)

    def ids(self) -> Tensor:
        return self.variable.detach().argmax(-1)


class HardPrompt(Search):
    """P4D: an embedding for each token; the loss and its gradient are those at the nearest token."""

    def __init__(self, k: int, table: Tensor, steps: Steps, generator: torch.Generator | None = None):
        ids = torch.randint(len(table), (k,), generator=generator, device=table.device)
        super().__init__(table[ids].clone(), table, steps)

    def chosen(self) -> Tensor:
        return nearest(self.variable.detach(), self.table)

    def update(self) -> None:
        self.step(self.leaf.grad)

    def ids(self) -> Tensor:
        return self.chosen()
