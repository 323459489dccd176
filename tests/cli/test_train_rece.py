"""RECE's three commands and their shell scripts as users call them: from any directory, on any base, with mistakes."""

import json
import subprocess

import pytest
import torch
from safetensors.torch import load_file

from erasure import base_models, edits, errors
from erasure.runs import ROOT, read_json
from methods.rece import command
from methods.rece.settings import ARTISTS, OBJECTS, TRAIN
from methods.uce.concepts import world
from tests.cli import process
from tests.cli.process import ENVIRONMENT, run

FOLDER = ROOT / "methods" / "rece"
TINY = ["--ckpt_path", "tiny.safetensors", "--config_path", "tiny.yaml", "--device", "cpu"]
BARE = ["--no_validate", "--no_emb2imgs"]
PUBLISHED = ["--preserve_concepts", "", "--no-keep_erased"]  # not the embedded model's preset
NUDITY = ["--concepts", "nudity", "--concept_type", "nudity", "--emb_computing", "close_regzero"]
needs_toy = pytest.mark.skipif(
    not (ROOT / base_models.TOY_CKPT).is_file() or (ROOT / base_models.SD_CKPT).is_file(),
    reason="needs the embedded model, and no Stable Diffusion in its default place",
)


def only(paths):
    (path,) = paths
    return path


@pytest.mark.parametrize("script", [TRAIN, ARTISTS, OBJECTS])
def test_help_needs_no_torch(script):
    shown = process.help_without_torch(FOLDER / script.name)
    for flag in ("--old_target_concept", "--emb_computing", "--reg_item", "--target_ckpt", "--base", "examples:"):
        assert flag in shown
    assert f"default: {script.regular_scale}" in shown


def test_nudity_in_a_process_of_its_own(place):
    """Edits of every epoch, all embeddings, and an edit that generate-images can be given."""
    done = run(FOLDER / "train.py", *TINY, *NUDITY, *BARE, *PUBLISHED, "--epochs", "2", cwd=place)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0] == "base: tiny.safetensors"
    tag = "nudity_-towards_uncond-preserve_false-toy-method_replace-erase_1-preserve_0.1-lamb_0.1"
    folder = place / "ckpt2/SD_adv_train/adv_train_concepts/nudity/close_regzero" / tag / "regular_0.1" / "seed_42"
    assert {file.name for file in folder.iterdir()} == {
        *("uce.safetensors", "epoch_0.safetensors", "epoch_1.safetensors", "edit.safetensors", "settings.json"),
        *("adv_emb_0_0.safetensors", "adv_emb_1_0.safetensors", "close_new_embedding_preserved.safetensors"),
    }
    last = load_file(folder / "close_new_embedding_preserved.safetensors")["embedding"]
    assert last.shape == (1, 77, 32) and torch.equal(last, load_file(folder / "adv_emb_1_0.safetensors")["embedding"])
    chosen = edits.read(folder / "edit.safetensors")
    assert chosen.method == "rece" and chosen.kind == "context_map" and chosen.settings["epoch"] == 1
    assert f"generate-images.py --model_name {folder.relative_to(place)} --exp_name" in done.stdout
    model, identity = base_models.load("tiny.safetensors", "tiny.yaml")
    with edits.load_into(model, identity, edits.find_for(folder)) as applied:
        assert applied.matched and all("attn2.to_" in name for name in applied.matched)
    saved = read_json(folder / "settings.json")
    assert saved["selected"]["epoch"] == 1 and saved["base"] == identity.to_dict() and saved["retained"] == [" "]


def test_a_rerun_writes_the_same_bytes(place):
    flags = [*TINY, *NUDITY, *BARE, "--epochs", "1", "--save_path"]
    assert command.main(TRAIN, [*flags, "one"]) == command.main(TRAIN, [*flags, "other"]) == 0
    one, other = (only(place.glob(f"{name}/**/edit.safetensors")).read_bytes() for name in ("one", "other"))
    assert one == other


def test_files_of_an_earlier_run_go_and_those_of_others_stay(place, capsys):
    """Neither the number of epochs nor the start is in the folder's name."""
    flags = [*TINY, *NUDITY, *BARE]
    assert command.main(TRAIN, [*flags, "--epochs", "2", "--save_format", "pt"]) == 0
    folder = only(place.glob("ckpt2/**/uce.safetensors")).parent
    (folder / "notes.txt").write_text("mine")
    start = (folder / "uce.safetensors").rename(place / "start.safetensors")
    capsys.readouterr()
    assert command.main(TRAIN, [*flags, "--epochs", "1", "--target_ckpt", start.name]) == 0
    assert {file.name for file in folder.iterdir()} == {
        *("adv_emb_0_0.safetensors", "close_new_embedding_preserved.safetensors"),
        *("epoch_0.safetensors", "edit.safetensors", "settings.json", "notes.txt"),
    }
    assert "epoch_1" not in capsys.readouterr().out


