"""CPE's whole training against the recorded one: texts, anchors, losses, gradients, weights, offsets, files, learning rates."""

import pytest
import torch

from erasure.base_models import BaseIdentity
from methods.cpe import losses, prompts, sampling
from methods.cpe.anchors import StateCache, most_similar, word_texts
from methods.cpe.run_folder import EARLIER, NEWEST, RunFolder, stacked
from methods.cpe.schedule import ATTACK, ERASE, phases
from methods.cpe.settings import CpeSettings
from methods.cpe.training import Problem, train
from methods.cpe.yaml_files import read_config, read_yaml
from tests.golden.cpe_model import TinyTraining, rank_of, under
from tests.golden.golden_data import load, load_json

CONFIGS = {domain: f"configs/train_{domain}/config.yaml" for domain in ("celeb", "artist", "explicit")}


@pytest.fixture(scope="module")
def tiny():
    return TinyTraining(*load("cpe/train_tiny"))


def plan_of(tiny):
    s = tiny.settings
    flags = {"noise": None, "guidance": s["guidance_scale"], "pal": s["pal"], "rank": s["lora_rank"]}
    flags |= {"gate_rank": s["gate_rank"], "sampling_batch_size": s["sampling_batch_size"], "alpha": s["alpha"]}
    config = {"replace_word": s["replace_word"], "scripts_file": "-", "anchors": {"prompts": []}}
    entry = {"target": s["target"], "neutral": s["neutral"]}
    return CpeSettings.of(
        config | {"train": s["train"], "save": {"name": "tiny", "path": "out/run/leaf"}}, entry, flags
    )


# ---- texts and anchors ---------------------------------------------------------------------------------------------


def test_texts(tiny):
    s, calls = tiny.settings, tiny.log["prompt_encode_calls"]
    templates = [*s["templates_csv_prompt_column"], s["replace_word"]]
    assert templates == tiny.log["prompt_scripts_list"]
    assert prompts.fill_all(templates, s["replace_word"], s["target"]) in calls
    assert prompts.fill_all(templates, s["replace_word"], s["neutral"]) in calls
    anchors = [call for call in calls if len(call) == len(templates)]
    for word in tiny.log["selected_anchor_words_in_order"]:
        assert word_texts([word], templates, s["replace_word"]) in anchors


def test_anchors_are_the_candidates_most_like_the_target(tiny):
    names = prompts.candidates_without(tiny.candidates, tiny.settings["target"])
    assert names == tiny.log["select_candidates_after_filter"]
    places = most_similar(
        tiny.tensors["select.target_embedding"][0],
        tiny.tensors["select.candidate_embeddings"],
        len(tiny.log["selected_anchor_words_in_order"]),
    )
    ours, theirs = [names[i] for i in places], tiny.log["selected_anchor_words_in_order"]
    assert ours == theirs or sorted(ours) == sorted(theirs), "only repeats of a name may stand in another order"


def test_anchors_of_every_iteration(tiny):
    cache = tiny.tensors["embeddings_anchor_cache"]
    checked = 0
    for (stage, phase, iteration), draws in tiny.draws.items():
        prefix = f"s{stage}.{phase}.it{iteration}."
        if phase == ERASE and f"{prefix}noise" in tiny.tensors:
            noise, mix = tiny.tensors[prefix + "noise"], tiny.tensors[prefix + "mix"]
            ours = sampling.anchors_of(cache[draws[1:]], noise, mix)
            assert torch.allclose(ours, tiny.anchors(prefix), atol=1e-5), prefix
            checked += 1
    assert checked


# ---- losses, gradients, weights ------------------------------------------------------------------------------------


def test_strength_of_layers(tiny):
    keys, values = (tiny.projections.of_kind[i].bool() for i in range(2))
    products = tiny.tensors["lipschitz_ov"] * tiny.tensors["lipschitz_q"] / tiny.settings["T"]
    order = [layer for layer in tiny.log["network_modules_order"] if layer.endswith("to_k")]
    ours = [layer for layer in tiny.projections.layers if layer.endswith("to_k")]
    at = [order.index(layer) for layer in ours]
    assert torch.allclose(tiny.projections.strength[keys], products[at], rtol=1e-4)
    assert torch.allclose(tiny.projections.strength[values], tiny.tensors["lipschitz_o"][at], rtol=1e-4)


