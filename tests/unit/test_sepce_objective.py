"""SepCE's objective on exact null spaces and inexact ones: the loss against direct formulas, when a term stops and what is
kept of it, the network it borrows, and that a killed run goes on exactly."""

import csv
import itertools
import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from erasure import edits
from erasure.base_models import BaseIdentity
from erasure.errors import UserError
from erasure.text_states import TextStates
from ldm.modules import kv_shift
from methods.sepce import bases
from methods.sepce.images import ConceptImages
from methods.sepce.objectives.sepce import SepCE, SepceOptions, balance, passing
from methods.sepce.run_folder import RunFolder
from methods.sepce.settings import SepceSettings
from methods.sepce.training import Step, Trainer, text_encoder, train
from tests.tiny import model_of_short_prompts
from tests.unit.test_sepce_images import fill

CONCEPTS = ("VanGogh", "Cezanne", "Picasso")
IDENTITY = BaseIdentity("tiny", "tiny.safetensors", "tiny.yaml", "only", "0" * 64, "toy")
ALWAYS, NEVER = 1e9, -1e9  # thresholds: below at once, and not at all
BETA = 0.1


@pytest.fixture(scope="module")
def model():
    return model_of_short_prompts(levels=1)


@pytest.fixture(autouse=True)
def base_comes_back(model):
    """Bit for bit, in the same memory, with its gradients' switches, and without a hook."""

    def hooks():
        return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())

    before, count = (
        {n: (p.data_ptr(), p.detach().clone(), p.requires_grad) for n, p in model.named_parameters()},
        hooks(),
    )
    yield
    for name, p in model.named_parameters():
        pointer, value, required = before[name]
        assert p.data_ptr() == pointer and torch.equal(p, value), name
        assert p.requires_grad == required and p.grad is None, name
    assert hooks() == count == 0


def set_checkpointing(model, on):
    for module in model.model.diffusion_model.modules():
        for flag in ("use_checkpoint", "checkpoint"):
            if isinstance(getattr(module, flag, None), bool):
                setattr(module, flag, on)


@pytest.fixture(params=[False, True], ids=["plain", "checkpointed"])
def checkpointing(request, model):
    set_checkpointing(model, request.param)
    yield request.param
    set_checkpointing(model, False)


@pytest.fixture(scope="module")
def solve(model):
    """(concept, prompts that it is hidden from beside the empty one, ...) -> Bases."""
    texts = TextStates.of(model)
    return lambda concept, protected, **how: bases.build(texts, concept, protected, **how)


@pytest.fixture(scope="module")
def exact(solve):
    found = [solve(concept, [other for other in CONCEPTS if other != concept]) for concept in CONCEPTS]
    assert all(len(own.bases) == 32 - 22 for own in found)
    return found


@pytest.fixture(scope="module")
def inexact(solve):
    """As on the embedded model: only the strongest directions of the others are protected."""
    how = dict(method="svd", tolerance=0.1)
    return [solve(concept, [other for other in CONCEPTS if other != concept], **how) for concept in CONCEPTS]


@pytest.fixture(scope="module")
def one_by_one(solve):
    """Hidden from the empty prompt exactly, and from no other concept."""
    return [solve(concept, []) for concept in CONCEPTS]


def make(model, own, thresholds=0.0, **options):
    thresholds = [thresholds] * len(own) if isinstance(thresholds, float) else thresholds
    options = dict(scale_factor=BETA, reg_beta=1e-3, min_iter=2, iter_break=6) | options
    return SepCE(model, text_encoder(model), own, thresholds, SepceOptions(**options))


def step(i, n=3):
    generator = torch.Generator().manual_seed(i)
    t = torch.randint(1000, (1,), generator=generator)
    draws = torch.randn(2, n, 1, 4, 4, 4, generator=generator)
    return Step(t, list(draws[0]), list(draws[1]))


@torch.no_grad()
def randomise(objective, seed=0):
    generator = torch.Generator().manual_seed(seed)
    for w in objective.trained.values():
        w.copy_(torch.randn(w.shape, generator=generator))


