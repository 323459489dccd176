"""methods/rece/attack_methods/RingABell.py as a user runs it."""

import argparse
import json
from pathlib import Path

import pytest
import torch
from PIL import Image

from erasure import base_models, edits, errors
from erasure.errors import UserError
from erasure.runs import ROOT
from methods.rece.attack_methods import ring_a_bell_run
from tests.cli import process
from tests.cli.process import run
from tests.tiny import save_tiny_config, tiny_model
from toyworld.attack_prompts import pairs_file, prompts_file

SCRIPT = ROOT / "methods" / "rece" / "attack_methods" / "RingABell.py"
QUICK = ("--sampler", "dpm", "--ddim_steps", "2", "--image_size", "128")
TINY = ("--SD_path", "base.safetensors", "--config_path", "tiny.yaml", *QUICK)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A tiny model with an edit of it, which are of no known family but the embedded model's."""
    folder = tmp_path_factory.mktemp("place")
    edits.export_compvis(tiny_model(), folder / "base.safetensors")
    save_tiny_config(folder / "tiny.yaml")
    model, identity = base_models.load(folder / "base.safetensors", folder / "tiny.yaml")
    changed = {
        name.removeprefix("model.diffusion_model."): torch.randn_like(weight)
        for name, weight in model.named_parameters()
        if name.endswith("attn2.to_v.weight")
    }
    edit = edits.Edit("uce", ["nudity"], {}, identity.to_dict(), changed)
    edits.save_run(edit, folder / "models" / "erased-nudity")
    edits.apply(model, edit, identity)
    edits.export_diffusers(model, folder / "whole.pt")
    return folder


def pictures(folder):
    return {path.name: path.read_bytes() for path in (folder / "emb2imgs").glob("*.png")}


@pytest.fixture(scope="module")
def script():
    return process.load(SCRIPT)


@pytest.fixture
def attack(place, script, monkeypatch, capsys):
    """The script's entry point, called in this process and in `place`."""

    def call(*arguments, code=0):
        monkeypatch.chdir(place)
        monkeypatch.setattr("sys.argv", [str(SCRIPT), *TINY, *arguments])
        with pytest.raises(SystemExit) as ended:
            errors.run(script.main)
        out, err = capsys.readouterr()
        assert ended.value.code == code, err
        return err.strip().splitlines()[-1] if code else out

    return call


def test_an_attack_of_an_edit(place, attack):
    base = attack("--to_case", "2", "--img_path", "base", "--save_format", "pt", "--output_path", "out")
    assert "success of the attack: " in base
    vector = torch.load(place / "out" / "nudity_embedding_ring_a_bell.pt", weights_only=True)
    assert vector.shape == (1, 77, 32) and vector.dtype == torch.float32 and vector.any()

    # the same with an edit, from the vector saved before; whether edit or full weights, the images are the same
    saved = ("--emb_path", "out/nudity_embedding_ring_a_bell.pt", "--to_case", "2")
    attack(*saved, "--ckpt", "erased-nudity", "--img_path", "edited")
    attack(*saved, "--ckpt", "whole.pt", "--img_path", "whole")
    assert set(pictures(place / "base")) == {"0_0.png", "1_0.png"}
    summaries = {
        name: json.loads((place / name / "ring_a_bell.summary.json").read_text()) for name in ("base", "edited")
    }
    assert summaries["base"]["attack"]["pairs"] > 10 and summaries["edited"]["model"]["edits"][0]["method"] == "uce"
    assert all(s["success"]["n"] == 2 and s["attack"]["eta"] == 3 for s in summaries.values())
    assert pictures(place / "edited").keys() == pictures(place / "whole").keys()
    assert pictures(place / "edited")["0_0.png"] != pictures(place / "base")["0_0.png"]

    moved = attack(*saved, "--ckpt", "erased-nudity", "--img_path", "edited", "--eta", "1")
    assert "2 images made (2 anew" in moved

    # a picture of the attack before that this run does not draw is not counted
    attack(*saved[:2], "--to_case", "1", "--ckpt", "erased-nudity", "--img_path", "edited", "--eta", "2")
    summary = json.loads((place / "edited" / "ring_a_bell.summary.json").read_text())
    assert set(pictures(place / "edited")) == {"0_0.png", "1_0.png"} and summary["success"]["n"] == 1


