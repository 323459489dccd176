"""One cross-attention layer of SepCE with three shifts, its logits against a second context, and its batch mistake."""

import pytest
import torch
from torch import nn

from erasure.edits import Part
from ldm.modules import kv_shift
from ldm.modules.attention import CrossAttention2
from tests.golden.golden_data import load
from tests.golden.numeric import assert_relative_to_max


@pytest.fixture
def golden():
    meta, tensors = load("sepce/attention_shift")
    sizes = {"query_dim": meta["query_dim"], "context_dim": meta["context_dim"]}
    layer = CrossAttention2(**sizes, heads=meta["heads"], dim_head=meta["dim_head"])
    layer.load_state_dict({key[2:]: value for key, value in tensors.items() if key.startswith("w.")})
    count = sum(key.startswith("base.") for key in tensors)
    bases = [tensors[f"base.{n}"] for n in range(count)]
    coefficients = [tensors[f"coef.{which}.{n}"] for which in "kv" for n in range(count)]
    return tensors, layer.eval(), bases, coefficients


class Network(nn.Module):
    """A layer where the shifts look for it."""

    def __init__(self, layer):
        super().__init__()
        self.attn2 = layer

    def forward(self, x, context):
        return self.attn2(x, context)


def close(value, reference, what):
    assert_relative_to_max(value, reference, 1e-5, what)


@torch.no_grad()
def test_the_layers_own_arguments(golden):
    tensors, layer, bases, coefficients = golden
    x, context, context2 = (tensors[name] for name in ("x", "context", "context2"))
    close(layer(x, context), tensors["out.plain"], "plain")
    shifted = layer(x, context, add_params=(coefficients, [base.float() for base in bases], [0]))
    for name in (name for name in tensors if name.startswith("out.three_terms")):
        close(shifted, tensors[name], name)
    out, d_sim = layer(x, context, context2=context2)
    close(out, tensors["out.context2"], "with a second context")
    close(d_sim, tensors["d_sim"], "d_sim")


@torch.no_grad()
def test_hooks(golden):
    tensors, layer, bases, coefficients = golden
    network, x, context = Network(layer), tensors["x"], tensors["context"]
    with kv_shift.shifted(network, coefficients, [base.float() for base in bases]):
        close(network(x, context), tensors["out.three_terms"], "shifted")
    close(network(x, context), tensors["out.plain"], "afterwards")
    with kv_shift.logit_differences(network, tensors["context2"]) as found:
        close(network(x, context), tensors["out.context2"], "with a second context")
    (d_sim,) = found.values()
    close(d_sim, tensors["d_sim"], "d_sim")


@torch.no_grad()
def test_weights_of_separable_parts(golden):
    """W + sum of w S, as an edit changes the model."""
    tensors, layer, bases, coefficients = golden
    names = ("attn2.to_k.weight", "attn2.to_v.weight")
    for n, base in enumerate(bases):
        own = dict(zip(names, (coefficients[n], coefficients[len(bases) + n]), strict=True))
        part = Part(f"concept {n}", base, own, 1.0, [""])
        for name in names:
            layer.get_parameter(name.removeprefix("attn2.")).add_(part.shift(name).float())
    close(layer(tensors["x"], tensors["context"]), tensors["out.three_terms"], "merged weights")


@torch.no_grad()
def test_every_item_of_a_batch_is_shifted_by_its_own_context(golden):
    """Published: by that of the first item, which is right only for itself."""
    tensors, layer, bases, coefficients = golden
    network, x, context = Network(layer), tensors["batch.x"], tensors["batch.context"]
    published = tensors["batch.out_original"]
    with kv_shift.shifted(network, coefficients, [base.float() for base in bases]):
        together = network(x, context)
        alone = torch.cat([network(x[i : i + 1], context[i : i + 1]) for i in range(len(x))])
    close(together, alone, "one by one")
    close(together[:1], published[:1], "the first item")
    assert len(x) > 1 and (together[1:] - published[1:]).abs().max() > 1e-3 * published.abs().max()
