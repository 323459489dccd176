"""LitEma beside the plain formula, and the scopes that swap averages in and out."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from ldm.modules.ema import LitEma
from tests.tiny import tiny_config


@settings(max_examples=25, deadline=None)
@given(
    decay=st.floats(0, 1),
    warm=st.booleans(),
    values=st.lists(st.floats(-3, 3, width=32), min_size=1, max_size=12),
    start=st.floats(-3, 3, width=32),
)
def test_equals_the_formula(decay, warm, values, start):
    model = nn.Linear(1, 1, bias=False)
    nn.init.constant_(model.weight, start)
    ema, expected = LitEma(model, decay, use_num_upates=warm), start
    for n, value in enumerate(values, start=1):
        nn.init.constant_(model.weight, value)
        ema(model)
        effective = min(decay, (1 + n) / (10 + n)) if warm else decay
        expected -= (1 - effective) * (expected - value)
        assert ema.weight.item() == pytest.approx(expected, abs=1e-5)
    assert ema.num_updates == (len(values) if warm else -1)
    assert model.weight.item() == values[-1]


def test_frozen_parameters_have_no_average():
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    model[1].requires_grad_(False)
    ema = LitEma(model)
    assert set(ema.m_name2s_name.values()) == {"0weight", "0bias"}
    model[0].requires_grad_(False)  # later on: the average stays, and is kept up to date
    ema(model)
    ema.copy_to(model)


def test_copying_and_restoring():
    model = nn.Linear(3, 2)
    ema = LitEma(model, decay=0.5)
    average = model.weight.detach().clone()
    nn.init.constant_(model.weight, 7.0)
    ema.store(model.parameters())
    ema.copy_to(model)
    assert torch.equal(model.weight, average)
    ema.restore(model.parameters())
    assert (model.weight == 7).all() and not ema.collected_params


def test_names_that_lose_their_difference_are_refused():
    model = nn.Module()
    model.register_parameter("ab", nn.Parameter(torch.zeros(1)))
    model.add_module("a", nn.Module())
    model.a.register_parameter("b", nn.Parameter(torch.zeros(1)))
    with pytest.raises(ValueError, match="'ab'"):
        LitEma(model)
    with pytest.raises(ValueError, match="between 0 and 1"):
        LitEma(nn.Linear(1, 1), decay=1.5)


def test_scope_of_a_diffusion_model():
    from ldm.util import instantiate_from_config

    config = tiny_config()["model"]
    config["params"]["use_ema"] = True
    model = instantiate_from_config(config)
    weight = model.model.diffusion_model.time_embed[0].weight
    average = weight.detach().clone()
    nn.init.zeros_(weight)
    with pytest.raises(KeyboardInterrupt), model.ema_scope("a test"):
        assert torch.equal(weight, average)
        raise KeyboardInterrupt
    assert not weight.any()
