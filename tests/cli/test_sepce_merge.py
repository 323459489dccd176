"""Merge_model.py and generate-images-merge.py as users call them."""

import functools
import itertools
import os
import shutil

import pytest
import torch

from erasure import base_models, edits
from erasure.edits import Part, context_projections
from erasure.errors import UserError
from erasure.runs import ROOT, read_json
from methods.sepce import Merge_model
from tests.cli import generation_place as place_
from tests.cli import process
from tests.cli.generation_place import files, pictures, refused
from tests.cli.process import run
from tests.tiny import save_tiny_config, tiny_model

SCRIPT = ROOT / "methods" / "sepce" / "Merge_model.py"
UNET = "model.diffusion_model."
TINY = ["--config_path", "tiny.yaml"]
CONCEPTS = ("VanGogh", "Cezanne", "Picasso")


@functools.cache
def original():
    return tiny_model().model.diffusion_model.state_dict()


@functools.cache
def moved(seed):
    """UNet weights with every cross-attention, and one weight besides, moved by random numbers."""
    generator, result = torch.Generator().manual_seed(seed), {}
    for name, tensor in original().items():
        shift = 0.1 * torch.randn(tensor.shape, generator=generator)
        result[name] = tensor + shift if "attn2" in name or name == "out.2.bias" else tensor
    return result


def part(model, seed, concept, **facts):
    generator = torch.Generator().manual_seed(seed)
    basis = torch.linalg.qr(torch.randn(32, 32, generator=generator, dtype=torch.float64))[0][:6]
    w = {
        name.removeprefix(UNET): torch.randn(len(weight), 6, generator=generator)
        for name, weight in context_projections(model).items()
    }
    return Part(concept, basis, w, 0.1, ["", *(c for c in CONCEPTS if c != concept)][:3], facts)


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    """Four models as the published script expects them, the same as an edit and whole, and three separable edits."""
    folder = tmp_path_factory.mktemp("merge")
    model = tiny_model()
    edits.export_compvis(model, folder / "base.safetensors")
    save_tiny_config(folder / "tiny.yaml")
    (folder / "prompts.csv").write_text(place_.CSV, encoding="utf-8")
    model, identity = base_models.load(folder / "base.safetensors", folder / "tiny.yaml")
    edits.export_diffusers(model, folder / "models/model0/model0.pt")
    for n in (1, 2, 3):
        new = {name: t for name, t in moved(n).items() if not torch.equal(t, original()[name])}
        edit = edits.Edit("cie", [CONCEPTS[n - 1]], {}, identity.to_dict(), new)
        edits.save(edit, folder / f"models/run{n}/edit.safetensors")
        with edits.apply(model, edit):
            edits.export_diffusers(model, folder / f"models/model{n}/model{n}.pt")
            edits.export_compvis(model, folder / f"models/whole{n}/whole{n}.safetensors")
        own = part(model, n, CONCEPTS[n - 1], stopped=n != 2, steps=20 + n)
        edits.save(edits.separable([own], identity.to_dict()), folder / f"models/sep{n}/edit.safetensors")
    return folder


@pytest.fixture
def place(filled, tmp_path, monkeypatch):
    shutil.copytree(filled, tmp_path, dirs_exist_ok=True, copy_function=os.link)  # all are replaced, none is written to
    monkeypatch.chdir(tmp_path)
    return tmp_path


def expected(selection, first="attn2"):
    """The published formula on the tiny models, float64."""
    result = {}
    for name, weight in original().items():
        result[name] = weight.double()
        for n in selection:
            keys = ("attn2",) if n == 1 and first == "attn2" else ("attn2.to_k", "attn2.to_v")
            if any(key in name for key in keys):
                result[name] = result[name] + moved(n)[name].double() - weight.double()
    return result


def assert_weights(found, wanted):
    assert found.keys() == wanted.keys()
    for name, weight in wanted.items():
        torch.testing.assert_close(found[name].double(), weight, rtol=0, atol=1e-6)


def unet_of(path):
    return {
        name.removeprefix(UNET): t for name, t in base_models.read_state_dict(path).items() if name.startswith(UNET)
    }


