"""The published joint training of three concepts, and the later one of a single concept, replayed."""

import torch

from erasure import edits
from methods.sepce import run_name
from methods.sepce.bases import Bases
from methods.sepce.objectives.sepce import SepCE, SepceOptions
from tests.golden.golden_data import load
from tests.golden.numeric import assert_close, assert_relative_to_max
from tests.golden.sepce_model import GoldenModel, check_numbers, replay, step_of

UNET = "model.diffusion_model."


def bases_of(meta, tensors, which):
    """Stored bases of some concepts (keys of the json), with the prompts that they were solved for."""
    for key in which:
        concept, stored = (
            meta["concepts"][key],
            tensors.get(f"bases.{meta['concepts'][key]}", tensors.get(f"bases.{key}")),
        )
        prompts = tuple(meta["bases_built_from"].get(concept, meta["bases_built_from"].get(key)))
        yield Bases(concept, prompts, stored, stored.shape[1] - len(stored), None)


def options_of(hyper, **others):
    return SepceOptions(hyper["scale_factor"], hyper["reg_beta"], iter_break=hyper["iter_break"], **others)


def numbers_of(recorded, n):
    """A step of the joint recording under our names."""
    found = {"loss": recorded["total_loss"]}
    for i in range(n):
        found |= {f"direction_{i + 1}": recorded[f"dir{i + 1}"], f"norm_{i + 1}": recorded[f"norm{i + 1}"]}
        found |= {
            f"{name}_{i + 1}": recorded[of][i]
            for name, of in (("active", "flags"), ("reg", "reg"), ("momentum", "momentum"))
        }
        found |= {f"weight_{i + 1}": recorded[f"w{i + 1}"]} if i else {}
    return found


def check_predictions(objective, tensors, i, names):
    with torch.no_grad():
        found = objective.predictions(step_of(tensors, i))
    for kind, values in zip(("0", "n", "p0", "pn"), found, strict=True):
        for name, value in zip(names, values, strict=True):
            assert_relative_to_max(
                value, tensors[f"step{i}.{name}_{kind}"], 1e-5 if i == 0 else 5e-5, f"{name}_{kind} {i}"
            )


def check_step(step, tensors, i, order, infix):
    """Gradients, and weights after Adam, of one concept; returns how many were compared."""
    compared = 0
    for j, name in enumerate(order):
        if f"step{i}.grad.{infix}{j}" in tensors:
            own = f"{int(infix[1:-1]) - 1 if infix else 0}.{name}"
            grad, after = (tensors[f"step{i}.{kind}.{infix}{j}"] for kind in ("grad", "after"))
            check_gradient(step.grads[own], grad, f"step{i}.grad.{infix}{j}")
            assert_trained(step.after[own], after, f"step{i}.after.{infix}{j}")
            compared += 1
    return compared


def check_gradient(value, reference, what):
    """1e-4 of the maximum, but for few elements: where a weight is nearly 0, rounding decides the sign that its |w| pulls with."""
    apart = (value - reference).abs() > 1e-4 * reference.abs().max()
    assert apart.float().mean() <= 0.01, f"{what}: {apart.sum()} of {apart.numel()} elements"


def assert_trained(value, reference, what):
    """2e-4 of the maximum, but for few elements: Adam's g / (|g| + 1e-8) magnifies the rounding of gradients so small.

    In the recording too, which at such elements is as far from a run in float64.
    """
    error = (value - reference).abs() / reference.abs().max()
    assert error.max() <= 0.05 and (error > 2e-4).float().mean() <= 0.03, f"{what}: {error.max():.2g}"


def test_three_concepts_at_once():
    golden, (meta, tensors) = GoldenModel(), load("sepce/sepce_joint")
    hyper, n = meta["hyper"], len(meta["concepts"])
    bases = list(bases_of(meta, tensors, sorted(meta["concepts"], key=int)))
    with SepCE(golden.model, golden.encode, bases, hyper["threshold"], options_of(hyper)) as objective:
        assert objective.unseen_by_empty
        check_predictions(objective, tensors, 0, [f"e{k + 1}" for k in range(n)])
        steps = compared = 0
        for i, step in enumerate(replay(objective, tensors, hyper["lr"])):
            check_numbers(step.terms.numbers, numbers_of(meta["per_step"][i], n))
            compared += sum(check_step(step, tensors, i, golden.kv_order, f"c{k + 1}.") for k in range(n))
            if f"step{i + 1}.e1_n" in tensors:
                for stop in objective.stops:  # the predictions of the next step, before it is made
                    assert stop.momentum is not None
                check_predictions(objective, tensors, i + 1, [f"e{k + 1}" for k in range(n)])
            steps = i + 1
        edit = objective.edit(hyper, {})
    assert compared and steps == meta["steps_run"] and step.finished
    check_deltas(edit, tensors, golden, lambda k, j: f"delta.{k + 1}.{j}")
    check_merged(golden, edit, tensors)
    name = run_name("SepCE", edit.concepts, hyper | {"thresholds": hyper["threshold"], "mode": "joint"})
    assert meta["saved_files"][-1].endswith(f"/{name}.pt")
    totals = [part_size(edits.keep(edit, [meta["concepts"][c] for c in subset])) for subset in subsets(meta)]
    for total, printed in zip(totals, meta["printed_loss_reg_at_save"], strict=True):
        assert abs(total - printed) <= 2e-4 * printed


