"""Edits: the file, the way in and out of a model, several at once, whole files of weights, and wrong uses."""

import copy
import gc
import logging
import weakref

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from erasure import base_models, edits, key_maps
from erasure.base_models import BaseIdentity
from erasure.edits import applying
from erasure.errors import UserError
from erasure.runs import ROOT, tensors_sha256
from tests.golden.golden_data import load_json
from tests.tiny import save_tiny_config, tiny_config, tiny_model

UNET, TEXT = key_maps.PREFIXES["unet"], key_maps.PREFIXES["text_encoder"]
KV = "input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight"


@pytest.fixture(scope="module")
def base():
    """(model, its identity, a copy of its weights); every test leaves the model as it was."""
    model = tiny_model()
    weights = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    return model, identity_of(weights), weights


@pytest.fixture(autouse=True)
def restored(base):
    yield
    for applied in reversed(list(applying._stacks.get(base[0], []))):
        applied.remove()
    assert unchanged(base)


def unet_of(weights):
    return {key.removeprefix(UNET): tensor for key, tensor in weights.items() if key.startswith(UNET)}


def identity_of(weights, name="tiny"):
    return BaseIdentity(name, f"{name}.safetensors", "tiny.yaml", "only", tensors_sha256(unet_of(weights)), "toy")


def unchanged(base):
    model, _, weights = base
    return all(torch.equal(tensor, weights[key]) for key, tensor in model.state_dict().items())


def make(base_, part="attn2", concept="Van Gogh", seed=0, **fields):
    """An edit that moves every tensor with `part` in its name by random numbers."""
    generator = torch.Generator().manual_seed(seed)
    unet = unet_of(base_[2])
    tensors = {k: t + torch.randn(t.shape, generator=generator) for k, t in unet.items() if part in k}
    settings = {"lr": 1e-5, "iterations": 3, "prompt": "naïve", "erase_from": None}
    return edits.Edit(
        **{
            "method": "esd",
            "concepts": [concept],
            "settings": settings,
            "base": base_[1].to_dict(),
            "tensors": tensors,
            **fields,
        }
    )


def in_model(base, edit):
    state = base[0].state_dict()
    return all(torch.equal(state[UNET + key], tensor) for key, tensor in edit.tensors.items())


# ---- the file ------------------------------------------------------------------------------------------------------


def test_file_round_trip_and_header(base, tmp_path):
    edit, path = make(base), tmp_path / "run" / "edit.safetensors"
    edits.save(edit, path)
    found = edits.read(path)
    for name in ("method", "concepts", "settings", "base", "kind"):
        assert getattr(found, name) == getattr(edit, name)
    assert found.tensors.keys() == edit.tensors.keys() and "torch" in found.versions
    assert all(torch.equal(tensor, edit.tensors[key]) for key, tensor in found.tensors.items())
    assert edits.is_edit(path)
    weights = sum(tensor.nbytes for tensor in edit.tensors.values())
    assert path.stat().st_size < weights + 10_000 + 200 * len(edit.tensors)


def test_header_is_read_without_the_tensors(base, tmp_path):
    path = tmp_path / "edit.safetensors"
    edits.save(make(base), path)
    with safe_open(path, "pt") as file:
        assert file.metadata()["format"] == "pt"
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    path.write_bytes(content[: 8 + length] + bytes(len(content) - 8 - length))  # tensors gone
    header = edits.read_header(path)
    assert header["concepts"] == ["Van Gogh"] and header["base"]["sha256"] == base[1].sha256


def test_is_edit_never_raises(base, tmp_path):
    save_file({"a": torch.ones(1)}, tmp_path / "plain.safetensors")
    (tmp_path / "broken.safetensors").write_bytes(b"hello")
    (tmp_path / "empty.pt").touch()
    torch.save({"a": torch.ones(1)}, tmp_path / "a.pt")
    for name in ("plain.safetensors", "broken.safetensors", "empty.pt", "a.pt", "none.pt", "."):
        assert not edits.is_edit(tmp_path / name)


