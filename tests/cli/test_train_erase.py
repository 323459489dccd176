"""train_erase.py and train_moderate.py as users call them: from any directory, in both generations, and with mistakes."""

import json
import shlex

import pytest
import torch

from erasure import base_models, edits, errors
from erasure.checkpoint_files import read_tensors
from erasure.runs import ROOT, read_json
from erasure.text_states import TextStates
from methods.uce import concepts, train_erase, train_moderate
from methods.uce.erase import Erasure, edited_weights
from methods.uce.run import chosen_layers
from tests.cli import process

UCE = ROOT / "methods" / "uce"
TINY = ["--ckpt_path", "tiny.safetensors", "--config_path", "tiny.yaml", "--device", "cpu"]
NUDITY = ["--concepts", "nudity", "--concept_type", "unsafe"]
NAME = "erased-nudity-towards_uncond-preserve_false-sd_1_4-method_replace"
PUBLISHED = {
    "train_erase.py": "--concepts 'Kelly Mckernan, Sarah Anderson' --guided_concept 'art' --concept_type 'art'",
    "train_moderate.py": "--concepts 'violence, nudity, harm' --concept_type 'unsafe'",
}


@pytest.fixture
def place(place, monkeypatch):
    monkeypatch.setattr(concepts, "read_artists", lambda: ("Banksy", "Claude Monet", "Kelly McKernan", "Picasso"))
    return place


def erase(*flags):
    assert train_erase.main([*TINY, *flags]) == 0


def tiny():
    return base_models.load("tiny.safetensors", "tiny.yaml")


def projections(model):
    return {name.removeprefix("model.diffusion_model."): p.data for name, p in edits.context_projections(model).items()}


@pytest.mark.parametrize("script", PUBLISHED)
def test_help_needs_no_torch(script):
    shown = process.help_without_torch(UCE / script)
    for flag in ("--concepts", "--guided_concept", "--preserve_number", "--variant", "--edit_concepts", "--lamb"):
        assert flag in shown


