"""CiE.py, FMN.py, Abconcept.py and Esd.py as users call them: from any directory, killed and resumed, and with mistakes."""

import csv
import signal
import time

import numpy as np
import pytest
import torch
from PIL import Image

from erasure import base_models, edits, errors
from erasure.runs import ROOT, read_json
from methods.sepce import ESD_PRESETS, PRESETS, concept_of
from tests.cli import process
from tests.cli.process import run

FOLDER = ROOT / "methods" / "sepce"
SCRIPTS = ("CiE", "FMN", "Abconcept", "Esd")
TINY = ["--ckpt_path", "tiny.safetensors", "--config_path", "tiny.yaml", "--image_size", "32", "--seed", "1"]
PUBLISHED = {  # the commands of the published README, and the folders of their runs
    "CiE": (
        ["--threshold", "0", "--lr", "1e-6", "--reg_beta", "3e-5", "--prompt", "Van Gogh", "--devices", "0,1"],
        "CiE-Van Gogh-threshold_0.0-iter_{iterations}_beta-3e-05",
    ),
    "FMN": (
        ["--lr", "1e-5", "--iter_break", "10", "--prompt", "Van Gogh", "--devices", "0,1"],
        "FMN-Van Gogh-iter_10",
    ),
    "Abconcept": (
        ["--lr", "1e-5", "--iter_break", "50", "--prompt", "Van Gogh", "--devices", "0,1"],
        "abconcept-Van Gogh-iter_50",
    ),
}
LATER = {  # flags of the later scripts
    "CiE": (
        ["--prompt", "nudity", "--iterations", "2", "--min_iter", "0", "--threshold", "-1", "--seperator", ","],
        f"CiE-nudity-threshold_-1.0-iter_2_beta-{PRESETS['CiE']['toy']['reg_beta']}",
    ),
    "FMN": (["--erase_cat", "style", "--erased_index", "0", "--iter_break", "2"], "FMN-style-erased_index_0-iter_2"),
    "Abconcept": (["--erased_index", "1", "--iter_break", "2"], "abconcept-object-erased_index_1-iter_2"),
}


def load(name):
    return process.load(FOLDER / f"{name}.py")


@pytest.fixture(params=SCRIPTS)
def script(request):
    return load(request.param)


def draw_images(folder, count):
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    for i in range(count):
        Image.fromarray(rng.integers(0, 255, (40, 48, 3), dtype=np.uint8)).save(folder / f"{i}_0.png")


@pytest.fixture
def images(place):
    """Few and small, under the published prompt."""
    draw_images(place / "data" / "Van Gogh", 3)
    return place


