"""What SepCE's training scripts share, seen through FMN.py: images, resuming, names, files, mistakes."""

import signal
import time

import pytest
import torch

from erasure import base_models, edits, errors
from erasure.runs import ROOT, read_json
from methods.sepce import command
from methods.sepce.training import Trainer
from tests.cli import process
from tests.unit.test_sepce_images import fill

SCRIPT = ROOT / "methods" / "sepce" / "FMN.py"
TINY = ["--ckpt_path", "tiny.safetensors", "--config_path", "tiny.yaml", "--devices", "cpu"]
QUICK = [*TINY, "--image_size", "32", "--seed", "1", "--iter_break", "3", "--data_root", "pictures", "--lr", "1e-4"]
NAME = "FMN-Van Gogh-iter_3"


@pytest.fixture(scope="module")
def script():
    return process.load(SCRIPT)


@pytest.fixture
def data(place):
    return fill(place / "pictures" / "van gogh", [f"{i}_0.png" for i in range(12)])


def bytes_of(folder):
    return {name: (folder / name).read_bytes() for name in ("edit.safetensors", "losses.csv")}


def test_run_finds_its_images_and_its_result_is_found_by_name(place, data, script, capsys):
    assert script.main([*QUICK, "--prompt", "VanGogh", "--save_format", "pt"]) == 0
    out = capsys.readouterr().out
    name = "FMN-VanGogh-iter_3"
    assert out.splitlines()[0] == "base: tiny.safetensors"
    assert "'VanGogh': 12 images in pictures/van gogh" in out
    assert "ended after 4 steps" in out and f"generate-images.py --model_name {name} --prompts_path" in out
    folder = place / "models" / name
    files = {"edit.safetensors", "losses.csv", "settings.json", f"{name}.pt", f"compvis-{name}.pt"}
    assert {f.name for f in folder.iterdir()} == files
    assert edits.find_for(name).resolve() == folder / "edit.safetensors"
    model, identity = base_models.load("tiny.safetensors", "tiny.yaml")
    values = []
    for file in ("edit.safetensors", f"{name}.pt", f"compvis-{name}.pt"):
        with edits.load_into(model, identity, folder / file):
            values.append({k: t.clone() for k, t in model.state_dict().items()})
    assert all(torch.equal(values[0][k], other[k]) for other in values[1:] for k in values[0])
    saved = read_json(folder / "settings.json")
    assert saved["settings"]["iter_break"] == 3 and saved["base"] == identity.to_dict()
    assert saved["steps"] == 4 and saved["ended_by"] == "rule"


def test_missing_images_are_drawn_or_asked_for(place, script, capsys):
    few = [*QUICK, "--prompt", "Van Gogh", "--num_images", "2"]
    with pytest.raises(SystemExit) as stopped:
        errors.run(lambda: script.main([*few, "--no_draw"]))
    assert stopped.value.code == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "python eval-scripts/generate-data.py --prompt 'Van Gogh'" in error
    assert script.main(few) == 0
    assert "drawing 2 training images of 'Van Gogh'" in capsys.readouterr().out
    assert sorted(f.name for f in (place / "pictures" / "Van Gogh").glob("*.png")) == ["0_0.png", "1_0.png"]


def test_published_lists_name_the_concept(place, data, script):
    assert script.main([*QUICK, "--erase_cat", "style", "--erased_index", "1"]) == 0  # VanGogh
    assert (place / "models" / "FMN-style-erased_index_1-iter_3" / "edit.safetensors").is_file()


def test_kill_9_and_resume(place, data, script):
    many = [*QUICK, "--prompt", "Van Gogh", "--checkpoint_every", "1", "--iterations", "30"]
    killed = process.start(SCRIPT, *many, cwd=place)
    folder = place / "models" / "FMN-Van Gogh-iter_30"
    while not (folder / "checkpoint.safetensors").exists() and killed.poll() is None:
        time.sleep(0.01)
    killed.send_signal(signal.SIGKILL)
    assert killed.wait() == -signal.SIGKILL
    assert not (folder / "edit.safetensors").exists()
    for extra in (["--resume"], ["--save_path", "whole"]):
        assert process.run(SCRIPT, *many, *extra, cwd=place).returncode == 0
    assert bytes_of(folder) == bytes_of(place / "whole" / folder.name)


