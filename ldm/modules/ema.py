"""Exponential moving average of a model's parameters, stored as the buffers of published checkpoints."""

import torch
from torch import nn


class LitEma(nn.Module):
    """Shadow copies of the parameters that require gradients when this is built.

    Each shadow is a buffer with the parameter's name without its dots (``m_name2s_name`` maps one to the other). The
    spelling of ``use_num_upates`` is the published one; with it the decay warms up as (1 + n) / (10 + n).
    """

    def __init__(self, model, decay=0.9999, use_num_upates=True):
        super().__init__()
        if not 0.0 <= decay <= 1.0:
            raise ValueError(f"decay must be between 0 and 1, not {decay}")
        self.m_name2s_name = {}
        self.register_buffer("decay", torch.tensor(decay, dtype=torch.float32))
        self.register_buffer("num_updates", torch.tensor(0 if use_num_upates else -1, dtype=torch.int32))
        for name, parameter in model.named_parameters():
            if not parameter.requires_grad:
                continue
            shadow = name.replace(".", "")
            if shadow in self._buffers:
                raise ValueError(f"two parameters share the EMA name {shadow!r}")
            self.m_name2s_name[name] = shadow
            self.register_buffer(shadow, parameter.detach().clone())
        self.collected_params = []

    @torch.no_grad()
    def forward(self, model):
        """Move every shadow towards its parameter: shadow -= (1 - decay) * (shadow - parameter)."""
        decay = self.decay
        if self.num_updates >= 0:
            self.num_updates += 1
            decay = torch.minimum(decay, (1 + self.num_updates) / (10 + self.num_updates))
        for shadow, parameter in self._pairs(model):
            shadow.sub_((1.0 - decay) * (shadow - parameter))

    @torch.no_grad()
    def copy_to(self, model):
        """Overwrite the model's tracked parameters with the averages."""
        for shadow, parameter in self._pairs(model):
            parameter.copy_(shadow)

    def store(self, parameters):
        """Keep copies of ``parameters`` for ``restore``."""
        self.collected_params = [parameter.detach().clone() for parameter in parameters]

    @torch.no_grad()
    def restore(self, parameters):
        """Put the stored values back into ``parameters`` and let go of the copies."""
        for saved, parameter in zip(self.collected_params, parameters, strict=True):
            parameter.copy_(saved)
        self.collected_params = []

    def _pairs(self, model):
        # by name: a parameter frozen after this was built keeps its average
        parameters = dict(model.named_parameters())
        return [(getattr(self, shadow), parameters[name]) for name, shadow in self.m_name2s_name.items()]