@pytest.mark.parametrize("script", PUBLISHED)
def test_published_commands_run_as_they_are(script, tmp_path):
    """On the embedded model, from another directory; and again they write the same bytes."""
    if not (ROOT / base_models.TOY_CKPT).is_file() or (ROOT / base_models.SD_CKPT).is_file():
        pytest.skip("needs the embedded model, and no Stable Diffusion in its default place")
    flags = shlex.split(PUBLISHED[script])
    (tmp_path / "models").mkdir()
    found = []
    for _ in range(2):
        done = process.run(UCE / script, *flags, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        (edit,) = tmp_path.glob("models/erased-*-sd_1_4-method_replace/edit.safetensors")
        found.append([file.read_bytes() for file in (edit, edit.with_name("settings.json"))])
    assert found[0] == found[-1]
    assert "the embedded model" in done.stdout and "condition number" in done.stdout
    names = flags[1].split(", ")
    assert all(f"'{name}' -> " in done.stdout for name in names)
    assert f"--model_name {shlex.quote(edit.parent.name)} " in done.stdout.splitlines()[-1]
    assert read_json(tmp_path / "info" / f"{edit.parent.name}.txt") == names
    assert edits.read_header(edit)["kind"] == "context_map" and edits.read_header(edit)["concepts"] == names
    kept = () if "moderate" in script else [n for n in concepts.world("toy").kept if n != "kelly mckernan"]
    assert read_json(edit.with_name("settings.json"))["preserved"] == ["", *kept]


def test_the_edit_is_what_the_closed_form_says(place):
    """Applied it gives, bit for bit, the published full file, and both what each layer's own solution is."""
    erase(*NUDITY, "--save_format", "pt")
    model, identity = tiny()
    before = {name: weight.clone() for name, weight in projections(model).items()}
    wanted = edited_weights(Erasure([("nudity", " ")]), TextStates.of(model), before)[0]
    with edits.load_into(model, identity, f"models/{NAME}"):
        after = edits.exporting.diffusers_unet(model)
        for name, weight in projections(model).items():
            torch.testing.assert_close(weight, wanted[name].float(), rtol=1e-5, atol=1e-6)
            assert not torch.equal(weight, before[name])
    written = read_tensors(f"models/{NAME}.pt")
    assert written.keys() == after.keys()
    assert all(torch.equal(written[name], tensor) for name, tensor in after.items())
    assert all(torch.equal(weight, before[name]) for name, weight in projections(model).items())
    assert edits.find_for(f"{NAME}.pt").resolve() == place / "models" / NAME / "edit.safetensors"


@pytest.mark.parametrize(
    ("flags", "count"),
    [(["--no_to_k"], 0.5), (["--layers", "0,1"], 2), (["--technique", "tensor"], 1.0), (["--with_to_k"], None)],
)
def test_what_no_map_says_is_saved_as_weights(place, flags, count):
    erase(*NUDITY, *flags, "--exp_name", "mine")
    edit = edits.read("models/mine/edit.safetensors")
    if count is None:
        assert edit.kind == "context_map"
        return
    model, identity = tiny()
    before = {name: weight.clone() for name, weight in projections(model).items()}
    count = count if isinstance(count, int) else int(count * len(before))
    assert edit.kind == "tensors" and len(edit.tensors) == count
    assert list(edit.tensors) and set(edit.tensors) <= set(chosen_layers(before))
    erasure = Erasure([("nudity", " ")], technique=edit.settings["technique"])
    wanted = edited_weights(erasure, TextStates.of(model), {name: before[name] for name in edit.tensors})[0]
    with edits.apply(model, edit, identity):
        for name, weight in projections(model).items():
            assert torch.equal(weight, wanted[name].float() if name in wanted else before[name])


def test_in_turn(place):
    """As two commands, the second on the result of the first; with tensors, too."""
    erase("--concepts", "nudity, harm", "--concept_type", "unsafe", "--sequential")
    (whole,) = place.glob("models/*-seq/edit.safetensors")
    erase(
        "--concepts", "nudity, harm", "--concept_type", "unsafe", "--sequential", "--layers", "0", "--exp_name", "one"
    )
    for name in ("nudity", "harm"):
        erase("--concepts", name, "--concept_type", "unsafe", "--exp_name", name)
    model, identity = tiny()
    with edits.load_into(model, identity, "models/nudity"), edits.load_into(model, identity, "models/harm", force=True):
        wanted = {name: weight.clone() for name, weight in projections(model).items()}
    with edits.load_into(model, identity, whole):
        for name, weight in projections(model).items():
            torch.testing.assert_close(weight, wanted[name], rtol=1e-4, atol=1e-5)
    (name,) = edits.read("models/one/edit.safetensors").tensors
    torch.testing.assert_close(
        edits.read("models/one/edit.safetensors").tensors[name], wanted[name], rtol=1e-4, atol=1e-5
    )


def test_2025(place, capsys):
    """Its flags, and its file of nothing but the edited tensors under diffusers' names."""
    flags = ["--edit_concepts", "Van Gogh; Picasso", "--guide_concepts", "art", "--concept_type", "art"]
    more = ["--preserve_concepts", "Monet; Rembrandt", "--expand_prompts", "true", "--lamb", "0.1"]
    out = ["--save_dir", "out", "--exp_name", "two", "--save_format", "safetensors"]
    erase("--variant", "2025", *flags, *more, *out)
    assert "--model_name out/two " in capsys.readouterr().out
    written = read_tensors("out/two.safetensors")
    model, identity = tiny()
    assert all(key.endswith(("attn2.to_k.weight", "attn2.to_v.weight")) and "blocks" in key for key in written)
    assert len(written) == len(projections(model)) and "mid_block.attentions.0." in min(written, key=len)
    with edits.load_into(model, identity, "out/two"):
        by_edit = {name: weight.clone() for name, weight in projections(model).items()}
    with edits.load_into(model, identity, "out/two.safetensors"):
        assert all(torch.equal(weight, by_edit[name]) for name, weight in projections(model).items())
    pairs = [("Van Gogh", "art"), ("Picasso", "art")]
    pairs += [(f"{p} {old}", f"{p} {new}") for old, new in pairs for p in concepts.prefixes("art")]
    wanted = edited_weights(
        Erasure(pairs, ["Monet", "Rembrandt"], "2025", lamb=0.1), TextStates.of(model), projections(model)
    )
    for name, weight in wanted[0].items():
        torch.testing.assert_close(by_edit[name], weight.float(), rtol=1e-5, atol=1e-6)
    assert not (place / "info").exists()


def test_artists_are_preserved_and_drawn_by_the_seed(place):
    drawn = set()
    for seed in "0123":
        erase("--concepts", "2artists", "--guided_concepts", "art", "--concept_type", "art", "--seed", seed)
        (info,) = place.glob("info/erased-2artists-*.txt")
        there = read_json(place / "models" / info.stem / "settings.json")
        erased = json.loads(info.read_text())
        world = concepts.world("toy")
        assert set(erased) <= set(world.artists)
        assert sorted([*erased, *there["preserved"]]) == sorted(["", *world.kept])
        drawn.add(tuple(erased))
    assert len(drawn) > 1


def test_flags_without_effect_and_replaced_runs_are_named(place, capsys):
    erase(*NUDITY, "--save_format", "pt")
    erase(*NUDITY, "--save_format", "pt")
    assert "note:" not in capsys.readouterr().out
    erase(*NUDITY, "--erase_scale", "2", "--add_prompts", "--preserve_number", "2")
    out = capsys.readouterr().out
    assert "note: --add_prompts" in out and "note: --preserve_number" in out
    assert f"note: replaces the run of other add_prompts, erase_scale, preserve_number in models/{NAME}" in out
    assert f"note: models/{NAME}.pt is still of that run" in out


def test_a_concept_among_others_may_be_its_own_guide(place, capsys):
    erase("--concepts", "art, nudity", "--guided_concepts", "Art", "--concept_type", "unsafe")
    assert "warning: kept as they are, being their own guide: 'art'" in capsys.readouterr().out


def test_moderate_needs_no_type(place):
    assert train_moderate.main([*TINY, "--concepts", "i2g"]) == 0
    (edit,) = place.glob("models/erased-i2g-*/edit.safetensors")
    header = edits.read_header(edit)
    assert header["settings"]["concept_type"] == "unsafe" and tuple(header["concepts"]) == concepts.PRESETS["i2g"]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--guided_concepts", "a, b"], "2 guides for 1 concepts"),
        (["--guided_concepts", "Nudity"], "nothing to erase: the guide of 'nudity' is the same text"),
        (["--concepts", "a, a", "--guided_concepts", "a", "--sequential"], "nothing to erase: the guide of 'a' is"),
        (["--concepts", "a,,b"], "a concept is empty"),
        (["--concepts", "5artists"], "5 cannot be drawn of 4 artists"),
        (["--concept_type", "art", "--preserve_number", "9"], "9 cannot be drawn of 4 artists"),
        (["--lamb", "-1"], "lamb must be a number that is not negative"),
        (["--lamb", "0", "--variant", "2025"], "raise --lamb"),
        (["--layers", "99"], "--layers 99: the positions here are 0 to"),
        (["--variant", "2025", "--preserve_number", "1"], "--preserve_number is of variant 2023"),
        (["--model_id", "x"], "give one of them"),
        (["--ckpt_path", "nothing.ckpt"], "no model at nothing.ckpt"),
        (["--device", "gpu"], "--device 'gpu'"),
    ],
)
def test_mistakes_end_in_one_line(place, capsys, flags, message):
    """And nothing is written."""
    with pytest.raises(SystemExit) as stopped:
        errors.run(lambda: train_erase.main([*TINY, *NUDITY, *flags]))
    error = capsys.readouterr().err
    assert stopped.value.code == 2
    assert message in error and error.splitlines()[-1].startswith("error: ") and "Traceback" not in error
    assert not any((place / "models").iterdir()) and not (place / "info").exists()


@pytest.mark.parametrize(
    "flags",
    [
        ["--concepts", "x"], [*NUDITY, "--technique", "swap"], [*NUDITY, "--with_to_k", "--no_to_k"],
        [*NUDITY, "--add_prompts", "maybe"], [*NUDITY, "--layers", "first"], [*NUDITY, "--guided", "x"],
        [*NUDITY, "--base", "toy", "--ckpt_path", "x"],
    ],
)  # fmt: skip
def test_unknown_and_contradictory_flags(capsys, flags):
    with pytest.raises(SystemExit) as stopped:
        train_erase.main(flags)
    assert stopped.value.code == 2
    assert "error: " in capsys.readouterr().err
