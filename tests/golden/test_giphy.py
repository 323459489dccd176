"""CPE's celebrity accuracy on recorded answers of GIPHY's detector, and MACE's harmonic means."""

import ast
import csv
import io

import pytest

from erasure.metrics.giphy import accuracy, judge, name_in, no_face, person, result_rows
from erasure.metrics.harmonic import celebrity_score, object_score
from tests.golden.golden_data import load_json


@pytest.fixture(scope="module")
def case():
    return load_json("eval/aggregation")["cases"]["cpe_giphy"]


def judged(case):
    files = sorted(case["predictions_top5_of_first_face"])
    answers = {file: [tuple(guess) for guess in case["predictions_top5_of_first_face"][file]] for file in files}
    return judge({file: name_in(file) for file in files}, answers)


def test_accuracy(case):
    found = judged(case)
    without, value = case["stdout"]
    assert len(found) == len(case["predictions_top5_of_first_face"])
    assert without == f"Total number of images with no faces detected: {no_face(found)}"
    assert accuracy(found).value == pytest.approx(float(value))


def test_result_csv(case):
    ours = result_rows(judged(case))
    published = list(csv.reader(io.StringIO(case["output_csv"])))
    assert ours[0] == published[0] and len(ours) == len(published)
    by_file = {row[0]: row for row in ours[1:]}
    for file, *cells, value in published[1:]:
        assert by_file[file][1:6] == cells
        assert str(by_file[file][6]) == value or float(by_file[file][6]) == pytest.approx(float(value))
        assert all(person(ast.literal_eval(cell)[0]) == ast.literal_eval(cell)[0] for cell in cells if cell)


def test_names_as_the_generator_writes_them(case):
    for file in case["predictions_top5_of_first_face"]:
        name = name_in(file)
        assert name and name_in(file.replace("-", "_")) == name == name_in(file.replace("-", " "))


def test_harmonic_means():
    case = load_json("eval/aggregation")["cases"]["mace_harmonic"]
    for erased, kept, synonyms, value in case["H0"]:
        assert object_score(erased, kept, synonyms) == pytest.approx(value, rel=1e-6)
    for erased, kept, value in case["Hc"]:
        assert celebrity_score(erased, kept) == pytest.approx(value, rel=1e-6)