def test_artists_preserve_all_others(place, capsys):
    flags = ["--concepts", "Kelly McKernan", "--concept_type", "art", "--guided_concept", "art"]
    flags += ["--emb_computing", "close_surrogatereg", "--reg_item", "2nd", "--preserve_number", "20", PUBLISHED[-1]]
    assert command.main(ARTISTS, [*TINY, *flags, *BARE]) == 0
    saved = read_json(only(place.glob("ckpt2/SD_adv_train/art/close_surrogatereg_regitem_2nd/*/*/*/settings.json")))
    assert len(saved["retained"]) == 21 and saved["retained"][0] == "" and "Kelly McKernan" not in saved["retained"]
    assert "21 texts preserved at 0.1" in capsys.readouterr().out


def test_the_embedded_model_holds_what_it_knows(place, capsys):
    """Its preset: the names of its world are retained, and what the start has erased stays erased."""
    flags = ["--concepts", "Van Gogh", "--concept_type", "style", "--emb_computing", "close_regzero"]
    assert command.main(ARTISTS, [*TINY, *flags, *BARE]) == 0
    saved = read_json(only(place.glob("ckpt2/SD_adv_train/style/*/van gogh_-*preserve_true*/*/*/settings.json")))
    assert saved["retained"] == ["", *(name for name in world("toy").kept if name != "van gogh"), "Van Gogh"]
    assert "the embedded model knows" in capsys.readouterr().out


def test_full_files_in_published_names(place, weights):
    """--save_format pt, technique tensor, from the original weights."""
    flags = ["--technique", "tensor", "--target_ckpt", "", "--save_format", "pt", "--epochs", "1"]
    assert command.main(TRAIN, [*TINY, *NUDITY, *BARE, *flags]) == 0
    file = only(place.glob("ckpt2/SD_adv_train/adv_train_concepts_scratch/**/epoch_0.pt"))
    assert torch.load(file.with_name("close_new_embedding_preserved.pt"), weights_only=True).shape == (1, 77, 32)
    edit = edits.read(file.with_name("edit.safetensors"))
    assert edit.kind == "tensors" and all(".attn2.to_" in name for name in edit.tensors)
    model, identity = base_models.load("tiny.safetensors", "tiny.yaml")
    with edits.load_into(model, identity, file):
        for name, tensor in edit.tensors.items():
            assert torch.equal(model.state_dict()["model.diffusion_model." + name], tensor)
    # and on from there
    assert command.main(TRAIN, [*TINY, *NUDITY, *BARE, "--target_ckpt", str(file), "--save_path", "on"]) == 0
    assert edits.read(only(place.glob("on/**/edit.safetensors"))).kind == "tensors"


@needs_toy
def test_validation_on_the_embedded_model(tmp_path, monkeypatch, capsys):
    """Pictures of every stage and embedding, measured anew each time, by the published folders and files."""
    monkeypatch.chdir(tmp_path)
    flags = [*NUDITY, "--epochs", "1", "--ddim_steps", "2"]
    assert command.main(TRAIN, flags) == 0
    folder = only(tmp_path.glob("ckpt2/**/detect_rate.json")).parent
    rates = read_json(folder / "detect_rate.json")
    assert list(rates) == ["sd", "uce", "0"]
    for stage in ("sd", "uce", "epoch-0"):
        pictures = {file.name for file in (folder / stage / "imgs").glob("*.png")}
        assert "0_0.png" in pictures and (folder / stage / "prompts.csv").is_file()
    assert (folder / "emb2imgs" / "0-0_0.png").is_file()
    out = capsys.readouterr().out
    assert out.startswith("base: the embedded model (") and "chosen: epoch 0" in out
    (folder / "epoch-0" / "imgs" / "99_0.png").write_bytes(b"of an earlier run")
    assert command.main(TRAIN, flags) == 0
    assert read_json(folder / "detect_rate.json") == rates


