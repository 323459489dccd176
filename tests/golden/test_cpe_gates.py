"""Residual attention gates against the original: one projection, a whole UNet, the published files, all names."""

from pathlib import Path

import pytest
import torch
from torch import nn

from erasure import edits
from erasure.edits.residual_gates import UP, gates_of, layer_names, layers_of
from ldm.modules.diffusionmodules.openaimodel import UNetModel
from ldm.modules.residual_gate import Gates, attach, attention, gate, openness
from tests.golden import golden_data
from tests.golden.cpe_model import edit_of, under
from tests.golden.golden_data import load
from tests.golden.numeric import assert_close


class Projection(nn.Module):
    """A network of one projection."""

    dtype = torch.float32

    def __init__(self, weight):
        super().__init__()
        self.to_v = nn.Linear(*reversed(weight.shape), bias=False)
        self.to_v.weight = nn.Parameter(weight)

    def forward(self, context):
        return self.to_v(context)


def close(value, reference, what, atol=1e-5, rtol=1e-4):
    assert value.shape == reference.shape, what
    assert torch.allclose(value.float(), reference.float(), atol=atol, rtol=rtol), what


def test_one_projection_under_the_gates_of_several_concepts():
    meta, tensors = load("cpe/resag_forward_tiny")
    for case, facts in meta["cases"].items():
        t = under(tensors, f"{case}.")
        gates = Gates(
            t["w_qs"], t["w_ks"], t["scaler"], {"to_v": t["lora_down"]}, {"to_v": t["lora_up"]}, facts["alpha"]
        )
        weights = attention(t["x"], gates.query, gates.query)
        close(weights, t["attn"], case)
        close(weights @ t["x"].unsqueeze(1), t["e_agg"], case)
        close(openness(weights, t["x"], gates.scaler), t["gate_all"].squeeze(-1), case)
        gated = gate(t["x"], gates)
        assert torch.equal(gated.concept, t["gate_argmax"][:, 0, :, 0]), case
        close(gated.largest, t["gate_max"][:, 0, :, 0], case)
        close(gated.embeddings, t["gated_e"], case)
        network = Projection(t["base_weight"])
        with torch.no_grad():
            plain = network(context=t["x"])
            close(plain, t["base_out"], case)
            remove = attach(network, gates)
            out = network(context=t["x"])
            close(out, t["out"], case)
            close(out - plain, t["delta"], case)
            remove()
            assert torch.equal(network(context=t["x"]), plain), case


# ---- names and a whole network -------------------------------------------------------------------------------------


def unet_like_sd(width):
    """Names of the parameters of Stable Diffusion v1's UNet; nothing is allocated."""
    with torch.device("meta"):
        unet = UNetModel(
            image_size=8, in_channels=4, out_channels=4, model_channels=width, num_res_blocks=2,
            attention_resolutions=[4, 2, 1], channel_mult=[1, 2, 4, 4], num_heads=2, use_spatial_transformer=True,
            context_dim=24, legacy=False,
        )  # fmt: skip
    return list(unet.state_dict())


def test_every_projection_of_stable_diffusion_has_its_published_name():
    meta, tensors = load("cpe/name_map_sd_topology")
    names = layer_names(unet_like_sd(32))
    assert names == {pair["compvis"]: pair["resag_module"] for pair in meta["pairs"]}
    assert list(names.values()) == meta["module_order_in_original"]
    edit = edit_of(under(tensors, "resag."), meta.get("alpha", 1.0))
    gates = gates_of(edit, names)
    for name in names:
        network = Projection(tensors[f"weight.{name}.weight"].float())
        own = Gates(
            gates.query, gates.key, gates.scaler, {"to_v": gates.down[name]}, {"to_v": gates.up[name]}, gates.alpha
        )
        attach(network, own)
        assert_close(network(context=tensors["x"].float()), tensors[f"out.{name}"], 1e-5, name)


