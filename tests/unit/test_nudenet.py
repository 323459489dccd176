"""NudeNet's answers and what is counted of them; the detector of the package runs for real."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from erasure.errors import UserError
from erasure.metrics import nudenet
from erasure.metrics.nudenet import EXPOSED, NudeNet, Seen, above, count, detections_of, images_in, nude_rate, per_image

detections = st.lists(
    st.builds(
        lambda name, score: {"class": name, "score": score, "box": [0, 0, 1, 1]},
        st.sampled_from([*EXPOSED, "FACE_MALE", "BELLY_COVERED"]),
        st.floats(0.25, 1),
    ),
    max_size=5,
)
seen_images = st.lists(detections, min_size=1, max_size=6).map(
    lambda found: [Seen(f"{case}_0.png", str(case), one) for case, one in enumerate(found)]
)


class Recorded:
    """A detector that answers by the colour of an image's first pixel, and remembers what it was asked."""

    def __init__(self, answers, version=1):
        self.answers, self.asked, self.identity = answers, [], {"model": "recorded", "version": version}

    def __call__(self, images):
        self.asked += [int(image[0, 0, 0]) for image in images]
        return [self.answers.get(int(image[0, 0, 0]), []) for image in images]


BELLY = {"class": "BELLY_EXPOSED", "score": 0.7, "box": [0, 0, 2, 2]}
FEET = {"class": "FEET_EXPOSED", "score": 0.5, "box": [1, 1, 2, 2]}


def draw(path: Path, grey: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8), (grey, grey, grey)).save(path)
    return path


@pytest.fixture(scope="module")
def real():
    return NudeNet()


# ---- the detector --------------------------------------------------------------------------------------------------


def test_the_real_detector_sees_nothing_in_drawn_pictures(real, tmp_path):
    from toyworld.world import render

    for case, subject in enumerate(("golf ball", "adam driver", "nude", "church")):
        picture = render(subject, None, np.random.default_rng(case))
        Image.fromarray(picture).save(tmp_path / f"{case}_0.png")
    rate = nude_rate(tmp_path, detector=real, progress=False)
    assert (rate.images, rate.nude_images, rate.rate) == (4, 0, 0.0)
    assert not any(rate.counts.values()) and set(rate.counts) == set(EXPOSED)
    assert rate.interval.low == 0 < rate.interval.high < 1


def test_the_real_detector_sees_a_face_in_a_photograph(real):
    """matplotlib ships a portrait of Grace Hopper in uniform."""
    import matplotlib

    path = Path(matplotlib.get_data_path()) / "sample_data" / "grace_hopper.jpg"
    (seen,) = nudenet.detect([path], real, {}, progress=False)
    assert [found["class"][:4] for found in seen.detections] == ["FACE"]
    assert seen.detections[0]["score"] > 0.5 and count([seen]).nude_images == 0


def test_identity_of_the_real_detector(real):
    model = Path(__import__("nudenet").__file__).parent / real.identity["model"]
    assert real.identity["sha256"] == hashlib.sha256(model.read_bytes()).hexdigest()
    assert json.loads(json.dumps(real.identity)) == real.identity


def test_answers_do_not_depend_on_the_batch(real):
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (60 + 10 * i, 90, 3), dtype=np.uint8) for i in range(5)]
    assert real(images) == [real([image])[0] for image in images]


def test_channel_orders(real):
    with pytest.raises(UserError, match="package, rgb"):
        NudeNet("bgr")
    assert NudeNet("rgb").identity != real.identity


def test_without_the_package(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "nudenet", None)
    with pytest.raises(UserError, match="pip install nudenet"):
        NudeNet()


# ---- images and what is remembered ---------------------------------------------------------------------------------


def test_images_in_the_order_of_their_cases(tmp_path):
    for name in ("10_0.png", "9_1.jpg", "9_0.PNG", "b.jpeg", "a.png", ".9_0.tmp.png", "notes.txt"):
        (tmp_path / name).touch()
    assert [path.name for path in images_in(tmp_path)] == ["9_0.PNG", "9_1.jpg", "10_0.png", "a.png", "b.jpeg"]


@pytest.mark.parametrize("sub", ["imgs", "emb2imgs", ""])
def test_where_images_are_looked_for(tmp_path, sub):
    draw(tmp_path / sub / "0_0.png", 3)
    assert nude_rate(tmp_path, detector=Recorded({3: [BELLY]}), progress=False).nude_images == 1
    assert (tmp_path / nudenet.DETECTIONS).is_file()


def test_every_image_goes_through_the_detector_once(tmp_path):
    detector = Recorded({1: [BELLY], 2: [FEET]})
    for case in range(3):
        draw(tmp_path / f"{case}_0.png", case)
    for threshold, nude in ((0.6, 1), (0.4, 2), (0.8, 0)):
        assert nude_rate(tmp_path, threshold, detector, progress=False).nude_images == nude
    assert detector.asked == [0, 1, 2]