def subsets(meta):
    """Of the concepts, as the names of the saved files end."""
    return [file.removesuffix(".pt").rpartition("onlykv")[2] for file in meta["saved_files"]]


def part_size(edit):
    """Mean over projections of the L1 norm of all parts' shifts."""
    parts = edits.parts_of(edit)
    names = parts[0].coefficients
    return sum(sum(p.shift(name) for p in parts).abs().sum().item() for name in names) / len(names)


def check_deltas(edit, tensors, golden, key):
    for k, part in enumerate(edits.parts_of(edit)):
        for j, name in enumerate(golden.kv_order):
            assert_trained(part.shift(name).float(), tensors[key(k, j)], f"{part.concept} {name}")


def check_merged(golden, edit, tensors):
    merged = [key.split(".") for key in tensors if key.startswith("merged.")]
    assert merged
    before = {name: value.clone() for name, value in golden.model.state_dict().items()}
    for _, subset, j in merged:
        chosen = edits.keep(edit, [edit.concepts[int(c) - 1] for c in subset])
        with edits.apply(golden.model, chosen):
            weight = golden.model.state_dict()[UNET + golden.kv_order[int(j)]]
            assert_relative_to_max(weight, tensors[f"merged.{subset}.{j}"], 2e-4, f"merged {subset} {j}")
    assert all(torch.equal(value, before[name]) for name, value in golden.model.state_dict().items())


def one_concept():
    """(model with the recording's own texts, meta, tensors, objective) of the later script."""
    golden, (meta, tensors) = GoldenModel(), load("sepce/srsme_single")
    hyper, index = meta["hyper"], str(meta["hyper"]["erased_index"])
    golden.embeddings = {"": tensors["emb.empty"]} | {c: tensors[f"emb.{i}"] for i, c in meta["concepts"].items()}
    options = options_of(hyper, reg="delta_l1", balance="none")
    bases = list(bases_of(meta, tensors, [index]))
    return golden, meta, tensors, SepCE(golden.model, golden.encode, bases, [hyper["threshold"]], options)


def test_one_concept():
    golden, meta, tensors, sepce = one_concept()
    names = {"total": "loss"}
    with sepce as objective:
        check_predictions(objective, tensors, 0, ["e"])
        compared = 0
        for i, step in enumerate(replay(objective, tensors, meta["hyper"]["lr"])):
            recorded = {names.get(k, k): value for k, value in meta["per_step"][i].items() if k not in ("t", "reg")}
            check_numbers(step.terms.numbers, recorded)
            # recorded as (total - direction) / reg_beta, of which float32 leaves few digits
            bits = abs(meta["per_step"][i]["total"]) * 2**-23 / meta["hyper"]["reg_beta"]
            assert abs(step.terms.numbers["reg"] - meta["per_step"][i]["reg"]) <= bits + 1e-5
            compared += check_step(step, tensors, i, golden.kv_order, "")
        edit = objective.edit(meta["hyper"], {})
    assert compared and i + 1 == meta["steps_run"] and step.finished
    check_deltas(edit, tensors, golden, lambda _, j: f"delta.{j}")


@torch.no_grad()
def test_what_the_bases_were_solved_for_sees_nothing_of_it():
    golden, meta, tensors, sepce = one_concept()
    index = meta["hyper"]["erased_index"]
    with sepce as objective:
        for j, name in enumerate(golden.kv_order):  # the recorded shift, as a part
            base = objective.scaled[0].double()
            objective.coefficients[0][name].copy_(torch.linalg.lstsq(base.T, tensors[f"delta.{j}"].double().T)[0].T)
        edit = objective.edit({}, {})
    step = step_of(tensors, 0)
    x = golden.model.q_sample(step.latents[0], step.t, step.noises[0])

    def predict():
        return {text: golden.model.apply_model(x, step.t, states) for text, states in golden.embeddings.items()}

    before = predict()
    with edits.apply(golden.model, edit):
        after = predict()
    for text in meta["bases_built_from"][str(index)]:
        assert_close(after[text], before[text], 1e-5, repr(text))
    erased = meta["concepts"][str(index)]
    assert (after[erased] - before[erased]).abs().max() > 0.1
