"""python -m erasure.doctor: every command is known, and what it says is what the commands say."""

import json
import re
from pathlib import Path

import pytest

from erasure import doctor, needs
from erasure.metrics import torchvision_weights
from erasure.metrics.definitions import METRICS
from erasure.runs import ROOT
from tests.cli.process import help_without_torch, run

SCRIPTS = sorted(
    path.relative_to(ROOT).as_posix()
    for folder in ("eval-scripts", "methods", "reproduce", "data", "toyworld")
    for path in (ROOT / folder).rglob("*.py")
    if re.search(r'^if __name__ == "__main__":', path.read_text(encoding="utf-8"), re.MULTILINE)
)


def test_every_command_is_known():
    known = needs.commands()
    assert set(SCRIPTS) == set(known), "describe the command in erasure/needs.py"
    for command in known.values():
        assert {*command.needs, *command.optional} <= needs.NEEDS.keys()
        assert {*command.packages} <= doctor.packages().keys()
    assert {name for command in known.values() for name in command.needs + command.optional} == needs.NEEDS.keys()
    assert {metric.script for metric in METRICS.values()} <= set(SCRIPTS)


def test_what_the_repository_holds_is_found():
    from toyworld.judge import JUDGE_PATH

    for name, need in needs.NEEDS.items():
        if need.bundled:
            found = need.look()
            assert found.state == "ok" and len(found.sha256) == 64, name
    assert needs.NEEDS["judge"].look(hashes=False).path.resolve() == JUDGE_PATH


def test_a_missing_file_is_told_as_the_command_tells_it(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    need = needs.NEEDS["vgg19"]
    found = need.look()
    if found.state == "ok":
        pytest.skip("VGG-19 is here")
    assert found.text.startswith("no ImageNet weights of vgg19: get https://") and "sha256 dcbb9e9d" in found.text
    assert "or name it with --weights" in found.text and str(ROOT / "models/torchvision") in found.text


def test_a_damaged_file_is_told(tmp_path, monkeypatch):
    cache = tmp_path / "hub" / "checkpoints"
    cache.mkdir(parents=True)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    if (ROOT / torchvision_weights.FOLDER / torchvision_weights.FILES["vgg19"]).is_file():
        pytest.skip("VGG-19 is here")
    (cache / torchvision_weights.FILES["vgg19"]).write_bytes(b"half a download")
    found = needs.NEEDS["vgg19"].look()
    assert found.state == "damaged" and "damaged" in found.text and len(found.sha256) == 64
    assert doctor.lacking(needs.Command(("vgg19",)), {"vgg19": found}, {}) == ["vgg19"]
    assert needs.NEEDS["vgg19"].look(hashes=False).state == "ok"  # not read


def test_packages_are_those_of_the_requirements():
    found = doctor.packages()
    assert found["torch"].state.startswith("ok") and found["nudenet"].installed
    assert found["xformers"].optional and len(found["numpy"].tested) == 2
    absent = doctor.Package("x", ("1",), False, None)
    assert absent.state == "missing" and doctor.Package("x", ("1",), True, None).state.startswith("optional")
    assert doctor.Package("x", ("2.1",), False, "2.1+cpu").state == "ok"
    assert doctor.lacking(needs.Command((), (), ("x",)), {}, {"x": absent}) == ["package x"]


def test_the_command(tmp_path):
    environment = {"cwd": tmp_path}
    done = run(
        "-m", "erasure.doctor", "summarize.py", "eval-scripts/evaluate_judge.py", "--json", "d.json", **environment
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 of 2 commands can run" in done.stdout
    found = json.loads((tmp_path / "d.json").read_text())
    assert list(found["commands"]) == ["eval-scripts/summarize.py", "eval-scripts/evaluate_judge.py"]
    assert len(found["files"]["judge"]["sha256"]) == 64
    if not Path(ROOT / "models" / "giphy").exists():
        done = run("-m", "erasure.doctor", "evaluate_giphy.py", "--no_hash", **environment)
        assert done.returncode == 1 and "lacks giphy" in done.stdout and "celeb-detection-oss" in done.stdout
    done = run("-m", "erasure.doctor", "nonsense.py", **environment)
    assert done.returncode == 2 and done.stderr.startswith("error: no command nonsense.py")


def test_help_is_quick():
    assert "--no_hash" in help_without_torch(ROOT / "erasure" / "doctor.py")
