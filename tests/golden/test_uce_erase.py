"""UCE's erasure against runs of both published programs: weights, and what their command lines come to."""

import pytest

from methods.uce import train_erase
from methods.uce.erase import Erasure, context_map, edited_weights
from methods.uce.run import chosen_layers, edited_in_turn, erasures, published_order
from methods.uce.settings import UceSettings
from tests.golden.uce_texts import assert_weights, load, results

FILES_2023 = ("uce_erase_2023", "uce_erase_2023_clip_scale", "uce_erase_2023_many")
TOLERANCES = ((True, 1e-9), (False, 1e-3))  # golden/uce/README.md: float64 runs, float32 runs


def erasure_of(case) -> Erasure:
    """Published details: an empty guide became a space, and no texts to retain were the empty one."""
    guides = [guide or " " for guide in case["new"]]
    return Erasure(
        list(zip(case["old"], guides, strict=True)),
        case["retain"] or [""],
        technique=case["technique"],
        lamb=case["lamb"],
        erase_scale=case["erase_scale"],
        preserve_scale=case["preserve_scale"],
    )


def layers_of(case, old):
    layers = case.get("layers_to_edit")
    return chosen_layers(old, case.get("with_to_k", True), layers and tuple(layers))


@pytest.mark.parametrize("name", FILES_2023)
def test_layer_by_layer(name):
    meta, tensors, texts, old = load(name)
    for i, case in enumerate(meta["cases"]):
        weights = {key: old[key] for key in layers_of(case, old)}
        found = edited_weights(erasure_of(case), texts, weights)[0]
        assert len(found) == case["changed_keys"]
        for double, tolerance in TOLERANCES:
            assert_weights(found, results(tensors, i, double), tolerance, f"{name} case {i}")


@pytest.mark.parametrize("name", FILES_2023)
def test_one_map_for_all_layers(name):
    meta, tensors, texts, old = load(name)
    cases = [(i, case) for i, case in enumerate(meta["cases"]) if case["technique"] == "replace"]
    assert cases
    for i, case in cases:
        found = context_map(erasure_of(case), texts)[0]
        weights = {key: found.applied(old[key]) for key in layers_of(case, old)}
        for double, tolerance in TOLERANCES:
            assert_weights(weights, results(tensors, i, double), tolerance, f"{name} case {i}")


def test_positions_of_layers():
    meta, _, _, old = load("uce_erase_2023")
    assert published_order(old) == published_order(reversed(list(old))) == meta["layer_order"]


def test_the_2025_program():
    """From its command line to the file that it wrote."""
    meta, tensors, texts, old = load("uce_erase_2025_cli")
    for i, case in enumerate(meta["cases"]):
        flags = train_erase.build_parser().parse_args([*case["argv"], "--variant", "2025"])
        settings = UceSettings.of(flags)
        plan = settings.plan(artists=())
        assert [pair.text for pair in plan.pairs] == case["edit_concepts"]
        assert [pair.guide for pair in plan.pairs] == case["guide_concepts"]
        assert list(plan.preserved) == case["preserve_concepts"]
        numbers = (settings.erase_scale, plan.preserve_scale, settings.lamb)
        assert numbers == (case["erase_scale"], case["preserve_scale"], case["lamb"])
        assert sorted(chosen_layers(old)) == sorted(case["output_keys_in_file"])
        (erasure,) = erasures(settings, plan)
        shared = context_map(erasure, texts)[0]
        by_map = {key: shared.applied(weight) for key, weight in old.items()}
        for found in (edited_in_turn([erasure], texts, old)[0], by_map):
            for double, tolerance in TOLERANCES:
                assert_weights(found, results(tensors, i, double), tolerance, f"case {i}")
