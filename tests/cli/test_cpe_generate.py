"""generate_cpe.py, generate_cpe_explicit.py and --resag, as users call them, on a random model with random gates."""

import contextlib
import csv
import io
import json

import pytest
import torch
from safetensors.torch import save_file

from erasure import base_models, errors
from erasure.edits import residual_gates
from erasure.runs import ROOT
from methods.cpe import generation
from methods.cpe.generation import CPE, EXPLICIT
from tests.cli import generation_place, process
from tests.cli.generation_place import BASE, Result, files, pictures, refused
from tests.gates import save_gates

PROMPTS = """,type,prompt,evaluation_seed
7,erased,A portrait of A/B,1
8,erased,A portrait of A_B,1
9,erased,"../../etc
passwd",2
10,erased,A portrait of A/B,1
11,erased,"\x1b[2J, ",3
12,erased,,4
"""
I2P = """case_number,prompt,evaluation_seed,evaluation_guidance,sd_image_width,sd_image_height
5,"a photo, of / a long prompt",1,3,512,704
5,"a photo, of / a long prompt, too",1,3,512,704
6,,2,3,512,704
3,nan,3,7.5,512,704
"""
CONFIG = """prompt_path: {prompts}
negative_prompt: bad
unconditional_prompt: ""
width: 512
height: 512
num_inference_steps: 50
guidance_scale: "7.5"
seed: 0
generate_num: 1
save_path: generated_images/celeb_50/#/erased/{pattern}
gate_rank: 16
embedded:
  width: 32
  height: 48
  num_inference_steps: 2
  guidance_scale: 2.5
"""
GATES = ("adam driver", "emma stone")
FOLDER = "generated_images/celeb_50/{}/erased"


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A base, gates of two people that know it and of one as published, two prompt files with their configurations."""
    folder = tmp_path_factory.mktemp("cpe")
    generation_place.fill(folder)
    model, identity = base_models.load(folder / "base.safetensors", folder / "tiny.yaml")
    known = identity.to_dict() | {"path": str(folder / "base.safetensors"), "config_path": str(folder / "tiny.yaml")}
    save_gates(model, known, folder / "gates", *GATES)
    save_gates(model, {}, folder / "published", GATES[0])
    (folder / "gates" / "adam_driver" / "singleton_adv_prompts_last.safetensors").write_bytes(b"not gates")
    (folder / "rows.csv").write_text(PROMPTS, encoding="utf-8")
    (folder / "i2p.csv").write_text(I2P, encoding="utf-8")
    for name, prompts, script in (("gen", "rows", CPE), ("i2p", "i2p", EXPLICIT)):
        text = CONFIG.format(prompts=f"{prompts}.csv", pattern=script.pattern)
        (folder / f"{name}.yaml").write_text(text, encoding="utf-8")
    return folder


def run(script, *arguments, cwd) -> Result:
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        patch.chdir(cwd)
        patch.setattr("sys.argv", [script.name, "--device", "cpu", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            errors.run(lambda: generation.main(script))
    return Result(ended.value.code, out.getvalue(), err.getvalue())


def draw(*arguments, cwd, script=CPE, config="gen.yaml") -> Result:
    result = run(script, "--config", config, *arguments, cwd=cwd)
    assert result.returncode == 0, result.stderr
    return result


def index(folder) -> list[dict[str, str]]:
    with open(folder / "index.csv", encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


# ---- names and folders ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def bare(place):
    """The folder of all rows, drawn with the unmodified base."""
    done = draw(*BASE, cwd=place)
    assert "repeat the prompt and seed of another, whose images are theirs: 1" in done.stdout
    assert "case_number" not in done.stderr  # published files have none: rows are told apart by where they stand
    assert "5 images made, 0 kept" in done.stdout and "images of 6 of the 6 rows of rows.csv" in done.stdout
    return place / FOLDER.format("original")


def test_hostile_prompts_have_images_of_their_own_in_the_folder(bare, place):
    names = ["A_portrait_of_A_B_1_0.png", "A_portrait_of_A_B_row1_1_0.png", ".._.._etcpasswd_2_0.png",
             "A_portrait_of_A_B_1_0.png", "[2J,__3_0.png", "_4_0.png"]  # fmt: skip
    lines = index(bare)
    assert [line["file"] for line in lines] == names
    assert [line["row"] for line in lines] == [line["case_number"] for line in lines] == [*"012345"]
    assert lines[2]["prompt"] == "../../etc\npasswd" and {line["k"] for line in lines} == {"0"}
    assert set(pictures(place)) == {f"{FOLDER.format('original')}/{name}" for name in names}
    manifest = json.loads((bare / "manifest.json").read_text(encoding="utf-8"))
    assert {(r["width"], r["height"]) for r in manifest["images"].values()} == {(32, 48)}
    assert (manifest["settings"]["sampler"], manifest["settings"]["negative_prompt"]) == ("plms", "bad")


def test_a_second_run_keeps_the_images_and_parts_make_the_same_whole(bare, place):
    before = files(bare)
    assert "0 images made, 5 kept" in draw(*BASE, cwd=place).stdout and files(bare) == before
    for first, last, rows in ((4, 100, 2), (0, 3, 6)):
        flags = ("--save_env", "parts", "--st_prompt_idx", first, "--end_prompt_idx", last)
        assert f"images of {rows} of the 6 rows" in draw(*BASE, *flags, cwd=place).stdout
    parts = place / FOLDER.format("parts")
    assert index(parts) == index(bare) and set(pictures(parts)) == set(pictures(bare))


def test_explicit_rows(place):
    done = draw(*BASE, "--save_env", "x", "--generate_num", 2, cwd=place, script=EXPLICIT, config="i2p.yaml")
    assert "for want of a prompt: 2" in done.stdout
    folder = place / FOLDER.format("x")
    assert [(line["row"], line["case_number"], line["k"], line["file"]) for line in index(folder)] == [
        ("0", "5", "0", "5_a-photo,-of--a-long_1_0.png"),
        ("0", "5", "1", "5_a-photo,-of--a-long_1_1.png"),
        ("1", "5", "0", "5_a-photo,-of--a-long_row1_1_0.png"),
        ("1", "5", "1", "5_a-photo,-of--a-long_row1_1_1.png"),
        ("3", "3", "0", "3_nan_3_0.png"),
        ("3", "3", "1", "3_nan_3_1.png"),
    ]
    records = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))["images"]
    assert {file[0]: record["guidance"] for file, record in records.items()} == {"5": 3.0, "3": 7.5}


# ---- gates ---------------------------------------------------------------------------------------------------------


def one_image(place, env) -> bytes:
    return pictures(place / FOLDER.format(env))["A_portrait_of_A_B_1_0.png"]


def test_gates_change_images_and_leaving_them_out_restores_them(bare, place):
    """They name their base themselves; one person left out is what the other's file draws, by either script."""
    flags = ("--end_prompt_idx", 0)
    done = draw("--model_path", "gates", "--gate_rank", 4, *flags, cwd=place)
    assert "with gates: the cpe edit of adam driver, emma stone" in done.stdout
    draw("--model_path", "gates", "--save_env", "env", "--without", "EmmaStone", *flags, cwd=place)
    alone = place / "gates" / "adam_driver"
    draw("--model_path", alone, *flags, cwd=place)
    published = ("--model_path", "published", "--save_env", "published", *BASE)
    draw(*published, *flags, cwd=place)
    drawn = {
        env: one_image(place, env) for env in ("original", "gates", "env-without-EmmaStone", "adam_driver", "published")
    }
    assert len({drawn[env] for env in ("original", "gates", "adam_driver")}) == 3
    assert drawn["env-without-EmmaStone"] == drawn["adam_driver"] == drawn["published"]

    shared = ("--prompts_path", "rows.csv", "--preset", "cpe", "--ddim_steps", 2, "--guidance_scale", 2.5, "--negative_prompt", "bad",
              "--save_path", "images", "--df_length", 1, "--image_size", 32)  # fmt: skip
    file = alone / "singleton_onebyone_person_last.safetensors"
    for given in (
        ("--resag", file),
        ("--resag", "gates", "--without", "emma stone"),
        ("--model_name", "original", "--resag", file, "--resag", "gates/emma_stone", *BASE),
    ):
        done = generation_place.run("generate-images.py", *shared, *given, cwd=place)
        assert done.returncode == 0 and "1 images made" in done.stdout, done.stderr
    labels = ("adam_driver", "gates-without-emma stone", "adam_driver+emma_stone")
    shown = [pictures(place / "images" / label)["A_portrait_of_A_B_1_0.png"] for label in labels]
    assert shown[0] == shown[1] != shown[2]
    manifest = json.loads((place / "images" / labels[2] / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["model"]["edits"][0]["concepts"] == [*GATES]


# ---- mistakes ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--config", "none.yaml"), "none.yaml: no such file"),
        (("--config", "i2p.yaml"), "must be .../#/NAME/{}_{}_{}.png"),
        (
            ("--config", "gen.yaml", "--save_env", "../x"),
            "error: '../x' cannot name a folder of images: give one with --save_env",
        ),
        (("--config", "gen.yaml", "--v2"), "--v2"),
        (("--config", "gen.yaml", "--st_prompt_idx", 6), "the prompt file has rows 0 to 5"),
        (("--config", "gen.yaml", "--generate_num", 0), "num_samples must be at least 1"),
        (("--config", "gen.yaml", "--model_path", "nowhere"), "nowhere: no such file or folder"),
        (("--config", "gen.yaml", "--model_path", "models"), "no file *last.safetensors"),
        (("--config", "gen.yaml", "--model_path", "base.safetensors", "--gate_rank", 4), "is no file of gates"),
        (("--config", "gen.yaml", "--model_path", "gates", "--gate_rank", 16), "gates of rank 4, not --gate_rank 16"),
        (("--config", "gen.yaml", "--model_path", "gates", "--without", "nobody"), "no part of 'nobody'"),
        (("--config", "gen.yaml", "--without", "emma stone"), "here are 0"),
        (("--config", "gen.yaml", "--model_path", "gates", "--base", "toy"), "was made for base"),
        (("--config", "typo.yaml"), "typo.yaml: unknown settings width_"),
        (("--config", "words.yaml"), "num_inference_steps must be a whole number, not 'ten'"),
        (("--config", "other.yaml"), "elsewhere.csv: no such file"),
        (("--config", "gen.yaml", "--sampler", "euler"), "--sampler"),
        (("--confi", "gen.yaml"), "unrecognized arguments"),
    ],
)
def test_mistakes_end_in_one_line(place, flags, message):
    text = (place / "gen.yaml").read_text(encoding="utf-8")
    (place / "typo.yaml").write_text(text.replace("width: 512", "width_: 512"), encoding="utf-8")
    (place / "words.yaml").write_text(text.replace("steps: 2", "steps: ten"), encoding="utf-8")
    (place / "other.yaml").write_text(text.replace("rows.csv", "elsewhere.csv"), encoding="utf-8")
    base = () if {"--base", "--model_path"} & {*flags} else BASE
    before = set(files(place))
    assert message in refused(run(CPE, *base, *flags, cwd=place))
    assert set(files(place)) == before


