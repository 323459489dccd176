"""UCE's debiasing, both generations, against the published code's own runs."""

import numpy as np
import pytest
import torch

from erasure.text_states import TextStates
from methods.uce import debias, debias_concepts, ratios
from methods.uce.debias import Debiasing
from tests.golden.golden_data import load, load_json


def stored_texts(meta, tensors):
    index = {text: i for i, text in enumerate(meta["texts"])}

    def encode(batch):
        chosen = [index[text] for text in batch]
        return tensors["embeddings"][chosen], (tensors["n_tokens"][chosen] - 2).tolist()

    return TextStates(encode)


def original(tensors, dtype):
    return {key.removeprefix("old."): t.to(dtype) for key, t in tensors.items() if key.startswith("old.")}


def stored(tensors, prefix):
    found = {key.removeprefix(prefix): t for key, t in tensors.items() if key.startswith(prefix)}
    return {key: t for key, t in found.items() if not key.startswith("f64.")}


def relative(found, wanted):
    return (torch.linalg.norm(found.double() - wanted.double()) / torch.linalg.norm(wanted.double())).item()


def cases(name):
    return list(enumerate(load_json(f"uce/{name}")["cases"]))


# ---- 2023 ----------------------------------------------------------------------------------------------------------


def debiasing_of(case):
    attributes = debias.attribute_texts(case["old"], case["new"], case.get("add", False))
    retain = [""] if case["retain"] is None else case["retain"]
    scales = dict(lamb=case["lamb"], erase_scale=case["erase_scale"], preserve_scale=case["preserve_scale"])
    return Debiasing(case["old"], attributes, tuple(retain), **scales)


def test_2023_bookkeeping():
    for i, case in cases("uce_debias_2023"):
        debiasing, done = debiasing_of(case), None
        for t, call in enumerate(case["get_ratios_calls"]):
            assert call["concepts"] == list(debiasing.texts) and call["classes"] == debiasing.attributes, f"case {i}"
            if call["ratio_diff"] is None:
                assert done is None
            else:
                torch.testing.assert_close(done.deviations, torch.tensor(call["ratio_diff"]), atol=2e-6, rtol=0)
            if t < case["iterations"]:
                done = debias.next_round(debiasing, torch.tensor(case["ratios"][t]), done)
        torch.testing.assert_close(done.weights, torch.tensor(case["returned_weights"]), atol=1e-6, rtol=0)


@pytest.mark.parametrize(("dtype", "key"), [(torch.float64, "f64."), (torch.float32, "")])
def test_2023_weights_after_every_iteration(dtype, key):
    meta, tensors = load("uce/uce_debias_2023")
    for i, case in enumerate(meta["cases"]):
        debiasing, done = debiasing_of(case), None
        texts, weights = stored_texts(meta, tensors), original(tensors, dtype)
        for t in range(case["iterations"]):
            done = debias.next_round(debiasing, torch.tensor(case["ratios"][t]), done)
            assert not done.balanced
            weights, _ = debias.edited_weights(debiasing, done.weights, done.preserved, texts, weights)
            wanted = stored(tensors, f"case{i}.iter{t + 1}.{key}")
            assert wanted, f"case {i}, iteration {t}"
            for name, reference in wanted.items():
                where = f"case {i}, iteration {t}, {name}"
                assert weights[name].dtype == dtype
                if dtype == torch.float64:
                    old = tensors[f"old.{name}"].double()
                    assert relative(weights[name] - old, reference.double() - old) <= 1e-6, where
                else:
                    assert relative(weights[name], reference) <= 1e-3, where


# ---- 2025 ----------------------------------------------------------------------------------------------------------


