"""train_debias.py as users call it: from any directory, killed and resumed, and with mistakes."""

import json

import pytest
import torch

from erasure import base_models, edits, errors
from erasure.checkpoint_files import read_tensors
from erasure.runs import ROOT, read_json
from methods.uce import ratios, train_debias, train_erase
from tests.cli import process
from tests.cli.process import run

SCRIPT = ROOT / "methods" / "uce" / "train_debias.py"
TINY = ["--ckpt_path", "tiny.safetensors", "--config_path", "tiny.yaml", "--device", "cpu"]
WHAT = ["--concept", "van gogh or picasso", "--attributes", "van gogh, picasso", "--no_templates"]
QUICK = ["--num_images", "1", "--num_inference_steps", "2", "--max_diff", "0.01"]
NAME = "unbiased-van gogh or picasso-attributes-van9gogh_picasso-sd_1_4"
BOTH = [*TINY, *WHAT, *QUICK]


def test_help_needs_no_torch():
    shown = process.help_without_torch(SCRIPT)
    for flag in ("--concept", "--attributes", "--device", "--base", "--num_images", "--debias_concepts", "--resume"):
        assert flag in shown


def test_run_from_another_directory(place, weights):
    """In a process of its own; the edit, the published text file and the published UNet."""
    done = run(SCRIPT, *BOTH, "--max_iterations", "2", "--save_format", "pt", cwd=place)
    assert done.returncode == 0, done.stderr
    folder = place / "models" / NAME
    assert edits.find_for(NAME).resolve() == folder / "edit.safetensors"
    assert f"generate-images.py --model_name '{NAME}'" in done.stdout
    texts, moved, first, last = map(json.loads, (folder / f"{NAME}.txt").read_text(encoding="utf-8").splitlines())
    assert texts == ["van gogh or picasso"] and len(moved[0]) == 2
    measured = read_json(folder / "ratios.json")["ratios"]
    assert first == measured[0] and last == measured[-1]
    assert (place / "info" / f"{NAME}.txt").read_text() == (folder / f"{NAME}.txt").read_text()
    saved = read_json(folder / "settings.json")
    assert saved["settings"]["seed"] == 0 and saved["settings"]["num_images"] == 1
    assert not (folder / "checkpoint.safetensors").exists()
    model, identity = base_models.load("tiny.safetensors", "tiny.yaml")
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    with edits.load_into(model, identity, folder) as applied:
        assert all(key.endswith(("attn2.to_k.weight", "attn2.to_v.weight")) for key in applied.matched)
        edited = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    with edits.load_into(model, identity, place / "models" / f"{NAME}.pt"):
        assert all(torch.equal(tensor, edited[key]) for key, tensor in model.state_dict().items())
    assert all(torch.equal(tensor, before[key]) for key, tensor in model.state_dict().items())


def test_2025(place, capsys):
    flags = ["--variant", "2025", "--edit_concepts", "a; van gogh", "--debias_concepts", "Van Gogh;picasso"]
    flags += ["--desired_ratios", "0.4", "0.6", "--num_images_per_prompt", "2", "--num_inference_steps", "2"]
    flags += ["--guidance_scale", "2", "--max_iterations", "2", "--max_diff", "0.01", "--edit_scale", "0.8"]
    flags += ["--save_dir", "out", "--exp_name", "mine", "--save_format", "safetensors", "--preserve_concepts", "b"]
    assert train_debias.main([*TINY, *flags]) == 0
    edit = edits.read("out/mine/edit.safetensors")
    assert edit.kind == "context_map" and edit.concepts == ["a", "van gogh"]
    model, identity = base_models.load("tiny.safetensors", "tiny.yaml")
    published = read_tensors("out/mine.safetensors")
    assert set(published) == {name for name in published if name.endswith(("to_k.weight", "to_v.weight"))}
    with edits.load_into(model, identity, "out/mine/edit.safetensors"):
        edits.export_diffusers(model, "whole.safetensors")
    whole = read_tensors("whole.safetensors")
    assert published and all(torch.equal(tensor, whole[name]) for name, tensor in published.items())


class Killed(Exception):
    pass


@pytest.mark.parametrize("variant", ["2023", "2025"])
@pytest.mark.parametrize("moment", ["measured", "edited", "saved"])
def test_killed_and_run_again(place, monkeypatch, variant, moment):
    """Whatever was done last, the files are those of a run that was not disturbed."""
    from methods.uce.debias_folder import DebiasFolder

    # two texts, so that a run can be killed between their measurements
    flags = [*BOTH, "--concept", "van gogh or picasso, art", "--max_iterations", "2", "--variant", variant]
    monkeypatch.setitem(ratios.SEEDS, "2023", 2)
    assert train_debias.main([*flags, "--save_path", "whole"]) == 0

    def dies(method, when):
        calls = 0

        def call(*arguments):
            nonlocal calls
            calls += 1
            if calls == 2 and when == "before":
                raise Killed
            method(*arguments)
            if calls == 2 and when == "after":
                raise Killed

        return call

    name, when = {
        "measured": ("add", "after"),
        "edited": ("save_weights", "before"),
        "saved": ("save_weights", "after"),
    }[moment]
    with monkeypatch.context() as patch:
        patch.setattr(DebiasFolder, name, dies(getattr(DebiasFolder, name), when))
        with pytest.raises(Killed):
            train_debias.main([*flags, "--save_path", "killed"])
    assert not list(place.glob("killed/*/edit.safetensors"))
    assert train_debias.main([*flags, "--save_path", "killed", "--resume"]) == 0
    (whole,), (resumed,) = (list(place.glob(f"{folder}/*")) for folder in ("whole", "killed"))
    assert {file.name for file in whole.iterdir()} == {file.name for file in resumed.iterdir()}
    for file in whole.iterdir():
        assert file.read_bytes() == (resumed / file.name).read_bytes(), file.name


