"""CPE's shell scripts: their variables reach the commands, from any directory."""

import re
import subprocess

import pytest

from erasure import base_models, edits
from erasure.runs import ROOT
from tests.cli.process import ENVIRONMENT
from tests.gates import save_gates
from tests.tiny import save_tiny_config, tiny_model

SCRIPTS = ROOT / "shell_scripts"
TRAIN = {
    "celebs/train_celeb_cpe_single.sh": ("CPE_Celeb", "celeb", "celeb_50", 16, "0.3", "100000.0", 50),
    "artists/train_artist_cpe_single.sh": ("CPE_Artist", "artist", "artist_100", 16, "0.5", "10000.0", 100),
    "explicit/train_explicit_cpe_single.sh": ("CPE_Explicit", "explicit", "explicit_4", 64, "3.0", "10000.0", 4),
}
GENERATE = {
    "celebs/generate_by_celeb_model.sh": ("celebs/train_celeb_cpe_single.sh", "gen_celeb/config_celeb_erased"),
    "artists/generate_by_artist_model.sh": ("artists/train_artist_cpe_single.sh", "gen_artist/config_artist_erased"),
    "explicit/generate_by_explicit_model_explicit.sh": ("explicit/train_explicit_cpe_single.sh", "gen_explicit/config_explicit_erased"),
    "explicit/generate_by_explicit_model_coco.sh": ("explicit/train_explicit_cpe_single.sh", "gen_explicit/config_coco_30k"),
}  # fmt: skip
needs_venv = pytest.mark.skipif(not (ROOT / ".venv" / "requirements.stamp").exists(), reason="not set up by setup.sh")


@pytest.fixture(scope="module")
def commands(tmp_path_factory):
    """commands(script, cwd, *arguments, **variables): the words of the Python command that the script would run.

    The script runs in a copy of shell_scripts, beside a Python that prints its arguments.
    """
    root = tmp_path_factory.mktemp("repository")
    for script in SCRIPTS.rglob("*.sh"):
        copy = root / "shell_scripts" / script.relative_to(SCRIPTS)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_text(":\n" if script.name == "setup.sh" else script.read_text())
    python = root / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text('#!/bin/sh\nfor word in "$@"; do echo "word: $word"; done\n')
    python.chmod(0o755)

    def call(script, cwd, *arguments, **variables):
        command = ["sh", str(root / "shell_scripts" / script), *arguments]
        done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, env=ENVIRONMENT | variables)
        words = re.findall("^word: (.*)$", done.stdout, re.MULTILINE)
        assert done.returncode == 0, done.stderr
        assert words[0].startswith(f"{root}/methods/cpe/")
        return [words[0].rpartition("/")[2], *words[1:]], done.stdout

    return call


def values(words: list[str]) -> dict[str, str]:
    return dict(zip(words[1::2], words[2::2], strict=True))


def folder(script, group=None) -> tuple[str, str]:
    root, domain, published, rank, guide, pal, _ = TRAIN[script]
    env = f"guide{guide}_pal{pal}_gate_rank{rank}_noise0.001"
    return f"output/{root}/{group or published}/{domain}_single_{env}", env


@pytest.mark.parametrize("script", TRAIN)
def test_training(script, commands, tmp_path):
    _, domain, _, rank, guide, pal, end = TRAIN[script]
    words, out = commands(script, tmp_path, FAMILY="sd")
    assert words[0] == "train_cpe.py" and values(words) == {
        "--config_file": f"./configs/train_{domain}/config.yaml", "--st_prompt_idx": "0", "--end_prompt_idx": str(end),
        "--gate_rank": str(rank), "--guidance_scale": guide, "--pal": pal, "--noise": "0.001",
    } | ({"--resume_stage": "0"} if domain == "explicit" else {})  # fmt: skip
    assert "gate files" not in out
    given = {"CONFIG": "my config.yaml", "GATE_RANK": "2", "GUIDE": "1.5", "PAL": "7.0", "ST_IDX": "3", "END_IDX": "4",
             "NOISE": "0.1", "RESUME_STAGE": "2", "BASE": "my base.safetensors", "BASE_CONFIG": "tiny.yaml"}  # fmt: skip
    made = tmp_path / f"output/{TRAIN[script][0]}/{domain}_embedded/{domain}_single_guide1.5_pal7.0_gate_rank2_noise0.1"
    for file in ("a/x_last.safetensors", "a/x_adv_prompts_last.safetensors", "b/x_last.safetensors", "b/x_stage1.safetensors"):  # fmt: skip
        (made / file).parent.mkdir(parents=True, exist_ok=True)
        (made / file).touch()
    words, out = commands(script, tmp_path, "--seed", "a b", FAMILY="toy", **given)
    assert values(words) == {
        "--config_file": "my config.yaml", "--st_prompt_idx": "3", "--end_prompt_idx": "4", "--gate_rank": "2",
        "--guidance_scale": "1.5", "--pal": "7.0", "--noise": "0.1", "--resume_stage": "2", "--seed": "a b",
        "--ckpt_path": "my base.safetensors", "--config_path": "tiny.yaml",
    }  # fmt: skip
    assert out.endswith(f"train: {made.relative_to(tmp_path)}: 2 gate files\n")