def losses(folder):
    with open(folder / "losses.csv", newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def check_run(folder, method):
    """An edit of the cross-attention of the tiny model; returns its settings."""
    model, identity = base_models.load("tiny.safetensors", "tiny.yaml")
    with edits.load_into(model, identity, folder / "edit.safetensors") as applied:
        assert applied.matched and all("attn2" in key for key in applied.matched)
    saved = read_json(folder / "settings.json")
    assert saved["method"] == method and saved["base"] == identity.to_dict() and saved["device"] == "cpu"
    return saved["settings"]


# ---- runs ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SCRIPTS)
def test_help_needs_no_torch(name):
    shown = process.help_without_torch(FOLDER / f"{name}.py")
    for flag in ("--prompt", "--erase_cat", "--erased_index", "--devices", "--diffusers_config_path", "--resume"):
        assert flag in shown
    published = ESD_PRESETS if name == "Esd" else PRESETS[name]
    assert f"{published['sd-v1']['lr']:g} for Stable Diffusion" in shown.replace("\n", " ").replace("  ", "")


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_commands(images, name, capsys):
    """Word for word but for the tiny model, on a machine with no GPU; the images are seen in turn, and again."""
    flags, folder = PUBLISHED[name]
    assert load(name).main([*TINY, *flags]) == 0
    out = capsys.readouterr().out
    iterations = PRESETS[name]["toy"]["iter_break"]
    folder = images / "models" / folder.format(iterations=iterations)
    settings = check_run(folder, name.lower())
    assert settings["lr"] == float(flags[flags.index("--lr") + 1]) and settings["concepts"] == ["Van Gogh"]
    assert edits.find_for(folder.name).resolve() == folder / "edit.safetensors"
    assert f"--model_name '{folder.name}'" in out
    assert len(losses(folder)) == settings["iter_break"] + 1
    if not torch.cuda.device_count():
        assert "so the published 0,1 becomes cpu" in out
    if name == "CiE":
        assert "never was below the threshold" in out  # so small a step erases nothing of random weights


@pytest.mark.parametrize("name", LATER)
def test_later_flags(place, name, capsys):
    flags, folder = LATER[name]
    concept = "nudity" if name == "CiE" else concept_of(*(("style", 0) if name == "FMN" else ("object", 1)))
    draw_images(place / "data" / concept.upper().replace(" ", ""), 2)  # spelled otherwise, and found
    assert load(name).main([*TINY, *flags, "--devices", "cpu", "--save_format", "pt"]) == 0
    folder = place / "models" / folder
    assert check_run(folder, name.lower())["concepts"] == [concept]
    assert len(losses(folder)) == 3
    for file in (f"{folder.name}.pt", f"compvis-{folder.name}.pt"):
        model, identity = base_models.load("tiny.safetensors", "tiny.yaml")
        with edits.load_into(model, identity, folder / file) as applied:
            assert any("attn2" in key for key in applied.matched)


def test_esd_as_published(place, capsys):
    """--iterations as in the README, and fewer of them; --lr is a number."""
    flags = ["--prompt", "Van Gogh", "--train_method", "xattn", "--devices", "0,1", "--lr", "1e-5", "--ddim_steps", "4"]
    assert load("Esd").main([*TINY, *flags, "--iterations", "2"]) == 0
    folder = place / "models" / "compvis-word_VanGogh-method_xattn-sg_3-ng_1-iter_2-lr_1e-05"
    settings = check_run(folder, "esd")
    assert settings["iterations"] == 2 and settings["lr"] == 1e-5
    assert sorted(file.name for file in folder.iterdir()) == [
        "edit.safetensors",
        "loss.png",
        "loss.txt",
        "settings.json",
    ]


def test_esd_by_index_and_method(place):
    """The train_method counts, and the two published files do not overwrite each other."""
    flags = ["--erase_cat", "style", "--erased_index", "2", "--train_method", "selfattn", "--iter_break", "1"]
    assert (
        load("Esd").main([*TINY, *flags, "--devices", "cpu", "--ddim_steps", "4", "--save_format", "safetensors"]) == 0
    )
    folder = place / "models" / "esd-style-erased_index_2-iter_1"
    edit = edits.read(folder / "edit.safetensors")
    assert edit.concepts == ["Picasso"] and all("attn1" in name for name in edit.tensors)
    whole, unet = (folder / f"{prefix}{folder.name}.safetensors" for prefix in ("compvis-", ""))
    assert whole.stat().st_size > 1.5 * unet.stat().st_size
    assert load("Esd").main([*TINY, *flags, "--devices", "cpu", "--ddim_steps", "4", "--force"]) == 0
    assert load("Esd").main([*TINY, *flags, "--devices", "cpu", "--ddim_steps", "4", "--exp_name", "mine"]) == 0
    assert (place / "models" / "mine" / "edit.safetensors").is_file()
    assert not whole.exists() and not unet.exists()  # of the earlier run


def test_esd_defaults_are_the_published_ones(place):
    from methods.sepce.esd_settings import EsdBaselineSettings

    settings = EsdBaselineSettings.for_family("sd-v1", prompt="x")
    assert (settings.iterations, settings.lr, settings.ddim_steps, settings.image_size) == (50, 1e-5, 50, 512)
    assert (settings.start_guidance, settings.negative_guidance, settings.train_method) == (3, 1, "xattn")
    assert EsdBaselineSettings.for_family("sd-v1", prompt="x", iterations=7).iterations == 7


def test_images_are_drawn_where_there_are_none(place, capsys):
    (place / "data").mkdir()
    flags = ["--prompt", "picasso", "--iter_break", "1", "--num_images", "2", "--devices", "cpu"]
    assert load("FMN").main([*TINY, *flags]) == 0
    assert "drawing 2 training images of 'picasso'" in capsys.readouterr().out
    assert sorted(file.name for file in (place / "data" / "picasso").glob("*.png")) == ["0_0.png", "1_0.png"]


def test_training_ends_with_the_images_as_published(images, capsys):
    flags = ["--prompt", "Van Gogh", "--iter_break", "10", "--no-cycle_images", "--devices", "cpu"]
    assert load("Abconcept").main([*TINY, *flags]) == 0
    assert "the images ran out" in capsys.readouterr().out
    assert len(losses(images / "models" / "abconcept-Van Gogh-iter_10")) == 3


@pytest.mark.parametrize("name", ["CiE", "FMN"])
def test_kill_9_and_resume(images, name):
    """To the bytes of an undisturbed run: sums of gradients, CiE's average, and tensors without a gradient included."""
    flags = [
        "--prompt",
        "Van Gogh",
        "--iter_break",
        "40",
        "--checkpoint_every",
        "1",
        "--lr",
        "1e-4",
        "--devices",
        "cpu",
    ]
    many, script = [*TINY, *flags, *(["--threshold", "-1"] if name == "CiE" else [])], FOLDER / f"{name}.py"
    killed = process.start(script, *many, cwd=images, env=process.same_threads())
    while not list(images.glob("models/*/checkpoint.safetensors")) and killed.poll() is None:
        time.sleep(0.01)
    killed.send_signal(signal.SIGKILL)
    assert killed.wait() == -signal.SIGKILL
    (folder,) = images.glob("models/*")
    assert not (folder / "edit.safetensors").exists()
    assert load(name).main([*many, "--resume"]) == 0
    assert load(name).main([*many, "--save_path", "whole"]) == 0
    whole = images / "whole" / folder.name
    assert (folder / "losses.csv").read_bytes() == (whole / "losses.csv").read_bytes()
    assert (folder / "edit.safetensors").read_bytes() == (whole / "edit.safetensors").read_bytes()
    assert not (folder / "checkpoint.safetensors").exists()


def test_from_another_directory(images, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    paths = {
        "--ckpt_path": "tiny.safetensors",
        "--config_path": "tiny.yaml",
        "--data_root": "data",
        "--save_path": "out",
    }
    flags = [text for flag, name in paths.items() for text in (flag, images / name)]
    done = run(
        FOLDER / "FMN.py", *flags, "--image_size", "32", "--prompt", "vangogh", "--iter_break", "1", cwd=elsewhere
    )
    assert done.returncode == 0, done.stderr
    assert (images / "out" / "FMN-vangogh-iter_1" / "edit.safetensors").is_file()
    assert not list(elsewhere.iterdir())


# ---- mistakes ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([], "name a concept: --prompt"),
        (["--erase_cat", "style"], "name a concept: --prompt"),
        (["--prompt", "x", "--erased_index", "1"], "give one of them"),
        (["--erase_cat", "style", "--erased_index", "9"], "style has 0 Cezanne"),
        (["--erased_index", "-1"], "object has 0 chain saw"),
        (["--prompt", " "], "empty"),
        (["--prompt", "x", "--lr", "0"], "lr must be greater than 0"),
        (["--prompt", "x", "--devices", "gpu"], "--devices 'gpu': give cpu, or GPUs by number"),
        (["--prompt", "x", "--ckpt_path", "nothing.ckpt"], "no model at nothing.ckpt"),
        (["--prompt", "x", "--image_size", "40"], "image_size must be a multiple of 16"),
    ],
)
def test_mistakes_end_in_one_line(place, script, capsys, flags, message):
    check_mistake(script, [*TINY, *flags], message, capsys)
    assert not any((place / "models").iterdir())