def test_files_that_cannot_be_read(base, tmp_path):
    save_file({"a": torch.ones(1)}, tmp_path / "plain.safetensors")
    with pytest.raises(UserError, match="not an edit"):
        edits.read(tmp_path / "plain.safetensors")
    with pytest.raises(UserError, match="no such file"):
        edits.read(tmp_path / "none.safetensors")
    path = tmp_path / "edit.safetensors"
    edits.save(make(base), path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(UserError, match="damaged"):
        edits.read(path)
    save_file({"a": torch.ones(1)}, path, {"erasure-edit": "1", "method": "esd"})
    with pytest.raises(UserError, match="incomplete"):
        edits.read(path)
    save_file({"a": torch.ones(1)}, path, {"erasure-edit": "2"})
    with pytest.raises(UserError, match="format 2"):
        edits.read(path)


@pytest.mark.parametrize("value", (float("nan"), float("inf")))
def test_diverged_edits_are_not_written(value, base, tmp_path):
    edit = make(base)
    edit.tensors[KV][0, 0] = value
    with pytest.raises(UserError, match="NaN"):
        edits.save(edit, tmp_path / "edit.safetensors")
    edit.tensors.clear()
    with pytest.raises(UserError, match="empty"):
        edits.save(edit, tmp_path / "edit.safetensors")
    with pytest.raises(UserError, match="safetensors"):
        edits.save(make(base), tmp_path / "edit.pt")
    assert not list(tmp_path.iterdir())


# ---- in and out ----------------------------------------------------------------------------------------------------


def test_apply_and_remove(base):
    edit = make(base)
    applied = edits.apply(base[0], edit, base[1])
    assert in_model(base, edit) and set(applied.matched) == set(edit.tensors) and applied.missing == []
    others = {k: t for k, t in base[0].state_dict().items() if k.removeprefix(UNET) not in edit.tensors}
    assert all(torch.equal(tensor, base[2][key]) for key, tensor in others.items())
    applied.remove()
    assert unchanged(base)
    applied.remove()  # does nothing
    assert unchanged(base)


def test_context_manager_restores_after_an_error(base):
    with pytest.raises(ZeroDivisionError), edits.apply(base[0], make(base), base[1]):
        assert not unchanged(base)
        raise ZeroDivisionError
    assert unchanged(base)


def test_training_on_after_apply_does_not_reach_the_base(base):
    with edits.apply(base[0], make(base), base[1]), torch.no_grad():
        for parameter in base[0].model.parameters():
            if parameter.ndim == 2 and parameter.shape[1] == 32:  # the text's width: attn2.to_k and to_v
                parameter.add_(1)
    assert unchanged(base)


def test_edits_and_model_share_no_memory(base):
    edit = make(base)
    with edits.apply(base[0], edit, base[1]):
        edit.tensors[KV].zero_()
        assert base[0].state_dict()[UNET + KV].any()


def test_another_precision_and_a_cast_in_between(base):
    model = copy.deepcopy(base[0]).half()
    half = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    edit = make(base)
    with edits.apply(model, edit, base[1]):
        assert torch.equal(model.state_dict()[UNET + KV], edit.tensors[KV].half())
        model.float()
    assert all(torch.equal(t, half[key].float()) for key, t in model.state_dict().items() if key.startswith(UNET))


def test_memory_layout_stays_the_models(base):
    model = copy.deepcopy(base[0]).to(memory_format=torch.channels_last)
    strides = {key: tensor.stride() for key, tensor in model.state_dict().items()}
    with edits.apply(model, make(base, "out."), base[1]):
        assert {key: tensor.stride() for key, tensor in model.state_dict().items()} == strides


def test_a_model_with_edits_is_freed(base):
    model = copy.deepcopy(base[0])
    edits.apply(model, make(base), base[1])
    gone = weakref.ref(model)
    del model
    gc.collect()
    assert gone() is None


# ---- several -------------------------------------------------------------------------------------------------------


def test_disjoint_edits_stack_and_compose(base, tmp_path):
    first, second = make(base, "attn2"), make(base, "attn1", "golf ball", seed=1, method="uce")
    with edits.apply(base[0], first, base[1]), edits.apply(base[0], second, base[1]):
        assert in_model(base, first) and in_model(base, second)
    assert unchanged(base)
    both = edits.compose([first, second])
    edits.save(both, tmp_path / "both.safetensors")
    both = edits.read(tmp_path / "both.safetensors")
    assert both.method == "esd+uce" and both.concepts == ["Van Gogh", "golf ball"]
    with edits.apply(base[0], both, base[1]):
        assert in_model(base, first) and in_model(base, second)


def test_compose_refuses_what_has_no_exact_sum(base):
    first, second = make(base), make(base, seed=1)
    other = make(base, "attn1", base={"sha256": "0" * 64})
    for several, said in (([first, second], "changes too"), ([first, other], "another base"), ([], "no edits")):
        with pytest.raises(UserError, match=said):
            edits.compose(several)


def test_overlapping_edits_add_their_changes(base, caplog):
    first, second = make(base), make(base, seed=1)
    with caplog.at_level(logging.WARNING), edits.apply(base[0], first, base[1]), edits.apply(base[0], second, base[1]):
        expected = first.tensors[KV] + second.tensors[KV] - base[2][UNET + KV]
        assert torch.allclose(base[0].state_dict()[UNET + KV], expected, atol=1e-5)
    assert "their changes are added" in caplog.text
    assert unchanged(base)


def test_a_forced_edit_says_that_it_replaces(base, caplog):
    second = make(base, seed=1, base={"sha256": "0" * 64})
    with edits.apply(base[0], make(base), base[1]), edits.apply(base[0], second, base[1], force=True):
        assert in_model(base, second)
    assert f"replaces {len(second.tensors)} tensors" in caplog.text


def test_an_edit_made_on_top_of_another(base):
    """Its base is the edited model: it fits while the first one is applied, and replaces what it changes."""
    first = make(base)
    with edits.apply(base[0], first, base[1]):
        second = make(base, seed=1, base=identity_of(base[0].state_dict(), "edited").to_dict())
        with edits.apply(base[0], second, base[1]):
            assert in_model(base, second)
        assert in_model(base, first)
    with pytest.raises(UserError, match="edited"):
        edits.apply(base[0], second, base[1])


def test_removing_out_of_order(base):
    first = edits.apply(base[0], make(base), base[1])
    second = edits.apply(base[0], make(base, "attn1", "golf ball"), base[1])
    with pytest.raises(UserError, match="Van Gogh cannot be removed before .* golf ball"):
        first.remove()
    second.remove()
    first.remove()


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.tuples(st.sampled_from(("attn1", "attn2", "out.", "to_k", "time_embed", "norm")), st.integers(0, 9)),
        min_size=1,
        max_size=4,
    )
)
def test_any_stack_comes_off_bit_for_bit(base, steps):
    applied = []
    for part, seed in dict.fromkeys(steps):
        before = {key: tensor.clone() for key, tensor in base[0].state_dict().items()}
        applied.append((edits.apply(base[0], make(base, part, seed=seed), base[1]), before))
    for edit, before in reversed(applied):
        edit.remove()
        assert all(torch.equal(tensor, before[key]) for key, tensor in base[0].state_dict().items())


