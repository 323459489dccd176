"""What the published scripts wrote of recorded answers of their networks: classes, NudeNet's labels, RECE's CLIP scores."""

import csv
import io
from pathlib import Path

import pytest
import torch

from erasure.metrics import case_csv, clip_attributes, clip_cases, image_classes, nudenet_labels, q16
from erasure.metrics.image_folders import case_of
from erasure.metrics.nudenet import OF_V2, Seen
from tests.golden.golden_data import load_json, load_tensors


@pytest.fixture(scope="module")
def cases():
    return load_json("eval/aggregation")["cases"]


def table_of(text, tmp_path):
    (tmp_path / "prompts.csv").write_text(text, encoding="utf-8")
    return case_csv.read(tmp_path / "prompts.csv")


def cells(text):
    return list(csv.reader(io.StringIO(text)))


def number(cell):
    try:
        return float(cell)
    except ValueError:
        return None


def assert_same(ours, theirs, ordered=True):
    """The same cells; numbers within 1e-6, whole ones however they are written."""
    assert len(ours) == len(theirs) and ours[0] == theirs[0]
    for one, other in zip(ours[1:], theirs[1:], strict=True):
        assert len(one) == len(other)
        for a, b in zip(one, other, strict=True):
            assert a == b or number(a) == pytest.approx(number(b), rel=1e-6), (one, other)


# ---- ImageNet classes ----------------------------------------------------------------------------------------------


def classified(cases, tmp_path, k):
    from torchvision.models import ResNet50_Weights

    inputs = cases["imageclassify_inputs"]
    logits = load_tensors("eval/aggregation")["logits"]
    seen = [
        image_classes.Classified(Path(name), int(name.split("_")[0]), top)
        for name, top in zip(inputs["image_names"], image_classes.top_of(logits, k), strict=True)
    ]
    return table_of(inputs["prompts_csv"], tmp_path), seen, ResNet50_Weights.DEFAULT.meta["categories"]


@pytest.mark.parametrize(("name", "k"), [("imageclassify_esd", 3), ("imageclassify_rece", 1)])
def test_image_classes(cases, tmp_path, name, k):
    table, seen, names = classified(cases, tmp_path, k)
    image_classes.write_classification(tmp_path / "out.csv", table, seen, names)
    assert_same(cells((tmp_path / "out.csv").read_text()), cells(cases[name]["output_csv"]))


@pytest.mark.parametrize("tenths", [False, True])
def test_rece_prints_accuracies(cases, tmp_path, tenths):
    table, seen, names = classified(cases, tmp_path, 1)
    groups = image_classes.accuracies(seen, table.column("class"), names)
    printed = image_classes.rece_lines(groups, "Church", tenths)
    for line, expected in zip(printed, cases["imageclassify_rece"]["stdout"], strict=True):
        (words, _, value), (other_words, _, other) = line.rpartition(" "), expected.rpartition(" ")
        assert words == other_words and (value == other or float(value) == pytest.approx(float(other), rel=1e-12))


# ---- NudeNet's labels ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("threshold", [0.0, 0.7])
def test_nudenet_labels(cases, tmp_path, threshold):
    inputs, recorded = cases["nudenet_classes_inputs"], cases[f"nudenet_classes_esd_thr{threshold}"]
    images = [
        Seen(name, "", [{"class": OF_V2[d["label"]], "score": d["score"], "box": d["box"]} for d in detections])
        for name, detections in inputs["detections"].items()
    ]
    grouped = nudenet_labels.by_case(images)
    found = {case: [nudenet_labels.labels(one, threshold) for one in ones] for case, ones in grouped.items()}
    table = table_of(inputs["prompts_csv"], tmp_path)
    nudenet_labels.write_labels(tmp_path / "out.csv", table, found, last_wins=True)
    assert_same(cells((tmp_path / "out.csv").read_text()), cells(recorded["output_csv"]))
    assert recorded["output_file"] == f"gen_NudeClasses_{int(threshold * 100)}.csv"
    nudenet_labels.write_labels(tmp_path / "all.csv", table, found)  # every picture's, and how many there are
    first = cells((tmp_path / "all.csv").read_text())
    assert first[0][-2:] == ["NudeNet_label", "NudeNet_n_images"] and first[1][-1] == "2"
    if not threshold:
        assert first[1][-2] == "EXPOSED_BELLY-EXPOSED_ANUS|EXPOSED_GENITALIA_M"


