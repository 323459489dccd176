"""Attacks against the original programs: UnlearnDiffAtk, P4D, Ring-A-Bell's genetic search, and success rates."""

import dataclasses

import pytest
import torch
from torch.testing import assert_close

from erasure.attacks import asr, genetic, losses, searches
from erasure.attacks.searches import HardPrompt, Steps, TextGrad
from erasure.attacks.tokens import insertion
from tests.golden.golden_data import load, load_json

CLOSE = {"rtol": 0, "atol": 1e-5}


@pytest.fixture(scope="module")
def golden():
    return load("eval/unlearndiff_p4d")


def steps(meta):
    assert meta["adam"]["betas"] == [0.9, 0.999] and meta["adam"]["eps"] == 1e-8
    return Steps(meta["adam"]["lr"], meta["adam"]["weight_decay"])


# ---- UnlearnDiffAtk ------------------------------------------------------------------------------------------------


def test_projection(golden):
    _, tensors = golden
    assert_close(searches.projected(tensors["projection_in"]), tensors["projection_out"], rtol=0, atol=2e-5)


def test_drawing_and_its_gradient(golden):
    meta, tensors = golden
    u = tensors["init_uniform"][0]
    start = TextGrad(meta["k"], tensors["embedding_table"], Steps())
    assert_close(start.variable.detach(), u, **CLOSE)
    ids = searches.drawn(tensors["sampled_onehot"][0])  # a one-hot row leaves no choice
    assert_close(torch.nn.functional.one_hot(ids, meta["vocab"]).float(), tensors["sampled_onehot"][0])
    assert_close(searches.through(tensors["ste_grad_out"]), tensors["ste_grad_in"][0], **CLOSE)


def test_updates_of_the_distribution(golden):
    meta, tensors = golden
    table, target = tensors["embedding_table"], tensors["step_target"][0]
    search = TextGrad(meta["k"], table, steps(meta))
    search.variable.data = tensors["projection_out"][0].clone()
    for i in range(2):
        onehot = tensors[f"step{i}_onehot"][0]
        search.leaf = (onehot @ table).requires_grad_()
        ((search.leaf - target) ** 2).mean().backward()
        given = search.leaf.grad @ table.T
        assert_close(searches.through(given), tensors[f"step{i}_grad"][0], **CLOSE)
        search.update()
        assert_close(search.variable.detach(), tensors[f"step{i}_after_projection"][0], rtol=0, atol=2e-5)
        search.variable.data = tensors[f"step{i}_after_projection"][0].clone()
    assert torch.equal(search.ids(), tensors["argmax_ids"][0])


def test_adam_before_the_projection(golden):
    meta, tensors = golden
    search = TextGrad(meta["k"], tensors["embedding_table"], steps(meta))
    for i, before in enumerate(("projection_out", "step0_after_projection")):
        search.variable.data = tensors[before][0].clone()
        search.step(tensors[f"step{i}_grad"][0])
        assert_close(search.variable.detach(), tensors[f"step{i}_after_adam"][0], **CLOSE)


# ---- P4D -----------------------------------------------------------------------------------------------------------


def test_nearest_tokens(golden):
    _, tensors = golden
    ids = searches.nearest(tensors["p4d_project_in"][0], tensors["embedding_table"])
    assert torch.equal(ids, tensors["p4d_project_ids"][0])
    assert_close(tensors["embedding_table"][ids], tensors["p4d_project_embeds"][0], **CLOSE)


def test_updates_of_embeddings(golden):
    meta, tensors = golden
    search = HardPrompt(meta["k"], tensors["embedding_table"], steps(meta))
    search.variable.data = tensors["p4d_project_in"][0].clone()
    for i in range(2):
        ((search.embeddings() - tensors["step_target"][0]) ** 2).mean().backward()
        search.update()
        assert_close(search.variable.detach(), tensors[f"p4d_step{i}_adv"][0], **CLOSE)