@pytest.mark.parametrize("script", GENERATE)
def test_generation(script, commands, tmp_path):
    trained, config = GENERATE[script]
    gates, env = folder(trained)
    (tmp_path / gates).mkdir(parents=True)
    words, _ = commands(script, tmp_path, FAMILY="sd")
    wanted = {"--config": f"configs/{config}.yaml", "--st_prompt_idx": "0", "--end_prompt_idx": "100000000"}
    assert words[0] == ("generate_cpe_explicit.py" if script.endswith("explicit.sh") else "generate_cpe.py")
    assert values(words) == {"--model_path": gates, "--gate_rank": str(TRAIN[trained][3]), "--save_env": env} | wanted
    words, _ = commands(script, tmp_path, FAMILY="sd", MODEL_PATH="")
    assert values(words) == wanted
    embedded = folder(trained, f"{TRAIN[trained][1]}_embedded")[0]
    (tmp_path / embedded).mkdir(parents=True)
    given = {"GEN_CONFIG": "my.yaml", "GEN_ST_IDX": "1", "GEN_END_IDX": "2", "GATE_RANK": "8", "SAVE_ENV": "mine"}
    words, _ = commands(script, tmp_path, "--rng", "cpu", FAMILY="toy", MODEL_PATH=embedded, **given)
    assert values(words) == {
        "--config": "my.yaml", "--st_prompt_idx": "1", "--end_prompt_idx": "2", "--model_path": embedded,
        "--gate_rank": "8", "--save_env": "mine", "--rng": "cpu",
    }  # fmt: skip


@pytest.mark.parametrize("suffix", [".ckpt", ".safetensors"])
def test_the_gates_are_those_of_the_base_that_the_command_takes(commands, tmp_path, suffix):
    """Stable Diffusion where its checkpoint is, converted or not, else the embedded model, by either of its names."""
    trained = "celebs/train_celeb_cpe_single.sh"
    published, embedded = folder(trained)[0], folder(trained, "celeb_embedded")[0]
    for gates in (published, embedded):
        (tmp_path / gates).mkdir(parents=True)

    def taken(**variables):
        words, _ = commands("celebs/generate_by_celeb_model.sh", tmp_path, **variables)
        return values(words)["--model_path"]

    assert taken() == taken(BASE="toy-v1") == embedded
    weights = (tmp_path / base_models.SD_CKPT).with_suffix(suffix)
    weights.parent.mkdir(parents=True)
    weights.touch()
    assert taken() == taken(BASE="other.ckpt") == published and taken(BASE="toy") == embedded


def test_published_values_are_those_of_the_configurations():
    for script in GENERATE:
        named = re.findall(r"configs/gen_\S+\.yaml", (SCRIPTS / script).read_text())
        assert named and all((ROOT / path.rstrip("}")).is_file() for path in named)
    for script in TRAIN:
        assert (ROOT / "configs" / f"train_{TRAIN[script][1]}" / "config.yaml").is_file()


@needs_venv
def test_from_another_directory_to_images(tmp_path):
    """On the script's own configuration, with as little as there is to draw; then without gates, then with none there."""
    model = tiny_model()
    edits.export_compvis(model, tmp_path / "tiny.safetensors")
    save_tiny_config(tmp_path / "tiny.yaml")
    _, identity = base_models.load(tmp_path / "tiny.safetensors", tmp_path / "tiny.yaml")
    gates, env = folder("celebs/train_celeb_cpe_single.sh", "celeb_embedded")
    save_gates(model, identity.to_dict(), tmp_path / gates, "adam driver", gate_rank=16)
    variables = {"BASE": "tiny.safetensors", "BASE_CONFIG": "tiny.yaml", "FAMILY": "toy", "GEN_END_IDX": "0"}

    def call(**more):
        command = ["sh", str(SCRIPTS / "celebs/generate_by_celeb_model.sh"), "--image_size", "32", "--ddim_steps", "2"]
        environment = ENVIRONMENT | variables | more
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=environment)

    done = call()
    assert done.returncode == 0, done.stderr
    assert re.search(
        rf"generated_images/celeb_embedded/{env}/erased/index.csv: images of 1 of the \d+ rows of .*\n$", done.stdout
    )
    assert len(list((tmp_path / "generated_images/celeb_embedded" / env / "erased").glob("*.png"))) == 1
    done = call(GUIDE="0.4")
    assert done.returncode == 2 and done.stderr.startswith("generate: no gates in output/CPE_Celeb/celeb_embedded/")