def run(objective, lr=1e-2, steps=100):
    """Train until it ends; the trainer, and the terms after every step."""
    trainer, after = Trainer(objective, lr), []
    while not trainer.finished and trainer.steps < steps:
        trainer.update(step(trainer.steps, len(objective.concepts)))
        after.append({name: w.detach().clone() for name, w in objective.trained.items()})
    return trainer, after


def column(rows, name, j):
    return [row[f"{name}_{j + 1}"] for row in rows]


# ---- the loss ------------------------------------------------------------------------------------------------------


def test_batched_predictions_are_those_of_the_edited_model_one_by_one(model, exact, inexact):
    """With the terms as an edit in the weights, which knows nothing of hooks."""
    encode = text_encoder(model)
    for own, steps in itertools.product((exact, inexact), (step(0), step(1))):
        with make(model, own) as objective, torch.no_grad():
            randomise(objective)
            found = objective.predictions(steps)
            edit = objective.edit({}, {})
        xs = [model.q_sample(z, steps.t, n) for z, n in zip(steps.latents, steps.noises, strict=True)]

        def predict(texts, xs=xs, t=steps.t):
            with torch.no_grad():
                return [model.apply_model(x, t, encode(text)) for x, text in zip(xs, texts, strict=True)]

        expected = [predict([""] * 3), predict(CONCEPTS)]
        with edits.apply(model, edit):
            expected += [predict([""] * 3), predict(CONCEPTS)]
        for one, other in zip(found, expected, strict=True):
            torch.testing.assert_close(one, torch.cat(other), rtol=1e-4, atol=1e-4)
        assert (expected[3][0] - expected[1][0]).abs().max() > 1e-2  # the terms do something


@pytest.mark.parametrize("how", ["first", "paper", "none"])
@pytest.mark.parametrize("reg", ["coef_mean", "delta_l1"])
def test_loss_is_the_formula(model, exact, how, reg):
    with make(model, exact, balance=how, reg=reg, reg_beta=0.3) as objective:
        randomise(objective)
        terms = objective.terms(step(3))
        with torch.no_grad():
            e_0, e_n, e_p0, e_pn = objective.predictions(step(3))
        total = 0.0
        products = (e_pn - e_p0) * (e_n - e_0)
        norms = [product.norm().item() for product in products]
        weights = {"first": [norms[0] / n for n in norms], "paper": [max(norms) / n for n in norms], "none": [1.0] * 3}
        for j, part in enumerate(objective.parts()):
            if reg == "coef_mean":
                size = sum(w.abs().mean().item() for w in part.coefficients.values())
            else:
                size = sum(part.shift(n).abs().sum().item() for n in part.coefficients) / len(part.coefficients)
            expected = {
                "direction": products[j].mean().item(),
                "norm": norms[j],
                "weight": weights[how][j],
                "reg": size,
            }
            for name, value in expected.items():
                assert terms.numbers[f"{name}_{j + 1}"] == pytest.approx(value, rel=1e-4), name
            total += (weights[how][j] * expected["direction"] + 0.3 * size) / 3
        assert terms.loss.item() == terms.numbers["loss"] == pytest.approx(total, rel=1e-4)


@given(st.lists(st.floats(1e-6, 1e6), min_size=1, max_size=6))
def test_balanced_directions_weigh_alike(norms):
    norms = torch.tensor(norms)
    for how, target in (("first", norms[0]), ("paper", norms.max())):
        torch.testing.assert_close(balance(norms, how) * norms, target.expand(len(norms)))
    assert balance(norms, "none").tolist() == [1.0] * len(norms)


@pytest.mark.parametrize("reg", ["coef_mean", "delta_l1"])
def test_gradient_of_the_regulariser(model, exact, reg):
    """Against the derivative: sign(w) / size, or that of the change through beta S."""
    with make(model, exact, reg=reg) as objective:
        randomise(objective)
        objective.regulariser(1).backward()
        base, count = objective.scaled[1], len(objective.projections)
        for name, w in objective.coefficients[1].items():
            with torch.no_grad():
                expected = w.sign() / w.numel() if reg == "coef_mean" else (w @ base).sign() @ base.T / count
            torch.testing.assert_close(w.grad, expected)
            assert objective.coefficients[0][name].grad is None