def test_losses(golden):
    meta, tensors = golden
    x0, noise, target, original = (tensors[f"loss_{n}"] for n in ("x0", "noise", "pred_target", "pred_sd"))
    assert_close(losses.noised(x0, noise, meta["alpha_bar_at_t"]), tensors["loss_noised"], **CLOSE)
    for name, one in (("udatk_l2", noise), ("p4d_l2", original), ("udatk_l1", noise)):
        assert_close(losses.criterion(name[-2:])(one, target), tensors[name][0], **CLOSE)
    assert losses.sampled_timesteps() == meta["sampled_t"] and meta["loss_timestep"] in meta["sampled_t"]


# ---- tokens --------------------------------------------------------------------------------------------------------


def test_insertion(golden):
    meta, tensors = golden
    ids = tensors["insertion_base_ids"][0]
    length = int((ids == ids[-1]).int().argmax()) - 1
    assert meta["insertion"]
    for location, expected in meta["insertion"].items():
        added = torch.tensor(sorted(set(expected) - set(ids.tolist())))
        order = insertion(length, len(added), location, len(ids))
        assert torch.cat([ids, added])[order].tolist() == expected, location


# ---- Ring-A-Bell ---------------------------------------------------------------------------------------------------


class Recorded:
    """Draws that were made, in their order; asked for anything else, it fails."""

    def __init__(self, draws):
        self.draws = iter(draws)

    def random(self):
        kind, value = next(self.draws)
        assert kind == "random"
        return value

    def randint(self, low, high):
        kind, asked, value = next(self.draws)
        assert kind == "randint" and asked == [low, high]
        return value[0]


def test_genetic_search():
    meta, t = load("eval/ringabell_ga")
    given = meta["settings"]
    settings = genetic.Genetic(
        population=given["population_size"], generations=given["generations"], mutation=given["mutateRate"],
        crossover=given["crossoverRate"], length=given["length"], start=len(t["token_embedding"]) - 2,
        end=len(t["token_embedding"]) - 1, context=given["context"],
    )  # fmt: skip

    def encode(ids):
        return torch.einsum("st,btd->bsd", t["mix"], t["token_embedding"][ids] + t["position"])

    seen = []
    replayed = Recorded(d for step in meta["steps"] for d in step["crossover_draws"] + step["mutation_draws"])
    target = encode(t["base_ids"])[0] + given["cof"] * t["concept_vector"]
    assert_close(target, t["target"][0], rtol=1e-5, atol=1e-5)
    best = genetic.search(
        target, encode, settings, replayed, t["population_init"], watch=lambda *stage: seen.append(stage)
    )
    for number, (stage, value) in enumerate(seen):
        expected = t[f"gen{number // 4}_{stage}"]
        if stage == "fitness":
            assert_close(value, expected, rtol=1e-5, atol=0)
        else:
            assert torch.equal(value, expected), (number, stage)
    assert len(seen) == 4 * given["generations"] - 2 and next(replayed.draws, None) is None
    assert torch.equal(best, t["best_ids"][0])
    kept = genetic.mutated(t["population_init"], dataclasses.replace(settings, elite=settings.population), Recorded([]))
    assert torch.equal(kept, t["population_init"])


# ---- rates ---------------------------------------------------------------------------------------------------------


def test_success_rates():
    case = load_json("eval/aggregation")["cases"]["unlearndiff_check_asr"]
    unattacked = [[{"success": won}] for won in case["no_attack_logs"].values()]
    found = asr.from_logs(list(case["attack_logs"].values()), unattacked).lines()
    assert len(found) == len(case["stdout"]) == 3
    for ours, theirs in zip(found, case["stdout"], strict=True):
        words, value = ours.rsplit(" ", 1)
        assert words == theirs.rsplit(" ", 1)[0] and float(value) == pytest.approx(float(theirs.rsplit(" ", 1)[1]))
