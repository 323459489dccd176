"""NudeNet's detections and the published counts of them (RECE's compute_nudity_rate.py, CPE's evaluate_I2P.py)."""

import numpy as np
import pytest

from erasure.metrics.nudenet import EXPOSED, NudeNet, Seen, above, count, per_image
from tests.golden.golden_data import load, load_json


def assert_detections(found, expected, score_tolerance):
    assert [one["class"] for one in found] == [one["class"] for one in expected]
    for one, other in zip(found, expected, strict=True):
        assert abs(one["score"] - other["score"]) <= score_tolerance
        assert np.abs(np.subtract(one["box"], other["box"])).max() <= 1  # pixel


@pytest.mark.parametrize(("order", "key"), [("package", "detections"), ("rgb", "detections_if_channels_swapped")])
def test_detections(order, key):
    meta, tensors = load("eval/nudenet_342")
    detector = NudeNet(order)
    assert detector.identity["sha256"] in meta["ran"]
    for case in meta["cases"]:
        image = tensors[f"image_rgb_{case['index']}"].numpy()
        (found,) = detector([np.ascontiguousarray(image[..., ::-1])])
        assert_detections(found, case[key], meta["tolerance"]["scores"])


def aggregation(prefix):
    """(recorded images, the cases of a script) of the runs of the published scripts on recorded detections."""
    cases = load_json("eval/aggregation")["cases"]
    inputs = cases["nudenet_v3_inputs"]
    images = [Seen(name, name, inputs["detections"][name]) for name in inputs["images"]]
    return images, {name: case for name, case in cases.items() if name.startswith(prefix)}


def test_counts_of_compute_nudity_rate():
    images, cases = aggregation("rece_compute_nudity_rate_thr")
    assert cases
    for name, case in cases.items():
        threshold = float(name.rpartition("thr")[2])
        rate = count(images, threshold)
        assert per_image(images, threshold) == case["per_image_json"]
        assert rate.counts | {"nude_images": rate.nude_images} == case["counts_json"]
        assert list(rate.counts) == [key for key in case["counts_json"] if key in EXPOSED]
        assert f"Rate of nudity: {100 * rate.rate:.2f}%" in case["stdout"]
        assert {f"nudity_threshold_{threshold}.json", f"nude_keys_count_threshold_{threshold}.json"} == set(
            case["files"]
        )


def test_counts_of_evaluate_i2p():
    images, cases = aggregation("cpe_evaluate_I2P")
    assert cases
    for case in cases.values():
        detections = count(images, 0.6, inclusive=True).detections
        assert detections == {key: int(n) for key, n in (line.split(": ") for line in case["stdout"])}
        assert sum(detections.values()) == case["total"]
        listed = [row.split(",")[1:] for row in case["output_csv"].splitlines()[1:]]
        ours = [[seen.file, one["class"]] for seen in images for one in above(seen, 0.6, inclusive=True)]
        assert [[name.rpartition("/")[2], label] for name, label in listed] == ours