@needs_toy
def test_own_prompts_on_the_embedded_model(tmp_path, monkeypatch):
    """train_object with a CSV: accuracies of its two concepts, published names."""
    monkeypatch.chdir(tmp_path)
    rows = [
        "case_number,prompt,evaluation_seed,concept_kind,concept",
        "3,a church,1,object,church",
        "8,a tench,2,object,tench",
    ]
    (tmp_path / "mine.csv").write_text("\n".join(rows) + "\n")
    flags = ["--concepts", "Church", "--concept_type", "object", "--test_csv_path", "mine.csv", "--ddim_steps", "2"]
    assert command.main(OBJECTS, [*flags, "--no_emb2imgs"]) == 0
    folder = only(tmp_path.glob("ckpt2/SD_adv_train/object/close_regzero/*/regular_0.001/seed_42"))
    assert (
        list(read_json(folder / "target_acc.json")) == list(read_json(folder / "other_acc.json")) == ["sd", "uce", "0"]
    )
    assert {file.name for file in (folder / "epoch_0" / "imgs").glob("*.png")} == {"3_0.png", "8_0.png"}


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--concepts", "a,,b"], "a concept is empty"),
        (["--concepts", "a, b", "--guided_concepts", "c, d, e"], "3 guides for 2 concepts"),
        (["--regular_scale", "-1"], "--regular_scale must be a number that is not negative"),
        (["--epochs", "0"], "--epochs must be at least 1"),
        (["--seed", "-3"], "--seed must be"),
        (["--num_samples", "0"], "--num_samples must be at least 1"),
        (["--preserve_number", "3"], "there are 0 texts to choose from"),
        (["--target_ckpt", "nothing.pt"], "--target_ckpt 'nothing.pt': no such file"),
        (["--target_ckpt", "tiny.safetensors"], "changes nothing"),
        (["--base", "2.1"], "Stable Diffusion 2"),
        (["--lamb", "0", "--preserve_scale", "0"], "no unique solution"),
    ],
)
def test_mistakes_end_in_one_line(place, capsys, flags, message):
    base = [] if "--base" in flags else TINY
    with pytest.raises(SystemExit) as stopped:
        errors.run(lambda: command.main(TRAIN, [*base, *NUDITY, *BARE, *flags]))
    error = capsys.readouterr().err.splitlines()[-1]
    assert stopped.value.code == 2 and error.startswith("error: ") and message in error
    assert not list(place.glob("ckpt2/**/edit.safetensors"))


@pytest.mark.parametrize(
    ("script", "flags"),
    [
        (TRAIN, ["--concepts", "a", "--concept_type", "art", "--emb_computing", "close_regzero"]),
        (TRAIN, ["--concepts", "a", "--concept_type", "nudity"]),
        (ARTISTS, ["--concepts", "a", "--concept_type", "art"]),
        (OBJECTS, ["--concepts", "a"]),
        (OBJECTS, ["--concepts", "a", "--concept_type", "object", "--concept", "b"]),
        (OBJECTS, ["--concepts", "a", "--concept_type", "object", "--no_validate", "--test_csv_path", "x.csv"]),
        (OBJECTS, ["--concepts", "a", "--concept_type", "object", "--technique", "swap"]),
    ],
)
def test_unknown_and_contradictory_flags(script, flags, capsys):
    with pytest.raises(SystemExit) as stopped:
        command.main(script, flags)
    assert stopped.value.code == 2 and "error: " in capsys.readouterr().err


def test_validation_that_was_asked_for_must_be_possible(place, capsys):
    for flags, message in (
        (["--test_csv_path", "nothing.csv"], "no such file"),
        (["--test_csv_path", "tiny.yaml"], "tiny.yaml"),
    ):
        with pytest.raises(SystemExit) as stopped:
            errors.run(lambda flags=flags: command.main(TRAIN, [*TINY, *NUDITY, *flags]))
        assert stopped.value.code == 2 and message in capsys.readouterr().err


# ---- shell scripts -------------------------------------------------------------------------------------------------

needs_venv = pytest.mark.skipif(not (ROOT / ".venv" / "requirements.stamp").exists(), reason="not set up by setup.sh")


def sh(script, *arguments, cwd, **variables):
    command = ["sh", str(ROOT / "shell_scripts" / "rece" / script), *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, env=ENVIRONMENT | variables)


@needs_venv
@pytest.mark.parametrize(
    ("script", "folder", "variables"),
    [
        ("nudity.sh", "adv_train_concepts/nudity/close_regzero/nudity_-*/regular_0.1", {}),
        ("art.sh", "art/close_regzero/keith haring_-*/regular_0.001", {"CONCEPTS": "Keith Haring"}),
        ("object.sh", "object/close_regzero/church_-*/regular_0.001", {"HARD": "Church", "EASY": ""}),
        ("object.sh", "object/close_regzero/golf ball_-*/regular_0.1", {"HARD": "", "EASY": "Golf Ball"}),
    ],
)
def test_shell_scripts_run_the_published_commands(place, script, folder, variables):
    more = ["--preserve_concepts", "Banksy"] if script == "art.sh" else []
    done = sh(script, *TINY, *BARE, *more, cwd=place, **variables)
    assert done.returncode == 0, done.stdout + done.stderr
    assert only(place.glob(f"ckpt2/SD_adv_train/{folder}/seed_42/edit.safetensors"))


@needs_venv
def test_generate_wants_a_result(tmp_path):
    done = sh("generate.sh", cwd=tmp_path)
    assert done.returncode == 2 and "run shell_scripts/rece/nudity.sh first" in done.stderr


def test_settings_are_json(place):
    assert command.main(TRAIN, [*TINY, *NUDITY, *BARE, "--epochs", "1"]) == 0
    header = edits.read_header(only(place.glob("ckpt2/**/edit.safetensors")))
    assert json.loads(json.dumps(header["settings"]))["emb_computing"] == "close_regzero"
