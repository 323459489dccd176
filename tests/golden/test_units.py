"""Every small block of the ldm tree against the originals' outputs and gradients."""

import pytest

from ldm.util import get_obj_from_str
from tests.golden.golden_data import load
from tests.golden.numeric import assert_close, assert_gradient


def _cases():
    try:
        return list(load("ldm/units")[0]["cases"])
    except BaseException:  # reported by the test itself
        return ["units"]


@pytest.mark.parametrize("name", _cases())
def test_unit_matches_original(name):
    meta, tensors = load("ldm/units")
    case = meta["cases"][name]
    own = {k.removeprefix(f"{name}/"): v for k, v in tensors.items() if k.startswith(f"{name}/")}
    target = get_obj_from_str(case["class"])
    module = target(**case["kwargs"])
    module.load_state_dict({k[2:]: v.float() for k, v in own.items() if k.startswith("w.")})
    inputs = {k[3:]: v for k, v in own.items() if k.startswith("in.")}
    for value in inputs.values():
        if value.is_floating_point():
            value.requires_grad_()
    x = inputs["x"]  # by position: torch's own classes name their argument differently
    out = module(x, **{key: value for key, value in inputs.items() if key != "x"})
    assert_close(out, own["out"])
    if "cotangent" not in own:
        return
    (out * own["cotangent"]).sum().backward()
    parameters = dict(module.named_parameters())
    for key, reference in own.items():
        if key.startswith("grad_w."):
            assert_gradient(parameters[key.removeprefix("grad_w.")].grad, reference, key)
        elif key.startswith("grad_in."):
            assert_gradient(inputs[key.removeprefix("grad_in.")].grad, reference, key)
