"""What CPE's training is told: YAML files, flags over them, folders as published, phases and learning rates, mistakes."""

import argparse
import json
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from erasure.errors import UserError
from methods.cpe import run, schedule
from methods.cpe.run import chosen, plan_of
from methods.cpe.schedule import ATTACK, ERASE, SCHEDULERS, factor, phases
from methods.cpe.settings import CpeSettings, as_type
from methods.cpe.train_cpe import build_parser
from methods.cpe.yaml_files import read_config, read_yaml

DOMAINS = {  # folder, concept in it, iterations in all of erasing and of adversarial phases, flags of the shell script
    "celeb": (
        "output/CPE_Celeb/celeb_50/celeb_single_guide0.3_pal100000.0_gate_rank16_noise0.001/chris_evans",
        3600, 2250, ["--gate_rank", "16", "--guidance_scale", "0.3", "--pal", "100000.0"],
    ),
    "artist": (
        "output/CPE_Artist/artist_100/artist_single_guide0.5_pal10000.0_gate_rank16_noise0.001/briton_rivière",
        5850, 4500, ["--gate_rank", "16", "--guidance_scale", "0.5", "--pal", "10000.0"],
    ),
    "explicit": (
        "output/CPE_Explicit/explicit_4/explicit_single_guide3.0_pal10000.0_gate_rank64_noise0.001/nudity",
        25200, 24000, ["--gate_rank", "64", "--guidance_scale", "3.0", "--pal", "10000.0"],
    ),
}  # fmt: skip
CONFIG = {
    "prompts_file": "prompt.yaml",
    "scripts_file": "templates.csv",
    "replace_word": "actor",
    "anchors": {"general": ["a"], "candidates": ["b"]},
    "save": {"name": "tiny", "path": "out/run_guide#_pal#_gate_rank#/ACTOR"},
}
ENTRY = {"target": "chris evans", "neutral": "a person"}


def flags_of(*flags):
    return build_parser().parse_args(["--config_file", "config.yaml", *flags])


def settings_of(config=(), entry=(), **flags):
    return CpeSettings.of(CONFIG | dict(config), ENTRY | dict(entry), flags)


@pytest.fixture
def plan(tmp_path, monkeypatch):
    """plan(*flags, entries=..., **config): of a configuration file in the working directory."""
    monkeypatch.chdir(tmp_path)

    def get(*flags, entries=tuple(f"concept {n}" for n in range(6)), **config):
        Path("config.yaml").write_text(json.dumps(CONFIG | config))  # JSON is YAML
        Path("prompt.yaml").write_text(json.dumps([ENTRY | {"target": name} for name in entries]))
        return plan_of(flags_of(*flags), "sd-v1")

    return get


# ---- published settings --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("domain", DOMAINS)
def test_a_published_run(domain):
    folder, erasing, attacking, flags = DOMAINS[domain]
    config = f"configs/train_{domain}/config.yaml"
    arguments = build_parser().parse_args(["--config_file", config, *flags, "--noise", "0.001"])
    found = plan_of(arguments, "sd-v1").settings
    assert Path(found[0].folder) == Path(folder)
    targets = [entry["target"] for entry in read_yaml(read_config(config, "sd-v1")["prompts_file"])]
    assert [Path(s.folder).name for s in found] == [name.replace(" ", "_") for name in targets]
    assert {Path(s.folder).parent for s in found} == {Path(folder).parent}
    for kind, total in ((ERASE, erasing), (ATTACK, attacking)):
        assert sum(p.iterations for p in phases(found[0]) if p.kind == kind) == total
    assert (found[0].seed, found[0].noise_scale, found[0].mixup, found[0].separate_key) == (2024, 0.001, True, False)


def test_awkward_names_are_the_published_folders():
    names = ("brian k. vaughan", "c. r. w. nevinson", "chaïm soutine", "clarence holbrook crealistic photoer")
    folders = [Path(settings_of(entry={"target": name}).folder).name for name in names]
    assert folders == ["brian_k._vaughan", "c._r._w._nevinson", "chaïm_soutine", "clarence_holbrook_crealistic_photoer"]


