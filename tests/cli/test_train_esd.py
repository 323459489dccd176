"""train-esd.py as users call it: from any directory, killed and resumed, and with mistakes."""

import signal
import time

import pytest
import torch

from erasure import base_models, edits, errors
from erasure.runs import ROOT, read_json
from methods.esd import PRESETS
from tests.cli import process

SCRIPT = ROOT / "methods" / "esd" / "train-esd.py"
TINY = ["--ckpt_path", "tiny.safetensors", "--config_path", "tiny.yaml", "--devices", "cpu"]
QUICK = ["--train_method", "xattn", "--ddim_steps", "4", "--image_size", "32", "--seed", "1", "--save_format", "edit"]


@pytest.fixture(scope="module")
def script():
    return process.load(SCRIPT)


def start(*arguments, cwd):
    return process.start(SCRIPT, *arguments, cwd=cwd, env=process.same_threads())


def test_help_needs_no_torch():
    shown = process.help_without_torch(SCRIPT)
    for flag in ("--prompt", "--seperator", "--devices", "--diffusers_config_path", "--resume", "--erase_from"):
        assert flag in shown
    assert "1e-05 for Stable Diffusion" in shown


def test_run_from_another_directory(place):
    """The whole command in a process of its own; what it writes is found by name, as generate-images finds it."""
    started = start(*TINY, *QUICK, "--iterations", "2", "--prompt", "Thomas Kinkade", cwd=place)
    out, err = started.communicate()
    assert started.returncode == 0, err
    assert out.splitlines()[0] == "base: tiny.safetensors"
    name = "compvis-word_ThomasKinkade-method_xattn-sg_3-ng_1-iter_2-lr_0.0001"
    found = edits.find_for(name)
    assert found.resolve() == place / "models" / name / "edit.safetensors"
    assert f"generate-images.py --model_name {name} --prompts_path" in out
    model, identity = base_models.load("tiny.safetensors", "tiny.yaml")
    with edits.load_into(model, identity, found) as applied:
        assert applied.matched and all("attn2" in key for key in applied.matched)
    saved = read_json(found.with_name("settings.json"))
    assert saved["settings"]["iterations"] == 2 and saved["settings"]["seed"] == 1
    assert saved["base"] == identity.to_dict() and saved["device"] == "cpu"


def test_kill_9_and_resume(place, script):
    many = [*TINY, *QUICK, "--iterations", "30", "--checkpoint_every", "1"]
    killed = start(*many, cwd=place)
    folder = place / "models" / "compvis-word_VanGogh-method_xattn-sg_3-ng_1-iter_30-lr_0.0001"
    while not (folder / "checkpoint.safetensors").exists() and killed.poll() is None:
        time.sleep(0.01)
    killed.send_signal(signal.SIGKILL)
    assert killed.wait() == -signal.SIGKILL
    assert not (folder / "edit.safetensors").exists()
    assert script.main([*many, "--resume"]) == 0
    assert script.main([*many, "--save_path", "whole"]) == 0
    resumed, whole = (edits.read(f / "edit.safetensors") for f in (folder, place / "whole" / folder.name))
    assert all(torch.equal(resumed.tensors[name], tensor) for name, tensor in whole.tensors.items())


def test_embedded_model_is_the_default(script, capsys, monkeypatch, tmp_path):
    """The first line says which model; the preset is its own, and a flag wins over it."""
    if not (ROOT / base_models.TOY_CKPT).is_file() or (ROOT / base_models.SD_CKPT).is_file():
        pytest.skip("needs the embedded model, and no Stable Diffusion in its default place")
    monkeypatch.chdir(tmp_path)
    flags = ["--train_method", "xattn", "--iterations", "1", "--save_path", "out", "--save_format", "edit"]
    assert script.main(flags) == 0
    out = capsys.readouterr().out
    assert out.splitlines()[0].startswith("base: the embedded model (")
    (file,) = tmp_path.glob("out/compvis-word_VanGogh-*/settings.json")
    settings = read_json(file)["settings"]
    assert settings["iterations"] == 1
    assert settings["ddim_steps"] == PRESETS["toy"]["ddim_steps"]
    assert settings["lr"] == PRESETS["toy"]["lr"]
    assert script.main([*flags, "--seed", str(settings["seed"])]) == 0
    assert "finished: nothing to train" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--devices", "gpu"], "--devices 'gpu': give cpu, or GPUs by number"),
        (["--devices", "77"], "no cuda:77"),
        (["--ddim_steps", "36"], "36 DDIM steps do not fit"),
        (["--lr", "0"], "lr must be greater than 0"),
        (["--prompt", "a,,b", "--separator", ","], "empty concept"),
        (["--ckpt_path", "nothing.ckpt"], "no model at nothing.ckpt"),
        (["--config_path", "nothing.yaml"], "no configuration at nothing.yaml"),
        (["--train_method", "xlayer"], "'xlayer' selects no parameter"),
        (["--image_size", "40"], "image_size must be a multiple of 16"),
        (["--weights", "ema"], "moving averages"),
    ],
)
def test_mistakes_end_in_one_line(place, script, capsys, flags, message):
    with pytest.raises(SystemExit) as stopped:
        errors.run(lambda: script.main([*TINY, *QUICK, *flags]))
    error = capsys.readouterr().err
    assert stopped.value.code == 2
    assert error.startswith("error: ") and error.count("\n") == 1 and message in error
    assert not any((place / "models").iterdir())


@pytest.mark.parametrize(
    "flags", [["--train_method", "x-attn"], ["--resume", "--force"], ["--promt", "x"], ["--iterations", "many"]]
)
def test_unknown_and_contradictory_flags(script, capsys, flags):
    with pytest.raises(SystemExit) as stopped:
        script.main([*QUICK, *flags])
    assert stopped.value.code == 2
    assert "error: " in capsys.readouterr().err