def test_a_finished_run_and_one_with_other_settings(place, capsys):
    flags = [*BOTH, "--max_iterations", "1"]
    assert train_debias.main(flags) == 0
    edit = (place / "models" / NAME / "edit.safetensors").read_bytes()
    assert train_debias.main(flags) == 0
    assert "finished: nothing to debias" in capsys.readouterr().out
    with pytest.raises(errors.UserError, match="other num_images, seed: give --exp_name"):
        train_debias.main([*flags, "--seed", "1", "--num_images", "2"])
    assert train_debias.main([*flags, "--seed", "1", "--force"]) == 0
    assert read_json(place / "models" / NAME / "settings.json")["settings"]["seed"] == 1
    assert train_debias.main([*flags, "--force"]) == 0
    assert (place / "models" / NAME / "edit.safetensors").read_bytes() == edit


def test_forced_runs_publish_their_own_weights(place):
    flags, published = [*BOTH, "--max_iterations", "1"], place / "models" / f"{NAME}.pt"
    assert train_debias.main([*flags, "--save_format", "pt"]) == 0
    first = published.read_bytes()
    assert train_debias.main([*flags, "--lamb", "5", "--force"]) == 0
    assert not published.exists()
    assert train_debias.main([*flags, "--lamb", "5", "--save_format", "pt"]) == 0
    assert published.read_bytes() != first


def test_a_run_of_erasing_is_not_taken_for_a_finished_one(place):
    """In 2025 both scripts call their runs alike."""
    erasing = ["--variant", "2025", "--edit_concepts", "van gogh", "--concept_type", "art"]
    assert train_erase.main([*TINY, *erasing]) == 0
    debiasing = [*TINY, "--variant", "2025", *WHAT, *QUICK, "--max_iterations", "1"]
    with pytest.raises(errors.UserError, match="holds another run: give --exp_name"):
        train_debias.main(debiasing)
    assert train_debias.main([*debiasing, "--force"]) == 0
    assert "classifier" in read_json(place / "models" / "uce_test" / "settings.json")


def test_balanced_already(place, capsys):
    assert train_debias.main([*BOTH, "--max_diff", "1"]) == 0
    assert "balanced already: nothing to edit" in capsys.readouterr().out
    assert not (place / "models" / NAME / "edit.safetensors").exists()
    assert read_json(place / "models" / NAME / "settings.json")["balanced"]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--attributes", "male, female"], "judge does not know 'male'"),
        (["--attributes", "van gogh"], "give two or more"),
        (["--attributes", "van gogh, church"], "styles or subjects"),
        (["--concept", "doctor,,nurse"], "an item is empty"),
        (["--desired_ratios", "0.5", "0.6"], "add up to 1"),
        (["--num_inference_steps", "0"], "num_inference_steps must be at least 1"),
        (["--lamb", "nan"], "lamb must be a number"),
        (["--ckpt_path", "nothing.ckpt"], "no model at nothing.ckpt"),
        (["--model_id", "toy"], "--model_id is another name"),
    ],
)
def test_mistakes_end_in_one_line(place, capsys, flags, message):
    with pytest.raises(SystemExit) as stopped:
        errors.run(lambda: train_debias.main([*BOTH, *flags]))
    error = capsys.readouterr().err
    assert stopped.value.code == 2
    assert error.startswith("error: ") and error.count("\n") == 1 and message in error
    assert not any((place / "models").iterdir())


def test_a_model_of_nan(place, weights, capsys):
    tensors = edits.compvis_state_dict(weights) | {"model.diffusion_model.out.2.bias": torch.full((4,), float("nan"))}
    edits.write_weights("nan.safetensors", tensors)
    with pytest.raises(SystemExit) as stopped:
        errors.run(lambda: train_debias.main([*BOTH, "--ckpt_path", "nan.safetensors"]))
    assert stopped.value.code == 2 and "NaN" in capsys.readouterr().err


def test_no_clip(place, capsys):
    """Known before Stable Diffusion is read: its file here is no model at all."""
    (place / "sd.safetensors").write_bytes(b"")
    config = str(ROOT / base_models.SD_CONFIG)
    flags = ["--ckpt_path", "sd.safetensors", "--config_path", config, "--concept", "doctor"]
    with pytest.raises(SystemExit) as stopped:
        errors.run(lambda: train_debias.main([*flags, "--clip_path", "clip/missing.safetensors"]))
    error = capsys.readouterr().err
    assert stopped.value.code == 2 and error.count("\n") == 1
    assert "no CLIP ViT-B/32 at clip/missing.safetensors" in error and "put model.safetensors" in error


@pytest.mark.parametrize(
    "flags", [["--resume", "--force"], ["--templates", "--no_templates"], ["--variant", "x"], ["--num_image", "3"]]
)
def test_unknown_and_contradictory_flags(flags):
    done = run(SCRIPT, *WHAT[:2], *flags)
    assert done.returncode == 2 and "error: " in done.stderr and "Traceback" not in done.stderr