@pytest.mark.parametrize(
    ("flags", "folder"),
    [
        ([], "run_guide1.0_pal0.01_gate_rank16"),
        (["--guidance_scale", "3", "--pal", "1e4", "--gate_rank", "4"], "run_guide3.0_pal10000.0_gate_rank4"),
        (["--lora_rank", "4"], "run_guide1.0_pal0.01_gate_rank16_lora_rank4"),
        (["--mixup", ""], "run_guide1.0_pal0.01_gate_rank16_nomixup"),
        (["--no-mixup", "--noise", "1e-3", "--lora_rank", "2"],
         "run_guide1.0_pal0.01_gate_rank16_lora_rank2_noise1e-3_nomixup"),
        (["--mixup", "True", "--noise", ""], "run_guide1.0_pal0.01_gate_rank16"),
    ],
)  # fmt: skip
def test_names_of_folders(plan, flags, folder):
    (s,) = plan(*flags, entries=["chris evans"]).settings
    assert s.folder == f"out/{folder}/chris_evans"


def test_folders_elsewhere(plan):
    (s,) = plan("--output_root", "there", entries=["a/../b"]).settings
    assert s.folder == "there/out/run_guide1.0_pal0.01_gate_rank16/a_.._b"
    assert Path(settings_of({"save": {"path": "/tmp/ACTOR/x/ACTOR-y"}}).folder) == Path(
        "/tmp/chris_evans/x/chris_evans-y"
    )
    with pytest.raises(UserError, match="save.path 'out' needs a folder"):
        settings_of({"save": {"path": "out"}})


# ---- where a value comes from --------------------------------------------------------------------------------------


def test_texts_stand_for_numbers():
    train = {"lr": "3e-5", "pal": "1e+4", "iterations": "450", "do_adv_learn": "True", "factor_init_lr": 10,
             "train_seed": 2**60 + 1, "num_stages": 3.0}  # fmt: skip
    s = settings_of({"train": train, "network": {"rank": "4", "alpha": "1"}}, {"guidance_scale": "0.3"})
    assert (s.lr, s.pal, s.iterations, s.do_adv_learn, s.factor_init_lr) == (3e-5, 1e4, 450, True, 10.0)
    assert (s.seed, s.num_stages, s.rank, s.alpha, s.guidance) == (2**60 + 1, 3, 4, 1.0, 0.3)
    assert isinstance(s.num_stages, int) and isinstance(s.factor_init_lr, float)


def test_flags_win_over_the_configuration_and_that_over_the_defaults(plan):
    train = {"pal": 5.0, "iterations": 7, "noise_scale": 0.5, "resume_stage": 1, "checkpoint_every": 3, "mixup": False}
    config = {"train": train, "network": {"init_size": 3, "rank": 2}}
    (s,) = plan(entries=["x"], **config).settings
    assert (s.pal, s.iterations, s.noise_scale, s.resume_stage, s.checkpoint_every) == (5.0, 7, 0.5, 1, 3)
    assert (s.gate_rank, s.rank, s.mixup, s.lr, s.num_stages, s.adv_coef) == (3, 2, False, 1e-4, 10, 0.1)
    flags = ["--pal", "6", "--iterations", "8", "--noise", "0.25", "--resume_stage", "2", "--checkpoint_every", "0"]
    flags += ["--gate_rank", "5", "--lora_rank", "4", "--mixup", "yes", "--separate_key", "--clean_anchors"]
    flags += ["--skip_last_adv", "--num_stages", "4", "--iterations_adv", "9", "--seed", "0", "--guidance_scale", "0"]
    (s,) = plan(*flags, entries=["x"], **config).settings
    assert (s.pal, s.iterations, s.noise_scale, s.resume_stage, s.checkpoint_every) == (6.0, 8, 0.25, 2, 0)
    assert (s.gate_rank, s.rank, s.mixup, s.num_stages, s.iterations_adv, s.seed) == (5, 4, True, 4, 9, 0)
    assert s.separate_key and s.clean_anchors and s.skip_last_adv and s.guidance == 0


