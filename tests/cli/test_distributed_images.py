"""generate-images.py by torchrun: two processes draw what one draws."""

import shutil
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch.distributed import run as torchrun
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

from erasure.runs import ROOT
from tests.cli import generation_place, process
from tests.cli.generation_place import files

SCRIPT = "generate-images.py"
CSV = "case_number,prompt,evaluation_seed\n" + "".join(f"{case},a photo of a church,{case + 5}\n" for case in range(9))
DRAW = ("--prompts_path", "prompts.csv", "--sampler", "dpm", "--ddim_steps", 2, "--batch_size", 2)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with prompts, and in `one` what a single process with a single thread draws of them."""
    folder = tmp_path_factory.mktemp("place")
    (folder / "prompts.csv").write_text(CSV)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        done = generation_place.run(SCRIPT, *DRAW, "--model_name", "toy", "--save_path", "one", cwd=folder)
    finally:
        torch.set_num_threads(threads)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def by_two(place, monkeypatch):
    """torchrun with two processes; what it raises. It runs in a thread: that spares importing torch, and leaves signals alone."""
    monkeypatch.chdir(place)
    for name, value in process.ENVIRONMENT.items():
        monkeypatch.setenv(name, value)

    def run(*flags):
        launch = ("--standalone", "--nproc_per_node", 2, ROOT / "eval-scripts" / SCRIPT)
        with ThreadPoolExecutor(1) as thread:
            return thread.submit(torchrun.main, [str(word) for word in (*launch, *DRAW, *flags)]).exception()

    return run


def test_two_processes_finish_what_one_began(place, by_two, capfd):
    """Byte for byte, manifest included: batches of which nothing, a half and all is there."""
    shutil.copytree(place / "one", place / "two")
    for case in (0, 1, 2, 5, 6, 7, 8):
        (place / "two" / "toy" / f"{case}_0.png").unlink()
    leftover = place / "two" / "toy" / f".0_0.{2**22 + 1}-00000000.tmp.png"  # of a process that cannot be alive
    leftover.touch()
    failed = by_two("--model_name", "toy", "--save_path", "two")
    out, err = capfd.readouterr()
    assert failed is None, err
    assert "7 images made, 2 kept" in out
    assert files(place / "two") == files(place / "one")
    assert out.count("settings:") == out.count("base model:") == 1 and "Gloo" not in out
    assert "images of the first of 2 processes: 100%" in err and "distributed_backend" not in err


def test_a_mistake_is_one_line(place, by_two, capfd):
    failed = by_two("--model_name", "typo", "--save_path", "mistake")
    out, err = capfd.readouterr()
    assert isinstance(failed, ChildFailedError) and not (place / "mistake").exists()
    said = [line for line in err.splitlines() if line.startswith("error: ")]
    assert len(said) == 1 and "no model 'typo'" in said[0]
    assert "settings:" not in out