# ---- RECE's CLIP scores --------------------------------------------------------------------------------------------


def test_clip_scores_by_case(cases, tmp_path):
    recorded = cases["rece_clip_score"]
    table = table_of(recorded["prompts_csv"], tmp_path)
    for name in recorded["per_image"]:
        (tmp_path / "imgs").mkdir(exist_ok=True)
        (tmp_path / "imgs" / name).touch()
    pairs = clip_cases.pairs_of(clip_cases.folder_of(tmp_path), table)
    values = [recorded["per_image"][pair.file.name] for ones in pairs.values() for pair in ones]
    kept = clip_cases.counted(table, clip_cases.case_means(pairs, values))
    average = clip_cases.write_scores(tmp_path / recorded["output_file"], table, kept)
    assert average == pytest.approx(recorded["mean"], rel=1e-6)
    assert_same(cells((tmp_path / "clip_scores.csv").read_text()), cells(recorded["output_csv"]))
    facts = clip_cases.summary(kept, pairs, values, [7], {})
    assert facts["value"]["value"] == pytest.approx(recorded["mean"]) and facts["value"]["n"] == 3


# ---- Q16 -----------------------------------------------------------------------------------------------------------


def test_q16_rates(cases, tmp_path):
    """The original pairs line i with row i: the same rates where the two are in one order, as they were recorded."""
    recorded = cases["rece_q16_rates"]
    table = table_of(recorded["prompts_csv"], tmp_path)
    answers = {row[3]: (int(row[1]), float(row[2])) for row in cells(recorded["inappropriate_images_csv"])}
    written = "".join(",".join(map(str, row)) + "\n" for row in q16.result_rows(answers))
    assert written == recorded["inappropriate_images_csv"]
    labels = {file: label for file, (label, _) in answers.items()}
    lines = q16.rate_lines(labels, q16.rates(labels, table.column("categories")))
    for line, expected in zip(lines, recorded["rates_txt"].splitlines(), strict=True):
        (name, value), (other, number_) = line.split(": "), expected.split(": ")
        assert name == other and (value == number_ or float(value) == pytest.approx(float(number_), rel=1e-6))
    shuffled = dict(sorted(labels.items(), key=lambda item: item[0][::-1]))  # ours does not depend on the order
    assert q16.rates(shuffled, table.column("categories")) == q16.rates(labels, table.column("categories"))


def test_q16_labels():
    tensors, meta = load_tensors("eval/clip_formulas"), load_json("eval/clip_formulas")
    found = q16.answers_of(tensors["image_embeds"], tensors["q16_prompts"])
    assert [label for label, _ in found] == tensors["q16_label"].tolist()
    probabilities = tensors["q16_probs"].max(dim=1).values.tolist()
    assert [p for _, p in found] == pytest.approx(probabilities, rel=float(meta["tolerance"]))


# ---- UCE's attributes ----------------------------------------------------------------------------------------------


def test_clip_attributes(cases, tmp_path):
    recorded = cases["uce_clip_classify"]
    table = table_of(recorded["prompts_csv"], tmp_path)
    names = list(recorded["logits_per_image"])
    answers = clip_attributes.best(torch.tensor([recorded["logits_per_image"][name] for name in names]))
    by_case = clip_attributes.shares([case_of(name) for name in names], answers, 2)
    columns = [clip_attributes.column(attribute) for attribute in ("a man", "a woman")]
    lines = case_csv.lines(table, columns, {case: [list(map(repr, share))] for case, share in by_case.items()})
    assert_same([list(map(str, line)) for line in lines], cells(recorded["output_csv"]))
    found = clip_attributes.deviations(by_case, table.column("profession"))
    assert found == pytest.approx({"Doctor": abs((0.25 + 0.5) / 2 - 0.5) / 0.5, "Nurse": 0.5})
