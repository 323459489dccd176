"""train_cpe.py as users call it: from any directory, on several devices, stopped and resumed, and with mistakes."""

import contextlib
import io
import json
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time

import pytest
import torch

from erasure import base_models, edits, errors
from erasure.runs import ROOT, read_json
from methods.cpe import run as cpe_run
from methods.cpe.train_cpe import build_parser
from methods.cpe.training import Trainer
from tests.cli import generation_place, process
from tests.cli.generation_place import Result, refused

SCRIPT = ROOT / "methods" / "cpe" / "train_cpe.py"
TINY = ["--ckpt_path", "tiny.safetensors", "--config_path", "tiny.yaml", "--config_file", "config.yaml"]
CONFIG = {
    "prompts_file": "prompt.yaml",
    "scripts_file": "templates.csv",
    "replace_word": "actor",
    "anchors": {"general": ["a dog", "a house"], "candidates": ["Emma Stone", "Elon Musk", "Drake"]},
    "pretrained_model": {"name_or_path": "CompVis/stable-diffusion-v1-4", "v2": False},
    "network": {"rank": 1, "alpha": 1.0, "init_size": 4},
    "train": {"iterations": 2, "lr": "1e-3", "lr_warmup_steps": 1, "num_stages": 2, "factor_init_iter": 2, "pal": "1e+4",
              "do_adv_learn": True, "iterations_adv": 2, "lr_adv": 0.01, "lr_warmup_steps_adv": 1, "num_add_prompts": 2,
              "train_seed": 3, "skip_learned": True, "log_every": 1},
    "save": {"name": "tiny", "path": "out/run_guide#_pal#_gate_rank#/ACTOR"},
    "embedded": {"train": {"iterations": 3}},
}  # fmt: skip
CONCEPTS = ("emma stone", "elon musk", "drake")
FOLDER = "out/run_guide0.3_pal10000.0_gate_rank4"


@pytest.fixture(autouse=True)
def one_thread():
    """As the processes have it: bits depend on their number."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def trained(place):
    """The working directory with a configuration of three concepts in it."""
    write_config(place)
    entries = [
        {"target": c, "neutral": "a person", "guidance_scale": "0.3", "sampling_batch_size": 2} for c in CONCEPTS
    ]
    (place / "prompt.yaml").write_text(json.dumps(entries))
    (place / "templates.csv").write_text("prompt\nactor walks\na photo of actor\n")
    return place


def write_config(place, **changes):
    (place / "config.yaml").write_text(json.dumps(CONFIG | changes))  # JSON is YAML


def call(*flags) -> Result:
    """The command in this process."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), pytest.raises(SystemExit) as ended:
        errors.run(lambda: cpe_run.main(build_parser().parse_args([*TINY, *flags])))
    return Result(ended.value.code, out.getvalue(), err.getvalue())


def start(*flags, cwd):
    command = [sys.executable, str(SCRIPT), *TINY, *flags]
    return subprocess.Popen(
        command, cwd=cwd, env=process.ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def contents(folder):
    """Bytes of all files but settings.json, which says how long it took."""
    return {name: b for name, b in generation_place.files(folder).items() if not name.endswith("settings.json")}


def test_help_needs_no_torch():
    shown = process.help_without_torch(SCRIPT)
    parser = build_parser()
    assert {f for action in parser._actions for f in action.option_strings if f.startswith("--")} <= set(
        re.findall(r"--[\w-]+", shown)
    )
    for text in ("what to erase:", "training (defaults: the configuration's):", "python methods/cpe/train_cpe.py"):
        assert text in shown


def test_files_and_what_to_do_with_them(trained):
    """Concepts one after the other; the printed command draws with all of them."""
    done = call("--devices", "cpu")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0] == "base: tiny.safetensors"
    assert "emma stone: 3 templates, 12 anchors, on cpu" in done.stdout and "iterations " in done.stdout
    folders = [trained / FOLDER / c.replace(" ", "_") for c in CONCEPTS]
    assert sorted((trained / FOLDER).iterdir()) == sorted(folders)
    edit = edits.read_gates(FOLDER)
    model, identity = base_models.load("tiny.safetensors", "tiny.yaml")
    assert sorted(edit.concepts) == sorted(CONCEPTS) and edit.base == identity.to_dict()
    with edits.load_into(model, identity, FOLDER, without=["drake"]) as applied:
        assert applied.edit.concepts == ["elon musk", "emma stone"]
    for folder, concept in zip(folders, CONCEPTS, strict=True):
        saved = read_json(folder / "settings.json")
        assert (saved["settings"]["target"], saved["settings"]["iterations"]) == (concept, 3), (
            "its block is the tiny model's"
        )
        assert saved["base"] == identity.to_dict() and saved["device"] == "cpu"
    printed = next(line for line in done.stdout.splitlines() if "generate-images.py" in line)
    python, script, *arguments = shlex.split(printed)
    assert python == "python" and script == str(ROOT / "eval-scripts" / "generate-images.py")
    few = ["--df_length", "1", "--ddim_steps", "1", "--image_size", "32", "--device", "cpu"]
    drawn = generation_place.run("generate-images.py", *arguments, *few, cwd=trained)
    assert drawn.returncode == 0, drawn.stderr
    assert len(generation_place.pictures(trained / "outputs")) == 1


