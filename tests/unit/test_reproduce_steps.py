"""Steps of the papers' tables: their commands are ones that the scripts take, each is there once, and what they cost."""

import argparse
import importlib
import re
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf
from torch.utils.flop_counter import FlopCounterMode

from erasure.base_models import NAMES
from erasure.errors import UserError
from erasure.generation.presets import PRESETS
from erasure.prompt_sets import is_here
from erasure.runs import ROOT
from ldm.util import instantiate_from_config
from reproduce import commands, costs, missing, steps, tables
from reproduce.models import Plan, model_flags, model_name, models
from tests.cli.process import load

TABLES = tables.tables()
MADE = [name for name, one in TABLES.items() if not one.not_here]
EMBEDDED = [name for name in MADE if TABLES[name].embedded or TABLES[name].computed_from]


def graph(base, *names):
    return steps.graph([TABLES[name] for name in names], Plan(base, Path("/reproduced")))


def of(kind, found):
    return [step for step in found.values() if step.kind == kind]


def parser_of(script: str) -> argparse.ArgumentParser:
    module = load(ROOT / script)
    if hasattr(module, "build_parser"):
        return module.build_parser()
    return importlib.import_module("methods.rece.command").build_parser(module.SCRIPT)


@pytest.fixture(scope="module")
def everything():
    return {"toy": graph("toy", *EMBEDDED), "sd-v1-4": graph("sd-v1-4", *MADE)}


@pytest.mark.parametrize("base", costs.MODELS)
def test_commands_are_ones_that_the_scripts_take(everything, base):
    parsers, text = {}, (ROOT / "shell_scripts" / "common.sh").read_text()
    for step in everything[base].values():
        if step.kind not in ("pictures", "train", "images"):
            continue  # measures have a test of their own
        (line,) = step.lines
        if line[0] == "python":
            script, flags = line[1], line[2:]
            parsers[script] = parsers.get(script) or parser_of(script)
            args = parsers[script].parse_args(flags)  # leaves the process for a flag that does not exist
            assert NAMES[base][0] in (getattr(args, "base", None), getattr(args, "ckpt_path", None))
        else:
            variables = [word for word in line if commands.is_variable(word)]
            shell, script, *_ = line[len(variables) :]
            own = (ROOT / script).read_text() + text
            assert shell == "sh" and all(re.search(rf"\b{word.partition('=')[0]}=", own) for word in variables)


def test_arguments_of_the_scenes_are_ones_that_they_pass_on(everything):
    scenes = "shell_scripts/sepce/scenes.sh"
    lines = [step.lines[0] for step in of("train", everything["sd-v1-4"]) if scenes in step.lines[0]]
    flags = {line[line.index(scenes) + 1 :] for line in lines}
    parser = parser_of("methods/sepce/SRS_ME.py")
    for given_flags in flags:
        parser.parse_args(["--scenei", "1", "--timei", "0", "--prompt", "x", *given_flags])
    assert ("--reg_beta", "0") in flags


def test_a_command_is_typed_as_a_shell_reads_it():
    command = commands.train("esd", {"prompt": "van gogh", "exact_sampling": True}, "toy")
    typed = (
        "python methods/esd/train-esd.py --prompt 'van gogh' --exact_sampling --ckpt_path models/toy/toy-v1.safetensors"
    )
    assert commands.shell_line(command) == typed
    command = commands.train("scenes", {"SCENE": 2, "CATEGORY": "two words", "reg_beta": 0}, "toy")
    assert commands.shell_line(command) == (
        "BASE=models/toy/toy-v1.safetensors SCENE=2 CATEGORY='two words' sh shell_scripts/sepce/scenes.sh --reg_beta 0"
    )


@pytest.mark.parametrize("base", costs.MODELS)
def test_every_step_stands_behind_those_it_needs(everything, base):
    found, seen = everything[base], set()
    for key, step in found.items():
        assert step.kind in steps.KINDS and set(step.needs) <= seen, key
        assert step.lines or step.kind == "table"
        seen.add(key)
    named = {word for step in found.values() for line in step.lines for word in line if word.startswith("@{")}
    assert {re.fullmatch(r"@\{(train/[\w-]+):[\w-]*\}", word)[1] for word in named} <= {
        s.key for s in of("train", found)
    }


