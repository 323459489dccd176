"""Names of CompVis and diffusers for any structure of UNet and autoencoder, and back."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from erasure import key_maps
from erasure.diffusers_folders import unet_config, vae_config
from erasure.errors import UserError
from ldm.models.autoencoder import AutoencoderKL
from ldm.modules.diffusionmodules.openaimodel import UNetModel
from tests.tiny import tiny_model


@st.composite
def unets(draw, first=(1, 2, 3)):
    levels = draw(st.integers(1, 4))
    attends = draw(st.lists(st.sampled_from([2**i for i in range(levels)]), unique=True))
    return dict(
        image_size=8, in_channels=4, out_channels=4, model_channels=32,
        num_res_blocks=draw(st.integers(1, 3)), attention_resolutions=sorted(attends),
        channel_mult=[draw(st.sampled_from(first)), *draw(st.lists(st.integers(1, 3), min_size=levels - 1, max_size=levels - 1))],
        num_heads=2, use_spatial_transformer=True, context_dim=8, legacy=False,
    )  # fmt: skip


@settings(max_examples=25, deadline=None)
@given(unets())
def test_any_unet_there_and_back(params):
    with torch.device("meta"):
        weights = UNetModel(**params).state_dict()
    converted = key_maps.unet_to_diffusers(weights)
    assert len(converted) == len(weights)
    back = key_maps.unet_to_compvis(converted)
    assert {k: t.shape for k, t in back.items()} == {k: t.shape for k, t in weights.items()}


@settings(max_examples=4, deadline=None)
@given(unets(first=(1,)))
def test_any_unet_has_the_names_and_shapes_of_diffusers(params):
    diffusers = pytest.importorskip("diffusers")
    with torch.device("meta"):
        weights = UNetModel(**params).state_dict()
        theirs = diffusers.UNet2DConditionModel.from_config(unet_config(params)).state_dict()
    found = key_maps.unet_to_diffusers(weights)
    assert {k: t.shape for k, t in found.items()} == {k: t.shape for k, t in theirs.items()}


@settings(max_examples=8, deadline=None)
@given(
    st.lists(st.integers(1, 2), max_size=3).map(lambda mult: [1, *mult]),
    st.integers(1, 2),
    st.sampled_from(("current", "original")),
)
def test_any_autoencoder_there_and_back(mult, blocks, names):
    dd = dict(
        double_z=True, z_channels=4, resolution=16, in_channels=3, out_ch=3, ch=32, ch_mult=mult, num_res_blocks=blocks,
        attn_resolutions=[], dropout=0.0,
    )  # fmt: skip
    with torch.device("meta"):
        weights = AutoencoderKL(dd, {"target": "torch.nn.Identity"}, 4).state_dict()
    found = key_maps.vae_to_diffusers(weights, names)
    assert {k: t.shape for k, t in key_maps.vae_to_compvis(found).items()} == {k: t.shape for k, t in weights.items()}
    diffusers = pytest.importorskip("diffusers")
    if names == "current":
        with torch.device("meta"):
            theirs = diffusers.AutoencoderKL.from_config(vae_config({"ddconfig": dd}, 1.0)).state_dict()
        assert {k: t.shape for k, t in found.items()} == {k: t.shape for k, t in theirs.items()}


def test_matrices_become_convolutions():
    """Newer diffusers files keep proj_in and proj_out of transformers as matrices."""
    weights = {
        k.removeprefix(key_maps.PREFIXES["unet"]): t
        for k, t in tiny_model().state_dict().items()
        if k.startswith(key_maps.PREFIXES["unet"])
    }
    converted = key_maps.unet_to_diffusers(weights)
    linear = {
        k: t[:, :, 0, 0] if ".proj_" in k and k.endswith("weight") and t.ndim == 4 else t for k, t in converted.items()
    }
    assert sum(t.ndim == 2 for t in linear.values()) > sum(t.ndim == 2 for t in converted.values())
    assert all(torch.equal(t, weights[k]) for k, t in key_maps.unet_to_compvis(linear).items())


def test_whole_models_and_parts():
    state = tiny_model().state_dict()
    parts = key_maps.compvis_to_diffusers(state)
    back = key_maps.diffusers_to_compvis(parts)
    assert back.keys() == {key for key in state if "." in key}
    assert all(tensor is state[key] or torch.equal(tensor, state[key]) for key, tensor in back.items())
    unet = {
        k.removeprefix(key_maps.PREFIXES["unet"]): t
        for k, t in state.items()
        if k.startswith(key_maps.PREFIXES["unet"])
    }
    alone = key_maps.compvis_to_diffusers(unet)
    assert alone["unet"].keys() == parts["unet"].keys() and not alone["vae"] and not alone["text_encoder"]


def test_text_tower_in_either_layout():
    names = ("embeddings.token_embedding.weight", "encoder.layers.0.mlp.fc1.weight", "final_layer_norm.bias")
    tensors = {name: torch.ones(1) for name in names}
    position_ids = {"embeddings.position_ids": torch.arange(77)}
    others = {"text_projection.weight": torch.ones(1), "logit_scale": torch.ones(1)}
    expected = {"text_model." + name for name in names}
    for layout in ("", "text_model."):
        stored = {layout + key: tensor for key, tensor in (tensors | position_ids).items()}
        assert key_maps.text_tower(stored | others).keys() == expected


@pytest.mark.parametrize(
    ("translate", "key", "said"),
    [
        (key_maps.unet_to_diffusers, "input_blocks.0.0.weight", "output_blocks"),
        (key_maps.unet_to_compvis, "add_embedding.linear_1.weight", "add_embedding"),
    ],
)
def test_what_is_no_unet(translate, key, said):
    with pytest.raises(UserError, match=said):
        translate({key: torch.ones(1)})


def test_attention_without_text_is_refused():
    with torch.device("meta"):
        weights = UNetModel(
            image_size=8, in_channels=4, out_channels=4, model_channels=32, num_res_blocks=1, attention_resolutions=[1],
            channel_mult=[1, 1], num_heads=2,
        ).state_dict()  # fmt: skip
    with pytest.raises(UserError, match="without text"):
        key_maps.unet_to_diffusers(weights)


def test_what_diffusers_cannot_be_configured_for():
    params = dict(
        image_size=8,
        in_channels=4,
        out_channels=4,
        model_channels=32,
        num_res_blocks=1,
        context_dim=8,
        attention_resolutions=[1],
        channel_mult=[1, 2],
        num_heads=2,
    )
    unet_config(params)
    for wrong in ({"channel_mult": [2, 2]}, {"resblock_updown": True}, {"use_scale_shift_norm": True}):
        with pytest.raises(UserError, match=next(iter(wrong))):
            unet_config(params | wrong)
    dd = dict(z_channels=4, resolution=16, in_channels=3, out_ch=3, ch=32, ch_mult=[1, 2], num_res_blocks=1)
    vae_config({"ddconfig": dd}, 1.0)
    for wrong in (
        {"embed_dim": 3, "ddconfig": dd},
        {"ddconfig": dd | {"ch_mult": [2]}},
        {"ddconfig": dd | {"attn_resolutions": [8]}},
    ):
        with pytest.raises(UserError, match="autoencoder"):
            vae_config(wrong, 1.0)


def test_heads_given_by_their_width():
    diffusers = pytest.importorskip("diffusers")
    params = dict(
        image_size=8,
        in_channels=4,
        out_channels=4,
        model_channels=32,
        num_res_blocks=1,
        context_dim=8,
        attention_resolutions=[1, 2],
        channel_mult=[1, 2],
        num_head_channels=16,
    )
    config = unet_config(params)
    theirs = diffusers.UNet2DConditionModel.from_config(config)
    heads = [b.attentions[0].transformer_blocks[0].attn2.heads for b in theirs.down_blocks]
    ours = UNetModel(**params, use_spatial_transformer=True, legacy=False)
    assert heads == [ours.input_blocks[i][1].transformer_blocks[0].attn2.heads for i in (1, 3)]
