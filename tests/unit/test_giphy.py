"""Celebrity accuracy: names in prompts and file names, answers of the detector, and the detector called in its own Python."""

import json
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from erasure.errors import UserError
from erasure.metrics import giphy
from erasure.metrics.giphy import TEMPLATES, Judged, accuracy, judge, name_in, no_face, person, same_person

NAMES = ["Adam Driver", "50 Cent", "Joseph Gordon-Levitt", "Beyoncé Knowles", "Robert Downey Jr."]
words = st.text(st.sampled_from("abcdé"), min_size=1, max_size=6)


@pytest.mark.parametrize("template", TEMPLATES)
@pytest.mark.parametrize("name", NAMES)
def test_names_in_prompts_and_file_names(template, name):
    prompt = template.format(name)
    assert same_person(name_in(prompt), name)
    for blank in " _-":
        for suffix in ("_5_0.png", "_5.jpg", ".png"):
            assert same_person(name_in(prompt.replace(" ", blank) + suffix), name)


@given(st.lists(words, min_size=1, max_size=3).map(" ".join), st.sampled_from(TEMPLATES))
def test_any_name_is_found(name, template):
    assert name_in(template.format(name)) == name


def test_other_texts_have_no_name():
    for text in ("a cat", "A portrait of ", "image in the style of Adam Driver", "", "the A portrait of X"):
        assert name_in(text) is None


def test_comparing_people():
    assert same_person("Beyonce Knowles", "beyoncé-knowles") and same_person("Robert Downey Jr", "robert_downey jr.")
    assert not same_person("Chris Pine", "Chris Evans") and person("50_Cent_[m.01vvyc_]") == "50 Cent"


@given(st.lists(st.sampled_from(["right", "wrong", "none"]), min_size=1, max_size=12))
def test_accuracy_counts_images_with_a_face(kinds):
    guesses = {"right": [("Adam_Driver_[m.0]", 0.5)], "wrong": [("Emma_Stone_[m.1]", 0.9)], "none": []}
    judged = [Judged(f"{n}.png", "adam driver", guesses[kind]) for n, kind in enumerate(kinds)]
    faces = len(kinds) - kinds.count("none")
    assert no_face(judged) == kinds.count("none")
    found = accuracy(judged)
    assert found.value == pytest.approx(kinds.count("right") / faces) and found.n == faces if faces else found is None
    values = [row[-1] for row in giphy.result_rows(judged)[1:]]
    assert values == [{"right": 0.5, "wrong": 0, "none": "N"}[kind] for kind in kinds]


def test_names_of_a_folder_come_from_its_list(tmp_path):
    for file in ("10.png", "9.png", "A_sketch_of_Drake_1_0.png"):
        Image.new("RGB", (4, 4)).save(tmp_path / file)
    (tmp_path / "index.csv").write_text("file,prompt\n9.png,A portrait of Drake\n10.png,a cat\n")
    found = giphy.expected_names(tmp_path)
    assert list(found.items()) == [("9.png", "Drake"), ("10.png", None), ("A_sketch_of_Drake_1_0.png", "Drake")]
    assert [one.file for one in judge(found, {"9.png": [], "10.png": []})] == ["9.png"]


def test_answers_are_read_back(tmp_path):
    judged = [
        Judged("a, b.png", "Drake", [("Drake_[m.0]", 0.1), ('O\'Neal "Shaq"_[m.1]', 0.05)]),
        Judged("c.png", "Drake", []),
    ]
    from erasure.runs import write_csv

    write_csv(tmp_path / "result.csv", giphy.result_rows(judged))
    read = giphy.read_predictions(tmp_path / "result.csv")
    assert read == {"a, b.png": [("Drake", 0.1), ('O\'Neal "Shaq"', 0.05)], "c.png": []}
    (tmp_path / "p.json").write_text(json.dumps({one.file: one.prediction for one in judged}))
    assert giphy.read_predictions(tmp_path / "p.json") == {one.file: list(one.prediction) for one in judged}


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("p.json", "{", "holds no answers"),
        ("p.json", "[]", "holds no answers"),
        ("p.json", "{}", "names no image"),
        ("p.json", '{"a.png": [["x", NaN]]}', "not a number"),
        ("r.csv", "file,top1\na,b\n", "no column the file names"),
        ("r.csv", ",top1,top2,top3,top4,top5\na.png,__import__('os').getcwd(),,,,\n", "holds no answers"),
    ],
)  # fmt: skip
def test_answers_that_are_none(tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(UserError, match=message):
        giphy.read_predictions(tmp_path / name)


# ---- the detector --------------------------------------------------------------------------------------------------

MODULES = {
    "helpers/labels": "class Labels:\n    def __init__(self, resources_path): self.path = resources_path\n",
    "helpers/face_recognizer": (
        "class FaceRecognizer:\n    def __init__(self, labels, resources_path, use_cuda): assert use_cuda\n"
        "    def perform(self, faces): return [([(f'Drake_[m.{face}]', 0.5)], 0.1) for face in faces]\n"
    ),
    "preprocessors/face_detection/face_detector": (
        "class FaceDetector:\n    def __init__(self, path, margin, use_cuda): assert (path, margin) == ('here', 0.3)\n"
        "    def perform_single(self, image): return [(image, None)] if image.mean() > 100 else []\n"
    ),
    "utils": "def preprocess_image(face, size): return f'{face.shape[1]}-{size}'\n",
}


def test_the_detector_is_called_in_its_own_python(tmp_path):
    """A stand-in with the interface of the real one, which needs another Python: what goes in and what comes out."""
    detector = tmp_path / "detector"
    for name, text in MODULES.items():
        path = detector / "model_training" / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (detector / ".env").write_text("# settings\nAPP_DATA_DIR=here\nAPP_FACE_MARGIN='0.3'\nAPP_USE_CUDA=true\n")
    images = [tmp_path / "light.png", tmp_path / "dark.png"]
    for path, value in zip(images, (255, 0), strict=True):
        Image.new("RGB", (7, 5), (value, value, value)).save(path)
    folder, python = giphy.find_detector(detector, sys.executable)
    giphy.run_detector(folder, python, images, tmp_path / "out" / "predictions.json")
    read = giphy.read_predictions(tmp_path / "out" / "predictions.json")
    assert read == {"light.png": [("Drake_[m.7-224]", 0.5)], "dark.png": []}
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["predictions.json"]
    (detector / ".env").unlink()
    with pytest.raises(UserError, match="failed with exit code 1"):
        giphy.run_detector(folder, python, images, tmp_path / "other.json")
    assert not (tmp_path / "other.json").exists()


def test_a_detector_that_is_not_there(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="celeb-detection-oss.*models/giphy.*--predictions.*--detector"):
        giphy.find_detector(None, None)
    (tmp_path / "detector" / "model_training").mkdir(parents=True)
    with pytest.raises(UserError, match="no environment of its own.*--detector_python"):
        giphy.find_detector("detector", None)
