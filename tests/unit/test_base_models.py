"""Base models: every kind of file gives the same model; what does not fit ends in one line."""

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from erasure import base_models, key_maps
from erasure.errors import UserError
from tests.tiny import save_tiny_config, tiny_model
from tests.unit.test_checkpoint_files import save_lightning

UNET, TEXT = key_maps.PREFIXES["unet"], key_maps.PREFIXES["text_encoder"]
POSITIONS = TEXT + "text_model.embeddings.position_ids"


@pytest.fixture(scope="module")
def raw():
    """The tiny model's weights as a published checkpoint holds them."""
    state = dict(tiny_model().state_dict())
    return state | {POSITIONS: torch.arange(77)[None]}


@pytest.fixture(scope="module")
def averages(raw):
    """Moving averages that differ from the raw weights, under Lightning's names."""
    unet = {k: t for k, t in raw.items() if k.startswith(UNET)}
    stored = {"model_ema." + k.removeprefix("model.").replace(".", ""): t + 1 for k, t in unet.items()}
    return stored | {
        "model_ema.decay": torch.tensor(0.9999),
        "model_ema.num_updates": torch.tensor(470000, dtype=torch.int32),
    }


@pytest.fixture
def config(tmp_path):
    return save_tiny_config(tmp_path / "tiny.yaml")


def flat_text(state):
    return {key.replace(TEXT + "text_model.", TEXT): tensor for key, tensor in state.items()}


def save_folder(folder, raw, pickled=False, text_layout="text_model."):
    """The model as diffusers stores it, written part by part."""
    for part, tensors in key_maps.compvis_to_diffusers(raw).items():
        (folder / part).mkdir(parents=True)
        stem = "model" if part == "text_encoder" else "diffusion_pytorch_model"
        tensors = {k.replace("text_model.", text_layout): t.contiguous() for k, t in tensors.items()}
        if pickled:
            stem = "pytorch_model" if part == "text_encoder" else stem
            torch.save(tensors, folder / part / f"{stem}.bin")
        else:
            save_file(tensors, folder / part / f"{stem}.safetensors")
    return folder


def without_schedule(raw):
    return {key: tensor for key, tensor in raw.items() if "." in key}


def half(raw):
    return {key: tensor.half() for key, tensor in raw.items()}  # position_ids too, as in pruned files


WRITERS = {
    "lightning": lambda path, raw: save_lightning(path / "sd.ckpt", raw),
    "lightning legacy": lambda path, raw: save_lightning(path / "sd.ckpt", raw, legacy=True),
    "bare": lambda path, raw: torch.save(raw, path / "sd.pt") or path / "sd.pt",
    "safetensors": lambda path, raw: save_file(raw, path / "sd.safetensors") or path / "sd.safetensors",
    "no schedule": lambda path, raw: save_lightning(path / "sd.ckpt", without_schedule(raw)),
    "flat text tower": lambda path, raw: save_lightning(path / "sd.ckpt", flat_text(raw)),
    "diffusers": lambda path, raw: save_folder(path / "sd", raw),
    "diffusers bin": lambda path, raw: save_folder(path / "sd", raw, pickled=True),
    "diffusers flat text": lambda path, raw: save_folder(path / "sd", raw, text_layout=""),
}


@pytest.mark.parametrize("kind", WRITERS)
def test_every_kind_gives_the_same_model(kind, raw, config, tmp_path):
    model, identity = base_models.load(WRITERS[kind](tmp_path, raw), config)
    found = model.state_dict()
    assert found.keys() == raw.keys() - {POSITIONS}
    for key, tensor in found.items():
        assert torch.equal(tensor, raw[key]), key
    assert not model.training
    assert identity.sha256 == unet_hash(raw) and identity.weights == "only" and identity.name == "sd"


def unet_hash(state):
    from erasure.runs import tensors_sha256

    return tensors_sha256({k.removeprefix(UNET): t for k, t in state.items() if k.startswith(UNET)})