@pytest.mark.parametrize("name", PUBLISHED)
@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--no_draw"], "generate-data.py --prompt x"),
        (["--iter_break", "-1"], "iter_break must be at least 0"),
        (["--num_images", "0"], "num_images must be at least 1"),
    ],
)
def test_mistakes_about_images(place, name, capsys, flags, message):
    check_mistake(load(name), [*TINY, "--prompt", "x", *flags], message, capsys)


@pytest.mark.parametrize("flags", [["--momentum", "1.5"], ["--momentum", "-0.1"], ["--min_iter", "-1"]])
def test_mistakes_about_cie(place, capsys, flags):
    check_mistake(load("CiE"), [*TINY, "--prompt", "x", *flags], f"{flags[0][2:]} must", capsys)


def test_other_settings_are_another_run(images, capsys):
    flags = [*TINY, "--prompt", "Van Gogh", "--iter_break", "1", "--devices", "cpu"]
    assert load("FMN").main(flags) == 0
    assert load("FMN").main(flags) == 0
    assert "finished: nothing to train" in capsys.readouterr().out
    check_mistake(load("FMN"), [*flags, "--lr", "1e-3"], "--force replaces it", capsys)
    assert load("FMN").main([*flags, "--lr", "1e-3", "--force"]) == 0


def check_mistake(script, flags, message, capsys):
    with pytest.raises(SystemExit) as stopped:
        errors.run(lambda: script.main(flags))
    error = capsys.readouterr().err
    assert stopped.value.code == 2
    assert error.startswith("error: ") and error.count("\n") == 1 and message in error


def test_gradients_add_up_or_do_not(images, capsys):
    flags = [*TINY, "--prompt", "Van Gogh", "--iter_break", "2", "--devices", "cpu", "--lr", "1e-3"]
    for more in ([], ["--accumulate_grad"], ["--zero_grad"]):
        assert load("FMN").main([*flags, *more, "--save_path", f"out{''.join(more)}"]) == 0
    plain, added, cleared = (
        losses(images / out / "FMN-Van Gogh-iter_2") for out in ("out", "out--accumulate_grad", "out--zero_grad")
    )
    assert plain == added
    assert plain[:2] == cleared[:2] and plain[2] != cleared[2]  # Adam's first step has one gradient either way
    with pytest.raises(SystemExit):
        load("FMN").main([*flags, "--accumulate_grad", "--zero_grad"])


@pytest.mark.parametrize(
    "flags",
    [["--erase_cat", "styles"], ["--resume", "--force"], ["--promt", "x"], ["--iter_break", "many"], ["--lr", "x"]],
)
def test_unknown_and_contradictory_flags(script, capsys, flags):
    with pytest.raises(SystemExit) as stopped:
        script.main(["--prompt", "x", *flags])
    assert stopped.value.code == 2
    assert "error: " in capsys.readouterr().err
