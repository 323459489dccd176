"""What a run is validated with, and what it says where it lacks something."""

import pytest
from PIL import Image

from erasure.errors import UserError
from erasure.prompt_sets import sources
from erasure.prompts import read_csv
from methods.rece.names import resolve_texts
from methods.rece.settings import ARTISTS, OBJECTS, TRAIN
from methods.rece.validation import plan_validation, write_rows

NUDITY, CHURCH = resolve_texts("nudity", "nudity"), resolve_texts("Church", "object")


@pytest.fixture
def csv(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "mine.csv"
    path.write_text("case_number,prompt,evaluation_seed\n4,a person,1\n9,a lake,2\n")
    return str(path)


def test_the_embedded_model_brings_its_own():
    plan = plan_validation(TRAIN, NUDITY, "nudity", "toy")
    assert plan.measures == "rate" and {row.extra["concept"] for row in plan.rows} == {"nude"}
    plan = plan_validation(OBJECTS, CHURCH, "object", "toy")
    shown = [row.extra["concept"] for row in plan.rows]
    assert plan.measures == "accuracy" and shown[0] == "church" and len(set(shown)) > 2
    assert {row.extra["concept_kind"] for row in plan.rows} == {"object"}
    plan = plan_validation(ARTISTS, resolve_texts("Vincent van Gogh, Kilian Eng", "art"), "art", "toy")
    assert {row.extra["concept"] for row in plan.rows} > {"van gogh", "kilian eng"}


def test_rates_and_accuracies_of_pictures(tmp_path, monkeypatch):
    """Measured by a judge that finds a church in the pictures of even cases."""
    import toyworld.judge

    class Judge:
        def predict(self, images):
            return [{"style": "photo", "subject": "church" if image[0, 0, 0] else "tench"} for image in images]

    monkeypatch.setattr(toyworld.judge, "load_judge", Judge)
    plan = plan_validation(OBJECTS, CHURCH, "object", "toy")
    for row in plan.rows:
        Image.new("RGB", (4, 4), "black" if row.case_number % 2 else "white").save(
            tmp_path / f"{row.case_number}_0.png"
        )
    target, other = plan.measure(tmp_path)
    cases = [row.case_number for row in plan.rows if row.extra["concept"] == "church"]
    assert target == sum(case % 2 == 0 for case in cases) / len(cases)
    tench = [row.case_number for row in plan.rows if row.extra["concept"] == "tench"]
    others = len(plan.rows) - len(cases)
    assert other == sum(case % 2 == 1 for case in tench) / others


def test_what_is_missing_is_said_and_the_run_goes_on(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for script, texts, kind, family, message in (
        (TRAIN, NUDITY, "nudity", "sd-v1", "dataset/validation_inappropriate.csv"),
        (ARTISTS, CHURCH, "art", "sd-v1", "dataset/validation_niche_artists.csv"),
        (TRAIN, resolve_texts("hate", "unsafe"), "unsafe", "toy", "knows none of hate"),
        (OBJECTS, resolve_texts("Church, Tench", "object"), "object", "toy", "several concepts"),
    ):
        assert plan_validation(script, texts, kind, family) is None
        out = capsys.readouterr().out
        assert out.startswith("no validation: ") and message in out and out.count("\n") == 1


def test_published_prompts_are_found(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "dataset").mkdir()
    for script in (TRAIN, ARTISTS, OBJECTS):
        (tmp_path / script.test_csv_path).write_text("prompt,evaluation_seed\na lake,1\n")
    assert plan_validation(ARTISTS, CHURCH, "art", "sd-v1").measures == "pictures"
    assert plan_validation(TRAIN, NUDITY, "nudity", "sd-v1").measures == "rate"
    assert plan_validation(TRAIN, NUDITY, "unsafe", "sd-v1") is None and "Q16" in capsys.readouterr().out
    assert plan_validation(OBJECTS, CHURCH, "object", "sd-v1") is None and "classifier" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("script", "kind", "family", "message"),
    [
        (TRAIN, "unsafe", "sd-v1", "Q16"),
        (OBJECTS, "object", "sd-v1", "classifier"),
        (TRAIN, "nudity", "toy", "no row of an erased concept"),
    ],
)
def test_prompts_that_were_named_must_be_usable(csv, script, kind, family, message):
    with pytest.raises(UserError, match=message):
        plan_validation(script, NUDITY, kind, family, csv)
    with pytest.raises(UserError, match="no such file"):
        plan_validation(script, NUDITY, kind, family, "nothing.csv")


def test_nudity_is_detected_by_nudenet(csv, tmp_path):
    plan = plan_validation(TRAIN, NUDITY, "nudity", "sd-v1", csv)
    (tmp_path / "imgs").mkdir()
    for row in plan.rows:
        Image.new("RGB", (64, 64), "green").save(tmp_path / "imgs" / f"{row.case_number}_0.png")
    assert plan.measure(tmp_path / "imgs") == 0.0


def test_rows_survive_a_file(tmp_path):
    rows = plan_validation(OBJECTS, CHURCH, "object", "toy").rows
    write_rows(rows, tmp_path / "prompts.csv")
    assert read_csv(tmp_path / "prompts.csv") == rows


def test_an_imported_set_is_the_default(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    brought = tmp_path / sources()["rece_validation_niche_artists"]["file"]
    brought.parent.mkdir(parents=True)
    brought.write_text("prompt,evaluation_seed\na lake,1\n")
    texts = resolve_texts("Kelly McKernan", "art")
    assert [row.prompt for row in plan_validation(ARTISTS, texts, "art", "sd-v1").rows] == ["a lake"]
