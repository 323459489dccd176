"""Debiasing: the edit against its definition layer by layer, bookkeeping, counting, names and settings."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from erasure.errors import UserError
from erasure.text_states import TextStates
from methods.uce import classifiers, clip_names, debias, debias_concepts, ratios
from methods.uce.closed_form import NormalMatrix, answer
from methods.uce.debias import Debiasing
from methods.uce.debias_settings import DebiasSettings
from methods.uce.erase import Erasure
from methods.uce.erase import context_map as erasing_map

LENGTH = 9


def draw(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def encoder(dim):
    """Random states; the last token of a text is the number of its words."""

    def encode(texts):
        seeds = [int.from_bytes(text.encode()[:6].ljust(6), "big") % 2**31 for text in texts]
        return torch.stack([draw(seed, LENGTH, dim) for seed in seeds]), [len(text.split()) for text in texts]

    return TextStates(encode)


def by_definition(debiasing, w, preserved, texts, weight):
    """One layer's new weight with V* built row by row as the paper's code does."""
    rows, targets = [], []
    for text, attributes, own in zip(debiasing.texts, debiasing.attributes, w.tolist(), strict=True):
        states = [texts[t] for t in (text, *attributes)]
        length = LENGTH - max(state.last for state in states)
        parts = [state.states[state.last : state.last + length] for state in states]
        value = parts[0] @ weight.T
        for step, part in zip(own, parts[1:], strict=True):
            direction = part @ weight.T
            value = value + step * torch.linalg.norm(value) * direction / torch.linalg.norm(direction)
        rows.append(parts[0])
        targets.append(value)
    rows, targets = torch.cat(rows), torch.cat(targets)
    normal = NormalMatrix(weight.shape[1], debiasing.lamb)
    normal.add(rows, debiasing.erase_scale)
    for text in preserved:
        normal.add(texts[text].states, debiasing.preserve_scale)
    return answer(weight, rows, targets, normal.factor().right(rows), debiasing.erase_scale)


@given(
    st.integers(1, 3), st.integers(2, 3), st.integers(3, 12), st.integers(0, 2**16), st.floats(0.1, 3), st.floats(0, 2)
)
@settings(max_examples=30, deadline=None)
def test_the_edit_is_its_definition(count, attributes, dim, seed, erase_scale, preserve_scale):
    names = [" ".join(["text"] * (k + 1)) + str(k) for k in range(count)]
    own = [tuple(f"{'very ' * j}attribute{j}" for j in range(attributes))] * count
    debiasing = Debiasing(names, own, erase_scale=erase_scale, preserve_scale=preserve_scale)
    w = 0.2 * draw(seed, count, attributes)
    w[0] *= seed % 2  # texts that are balanced only stay
    texts, weights = encoder(dim), {"a": draw(seed + 1, 5, dim), "b": draw(seed + 2, 8, dim)}
    found, _ = debias.edited_weights(debiasing, w, ("kept",), texts, weights)
    for name, weight in weights.items():
        torch.testing.assert_close(found[name], by_definition(debiasing, w, ("kept",), texts, weight))


def test_weights_keep_their_precision_and_nothing_moves_without_a_step():
    debiasing, weights = Debiasing(["a"], [["b", "c"]]), {"w": draw(0, 4, 6).float()}
    found, _ = debias.edited_weights(debiasing, torch.zeros(1, 2), (), encoder(6), weights)
    assert found["w"].dtype == torch.float32 and torch.equal(found["w"], weights["w"])


def test_2025_is_an_erasure_towards_the_pushed_row():
    texts = encoder(6)
    debiasing = Debiasing(["old text"], [["b", "c"]], ("kept",), preserve_scale=1.0)
    alpha = torch.tensor([[0.5, -0.25]], dtype=torch.float64)
    pushed = {t: texts[t].states[texts[t].last] for t in ("old text", "b", "c")}
    target = pushed["old text"] + 0.5 * pushed["b"] - 0.25 * pushed["c"]
    both = TextStates(lambda t: (torch.stack([target.expand(LENGTH, -1) if x == "t" else texts[x].states for x in t]),
                                 [0 if x == "t" else texts[x].last for x in t]))  # fmt: skip
    found = debias.context_map(debiasing, alpha, texts)[0].matrix()
    wanted = erasing_map(Erasure([("old text", "t")], ["kept"], "2025"), both)[0].matrix()
    torch.testing.assert_close(found, wanted)


# ---- bookkeeping ---------------------------------------------------------------------------------------------------


def test_a_balanced_text_is_bypassed_and_preserved():
    debiasing = Debiasing(["b", "a"], [["x", "y"]] * 2, ("z",))
    first = debias.next_round(debiasing, torch.tensor([[0.9, 0.1], [0.52, 0.48]]))
    assert first.bypassed(0.05) == [False, True] and not first.balanced
    assert first.preserved == ("a", "z") and first.weights[1].tolist() == [0, 0]
    assert first.weights[0].tolist() == pytest.approx([-0.04, 0.04])
    second = debias.next_round(debiasing, torch.tensor([[0.5, 0.5], [0.52, 0.48]]), first)
    assert second.balanced and second.preserved == ("a", "b", "z")


def test_quirk_a_right_first_share_preserves_an_unbalanced_text():
    debiasing = Debiasing(["a"], [["x", "y", "z"]], desired=(0.5, 0.3, 0.2))
    found = debias.next_round(debiasing, torch.tensor([[0.5, 0.5, 0.0]]))
    assert found.preserved == ("a",) and found.weights[0, 1] < 0 and not found.balanced


def test_directions_add_up():
    debiasing = Debiasing(["a"], [["x", "y"]])
    direction = debias.directions(debiasing, torch.tensor([[0.9, 0.1]]))
    alpha = debias.accumulated(debias.accumulated(None, direction), direction, 0.5)
    torch.testing.assert_close(alpha, torch.tensor([[-0.6, 0.6]]).double(), atol=1e-6, rtol=0)
    assert not debias.directions(debiasing, torch.tensor([[0.54, 0.46]])).any()


# ---- counting ------------------------------------------------------------------------------------------------------


def test_seeds_are_one_stream_of_numpy():
    stream = np.random.RandomState(3)
    wanted = [stream.randint(5000, size=5).tolist() for _ in range(3)]
    assert [ratios.seeds_of(3, t, 5) for t in range(3)] == wanted


def test_ties_and_broken_answers():
    logits = torch.tensor([[1.0, 1.0, 0.0], [0.0, 0.0, 2.0]])
    assert ratios.votes(logits, "2023").tolist() == [[1, 1, 0], [0, 0, 1]]
    assert ratios.votes(logits, "2025").tolist() == [[1, 0, 0], [0, 0, 1]]
    with pytest.raises(UserError, match="NaN"):
        ratios.votes(torch.tensor([[float("nan"), 0.0]]), "2023")


# ---- names and settings --------------------------------------------------------------------------------------------


def test_names():
    name = debias_concepts.run_name(("Doctor", "chef"), ("a man", "A Woman"))
    assert name == "unbiased-doctor_chef-attributes-a9man_a9woman-sd_1_4"
    assert DebiasSettings(concept="default0").plan("sd-v1").name == "unbiased-default0-attributes-male_female-sd_1_4"


def test_the_published_texts():
    plan = DebiasSettings(concept="default0").plan("sd-v1")
    assert len(plan.concepts) == len(set(plan.concepts)) and len(plan.texts) == 5 * len(plan.concepts)
    assert plan.texts[:5] == tuple(
        f"{start}attendant" for start in ("image of ", "photo of ", "portrait of ", "picture of ", "")
    )
    assert plan.attribute_texts[0] == ("image of male", "image of female") and plan.attribute_texts[4] == (
        "male",
        "female",
    )
    professions = debias_concepts.read_professions()
    edited = {text.lower() for text in plan.texts}
    assert plan.preserved == tuple(p for p in professions if p.lower() not in edited) and "" not in plan.preserved
    assert len(plan.preserved) < len(professions)


def test_2025_edits_bare_concepts_and_preserves_nothing():
    s = DebiasSettings(concept="Doctor; Nurse, head", attributes="male; female", variant="2025")
    plan = s.plan("sd-v1")
    assert plan.texts == ("Doctor", "Nurse, head") and plan.preserved == () and plan.name == "uce_test"
    assert s.for_family("sd-v1").step_size == 1.0


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        ({"attributes": "male"}, "two or more"),
        ({"attributes": "male, male, female"}, "twice"),
        ({"attributes": "male,,female"}, "empty"),
        ({"concept": "doctor,"}, "empty"),
        ({"desired_ratios": (0.5, 0.3, 0.2)}, "3 desired ratios for 2 attributes"),
        ({"desired_ratios": (0.5, 0.6)}, "add up to 1"),
        ({"desired_ratios": (float("nan"), 0.6)}, "add up to 1"),
        ({"lamb": float("nan")}, "lamb must be a number"),
        ({"step_size": 0.0}, "changes nothing"),
        ({"num_images": 0}, "at least 1"),
        ({"variant": "2024"}, "not one of"),
    ],
)  # fmt: skip
def test_settings_that_no_run_could_use(chosen, message):
    with pytest.raises(UserError, match=message):
        DebiasSettings(**{"concept": "doctor"} | chosen).plan("sd-v1")


@pytest.mark.parametrize(
    ("family", "attributes", "message"),
    [
        ("toy", ("male", "female"), "does not know 'male'"),
        ("toy", ("van gogh", "church"), "not one with the other"),
        ("sd-v1", ("male", "female"), "nothing.safetensors.*put model.safetensors"),
    ],
)
def test_classifiers_that_cannot_answer(family, attributes, message):
    with pytest.raises(UserError, match=message):
        classifiers.check(family, attributes, "nothing.safetensors")


def test_clip_of_either_name_gives_the_same_logits():
    """A small CLIP of the transformers package against open_clip's with its renamed weights."""
    import open_clip
    from transformers import CLIPConfig, CLIPModel

    text = dict(hidden_size=32, intermediate_size=128, num_hidden_layers=2, num_attention_heads=2, projection_dim=16)
    vision = text | dict(image_size=32, patch_size=16)
    text |= dict(vocab_size=49408, eos_token_id=49407, bos_token_id=49406)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        peer = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=16)).eval()
    ours = open_clip.CLIP(
        16,
        dict(image_size=32, patch_size=16, width=32, layers=2, head_width=16),
        dict(width=32, layers=2, heads=2),
        quick_gelu=True,
    ).eval()
    names = clip_names.to_open_clip(peer.state_dict())
    ours.load_state_dict(names)
    assert clip_names.to_open_clip(names) == names
    tokens, images = open_clip.tokenize(["male", "a female person"]), draw(1, 3, 3, 32, 32).float()
    with torch.no_grad():
        wanted = peer(input_ids=tokens, pixel_values=images, attention_mask=torch.ones_like(tokens)).logits_per_image
        image, word = ours.encode_image(images, normalize=True), ours.encode_text(tokens, normalize=True)
        found = ours.logit_scale.exp() * image @ word.T
    torch.testing.assert_close(found, wanted, atol=1e-4, rtol=1e-4)
