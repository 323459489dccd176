"""What the golden tests of CPE share: the tiny training's parts, and gates from stored tensors."""

import torch

from erasure.edits import Edit
from erasure.edits.residual_gates import ALPHA, DOWN, KEY, KIND, SCALER, layers_of
from methods.cpe.projections import Projections
from methods.cpe.residuals import Residuals


def under(tensors, prefix):
    """The tensors whose names begin with `prefix`, without it."""
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def edit_of(tensors, alpha):
    """An edit of gates; recordings leave the alpha of layers out."""
    tensors = {layer + ALPHA: torch.tensor(float(alpha)) for layer in layers_of(tensors)} | dict(tensors)
    concepts = [f"concept {n}" for n in range(len(tensors[SCALER]))]
    return Edit("cpe", concepts, {}, {}, tensors, KIND)


class TinyTraining:
    """The recorded training `train_tiny`."""

    def __init__(self, meta, tensors):
        self.settings, self.log, self.tensors = meta["settings"], meta["log"], tensors
        self.candidates = meta["anchor_candidates"]
        names = {pair["compvis"]: pair["resag_module"] for pair in self.log["pairs"]}
        weights = {name: weight.float() for name, weight in under(tensors, "unet.").items()}
        self.projections = Projections.of_weights(weights, names, self.settings["T"])
        self.draws = {}
        for _, phase, stage, iteration, _, value in self.log["rng_trace"]:
            self.draws.setdefault((stage, phase, iteration), []).append(value)

    def residuals(self, prefix):
        """As stored under `prefix`; w_ks, which no gradient reaches, is as it was at the beginning where it is left out."""
        stored = {KEY: self.tensors["init." + KEY]} | under(self.tensors, prefix)
        return Residuals.of_tensors(edit_of(stored, self.settings["alpha"]).tensors, self.projections)

    def gradients(self, residuals):
        """Gradients of the residuals by the names of a file."""
        grads = [torch.zeros_like(p) if p.grad is None else p.grad for p in [*_single(residuals), *residuals.ups]]
        return Residuals(*grads[:4], grads[4:], residuals.alpha).tensors(self.projections)

    def anchors(self, prefix):
        """[S, T, D]: every second row of what was recorded; the others are the empty prompt's states."""
        return self.tensors[prefix + "anchors"][1::2]


def _single(residuals):
    return [residuals.query, residuals.key, residuals.scaler, residuals.down]


def rank_of(tensors):
    return next(tensor.shape[2] for name, tensor in tensors.items() if name.endswith(DOWN))