def test_with_one_concept_numbers_have_no_number(model, exact):
    with make(model, exact[:1]) as objective:
        numbers = objective.terms(step(0, 1)).numbers
    assert set(numbers) == {"loss", "direction", "norm", "weight", "reg", "active", "momentum"}
    assert numbers["weight"] == 1 and numbers["direction"] > 0  # the untrained term answers as the original


def test_empty_prompt_is_skipped_where_it_sees_nothing(model, exact, checkpointing):
    """Neither the loss nor a gradient changes, and a forward is saved."""
    found = []
    for skipped in (True, False):
        with make(model, exact) as objective:
            assert objective.unseen_by_empty and all(objective.unseen)
            randomise(objective)
            objective.unseen_by_empty = skipped
            calls, real = [], model.apply_model
            objective.model = _Counting(model, calls, real)
            terms = objective.terms(step(5))
            terms.loss.backward()
            gradients = {name: w.grad.clone() for name, w in objective.trained.items()}
            found.append((terms.loss.item(), gradients, sum(calls)))
    (loss, gradients, calls), (full_loss, full_gradients, full_calls) = found
    assert (calls, full_calls) == (9, 12)
    assert loss == pytest.approx(full_loss, rel=1e-5)
    for name, gradient in gradients.items():
        assert (gradient - full_gradients[name]).abs().max() <= 1e-4 * full_gradients[name].abs().max(), name
        assert gradient.abs().max() > 0


class _Counting:
    """A model that says how many predictions it is asked for."""

    def __init__(self, model, calls, real):
        self.q_sample, self.calls, self.real = model.q_sample, calls, real

    def apply_model(self, x, t, context):
        self.calls.append(len(x))
        return self.real(x, t, context)


def test_empty_prompt_is_not_skipped_where_it_sees_a_term(model, inexact):
    with make(model, inexact) as objective:
        assert not objective.unseen_by_empty
        randomise(objective)
        e_0, _, e_p0, _ = objective.predictions(step(0))
        assert (e_p0 - e_0).abs().max() > 1e-3


def test_checkpointing_changes_no_gradient(model, exact, inexact):
    for own in (exact, inexact):
        found = []
        for on in (False, True):
            set_checkpointing(model, on)
            with make(model, own) as objective:
                randomise(objective)
                objective.terms(step(1)).loss.backward()
                found.append({name: w.grad.clone() for name, w in objective.trained.items()})
        set_checkpointing(model, False)
        for name, gradient in found[0].items():
            torch.testing.assert_close(found[1][name], gradient, rtol=1e-5, atol=1e-7)


# ---- stopping ------------------------------------------------------------------------------------------------------


def expected_stops(rows, thresholds, min_iter, iter_break, momentum):
    """Of every concept, the steps that were made when it stopped and whether its average was below; by the formula."""
    found = []
    for j, threshold in enumerate(thresholds):
        m = None
        for i, direction in enumerate(column(rows, "direction", j)):
            m = direction if m is None else momentum * m + (1 - momentum) * direction
            if i >= min_iter and (m < threshold or i >= iter_break):
                found.append((i + 1, m < threshold, pytest.approx(m)))
                break
        else:
            found.append(None)
    return found