def test_half_files(raw, config, tmp_path):
    save_file(half(raw), tmp_path / "half.safetensors")
    model, identity = base_models.load(tmp_path / "half.safetensors", config)
    again, same = base_models.load(tmp_path / "half.safetensors", config, dtype=torch.float16)
    key = UNET + "out.2.weight"
    assert torch.equal(model.state_dict()[key], raw[key].half().float())
    assert again.state_dict()[key].dtype == torch.float16 and again.betas.dtype == torch.float32
    assert identity.sha256 == same.sha256 == unet_hash(half(raw))


def test_raw_or_averaged_weights(raw, averages, config, tmp_path):
    path = save_lightning(tmp_path / "full-ema.ckpt", raw | averages)
    key = UNET + "input_blocks.0.0.weight"
    for weights, said, expected in (("auto", "raw", raw[key]), ("raw", "raw", raw[key]), ("ema", "ema", raw[key] + 1)):
        model, identity = base_models.load(path, config, weights=weights)
        assert torch.equal(model.state_dict()[key], expected) and identity.weights == said
    assert base_models.load(path, config)[1].sha256 != base_models.load(path, config, weights="ema")[1].sha256


def test_averages_that_are_not_there(raw, averages, config, tmp_path):
    """sd-v1-4.ckpt holds the counters of the averages only: its UNet is the averaged one already."""
    counters = {key: averages[key] for key in ("model_ema.decay", "model_ema.num_updates")}
    path = save_lightning(tmp_path / "sd.ckpt", raw | counters)
    assert base_models.load(path, config)[1].weights == "only"
    with pytest.raises(UserError, match="0 of .* load it with the raw weights"):
        base_models.load(path, config, weights="ema")
    with pytest.raises(UserError, match="not one of"):
        base_models.load(path, config, weights="best")


def without(raw, key):
    return {k: t for k, t in raw.items() if k != key}


