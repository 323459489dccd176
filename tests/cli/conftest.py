"""A working directory elsewhere, with a model in it that loads at once."""

import pytest

from erasure import edits
from tests.tiny import save_tiny_config, tiny_model


@pytest.fixture(scope="module")
def weights():
    return tiny_model()


@pytest.fixture
def place(weights, tmp_path, monkeypatch):
    """The current directory of the test: it holds tiny.safetensors, tiny.yaml and an empty folder of models."""
    monkeypatch.chdir(tmp_path)
    edits.export_compvis(weights, "tiny.safetensors")
    save_tiny_config("tiny.yaml")
    (tmp_path / "models").mkdir()
    return tmp_path