@settings(max_examples=8, deadline=None)
@given(
    st.lists(st.sampled_from([ALWAYS, NEVER, 0.02, 0.0]), min_size=2, max_size=3),
    st.integers(0, 3), st.integers(0, 5), st.sampled_from([0.0, 0.5, 0.9]),
)  # fmt: skip
def test_every_concept_stops_by_its_own_rule(model, exact, thresholds, min_iter, iter_break, momentum):
    own = exact[: len(thresholds)]
    options = dict(min_iter=min_iter, iter_break=iter_break, momentum=momentum)
    with make(model, own, thresholds, **options) as objective:
        trainer, _ = run(objective, lr=0.3)
        parts = objective.parts()
    found = [(p.facts["steps"], p.facts["stopped"], p.facts["momentum"]) for p in parts]
    assert found == expected_stops(trainer.rows, thresholds, **options)
    assert trainer.steps == max(p.facts["steps"] for p in parts) <= max(min_iter, iter_break) + 1
    for j, part in enumerate(parts):
        assert column(trainer.rows, "active", j) == [float(i < part.facts["steps"]) for i in range(trainer.steps)]
        assert part.facts["threshold"] == thresholds[j]
    for row in trainer.rows:
        active = [j for j in range(len(own)) if row[f"active_{j + 1}"]]
        terms = (row[f"weight_{j + 1}"] * row[f"direction_{j + 1}"] + 1e-3 * row[f"reg_{j + 1}"] for j in active)
        assert row["loss"] == pytest.approx(sum(terms) / len(active), rel=1e-4, abs=1e-6)


def test_exact_terms_are_copied_when_they_stop_and_drift_on(model, exact):
    """As published. No other concept sees it: their terms are those beside a held one."""
    with make(model, exact, [ALWAYS, NEVER, NEVER]) as objective:
        trainer, after = run(objective)
        parts = objective.parts()
    assert trainer.steps == 7 and [p.facts["steps"] for p in parts] == [3, 7, 7]
    for name, w in parts[0].coefficients.items():
        assert torch.equal(w, after[2][f"0.{name}"]) and not torch.equal(w, after[-1][f"0.{name}"])
        assert torch.equal(parts[1].coefficients[name], after[-1][f"1.{name}"])
    with make(model, exact, [ALWAYS, NEVER, NEVER]) as objective:
        objective.unseen = [False] * 3
        held = run(objective)[1]
    for name, w in parts[0].coefficients.items():
        assert torch.equal(w, held[-1][f"0.{name}"])
    for name in (name for name in after[-1] if not name.startswith("0.")):
        # but for elements whose gradients are so small that Adam magnifies their rounding
        assert (after[-1][name] - held[-1][name]).norm() <= 5e-2 * held[-1][name].norm(), name


@pytest.mark.parametrize("which", ["inexact", "one_by_one"])
def test_terms_that_others_see_are_held_when_they_stop(model, which, request):
    """Whether it is the empty prompt or another concept that sees them; the others are trained beside the result."""
    own = request.getfixturevalue(which)
    with make(model, own, [NEVER, ALWAYS, NEVER]) as objective:
        assert objective.unseen_by_empty == (which == "one_by_one") and not any(objective.unseen)
        trainer, after = run(objective)
        assert [w.requires_grad for w in objective.coefficients[1].values()] == [False] * len(objective.projections)
        parts = objective.parts()
    assert trainer.steps == 7 and [p.facts["stopped"] for p in parts] == [False, True, False]
    for name, w in parts[1].coefficients.items():
        assert all(torch.equal(w, later[f"1.{name}"]) for later in after[2:]) and w.abs().max() > 0
        assert not torch.equal(after[2][f"0.{name}"], after[-1][f"0.{name}"])


def test_what_never_stops_is_kept_as_training_left_it(model, exact, inexact):
    for own in (exact, inexact):
        with make(model, own, [ALWAYS, ALWAYS, NEVER], min_iter=2, iter_break=50) as objective:
            _, after = run(objective, steps=2)  # the images ran out, before anything could stop
            parts = objective.parts()
            edit = objective.edit({"lr": 1e-2}, {"sha256": "0"})
        assert [(p.facts["stopped"], p.facts["steps"]) for p in parts] == [(False, 2)] * 3
        for j, part in enumerate(edits.parts_of(edit)):
            assert all(torch.equal(w, after[-1][f"{j}.{name}"]) for name, w in part.coefficients.items())
            assert part.protected == own[j].prompts and torch.equal(part.basis, own[j].bases) and part.scale == BETA
            assert part.facts["run"] == {"lr": 1e-2} and part.facts["leak"] == own[j].leak


