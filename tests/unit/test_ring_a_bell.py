"""The embedding attack that RECE ships as Ring-A-Bell: its vector, its pairs, its files."""

import random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from erasure.attacks import ring_a_bell
from erasure.attacks.ring_a_bell import (
    RingABell,
    concept_vector,
    read_pairs,
    read_vector,
    sampled,
    save_vector,
    vector_of,
)
from erasure.errors import UserError
from erasure.generation import generate
from erasure.generation import settings as preset
from erasure.prompts import Row
from erasure.text_states import TextStates
from tests.tiny import tiny_model
from toyworld import attack_prompts


def states(count, seed=0):
    return torch.randn(count, 5, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def model():
    return tiny_model()


# ---- the vector ----------------------------------------------------------------------------------------------------


@given(st.integers(1, 20), st.integers(1, 9))
@settings(deadline=None)
def test_every_batch_has_the_same_weight(count, batch):
    sensitive, normal = states(count), states(count, 1)
    expected, batches = torch.zeros(5, 4, dtype=torch.float64), -(-count // batch)
    for pair in range(count):
        mates = min(batch, count - pair // batch * batch)
        expected += (sensitive[pair] - normal[pair]) / mates / batches
    torch.testing.assert_close(concept_vector(sensitive, normal, batch), expected, rtol=0, atol=1e-12)


def test_vector_of_texts(model):
    pairs = [(f"a cat number {i}", f"a dog number {i % 3}") for i in range(11)]
    vector = vector_of(TextStates.of(model), pairs)
    with torch.no_grad():
        difference = [model.get_learned_conditioning([a]) - model.get_learned_conditioning([b]) for a, b in pairs]
    first, last = torch.cat(difference[:8]).mean(0), torch.cat(difference[8:]).mean(0)
    assert vector.shape == (77, 32)
    torch.testing.assert_close(vector.float(), (first + last) / 2, rtol=0, atol=1e-5)


@given(st.integers(1, 12), st.integers(0, 5))
def test_drawn_pairs_are_those_of_the_published_generator(count, seed):
    pairs = [(str(i), str(-i)) for i in range(12)]
    random.seed(seed)
    assert sampled(pairs, count, seed) == random.sample(pairs, count)
    assert sampled(pairs, None, seed) == pairs


@pytest.mark.parametrize("count", [0, 13])
def test_more_pairs_than_there_are(count):
    with pytest.raises(UserError, match="cannot be chosen from 12"):
        sampled([("a", "b")] * 12, count)


# ---- the attack ----------------------------------------------------------------------------------------------------


@given(st.floats(-5, 5))
def test_all_rows_are_moved(eta):
    vector, prompts = states(1)[0], states(3, 2)
    moved = RingABell(vector, eta).attacked(prompts)
    torch.testing.assert_close(moved, prompts + eta * vector, rtol=0, atol=1e-12)


def test_a_vector_of_another_text_encoder(model):
    with pytest.raises(UserError, match="another text encoder"):
        RingABell(states(1)[0], 3.0).encode(model)("a cat")


def test_images_of_an_attack(model, tmp_path):
    """They are those of the moved embeddings, and are told apart by the vector and by eta."""
    rows, s = [Row(case, "a cat", case) for case in range(2)], preset("toy", steps=2)
    toward = vector_of(TextStates.of(model), [("a dog", "a cat")])
    identity = {"base": "tiny"}

    def draw(folder, attack):
        facts = identity | (attack.identity() if attack else {})
        encode = attack.encode(model) if attack else None
        summary = generate(model, rows, tmp_path / folder, s, facts, progress=False, encode=encode)
        return summary, [(tmp_path / folder / f"{case}_0.png").read_bytes() for case in range(2)]

    _, plain = draw("a", None)
    summary, attacked = draw("a", RingABell(toward, 1.0))
    assert summary.remade == 2 and attacked != plain
    assert draw("a", RingABell(toward, 1.0))[0].kept == 2
    assert draw("a", RingABell(toward, 0.5))[0].remade == 2
    assert draw("a", RingABell(2 * toward, 0.5))[0].remade == 2
    dogs = [Row(case, "a dog", case) for case in range(2)]
    from PIL import Image, ImageChops

    generate(model, dogs, tmp_path / "dogs", s, identity, progress=False)
    draw("b", RingABell(toward, 1.0))
    for case in range(2):
        one, other = (Image.open(tmp_path / folder / f"{case}_0.png") for folder in ("b", "dogs"))
        assert max(high for _, high in ImageChops.difference(one, other).getextrema()) <= 1


# ---- files ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["v.safetensors", "v.pt"])
def test_vectors_come_back(tmp_path, name):
    vector = states(1)[0].float()
    save_vector(vector, tmp_path / name, eta=3.0)
    assert torch.equal(read_vector(tmp_path / name), vector.double())
    save_vector(vector, tmp_path / ("again-" + name), eta=3.0)
    assert (tmp_path / name).read_bytes() == (tmp_path / ("again-" + name)).read_bytes()


def test_the_published_file_is_a_bare_tensor(tmp_path):
    save_vector(states(1)[0], tmp_path / "v.pt")
    published = torch.load(tmp_path / "v.pt", weights_only=True)
    assert published.shape == (1, 5, 4) and published.dtype == torch.float32


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"a": torch.zeros(5, 4), "b": torch.zeros(5, 4)}, "holds 2 tensors"),
        (torch.zeros(2, 5, 4), "not a concept's vector"),
        (torch.zeros(4), "not a concept's vector"),
        (torch.full((1, 5, 4), torch.nan), "NaN"),
        ({"a": 1}, "no tensors"),
        ({"a": random.Random(0)}, "refused"),
    ],
)
def test_files_that_hold_no_vector(tmp_path, content, message):
    torch.save(content, tmp_path / "v.pt")
    with pytest.raises(UserError, match=message):
        read_vector(tmp_path / "v.pt")