def test_what_is_there_is_left_or_compared_or_replaced(trained, monkeypatch):
    one = ["--devices", "cpu", "--concepts", "Drake"]
    done = call(*one)
    assert done.returncode == 0 and f"--resag {FOLDER}/drake/tiny_last.safetensors" in done.stdout
    before = contents(trained / "out")
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "update", lambda *_: pytest.fail("trained again"))
        skipped = call(*one, "--iterations", "9")
        assert skipped.returncode == 0 and "learned already, whatever the settings were: drake" in skipped.stdout
        assert "base:" not in skipped.stdout, "for nothing to do no model is loaded"
        finished = call(*one, "--no-skip_learned")
        assert finished.returncode == 0 and "is there, finished" in finished.stdout
        assert "iterations 3 there, 9 here" in refused(call(*one, "--no-skip_learned", "--iterations", "9"))
        assert "--output_root" in refused(call(*one, "--no-skip_learned", "--seed", "9"))
        monkeypatch.chdir(trained / "models")  # elsewhere there is nothing yet
        for name in ("tiny.safetensors", "tiny.yaml", "config.yaml", "prompt.yaml", "templates.csv"):
            shutil.copy(trained / name, name)
        with pytest.raises(pytest.fail.Exception, match="trained again"):
            call(*one)
        monkeypatch.chdir(trained)
    assert contents(trained / "out") == before
    done = call(*one, "--force", "--num_stages", "1", "--lora_rank", "2", "--output_root", "there")
    assert (
        done.returncode == 0
        and (trained / "there" / f"{FOLDER}_lora_rank2" / "drake" / "tiny_stage1.safetensors").is_file()
    )
    done = call(*one, "--force", "--resume_stage", "1")
    assert done.returncode == 0, done.stderr
    found = contents(trained / "out")
    assert found.keys() == before.keys()
    assert {name for name in found if found[name] == before[name]} >= {
        f"run_guide0.3_pal10000.0_gate_rank4/drake/tiny_{name}1.safetensors" for name in ("stage", "adv_prompts_stage")
    }


def test_ctrl_c_says_how_to_go_on(trained, monkeypatch):
    real = Trainer.update

    def interrupted(self, *arguments):
        signal.raise_signal(signal.SIGINT)
        return real(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "update", interrupted)
        stopped = call("--devices", "cpu")
    assert stopped.returncode == errors.INTERRUPTED
    assert stopped.stderr.endswith("stopped: add --resume to the same command to go on\n")
    assert "stopped after iteration 1 of stage 0: --resume goes on" in refused(call("--devices", "cpu"))
    done = call("--devices", "cpu", "--resume", "--end_prompt_idx", "0")
    assert done.returncode == 0 and "1 of" not in done.stderr, done.stderr
    assert not (trained / FOLDER / "emma_stone" / "checkpoint.safetensors").exists()


def test_one_device_of_several(trained, monkeypatch):
    """The one that is named, and none that is not there."""
    used = []
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(cpe_run, "train_all", lambda arguments, plan: used.append(arguments.device))
    for flags in (["--devices", "cuda:1"], ["--devices", "cpu"], ["--device", "1"], []):
        assert call(*flags).returncode == 0
    assert used == ["cuda:1", "cpu", "1", None]
    assert "no cuda:2" in refused(call("--devices", "cuda:2"))


