"""Strict loading: what is refused, what is completed, and what the loaded model is made of."""

import copy
import logging
import sys
import types

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf
from safetensors.torch import save_file

from ldm import extras, util
from ldm.loading import CheckpointError, load_model_from_config
from tests.tiny import save_tiny_config, tiny_config, tiny_model

EMA, TEXT = "model_ema.", "cond_stage_model.transformer."


@pytest.fixture(scope="module")
def weights():
    return tiny_model().state_dict()


def config(**params):
    node = tiny_config()
    node["model"]["params"].update(params)
    return node


def same(model, expected, dtype=torch.float32):
    found = model.state_dict()
    assert list(found) == list(expected)
    for key, value in expected.items():
        assert torch.equal(found[key], value.to(dtype).to(found[key])), key


def everything(model):
    return [*model.parameters(), *model.buffers()]


def test_model_equals_the_one_that_was_saved(weights):
    model = load_model_from_config(config(), weights)
    same(model, weights)
    assert not model.training and not any(value.is_meta for value in everything(model))
    reference = tiny_model()
    x, t = torch.randn(1, 4, 8, 8), torch.tensor([500])
    with torch.no_grad():
        context = [m.get_learned_conditioning(["a photo"]) for m in (model, reference)]
        assert torch.equal(*context)
        assert torch.equal(model.apply_model(x, t, context[0]), reference.apply_model(x, t, context[1]))
        assert torch.equal(model.decode_first_stage(x), reference.decode_first_stage(x))
    assert torch.equal(model.lvlb_weights, reference.lvlb_weights) and torch.equal(model.logvar, reference.logvar)


@pytest.mark.parametrize("kind", ("path", "omegaconf", "inner level"))
def test_forms_of_the_configuration(weights, tmp_path, kind):
    node = {
        "path": lambda: save_tiny_config(tmp_path / "tiny.yaml"),
        "omegaconf": lambda: OmegaConf.create(config()),
        "inner level": lambda: config()["model"],
    }[kind]()
    same(load_model_from_config(node, weights), weights)


def lightning_callback(monkeypatch):
    """The class by which Lightning 1.4 keyed the callbacks' state, so that a pickle names it."""
    name = "pytorch_lightning.callbacks.model_checkpoint"
    parts = name.split(".")
    for depth in range(1, len(parts) + 1):
        monkeypatch.setitem(sys.modules, ".".join(parts[:depth]), types.ModuleType(".".join(parts[:depth])))
    sys.modules[name].ModelCheckpoint = type("ModelCheckpoint", (), {"__module__": name})
    return sys.modules[name].ModelCheckpoint


@pytest.mark.parametrize("kind", ("safetensors", "bare", "lightning"))
def test_forms_of_the_file(weights, tmp_path, monkeypatch, kind):
    path = tmp_path / ("model.safetensors" if kind == "safetensors" else "model.ckpt")
    if kind == "safetensors":
        save_file(weights, path)
    else:
        callbacks = {lightning_callback(monkeypatch): {"best_model_score": np.float64(0.5)}}
        torch.save(weights if kind == "bare" else {"epoch": 3, "state_dict": weights, "callbacks": callbacks}, path)
        monkeypatch.undo()  # the reader has no lightning
    for load in (load_model_from_config, util.load_model_from_config, extras.load_model_from_config):
        same(load(config(), path), weights)


class Payload:
    """Runs code when it is unpickled, as any object in a hostile file may."""

    def __reduce__(self):
        return (print, ("code from the file was run",))


def test_pickled_code_is_not_run(weights, tmp_path, capsys):
    torch.save({"state_dict": weights, "callbacks": Payload()}, tmp_path / "bad.ckpt")
    with pytest.raises(CheckpointError, match="would run code pickled in it") as error:
        load_model_from_config(config(), tmp_path / "bad.ckpt")
    assert "\n" not in str(error.value) and "was run" not in capsys.readouterr().out