def unet_with(*names, cwd="."):
    """The tiny UNet with edits in it, as generate-images puts them there."""
    model, identity = base_models.load(f"{cwd}/base.safetensors", f"{cwd}/tiny.yaml")
    for name in names:
        edits.load_into(model, identity, edits.find_for(name))
    return {name: t.clone() for name, t in model.model.diffusion_model.state_dict().items()}


# ---- Merge_model.py ------------------------------------------------------------------------------------------------


def test_help_needs_no_torch():
    shown = process.help_without_torch(SCRIPT)
    for flag in ("--pt_path", "--pt_path3", "--models", "--keys", "--edits", "--compose", "--restore", "--out"):
        assert flag in shown


def test_the_published_command(place):
    """UNets under diffusers' names, all selections of two or more, whole files."""
    done = run(SCRIPT, *TINY, "--diffusers_config_path", "x.json", cwd=place)
    assert done.returncode == 0, done.stderr
    for selection in [c for size in (2, 3) for c in itertools.combinations((1, 2, 3), size)]:
        name = "Sep_Merge" + "".join(map(str, selection))
        folder = place / "models" / name
        assert set(files(folder)) == {"settings.json", f"{name}.pt"}
        assert any(key.startswith("down_blocks.") for key in torch.load(folder / f"{name}.pt", weights_only=True))
        assert_weights(unet_of(folder / f"{name}.pt"), expected(selection))
    assert_weights(unet_with("Sep_Merge123"), expected((1, 2, 3)))
    assert "generate-images.py --model_name Sep_Merge123 --prompts_path" in done.stdout
    before = files(place / "models")
    assert run(SCRIPT, *TINY, cwd=place).returncode == 0 and files(place / "models") == before


def test_models_in_every_form(place, capsys):
    for out, models in (
        ("edits", ("run1", "run2", "run3")),
        ("whole", ("whole1", "models/whole2", "models/whole3/whole3.safetensors")),
        ("mixed", ("run1", "models/model2/model2.pt", "whole3")),
    ):
        assert Merge_model.main([*TINY, "--base", "base.safetensors", "--models", *models, "--out", out]) == 0
        assert_weights(unet_with(out), expected((1, 2, 3), first="kv"))
        assert set(files(place / "models" / out)) == {"edit.safetensors", "settings.json"}
        saved = read_json(place / "models" / out / "settings.json")
        assert [m["model"] for m in saved["settings"]["models"]] == list(models) and saved["method"] == "merge"
    assert edits.read(place / "models/edits/edit.safetensors").concepts == list(CONCEPTS)
    assert "generate-images.py --model_name mixed" in capsys.readouterr().out


def test_keys_and_whole_files(place):
    flags = [
        "--base",
        "base.safetensors",
        "--models",
        "run1",
        "run2",
        "--keys",
        "attn2",
        "--save_format",
        "safetensors",
    ]
    assert Merge_model.main([*TINY, *flags, "--out", "all", "--save_path", "else/where"]) == 0
    folder = place / "else/where/all"
    assert {"all.safetensors", "compvis-all.safetensors"} < set(files(folder))
    found = unet_of(folder / "all.safetensors")
    model, _ = base_models.load(folder / "compvis-all.safetensors", "tiny.yaml")
    one, two, base = moved(1), moved(2), original()
    wanted = {n: w.double() + ((one[n] - w + two[n] - w).double() if "attn2" in n else 0) for n, w in base.items()}
    assert_weights(found, wanted)
    assert_weights(model.model.diffusion_model.state_dict(), wanted)


def test_parts_are_listed_chosen_and_restored(place, capsys):
    runs = ["--edits", "sep1", "sep2", "models/sep3"]
    assert Merge_model.main(runs) == 0
    listed = capsys.readouterr().out
    assert "2  Cezanne: 6 directions, 22 steps\n     its training ended before its rule was met" in listed
    assert listed.count("ended before its rule") == 1 and "not hidden" not in listed
    for flags, kept in (
        (["--compose", "1,3"], ("sep1", "sep3")),
        (["--restore", "cezanne"], ("sep1", "sep3")),
        (["--restore", "VanGogh,Picasso"], ("sep2",)),
        ([], ("sep1", "sep2", "sep3")),
    ):
        assert Merge_model.main([*runs, *flags, "--out", "chosen", "--force"]) == 0
        assert Merge_model.main(["--edits", *kept, "--out", "direct", "--force"]) == 0
        assert files(place / "models/chosen") == files(place / "models/direct")
        found = unet_with("chosen")
        for name, weight in unet_with(*kept).items():
            torch.testing.assert_close(found[name], weight, rtol=0, atol=1e-6)
    again = ["--edits", "chosen", "--restore", "Picasso", "--out", "again", "--save_format", "pt", *TINY]
    assert Merge_model.main(again) == 0
    assert_weights(unet_of(place / "models/again/again.pt"), {n: t.double() for n, t in unet_with("again").items()})


