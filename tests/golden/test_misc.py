"""Learning-rate factors, moving averages and Gaussian distributions against the original's numbers."""

import re

import pytest
import torch
from torch import nn

from ldm import lr_scheduler
from ldm.modules.distributions.distributions import DiagonalGaussianDistribution, normal_kl
from ldm.modules.ema import LitEma
from tests.golden.golden_data import load
from tests.golden.numeric import assert_close


@pytest.fixture(scope="module")
def golden():
    return load("ldm/misc")


def test_learning_rate_factors(golden):
    for name, case in golden[0]["lr_schedulers"].items():
        schedule = getattr(lr_scheduler, name)(**case["kwargs"])
        for n, expected in zip(case["n"], case["value"], strict=True):
            assert schedule(n) == pytest.approx(expected, rel=1e-12), (name, n)
            assert schedule.schedule(n) == schedule.last_lr


class Parameters(nn.Module):
    """Parameters under the given dotted names; those that ``tracked`` does not list are frozen."""

    def __init__(self, values, tracked):
        super().__init__()
        for name, value in values.items():
            *parents, last = name.split(".")
            module = self
            for parent in parents:
                if parent not in module._modules:
                    module.add_module(parent, nn.Module())
                module = module._modules[parent]
            module.register_parameter(last, nn.Parameter(value.clone(), requires_grad=name in tracked))


def _part(tensors, prefix):
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}


def test_moving_averages(golden):
    meta, tensors = golden[0]["ema"], golden[1]
    model = Parameters(_part(tensors, "ema.init."), meta["m_name2s_name"])
    ema = LitEma(model, decay=meta["decay"], use_num_upates=meta["use_num_upates"])
    assert dict(ema.m_name2s_name) == meta["m_name2s_name"]
    assert set(dict(ema.named_buffers())) == set(meta["buffer_names"])
    steps = sorted({int(match[1]) for key in tensors if (match := re.match(r"ema\.after_step(\d+)\.", key))})
    first, last = (_part(tensors, f"ema.param_step{step}.") for step in (steps[0], steps[-1]))
    # Some recordings hold the last state under every step's name: from those only the counters can be checked.
    replayable = any(not torch.equal(first[name], last[name]) for name in first)
    for step in steps:
        with torch.no_grad():
            for name, value in _part(tensors, f"ema.param_step{step}.").items():
                model.get_parameter(name).copy_(value)
        ema(model)
        for name, expected in _part(tensors, f"ema.after_step{step}.").items():
            found = ema.get_buffer(name)
            assert found.dtype == expected.dtype and found.shape == expected.shape
            if replayable:
                assert_close(found, expected, 1e-6, f"step {step} {name}")
    for counter in ("num_updates", "decay"):
        assert_close(ema.get_buffer(counter), tensors[f"ema.after_step{steps[-1]}.{counter}"], 1e-7, counter)


def test_gaussian(golden):
    _, tensors = golden
    expected = _part(tensors, "gauss.")
    gauss = DiagonalGaussianDistribution(expected["parameters"])
    for name in ("mean", "logvar", "std", "var"):
        torch.testing.assert_close(getattr(gauss, name), expected[name], rtol=1e-6, atol=1e-6)
    assert torch.equal(gauss.mode(), expected["mode"])
    sample = gauss.mean + gauss.std * expected["noise"]
    torch.testing.assert_close(sample, expected["sample_with_noise"], rtol=1e-6, atol=1e-6)
    other = DiagonalGaussianDistribution(expected["parameters2"])
    for found, name in ((gauss.kl(), "kl"), (gauss.nll(sample), "nll_of_sample"), (gauss.kl(other), "kl_to_2")):
        torch.testing.assert_close(found, expected[name], rtol=1e-5, atol=2e-5)


def test_a_seed_fixes_the_sample(golden):
    meta, tensors = golden
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(re.search(r"manual_seed\((\d+)\)", meta["gauss"]["rng_contract"])[1]))
        found = DiagonalGaussianDistribution(tensors["gauss.parameters"]).sample()
    torch.testing.assert_close(found, tensors["gauss.sample_seeded"], rtol=1e-6, atol=1e-6)


def test_divergence_of_two_gaussians(golden):
    meta, tensors = golden
    arguments = dict(re.findall(r"(\w+)=([\w.]+)", meta["normal_kl"]))
    assert set(arguments) == {"mean1", "logvar1", "mean2", "logvar2"}
    values = {name: tensors[text] if text in tensors else float(text) for name, text in arguments.items()}
    torch.testing.assert_close(normal_kl(**values), tensors["normal_kl.out"], rtol=1e-5, atol=2e-5)
