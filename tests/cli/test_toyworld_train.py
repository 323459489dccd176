"""Training the embedded model from nothing, in a few steps: every stage, a kill in between, the same weights."""

import time

import pytest
import torch
from safetensors.torch import load_file

from erasure.runs import ROOT
from tests.cli import process

SMALL = ("--pictures", "24", "--scale-steps", "0.001", "--unet-steps", "4", "--threads", "1")
SMALL += ("--out", "weights", "--work", "work")


MODULE = ("-m", "toyworld.train")


def run(*arguments, cwd):
    return process.run(*MODULE, *arguments, cwd=cwd)


@pytest.mark.slow
def test_every_stage_and_a_kill(tmp_path):
    undisturbed, killed = tmp_path / "undisturbed", tmp_path / "killed"
    undisturbed.mkdir(), killed.mkdir()
    done = run(*SMALL, cwd=undisturbed)
    assert done.returncode == 0, done.stderr
    victim = process.start(*MODULE, *SMALL, cwd=killed)
    while not (killed / "work" / "vae.pt").exists() and victim.poll() is None:
        time.sleep(0.05)
    victim.kill()
    victim.wait()
    assert not (killed / "weights").exists()
    done = run(*SMALL, cwd=killed)
    assert done.returncode == 0, done.stderr
    for name in ("toy-v1", "judge"):
        made, resumed, shipped = (
            load_file(folder / f"{name}.safetensors")
            for folder in (undisturbed / "weights", killed / "weights", ROOT / "models" / "toy")
        )
        assert {k: (t.shape, t.dtype) for k, t in made.items()} == {k: (t.shape, t.dtype) for k, t in shipped.items()}
        for key, tensor in made.items():
            assert torch.equal(tensor, resumed[key]), key


def test_help_and_wrong_input(tmp_path):
    shown = run("--help", cwd=tmp_path)
    assert shown.returncode == 0 and "--stage" in shown.stdout
    for arguments in (["--stage", "nonsense"], ["--pictures", "many"], ["--nonsense"]):
        done = run(*arguments, cwd=tmp_path)
        assert done.returncode == 2 and "Traceback" not in done.stderr
