"""Processes that draw together: every batch goes to one of them, and one of them speaks."""

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch.distributed import TCPStore

from erasure.errors import UserError
from erasure.generation import distributed
from erasure.generation.distributed import ALONE, Ranks
from erasure.generation.models import pick_device
from erasure.generation.plan import batches, images_of
from erasure.generation.presets import settings
from erasure.prompts import Row


@given(st.lists(st.sampled_from((None, 32, 48))), st.integers(1, 3), st.integers(1, 5), st.integers(1, 9))
def test_every_batch_is_drawn_by_one_rank(widths, num_samples, batch_size, count):
    rows = [Row(case, "a photo", case, width=width) for case, width in enumerate(widths)]
    s = settings("mace", num_samples=num_samples, image_size=64, naming="case", row_size=True)
    whole = list(batches(images_of(rows, s, 16), batch_size))
    shares = [Ranks(index, count).share(whole) for index in range(count)]
    drawn = [[image.file for image in batch] for share in shares for batch in share]
    assert sorted(drawn) == sorted([image.file for image in batch] for batch in whole)
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_a_process_by_itself_is_all_of_them(monkeypatch):
    for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE", "TORCHELASTIC_RUN_ID"):
        monkeypatch.delenv(name, raising=False)
    assert distributed.join() is ALONE and distributed.count() == 1 and distributed.local_rank() == 0
    assert ALONE.first and ALONE.share("abc") == ["a", "b", "c"] and ALONE.agree(lambda: 5) == 5
    monkeypatch.setenv("WORLD_SIZE", "4")  # of a cluster that starts one process a machine, without torchrun
    assert distributed.join() is ALONE


@pytest.fixture
def second(monkeypatch):
    """This process is the second of four on one machine, with the store that torchrun would keep for them."""
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    environment = {
        "RANK": 1, "LOCAL_RANK": 1, "WORLD_SIZE": 4, "LOCAL_WORLD_SIZE": 4, "TORCHELASTIC_RUN_ID": "none",
        "TORCHELASTIC_USE_AGENT_STORE": True, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": store.port,
    }  # fmt: skip
    for name, value in environment.items():
        monkeypatch.setenv(name, str(value))
    return store


def test_each_rank_has_its_gpu(second, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    found = []
    for rank in range(4):
        monkeypatch.setenv("LOCAL_RANK", str(rank))
        found.append(pick_device(None))
    assert found == ["cuda:0", "cuda:1", "cuda:0", "cuda:1"]
    assert pick_device("cuda:0") == "cuda:0" and pick_device("cpu") == "cpu"
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert pick_device(None) == "cpu"


def ended(main) -> int:
    with pytest.raises(SystemExit) as stopped:
        distributed.run(main)
    return stopped.value.code


def test_only_the_first_rank_prints(second, monkeypatch, capsys):
    def main():
        print("settings")
        print("note", file=sys.stderr)

    assert ended(main) == 0 and capsys.readouterr() == ("", "")
    monkeypatch.setenv("RANK", "0")
    assert ended(main) == 0 and capsys.readouterr() == ("settings\n", "note\n")


def test_one_of_those_that_fail_says_why(second, monkeypatch, capsys):
    def main():
        print("loading")
        raise UserError("no model here")

    assert ended(main) == 2 and capsys.readouterr() == ("", "\nerror: no model here\n")
    monkeypatch.setenv("RANK", "2")
    assert ended(main) == 1 and capsys.readouterr() == ("", "")
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")  # torchrun started them all anew
    assert ended(main) == 2 and "no model here" in capsys.readouterr().err


def test_ctrl_c_is_said_once(second, monkeypatch, capsys):
    def main():
        raise KeyboardInterrupt

    assert ended(main) == 130 and capsys.readouterr().err == ""
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("LOCAL_RANK", "0")
    assert ended(main) == 130 and "goes on from here" in capsys.readouterr().err