def test_who_is_not_hidden_is_said(place, capsys):
    model, identity = base_models.load("base.safetensors", "tiny.yaml")
    edits.save(edits.separable([part(model, 7, "Monet")], identity.to_dict()), place / "models/monet/edit.safetensors")
    assert Merge_model.main(["--edits", "sep1", "monet"]) == 0
    assert "1  VanGogh: 6 directions, 21 steps\n     not hidden from 'Monet'" in capsys.readouterr().out


@pytest.mark.parametrize("flags, words", [
    (["--models", "run1"], "--out"),
    (["--models", "run1", "--edits", "sep1", "--out", "x"], "use one"),
    (["--pt_path1", "a.pt", "--models", "run1", "--out", "x"], "use one"),
    (["--compose", "1"], "parts of --edits"),
    (["--edits", "sep1", "--keys", "kv"], "--keys"),
    (["--edits", "sep1", "sep2", "--compose", "1"], "--out"),
    (["--edits", "sep1", "sep2", "--compose", "1,3", "--out", "x"], "--compose '1,3'.* 1 to 2"),
    (["--edits", "sep1", "sep2", "--compose", "", "--out", "x"], "--compose ''"),
    (["--edits", "sep1", "--restore", "Monet", "--out", "x"], "no part of 'Monet'"),
    (["--edits", "sep1", "--restore", "VanGogh", "--out", "x"], "no part is left"),
    (["--edits", "sep1", "sep1"], "same concept: VanGogh"),
    (["--edits", "run1"], "no parts"),
    (["--edits", "whole1"], "--models merges those"),
    (["--edits", "sep1", "--out", "run1"], "models/run1 holds another model"),
    (["--models", "nothing", "--out", "x"], "no model 'nothing'"),
    (["--base", "nothing", "--models", "run1", "--out", "x"], "no model 'nothing'"),
    (["--base", "models/model1/model1.pt", "--models", "run2", "--out", "x"], "was made for base"),
    (["--base", "base.safetensors", "--models", "other", "--out", "x"], "not of the same base"),
    (["--base", "base.safetensors", "--models", "base.safetensors", "--out", "x"], "nothing to merge"),
])  # fmt: skip
def test_mistakes(place, flags, words):
    first = next(iter(torch.load("models/model1/model1.pt", weights_only=True).items()))
    (place / "models/other").mkdir()
    torch.save(dict([first]), "models/other/other.pt")
    before = files(place / "models")
    with pytest.raises(UserError, match=words):
        Merge_model.main([*flags, *TINY])
    assert files(place / "models") == before


@pytest.mark.parametrize("flags", [["--keys", "qkv"], ["--edit", "x"], [], ["--compose", "1", "--restore", "x"]])
def test_exit_code_of_a_mistake(tmp_path, flags):
    done = run(SCRIPT, *flags, cwd=tmp_path)
    assert done.returncode == 2 and "Traceback" not in done.stderr and done.stderr.strip()


# ---- generate-images-merge.py --------------------------------------------------------------------------------------


QUICK = ("--prompts_path", "prompts.csv", "--ddim_steps", "2", "--df_length", "2", "--save_path", "images", *TINY)


def draw(script, *arguments, cwd):
    return place_.run(script, *QUICK, *arguments, cwd=cwd)


