"""SepCE.py and SRS_ME.py as users call them: the published commands, all selections, killed and resumed, and with mistakes."""

import contextlib
import csv
import os
import pickle
import signal
import time
from itertools import combinations

import numpy as np
import pytest
import torch
from PIL import Image

from erasure import base_models, edits, errors
from erasure.runs import ROOT, read_json
from erasure.text_states import TextStates
from methods.sepce import PRESETS, SRSME_Solution, bases, generate_bases
from methods.sepce.run_folder import weights_files
from tests.cli import process
from tests.cli.process import run

FOLDER = ROOT / "methods" / "sepce"
THREE = ("VanGogh", "Cezanne", "Picasso")
BASE = ["--ckpt_path", "tiny.safetensors", "--config_path", "tiny.yaml"]
TINY = [*BASE, "--image_size", "32", "--seed", "1"]
PUBLISHED = ["--lr", "1e-2", "--scale_factor", "1e-4", "--reg_beta", "3e-5", "--devices", "0,1"]
SCENE = ["--erase_cat", "style", "--erased_index", "0", "--scenei", "1", "--timei", "0"]
SOLUTION = [*SCENE, "--em_indexes", "1,2", "--device", "0"]
PUBLISHED_SRSME = [
    "--lr", "1e-1", "--scale_factor", "1e-4", "--threshold", "1e-4", "--reg_beta", "1e-6", "--erased_index", "0",
    "--scenei", "1", "--timei", "0", "--max_base", "691", "--erase_cat", "style", "--devices", "0,1",
]  # fmt: skip
SHORT = ["--iter_break", "2", "--min_iter", "1", "--devices", "cpu"]
TWO = ["--concepts", "a,b", *SHORT]


def load(name):
    return process.load(FOLDER / f"{name}.py")


def sepce(*flags):
    return load("SepCE").main([*TINY, *flags])


def srs_me(*flags):
    return load("SRS_ME").main([*TINY, *flags])


def draw_images(root, concepts, count=3):
    rng = np.random.default_rng(0)
    for concept in concepts:
        (root / concept).mkdir(parents=True, exist_ok=True)
        for i in range(count):
            Image.fromarray(rng.integers(0, 255, (32, 32, 3), dtype=np.uint8)).save(root / concept / f"{i}_0.png")


@pytest.fixture
def images(place):
    """Few and small, of the published concepts and of others."""
    draw_images(place / "data", (*THREE, "a", "b", "c", "d"))
    return place