@pytest.mark.parametrize("name", ("cut.safetensors", "cut.ckpt"))
def test_damaged_files_are_refused_in_one_line(weights, tmp_path, name):
    path = tmp_path / name
    (save_file if name.endswith("safetensors") else torch.save)(weights, path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(CheckpointError, match="not a file of weights") as error:
        load_model_from_config(config(), path)
    assert "\n" not in str(error.value)


@settings(max_examples=12, deadline=None)
@given(st.data())
def test_any_missing_renamed_or_misshapen_weight_is_refused(weights, data):
    schedule = set(tiny_model_schedule(weights))
    key = data.draw(st.sampled_from([key for key in weights if key not in schedule]))
    without = {name: value for name, value in weights.items() if name != key}
    with pytest.raises(CheckpointError, match=f"missing keys: {key}"):
        load_model_from_config(config(), without)
    with pytest.raises(CheckpointError, match=f"unexpected keys: {key}_"):
        load_model_from_config(config(), weights | {f"{key}_": weights[key]})
    with pytest.raises(CheckpointError, match=f"size mismatch for {key}") as error:
        load_model_from_config(config(), weights | {key: weights[key][None]})
    assert "\n" not in str(error.value)


def tiny_model_schedule(weights):
    return [key for key in weights if "." not in key]


def test_a_file_that_changes_nothing_is_refused(weights):
    only_schedule = {key: weights[key] for key in tiny_model_schedule(weights)}
    for nothing in ({}, only_schedule, {EMA + "decay": torch.ones(())}):
        with pytest.raises(CheckpointError, match="changes nothing"):
            load_model_from_config(config(), nothing)


def test_both_layouts_of_the_text_tower(weights):
    flat = {key.replace(f"{TEXT}text_model.", TEXT): value for key, value in weights.items()}
    assert flat.keys() != weights.keys()
    positions = {f"{TEXT}text_model.embeddings.position_ids": torch.arange(77.0)[None].half()}
    for stored in (weights | positions, flat, flat | {f"{TEXT}embeddings.position_ids": torch.arange(77)[None]}):
        same(load_model_from_config(config(), stored), weights)


def test_half_precision_files(weights):
    half = {key: value.half() if value.is_floating_point() else value for key, value in weights.items()}
    model = load_model_from_config(config(), half)
    assert all(p.dtype == torch.float32 for p in model.parameters())
    schedule = tiny_model_schedule(weights)
    same_part(model, {key: value.float() for key, value in half.items() if key not in schedule})
    same_part(model, {key: weights[key] for key in schedule})


def same_part(model, expected):
    found = model.state_dict()
    for key, value in expected.items():
        assert torch.equal(found[key], value), key


@pytest.mark.parametrize("dtype", (torch.float16, torch.bfloat16))
@torch.no_grad()
def test_half_precision_models_run_from_text_to_image(weights, dtype):
    full, half = load_model_from_config(config(), weights), load_model_from_config(config(), weights, dtype=dtype)
    assert all(p.dtype == dtype for p in half.parameters()) and half.betas.dtype == torch.float32
    results = []
    for model, x in ((full, torch.ones(1, 4, 8, 8)), (half, torch.ones(1, 4, 8, 8, dtype=dtype))):
        context = model.get_learned_conditioning(["a church by Van Gogh"])
        eps = model.apply_model(x, torch.tensor([300]), context)
        results.append((context, eps, model.decode_first_stage(x)))
        assert all(value.dtype == x.dtype for value in results[-1])
    for name, expected, found in zip(("text", "noise", "image"), *results, strict=True):
        assert (found.float() - expected).norm() < 0.08 * expected.norm(), name


def test_a_schedule_of_another_configuration_is_reported_once_and_not_taken(weights, caplog):
    halved = {key: value.half() for key, value in weights.items() if key in tiny_model_schedule(weights)}
    with caplog.at_level(logging.WARNING):
        load_model_from_config(config(), weights | halved)
    assert not caplog.records, "half precision is no difference"
    with caplog.at_level(logging.WARNING):
        model = load_model_from_config(config(linear_end=0.02), weights)
    assert len(caplog.records) == 1 and "noise schedule differs" in caplog.records[0].getMessage()
    assert model.betas[-1] == pytest.approx(0.02)
    caplog.clear()
    stored = {key: value for key, value in weights.items() if key not in tiny_model_schedule(weights)}
    same(load_model_from_config(config(), stored), weights)
    assert not caplog.records


def test_ignored_entries_are_listed_on_request(weights, capsys):
    extra = {EMA + "decay": torch.ones(()), "first_stage_model.loss.logvar": torch.ones(())}
    load_model_from_config(config(), weights | extra)
    assert capsys.readouterr().out == ""
    load_model_from_config(config(), weights | extra, verbose=True)
    assert "ignored" in capsys.readouterr().out


# ---- models that keep moving averages ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def averages(weights):
    """Buffers of LitEma, each a tenth of its weight."""
    model = load_model_from_config(config(use_ema=True), weights)
    state = {key: value for key, value in model.state_dict().items() if key.startswith(EMA)}
    return {key: value / 10 if value.ndim else value for key, value in state.items()}


def test_averages_start_from_the_weights_where_the_file_has_none(weights):
    counters = {EMA + "decay": torch.tensor(0.99), EMA + "num_updates": torch.tensor(7, dtype=torch.int32)}
    for stored, updates in ((weights, 0), (weights | counters, 7)):
        model = load_model_from_config(config(use_ema=True), stored)
        assert model.model_ema.num_updates == updates
        assert not any(value.is_meta for value in everything(model))
        for name, shadow in model.model_ema.m_name2s_name.items():
            assert torch.equal(model.model_ema.get_buffer(shadow), model.model.get_parameter(name))
    assert model.model_ema.decay == pytest.approx(0.99)


def test_stored_averages_are_loaded_and_used(weights, averages):
    for dtype in (torch.float32, torch.float16):
        model = load_model_from_config(config(use_ema=True), weights | averages, dtype=dtype)
        assert torch.equal(model.model_ema.decay, averages[EMA + "decay"])
        weight = model.model.diffusion_model.time_embed[0].weight
        raw = weight.detach().clone()
        with model.ema_scope():
            torch.testing.assert_close(weight, (raw.float() / 10).to(dtype), rtol=2e-3, atol=1e-6)
        assert torch.equal(weight, raw)


def test_averages_that_are_there_in_part_are_refused(weights, averages):
    key = next(key for key, value in averages.items() if value.ndim)
    partly = {name: value for name, value in averages.items() if name != key}
    with pytest.raises(CheckpointError, match=f"missing keys: {key}"):
        load_model_from_config(config(use_ema=True), weights | partly)


def test_averages_are_ignored_by_a_model_without_them(weights, averages):
    same(load_model_from_config(config(), weights | averages), weights)


def test_base_models_choose_between_weights_and_averages(weights, averages, tmp_path):
    from erasure import base_models

    path = tmp_path / "full-ema.ckpt"
    torch.save({"state_dict": weights | averages}, path)
    file = save_tiny_config(tmp_path / "tiny.yaml")
    for choice, factor in (("raw", 1), ("auto", 1), ("ema", 10)):
        model, identity = base_models.load(path, file, weights=choice)
        key = "model.diffusion_model.time_embed.0.weight"
        torch.testing.assert_close(model.state_dict()[key], weights[key] / factor)
        assert identity.weights == ("ema" if choice == "ema" else "raw")


# ---- the folder of a training run ----------------------------------------------------------------------------------


def test_training_folder(weights, tmp_path):
    with pytest.raises(FileNotFoundError, match="last.ckpt"):
        extras.load_training_dir(tmp_path)
    (tmp_path / "checkpoints").mkdir()
    torch.save({"state_dict": weights}, tmp_path / "checkpoints" / "last.ckpt")
    with pytest.raises(FileNotFoundError, match="project.yaml"):
        extras.load_training_dir(tmp_path)
    (tmp_path / "configs").mkdir()
    save_tiny_config(tmp_path / "configs" / "2024-project.yaml")
    same(extras.load_training_dir(tmp_path), weights)
    torch.save({}, tmp_path / "last.ckpt")
    with pytest.raises(ValueError, match="several"):
        extras.load_training_dir(tmp_path)


def test_logging_can_be_silenced(caplog):
    with caplog.at_level(logging.INFO), extras.all_logging_disabled():
        logging.getLogger("any").critical("unheard")
    logging.getLogger("any").warning("heard")
    assert [record.getMessage() for record in caplog.records] == ["heard"]


def test_the_callers_configuration_is_left_alone(weights):
    node = config()
    before = copy.deepcopy(node)
    load_model_from_config(node, weights)
    assert node == before