def check(value, reference, what, rtol=1e-4):
    assert abs(value - reference) <= rtol * abs(reference) + 1e-9, (what, value, reference)


def erase(tiny, settings, phase, residuals, offsets, recorded):
    """Replay an erasing phase on the stored draws."""
    cache = tiny.tensors["embeddings_erase_cache"]
    for tensor in residuals.trained().values():
        tensor.requires_grad_()
    optimizer = torch.optim.AdamW(residuals.trained().values(), weight_decay=1e-2)
    for iteration in range(phase.iterations):
        log, prefix = next(recorded), f"s{phase.stage}.erase.it{iteration}."
        template = tiny.draws[phase.stage, ERASE, iteration][0]
        protected = torch.cat([tiny.tensors["embedding_unconditional"], tiny.anchors(prefix)])
        found = losses.erase_losses(
            tiny.projections, residuals, cache[template, 0], cache[template, 1], protected,
            settings.guidance, settings.pal, offsets, settings.adv_coef,
        )  # fmt: skip
        for name, split in (("loss_prompt_erase", found.erasing), ("loss_prompt_anchor", found.anchoring)):
            for end, part in (("", split.total), ("_to_k", split.keys), ("_to_v", split.values)):
                check(part.item(), log[f"loss_erasing_stage{phase.stage}/{name}{end}"], prefix + name + end)
        if found.adversarial:
            check(found.adversarial.total.item(), log[f"loss_erasing_stage{phase.stage}/loss_adv_erase"], prefix)
        check(found.total.item(), log["loss_erasing"], prefix + "total")
        optimizer.zero_grad()
        found.total.backward()
        ours = tiny.gradients(residuals)
        for name, gradient in under(tiny.tensors, prefix + "grad.").items():
            assert (ours[name] - gradient).abs().max() <= 2e-3 * gradient.abs().max() + 1e-12, prefix + name
        optimizer.param_groups[0]["lr"] = phase.lr_at(iteration)
        optimizer.step()
        ours = residuals.tensors(tiny.projections)
        for name, value in under(tiny.tensors, prefix + "param_after.").items():
            assert (ours[name] - value).abs().max() <= 1e-5, prefix + name


def attack(tiny, phase, residuals, recorded):
    """Replay an adversarial phase; returns the offsets as recorded.

    Where a gradient is nearly zero, the original's own rounding decides in which direction Adam goes: a few elements are left out.
    """
    cache, prefix = tiny.tensors["embeddings_erase_cache"], f"s{phase.stage}.adv."
    for tensor in residuals.trained().values():
        tensor.requires_grad_(False)
    offsets = tiny.tensors[prefix + "prompts_init"].clone().requires_grad_()
    optimizer = torch.optim.AdamW([offsets], weight_decay=1e-2)
    bilinear = losses.Bilinear(tiny.projections, residuals)
    for iteration in range(phase.iterations):
        log = next(recorded)
        template = tiny.draws[phase.stage, ATTACK, iteration][1]
        found = losses.attack_loss(tiny.projections, residuals, bilinear, cache[template, 0], offsets)
        for end, part in (("", found.total), ("_to_k", found.keys), ("_to_v", found.values)):
            check(part.item(), log[f"loss_adv_stage{phase.stage}/loss_prompt_adv{end}"], prefix + str(iteration))
        optimizer.zero_grad()
        found.total.backward()
        gradient = tiny.tensors[f"{prefix}it{iteration}.grad.prompts"]
        assert (offsets.grad - gradient).abs().max() <= 2e-3 * gradient.abs().max(), f"{prefix}{iteration}"
        optimizer.param_groups[0]["lr"] = phase.lr_at(iteration)
        optimizer.step()
        after = tiny.tensors[f"{prefix}it{iteration}.prompts_after"]
        apart = (offsets.detach() - after).abs() > 1e-4
        assert apart.float().mean() <= 0.01, f"{prefix}{iteration}"
        with torch.no_grad():
            offsets.copy_(after)
    return offsets.detach()