# ---- wrong uses ----------------------------------------------------------------------------------------------------


def test_another_base(base):
    other = identity_of({key: tensor + 1 for key, tensor in base[2].items()}, "other")
    with pytest.raises(UserError, match="made for tiny .* not for other .* force"):
        edits.apply(base[0], make(base), other)
    with pytest.raises(UserError, match="unknown base"):
        edits.apply(base[0], make(base, base={}), base[1])
    assert unchanged(base)
    for arguments in ((other, True), (None, False)):
        with edits.apply(base[0], make(base), *arguments):
            assert in_model(base, make(base))


def test_the_same_edit_twice(base, tmp_path):
    edit = make(base)
    edits.save(edit, tmp_path / "edit.safetensors")
    with edits.apply(base[0], edit, base[1]):
        for again in (edit, edits.read(tmp_path / "edit.safetensors")):
            with pytest.raises(UserError, match="in the model already"):
                edits.apply(base[0], again, base[1])
        assert in_model(base, edit)


def test_unknown_names_and_shapes(base):
    known = make(base)
    stranger = make(base, tensors=known.tensors | {"input_blocks.99.weight": torch.ones(1)})
    with pytest.raises(UserError, match="does not: input_blocks.99.weight"):
        edits.apply(base[0], stranger, base[1])
    assert unchanged(base)
    with edits.apply(base[0], stranger, base[1], force=True) as applied:
        assert applied.missing == ["input_blocks.99.weight"] and set(applied.matched) == set(known.tensors)
    with pytest.raises(UserError, match="another model: .* is \\[3, 5\\]"):
        edits.apply(base[0], make(base, tensors=known.tensors | {KV: torch.ones(3, 5)}), base[1])
    for tensors in ({"x": torch.ones(1)}, {UNET + KV: known.tensors[KV]}):
        with pytest.raises(UserError, match="changes nothing"):
            edits.apply(base[0], make(base, tensors=tensors), base[1])


def test_nan_nothing_and_unknown_kinds(base):
    diverged = make(base)
    diverged.tensors[KV] = diverged.tensors[KV] * float("nan")
    with pytest.raises(UserError, match="NaN"):
        edits.apply(base[0], diverged, base[1])
    with pytest.raises(UserError, match="changes nothing: its weights are"):
        edits.apply(base[0], make(base, tensors=unet_of(base[2])), base[1])
    with pytest.raises(UserError, match="'gates'"):
        edits.apply(base[0], make(base, kind="gates"), base[1])
    assert unchanged(base)