def test_ctrl_c_says_how_to_go_on(place, data, script, capsys, monkeypatch):
    real = Trainer.update

    def interrupted(self, step):
        signal.raise_signal(signal.SIGINT)
        return real(self, step)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "update", interrupted)
        assert script.main([*QUICK, "--prompt", "Van Gogh"]) == errors.INTERRUPTED
    assert "stopped: add --resume to the same command to go on" in capsys.readouterr().err
    with pytest.raises(errors.UserError, match="stopped after 1 steps: --resume goes on"):
        script.main([*QUICK, "--prompt", "Van Gogh"])
    assert script.main([*QUICK, "--prompt", "Van Gogh", "--resume"]) == 0
    assert "resuming after step 1" in capsys.readouterr().out


def test_finished_run_is_not_repeated(place, data, script, capsys, monkeypatch):
    flags = [*QUICK, "--prompt", "Van Gogh", "--exp_name", "mine"]
    assert script.main(flags) == 0
    before = bytes_of(place / "models" / "mine")
    runs = []
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "update", lambda *_: pytest.fail("trained again"))
        again = command.main(
            script.build_parser(), [*flags, "--save_format", "safetensors"], "FMN", script.make_objective,
            work=lambda task: command.train_once(task, runs.append),
        )  # fmt: skip
    assert again == 0 and "finished: nothing to train" in capsys.readouterr().out
    assert bytes_of(place / "models" / "mine") == before
    assert (place / "models" / "mine" / "compvis-mine.safetensors").is_file()
    (run,) = runs
    assert run.folder.path.name == "mine" and run.edit.concepts == ["Van Gogh"] and run.settings.seed == 1
    with pytest.raises(errors.UserError, match="finished run with other settings .lr 0.0001 there, 0.5 here.*--force"):
        script.main([*flags, "--lr", "0.5"])
    assert script.main([*flags, "--lr", "0.5", "--force"]) == 0


def test_presets_and_flags(place, data, script):
    assert script.main([*QUICK, "--prompt", "Van Gogh"]) == 0
    settings = read_json(place / "models" / NAME / "settings.json")["settings"]
    expected = command.preset("FMN", "toy") | dict(image_size=32, iter_break=3, lr=1e-4)
    assert {name: settings[name] for name in expected} == expected


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--prompt", " "], "concept to erase must not be empty"),
        (["--prompt", "x", "--lr", "0"], "lr must be greater than 0"),
        (["--prompt", "x", "--iter_break", "-1"], "iter_break must be at least 0"),
        (["--prompt", "x", "--image_size", "30"], "multiple of 8"),
        (["--prompt", "x", "--devices", "gpu"], "--devices 'gpu'"),
        (["--prompt", "x", "--ckpt_path", "nothing.ckpt"], "no model at nothing.ckpt"),
        ([], "name a concept: --prompt, or --erased_index with --erase_cat"),
        (["--prompt", "x", "--erased_index", "1"], "--prompt names a concept, and so do --erase_cat"),
        (["--erase_cat", "style"], "name a concept"),
        (["--erase_cat", "nudity", "--erased_index", "1"], "--erased_index 1: nudity has 0 nudity"),
        (["--prompt", "empty"], "empty: no images in it"),
    ],
)
def test_mistakes_end_in_one_line(place, script, capsys, flags, message):
    (place / "pictures" / "empty").mkdir(parents=True)
    with pytest.raises(SystemExit) as stopped:
        errors.run(lambda: script.main([*QUICK, *flags]))
    error = capsys.readouterr().err
    assert stopped.value.code == 2
    assert error.startswith("error: ") and error.count("\n") == 1 and message in error
    assert not any((place / "models").iterdir())


@pytest.mark.parametrize(
    "flags",
    [
        ["--prompt", "x", "--resume", "--force"],
        ["--promt", "x"],
        ["--erase_cat", "styles", "--erased_index", "0"],
        ["--prompt", "x", "--iter_break", "many"],
    ],
)
def test_unknown_and_contradictory_flags(script, capsys, flags):
    with pytest.raises(SystemExit) as stopped:
        script.main([*QUICK, *flags])
    assert stopped.value.code == 2
    assert "error: " in capsys.readouterr().err