def test_images_of_a_merged_model(place):
    done = draw("generate-images-merge.py", "--base", "base.safetensors", "--models", "run1, whole2,model3",
                "--save_name", "012-merge", cwd=place)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert_weights(unet_with("012-merge"), expected((1, 2, 3), first="kv"))
    other = draw("generate-images.py", "--base", "base.safetensors", "--model_name", "012-merge", "--exp_name", "x",
                 cwd=place)  # fmt: skip
    assert other.returncode == 0, other.stderr
    assert len(pictures(place / "images/012-merge")) == 2
    assert pictures(place / "images/012-merge") == pictures(place / "images/x")


def test_a_base_that_is_a_unet_alone(place):
    done = draw("generate-images-merge.py", "--base", "model0", "--models", "model2,model3", "--save_name", "12",
                cwd=place)  # fmt: skip
    assert "does not fit" in refused(done), "it is put into the default base, which is larger"
    assert set(files(place / "models/12")) == {"settings.json", "12.safetensors"}
    assert_weights(unet_of(place / "models/12/12.safetensors"), expected((2, 3)))
    done = draw("generate-images.py", "--model_name", "12", "--base", "base.safetensors", cwd=place)
    assert done.returncode == 0 and len(pictures(place / "images/12")) == 2, done.stderr


def test_images_of_the_base_itself(place):
    for script, flags in (
        ("generate-images-merge.py", ("--models", "", "--save_name", "ori-merge")),
        ("generate-images.py", ("--model_name", "original", "--exp_name", "x")),
    ):
        done = draw(script, "--base", "base.safetensors", *flags, cwd=place)
        assert done.returncode == 0, done.stderr
    assert pictures(place / "images/ori-merge") == pictures(place / "images/x")


def test_parts_are_images_too(place):
    """Separable edits merge like any other; what generate-images draws of them is the same but for rounding."""
    done = draw("generate-images-merge.py", "--base", "base.safetensors", "--models", "sep1,sep3", "--save_name", "13",
                cwd=place)  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = unet_with("13")
    for name, weight in unet_with("sep1", "sep3").items():
        torch.testing.assert_close(found[name], weight, rtol=0, atol=1e-6)
    done = draw("generate-images.py", "--model_name", "sep1", "--edit", "sep3", cwd=place)
    assert done.returncode == 0, done.stderr
    assert "images/sep1+sep3: 2 images made" in done.stdout


def test_a_part_is_left_out_while_drawing(place):
    """The same images as those of an edit that never had it."""
    assert Merge_model.main(["--edits", "sep1", "sep3", "--out", "both"]) == 0
    for name, *flags in (("both", "--without", CONCEPTS[0].upper()), ("sep3",)):
        done = draw("generate-images.py", "--model_name", name, *flags, cwd=place)
        assert done.returncode == 0, done.stderr
    label = f"both-without-{CONCEPTS[0].upper()}"
    assert pictures(place / "images" / label) == pictures(place / "images/sep3")
    for name, words in (
        ("both", "has no part of 'x'"),
        ("model1", "not an edit that knows its concepts apart"),
        ("original", "here are 0"),
    ):
        done = draw(
            "generate-images.py", "--base", "base.safetensors", "--model_name", name, "--without", "x", cwd=place
        )
        assert words in refused(done)


def test_another_selection_takes_the_place_and_a_trained_run_does_not(place):
    flags = ("--base", "base.safetensors", "--models")
    for models in ("run1,run2", "run2,run3"):
        assert draw("generate-images-merge.py", *flags, models, "--save_name", "m", cwd=place).returncode == 0
    assert_weights(unet_with("m"), expected((2, 3)))
    done = draw("generate-images-merge.py", *flags, "run1,run2", "--save_name", "run3", cwd=place)
    assert "holds another model" in refused(done)


@pytest.mark.parametrize("flags, words", [
    (("--models", "run1"), "--save_name"),
    (("--save_name", "x"), "--models"),
    (("--models", "run1,nothing", "--save_name", "x"), "no model 'nothing'"),
    (("--models", "run1", "--save_name", "x", "--model_name", "run2"), "unrecognized arguments"),
    (("--models", "run1", "--save_name", "x", "--df_start", "99"), "none of its rows"),
])  # fmt: skip
def test_mistakes_with_images(place, flags, words):
    done = draw("generate-images-merge.py", "--base", "base.safetensors", *flags, cwd=place)
    assert words in refused(done)
    assert not (place / "images").exists() and not (place / "models/x").exists()