def test_the_published_defaults_of_flags_are_as_good_as_none(plan):
    names = ("guidance_scale", "pal", "gate_rank", "lora_rank", "resume_stage", "st_prompt_idx", "end_prompt_idx")
    none = [word for name in names for word in (f"--{name}", "-1")]
    assert plan(*none, "--noise", "") == plan()


@pytest.mark.parametrize(
    ("entry", "neutral"),
    [
        ({}, "a person"),
        ({"neutral": None}, ""),
        ({"neutral": None, "unconditional": "art"}, "art"),
        ({"neutral": "", "unconditional": "art"}, ""),
        ({"neutral": 7}, "7"),
    ],
)
def test_the_stand_in(entry, neutral):
    assert settings_of(entry=entry).neutral == neutral


def test_skip_learned(plan):
    assert not plan().skip_learned and plan("--skip_learned").skip_learned
    for value in (True, "true", 1):
        assert plan(train={"skip_learned": value}).skip_learned
        assert not plan("--no-skip_learned", train={"skip_learned": value}).skip_learned
    assert not plan(train={"skip_learned": "False"}).skip_learned


# ---- which concepts ------------------------------------------------------------------------------------------------


@given(st.integers(1, 8), st.integers(-1, 9), st.integers(-1, 9))
def test_indexes_include_the_last_one(count, first, last):
    entries = [{"target": f"c{n}"} for n in range(count)]
    arguments = argparse.Namespace(st_prompt_idx=first, end_prompt_idx=last, concepts=None)
    wanted = [e for n, e in enumerate(entries) if max(first, 0) <= n and (last < 0 or n <= last)]
    for train in ({}, {"st_prompt_idx": None}):
        if wanted:
            assert chosen(entries, arguments, train) == wanted
        else:
            with pytest.raises(UserError, match=f"the list has {count}"):
                chosen(entries, arguments, train)


@pytest.mark.parametrize(
    ("flags", "train", "wanted"),
    [
        ([], {}, "012345"),
        ([], {"st_prompt_idx": 4, "end_prompt_idx": "1e8"}, "45"),
        ([], {"st_prompt_idx": 0, "end_prompt_idx": 0}, "0"),
        (["--end_prompt_idx", "3"], {"st_prompt_idx": 2, "end_prompt_idx": 0}, "23"),
        (["--concepts", "CONCEPT 3, concept1, concept  3"], {}, "31"),
        (["--concepts", "concept 2,", "--st_prompt_idx", "3"], {}, "2"),
    ],
)
def test_chosen_concepts(plan, flags, train, wanted):
    found = plan(*flags, train=train)
    assert [s.target for s in found.settings] == [f"concept {n}" for n in wanted]
    assert found.targets == [f"concept {n}" for n in range(6)], "all of the run's, chosen or not"


@pytest.mark.parametrize(
    ("flags", "config", "words"),
    [
        (["--st_prompt_idx", "6"], {}, "no concept from 6 to 5: the list has 6"),
        (["--concepts", ","], {}, "--concepts names none"),
        ([], {"train": {"st_prompt_idx": "first"}}, "st_prompt_idx must be int, not 'first'"),
        ([], {"train": {"end_prompt_idx": "inf"}}, "end_prompt_idx must be int"),
        ([], {"train": {"skip_learned": "perhaps"}}, "skip_learned must be bool, not 'perhaps'"),
        ([], {"train": [1]}, "train in the configuration holds no settings"),
        ([], {"prompts_file": None}, "config.yaml: no prompts_file"),
        ([], {"prompts_file": ["a"]}, "prompts_file must be str"),
        ([], {"prompts_file": "nowhere.yaml"}, "nowhere.yaml: no such file"),
        ([], {"prompts_file": "config.yaml"}, "config.yaml: it is no list of concepts"),
        (["--noise", "much"], {}, "noise_scale must be float, not 'much'"),
        (["--concepts", "a b,a_b"], {}, "two concepts of the run, 'a b' and another, have the folder out/.*/a_b"),
    ],
)
def test_mistakes_in_files_and_lists(plan, flags, config, words):
    with pytest.raises(UserError, match=words):
        plan(*flags, **config)


