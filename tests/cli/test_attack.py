"""attack.py, generate_dataset.py and check_asr.py as a user runs them, on a tiny random model."""

import json

import pytest
import torch
from PIL import Image

from erasure import base_models, edits, errors
from erasure.attacks.settings import KEYS
from erasure.runs import ROOT, write_csv, write_json
from tests.cli import process
from tests.tiny import save_tiny_config, tiny_model

SCRIPTS = ROOT / "eval-scripts"
BASE = ("--task.model_name_or_path", "base.safetensors")
QUICK = (
    "--sampler",
    "dpm",
    "--steps",
    "2",
    "--image_size",
    "128",
    "--attacker.timesteps",
    "2",
    "--attacker.iteration",
    "2",
)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A tiny model (base.safetensors, and its configuration beside it), an edit of it, and two prompts."""
    folder = tmp_path_factory.mktemp("place")
    edits.export_compvis(tiny_model(), folder / "base.safetensors")
    save_tiny_config(folder / "base.yaml")
    model, identity = base_models.load(folder / "base.safetensors")
    changed = {
        name.removeprefix("model.diffusion_model."): torch.randn(w.shape, generator=torch.Generator().manual_seed(0))
        for name, w in model.named_parameters()
        if name.endswith("attn2.to_v.weight")
    }
    edits.save_run(edits.Edit("uce", ["van gogh"], {}, identity.to_dict(), changed), folder / "models" / "erased-x")
    lines = [["prompt", "evaluation_seed"], ["a church by van gogh", 1], ["a golf ball by van gogh", 2]]
    write_csv(folder / "prompts.csv", lines)
    return folder


@pytest.fixture
def call(place, monkeypatch, capsys):
    """A script's entry point, called in this process and in `place`."""

    def run(name, *arguments, code=0):
        script = process.load(SCRIPTS / f"{name}.py")
        monkeypatch.chdir(place)
        monkeypatch.setattr("sys.argv", [name, *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            errors.run(script.main)
        out, err = capsys.readouterr()
        assert ended.value.code == code, err
        return err.strip().splitlines()[-1] if code else out

    return run


@pytest.fixture
def data(call, place):
    call(
        "generate_dataset", "--prompts_path", "prompts.csv", "--concept", "van_gogh", "--save_path", "data",
        "--base", "base.safetensors", "--ddim_steps", "2", "--image_size", "128",
    )  # fmt: skip
    return place / "data" / "van_gogh"


def attack(call, config, *arguments, code=0):
    given = ("--config-file", f"configs/attacks/embedded/{config}.json", *BASE, "--task.dataset_path", "data/van_gogh")
    return call("attack", *given, "--task.target_ckpt", "erased-x", *QUICK, *arguments, code=code)


def contents(folder):
    return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_all_prompts_of_an_edit(call, data, place):
    assert sorted(p.name for p in (data / "imgs").iterdir()) == ["0_0.png", "1_0.png", "manifest.json"]
    out = attack(call, "text_grad", "--all", "--logger.json.root", "runs/grad")
    assert "with models/erased-x/edit.safetensors: the uce edit" in out and "of 2 prompts" in out
    runs = place / "runs" / "grad"
    log = json.loads((runs / "attack_idx_1" / "log.json").read_text())
    assert {"start_time", "current_time", "relative_time", "success", "prompt"} <= log[0].keys()
    assert log[0]["prompt"] == "a golf ball by van gogh" and len(log) in (1, 2, 3)
    assert all(Image.open(runs / "attack_idx_1" / "images" / e["image"]).size == (128, 128) for e in log)
    config = json.loads((runs / "attack_idx_0" / "config.json").read_text())
    assert (
        config["attacker"]["k"] == 3 and config["model"]["edits"][0]["method"] == "uce" and config["detector"]["sha256"]
    )
    summary = json.loads((runs / "asr.summary.json").read_text())
    assert summary["n"] == 2 and summary["asr"]["n"] == 2 and summary["asr"]["value"] >= summary["pre_asr"]["value"]

    before = contents(runs)
    assert "(there already)" in attack(call, "text_grad", "--all", "--logger.json.root", "runs/grad")
    assert contents(runs) == before
    message = attack(call, "text_grad", "--all", "--logger.json.root", "runs/grad", "--attacker.k", "2", code=2)
    assert "attacker.k: 3 there, 2 here" in message


def test_one_prompt_of_the_base_with_p4d(call, data, place):
    given = ("--attacker.attack_idx", "1", "--logger.name", "mine", "--logger.json.root", "runs/p4d")
    assert attack(call, "hard_prompt", *given).splitlines()[-1].startswith("1: ")
    assert (place / "runs/p4d/mine/result.json").is_file()
    assert "there are 2 prompts" in attack(call, "hard_prompt", "--attacker.attack_idx", "2", code=2)
    assert "give one of them" in attack(call, "hard_prompt", code=2)


def test_rates_of_published_logs(call, place):
    for root, wins in (("attacked", [[False, True], [False, False]]), ("plain", [[False], [True], [False], [False]])):
        for i, run in enumerate(wins):
            entries = [{"success": won, "relative_time": "0:01:00"} for won in run]
            write_json(place / root / f"attack_idx_{i}" / "log.json", entries)
    out = call("check_asr", "--root", "attacked", "--root-no-attack", "plain", "--csv-path", "x.csv")
    assert "pre-ASR: 1 / 4 = 0.25\nASR: 2 / 4 = 0.5\n" in out
    assert json.loads((place / "attacked" / "check_asr.json").read_text())["asr"]["value"] == 0.5
    assert "no such folder" in call("check_asr", "--root", "nowhere", "--root-no-attack", "plain", code=2)
    assert "no run with a log.json" in call("check_asr", "--root", "models", "--root-no-attack", "plain", code=2)


def test_a_text_encoder_is_attacked_too(call, data, place):
    tower = tiny_model(seed=1).cond_stage_model.transformer.state_dict()
    torch.save(tower, place / "TextEncoder.pt")
    given = ("--attacker.attack_idx", "0", "--task.target_ckpt", "TextEncoder.pt")
    for root, more in (("runs/tower", given), ("runs/none", given[:2])):
        attack(call, "no_attack", "--logger.json.root", root, *more)
    pictures = [(place / f"runs/{r}/attack_idx_0/images/orig.png").read_bytes() for r in ("tower", "none")]
    assert pictures[0] != pictures[1]
    torch.save({"text_model.x": torch.zeros(1)}, place / "text_encoder.pt")
    assert "not the weights of this model's text encoder" in attack(
        call, "no_attack", *given[:2], "--task.target_ckpt", "text_encoder.pt", code=2
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--task.concept", "rembrandt", "--all"), "the embedded model knows no 'rembrandt'"),
        (("--task.target_ckpt", "nothing", "--all"), "no model 'nothing'"),
        (("--task.dataset_path", "models", "--all"), "no prompts.csv in it"),
        (("--image_size", "64", "--all"), "the embedded judge looks at 128 pixels"),
        (("--attacker.kk", "3"), "unrecognized arguments"),
    ],
)
def test_mistakes(call, data, arguments, message):
    assert message in attack(call, "no_attack", *arguments, code=2)


def test_help_lists_every_setting_without_torch():
    shown = process.help_without_torch(SCRIPTS / "attack.py")
    assert all(f"--{name}" in shown for name in KEYS)
    for name in ("check_asr", "generate_dataset"):
        assert "python eval-scripts" in process.help_without_torch(SCRIPTS / f"{name}.py")