# ---- a run ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def images(model, tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    folders = [fill(root / concept, [f"{i}_0.png" for i in range(4)]) for concept in CONCEPTS]
    return [ConceptImages(folder, model, 32) for folder in folders]


class Killed(Exception):
    pass


def whole_run(model, images, own, out, resume=False, **chosen):
    """A run of the loop, in which the second concept stops before the others."""
    fields = dict(lr=1e-2, iter_break=4, image_size=32, seed=5, checkpoint_every=1, min_iter=1) | chosen
    folder = RunFolder(out, SepceSettings.for_family("SepCE", "toy", CONCEPTS, **fields), IDENTITY)
    found = folder.open(resume)
    objective = make(model, own, [NEVER, ALWAYS, NEVER], min_iter=1, iter_break=4)
    return train(objective, images, folder, found, progress=False)


def kill_at(monkeypatch, at, *arguments, **chosen):
    real = Trainer.update

    def update(self, step):
        if self.steps == at:
            raise Killed
        return real(self, step)

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(Trainer, "update", update)
        whole_run(*arguments, **chosen)


def same_files(one, other):
    return all((one / name).read_bytes() == (other / name).read_bytes() for name in ("edit.safetensors", "losses.csv"))


@pytest.mark.parametrize(
    ("which", "zero_grad", "checkpointed"),
    [("exact", False, False), ("inexact", False, True), ("inexact", True, False)],
)
def test_killed_run_goes_on_to_the_same_bytes_from_every_step(
    model, images, which, zero_grad, checkpointed, request, tmp_path, monkeypatch
):
    own, chosen = request.getfixturevalue(which), dict(zero_grad=zero_grad)
    set_checkpointing(model, checkpointed)
    request.addfinalizer(lambda: set_checkpointing(model, False))
    whole_run(model, images, own, tmp_path / "whole", **chosen)
    for at in range(1, 5):
        kill_at(monkeypatch, at, model, images, own, tmp_path / str(at), **chosen)
        assert (tmp_path / str(at) / "checkpoint.safetensors").exists()
        whole_run(model, images, own, tmp_path / str(at), resume=True, **chosen)
        assert same_files(tmp_path / "whole", tmp_path / str(at)), at
    with open(tmp_path / "whole" / "losses.csv", newline="") as file:
        assert [row["active_2"] for row in csv.DictReader(file)] == ["1.0", "1.0", "0.0", "0.0", "0.0"]


def turned(own):
    """The same null space by other vectors, as another machine may solve for it."""
    rows = len(own.bases)
    q, _ = torch.linalg.qr(torch.randn(rows, rows, generator=torch.Generator().manual_seed(1)).double())
    return replace(own, bases=q @ own.bases)


def test_resumed_run_keeps_the_bases_that_it_began_with(model, images, inexact, tmp_path, monkeypatch):
    whole_run(model, images, inexact, tmp_path / "whole")
    kill_at(monkeypatch, 3, model, images, inexact, tmp_path / "killed")
    whole_run(model, images, [turned(own) for own in inexact], tmp_path / "killed", resume=True)
    assert same_files(tmp_path / "whole", tmp_path / "killed")


def test_resumed_run_with_bases_for_other_prompts(model, images, exact, one_by_one, tmp_path, monkeypatch):
    kill_at(monkeypatch, 3, model, images, exact, tmp_path)
    with pytest.raises(UserError, match="basis of 'VanGogh' is not the one that the run began with: --force"):
        whole_run(model, images, one_by_one, tmp_path, resume=True)


def test_images_that_run_out(model, images, exact, tmp_path):
    edit = whole_run(model, images, exact, tmp_path, cycle_images=False)
    facts = [(p.facts["stopped"], p.facts["steps"]) for p in edits.parts_of(edit)]
    assert facts == [(False, 4), (True, 2), (False, 4)]