# ---- values that nothing can be done with --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"replace_word": None}, "the configuration has no replace_word"),
        ({"scripts_file": ""}, "the configuration has no scripts_file"),
        ({"anchors": ["a"]}, "anchors in the configuration holds no settings"),
        ({"anchors": {}}, "anchors need general and candidates, or prompts"),
        ({"anchors": {"general": ["a"]}}, "anchors need general and candidates, or prompts"),
        (
            {"anchors": {"general": None, "candidates": ["a"]}},
            "anchors.general must be a file or a list of words, not None",
        ),
        ({"anchors": {"prompts": 3}}, "anchors.prompts must be a file or a list of words, not 3"),
        ({"network": "large"}, "network in the configuration holds no settings"),
        ({"network": {"rank": 0}}, "rank must be at least 1, not 0"),
        ({"network": {"init_size": 0}}, "gate_rank must be at least 1, not 0"),
        ({"network": {"alpha": 0}}, "alpha must be greater than 0"),
        ({"network": {"alpha": [1]}}, "alpha must be float"),
        ({"train": {"iterations": 4.5}}, "iterations must be int, not 4.5"),
        ({"train": {"iterations": "many"}}, "iterations must be int, not 'many'"),
        ({"train": {"itterations": 5, "lr": 1}}, "train in the configuration has unknown settings: itterations"),
        ({"train": {"precision": "float16"}}, "train.precision 'float16': training is in float32"),
        ({"train": {"num_stages": 0}}, "num_stages must be at least 1"),
        ({"train": {"lr": 0}}, "lr must be greater than 0"),
        ({"train": {"lr_adv": "0.0"}}, "lr_adv must be greater than 0"),
        ({"train": {"lr": ".nan"}}, "lr must be float"),
        ({"train": {"lr": math.nan}}, "lr must be a number that is not negative, and is nan"),
        ({"train": {"pal": math.inf}}, "pal must be a number that is not negative, and is inf"),
        ({"train": {"pal": -1}}, "pal must be a number that is not negative"),
        ({"train": {"noise_scale": -0.1}}, "noise_scale must be a number that is not negative"),
        ({"train": {"lr_warmup_steps": -5}}, "lr_warmup_steps must be at least 0"),
        ({"train": {"do_adv_learn": "maybe"}}, "do_adv_learn must be bool, not 'maybe'"),
        ({"train": {"do_adv_learn": []}}, "do_adv_learn must be bool"),
        ({"train": {"train_seed": -1}}, "seed must be at least 0"),
        ({"train": {"train_seed": math.inf}}, "seed must be int"),
        ({"train": {"lr_scheduler": "cosine"}}, "lr_scheduler 'cosine' is not one of cosine_with_restarts"),
        ({"train": {"lr_scheduler_adv": "poly"}}, "lr_scheduler 'poly'"),
        ({"train": {"optimizer_type": "Lion"}}, "optimizer_type 'Lion' is not one of AdamW8bit"),
        ({"train": {"optimizer_args": ["a=1"]}}, "optimizer_args is not supported"),
        ({"train": {"max_grad_norm": -1}}, "max_grad_norm must be a number that is not negative"),
        ({"train": {"resume_stage": 10}}, "resume_stage 10 of 10 stages: nothing would be trained"),
        ({"train": {"factor_init_iter": 0}}, "factor_init_iter must be at least 1"),
        ({"save": {"stage_interval": 0, "path": "a/b"}}, "stage_interval must be at least 1"),
    ],
)
def test_mistakes_are_named(config, words):
    with pytest.raises(UserError, match=words):
        settings_of(config)


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({"target": None}, "the prompts_file's entry has no target"),
        ({"target": "  "}, "the prompts_file's entry has no target"),
        ({"target": ["a"]}, "target must be str"),
        ({"guidance_scale": "strong"}, "guidance must be float, not 'strong'"),
        ({"guidance_scale": -0.5}, "guidance must be a number that is not negative"),
        ({"sampling_batch_size": 0}, "sampling_batch_size must be at least 1"),
    ],
)
def test_mistakes_in_an_entry(entry, words):
    with pytest.raises(UserError, match=words):
        settings_of(entry=entry)