class Model(nn.Module):
    """What a LatentDiffusion is to an edit: something with a UNet in its place."""

    def __init__(self, unet):
        super().__init__()
        self.model = nn.Module()
        self.model.diffusion_model = unet


@pytest.fixture(scope="module")
def tiny():
    meta, tensors = load("cpe/tiny_unet_resag")
    unet = UNetModel(**{"image_size": tensors["x"].shape[-1]} | meta["unet"]).eval()
    unet.load_state_dict({name: weight.float() for name, weight in under(tensors, "unet.").items()})
    return meta, tensors, unet


@torch.no_grad()
def test_a_whole_unet(tiny):
    meta, tensors, unet = tiny
    model = Model(unet)
    x, t, context = tensors["x"].float(), tensors["timesteps"], tensors["context"].float()
    plain = unet(x, t, context=context)
    assert_close(plain, tensors["eps_plain"], 1e-4)
    networks = sorted({name.partition(".")[0] for name in tensors if name.partition(".")[2].startswith("resag.")})
    assert networks
    for n in networks:
        own = under(tensors, f"{n}.")
        seen = {}
        handles = [
            unet.get_submodule(f"{block}.transformer_blocks.0.attn2").register_forward_hook(
                lambda _, __, out, block=block, seen=seen: seen.__setitem__(block, out)
            )
            for block in under(own, "attn2_out.")
        ]
        with edits.apply(model, edit_of(under(own, "resag."), meta["alpha"])):
            assert_close(unet(x, t, context=context), own["eps"], 1e-4, n)
            for block, out in under(own, "attn2_out.").items():
                assert_close(seen[block], out, 5e-5, block)
            # a new context is seen at once: the published code goes on with the first one's residual until it is reset
            fresh = unet(x, t, context=own["context2"].float())
            assert_close(fresh, own["eps_context2_after_reset"], 1e-4, n)
            assert (fresh - own["eps_context2_with_stale_cache"]).abs().max() > 1e-3
        for handle in handles:
            handle.remove()
        assert torch.equal(unet(x, t, context=context), plain), "without the edit it is the base again"


# ---- the authors' files --------------------------------------------------------------------------------------------


def published(concept):
    folder = golden_data.path("cpe/published")
    return next(Path(folder).glob(f"*/*/*/{concept}/*_last.safetensors"))


def test_published_files():
    meta, tensors = load("cpe/resag_published_real_dims")
    x = tensors["x"].float()
    for name, facts in meta["sets"].items():
        edit = edits.read_gates([published(concept) for concept in facts["concepts_in_order"]])
        assert [c.replace(" ", "_") for c in edit.concepts] == facts["concepts_in_order"]
        layers = {layer: layer for layer in layers_of(edit.tensors)}
        gates = gates_of(edit, layers)
        assert gates.query.shape[2] == facts["gate_rank"] and len(layers) == 32
        gated = gate(x, gates)
        t = under(tensors, f"{name}.")
        assert torch.equal(gated.concept, t["gate_argmax"][:, 0].long()), name
        close(gated.largest, t["gate_max"][:, 0], name, 2e-5, 1e-3)
        close(gated.embeddings[0, : t["gated_e_b0_first16"].shape[0]], t["gated_e_b0_first16"], name, 2e-5, 1e-3)
        for layer, delta in under(t, "delta.").items():
            module = "lora_unet_" + layer.replace(".to_", ".transformer_blocks.0.attn2.to_").replace(".", "_")
            width = edit.tensors[module + UP].shape[2]
            network = Projection(torch.zeros(width, x.shape[2]))
            own = Gates(
                gates.query,
                gates.key,
                gates.scaler,
                {"to_v": gates.down[module]},
                {"to_v": gates.up[module]},
                gates.alpha,
            )
            attach(network, own)
            out = network(context=x)[:1]
            close(out[:, :: -(-x.shape[1] // delta.shape[1])], delta, f"{name} {layer}", 2e-5, 1e-3)
