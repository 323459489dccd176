"""The two commands of the README, as far as they can run inside a test, and set-up that finds everything done."""

import os
import subprocess

import pytest

from erasure.runs import ROOT

SCRIPTS = ROOT / "shell_scripts"
needs_venv = pytest.mark.skipif(not (ROOT / ".venv" / "requirements.stamp").exists(), reason="not set up by setup.sh")


def sh(script, *arguments, cwd):
    return subprocess.run(["sh", str(SCRIPTS / script), *arguments], cwd=cwd, capture_output=True, text=True)


@needs_venv
def test_setup_is_quick_the_second_time(tmp_path):
    done = sh("setup.sh", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "setup: .venv is up to date"


@needs_venv
def test_quickstart_passes_its_arguments_on_from_any_directory(tmp_path):
    done = sh("quickstart.sh", "--concept", "nobody", cwd=tmp_path)
    assert done.returncode == 2 and "nobody" in done.stderr
    assert "--concept" in sh("quickstart.sh", "--help", cwd=tmp_path).stdout


@needs_venv
def test_test_runs_what_it_is_given(tmp_path):
    done = sh("test.sh", "tests/unit/test_intervals.py", "-q", "--collect-only", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "test_intervals.py" in done.stdout


def test_scripts_are_plain_posix_shell():
    for script in SCRIPTS.rglob("*.sh"):
        checked = subprocess.run(["sh", "-n", str(script)], capture_output=True, text=True)
        assert checked.returncode == 0, checked.stderr
        assert script.read_text().startswith("#!/bin/sh\n"), script


@needs_venv
def test_ci_runs_the_tests(tmp_path):
    environment = {**os.environ, "WORKERS": "1"}
    command = ["bash", str(ROOT / ".ci" / "run"), "tests/unit/test_intervals.py", "-q", "--collect-only"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=environment)
    assert done.returncode == 0 and "test_intervals.py" in done.stdout, done.stdout + done.stderr