KEY = UNET + "out.2.weight"
BAD = {
    "wrong shape": (lambda raw: raw | {KEY: torch.zeros(1, 2, 3)}, "size mismatch"),
    "missing": (lambda raw: without(raw, KEY), "missing"),
    "missing text": (lambda raw: {k: t for k, t in raw.items() if not k.startswith(TEXT)}, "missing"),
    "unknown": (lambda raw: raw | {UNET + "extra.weight": torch.zeros(1)}, "unexpected"),
    "no UNet": (lambda raw: {k: t for k, t in raw.items() if not k.startswith(UNET)}, "nothing would be loaded"),
    "other names": (lambda raw: {"x." + k: t for k, t in raw.items()}, "nothing would be loaded"),
    "NaN": (lambda raw: raw | {KEY: torch.full_like(raw[KEY], np.nan)}, "NaN"),
    "only the UNet": (lambda raw: {k.removeprefix(UNET): t for k, t in raw.items() if k.startswith(UNET)}, "missing"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_does_not_fit_ends_in_one_line(name, raw, config, tmp_path):
    change, said = BAD[name]
    path = tmp_path / "bad.safetensors"
    save_file({key: t.clone() for key, t in change(raw).items()}, path)
    with pytest.raises(UserError, match=said) as refused:
        base_models.load(path, config)
    message = str(refused.value)
    assert str(path) in message and "\n" not in message and len(message) < 500


def test_damaged_files_name_themselves(raw, config, tmp_path):
    path = WRITERS["lightning"](tmp_path, raw)
    path.write_bytes(path.read_bytes()[:-3000])
    with pytest.raises(UserError, match="damaged") as refused:
        base_models.load(path, config)
    assert str(path) in str(refused.value)


def test_folders_that_are_not_models(raw, config, tmp_path):
    with pytest.raises(UserError, match="not a diffusers model"):
        base_models.load(tmp_path, config)
    folder = save_folder(tmp_path / "sd", raw)
    (folder / "vae" / "diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises(UserError, match="diffusion_pytorch_model"):
        base_models.load(folder, config)


def test_sharded_and_variant_files(raw, config, tmp_path):
    import json

    folder = save_folder(tmp_path / "sd", raw)
    whole = folder / "unet" / "diffusion_pytorch_model.safetensors"
    tensors = base_models.read_state_dict(folder)
    unet = key_maps.unet_to_diffusers({k.removeprefix(UNET): t for k, t in tensors.items() if k.startswith(UNET)})
    names = sorted(unet)
    index = {}
    for i, part in enumerate((names[::2], names[1::2])):
        save_file({k: unet[k].clone() for k in part}, folder / "unet" / f"part-{i}.safetensors")
        index |= dict.fromkeys(part, f"part-{i}.safetensors")
    whole.unlink()
    whole.with_suffix(".safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    vae = folder / "vae" / "diffusion_pytorch_model.safetensors"
    vae.rename(vae.with_name("diffusion_pytorch_model.fp16.safetensors"))
    assert base_models.load(folder, config)[1].sha256 == unet_hash(raw)


# ---- names and configurations --------------------------------------------------------------------------------------


def test_a_configuration_beside_the_weights_is_taken(raw, tmp_path):
    save_file(raw, tmp_path / "mine.safetensors")
    save_tiny_config(tmp_path / "mine.yaml")
    assert base_models.load(tmp_path / "mine.safetensors")[1].config_path == str(tmp_path / "mine.yaml")


def test_the_configuration_follows_the_width_of_the_text(raw, tmp_path):
    key = UNET + "input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight"
    for width, config in ((768, base_models.SD_CONFIG), (96, base_models.TOY_CONFIG)):
        save_file({key: torch.zeros(8, width)}, tmp_path / "a.safetensors")
        assert base_models.resolve(tmp_path / "a.safetensors")[1] == base_models.find(config)
    for tensors, said in (
        ({key: torch.zeros(8, 1024)}, "1024"),
        ({"a": torch.zeros(1)}, "no UNet with text attention"),
    ):
        save_file(tensors, tmp_path / "a.safetensors")
        with pytest.raises(UserError, match=said):
            base_models.resolve(tmp_path / "a.safetensors")


@pytest.mark.parametrize("text", ("a: [1", "- 1", "model: {params: {}}", "", "\x00"))
def test_bad_configuration(text, raw, tmp_path):
    save_file(raw, tmp_path / "a.safetensors")
    (tmp_path / "bad.yaml").write_text(text)
    with pytest.raises(UserError, match="bad.yaml") as refused:
        base_models.load(tmp_path / "a.safetensors", tmp_path / "bad.yaml")
    assert "\n" not in str(refused.value)


def test_missing_files(tmp_path):
    with pytest.raises(UserError, match="no model at"):
        base_models.resolve("nothing-like-this")
    (tmp_path / "a.pt").touch()
    with pytest.raises(UserError, match="no configuration at"):
        base_models.resolve(tmp_path / "a.pt", "nowhere.yaml")


def test_default_is_stable_diffusion_where_it_is_installed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if not (base_models.ROOT / base_models.SD_CKPT).exists():
        assert base_models.resolve()[1].name == "v1-inference.yaml" and "toy" in str(base_models.resolve()[0])
    path = tmp_path / base_models.SD_CKPT
    path.parent.mkdir(parents=True)
    path.touch()
    assert base_models.resolve()[0].resolve() == path
    assert base_models.resolve("SD-v1-4")[0].resolve() == path
    converted = path.rename(path.with_suffix(".safetensors"))
    assert base_models.resolve()[0].resolve() == base_models.resolve("sd-v1-4")[0].resolve() == converted


def test_the_hash_of_a_large_file_is_remembered(raw, config, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(base_models, "_HASH_CACHE_FROM", 1)
    save_file(raw, tmp_path / "a.safetensors")
    first = base_models.load(tmp_path / "a.safetensors", config)[1]
    assert len(list((tmp_path / "cache" / "concept-erasure").iterdir())) == 1
    monkeypatch.setattr(base_models, "_checked_hash", None)  # would fail if it were called
    assert base_models.load(tmp_path / "a.safetensors", config)[1] == first
    monkeypatch.undo()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(base_models, "_HASH_CACHE_FROM", 1)
    save_file(raw | {KEY: raw[KEY] + 1}, tmp_path / "a.safetensors")
    assert base_models.load(tmp_path / "a.safetensors", config)[1].sha256 != first.sha256


def test_the_embedded_model():
    model, identity = base_models.load("toy")
    assert identity.family == "toy" and base_models.load(base_models.TOY_CKPT)[1].sha256 == identity.sha256
    assert set(identity.to_dict()) == {"name", "path", "config_path", "weights", "sha256", "family"}
    assert all(torch.isfinite(p).all() for p in model.parameters())
