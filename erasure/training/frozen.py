"""The original network and the trained one in the memory of one."""

from contextlib import contextmanager

import torch
from torch import Tensor, nn


class FrozenWeights:
    """The original network, for which only the trained tensors are kept twice (the rest is shared).

    From here on the parameters are copies, free to be trained in place; the tensors they held stay as they were. Call it
    like the network: during a call the parameters point at the originals. Nothing is copied then, and no autograd graph
    may be alive across a call.
    """

    def __init__(self, apply_model, selected: dict[str, nn.Parameter]):
        self.apply_model = apply_model
        self.selected = selected
        self.originals = {name: parameter.data for name, parameter in selected.items()}
        for parameter in selected.values():
            parameter.data = parameter.data.clone()

    def restore(self):
        """Give the parameters their original tensors back, for good."""
        for name, parameter in self.selected.items():
            parameter.data = self.originals[name]

    @contextmanager
    def swapped(self):
        """Within this context the model *is* the original one."""
        trained = {name: parameter.data for name, parameter in self.selected.items()}
        self.restore()
        try:
            yield
        finally:
            for name, parameter in self.selected.items():
                parameter.data = trained[name]

    def __call__(self, x: Tensor, t: Tensor, context: Tensor) -> Tensor:
        with torch.no_grad(), self.swapped():
            return self.apply_model(x, t, context)