@given(st.one_of(st.integers(), st.floats(), st.booleans(), st.text(), st.none(), st.lists(st.integers(), max_size=2)))
def test_a_value_becomes_what_it_should_be_or_is_refused(value):
    for kind in (int, float, bool, str):
        try:
            found = as_type(kind, value, "lr")
        except UserError as error:
            assert str(error).startswith(f"lr must be {kind.__name__}, not ")
        else:
            assert type(found) is kind
            if isinstance(value, int) and kind is int:
                assert found == value


def test_differences_are_those_of_the_gates():
    s = settings_of(seed=3)
    there = json.loads(json.dumps(s.to_dict()))
    assert s.differences(there) == []
    config = {
        "save": {"name": "other", "path": "x/y", "stage_interval": 2},
        "train": {"log_every": 3, "checkpoint_every": 1},
    }
    assert settings_of(config, seed=3).differences(there) == []
    other = settings_of({"train": {"lr": 1.0, "skip_last_adv": True}}, {"neutral": "art"}, seed=4)
    assert sorted(words.split()[0] for words in other.differences(there)) == ["lr", "neutral", "seed", "skip_last_adv"]


# ---- phases --------------------------------------------------------------------------------------------------------

runs = st.tuples(st.integers(1, 60), st.integers(0, 10), st.integers(1, 3))  # iterations, warm-up, cycles


@given(st.sampled_from(SCHEDULERS), runs)
def test_courses_of_the_learning_rate(scheduler, drawn):
    total, warmup, cycles = drawn
    found = [factor(scheduler, i, total, warmup, cycles) for i in range(total)]
    assert all(0 <= value <= 1 for value in found)
    if scheduler == "constant":
        assert found == [1.0] * total
        return
    assert found[:warmup] == [i / warmup for i in range(min(warmup, total))]
    for i in range(warmup, total):
        done = (i - warmup) / (total - warmup)
        wanted = {
            "constant_with_warmup": 1.0,
            "linear": 1 - done,
            "cosine_with_restarts": 0.5 * (1 + math.cos(math.pi * ((cycles * done) % 1))),
        }
        assert found[i] == pytest.approx(wanted[scheduler], abs=1e-12)
    assert scheduler == "constant_with_warmup" or factor(scheduler, max(total, warmup + 1), total, warmup, cycles) == 0


@given(st.integers(1, 5), st.booleans(), st.booleans())
def test_order_of_phases(stages, attack, skip_last):
    train = {"num_stages": stages, "do_adv_learn": attack, "skip_last_adv": skip_last, "iterations": 10, "lr": 1e-3,
             "lr_warmup_steps": 2, "iterations_adv": 7, "lr_adv": 0.5, "factor_init_iter": 3, "factor_init_lr": 10,
             "factor_init_lr_cycle": 2, "lr_scheduler_num_cycles": 1}  # fmt: skip
    found = phases(settings_of({"train": train}))
    kinds = [(n, kind) for n in range(stages) for kind in ([ERASE, ATTACK] if attack else [ERASE])]
    assert [(p.stage, p.kind) for p in found] == (kinds[:-1] if attack and skip_last else kinds)
    assert (found[0].iterations, found[0].lr, found[0].cycles, found[0].lr_at(0)) == (30, 1e-2, 2, 0.0)
    for phase in found[1:]:
        assert (phase.iterations, phase.lr) == ((10, 1e-3) if phase.kind == ERASE else (7, 0.5))


def test_schedulers_that_are_known():
    for name in SCHEDULERS:
        schedule.check_scheduler(name)
    with pytest.raises(UserError, match="'' is not one of"):
        schedule.check_scheduler("")


def test_concepts_are_named_in_place_of_the_list(capsys):
    listed = [{"target": "emma stone", "guidance_scale": "0.3"}, {"target": "elon musk", "guidance_scale": "0.5"}]
    found = run.named(listed, ["Elon Musk", "taylor swift"])
    assert found[0] == listed[1]
    assert found[1] == {"target": "taylor swift", "positive": "taylor swift", "guidance_scale": "0.3"}
    assert capsys.readouterr().out == "not in the list, with the settings of 'emma stone' there: taylor swift\n"