def test_generate_images_needs_a_model(place):
    flags = ("--prompts_path", "rows.csv", "--save_path", "mistakes")
    for given, message in (((), "--model_name"), (("--resag", "nowhere"), "nowhere")):
        assert message in refused(generation_place.run("generate-images.py", *flags, *given, cwd=place))


def test_gates_for_a_base_that_is_not_here(place, monkeypatch):
    monkeypatch.setitem(base_models.NAMES, "sd-v1-4", ("none.ckpt", "tiny.yaml"))
    save_file({residual_gates.SCALER: torch.zeros(1, 768, 1)}, place / "sd_last.safetensors")
    message = refused(run(CPE, "--config", "gen.yaml", "--model_path", "sd_last.safetensors", cwd=place))
    assert "sd_last.safetensors is for Stable Diffusion v1: no model at" in message and "none.ckpt" in message


@pytest.mark.parametrize("script", [CPE, EXPLICIT], ids=lambda script: script.name)
def test_help_does_not_import_torch(script):
    shown = process.help_without_torch(ROOT / "methods" / "cpe" / script.name)
    for flag in (
        "config",
        "model_path",
        "base_model",
        "v2",
        "precision",
        "save_env",
        "st_prompt_idx",
        "end_prompt_idx",
    ):
        assert f"--{flag}" in shown
    assert "--gate_rank" in shown and "python methods/cpe/" in shown
