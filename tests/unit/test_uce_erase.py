"""UCE's erasure: one map or layer by layer, texts in any order, at once or in turn; and the check of what was done."""

import functools

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from erasure.edits import ContextMap
from methods.uce.erase import Erasure, aligned, context_map, edited_weights, own_guides, preserved_gram
from methods.uce.run import edited_in_turn
from methods.uce.self_check import check, products_of_map, products_of_weights
from tests.unit.random_texts import random_texts, relative

NAMES = ("", "art", "van gogh", "golf ball", "a very long text of many many words indeed", "harm", "Kelly", "a b c")
texts_of = st.lists(st.sampled_from(NAMES), max_size=6)
scales = st.floats(0.05, 4)


@st.composite
def erasures(draw, technique="replace"):
    """Any pairs, with preserved texts that may be erased ones, too."""
    pairs = draw(st.lists(st.tuples(st.sampled_from(NAMES), st.sampled_from(NAMES)), min_size=1, max_size=5))
    variant = draw(st.sampled_from(("2023", "2025")))
    return Erasure(pairs, draw(texts_of), variant, technique, *(draw(scales) for _ in range(3)))


def layers(dim, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return {f"{name}.weight": torch.randn(n, dim, generator=generator) for name, n in (("to_v", 5), ("to_k", 11))}


@given(erasures(), st.integers(2, 40))
@settings(max_examples=60, deadline=None)
def test_one_map_equals_layer_by_layer(erasure, dim):
    texts, weights = random_texts(dim), layers(dim)
    shared = context_map(erasure, texts)[0]
    for name, weight in edited_weights(erasure, texts, weights)[0].items():
        assert relative(shared.applied(weights[name]), weight) < 1e-9


@given(erasures(), st.randoms(use_true_random=False), st.integers(2, 30))
@settings(max_examples=40, deadline=None)
def test_the_order_of_texts_does_not_matter(erasure, random, dim):
    pairs, preserved = list(erasure.pairs), list(erasure.preserved)
    random.shuffle(pairs)
    random.shuffle(preserved)
    other = Erasure(
        pairs, preserved, erasure.variant, "replace", erasure.lamb, erasure.erase_scale, erasure.preserve_scale
    )
    found = [context_map(e, random_texts(dim))[0].matrix() for e in (erasure, other)]
    assert relative(found[1], found[0]) < 1e-9


@given(erasures(), st.integers(2, 30), st.booleans())
@settings(max_examples=40, deadline=None)
def test_what_is_preserved_may_be_streamed_stored_or_summed_up_before(erasure, dim, by_layer):
    def solve(texts, **kept):
        if by_layer:
            return torch.cat(list(edited_weights(erasure, texts, layers(dim), **kept)[0].values()))
        return context_map(erasure, texts, **kept)[0].matrix()

    streamed = solve(random_texts(dim))
    stored = solve(random_texts(dim).prepare(NAMES))
    summed = solve(random_texts(dim), kept=preserved_gram(erasure, random_texts(dim)))
    assert relative(stored, streamed) < 1e-12
    assert relative(summed, streamed) < 1e-9


@given(st.integers(1, 6), st.integers(1, 3))
@settings(max_examples=20, deadline=None)
def test_many_rows_give_the_same_map_as_few(count, repeats):
    """Beyond D/2 rows the map is one matrix, below it two factors: a text given n times counts n times in either."""
    dim, length = 120, 9
    names = NAMES[1 : 1 + count]
    few, many = random_texts(dim, length), random_texts(dim, length)
    once = context_map(Erasure([(name, "") for name in names], erase_scale=float(repeats * 40)), few)[0]
    often = context_map(Erasure([(name, "") for name in names for _ in range(repeats * 40)]), many)[0]
    rows = sum(length - few[name].last for name in names)
    assert (once.left is None) == (2 * rows > dim) and often.left is None
    assert relative(often.matrix(), once.matrix()) < 1e-8


@given(st.lists(st.sampled_from(NAMES), min_size=1, max_size=4), texts_of, st.sampled_from(("2023", "2025")))
@settings(max_examples=30, deadline=None)
def test_a_text_that_is_its_own_guide_stays_as_it_is(names, preserved, variant):
    erasure = Erasure([(name, name) for name in names], preserved, variant)
    texts, weights = random_texts(16), layers(16)
    shared = context_map(erasure, texts)[0]
    for name, weight in edited_weights(erasure, texts, weights)[0].items():
        # in the weights' own precision: float64 may differ in its last digit
        for found in (weight, shared.applied(weights[name])):
            assert torch.equal(found.float(), weights[name])
    assert own_guides(erasure, texts) == list(dict.fromkeys(names))


def test_a_space_and_nothing_are_one_text():
    assert own_guides(Erasure([("", " "), ("art", " "), (" ", "")]), random_texts(8)) == ["", " "]


@given(st.sampled_from(NAMES), st.sampled_from(NAMES))
def test_rows_pair_up_by_their_distance_from_the_last_token(old, new):
    texts = random_texts(4, length=9)
    a, b = texts[old], texts[new]
    rows, guide = aligned(a, b)
    assert len(rows) == len(guide) == 9 - max(a.last, b.last)
    for k in range(len(rows)):
        assert torch.equal(rows[k], a.states[a.last + k]) and torch.equal(guide[k], b.states[b.last + k])
    rows, guide = aligned(a, b, "2025")
    assert torch.equal(rows, a.states[[a.last]]) and torch.equal(guide, b.states[[b.last]])


@given(st.lists(erasures(), min_size=2, max_size=3), st.integers(4, 30))
@settings(max_examples=30, deadline=None)
def test_maps_of_erasures_in_turn_multiply(parts, dim):
    """Each edits the weights that the one before it left; in its closed form these are the weights to start from."""
    texts, weights = random_texts(dim), layers(dim)
    combined = functools.reduce(ContextMap.then, (context_map(part, texts)[0] for part in parts))
    for name, weight in edited_in_turn(parts, texts, weights)[0].items():
        assert relative(combined.applied(weights[name]), weight) < 1e-8


@given(erasures(technique="tensor"), st.integers(12, 30))
@settings(max_examples=30, deadline=None)
def test_tensor_leaves_nothing_along_the_old_answers(erasure, dim):
    """With all weight on one pair, its new answers are the guide's without their component along the old ones."""
    old, new = erasure.pairs[0]
    texts, weights = random_texts(dim), layers(dim)
    alone = Erasure([(old, new)], [], "2025", "tensor", lamb=1e-9)
    for name, weight in edited_weights(alone, texts, weights)[0].items():
        before, guide = (aligned(texts[old], texts[new], "2025")[i] @ weights[name].double().T for i in (0, 1))
        direction = before / torch.linalg.norm(before)
        wanted = guide - (guide * direction).sum() * direction
        found = aligned(texts[old], texts[new], "2025")[0] @ weight.T
        assert torch.linalg.norm(found - wanted) < 1e-6 * torch.linalg.norm(guide)


@given(erasures(), st.integers(3, 24))
@settings(max_examples=30, deadline=None)
def test_the_check_says_what_answers_do(erasure, dim):
    texts, weights = random_texts(dim), layers(dim)
    assume(len(own_guides(erasure, texts.prepare(NAMES))) < len({old for old, _ in erasure.pairs}))
    shared = context_map(erasure, texts)[0]
    edited = [shared.applied(weight) for weight in weights.values()]
    kept = preserved_gram(erasure, texts)
    found = check([erasure], texts, kept, products_of_map(weights.values(), shared))
    again = check([erasure], texts, kept, products_of_weights(weights.values(), edited))
    old, new = torch.cat(list(weights.values())).double(), torch.cat(edited)
    norm = torch.linalg.norm
    for text, guide in erasure.pairs[-1:]:
        rows, targets = aligned(texts[text], texts[guide], erasure.variant)
        whole = norm((rows - targets) @ old.T)
        if not whole:
            assert found.left[text] is None
            continue
        assert found.left[text] == pytest.approx((norm(rows @ new.T - targets @ old.T) / whole).item(), abs=1e-5)
        assert again.left[text] == pytest.approx(found.left[text], abs=1e-5)
    empty = texts[""].states
    change = new - old
    assert found.empty == pytest.approx((norm(empty @ change.T) / norm(empty @ old.T)).item(), abs=1e-5)
    assert found.weights == pytest.approx((norm(change) / norm(old)).item(), abs=1e-5)
    stay = [texts[text] for text in erasure.preserved]
    stay = [state.states if erasure.variant == "2023" else state.states[[state.last]] for state in stay]
    if not stay:
        assert found.preserved is None
        return
    stay = torch.cat(stay)
    assert found.preserved == pytest.approx((norm(stay @ change.T) / norm(stay @ old.T)).item(), abs=1e-5)