def test_pairs_of_both_papers(tmp_path):
    path = tmp_path / "pairs.csv"
    path.write_text('normal prompt,"sensitive prompt"\r\nNone,"a, b"\r\n\r\n')
    assert read_pairs(path) == [("a, b", "None")]
    path.write_text("prompt,case_number,evaluation_seed,prompt1\nwith,0,1,without\n")
    assert read_pairs(path) == [("with", "without")]
    for content, message in (("prompt,x\na,b\n", "no columns"), ("prompt,prompt1\n", "no rows")):
        path.write_text(content)
        with pytest.raises(UserError, match=message):
            read_pairs(path)


# ---- the toy world's pairs -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", attack_prompts.SHIPPED)
def test_shipped_files_are_made_by_the_rule(name):
    for path, text in attack_prompts.contents(name).items():
        assert path.read_text(encoding="utf-8") == text
    assert read_pairs(attack_prompts.pairs_file(name)) == attack_prompts.pairs(name)


@pytest.mark.parametrize("name", ["nudity", "Van Gogh", "golf-ball", "adam driver", "tench", "bob dylan", "kilian eng"])
def test_pairs_differ_in_the_concept(name):
    words = {"nudity": ("nud", "naked")}.get(name, (name.lower().replace("-", " "),))
    for sensitive, normal in attack_prompts.pairs(name):
        assert any(word in sensitive for word in words) and not any(word in normal for word in words)
    prompts = attack_prompts.attacked_prompts(name, 30)
    assert len(prompts) == 30 and not any(word in prompt for prompt in prompts for word in words)


def test_a_concept_that_the_model_does_not_know():
    with pytest.raises(ValueError, match="knows no 'rembrandt'; choose from nudity, van gogh"):
        attack_prompts.concept_of("rembrandt")


def test_batches_are_the_published_ones():
    assert ring_a_bell.BATCH == 8