def test_a_method_adds_its_own_kind(base, tmp_path, monkeypatch):
    """A map shared by all keys and values, as a later method may have it; nothing else has to know."""
    monkeypatch.setattr(applying, "KINDS", dict(applying.KINDS))

    @edits.register_kind("shared map")
    def attach(model, edit, stack):
        targets = {k: p for k, p in model.named_parameters() if k.endswith("attn2.to_k.weight")}
        values = {k: p.detach() @ edit.tensors["map"] for k, p in targets.items()}
        attached = edits.replace_weights(targets, values, edit.label())
        attached.matched = ["map"]
        return attached

    edits.save(make(base, tensors={"map": 2 * torch.eye(32)}, kind="shared map"), tmp_path / "edit.safetensors")
    with edits.load_into(base[0], base[1], tmp_path / "edit.safetensors"):
        assert torch.equal(base[0].state_dict()[UNET + KV], 2 * base[2][UNET + KV])
    assert unchanged(base)


# ---- whole files of weights ----------------------------------------------------------------------------------------


def diffusers_names(base):
    return key_maps.unet_keys_map(unet_of(base[2]))


def part_of(mapping, edit):
    return {mapping[key]: tensor for key, tensor in edit.tensors.items()}


def edited(base, edit):
    return {**base[2], **{UNET + key: tensor for key, tensor in edit.tensors.items()}}


FILES = {
    "compvis.safetensors": edited,
    "compvis.pt": edited,
    "lightning.ckpt": lambda base, edit: {"state_dict": edited(base, edit), "epoch": 1},
    "unet.safetensors": lambda base, edit: unet_of(edited(base, edit)),
    "diffusers.pt": lambda base, edit: key_maps.unet_to_diffusers(unet_of(edited(base, edit))),
    "diffusers.safetensors": lambda base, edit: key_maps.unet_to_diffusers(unet_of(edited(base, edit))),
    "part.safetensors": lambda base, edit: dict(edit.tensors),
    "part-prefixed.pt": lambda base, edit: {UNET + key: t for key, t in edit.tensors.items()},
    "part-diffusers.safetensors": lambda base, edit: part_of(diffusers_names(base), edit),
    "flat-text.pt": lambda base, edit: {
        k.replace(TEXT + "text_model.", TEXT): t for k, t in edited(base, edit).items()
    },
    "positions.pt": lambda base, edit: (
        edited(base, edit) | {TEXT + "text_model.embeddings.position_ids": torch.arange(77)}
    ),
    "averages.pt": lambda base, edit: edited(base, edit) | {"model_ema.decay": torch.tensor(0.9)},
}


@pytest.mark.parametrize("name", FILES)
def test_load_into(name, base, tmp_path):
    edit = make(base)
    content = FILES[name](base, edit)
    if name.endswith(".safetensors"):
        save_file({key: tensor.contiguous() for key, tensor in content.items()}, tmp_path / name)
    else:
        torch.save(content, tmp_path / name)
    with edits.load_into(base[0], base[1], tmp_path / name) as applied:
        assert in_model(base, edit) and applied.missing == []
        assert {UNET + key for key in edit.tensors} <= set(applied.matched)
    assert unchanged(base)


def test_load_into_reaches_the_text_encoder_and_the_first_stage(base, tmp_path):
    changed = {k: t + 1 for k, t in base[2].items() if k.startswith((TEXT, "first_stage_model."))}
    save_file(changed, tmp_path / "rest.safetensors")
    with edits.load_into(base[0], base[1], tmp_path / "rest.safetensors"):
        assert all(torch.equal(base[0].state_dict()[key], tensor) for key, tensor in changed.items())
    assert unchanged(base)


def test_load_into_refuses(base, tmp_path):
    cases = {
        "changes nothing: its weights": base[2],
        "none of its 1 tensors": {"x": torch.ones(1)},
        "another model": {UNET + KV: torch.ones(2, 2)},
        "tensors that the model does not": {UNET + KV: torch.ones_like(base[2][UNET + KV]), UNET + "x": torch.ones(1)},
        "NaN": {KV: torch.full_like(base[2][UNET + KV], float("nan"))},
    }
    path = tmp_path / "bad.safetensors"
    for said, tensors in cases.items():
        save_file(tensors, path)
        with pytest.raises(UserError, match=said) as refused:
            edits.load_into(base[0], base[1], path)
        assert str(path) in str(refused.value) and "\n" not in str(refused.value)
    path.write_bytes(b"")
    for bad in (path, tmp_path / "none.pt", tmp_path):
        with pytest.raises(UserError):
            edits.load_into(base[0], base[1], bad)
    edits.save(make(base, base={"sha256": "0" * 64, "name": "sd-v1-4"}), path)
    with pytest.raises(UserError, match="made for sd-v1-4"):
        edits.load_into(base[0], base[1], path)
    with edits.load_into(base[0], base[1], path, force=True):
        assert in_model(base, make(base))