def losses(folder):
    with open(folder / "losses.csv", newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def read(folder):
    return edits.read(folder / "edit.safetensors")


def projections(file, without=()):
    """Key and value projections of the tiny model with a file in it."""
    model, identity = base_models.load("tiny.safetensors", "tiny.yaml")
    with edits.load_into(model, identity, file, without=without):
        return {name: weight.detach().clone() for name, weight in edits.context_projections(model).items()}


def same_weights(one, other):
    return all(torch.equal(one[name], other[name]) for name in one)


def tree(folder):
    """Every file of a folder that holds a result: name -> content; times of a run are none, nor are halves of a file."""
    files = (f for f in folder.rglob("*") if f.is_file() and f.name != "settings.json" and not f.name.startswith("."))
    return {str(file.relative_to(folder)): file.read_bytes() for file in files}


# ---- the published commands ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["SepCE", "SRS_ME"])
def test_help_needs_no_torch(name):
    shown = process.help_without_torch(FOLDER / f"{name}.py")
    for flag in ("--scale_factor", "--reg_beta", "--max_base", "--bases_dir", "--devices", "--diffusers_config_path"):
        assert flag in shown
    assert f"{PRESETS[name]['sd-v1']['lr']:g} for Stable Diffusion" in " ".join(shown.split())


def test_published_command_in_a_process_of_its_own(images):
    """Word for word but for the tiny model and the number of steps, on a machine with no GPU."""
    done = run(FOLDER / "SepCE.py", *TINY, *PUBLISHED, "--iter_break", "13", "--min_iter", "11", cwd=images)
    assert done.returncode == 0, done.stderr
    assert "so the published 0,1 becomes cpu" in done.stdout
    stem = "train-joint-SepCE-threshold0_0-threshold1_0-threshold1_0-iter_13_beta-3e-05-onlykv"
    subsets = [chosen for size in (1, 2, 3) for chosen in combinations(range(3), size)]
    folders = {"".join(str(j + 1) for j in chosen): [THREE[j] for j in chosen] for chosen in subsets}
    assert {folder.name for folder in (images / "models").iterdir()} == {stem + suffix for suffix in folders}
    everything = images / "models" / f"{stem}123"
    whole = read(everything)
    assert (whole.settings["lr"], whole.settings["scale_factor"], whole.settings["reg_beta"]) == (1e-2, 1e-4, 3e-5)
    assert 12 <= len(losses(everything)) <= 14 and "direction_3" in losses(everything)[0]
    for suffix, concepts in folders.items():
        edit = read(images / "models" / f"{stem}{suffix}")
        assert edit.concepts == concepts
        kept = edits.keep(whole, concepts)
        assert [p.concept for p in edits.parts_of(edit)] == concepts and edit.tensors.keys() == kept.tensors.keys()
        assert all(torch.equal(tensor, kept.tensors[name]) for name, tensor in edit.tensors.items())
        assert edits.find_for(stem + suffix).resolve() == images / "models" / f"{stem}{suffix}" / "edit.safetensors"
    for part in edits.parts_of(whole):
        others = [concept for concept in THREE if concept != part.concept]
        assert part.protected[0] == "" and set(others) <= set(part.protected) and part.concept not in part.protected
        assert f"{part.concept!r}: the protected prompts take" in done.stdout
    assert f"--model_name {stem}123" in done.stdout


def test_published_scene(images, capsys):
    """SRSME_Solution.py, then SRS_ME.py, word for word but for the tiny model and few steps."""
    assert SRSME_Solution.main([*BASE, *SOLUTION[:-1], "cpu"]) == 0
    assert srs_me(*PUBLISHED_SRSME, "--iter_break", "2", "--min_iter", "1") == 0
    folder = images / "models" / "train-sepme-style-scene_1-time_0-lr_0.1-threshold_0.0001-iter_2-beta_1e-06-0"
    edit, basis = read(folder), bases.read("scene/scene1/0/0.safetensors")
    (part,) = edits.parts_of(edit)
    assert edit.concepts == ["Cezanne"] and torch.equal(part.basis, basis.bases)  # 691 are not there: all
    assert part.protected == basis.prompts == ("", "VanGogh", "Picasso") and part.scale == 1e-4
    assert set(losses(folder)[0]) >= {"direction", "reg", "momentum"}
    rows, shifts = losses(folder), [part.shift(name).abs().sum().item() for name in part.coefficients]
    assert 0 < float(rows[-1]["reg"]) < 10 * sum(shifts) / len(shifts)
    out = capsys.readouterr().out
    assert f"--model_name {folder.name}" in out and "Cezanne" in out
    assert srs_me(*PUBLISHED_SRSME, "--iter_break", "2", "--min_iter", "1") == 0
    assert "finished: nothing to train" in capsys.readouterr().out
    for more in (["--max_base", "5", "--exp_name", "few"], ["--exp_name", "elsewhere", "--bases_dir", str(images)]):
        assert srs_me(*PUBLISHED_SRSME, *SHORT, *more) == 0
    assert len(edits.parts_of(read(images / "models" / "few"))[0].basis) == 5


def test_from_another_directory(images, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    paths = {
        "--ckpt_path": "tiny.safetensors",
        "--config_path": "tiny.yaml",
        "--data_root": "data",
        "--save_path": "out",
    }
    flags = [text for flag, name in paths.items() for text in (flag, images / name)]
    done = run(FOLDER / "SepCE.py", *flags, "--image_size", "32", *TWO, "--exp_name", "mine", cwd=elsewhere)
    assert done.returncode == 0, done.stderr
    assert {folder.name for folder in (images / "out").iterdir()} == {"mine", "mine-1", "mine-2"}
    assert not list(elsewhere.iterdir())


# ---- modes and selections ------------------------------------------------------------------------------------------


def test_separate_mode(images, capsys):
    """Each term as if it had been trained alone; the same selections, with nothing trained twice."""
    flags = [*TWO, "--mode", "separate", "--thresholds", "0,-1"]
    assert sepce(*flags) == 0
    stem = "train-separate-SepCE-threshold0_0-threshold1_-1-iter_2_beta-0.001-onlykv"
    folder = {suffix: images / "models" / f"{stem}{suffix}" for suffix in ("1", "2", "12")}
    assert {f.name for f in (images / "models").iterdir()} == {f.name for f in folder.values()}
    first, second = (read(folder[suffix]) for suffix in "12")
    both = edits.parts_of(read(folder["12"]))
    for one, part in zip((first, second), both, strict=True):
        (alone,) = edits.parts_of(one)
        assert all(torch.equal(w, part.coefficients[name]) for name, w in alone.coefficients.items())
        assert part.facts == alone.facts and part.facts["run"]["reg"] == "delta_l1"
    assert [part.facts["threshold"] for part in both] == [0.0, -1.0]
    assert "a" not in both[0].protected and "b" in both[0].protected and "a" in both[1].protected
    assert "'b' was not stopped by its rule" in capsys.readouterr().out
    before = tree(images / "models")
    assert sepce(*flags) == 0
    assert capsys.readouterr().out.count("finished: nothing to train") == 2
    assert tree(images / "models") == before
    # the run that SepCE.py makes of the one concept
    assert (
        sepce("--concepts", "a", *SHORT, "--known", "b", "--reg", "delta_l1", "--thresholds", "0", "--exp_name", "x")
        == 0
    )
    alone = edits.parts_of(read(images / "models" / "x"))[0]
    assert all(torch.equal(w, alone.coefficients[name]) for name, w in both[0].coefficients.items())


def test_bases_are_the_same_in_both_modes(images):
    for mode in ("joint", "separate"):
        assert sepce(*TWO, "--known", "c", "--mode", mode, "--exp_name", mode) == 0
    joint, separate = (edits.parts_of(read(images / "models" / mode)) for mode in ("joint", "separate"))
    for one, other in zip(joint, separate, strict=True):
        assert one.protected == other.protected and torch.equal(one.basis, other.basis)


def test_one_concept_alone(images, capsys):
    """Joint or separate, it is one run in one folder, and found again."""
    for mode in ("joint", "separate"):
        flags = ["--concepts", "a", *SHORT, "--mode", mode]
        assert sepce(*flags) == 0
        folder = images / "models" / f"train-{mode}-SepCE-threshold0_0-iter_2_beta-0.001-onlykv1"
        before = tree(images / "models")
        capsys.readouterr()
        assert sepce(*flags) == 0 and "finished: nothing to train" in capsys.readouterr().out
        assert tree(images / "models") == before and read(folder).concepts == ["a"]
    assert len(list((images / "models").iterdir())) == 2


def test_of_more_than_three_concepts_single_ones_and_all(images):
    assert sepce("--concepts", "a;b; c;d", *SHORT, "--exp_name", "run") == 0
    assert {f.name for f in (images / "models").iterdir()} == {"run", *(f"run-{j}" for j in range(1, 5))}
    assert read(images / "models" / "run-3").concepts == ["c"]


@pytest.mark.parametrize("mode", ["joint", "separate"])
def test_published_files_of_every_selection(images, mode):
    """Written where they are wanted, of the very weights that the edit makes, and made anew with the run."""
    flags = [*TWO, "--mode", mode, "--lr", "1", "--exp_name", "run"]
    assert sepce(*flags) == 0  # the edit first, the files later
    assert sepce(*flags, "--save_format", "pt") == 0
    for name in ("run", "run-1", "run-2"):
        folder = images / "models" / name
        edited = projections(folder / "edit.safetensors")
        for file in weights_files(folder, "pt"):
            assert same_weights(edited, projections(file)), file
    script = ROOT / "eval-scripts" / "generate-images.py"
    drawing = [
        "--prompts_path",
        "p.csv",
        "--save_path",
        "out",
        "--image_size",
        "64",
        "--ddim_steps",
        "2",
        "--device",
        "cpu",
    ]
    (images / "p.csv").write_text("case_number,prompt,evaluation_seed\n0,a,1\n", encoding="utf-8")
    pictures = []
    for flag in (["--model_name", "run-1"], ["--model_name", "models/run-1/run-1.pt", "--exp_name", "pt"]):
        done = run(script, *BASE, *drawing, *flag, "--num_samples", "1", cwd=images)
        assert done.returncode == 0, done.stderr
    for folder in ("run-1", "pt"):
        with Image.open(next((images / "out" / folder).rglob("0_0.png"))) as picture:
            pictures.append(np.array(picture))
    assert np.array_equal(*pictures)
    assert sepce(*flags[:-4], "--lr", "2", "--exp_name", "run", "--save_format", "pt", "--force") == 0
    for name in ("run", "run-1", "run-2"):
        folder = images / "models" / name
        again = projections(folder / "edit.safetensors")
        assert all(same_weights(again, projections(file)) for file in weights_files(folder, "pt"))
    assert not same_weights(again, edited)


def test_restoring(images):
    assert sepce(*TWO, "--lr", "1", "--exp_name", "run") == 0
    without = projections("models/run", without=["b"])
    assert same_weights(without, projections("models/run-1")) and not same_weights(without, projections("models/run"))


# ---- what is protected ---------------------------------------------------------------------------------------------


def test_known_protected_and_worded(images):
    flags = ["--known", "c, d", "--protect", "CCS 2024; a, b", "--protect_as", "{};art by {}", "--exp_name", "run"]
    assert sepce(*TWO, *flags) == 0
    a, b = edits.parts_of(read(images / "models" / "run"))
    assert a.protected == ("", "b", "art by b", "c", "art by c", "d", "art by d", "CCS 2024", "a, b")
    assert b.protected == ("", "a", "art by a", *a.protected[3:])
    settings = read_json(images / "models" / "run" / "settings.json")["settings"]
    assert settings["known"] == ["c", "d"] and settings["protect_as"] == ["{}", "art by {}"]
    assert a.facts["tolerance"] > 0 and a.facts["leak"] > 0


def test_bases_of_generate_bases(images, capsys):
    """Those of its files, without a word; and with a warning what they were not solved for."""
    assert generate_bases.main([*BASE, "--concepts", "a,b", "--out", "bases", "--device", "cpu"]) == 0
    capsys.readouterr()
    assert sepce(*TWO, "--bases_dir", "bases", "--protect_as", "{}", "--max_base", "6", "--exp_name", "run") == 0
    assert "warning: the basis" not in capsys.readouterr().out
    for part in edits.parts_of(read(images / "models" / "run")):
        stored = bases.read(f"bases/{part.concept}.safetensors")
        assert torch.equal(part.basis, stored.bases[:6]) and part.protected == stored.prompts
    flags = [*TWO, "--bases_dir", "bases", "--protect_as", "{}", "--known", "c", "--exp_name", "more"]
    assert sepce(*flags) == 0
    assert "the basis of 'a' was not solved for 'c', which will see its term" in capsys.readouterr().out


def test_bases_of_a_published_pickle_stream(images, capsys):
    model, _ = base_models.load("tiny.safetensors", "tiny.yaml")
    texts = TextStates.of(model)
    (images / "bases").mkdir()
    for name, other in (("a", "b"), ("b", "a")):
        found = bases.build(texts, name, [other], method="svd", tolerance=0.01)
        with open(images / "bases" / f"{name}.pickle", "wb") as file:
            for row in found.bases.numpy():
                pickle.dump(row, file)
    assert sepce(*TWO, "--bases_dir", "bases", "--protect_as", "{}", "--exp_name", "run") == 0
    assert "of a file that does not name them" in capsys.readouterr().out
    part = edits.parts_of(read(images / "models" / "run"))[1]
    assert part.concept == "b" and torch.equal(part.basis, found.bases) and part.protected == ()
    # the same for a scene
    (images / "scene/scene3/4").mkdir(parents=True)
    os.rename(images / "bases" / "a.pickle", images / "scene/scene3/4/1.pickle")
    flags = ["--erase_cat", "style", "--erased_index", "1", "--scenei", "3", "--timei", "4"]
    assert srs_me(*flags, *SHORT, "--exp_name", "scene") == 0
    assert read(images / "models" / "scene").concepts == ["VanGogh"]


# ---- runs that end early -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["joint", "separate"])
def test_kill_9_and_resume(images, mode):
    """To the bytes of an undisturbed run, whatever was done when the process died."""
    flags = ["--concepts", "a,b", "--iter_break", "6", "--min_iter", "2", "--thresholds", "1e9,-1e9", "--mode", mode]
    flags = [*flags, "--checkpoint_every", "1", "--devices", "cpu", "--exp_name", "run"]
    for case, pattern in enumerate(("run*/checkpoint.safetensors", "run-2/*")):
        where = ["--save_path", f"killed{case}"]
        command = (FOLDER / "SepCE.py", *TINY, *flags, *where)
        killed = process.start(*command, cwd=images, env=process.same_threads())
        while not list(images.glob(f"killed{case}/{pattern}")) and killed.poll() is None:
            time.sleep(0.005)
        killed.kill()
        killed.wait()
        assert sepce(*flags, *where, "--resume") == 0
    assert sepce(*flags, "--save_path", "whole") == 0
    whole = tree(images / "whole")
    assert {"run/edit.safetensors", "run-1/edit.safetensors", "run-2/edit.safetensors"} <= set(whole)
    assert tree(images / "killed0") == whole and tree(images / "killed1") == whole
    if mode == "joint":
        assert len(losses(images / "whole" / "run")) == 7


def test_interrupted_run_says_how_it_goes_on(images, monkeypatch, capsys):
    from methods.sepce.training import Trainer

    real = Trainer.update

    def update(self, step):
        os.kill(os.getpid(), signal.SIGINT)
        return real(self, step)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "update", update)
        assert sepce(*TWO, "--mode", "separate", "--exp_name", "run") == errors.INTERRUPTED
    assert "add --resume to the same command" in capsys.readouterr().err
    with pytest.raises(errors.UserError, match="stopped after 1 steps: --resume goes on"):
        sepce(*TWO, "--mode", "separate", "--exp_name", "run")
    assert sepce(*TWO, "--mode", "separate", "--exp_name", "run", "--resume") == 0


def test_images_that_run_out(images, capsys):
    flags = ["--concepts", "a,b", "--iter_break", "20", "--min_iter", "11", "--no-cycle_images", "--thresholds", "1e9"]
    assert sepce(*flags, "--devices", "cpu", "--exp_name", "run") == 0
    out = capsys.readouterr().out
    assert "the images ran out" in out and "'a' was not stopped by its rule, but by the end of training after 3" in out
    parts = edits.parts_of(read(images / "models" / "run"))
    assert [(part.facts["stopped"], part.facts["steps"]) for part in parts] == [(False, 3)] * 2
    assert all(w.any() for part in parts for w in part.coefficients.values())


def test_images_are_drawn_where_there_are_none(place, capsys):
    (place / "data").mkdir()
    assert sepce(*TWO, "--num_images", "2", "--exp_name", "run") == 0
    assert "drawing 2 training images of 'b'" in capsys.readouterr().out
    assert len(list((place / "data" / "a").glob("*.png"))) == 2


# ---- mistakes ------------------------------------------------------------------------------------------------------


def check_mistake(main, flags, message, capsys):
    capsys.readouterr()
    with pytest.raises(SystemExit) as stopped:
        errors.run(lambda: main(*flags))
    error = capsys.readouterr().err
    assert stopped.value.code == 2
    assert error.startswith("error: ") and error.count("\n") == 1 and message in error, error


@pytest.mark.parametrize(("flags", "message"), [
    (["--concepts", "a,b,a"], "'a, b, a': give different names"),
    (["--concepts", "VanGogh,van gogh"], "give different names"),
    (["--concepts", " ,"], "at least one"),
    (["--concepts", "a,b", "--known", "c,b"], "'b' is to be erased and to see nothing of it"),
    (["--concepts", "a,B", "--protect", "b"], "'b' is to be erased and to see nothing of it"),
    (["--concepts", "a,b", "--thresholds", "1,2,3"], "3 --thresholds for 2 concepts"),
    (["--concepts", "a,b", "--thresholds", ""], "0 --thresholds for 2 concepts"),
    (["--thresholds", "1,2"], "2 --thresholds for 3 concepts"),
    (["--protect_as", "a painting"], "--protect_as 'a painting': a wording has one {}"),
    (["--protect_as", "{};{} by {}"], "'{} by {}': a wording has one {}"),
    (["--protect_as", "{0}"], "'{0}': a wording has one {}"),
    (["--protect_as", ""], "a wording has one {}"),
    (["--scale_factor", "-1"], "scale_factor must be greater than 0"),
    (["--scale_factor", "0"], "scale_factor must be greater than 0"),
    (["--reg_beta=-1e-5"], "reg_beta must not be negative"),
    (["--momentum", "1"], "momentum must be at least 0 and less than 1"),
    (["--momentum", "-0.1"], "momentum must be at least 0 and less than 1"),
    (["--momentum", "nan"], "momentum must be"),
    (["--min_iter", "-1"], "min_iter must not be negative"),
    (["--max_base", "0"], "max_base must be at least 1"),
    (["--bases_dir", "nowhere"], "nowhere/VanGogh.safetensors: no such file of bases"),
    (["--bases_dir", ".", "--basis", "svd"], "--basis and --tolerance are generate_bases.py's"),
    (["--tolerance", "0"], "'VanGogh', protecting 9 prompts: the protected prompts take all 32 dimensions"),
    (["--tolerance", "0"], "protect fewer of them, or only their strongest directions (a tolerance above 0)"),
    (["--lr", "0"], "lr must be greater than 0"),
    (["--no_draw", "--data_root", "nowhere"], "generate-data.py --prompt VanGogh"),
])  # fmt: skip
def test_mistakes_end_in_one_line(place, capsys, flags, message):
    check_mistake(sepce, flags, message, capsys)
    assert not any((place / "models").iterdir())


@pytest.mark.parametrize(("flags", "message"), [
    ([*SCENE], "scene/scene1/0/0.safetensors: no such file of bases; SRSME_Solution.py writes it"),
    (["--erase_cat", "style", "--erased_index", "9", "--scenei", "1", "--timei", "0"], "style has 0 Cezanne"),
    (["--scenei", "1", "--timei", "0"], "name a concept"),
    (["--prompt", "a", "--scenei", "1", "--timei", "0"], "SepCE.py erases any by name"),
])  # fmt: skip
def test_mistakes_with_scenes(place, capsys, flags, message):
    check_mistake(srs_me, flags, message, capsys)


def test_a_scene_of_another_list_or_model(images, capsys):
    assert SRSME_Solution.main([*BASE, *SOLUTION[:-1], "cpu"]) == 0
    others = [*SCENE[:1], "object", *SCENE[2:]]
    check_mistake(srs_me, others, "the basis of 'Cezanne', not of 'chain saw'", capsys)
    for flag in (["--scale_factor", "-1"], ["--threshold", "nan"], ["--reg_beta", "-1"], ["--max_base", "0"]):
        check_mistake(srs_me, [*SCENE, *flag], f"{flag[0][2:]} must", capsys)
    check_encoder(srs_me, SCENE, capsys)


def check_encoder(main, flags, capsys):
    """The files of bases here are of a text encoder that the model no longer has."""
    model, _ = base_models.load("tiny.safetensors", "tiny.yaml")
    next(model.cond_stage_model.parameters()).data += 1
    edits.export_compvis(model, "tiny.safetensors")
    check_mistake(main, flags, "made with another text encoder than the model's", capsys)


def test_bases_of_another_encoder(images, capsys):
    assert generate_bases.main([*BASE, "--concepts", "a,b", "--out", "bases", "--device", "cpu"]) == 0
    os.rename("bases/a2.safetensors", "bases/c.safetensors")
    check_mistake(sepce, ["--concepts", "c", "--bases_dir", "bases"], "the basis of 'a', not of 'c'", capsys)
    with open("bases/d.pickle", "wb") as file:
        for row in np.eye(768)[:3]:
            pickle.dump(row, file)
    flags = ["--concepts", "d", "--bases_dir", "bases"]
    check_mistake(sepce, flags, "'d' is of 768 dimensions, the model's conditioning of 32", capsys)
    check_encoder(sepce, [*TWO, "--bases_dir", "bases"], capsys)


@pytest.mark.parametrize("mode", ["joint", "separate"])
def test_models_of_other_runs_are_not_overwritten(images, capsys, mode):
    """Names say little: a selection may have the name of another run's model. Nothing is trained before that is seen."""
    assert sepce("--concepts", "c", *SHORT, "--exp_name", "run-1") == 0
    before = tree(images / "models")
    flags = [*TWO, "--mode", mode, "--exp_name", "run"]
    check_mistake(sepce, flags, "run-1 holds another model (sepce of c): --force replaces it", capsys)
    assert tree(images / "models") == before
    assert sepce(*flags, "--force") == 0
    for lr in ("0.1", "0.2"):
        with (
            contextlib.nullcontext() if lr == "0.1" else pytest.raises(errors.UserError, match="lr 0.1 there, 0.2 here")
        ):
            assert sepce(*flags, "--lr", lr) == 0
    check_mistake(sepce, [*flags, "--seed", "2"], "seed 1 there, 2 here", capsys)
    check_mistake(sepce, [*flags, "--protect", "x"], "protect [] there", capsys)


@pytest.mark.parametrize("flags", [
    ["--thresholds", "a"], ["--thresholds", "nan"], ["--mode", "both"], ["--reg", "l2"], ["--balance", "x"],
    ["--tolerance", "1.5"], ["--resume", "--force"], ["--prompt", "x"], ["--scale", "1"],
])  # fmt: skip
def test_unknown_and_contradictory_flags(capsys, flags):
    with pytest.raises(SystemExit, match="2"):
        sepce(*flags)
    assert "error: " in capsys.readouterr().err
