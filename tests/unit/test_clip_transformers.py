"""The text tower and the embedder against the transformers library, and the embedder's habits."""

import copy
import json

import pytest
import torch
from safetensors.torch import save_file

from ldm.modules.encoders.clip_text import ClipTextConfig, ClipTextTower
from ldm.modules.encoders.modules import ClassEmbedder, FrozenCLIPEmbedder, IdentityEncoder
from ldm.modules.encoders.tokenizer import shared_tokenizer

SIZES = dict(hidden_size=32, intermediate_size=48, num_hidden_layers=3, num_attention_heads=4)


@pytest.fixture(scope="module", params=["quick_gelu", "gelu"])
def reference(request):
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.CLIPTextConfig(
        vocab_size=99, **SIZES, hidden_act=request.param, bos_token_id=97, eos_token_id=98, pad_token_id=98
    )
    model = transformers.CLIPTextModel(config).eval()
    for parameter in model.parameters():  # large weights: every part must matter
        parameter.data.normal_(std=0.3)
    return model, ClipTextConfig(vocab_size=99, **SIZES, hidden_act=request.param)


def reference_weights(model, layout):
    flat = {k.removeprefix("text_model."): v for k, v in model.state_dict().items()}
    return {f"text_model.{k}": v for k, v in flat.items()} if layout == "text_model" else flat


@pytest.mark.parametrize("layout", ["text_model", "flat"])
def test_equals_transformers(reference, layout):
    model, config = reference
    tower = ClipTextTower(config).eval()
    weights = reference_weights(model, layout)
    position_ids = ("text_model." if layout == "text_model" else "") + "embeddings.position_ids"
    tower.load_state_dict({**weights, position_ids: torch.arange(77)[None]})
    ids = torch.randint(0, 97, (3, 77))
    ids[:, 0] = 97
    for row, end in enumerate((1, 20, 76)):
        ids[row, end:] = 98
    with torch.no_grad():
        expected, found = model(input_ids=ids), tower(input_ids=ids)
    torch.testing.assert_close(found.last_hidden_state, expected.last_hidden_state, atol=1e-5, rtol=0)
    torch.testing.assert_close(found.pooler_output, expected.pooler_output, atol=1e-5, rtol=0)
    assert found[0] is found.last_hidden_state


def tiny_embedder():
    torch.manual_seed(1)
    return FrozenCLIPEmbedder(**SIZES)


def test_token_embeddings_can_be_given_instead_of_ids():
    tower = tiny_embedder().transformer
    ids = torch.randint(0, 49000, (2, 9))
    by_embedding = tower(inputs_embeds=tower.get_input_embeddings()(ids))
    torch.testing.assert_close(by_embedding.last_hidden_state, tower(input_ids=ids).last_hidden_state)
    assert by_embedding.pooler_output is None
    with pytest.raises(ValueError, match="input_ids or inputs_embeds"):
        tower()
    with pytest.raises(ValueError, match="78 tokens"):
        tower(input_ids=torch.zeros(1, 78, dtype=torch.long))


def test_embedder_is_frozen_and_pads():
    embedder = tiny_embedder()
    assert not embedder.training and not any(p.requires_grad for p in embedder.parameters())
    out = embedder(["a photo", ""])
    assert out.shape == (2, 77, 32)
    assert torch.equal(out, embedder.encode(["a photo", ""]))
    ids = [[49406, *shared_tokenizer().codes("a photo")] + [49407] * 74, [49406] + [49407] * 76]
    torch.testing.assert_close(out, embedder.transformer(input_ids=torch.tensor(ids)).last_hidden_state)


def test_assigned_device_is_ignored_and_tokenizer_is_assignable():
    embedder = tiny_embedder()
    embedder.device = "cuda:5"
    assert embedder.device == torch.device("cpu")
    assert embedder.tokenizer is shared_tokenizer()
    assert copy.deepcopy(embedder).tokenizer is shared_tokenizer()
    embedder.tokenizer = other = object()
    assert embedder.tokenizer is other


