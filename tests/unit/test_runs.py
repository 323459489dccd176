"""Run folders: files that are whole or absent, hashes that follow the values, exit codes."""

import subprocess
import sys

import pytest
import safetensors
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from erasure import errors, runs


def files(folder):
    return sorted(path.name for path in folder.iterdir())


def test_atomic_path_replaces_only_when_the_block_ends_well(tmp_path):
    target = tmp_path / "new" / "file.txt"
    runs.write_text(target, "one")
    with pytest.raises(ZeroDivisionError), runs.atomic_path(target) as temporary:
        temporary.write_text("half")
        assert temporary.suffix == target.suffix and temporary.parent == target.parent
        raise ZeroDivisionError
    assert target.read_text() == "one" and files(target.parent) == ["file.txt"]
    runs.write_text(target, "two")
    assert target.read_text() == "two" and files(target.parent) == ["file.txt"]


def test_a_killed_writer_leaves_the_old_file(tmp_path):
    target = tmp_path / "file.txt"
    target.write_text("one")
    code = (
        "import os, sys; from erasure.runs import atomic_path\n"
        f"with atomic_path({str(target)!r}) as t:\n    t.write_text('half'); os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=runs.ROOT)
    assert target.read_text() == "one"


def test_json_round_trip_and_no_nan(tmp_path):
    value = {"concept": "Édouard", "n": 3, "list": [1.5, None, True]}
    runs.write_json(tmp_path / "a.json", value)
    assert runs.read_json(tmp_path / "a.json") == value
    with pytest.raises(ValueError):
        runs.write_json(tmp_path / "b.json", {"loss": float("nan")})
    assert files(tmp_path) == ["a.json"]


def test_find_looks_in_the_working_directory_then_in_the_repository(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert runs.find("pyproject.toml") == runs.ROOT / "pyproject.toml"
    (tmp_path / "pyproject.toml").touch()
    assert runs.find("pyproject.toml").resolve() == tmp_path / "pyproject.toml"
    assert str(runs.find("nowhere/at-all")) == "nowhere/at-all"


def test_safetensors_metadata(tmp_path):
    from safetensors import safe_open

    runs.save_safetensors(
        tmp_path / "a.safetensors", {"a": torch.ones(2, 3).t()}, {"text": "as is", "number": 3, "list": [1]}
    )
    with safe_open(tmp_path / "a.safetensors", "pt") as file:
        assert file.metadata() == {"text": "as is", "number": "3", "list": "[1]"}
        assert torch.equal(file.get_tensor("a"), torch.ones(3, 2))


@given(st.dictionaries(st.text(min_size=1, max_size=5), st.text(max_size=9), max_size=8))
@settings(max_examples=25, deadline=None)
def test_the_same_contents_are_the_same_bytes(tmp_path_factory, metadata):
    """Whatever the metadata says, in whatever order, and all of it comes back."""
    folder, found = tmp_path_factory.mktemp("bytes"), set()
    for order in (metadata, dict(reversed(metadata.items()))):
        runs.save_safetensors(folder / "a.safetensors", {"b": torch.ones(3), "a": torch.zeros(5)}, order)
        found.add((folder / "a.safetensors").read_bytes())
    with safetensors.safe_open(folder / "a.safetensors", "pt") as file:
        assert (file.metadata() or {}) == metadata
        assert torch.equal(file.get_tensor("b"), torch.ones(3))
    assert len(found) == 1


tensors = st.dictionaries(
    st.text("abc.", min_size=1, max_size=4), st.lists(st.floats(-9, 9, width=16), min_size=1, max_size=4), min_size=1
)


@given(tensors)
def test_hash_follows_names_shapes_and_values(values):
    made = {key: torch.tensor(value) for key, value in values.items()}
    expected = runs.tensors_sha256(made)
    assert runs.tensors_sha256(dict(reversed(made.items()))) == expected
    assert runs.tensors_sha256({key: t.half() for key, t in made.items()}) == expected
    key = next(iter(made))
    assert runs.tensors_sha256(made | {key: made[key] + 1}) != expected
    assert runs.tensors_sha256(made | {key: made[key][None]}) != expected
    assert runs.tensors_sha256({(k + "x" if k == key else k): t for k, t in made.items()}) != expected


def test_hash_of_scalars_and_files(tmp_path):
    assert runs.tensors_sha256({"a": torch.tensor(1.0)}) != runs.tensors_sha256({"a": torch.tensor(2.0)})
    import hashlib

    (tmp_path / "a").write_bytes(b"x" * (3 << 20))
    assert runs.sha256_file(tmp_path / "a") == hashlib.sha256(b"x" * (3 << 20)).hexdigest()


def test_settings_and_versions(capsys):
    runs.print_settings({"lr": 1e-5, "train_method": "xattn"})
    assert capsys.readouterr().out == "settings:\n  lr            1e-05\n  train_method  xattn\n"
    assert runs.versions()["torch"].split("+")[0] == torch.__version__.split("+")[0]


def fail(error):
    def main():
        raise error

    return main


@pytest.mark.parametrize(
    ("main", "code", "message"),
    [
        (lambda: None, 0, ""),
        (lambda: 1, 1, ""),
        (fail(errors.UserError("row 3:\n no prompt")), 2, "error: row 3: no prompt\n"),
        (lambda: open("/nowhere/at-all"), 2, "error: No such file or directory: /nowhere/at-all\n"),
        (fail(FileExistsError(17, "File exists", "out")), 2, "error: File exists: out\n"),
        (fail(OSError(28, "No space left on device")), 2, "error: [Errno 28] No space left on device\n"),
        (fail(KeyboardInterrupt()), errors.INTERRUPTED, None),
    ],
)
def test_exit_codes(main, code, message, capsys):
    with pytest.raises(SystemExit) as raised:
        errors.run(main)
    assert raised.value.code == code
    printed = capsys.readouterr().err
    assert "Traceback" not in printed and (message is None or printed == message)


@pytest.mark.parametrize("error", (ZeroDivisionError(), ConnectionResetError(104, "reset"), OSError("odd")))
def test_a_bug_is_not_hidden(error):
    with pytest.raises(type(error)):
        errors.run(fail(error))


def test_a_pt_file_is_the_same_bytes_again_and_holds_tensors_only(tmp_path):
    value = {"a": torch.arange(3.0), "b": torch.ones(2, 2)}
    for name in ("one.pt", "other.pt"):
        runs.save_pt(tmp_path / name, value)
    assert (tmp_path / "one.pt").read_bytes() == (tmp_path / "other.pt").read_bytes()
    read = torch.load(tmp_path / "one.pt", weights_only=True)
    assert read.keys() == value.keys() and all(torch.equal(read[key], value[key]) for key in value)
    assert [file.name for file in sorted(tmp_path.iterdir())] == ["one.pt", "other.pt"]
