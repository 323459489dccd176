"""generate_bases.py and SRSME_Solution.py as users call them: from any directory, on any base, with mistakes."""

import pytest
import torch

from erasure import base_models
from erasure.errors import UserError
from erasure.runs import ROOT
from erasure.text_states import TextStates
from methods.sepce import SRSME_Solution, bases, generate_bases
from tests.cli import process
from tests.cli.process import run

FOLDER = ROOT / "methods" / "sepce"
TINY = ["--ckpt_path", "tiny.safetensors", "--config_path", "tiny.yaml", "--device", "cpu"]
SCENE = ["--erase_cat", "style", "--scenei", "1", "--timei", "0"]


@pytest.mark.parametrize("script, flags", [
    ("generate_bases.py", ("--config_path", "--ckpt_path", "--device", "--tolerance")),
    ("SRSME_Solution.py", ("--erase_cat", "--erased_index", "--em_indexes", "--scenei", "--timei", "--device")),
])  # fmt: skip
def test_help_needs_no_torch(script, flags):
    shown = process.help_without_torch(FOLDER / script)
    assert all(flag in shown for flag in flags)


def test_published_files_in_a_process_of_its_own(place):
    """Both ways of erasing three artists, from another directory."""
    done = run(FOLDER / "generate_bases.py", *TINY, cwd=place)
    assert done.returncode == 0, done.stderr
    protected = {
        "VanGogh": ("", "Cezanne", "Picasso"),
        "Cezanne": ("", "VanGogh", "Picasso"),
        "Picasso": ("", "VanGogh", "Cezanne"),
        "VanGogh2": ("",),
        "Cezanne2": ("", "VanGogh"),
        "Picasso2": ("", "VanGogh", "Cezanne"),
    }
    assert {file.name for file in place.glob("*.safetensors")} == {f"{n}.safetensors" for n in (*protected, "tiny")}
    model, _ = base_models.load("tiny.safetensors", "tiny.yaml")
    texts, encoder = TextStates.of(model), bases.encoder_id(model)
    for name, prompts in protected.items():
        found = bases.read(place / f"{name}.safetensors", encoder)
        assert found.concept == name.removesuffix("2") and found.prompts == prompts
        expected = bases.build(texts, found.concept, prompts, method=found.method, tolerance=found.tolerance)
        assert torch.equal(found.bases, expected.bases) and found.leak == expected.leak
        assert f"{len(found.bases)} are left" in done.stdout and f"{name}.safetensors" in done.stdout


def test_a_later_scene(place, capsys):
    flags = [*TINY, *SCENE, "--erased_index", "0", "--em_indexes", "1, 2,9", "--tolerance", "0.05", "--basis", "svd"]
    assert SRSME_Solution.main(flags) == 0
    found = bases.read(place / "scene/scene1/0/0.safetensors")
    assert found.concept == "Cezanne" and found.prompts == ("", "VanGogh", "Picasso", "watermark SRS-ME")
    assert (found.method, found.tolerance) == ("svd", 0.05) and found.leak > 0
    assert "scene/scene1/0" in capsys.readouterr().out
    before = (place / "scene/scene1/0/0.safetensors").read_bytes()
    assert SRSME_Solution.main(flags) == 0 and (place / "scene/scene1/0/0.safetensors").read_bytes() == before
    assert SRSME_Solution.main([*TINY, *SCENE, "--erased_index", "5", "--em_indexes", "", "--out", "deep/er"]) == 0
    assert bases.read("deep/er/scene/scene1/0/5.safetensors").prompts == ("",)


def test_lists_and_protection(place):
    flags = [*TINY, "--concepts", "a, b; c/d", "--protect", "CCS 2024", "--mode", "simultaneous", "--out", "x/y"]
    assert generate_bases.main(flags) == 0
    assert {file.name for file in (place / "x/y").iterdir()} == {"a, b.safetensors", "c_d.safetensors"}
    assert bases.read("x/y/c_d.safetensors").prompts == ("", "a, b", "CCS 2024")


@pytest.mark.parametrize("flags, words", [
    (["--tolerance", "0"], "all 32 dimensions"),
    (["--concepts", " , "], "at least one"),
    (["--concepts", "Monet,monet"], "different names"),
    (["--protect", "Picasso"], "'Picasso', protecting .* the concept itself"),
])  # fmt: skip
def test_mistakes_with_bases(place, flags, words):
    with pytest.raises(UserError, match=words):
        generate_bases.main([*TINY, *flags])


def test_a_tolerance_is_a_share(place, capsys):
    with pytest.raises(SystemExit, match="2"):
        generate_bases.main([*TINY, "--tolerance", "1.5"])
    assert "--tolerance: '1.5' is no share of a singular value" in capsys.readouterr().err


@pytest.mark.parametrize("flags, words", [
    (["--erased_index", "9", "--em_indexes", "1"], "--erased_index 9: style has 0 Cezanne"),
    (["--erased_index", "0", "--em_indexes", "1,11"], "'11' is none of 1 VanGogh"),
    (["--erased_index", "0", "--em_indexes", "0"], "'0' is none of"),
    (["--erased_index", "0", "--em_indexes", "x"], "'x' is none of"),
])  # fmt: skip
def test_mistakes_with_indexes(place, flags, words):
    with pytest.raises(UserError, match=words):
        SRSME_Solution.main([*TINY, *SCENE, *flags])


@pytest.mark.parametrize("script, flags", [
    ("generate_bases.py", ["--mode", "all"]),
    ("generate_bases.py", ["--ckpt_path", "missing.ckpt"]),
    ("SRSME_Solution.py", [*SCENE, "--em_indexes", "1"]),
    ("SRSME_Solution.py", ["--erase_cat", "nudity", "--erased_index", "0", "--em_indexes", "", *SCENE[2:]]),
    ("SRSME_Solution.py", ["--erased_index", "0", "--em_indexes", "", "--scenei", "../x", "--timei", "0"]),
])  # fmt: skip
def test_exit_code_of_a_mistake(tmp_path, script, flags):
    done = run(FOLDER / script, *flags, cwd=tmp_path)
    assert done.returncode == 2 and "Traceback" not in done.stderr and done.stderr.strip()
    assert not list(tmp_path.iterdir())
