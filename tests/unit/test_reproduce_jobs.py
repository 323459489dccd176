"""Jobs of the papers' tables: their commands are ones that the methods take, each is there once, and what they cost."""

import argparse
import importlib
import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf
from torch.utils.flop_counter import FlopCounterMode

from erasure.base_models import NAMES
from erasure.errors import UserError
from erasure.generation.presets import PRESETS
from erasure.runs import ROOT
from ldm.util import instantiate_from_config
from reproduce import costs, jobs, tables
from tests.cli.process import load

TABLES = tables.tables()
MADE = [name for name, one in TABLES.items() if not one.not_here]
EMBEDDED = [name for name in MADE if TABLES[name].embedded or TABLES[name].computed_from]


def parser_of(script: str) -> argparse.ArgumentParser:
    module = load(ROOT / script)
    if hasattr(module, "build_parser"):
        return module.build_parser()
    return importlib.import_module("methods.rece.command").build_parser(module.SCRIPT)


def trainings(base):
    names = EMBEDDED if base == "toy" else MADE
    return {job.command for name in names for job in jobs.jobs_of([TABLES[name]], base) if job.kind == "train"}


@pytest.mark.parametrize("base", costs.MODELS)
def test_commands_are_ones_that_the_methods_take(base):
    parsers = {}
    for command in trainings(base):
        if command[0] == "python":
            script, flags = command[1], command[2:]
            parsers[script] = parsers.get(script) or parser_of(script)
            args = parsers[script].parse_args(flags)  # leaves the process for a flag that does not exist
            assert args.ckpt_path == NAMES[base][0]
        else:
            *variables, shell, script = [word for word in command if not word.startswith("--") and not word.isdigit()]
            text = (ROOT / script).read_text() + (ROOT / "shell_scripts" / "common.sh").read_text()
            assert shell == "sh"
            assert all(re.search(rf"\b{word.partition('=')[0]}=", text) for word in variables)


def test_arguments_of_the_scenes_are_ones_that_they_pass_on():
    flags = {
        command[command.index("shell_scripts/sepce/scenes.sh") + 1 :]
        for command in trainings("sd-v1-4")
        if "sh" in command
    }
    parser = parser_of("methods/sepce/SRS_ME.py")
    for given_flags in flags:
        parser.parse_args(["--scenei", "1", "--timei", "0", "--prompt", "x", *given_flags])
    assert ("--reg_beta", "0") in flags


def test_a_command_is_typed_as_a_shell_reads_it():
    command = jobs.command_of("esd", {"prompt": "van gogh", "exact_sampling": True}, "toy")
    typed = (
        "python methods/esd/train-esd.py --prompt 'van gogh' --exact_sampling --ckpt_path models/toy/toy-v1.safetensors"
    )
    assert jobs.shell_line(command) == typed
    command = jobs.command_of("scenes", {"SCENE": 2, "CATEGORY": "two words", "reg_beta": 0}, "toy")
    assert jobs.shell_line(command) == (
        "BASE=models/toy/toy-v1.safetensors SCENE=2 CATEGORY='two words' sh shell_scripts/sepce/scenes.sh --reg_beta 0"
    )


@settings(max_examples=40, deadline=None)
@given(st.lists(st.sampled_from(EMBEDDED), min_size=1, max_size=4))
def test_what_several_tables_need_is_there_once(names):
    found = jobs.jobs_of([TABLES[name] for name in names], "toy")
    own = [{*jobs.jobs_of([TABLES[name]], "toy")} for name in {*names}]
    assert len({job.command for job in found if job.kind == "train"}) == len(
        [job for job in found if job.kind == "train"]
    )
    assert len(found) <= sum(map(len, own))
    assert sum(job.images for job in found) <= sum(job.images for jobs_ in own for job in jobs_)
    assert {job.command for jobs_ in own for job in jobs_} == {job.command for job in found}
    assert [job.kind for job in found] == sorted((job.kind for job in found), key=("train", "images", "measure").index)


def test_all_counterparts_take_less_than_half_an_hour():
    found = jobs.jobs_of([TABLES[name] for name in EMBEDDED], "toy")
    assert sum((job.cost for job in found), costs.Cost()).hours(costs.MODELS["toy"]) < 0.5