def test_from_any_directory_with_files_of_the_user(place, tmp_path):
    (tmp_path / "pairs.csv").write_text("sensitive prompt,normal prompt\na dog,a cat\n")
    (tmp_path / "prompts.csv").write_text("prompt,evaluation_seed\na bird,1\na fish,2\n")
    base = ("--SD_path", place / "base.safetensors", "--config_path", place / "tiny.yaml", *QUICK)
    files = ("--csv_file", "pairs.csv", "--prompt_file", "prompts.csv", "--concept", "adam driver", "--eta", "0.9")
    done = run(SCRIPT, *base, *files, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "judge" in (tmp_path / "images/ring-a-bell/adam-driver/original/ring_a_bell.summary.json").read_text()
    assert (tmp_path / "outputs/ring-a-bell/adam-driver_embedding_ring_a_bell.safetensors").is_file()
    assert len(pictures(tmp_path / "images/ring-a-bell/adam-driver/original")) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--concept", "rembrandt"), "the embedded model knows no 'rembrandt'; choose from nudity"),
        (("--concept", "tench"), "no prompts for 'tench' are known: name a file with --prompt_file"),
        (("--csv_file", "nowhere.csv"), "nowhere.csv: no such file"),
        (("--csv_file", str(prompts_file("nudity"))), "no columns 'sensitive prompt' and 'normal prompt'"),
        (("--num_prompts", "1000"), "1000 pairs cannot be chosen"),
        (("--from_case", "500"), "no case from 500"),
        (("--eta", "nan"), "--eta must be a number"),
        (("--emb_path", "base.safetensors"), "tensors, and one is expected"),
        (("--emb_path", "a.pt", "--csv_file", str(pairs_file("nudity"))), "--csv_file and --num_prompts have no part"),
        (("--image_size", "64"), "the embedded judge looks at 128 pixels"),
        (("--ckpt", "nothing"), "no model 'nothing'"),
        (("--conc", "nudity"), "unrecognized arguments"),
    ],
)
def test_user_mistakes(attack, arguments, message):
    assert message in attack(*arguments, code=2)


# ---- Stable Diffusion, without its weights -------------------------------------------------------------------------


def files_of(concept, **given):
    flags = {"csv_file": None, "prompt_file": None, "emb_path": None, "attack_eta": None} | given
    return ring_a_bell_run._files(argparse.Namespace(concept=concept, **flags), "sd-v1")


def test_files_that_the_user_brings(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for concept, name in (("nudity", "nudity"), ("van gogh", "big_artist_prompts")):
        with pytest.raises(UserError, match=f"dataset/{name}.csv is not here.*data/import_prompts.py .* FILE"):
            files_of(concept)
    (tmp_path / "dataset").mkdir()
    for name in ("nudity", "nudity-ring-a-bell", "big_artist_prompts", "vangogh-ring-a-bell"):
        (tmp_path / "dataset" / f"{name}.csv").touch()
    assert files_of("nudity")["eta"] == 3 and files_of("Van Gogh")["eta"] == files_of("vangogh")["eta"] == 0.9
    assert files_of("nudity", attack_eta=0.0, emb_path="v.pt") == {
        "eta": 0,
        "pairs": None,
        "prompts": Path("dataset/nudity.csv"),
    }
    with pytest.raises(UserError, match="--prompt_file"):
        files_of("church")


def test_nudity_is_measured_by_nudenet(tmp_path, capsys):
    (tmp_path / "emb2imgs").mkdir()
    for name in ("3_0.png", "3_1.png", "4_0.png"):  # two of them of an earlier run
        Image.new("RGB", (64, 64), "green").save(tmp_path / "emb2imgs" / name)
    flags = argparse.Namespace(concept="nudity", threshold=0.6)
    measured = ring_a_bell_run._measured(flags, "sd-v1", tmp_path, [], {"3_0.png"})
    assert measured["success"]["value"] == 0 and measured["success"]["n"] == 1
    assert measured["detector"]["model"] == "320n.onnx" and (tmp_path / "nudity_threshold_0.6.json").is_file()
    style = argparse.Namespace(concept="vangogh", threshold=0.6)
    assert ring_a_bell_run._measured(style, "sd-v1", tmp_path, [], set()) == {"success": None}
    assert "says nothing about 'vangogh'" in capsys.readouterr().out
