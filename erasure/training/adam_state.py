"""Adam's state as named tensors, for checkpoints, and back again."""

from collections.abc import Mapping

import torch
from torch import Tensor

MOMENTS = ("exp_avg", "exp_avg_sq", "step")
"""What Adam and AdamW keep of a parameter; it has none of them before its first gradient."""


def moments(optimizer: torch.optim.Optimizer, named: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """Moment -> name -> tensor, for the parameters of `named` that have any; memory is shared with the optimizer."""
    state = optimizer.state
    return {key: {name: state[p][key] for name, p in named.items() if p in state} for key in MOMENTS}


def restore(
    optimizer: torch.optim.Optimizer, named: Mapping[str, Tensor], saved: Mapping[str, Mapping[str, Tensor]]
) -> None:
    """Give an optimizer of the parameters of `named`, in their order, the moments that `moments` said."""
    state = {
        i: {
            "step": saved["step"][name].clone(),
            "exp_avg": like(parameter, saved["exp_avg"][name]),
            "exp_avg_sq": like(parameter, saved["exp_avg_sq"][name]),
        }
        for i, (name, parameter) in enumerate(named.items())
        if name in saved["exp_avg"]
    }
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": state, "param_groups": groups})


def like(parameter: Tensor, value: Tensor) -> Tensor:
    """`value` in memory of its own, laid out as the parameter: what was read is a view of a file, and contiguous."""
    return torch.empty_like(parameter).detach().copy_(value)