# ---- export --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", (".safetensors", ".pt"))
def test_export_and_load_again(suffix, base, tmp_path):
    model, identity, weights = base
    config = save_tiny_config(tmp_path / "tiny.yaml")
    edit = make(base)
    with edits.apply(model, edit, identity):
        edits.export_compvis(model, tmp_path / f"compvis{suffix}")
        edits.export_diffusers(model, tmp_path / f"diffusers{suffix}")
    again, found = base_models.load(tmp_path / f"compvis{suffix}", config)
    expected = edited(base, edit)
    assert all(torch.equal(tensor, expected[key]) for key, tensor in again.state_dict().items())
    assert found.sha256 == identity_of(expected).sha256
    path = tmp_path / f"diffusers{suffix}"
    stored = load_file(path) if suffix == ".safetensors" else torch.load(path, weights_only=True)
    assert set(stored) == set(diffusers_names(base).values())
    with edits.load_into(model, identity, path):
        assert in_model(base, edit)
    assert not [file for file in tmp_path.iterdir() if "tmp" in file.suffixes]


def test_export_of_a_view_holds_only_the_view(base, tmp_path):
    edits.write_weights(tmp_path / "a.pt", {"a": torch.zeros(1000, 1000)[0]})
    assert (tmp_path / "a.pt").stat().st_size < 20_000
    with pytest.raises(UserError, match="written as"):
        edits.export_compvis(base[0], tmp_path / "a.txt")


def test_exported_names_are_those_of_published_files():
    """The catalogue's groups, shapes and types, in its order, from a full-size model without memory."""
    from omegaconf import OmegaConf

    from ldm.util import instantiate_from_config

    catalogue = load_json("ldm/sd_v1_keys")["keys"]
    groups = ("schedule", "unet", "vae", "text_encoder")
    expected = {k: (shape, dtype) for k, (shape, dtype, group) in catalogue.items() if group in groups}
    config = OmegaConf.load(ROOT / base_models.SD_CONFIG)
    with torch.device("meta"):
        model = instantiate_from_config(config.model)
    exported = edits.compvis_state_dict(model)
    assert {k: (list(t.shape), str(t.dtype).removeprefix("torch.")) for k, t in exported.items()} == expected
    assert list(exported) == list(expected)


def test_the_tiny_models_names_are_of_the_same_kind(base):
    assert TEXT + "text_model.embeddings.position_ids" in edits.compvis_state_dict(base[0])
    assert tiny_config()["model"]["params"]["use_ema"] is False


# ---- where results lie ---------------------------------------------------------------------------------------------

RUN = "compvis-word_VanGogh-method_xattn-sg_3-ng_1-iter_1000-lr_1e-05"
TWIN = RUN.replace("compvis", "diffusers")


def test_find_for(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in (RUN, TWIN, "", " ", "toy", "SD-v1-4"):
        assert edits.find_for(name) is None
    folder = tmp_path / "models" / RUN
    folder.mkdir(parents=True)
    assert edits.find_for(RUN) is None
    for file in (f"{TWIN}.pt", f"{TWIN}.safetensors", f"{RUN}.pt", f"{RUN}.safetensors", "edit.safetensors"):
        (folder / file).touch()  # from the last choice to the first
        for name in (RUN, folder, f"models/{RUN}", f"models/{RUN}/"):
            assert edits.find_for(name).resolve() == folder / file
    assert edits.find_for(TWIN).name == "edit.safetensors"
    (folder / "edit.safetensors").unlink()
    assert edits.find_for(TWIN).name == f"{TWIN}.safetensors"
    assert edits.find_for(folder / f"{RUN}.pt") == folder / f"{RUN}.pt"


def test_find_for_looks_in_the_working_directory_first(tmp_path, monkeypatch):
    here, there = tmp_path / "here", tmp_path / "there"
    monkeypatch.setattr("erasure.edits.files.ROOT", there)
    here.mkdir()
    monkeypatch.chdir(here)
    for root in (there, here):
        (root / "models" / RUN).mkdir(parents=True)
        (root / "models" / RUN / "edit.safetensors").touch()
        assert edits.find_for(RUN).resolve() == root / "models" / RUN / "edit.safetensors"
