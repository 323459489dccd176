"""Files of weights: every kind that is in circulation, and what must be refused in one line."""

import io
import os
import pickle
import subprocess
import sys
import types

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from erasure.checkpoint_files import read_tensors, shapes
from erasure.errors import UserError
from erasure.runs import ROOT

LIGHTNING = "pytorch_lightning.callbacks.model_checkpoint"


def weights():
    return {"a.weight": torch.arange(6.0).reshape(2, 3), "b": torch.tensor([1.5], dtype=torch.float16)}


def save_lightning(path, state_dict, legacy=False):
    """A checkpoint as Lightning 1.4 wrote it: callbacks keyed by their class, numpy scalars, optimizer states.

    The package is faked while the file is written and gone afterwards.
    """
    names = ["pytorch_lightning", "pytorch_lightning.callbacks", LIGHTNING]
    callback = type("ModelCheckpoint", (), {"__module__": LIGHTNING})
    modules = {name: types.ModuleType(name) for name in names}
    modules[LIGHTNING].ModelCheckpoint = callback
    before = {name: sys.modules.get(name) for name in names}
    sys.modules.update(modules)
    content = {
        "epoch": 7,
        "global_step": 470000,
        "pytorch-lightning_version": "1.4.2",
        "callbacks": {
            callback: {"best_model_score": torch.tensor(0.5), "best": np.float64(0.5), "monitor": "val/loss"}
        },
        "optimizer_states": [{"state": {0: {"step": 1, "exp_avg": torch.ones(3)}}, "param_groups": [{"lr": 1e-4}]}],
        "lr_schedulers": [{"base_lrs": [1e-4], "_last_lr": np.float32(1e-4), "instance": callback()}],
        "state_dict": state_dict,
    }
    try:
        torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    finally:
        for name, module in before.items():
            sys.modules.pop(name)
            if module is not None:
                sys.modules[name] = module
    return path


def same(found, expected):
    assert found.keys() == expected.keys()
    for key, tensor in expected.items():
        assert found[key].dtype == tensor.dtype and torch.equal(found[key], tensor), key


@pytest.fixture(params=("safetensors", "zip", "legacy", "state_dict", "data parallel", "lightning", "lightning legacy"))
def kind(request):
    return request.param


def write(path, kind):
    if kind == "safetensors":
        save_file(weights(), path)
    elif kind.startswith("lightning"):
        save_lightning(path, weights(), legacy="legacy" in kind)
    else:
        content = {"state_dict": weights(), "step": 3} if kind == "state_dict" else weights()
        if kind == "data parallel":
            content = {"module." + key: tensor for key, tensor in content.items()}
        torch.save(content, path, _use_new_zipfile_serialization=kind != "legacy")
    return path


def test_reads(kind, tmp_path):
    path = write(tmp_path / f"file.{'safetensors' if kind == 'safetensors' else 'ckpt'}", kind)
    same(read_tensors(path), weights())
    assert shapes(path) == {key: tuple(tensor.shape) for key, tensor in weights().items()}