def test_images_are_those_of_the_published_files():
    found = jobs.jobs_of([TABLES["rece:nudity"]], "sd-v1-4")
    assert [job.images for job in found if job.kind == "images"] == [4703] * 3
    (drawn,) = {job.cost for job in found if job.kind == "images"}
    model = costs.MODELS["sd-v1-4"]
    assert drawn.flops == pytest.approx(4703 * (50 * 2 * model.unet + model.decode))
    average = jobs.jobs_of([TABLES["sepce:weights_average"]], "sd-v1-4")
    assert average == jobs.jobs_of([TABLES["sepce:weights"]], "sd-v1-4")


def test_training_images_are_drawn_once_for_a_concept():
    found = jobs.jobs_of([TABLES["sepce:styles_rivals"], TABLES["sepce:styles"]], "toy")
    drawn = [job for job in found if "to train on" in job.what]
    assert sorted(job.what for job in drawn) == [
        f"base: {name}, to train on" for name in ("cezanne", "picasso", "van gogh")
    ]
    assert {job.images for job in drawn} == {32}
    published = jobs.jobs_of([TABLES["sepce:styles"]], "sd-v1-4")
    assert sum("to train on" in job.what for job in published) == 6


@pytest.mark.parametrize(
    ("name", "base", "what"),
    [
        ("esd:user_study", "toy", "esd:user_study cannot be made here: people rated pictures"),
        ("mace:nudity", "toy", "has no counterpart on the embedded model"),
        ("rece:nudity", "sd-v3", "unknown base 'sd-v3'; choose from sd-v1-4, toy"),
    ],
)
def test_mistakes(name, base, what):
    with pytest.raises(UserError, match=what):
        jobs.jobs_of([TABLES[name]], base)


# ---- costs ---------------------------------------------------------------------------------------------------------


def flops(module, *inputs, **more) -> int:
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        module(*inputs, **more)
    return counter.get_total_flops()


@pytest.mark.parametrize(("base", "latent"), [("toy", 16), ("sd-v1-4", 64)])
def test_operations_are_those_of_the_networks(base, latent):
    model, params = costs.MODELS[base], OmegaConf.load(ROOT / NAMES[base][1]).model.params
    with torch.device("meta"):
        unet, vae = (instantiate_from_config(params[key]) for key in ("unet_config", "first_stage_config"))
        x, t = torch.zeros(1, 4, latent, latent), torch.zeros(1, dtype=torch.long)
        assert flops(unet, x, t, context=torch.zeros(1, 77, model.width)) == pytest.approx(model.unet, rel=1e-3)
        assert flops(vae.decode, x) == pytest.approx(model.decode, rel=1e-3)
        assert flops(vae.encode, torch.zeros(1, 3, 8 * latent, 8 * latent)) == pytest.approx(model.encode, rel=1e-3)
    projections = [m for name, m in unet.named_modules() if name.endswith(("attn2.to_k", "attn2.to_v"))]
    assert sum(m.out_features for m in projections) == model.projected
    assert {m.in_features for m in projections} == {model.width}


@settings(deadline=None)
@given(st.integers(1, 300), st.integers(1, 300), st.sampled_from(sorted(PRESETS)))
def test_images_add_up(n, m, preset):
    model = costs.MODELS["toy"]
    apart, together = (costs.images(model, k, PRESETS[preset]) for k in (n, n + m))
    rest = costs.images(model, m, PRESETS[preset])
    assert (apart + rest).flops == pytest.approx(together.flops)
    assert together.hours(model) <= (apart + rest).hours(model) * (1 + 1e-9)
    assert together.hours(model, rate=2 * model.batched_rate) < together.hours(model)


def test_more_iterations_cost_more():
    model = costs.MODELS["sd-v1-4"]
    few, many = (costs.training(model, "esd", {"iterations": n}) for n in (100, 1000))
    assert many.flops == pytest.approx(10 * few.flops) and many.steps == 10 * few.steps
    assert few.flops == pytest.approx(100 * (50 + 5) * model.unet)
    one, three = (costs.training(model, "separable", {"concepts": names}) for names in ("a", "a,b,c"))
    assert three.flops == pytest.approx(3 * one.flops)
    assert costs.training(model, "closed_form", {"concepts": "50artists"}).flops > 50 * model.text
    with pytest.raises(UserError, match="scenes 1 to 4, not 9"):
        costs.training(model, "scenes", {"SCENE": "9", "CATEGORY": "style"})