@settings(max_examples=30, deadline=None)
@given(st.lists(st.sampled_from(EMBEDDED), min_size=1, max_size=4, unique=True))
def test_what_several_tables_need_is_there_once(names):
    own = [graph("toy", name) for name in names]
    found = graph("toy", *names)
    assert found.keys() == {key for one in own for key in one}
    lines = [step.lines for step in found.values() if step.lines]
    assert len({*lines}) == len(lines)


def test_other_settings_are_another_step():
    keys = {steps.training_key("esd", {"prompt": "van gogh", "lr": lr}, "toy") for lr in (1e-5, 2e-5)}
    assert len(keys) == 2 and all(key.startswith("train/esd_van_gogh-") for key in keys)
    runs = models(TABLES["sepce:styles"], Plan("toy", Path("/reproduced")))
    assert len({model_name(run, "toy") for run in runs}) == len(runs) == 3
    kept, restored = (model_flags(run, "toy") for run in runs[1:])
    assert restored == (*kept, "--without", "van gogh") and kept[0] == "--edit"


def test_trainings_act_where_their_concepts_are_erased():
    """SepCE's rivals: six trainings of a concept each; at a time those that are erased then."""
    plan = Plan("sd-v1-4", Path("/reproduced"))
    one = TABLES["sepce:styles_rivals"]
    rows = [row for row in one.rows if row["method"] == "FMN30"]
    counts = [len(model_flags(one.run_of("FMN30", row), plan.base)) // 2 for row in rows]
    assert counts == [row["roles"].count("E") for row in rows]
    scene = next(row for row in one.rows if row["method"] == "SRS-ME" and row["t"] == "t1")
    (flag, file) = model_flags(one.run_of("SRS-ME", scene), plan.base)
    assert flag == "--edit" and file.endswith(f":scene{scene['scene']}-time1}}")


def test_all_counterparts_take_less_than_half_an_hour(everything):
    found = everything["toy"].values()
    assert sum((step.cost for step in found), costs.Cost()).hours(costs.MODELS["toy"]) < 0.5


def test_images_are_those_of_the_published_files():
    drawn = of("images", graph("sd-v1-4", "rece:nudity"))
    assert [step.images for step in drawn] == [4703] * 3
    (cost,) = {step.cost for step in drawn}
    model = costs.MODELS["sd-v1-4"]
    assert cost.flops == pytest.approx(4703 * (50 * 2 * model.unet + model.decode))
    average, source = graph("sd-v1-4", "sepce:weights_average"), graph("sd-v1-4", "sepce:weights")
    assert average.keys() ^ source.keys() == {"table/sepce_weights_average", "table/sepce_weights"}


def test_training_images_are_drawn_once_for_a_concept():
    drawn = of("pictures", graph("toy", "sepce:styles_rivals", "sepce:styles"))
    names = ("cezanne", "picasso", "van gogh")
    assert sorted(step.what for step in drawn) == [f"base: {name}, to train on" for name in names]
    assert {step.images for step in drawn} == {32}
    assert len(of("pictures", graph("sd-v1-4", "sepce:styles"))) == 6


def test_what_is_missing_is_known_beforehand(tmp_path, everything, monkeypatch):
    plan = Plan("toy", tmp_path)
    assert missing.missing(everything["toy"], plan) == []
    monkeypatch.setattr(missing, "ROOT", tmp_path)
    nowhere = missing.missing(graph("sd-v1-4", "esd:coco", "esd:objects"), Plan("sd-v1-4", tmp_path))
    assert any("--coco_reference" in line for line in nowhere)
    if not is_here("generation_prompts/coco_30k.csv"):
        assert any("data/import_prompts.py coco_30k_case" in line for line in nowhere)
    assert not any("imagenette" in line for line in nowhere)  # made by rule
    (tmp_path / "here").mkdir()
    given = Plan("sd-v1-4", tmp_path, {"coco_reference": str(tmp_path / "here")})
    assert len(missing.missing(graph("sd-v1-4", "esd:coco"), given)) == len(nowhere) - (
        1 + any("resnet50" in line for line in nowhere)
    )


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
        graph(base, name)


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