def test_reads_lightning_without_the_package_in_a_fresh_process(tmp_path):
    path = save_lightning(tmp_path / "sd.ckpt", weights())
    code = (
        "import sys; from erasure.checkpoint_files import read_tensors\n"
        "sys.modules['pytorch_lightning'] = None; sys.modules['lightning'] = None\n"
        f"print(sorted(read_tensors({str(path)!r})))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.strip() == str(sorted(weights())), done.stderr


def test_large_files_are_mapped(tmp_path, monkeypatch):
    monkeypatch.setattr("ldm.checkpoint_files._MMAP_FROM", 1)
    torch.save(weights(), tmp_path / "a.pt")
    same(read_tensors(tmp_path / "a.pt"), weights())


def test_a_safetensors_file_is_known_by_its_content(tmp_path):
    save_file(weights(), tmp_path / "a.safetensors")
    same(read_tensors((tmp_path / "a.safetensors").rename(tmp_path / "a.ckpt")), weights())


# ---- pickles that want to run code ---------------------------------------------------------------------------------


class Payload:
    """Unpickled the ordinary way, it makes a folder."""

    def __init__(self, target, function=os.mkdir):
        self.target, self.function = str(target), function

    def __reduce__(self):
        return self.function, (self.target,)


class Subclass(dict):
    """Not dangerous, but a class of its own: the reader cannot know."""


def run_marker(path):
    np.testing.assert_(os.mkdir(path) is None)


@pytest.fixture
def marker(tmp_path):
    return tmp_path / "payload-ran"


def payloads(marker):
    return {
        "beside the weights": {"state_dict": weights(), "callbacks": [Payload(marker)]},
        "instead of them": Payload(marker),
        "as a key": {"state_dict": weights(), ("k", Payload(marker)): 1},
        "eval": {"state_dict": weights(), "x": Payload(f"__import__('os').mkdir({str(marker)!r})", eval)},
    }


@pytest.mark.parametrize("legacy", (False, True))
@pytest.mark.parametrize("name", payloads("x"))
def test_malicious_pickle(name, legacy, marker, tmp_path):
    path = tmp_path / "bad.ckpt"
    torch.save(payloads(marker)[name], path, _use_new_zipfile_serialization=not legacy)
    with pytest.raises(UserError) as refused:
        read_tensors(path)
    assert not marker.exists()
    message = str(refused.value)
    assert "run code" in message and ("mkdir" in message or "eval" in message) and "\n" not in message
    with pytest.raises(UserError):
        shapes(path)
    assert not marker.exists()


def test_the_payload_does_run_where_pickled_code_is_allowed(marker, tmp_path):
    torch.save({"state_dict": weights(), "x": Payload(marker)}, tmp_path / "mine.ckpt")
    same(read_tensors(tmp_path / "mine.ckpt", unsafe_pickle=True), weights())
    assert marker.is_dir()


def test_plain_pickle(marker, tmp_path):
    (tmp_path / "plain.pt").write_bytes(pickle.dumps(Payload(marker)))
    with pytest.raises(UserError):
        read_tensors(tmp_path / "plain.pt")
    assert not marker.exists()


@pytest.mark.parametrize("legacy", (False, True))
def test_code_of_bystanders_is_not_run_either(legacy, marker, tmp_path, monkeypatch):
    """A function under the name of a package that is replaced by stand-ins: read, but never called."""
    monkeypatch.setattr(np, "run_marker", run_marker, raising=False)
    monkeypatch.setattr(run_marker, "__module__", "numpy")
    monkeypatch.setattr(run_marker, "__qualname__", "run_marker")
    path = tmp_path / "numpy.ckpt"
    torch.save(
        {"state_dict": weights(), "x": Payload(marker, run_marker)}, path, _use_new_zipfile_serialization=not legacy
    )
    try:
        same(read_tensors(path), weights())
    except UserError as error:  # the old format is read with a list of known names
        assert legacy and "numpy.run_marker" in str(error)
    assert not marker.exists()


def test_unknown_class(tmp_path):
    torch.save({"state_dict": Subclass(weights())}, tmp_path / "a.ckpt")
    with pytest.raises(UserError, match="Subclass"):
        read_tensors(tmp_path / "a.ckpt")


# ---- files that are not what they should be ------------------------------------------------------------------------


def big_weights():
    return {f"layer.{i}": torch.randn(64, 64) for i in range(8)}


def whole_file(kind):
    buffer = io.BytesIO()
    if kind == "safetensors":
        from safetensors.torch import save

        return save(big_weights())
    torch.save(big_weights(), buffer, _use_new_zipfile_serialization=kind == "zip")
    return buffer.getvalue()


@pytest.mark.parametrize("part", (0.001, 0.3, 0.9, 0.9999))
@pytest.mark.parametrize("kind", ("safetensors", "zip", "legacy"))
def test_truncated(kind, part, tmp_path):
    content = whole_file(kind)
    path = tmp_path / f"file.{'safetensors' if kind == 'safetensors' else 'ckpt'}"
    path.write_bytes(content[: int(len(content) * part)])
    with pytest.raises(UserError) as refused:
        read_tensors(path)
    message = str(refused.value)
    assert str(path) in message and "damaged" in message and "\n" not in message


@pytest.mark.parametrize("suffix", (".safetensors", ".ckpt"))
@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 4\n", "git lfs pull"),
        (b"<!DOCTYPE html>\n<html><body>404</body></html>", "web page"),
        (b"\n <html>", "web page"),
        (b"hello", "damaged"),
        (bytes(range(256)), "damaged"),
    ],
)
def test_not_weights(content, said, suffix, tmp_path):
    path = tmp_path / f"file{suffix}"
    path.write_bytes(content)
    for reader in (read_tensors, shapes):
        with pytest.raises(UserError, match=said) as refused:
            reader(path)
        assert str(path) in str(refused.value) and "\n" not in str(refused.value)


@pytest.mark.parametrize("content", ({}, {"state_dict": {}}, {"a": 1}, [torch.ones(1)], torch.ones(2), 3, None))
def test_without_tensors(content, tmp_path):
    torch.save(content, tmp_path / "a.pt")
    with pytest.raises(UserError, match="holds no tensors"):
        read_tensors(tmp_path / "a.pt")


def test_missing_and_folder(tmp_path):
    with pytest.raises(UserError, match="no such file"):
        read_tensors(tmp_path / "none.ckpt")
    with pytest.raises(UserError, match="folder"):
        read_tensors(tmp_path)