def test_a_training_of_all_stages(tiny):
    settings, recorded = plan_of(tiny), iter(tiny.log["losses"])
    residuals, offsets, sets = tiny.residuals("init."), None, {}
    for phase in phases(settings):
        rates = tiny.log["lr_used"][f"s{phase.stage}.{phase.kind}"]
        assert len(rates) == phase.iterations
        assert all(abs(phase.lr_at(i) - rate) <= 1e-9 * phase.lr for i, rate in enumerate(rates))
        if phase.kind == ERASE:
            erase(tiny, settings, phase, residuals, offsets, recorded)
            # what a stage begins with is what was recorded
            residuals = tiny.residuals(f"s{phase.stage}.erase.it{phase.iterations - 1}.param_after.")
        else:
            newest = attack(tiny, phase, residuals, recorded)
            offsets, sets = losses.Offsets.of(tiny.projections, newest), stacked(sets, newest)
    assert next(recorded, None) is None
    saved = under(tiny.tensors, "saved.")
    for file in tiny.log["saved_files"]:
        for name, value in under(saved, f"{file}.").items():
            if name in (NEWEST, EARLIER):
                assert torch.allclose(sets[name], value, atol=1e-4), (file, name)


# ---- files ---------------------------------------------------------------------------------------------------------


def test_files_of_a_run(tiny, tmp_path):
    """The real loop, which makes its own draws, on the recorded texts: the same files, tensors and header."""
    settings = plan_of(tiny)
    cache = tiny.tensors["embeddings_erase_cache"]
    anchors = tiny.tensors["embeddings_anchor_cache"]
    protected = StateCache([(anchors, torch.arange(len(anchors)))])
    empty = tiny.tensors["embedding_unconditional"]
    problem = Problem(tiny.projections, cache[:, 0].contiguous(), cache[:, 1].contiguous(), empty, protected)
    identity = BaseIdentity(name="tiny", path="tiny", sha256="0" * 64, weights="only", family="toy", config_path="tiny")
    folder = RunFolder(tmp_path / "run", settings, identity)
    train(problem, folder, folder.open(), progress=False)
    from safetensors import safe_open

    for name, recorded in tiny.log["saved_files"].items():
        with safe_open(folder.path / name, framework="pt") as file:
            shapes = {key: list(file.get_slice(key).get_shape()) for key in file.keys()}
            header = file.metadata()
        assert shapes == recorded["tensors"], name
        assert recorded["metadata"].items() <= header.items(), name
    assert rank_of(folder.open().tensors) == tiny.settings["lora_rank"]


# ---- shipped configurations ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("domain", CONFIGS)
def test_learning_rates_of_the_published_configurations(domain):
    recorded = load_json("cpe/lr_schedules")["schedules"].get(domain)
    if recorded is None:
        pytest.skip(f"no schedule of {domain}")
    config = read_config(CONFIGS[domain], "sd-v1")
    settings = CpeSettings.of(config, read_yaml(config["prompts_file"])[0], {})
    first, attacked, later = phases(settings)[:3]
    assert settings.num_stages == recorded["num_stages"]
    for phase, name in ((first, "erase_stage0"), (attacked, "adversarial"), (later, "erase_later_stages")):
        facts = recorded[name]
        assert phase.iterations == facts["iterations"]
        for iteration, rate in facts["lr_used_at_iteration"].items():
            assert abs(phase.lr_at(int(iteration)) - rate) <= 1e-9 * facts["base_lr"], (name, iteration)
        total = sum(phase.lr_at(i) for i in range(phase.iterations))
        assert total == pytest.approx(facts["sum"], rel=1e-9)