def test_two_devices_terminated_and_resumed_are_the_bytes_of_one(trained):
    """One process a device. SIGTERM reaches the first process alone, which passes it on: no worker is left running."""
    write_config(trained, train=CONFIG["train"] | {"factor_init_iter": 1}, embedded={})
    many = ["--concepts", "emma stone,elon musk", "--iterations", "150", "--checkpoint_every", "50"]
    running = start(*many, "--devices", "cpu,cpu", cwd=trained)
    while not list(trained.rglob("tiny_stage1.safetensors")) and running.poll() is None:
        time.sleep(0.01)
    running.send_signal(signal.SIGTERM)
    _, err = running.communicate()  # which waits for all that could still write
    assert running.returncode in (errors.INTERRUPTED, 128 + signal.SIGTERM), err  # the second if one was still loading
    assert "stopped: add --resume to the same command to go on" in err
    assert not list(trained.rglob("*_last.safetensors"))
    done = call(*many, "--devices", "cpu", "--resume")
    assert done.returncode == 0, done.stderr
    (trained / "out").rename("resumed")
    done = call(*many, "--devices", "cpu")
    assert done.returncode == 0, done.stderr
    found = contents(trained / "resumed")  # stage 1 of two devices, and what came after it of one
    assert len(found) == 2 * 7  # two stages, the end, the offsets of each, and losses
    assert found == contents(trained / "out")


# ---- mistakes ------------------------------------------------------------------------------------------------------

CPU = ["--devices", "cpu"]


@pytest.mark.parametrize(
    ("flags", "config", "message"),
    [
        ([*CPU, "--config_file", "nowhere.yaml"], {}, "nowhere.yaml: no such file"),
        ([*CPU, "--config_file", "models"], {}, "models: is a folder, not a YAML file"),
        ([*CPU, "--config_file", "templates.csv"], {}, "templates.csv"),
        ([*CPU, "--config_file", "prompt.yaml"], {}, "prompt.yaml: it holds no settings"),
        (CPU, {"prompts_file": None}, "config.yaml: no prompts_file"),
        (CPU, {"prompts_file": "config.yaml"}, "it is no list of concepts"),
        (CPU, {"scripts_file": "nowhere.csv"}, "nowhere.csv: no such file"),
        (CPU, {"anchors": {"prompts": "nowhere.txt"}}, "nowhere.txt: no such file"),
        (CPU, {"train": "fast", "embedded": {}}, "train in the configuration holds no settings"),
        (CPU, {"train": {"lr": "fast"}}, "lr must be float, not 'fast'"),
        (CPU, {"pretrained_model": "toy"}, "pretrained_model in the configuration holds no settings"),
        (CPU, {"pretrained_model": {"v2": True}}, "Stable Diffusion 2 has another architecture"),
        ([*CPU, "--st_prompt_idx", "3"], {}, "no concept from 3 to 2: the list has 3"),
        ([*CPU, "--concepts", ", "], {}, "--concepts names none"),
        ([*CPU, "--pal", "-2"], {}, "pal must be a number that is not negative"),
        ([*CPU, "--gate_rank", "0"], {}, "gate_rank must be at least 1"),
        ([*CPU, "--noise", "much"], {}, "noise_scale must be float, not 'much'"),
        ([*CPU, "--resume_stage", "2"], {}, "resume_stage 2 of 2 stages"),
        ([*CPU, "--resume_stage", "1"], {}, "tiny_stage1.safetensors: no such file"),
        ([*CPU, "--ckpt_path", "nothing.ckpt"], {}, "no model at nothing.ckpt"),
        ([*CPU, "--ckpt_path", "2.1"], {}, "Stable Diffusion 2 has another architecture"),
        ([*CPU, "--cache_device", "disk"], {}, "disk"),
        (["--devices", "gpu"], {}, "--devices 'gpu'"),
        (["--devices", "77"], {}, "no cuda:77"),
        (["--devices", "cpu,cuda:77"], {}, "no cuda:77"),
        ([*CPU, "--cache_device", "cuda:77"], {}, "no cuda:77"),
    ],
)
def test_mistakes_end_in_one_line(trained, flags, config, message):
    write_config(trained, **config)
    done = call(*flags)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1 and message in done.stderr, done.stderr
    assert not list(trained.rglob("*_last.safetensors")) and not list(trained.rglob("checkpoint.safetensors"))


@pytest.mark.parametrize(
    "flags",
    [["--resume", "--force"], ["--concept", "drake"], ["--iterations", "many"], ["--skip_learned", "--what"]],
)
def test_unknown_and_contradictory_flags(trained, flags):
    out = io.StringIO()
    with pytest.raises(SystemExit) as stopped, contextlib.redirect_stderr(out):
        build_parser().parse_args([*TINY, *flags])
    assert stopped.value.code == 2 and "error: " in out.getvalue()


def test_a_configuration_is_needed():
    done = process.run(SCRIPT, "--devices", "cpu")
    assert done.returncode == 2 and "--config_file" in done.stderr.splitlines()[-1]
