"""The text tower against stored outputs and gradients."""

import pytest
import torch

from ldm.modules.encoders.modules import FrozenCLIPEmbedder
from tests.golden.golden_data import load

TOLERANCE = 2e-5  # README of the golden data
PREFIX = "w.cond_stage_model."
SIZES = (
    "vocab_size hidden_size intermediate_size num_hidden_layers num_attention_heads max_position_embeddings hidden_act"
).split()


def build(meta, weights):
    embedder = FrozenCLIPEmbedder(**{name: meta["config"][name] for name in SIZES})
    embedder.load_state_dict(weights)  # strict: every key must be known
    return embedder


@pytest.fixture(scope="module")
def golden():
    meta, tensors = load("ldm/clip_text")
    weights = {k.removeprefix(PREFIX): v for k, v in tensors.items() if k.startswith(PREFIX)}
    return meta, tensors, {k: v.float() if v.is_floating_point() else v for k, v in weights.items()}


@pytest.fixture(params=["stored names", "flat names"])
def embedder(request, golden):
    meta, _, weights = golden
    if request.param == "flat names":
        weights = {k.replace("text_model.", ""): v for k, v in weights.items()}
    return build(meta, weights)


def test_outputs(golden, embedder):
    _, tensors, _ = golden
    out = embedder.transformer(input_ids=tensors["in.input_ids"], output_hidden_states=True)
    for name in ("last_hidden_state", "pooler_output"):
        torch.testing.assert_close(getattr(out, name), tensors[name], atol=TOLERANCE, rtol=0)
    states = torch.stack(out.hidden_states)
    torch.testing.assert_close(states, tensors["hidden_states_before_final_ln"], atol=TOLERANCE, rtol=0)


def test_gradient_of_the_token_embedding(golden, embedder):
    _, tensors, _ = golden
    weight = embedder.transformer.text_model.embeddings.token_embedding.weight.requires_grad_(True)
    (embedder.transformer(input_ids=tensors["in.input_ids"]).last_hidden_state * tensors["cotangent"]).sum().backward()
    expected = tensors["grad_w.token_embedding.weight"]
    torch.testing.assert_close(weight.grad, expected, atol=1e-4 * expected.abs().max().item() + 2e-5, rtol=0)


def test_saved_names_are_those_of_the_checkpoint(golden, embedder):
    _, _, weights = golden
    assert set(embedder.state_dict()) == {k for k in weights if not k.endswith("position_ids")}


def test_a_missing_weight_is_reported(golden, embedder):
    _, _, weights = golden
    name = next(k for k in weights if k.endswith("fc1.weight"))
    with pytest.raises(RuntimeError, match="Missing key"):
        embedder.load_state_dict({k: v for k, v in weights.items() if k != name})
