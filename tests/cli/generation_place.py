"""A working directory with a tiny model, for tests of the scripts that draw images."""

import contextlib
import functools
import importlib.util
import io
import sys
from dataclasses import dataclass

import pytest
import torch

from erasure import base_models, edits, errors
from erasure.runs import ROOT
from tests.tiny import save_tiny_config, tiny_model

CSV = "case_number,prompt,evaluation_seed\n" + "".join(f"{case},a photo {case % 4},{case + 5}\n" for case in range(12))
BASE = ("--base", "base.safetensors", "--config_path", "tiny.yaml")


def fill(folder) -> None:
    """base.safetensors + tiny.yaml, an edit of it in two forms (a run of train-esd's kind, full weights), a CSV."""
    model = tiny_model()
    edits.export_compvis(model, folder / "base.safetensors")
    save_tiny_config(folder / "tiny.yaml")
    model, identity = base_models.load(folder / "base.safetensors", folder / "tiny.yaml")
    weights = model.model.diffusion_model.state_dict()
    changed = {name: weight.clone() for name, weight in weights.items() if "attn2.to_k" in name}
    for weight in changed.values():
        weight += 0.1 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(0))
    edit = edits.Edit("esd", ["a photo"], {}, identity.to_dict(), changed)
    run = folder / "models" / "compvis-run"
    run.mkdir(parents=True)
    edits.save(edit, run / "edit.safetensors")
    edits.apply(model, edit, identity)
    edits.export_diffusers(model, folder / "models" / "diffusers-whole.pt")
    (folder / "prompts.csv").write_text(CSV, encoding="utf-8")


def command(script: str, *arguments) -> list[str]:
    return [sys.executable, str(ROOT / "eval-scripts" / script), *map(str, arguments)]


@dataclass
class Result:
    returncode: int
    stdout: str
    stderr: str


@functools.cache
def _script(name: str):
    spec = importlib.util.spec_from_file_location(name.removesuffix(".py").replace("-", "_"), command(name)[1])
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run(script: str, *arguments, cwd) -> Result:
    """The script's own entry point, called in this process: importing torch takes longer than all that it does here."""
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        patch.chdir(cwd)
        patch.setattr("sys.argv", [script, *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            errors.run(_script(script).main)
    return Result(ended.value.code, out.getvalue(), err.getvalue())


def refused(result: Result) -> str:
    """The one line with which a command refused; checks that it did so as it should."""
    assert result.returncode == 2, result.stderr
    line = result.stderr.strip().splitlines()[-1]
    assert "error: " in line
    return line


def files(folder) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def pictures(folder) -> dict[str, bytes]:
    return {name: content for name, content in files(folder).items() if name.endswith(".png")}