def test_the_network_is_restored_after_an_error(model, exact, checkpointing):
    """By `base_comes_back`."""
    with pytest.raises(RuntimeError, match="stop"), make(model, exact) as objective:
        objective.terms(step(0)).loss.backward()
        assert not any(p.requires_grad for p in model.model.diffusion_model.parameters())
        raise RuntimeError("stop")
    assert all(w.grad is None for w in objective.trained.values())


# ---- mistakes ------------------------------------------------------------------------------------------------------


def test_mistakes(model, exact):
    with pytest.raises(UserError, match="2 thresholds for 3 concepts"):
        make(model, exact, [0.0, 0.0])
    other = replace(exact[0], bases=torch.eye(33, dtype=torch.float64))
    with pytest.raises(UserError, match="'VanGogh' is of 33 dimensions, the model's conditioning of 32"):
        make(model, [other])
    for momentum in (1.0, -0.1):
        with pytest.raises(UserError, match="momentum must be"):
            make(model, exact, momentum=momentum)


# ---- the shift itself ----------------------------------------------------------------------------------------------


def test_passing_is_what_the_formula_says(model, exact):
    encode = text_encoder(model)
    own = encode("VanGogh")
    assert passing(own, exact[0]) == pytest.approx(
        max((exact[0].bases @ row.double()).norm().item() for row in own[0]) / own[0].double().norm(dim=1).max().item()
    )
    assert passing(encode("Picasso"), exact[0]) < 1e-12 < 1e-2 < passing(encode("a cat"), exact[0])
    assert math.isclose(passing(own[0], exact[0]), passing(own, exact[0]))


def test_a_shift_can_be_suspended(model):
    unet = model.model.diffusion_model
    generator = torch.Generator().manual_seed(0)
    base = torch.randn(3, 32, generator=generator)
    projections = [p for layer in kv_shift.cross_attentions(unet).values() for p in (layer.to_k, layer.to_v)]
    matrices = [torch.randn(p.weight.shape[0], 3, generator=generator).requires_grad_() for p in projections]
    x, t, context = torch.randn(2, 4, 8, 8, generator=generator), torch.tensor([5, 7]), torch.randn(2, 8, 32)
    with torch.no_grad():
        plain = unet(x, t, context=context)
        with kv_shift.shifted(unet, matrices, [base]) as shift:
            on = unet(x, t, context=context)
            with pytest.raises(RuntimeError, match="stop"), shift.suspended():
                assert torch.equal(unet(x, t, context=context), plain)
                with shift.suspended():
                    assert torch.equal(unet(x, t, context=context), plain)
                assert torch.equal(unet(x, t, context=context), plain), "the inner block has ended the outer one"
                raise RuntimeError("stop")
            assert torch.equal(unet(x, t, context=context), on) and (on - plain).abs().max() > 0.1
        assert torch.equal(unet(x, t, context=context), plain)


@pytest.mark.parametrize("between", [False, True])
def test_suspending_before_a_forward_leaves_its_gradient_alone(model, between, checkpointing):
    """Of another context and batch, too: what the shift knows of a context is that of the forward to come."""
    unet = model.model.diffusion_model
    base = torch.randn(3, 32, generator=torch.Generator().manual_seed(0))
    projections = [p for layer in kv_shift.cross_attentions(unet).values() for p in (layer.to_k, layer.to_v)]
    matrices = [torch.zeros(p.weight.shape[0], 3, requires_grad=True) for p in projections]
    x, context = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(1)), torch.ones(2, 8, 32)
    gradients = []
    for suspended in (False, between):
        with kv_shift.shifted(unet, matrices, [base]) as shift:
            if suspended:
                with torch.no_grad(), shift.suspended():
                    unet(x[:1], torch.tensor([3]), context=-context[:1])
            loss = unet(x, torch.tensor([3, 4]), context=context).square().mean()
            gradients.append(torch.autograd.grad(loss, matrices))
    assert all(torch.equal(a, b) and a.abs().max() > 0 for a, b in zip(*gradients, strict=True))
