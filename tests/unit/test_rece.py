"""RECE's algebra: adversarial embeddings against their objectives, epochs in D x D space against the plain computation."""

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from erasure.edits import ContextMap
from erasure.errors import UserError
from erasure.text_states import TextStates
from methods.rece.adversarial import adversarial_embedding, penalty, sums
from methods.rece.rece import Rece, retained_gram, uce_start
from methods.rece.settings import ReceSettings
from methods.uce.erase import Erasure, context_map

ROWS = 7  # of a text, here; 77 in Stable Diffusion
VARIANTS = [("close_regzero", "1st", False), ("close_standardreg", "1st", True), ("close_standardreg", "1st", False)]
VARIANTS += [("close_surrogatereg", item, False) for item in ("1st", "2nd", "both")]

seeds, dims, scales = st.integers(0, 2**16), st.integers(2, 12), st.floats(0.01, 3)


def draw(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def relative(found, wanted):
    return (torch.linalg.norm(found - wanted) / torch.linalg.norm(wanted)).item()


def projections(seed, dim, layers=3):
    """Random layers of several heights, enough rows in all for a Gram matrix of full rank."""
    return {f"{i}.weight": draw(seed + i, dim + 2 + i, dim) for i in range(layers)}


def random_texts(seed, dim):
    """Any text, as random rows of its own."""

    def encode(batch):
        states = [draw(seed + sum(map(ord, text)), ROWS, dim) for text in batch]
        return torch.stack(states), [min(len(text.split()), ROWS - 2) for text in batch]

    return TextStates(encode)


# ---- adversarial embeddings ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("emb_computing", "reg_item", "with_target"), VARIANTS)
@given(seed=seeds, dim=dims, lamb=scales)
@settings(max_examples=20, deadline=None)
def test_every_variant_minimises_its_objective(emb_computing, reg_item, with_target, seed, dim, lamb):
    """Against a least-squares solver of the rows stacked: sum ||W c' - W^o c||^2 + R."""
    originals, edited = projections(seed, dim), projections(seed + 50, dim)
    c, target = draw(seed + 100, ROWS, dim), draw(seed + 101, ROWS, dim)
    w, w_o = torch.cat(list(edited.values())), torch.cat(list(originals.values()))
    kind = penalty(emb_computing, reg_item, with_target)
    left, right = [w], [w_o @ c.T]
    if kind.answers:
        left, right = [*left, lamb**0.5 * w], [*right, lamb**0.5 * w @ c.T]
    if kind.ridge:
        pull = {"target": target, "concept": c, None: torch.zeros_like(c)}[kind.pull]
        left, right = [*left, lamb**0.5 * torch.eye(dim).double()], [*right, lamb**0.5 * pull.T]
    wanted = torch.linalg.lstsq(torch.cat(left), torch.cat(right)).solution.T
    given_target = target if with_target else None
    found = adversarial_embedding(*sums(edited, originals), c, emb_computing, lamb, reg_item, given_target)
    assert relative(found, wanted) < 1e-8


def test_variants_are_the_published_ones():
    assert penalty("close_regzero", "both") == penalty("close_regzero")
    assert penalty("close_standardreg") == penalty("close_surrogatereg", "both")
    assert penalty("close_standardreg", with_target=True).pull == "target"


@pytest.mark.parametrize(("emb_computing", "reg_item", "with_target"), VARIANTS)
@given(seed=seeds, dim=dims)
@settings(max_examples=10, deadline=None)
def test_nothing_erased_gives_the_concept_itself(emb_computing, reg_item, with_target, seed, dim):
    weights, c = projections(seed, dim), draw(seed + 100, ROWS, dim)
    target = draw(seed + 101, ROWS, dim) if with_target else None
    found = adversarial_embedding(*sums(weights, weights), c, emb_computing, 1e-12, reg_item, target)
    assert relative(found, c) < 1e-8


@given(seed=seeds, dim=dims)
@settings(max_examples=20, deadline=None)
def test_without_penalty_the_embedding_undoes_the_edit(seed, dim):
    """W = W^o T: c' -> T^-1 c."""
    originals, c, t = projections(seed, dim), draw(seed + 100, ROWS, dim), draw(seed + 200, dim, dim)
    assume(torch.linalg.cond(t) < 100)
    edited = {name: w @ t for name, w in originals.items()}
    found = adversarial_embedding(*sums(edited, originals), c, "close_regzero", 0.0)
    assert relative(found @ t.T, c) < 1e-8


def test_a_singular_system_is_refused():
    weights = {"w": draw(0, 3, 8)}  # three rows cannot span eight dimensions
    G, H = sums(weights, weights)
    with pytest.raises(UserError, match="--reg_item 2nd or both"):
        adversarial_embedding(G, H, draw(1, ROWS, 8), "close_surrogatereg", 0.1, "1st")
    adversarial_embedding(G, H, draw(1, ROWS, 8), "close_surrogatereg", 0.1, "2nd")
    with pytest.raises(UserError, match="NaN"):
        adversarial_embedding(G * torch.nan, H, draw(1, ROWS, 8))


# ---- epochs --------------------------------------------------------------------------------------------------------

runs = st.fixed_dictionaries(
    {
        "emb_computing": st.sampled_from(["close_regzero", "close_standardreg", "close_surrogatereg"]),
        "reg_item": st.sampled_from(["2nd", "both"]),
        "regular_scale": scales,
        "lamb": scales,
        "erase_scale": scales,
        "preserve_scale": scales,
        "technique": st.sampled_from(["replace", "tensor"]),
    }
)


def rece_settings(concepts=2, **given):
    names = tuple(f"concept {i}" for i in range(concepts))
    targets = ("target", None)[:concepts] if given.get("emb_computing") == "close_standardreg" else ()
    return ReceSettings(names, ("a guide", "another guide")[:concepts], ("", "kept"), targets, **given)


def plain_epochs(texts, originals, weights, s, epochs):
    """The spec, layer by layer and text by text, with explicit inverses. Yields (embeddings, weights)."""
    for _ in range(epochs):
        G, H = sums(weights, originals)
        solved = []
        for concept, target in zip(s.concepts, s.targets, strict=True):
            pull = None if target is None else texts[target].states
            c = texts[concept].states
            solved.append(adversarial_embedding(G, H, c, s.emb_computing, s.regular_scale, s.reg_item, pull))
        dim = len(G)
        a = s.lamb * torch.eye(dim).double()
        a += s.erase_scale * sum(e.T @ e for e in solved)
        a += s.preserve_scale * sum(texts[t].states.T @ texts[t].states for t in s.retained)
        after = {}
        for name, w in weights.items():
            m = s.lamb * w + s.preserve_scale * sum(w @ texts[t].states.T @ texts[t].states for t in s.retained)
            for e, guide in zip(solved, s.guides, strict=True):
                answer = texts[guide].states @ w.T
                if s.technique == "tensor":
                    u = (e @ w.T) / torch.linalg.norm(e @ w.T)
                    answer = answer - (u * answer).sum() * u
                m = m + s.erase_scale * answer.T @ e
            after[name] = m @ torch.linalg.inv(a)
        weights = after
        yield solved, weights


@given(seed=seeds, dim=st.integers(4, 40), flags=runs, concepts=st.integers(1, 2), start=st.booleans())
@settings(max_examples=40, deadline=None)
def test_epochs_equal_the_plain_computation(seed, dim, flags, concepts, start):
    texts, originals = random_texts(seed, dim), projections(seed, dim)
    s = rece_settings(concepts, **flags)
    begin = projections(seed + 50, dim) if start else originals
    rece = Rece(texts, originals, begin if start else None, s)
    for embeddings, weights in plain_epochs(texts, originals, begin, s, 2):
        epoch = rece.epoch()
        assert max(map(relative, epoch.embeddings, embeddings)) < 1e-7
        found = rece.weights()
        assert max(relative(found[name], weights[name]) for name in weights) < 1e-7
    assert rece.index == 2


@given(seed=seeds, dim=st.integers(4, 60), technique=st.sampled_from(["replace", "tensor"]))
@settings(max_examples=20, deadline=None)
def test_a_map_and_the_weights_that_it_makes_are_the_same_start(seed, dim, technique):
    texts, originals, s = random_texts(seed, dim), projections(seed, dim), rece_settings(technique=technique)
    pairs = list(zip(s.concepts, s.guides, strict=True))
    start = uce_start(texts, pairs, retained_gram(texts, s.retained), 0.5)
    by_map = Rece(texts, originals, start, s)
    by_weights = Rece(texts, originals, {name: start.applied(w) for name, w in originals.items()}, s)
    for _ in range(2):
        for one, other in zip(by_map.epoch().embeddings, by_weights.epoch().embeddings, strict=True):
            assert relative(one, other) < 1e-7
    found, wanted = by_map.weights(), by_weights.weights()
    assert max(relative(found[name], wanted[name]) for name in wanted) < 1e-7
    assert by_weights.context_map() is None
    total = by_map.context_map()
    assert (total is not None) == (technique == "replace")
    if total is not None:
        assert max(relative(total.applied(originals[name]), wanted[name]) for name in wanted) < 1e-7


def test_the_start_is_uces_edit():
    texts = random_texts(3, 24)
    pairs, preserved = [("concept 0", "a guide"), ("concept 1", "a guide")], ("", "kept", "kept too")
    wanted, _ = context_map(Erasure(pairs, preserved, preserve_scale=0.4), texts)
    found = uce_start(texts, pairs, retained_gram(texts, preserved), 0.4)
    torch.testing.assert_close(found.matrix(), wanted.matrix())


def test_few_rows_keep_their_factors():
    """What an edit file holds grows with the rows, and stops at the whole matrix."""
    texts, originals, s = random_texts(5, 60), projections(5, 60), rece_settings(1)
    rece = Rece(texts, originals, None, s)
    rece.epoch()
    assert rece.context_map().tensors()["left"].shape == (ROWS, 60)
    rece.epoch()
    assert rece.context_map().tensors()["left"].shape == (2 * ROWS, 60)
    for _ in range(3):
        rece.epoch()
    assert rece.context_map().tensors().keys() == {"delta"}
    total = ContextMap.from_tensors(rece.context_map().tensors())
    wanted = rece.weights()["0.weight"]
    assert relative(total.applied(originals["0.weight"]), wanted) < 1e-5


def test_texts_of_another_model_are_refused():
    with pytest.raises(UserError, match="texts of 8 numbers a token do not fit projections of \\[9\\]"):
        Rece(random_texts(0, 8), projections(0, 9), None, rece_settings())
