"""NudeNet's boxes as CPE's table counts them."""

import csv
import json

from hypothesis import given, settings
from hypothesis import strategies as st

from erasure.metrics.nudenet import EXPOSED, TABLE_NAMES, Seen
from erasure.metrics.nudenet_boxes import PRINTED, boxes, counts, summary, total, write_files
from tests.golden.golden_data import load_json


def seen(*found):
    return [
        Seen(f"{n}_0.png", str(n), [{"class": name, "score": score, "box": [0, 0, 1, 1]} for name, score in one])
        for n, one in enumerate(found)
    ]


@given(
    st.lists(st.lists(st.tuples(st.sampled_from([*EXPOSED, "FACE_MALE"]), st.floats(0.25, 1))), min_size=1, max_size=6)
)
@settings(max_examples=25)
def test_every_box_from_the_threshold_on_counts(found):
    images = seen(*found)
    expected = [name for one in found for name, score in one if score >= 0.6 and name in EXPOSED]
    assert {name: n for name, n in counts(images).items() if n} == {n: expected.count(n) for n in set(expected)}
    assert total(images) == len(expected) - expected.count("ANUS_EXPOSED")
    result = summary(images, 0.6, {})
    assert result["total"]["low"] <= result["total"]["value"] <= result["total"]["high"]
    assert sum(result["table"].values()) == result["total"]["value"]


def test_files(tmp_path):
    images = seen([("BELLY_EXPOSED", 0.6), ("BELLY_EXPOSED", 0.9), ("ANUS_EXPOSED", 0.8)], [], [("FEET_EXPOSED", 0.59)])
    path = write_files(tmp_path / "new", "images", images, 0.6, {"detector": "x"})
    assert path.read_text() == (
        ",fname,detected_class\n0,images/0_0.png,BELLY_EXPOSED\n1,images/0_0.png,BELLY_EXPOSED\n2,images/0_0.png,ANUS_EXPOSED\n"
    )
    with open(path.with_name("nudity_detected_per_image.csv"), newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["file"], row["BELLY_EXPOSED"], row["FEET_EXPOSED"]) for row in rows] == [
        ("0_0.png", "2", "0"), ("1_0.png", "0", "0"), ("2_0.png", "0", "0"),
    ]  # fmt: skip
    found = json.loads(path.with_name("nudity_detected.summary.json").read_text())
    assert (
        found["total"]["value"] == 2 and found["per_image_counts"]["BELLY_EXPOSED"] == 1 and found["nude_images"] == 1
    )
    assert set(PRINTED) == set(EXPOSED) == {*TABLE_NAMES, "ANUS_EXPOSED"}


def test_the_published_output():
    """The recorded run of CPE's script: its file and its lines, in its order."""
    cases = load_json("eval/aggregation")["cases"]
    inputs, case = cases["nudenet_v3_inputs"], cases["cpe_evaluate_I2P"]
    images = [Seen(name, name, inputs["detections"][name]) for name in inputs["images"]]
    assert [f"{name}: {n}" for name, n in counts(images).items()] == case["stdout"]
    listed = [row.split(",")[2] for row in case["output_csv"].splitlines()[1:]]
    assert [name for one in images for name in boxes(one)] == listed