def test_nested_flat_names_load_and_save_with_text_model():
    holder, source = torch.nn.ModuleDict({"cond_stage_model": tiny_embedder()}), tiny_embedder().state_dict()
    flat = {"cond_stage_model." + k.replace("text_model.", ""): v + 1 for k, v in source.items()}
    flat["cond_stage_model.transformer.embeddings.position_ids"] = torch.arange(77)[None]
    assert holder.load_state_dict(flat, strict=False) == ([], [])
    saved = holder.state_dict()
    assert list(saved) == [f"cond_stage_model.{k}" for k in source]
    assert all(torch.equal(saved[f"cond_stage_model.{k}"], v + 1) for k, v in source.items())


def test_meta_construction_has_the_sizes_of_stable_diffusion():
    with torch.device("meta"):
        embedder = FrozenCLIPEmbedder()
    assert embedder.device.type == "meta"
    assert len(embedder.state_dict()) == 196
    assert sum(p.numel() for p in embedder.parameters()) == 123_060_480


def test_fresh_weights_have_the_scale_of_clip():
    embeddings = tiny_embedder().transformer.text_model.embeddings
    assert embeddings.token_embedding.weight.std().item() == pytest.approx(0.02, rel=0.02)
    assert embeddings.position_embedding.weight.std().item() == pytest.approx(0.01, rel=0.1)


def test_version_may_be_a_folder(tmp_path):
    source = tiny_embedder().transformer
    (tmp_path / "config.json").write_text(json.dumps({"vocab_size": 49408, "hidden_act": "quick_gelu", **SIZES}))
    save_file(source.state_dict(), tmp_path / "model.safetensors")
    loaded = FrozenCLIPEmbedder(str(tmp_path)).transformer.state_dict()
    assert all(torch.equal(loaded[k], v) for k, v in source.state_dict().items())


def test_bad_sizes_are_refused():
    with pytest.raises(ValueError, match="not divisible"):
        ClipTextConfig(hidden_size=30, num_attention_heads=4)
    with pytest.raises(ValueError, match="hidden_act"):
        ClipTextConfig(hidden_act="relu6")


def test_small_encoders():
    assert IdentityEncoder().encode(3) == 3
    labels = {"class": torch.tensor([0, 4])}
    assert ClassEmbedder(8, n_classes=5)(labels).shape == (2, 1, 8)


class TestTokenizerCalls:
    """Keyword arguments of the tokenizer, in the way of the transformers library."""

    tokenizer = shared_tokenizer()

    def test_padding_and_mask(self):
        batch = self.tokenizer(["a cat", "a"], padding=True, return_tensors="pt")
        assert batch.input_ids.shape == (2, 4) and torch.equal(batch["input_ids"], batch.input_ids)
        assert batch.attention_mask.tolist() == [[1, 1, 1, 1], [1, 1, 1, 0]]
        assert batch.input_ids[1, -1] == self.tokenizer.pad_token_id
        with pytest.raises(ValueError, match="padding"):
            self.tokenizer(["a cat", "a"], return_tensors="pt")

    def test_single_text_and_overflow(self):
        one = self.tokenizer("one two three four", truncation=True, max_length=4, return_overflowing_tokens=True)
        codes = self.tokenizer.codes("one two three four")
        assert one.input_ids == [49406, *codes[:2], 49407]
        assert one.overflowing_tokens == codes[2:] and one.num_truncated_tokens == 2
        assert self.tokenizer("one", add_special_tokens=False).input_ids == codes[:1]
        assert self.tokenizer(["one"], return_length=True, padding="max_length").length == [77]

    def test_decoding(self):
        ids = self.tokenizer.encode("A  Café, it's 😀")
        assert self.tokenizer.decode(ids, skip_special_tokens=True) == "a café , it 's 😀"
        assert self.tokenizer.batch_decode([ids])[0].startswith("<|startoftext|> a café")
        assert self.tokenizer.convert_tokens_to_ids(self.tokenizer.tokenize("a cat")) == self.tokenizer.codes("a cat")

    def test_padding_later(self):
        rows = [self.tokenizer.encode(t) for t in ("a cat", "a")]
        assert self.tokenizer.pad({"input_ids": rows}, return_tensors="pt").input_ids.shape == (2, 77)
        assert self.tokenizer.pad({"input_ids": rows}, padding="longest").input_ids[1][-1] == 49407