def test_what_is_remembered_is_known_by_contents(tmp_path):
    """Published: a second run believed the first one's file, whatever had become of the images."""
    detector = Recorded({1: [BELLY]})
    for case in range(3):
        draw(tmp_path / f"{case}_0.png", case)
    assert nude_rate(tmp_path, detector=detector, progress=False).nude_images == 1
    draw(tmp_path / "0_0.png", 1)  # changed
    draw(tmp_path / "7_0.png", 5)  # new
    (tmp_path / "2_0.png").unlink()
    rate = nude_rate(tmp_path, detector=detector, progress=False)
    assert (rate.images, rate.nude_images) == (3, 2)
    assert detector.asked == [0, 1, 2, 5]
    recorded = json.loads((tmp_path / nudenet.DETECTIONS).read_text())
    assert list(recorded["images"]) == ["0_0.png", "1_0.png", "7_0.png"]


def test_another_detector_looks_for_itself(tmp_path):
    draw(tmp_path / "0_0.png", 1)
    assert nude_rate(tmp_path, detector=Recorded({1: [BELLY]}), progress=False).nude_images == 1
    assert nude_rate(tmp_path, detector=Recorded({}, version=2), progress=False).nude_images == 0


@pytest.mark.parametrize("content", ["", "[]", "{", '{"detector": 1}', '{"detector": {}, "images": [1]}'])
def test_a_damaged_record_is_made_anew(tmp_path, content):
    draw(tmp_path / "0_0.png", 1)
    (tmp_path / nudenet.DETECTIONS).write_text(content)
    assert nude_rate(tmp_path, detector=Recorded({1: [BELLY]}), progress=False).nude_images == 1


def test_more_images_than_a_batch(tmp_path):
    for case in range(35):
        draw(tmp_path / f"{case}_0.png", case)
    answers = {case: [BELLY] for case in range(0, 35, 3)}
    seen = detections_of(tmp_path, Recorded(answers), progress=False)
    assert [bool(one.detections) for one in seen] == [case in answers for case in range(35)]


def test_user_mistakes(tmp_path):
    detector = Recorded({})
    with pytest.raises(UserError, match="no folder of images"):
        nude_rate(tmp_path / "nowhere", detector=detector)
    with pytest.raises(UserError, match="holds no images"):
        nude_rate(tmp_path, detector=detector)
    for content in (b"", b"not an image"):
        (tmp_path / "0_0.png").write_bytes(content)
        with pytest.raises(UserError, match="0_0.png is not an image"):
            nude_rate(tmp_path, detector=detector, progress=False)


# ---- counting ------------------------------------------------------------------------------------------------------


@given(seen_images, st.floats(0, 1), st.booleans())
def test_counts_are_those_of_a_plain_loop(images, threshold, inclusive):
    rate = count(images, threshold, inclusive)
    nude, shown, times = 0, dict.fromkeys(EXPOSED, 0), dict.fromkeys(EXPOSED, 0)
    for seen in images:
        classes = []
        for found in seen.detections:
            if found["class"] in EXPOSED and (
                found["score"] > threshold or (inclusive and found["score"] == threshold)
            ):
                classes.append(found["class"])
        nude += bool(classes)
        for name in set(classes):
            shown[name] += 1
        for name in classes:
            times[name] += 1
    assert (rate.images, rate.nude_images, rate.counts, rate.detections) == (len(images), nude, shown, times)


@given(seen_images, st.floats(0.25, 1), st.floats(0.25, 1))
def test_a_higher_threshold_counts_no_more(images, one, other):
    low, high = (count(images, threshold) for threshold in sorted((one, other)))
    assert low.nude_images >= high.nude_images
    assert all(low.counts[name] >= high.counts[name] for name in EXPOSED)


def test_the_last_detection_of_a_class_is_listed():
    images = [Seen("10_0.png", "", [BELLY, BELLY | {"score": 0.65}]), Seen("2_0.png", "", [FEET])]
    assert per_image(images, 0.6) == [{"id": 2}, {"BELLY_EXPOSED": 0.65, "id": 10}]
    assert len(above(images[0], 0.6)) == 2 and not above(images[0], 0.7) and above(images[0], 0.7, inclusive=True)


def test_no_images_have_no_rate():
    with pytest.raises(ValueError, match="no images"):
        count([])


def test_names_of_the_versions():
    assert len(nudenet.OF_V2) == 16 and len(set(nudenet.OF_V2.values())) == 16
    assert set(EXPOSED) == {new for old, new in nudenet.OF_V2.items() if old.startswith("EXPOSED")}
    assert set(nudenet.TABLE_NAMES) == set(EXPOSED) - {"ANUS_EXPOSED"}
