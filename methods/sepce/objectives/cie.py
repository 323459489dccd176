"""CiE: what a concept adds to the prediction becomes uncorrelated with what it added originally (the paper's SRS-ME‡)."""

from typing import Any

from torch import Tensor
from torch.nn.functional import mse_loss

from erasure.edits import Edit
from methods.sepce.objectives import CrossAttentionWeights, Encode, MomentumStop, Terms, correlation


class CiE(CrossAttentionWeights):
    """loss = mean((e_pn - e_p0) * (e_n - e_0)) + reg_beta * mean_l1(weight changes)

    e_n, e_0 are the original network's predictions for the concept and for the empty text, e_pn, e_p0 the trained one's.
    Stops when the running average of the first term (weight `momentum` for what it was) is below `threshold`.
    """

    method = "cie"

    def __init__(
        self, model, encode: Encode, concept: str, reg_beta: float, threshold: float, iterations: int,
        momentum: float = 0.9, min_iter: int = 11,
    ):  # fmt: skip
        super().__init__(model, encode, concept, ("", concept), iterations)
        self.reg_beta = reg_beta
        self.stop = MomentumStop(momentum, threshold, min_iter, iterations)

    def terms(self, step) -> Terms:
        x, contexts = self.noised(step), list(self.texts.values())
        e_0, e_n = self.original(x, step.t, contexts)
        e_p0, e_pn = self.predict(x, step.t, contexts)
        direction, change = correlation(e_pn - e_p0, e_n - e_0), self.change()
        loss = direction + self.reg_beta * change
        numbers = {
            "loss": loss,
            "direction": direction,
            "loss_reg": change,
            "mse_pn_n": mse_loss(e_pn, e_n),
            "l1_p0_0": (e_p0 - e_0).abs().mean(),
        }
        numbers = {name: value.item() for name, value in numbers.items()}
        return Terms(loss, numbers | {"momentum": self.stop.update(numbers["direction"])})

    def finished(self, iteration: int, numbers: dict[str, float]) -> bool:
        return self.stop.finished(iteration)

    def edit(self, settings: dict[str, Any], base: dict[str, Any]) -> Edit:
        """With `stopped`, whether the average reached the threshold, and the average."""
        return super().edit(settings | {"stopped": self.stop.below, "momentum_value": self.stop.momentum}, base)

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        return {}, {"momentum": self.stop.momentum}

    def load(self, tensors: dict[str, Tensor], numbers: dict[str, Any]) -> None:
        self.stop.momentum = numbers["momentum"]