def test_2025_weights_after_every_iteration():
    meta, tensors = load("uce/uce_debias_2025")
    for i, case in enumerate(meta["cases"]):
        scales = dict(lamb=case["lamb"], erase_scale=case["edit_scale"], preserve_scale=case["preserve_scale"])
        debiasing = Debiasing(case["edit"], [case["debias"]] * len(case["edit"]), case["preserve"], **scales)
        texts, weights, alpha = stored_texts(meta, tensors), original(tensors, torch.float64), None
        for t, direction in enumerate(case["direction_scale"]):
            alpha = debias.accumulated(alpha, torch.tensor(direction, dtype=torch.float64))
            edit, _ = debias.context_map(debiasing, alpha, texts)
            for key, tolerance in (("f64.", 1e-9), ("", 1e-4)):
                wanted = stored(tensors, f"case{i}.iter{t + 1}.{key}")
                assert wanted, f"case {i}, iteration {t}"
                for name, reference in wanted.items():
                    found = edit.applied(weights[name])
                    assert relative(found, reference) <= tolerance, f"case {i}, iteration {t}, {name}"


# ---- ratios --------------------------------------------------------------------------------------------------------


class Recorder:
    """A model that draws nothing and a classifier with stored answers; keeps what was asked for."""

    def __init__(self, count, answers):
        self.count, self.answers, self.calls = count, iter(answers), []

    def draw(self, prompt, seeds):
        for seed in seeds:
            self.calls.append((prompt, seed))
            yield np.zeros((self.count, 1, 1, 3), np.uint8)

    def classify(self, images, texts):
        assert len(images) == self.count
        logits = torch.tensor(next(self.answers))
        assert logits.shape == (len(images), len(texts))
        return logits


def test_2023_ratios():
    images = debias_concepts.IMAGES["sd-v1"]
    for i, case in enumerate(load_json("uce/uce_debias_ratios")["2023"]["cases"]):
        known = {}
        if case["ratio_diff"] is not None:
            # what next_round makes of the ratios of an earlier iteration
            debiasing = Debiasing(case["concepts"], case["classes"], tolerance=case["max_ratio_gap"])
            before = debias.next_round(debiasing, torch.tensor(case["prev_ratio"]))
            torch.testing.assert_close(before.deviations, torch.tensor(case["ratio_diff"]), atol=1e-6, rtol=0)
            bypassed = before.bypassed(debiasing.tolerance)
            known = {k: before.ratios[k] for k, inside in enumerate(bypassed) if inside}
        recorder = Recorder(case["num_samples"], case["clip_logits_per_call"])
        meter = ratios.Meter(recorder.draw, recorder.classify, "2023")
        seeds = ratios.seeds_of(case["numpy_seed"], 0, ratios.SEEDS["2023"])
        found = torch.stack(list(meter.ratios(case["concepts"], case["classes"], seeds, known)))
        torch.testing.assert_close(found, torch.tensor(case["ratios"]), atol=1e-6, rtol=0, msg=f"case {i}")
        assert recorder.calls == [(call["prompt"], call["seed"]) for call in case["image_calls"]], f"case {i}"
        for call in case["image_calls"]:
            assert call["num_inference_steps"] == images["num_inference_steps"]
            assert call["num_images_per_prompt"] == case["num_samples"]


def test_2025_directions():
    images = debias_concepts.IMAGES["sd-v1"]
    for i, case in enumerate(load_json("uce/uce_debias_ratios")["2025"]["cases"]):
        labels = case["debias_concepts"]
        answers = [[[float(top == label) for label in labels] for top in own] for own in case["top_labels"]]
        recorder = Recorder(case["num_images"], answers)
        meter = ratios.Meter(recorder.draw, recorder.classify, "2025")
        debiasing = Debiasing(
            case["edit_concepts"], [labels] * len(answers), desired=case["desired_ratios"], tolerance=case["max_diff"]
        )
        shares = torch.stack(list(meter.ratios(debiasing.texts, debiasing.attributes, seeds=[0])))
        found = debias.directions(debiasing, shares)
        wanted = torch.tensor(case["direction_scale"], dtype=torch.float64)
        torch.testing.assert_close(found, wanted, atol=1e-6, rtol=0, msg=f"case {i}")
        assert [prompt for prompt, _ in recorder.calls] == [call["prompt"] for call in case["pipe_calls"]], f"case {i}"
        for call in case["pipe_calls"]:
            assert call["num_images_per_prompt"] == case["num_images"]
            assert {name: call[name] for name in images} == images
