"""From pictures to numbers: the command lines of every table parse, and cells take what the real scripts leave."""

import argparse
import csv
import json
import math
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from erasure.errors import UserError
from erasure.metrics.intervals import wilson
from erasure.metrics.nudenet import EXPOSED, TABLE_NAMES
from erasure.prompts import read_csv
from erasure.runs import ROOT
from reproduce.measures import measuring, takes
from reproduce.measures.measuring import Shown
from reproduce.results import Measured
from reproduce.tables import Images, Run, measures, tables
from tests.cli.class_pictures import draw, run
from tests.cli.process import load
from toyworld.prompts import tables_files

TABLES = tables()
MADE = {name: one for name, one in TABLES.items() if one.runs}
BASE, EDITED = Run("SD", "base"), Run("X", "uce")
RANDOM = "--allow_random_weights"


def shown_of(images: Images, base: str, model: Run, folder=Path("pictures"), prompts=Path("prompts.csv")) -> Shown:
    edited = model.method != "base"
    flags = ("--edit", "@{train/x:}") if edited else ()
    return Shown(model.name, model, images, folder, prompts, Path("base") if edited else None, flags, base)


# ---- command lines -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def parse():
    parsers: dict[str, argparse.ArgumentParser] = {}

    def parsed(line: list[str]) -> argparse.Namespace:
        script, *words = line
        parsers[script] = parsers.get(script) or load(ROOT / script).build_parser()
        return parsers[script].parse_args(words)  # leaves the process for a flag that does not exist

    return parsed


@pytest.mark.parametrize("embedded", [False, True])
def test_command_lines_of_every_table_parse(parse, embedded):
    lines = set()
    for one in MADE.values():
        for measure in one.measures(embedded):
            for images in one.drawn(embedded):
                for model in (BASE, EDITED):
                    shown = shown_of(images, "toy" if embedded else "sd-v1-4", model)
                    found = measuring.commands(measure, shown, Path("out"), {})
                    again = model is BASE and measures()[measure].get("needs_base")
                    assert bool(found) == ("script" in measures()[measure] and not again)
                    lines |= {tuple(line) for line in found}
    for line in lines:
        parse(list(line))
    scripts = {facts["script"] for facts in measures().values() if "script" in facts}
    judge = {measures()["judge"]["script"]}
    assert {line[0] for line in lines} >= (
        judge | {measures()["attack_p4d"]["script"]} if embedded else scripts - judge
    )


def test_places_of_the_users_are_passed_on(parse):
    shown = shown_of(Images("coco_30k_case", "mace"), "sd-v1-4", EDITED)
    (line,) = measuring.commands("fid", shown, Path("out"), {"coco_reference": Path("val2014")})
    assert parse(line).dir2 == "val2014" and parse(line).mode == "FID"
    (line,) = measuring.commands("fid", shown, Path("out"), {})
    assert parse(line).dir2 == "data/coco_reference"
    (line,) = measuring.commands("kid", shown, Path("out"), {"coco_reference": Path("val2014")})
    assert parse(line).dir2 == "base" and parse(line).mode == "KID"


@pytest.mark.parametrize("measure", [name for name, facts in measures().items() if "attack" in facts])
def test_settings_of_attacks_are_ones_that_they_take(parse, measure):
    from erasure.attacks.settings import KEYS, resolve

    for base, first in (("toy", 3), ("sd-v1-4", None)):
        lines = measuring.commands(
            measure, shown_of(Images("nudity_142", "rece", first=first), base, EDITED), Path("out"), {}
        )
        attacks = [parse(line) for line in lines if line[0].endswith("attack.py")]
        found = [resolve(one.config_file, {name: getattr(one, name) for name in KEYS}) for one in attacks]
        names = [one["overall"]["attacker"] for one in found]
        assert names == [measures()[measure]["attack"], *(["no_attack"] if base != "toy" else [])]
        for one in found:
            assert one["task"]["concept"] == "nudity" and one["task"]["dataset_path"] == "out/data/nudity"
            assert one["task"]["target_ckpt"] == "@{train/x:}" and one["task"]["model_name_or_path"] == base
        data = parse(lines[0])
        assert data.df_length == first and data.only_shown == (base == "toy")
    assert found[0]["overall"]["task"] == ("P4D" if measure == "attack_p4d" else "classifier")


def test_a_model_of_several_edits_is_not_attacked():
    several = replace(
        shown_of(Images("nudity_142", "rece"), "toy", EDITED), model_flags=("--edit", "a", "--without", "b")
    )
    with pytest.raises(UserError, match="only a model of one edit can be attacked"):
        measuring.commands("attack_p4d", several, Path("out"), {})


# ---- what cells are over -------------------------------------------------------------------------------------------

ROWS = ("case_number,prompt,evaluation_seed,class,artist,type,categories", *(
    f'{n},{prompt},1,{name},{artist},{n % 2},"{categories}"' for n, (prompt, name, artist, categories) in enumerate((
        ("a church", "church", "Ajin: Demi Human", "sexual, hate"), ("a Golf Ball", "golf ball", "x", "violence"),
        ("VanGogh", "English springer", "Van Gogh", "hate"), ("chain saw", "chain saw", "Kelly McKernan", "sexual"),
    ))
))  # fmt: skip


@pytest.fixture
def judged(tmp_path):
    """A prompt file, and a per-image CSV of a measure whose number of a picture is its case number."""
    prompts = tmp_path / "prompts.csv"
    prompts.write_text("\n".join(ROWS) + "\n")
    (tmp_path / "p_lpipsloss_per_image.csv").write_text(
        "case_number,original,edited,lpips\n" + "".join(f"{n},a/{n}_0.png,b/{n}_0.png,{n}.0\n" for n in range(4))
    )
    return shown_of(Images("here.csv", "esd"), "sd-v1-4", EDITED, tmp_path, prompts), tmp_path


@pytest.mark.parametrize(
    ("cell", "row", "value"),
    [
        ({}, {}, 1.5),
        ({"of": {"class": "{method}"}}, {"method": "Golf ball"}, 1),
        ({"but": {"class": "{method}"}}, {"method": "english springer"}, 4 / 3),
        ({"of": {"artist": "{erased}"}}, {"erased": "Ajin: Demi Human"}, 0),
        ({"of": {"class": "{erased}"}, "times": 100}, {"erased": ["church", "chain saw"]}, 150),
        ({"of": {"prompt": "{part}"}, "part": "Van Gogh"}, {}, 2),
        ({"of": {"type": 1}}, {}, 2),
        ({"of": {"categories": "sexual"}}, {}, 1.5),
        ({"of": {"categories": "hate", "type": 0}}, {}, 1),
        ({"prompts": "here.csv", "of": {"class": "church"}}, {}, 0),
    ],
)
def test_a_number_is_over_the_rows_that_its_cell_names(judged, cell, row, value):
    found = takes.take(cell, "lpips", row, [judged])
    assert found.value == pytest.approx(value) and found.low <= found.value <= found.high


@pytest.mark.parametrize(
    ("cell", "what"),
    [
        ({"of": {"painter": "x"}}, "no column painter"),
        ({"of": {"class": "{erased}"}}, "which erased it is about is not known of this model"),
        ({"of": {"class": "tench"}}, "no picture is of a prompt that it is over"),
        ({"prompts": "there.csv"}, "no images of there.csv were drawn"),
    ],
)
def test_what_is_missing_is_said(judged, cell, what):
    with pytest.raises(UserError, match=what):
        takes.take(cell, "lpips", {}, [judged])


def test_sets_without_such_rows_do_not_count(judged, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    (other / "prompts.csv").write_text("case_number,prompt,evaluation_seed,artist\n0,x,1,Picasso\n")
    (other / "p_lpipsloss_per_image.csv").write_text("case_number,original,edited,lpips\n0,a/0_0.png,b/0_0.png,100\n")
    more = (replace(judged[0], prompts=other / "prompts.csv"), other)
    cell = {"but": {"artist": "Van Gogh"}}
    assert takes.take(cell, "lpips", {}, [judged, more]).value == pytest.approx((0 + 1 + 3 + 100) / 4)
    assert takes.take({**cell, "same_set": True}, "lpips", {}, [judged, more]).value == pytest.approx(4 / 3)


def test_concepts_are_those_that_the_model_was_trained_on(judged, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "settings.json").write_text(json.dumps({"concepts": ["Kelly McKernan", "Van Gogh"]}))
    shown = replace(judged[0], trainings=(tmp_path / "run",))
    assert takes.take({"of": {"artist": "{concepts}"}}, "lpips", {}, [(shown, judged[1])]).value == pytest.approx(2.5)


# ---- formulas ------------------------------------------------------------------------------------------------------

SHARE = st.floats(0, 1).map(lambda x: round(x, 4))


@given(SHARE, SHARE, SHARE, st.sampled_from([1, 100]))
def test_scores_are_those_of_the_formulas(erased, kept, synonyms, times):
    numbers = {"a": erased, "b": kept, "c": synonyms}
    others = {
        name: Measured(times * x, times * max(0, x - 0.1), times * min(1, x + 0.1), 5) for name, x in numbers.items()
    }
    roles = {"erased": "a", "kept": "b", "synonyms": "c"}
    for formula, parts in (("h_c", [1 - erased, kept]), ("h_o", [1 - erased, kept, 1 - synonyms])):
        cell = {"formula": formula, "from": dict([*roles.items()][: len(parts)]), "times": times}
        found = takes.take(cell, "harmonic", {}, [], others)
        expected = len(parts) / sum(1 / x for x in parts) if all(parts) else 0
        assert found.value == pytest.approx(times * expected, abs=1e-9)
        assert found.low <= found.value + 1e-9 and found.value <= found.high + 1e-9 and found.n == 5 * len(parts)
    difference = takes.take({"formula": "h_a", "from": {"erased": "a", "kept": "b"}}, "harmonic", {}, [], others)
    assert (
        difference.value == pytest.approx(times * (kept - erased))
        and difference.low <= difference.value <= difference.high
    )


def test_a_score_says_which_column_it_lacks():
    cell = TABLES["mace:artists"].metrics["h_a"]
    with pytest.raises(UserError, match="numbers of clip_e, which are not here"):
        takes.take(cell, "harmonic", {}, [])
    found = takes.take(cell, "harmonic", {}, [], {"clip_e": Measured(29.63), "clip_s": Measured(28.9)})
    assert found.value == pytest.approx(-0.73)  # as printed of FMN


BOXES = st.lists(st.lists(st.integers(0, 3), min_size=len(EXPOSED), max_size=len(EXPOSED)), min_size=1, max_size=6)


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(BOXES, st.sampled_from([*TABLE_NAMES.values(), "Total"]))
def test_parts_are_counted_by_images_or_boxes(tmp_path, boxes, label):
    with open(tmp_path / "nudity_detected_per_image.csv", "w", newline="") as file:
        csv.writer(file).writerows([["file", *EXPOSED], *([f"{n}_0.png", *row] for n, row in enumerate(boxes))])
    (tmp_path / "nudity_detected.summary.json").write_text("{}")
    taken = [(shown_of(Images("i2p", "esd"), "sd-v1-4", EDITED), tmp_path)]
    table = np.array(boxes)
    for counting, counts in (("boxes", table), ("images", table > 0)):
        labels = {title: counts[:, EXPOSED.index(name)].sum() for name, title in TABLE_NAMES.items()}
        labels["Total"] = sum(labels.values())
        found = takes.take({"label": label, "counting": counting}, "nudenet_parts", {}, taken)
        assert found.value == pytest.approx(labels[label]) and found.n == len(boxes)
        assert found.low <= found.value <= found.high


# ---- real scripts --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Pictures of four rows by two models: two classes, two rows each."""
    folder = tmp_path_factory.mktemp("place")
    rows = ["case_number,prompt,evaluation_seed,class,categories,profession"]
    for case in range(4):
        name = ("church", "golf ball")[case // 2]
        rows.append(f"{case},{name},1,{name},{('sexual', 'hate')[case % 2]},{name}")
        draw(folder / "base" / f"{case}_0.png", case // 2, 2, case, size=(64, 64))
        draw(folder / "pictures" / f"{case}_0.png", case // 2, 5, case, size=(64, 64))
    (folder / "prompts.csv").write_text("\n".join(rows) + "\n")
    return folder


def measured(place: Path, measure: str, model: Run = EDITED):
    """(pictures, folder) after the measure's commands have run with random weights where they can."""
    shown = shown_of(Images("here", "sepce"), "sd-v1-4", model, place / "pictures", place / "prompts.csv")
    shown = replace(shown, base_folder=shown.base_folder and place / "base")
    out = place / f"out-{measure}"
    for script, *words in measuring.commands(measure, shown, out, {"coco_reference": place / "base"}):
        random = [RANDOM] if RANDOM in load(ROOT / script).build_parser().format_help() else []
        done = run(ROOT / script, *words, *random, cwd=place)
        assert done.returncode == 0, done.stderr
    return shown, out


def summary_of(out: Path, pattern: str) -> dict:
    (path,) = out.glob(pattern)
    return json.loads(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("measure", ["lpips", "lpips_rece"])
def test_lpips(place, measure):
    taken = [measured(place, measure)]
    content = summary_of(taken[0][1], "*.summary.json")
    found = takes.take({}, measure, {}, taken)
    assert found.value == pytest.approx(content["value"]["value"]) and found.n == 4
    assert "random weights: the number means nothing" in found.definition and Path(found.source).is_file()
    parts = [
        takes.take({"of": {"prompt": "{part}"}, "part": name}, measure, {}, taken).value
        for name in ("Church", "golf ball")
    ]
    assert np.mean(parts) == pytest.approx(found.value)
    base = takes.take({}, measure, {}, [(replace(taken[0][0], base_folder=None), place)])
    assert base.value == 0 and base.definition


def test_imagenet_accuracy_and_what_is_lost_of_it(place):
    taken = [measured(place, "imagenet_accuracy")]
    content = summary_of(taken[0][1], "edited.summary.json")
    own = takes.take({"of": {"class": "{method}"}, "times": 100}, "imagenet_accuracy", {"method": "Church"}, taken)
    assert own.value == 100 * content["per_group"]["church"]["value"] and own.n == 2
    for before, after, lost in ((0, 0, None), (4, 1, 75)):  # random weights see no church
        for name, right in (("edited", after), ("original", before)):
            summary = content | {"value": wilson(right, 4).as_dict()}
            (taken[0][1] / f"{name}.summary.json").write_text(json.dumps(summary))
        if lost is None:
            with pytest.raises(UserError, match="has nothing of it that could be gone"):
                takes.take({}, "imagenet_drop", {}, taken)
        else:
            assert takes.take({"times": 100}, "imagenet_drop", {}, taken).value == pytest.approx(lost)


def test_numbers_of_imagenet_stand_for_classes(place, tmp_path):
    """As SepCE's imagenet_prompts.csv has them."""
    from torchvision.models import ResNet50_Weights

    from erasure.metrics import case_csv, image_classes

    (tmp_path / "p.csv").write_text("case_number,prompt,evaluation_seed,label_idx\n0,a,1,497\n1,b,1,574\n")
    names = ResNet50_Weights.DEFAULT.meta["categories"]
    assert image_classes.asked_for(case_csv.read(tmp_path / "p.csv"), names) == {0: "church", 1: "golf ball"}
    (tmp_path / "p.csv").write_text("case_number,prompt,evaluation_seed,label_idx\n0,a,1,1000\n")
    with pytest.raises(UserError, match="label_idx '1000' is no class from 0 to 999"):
        image_classes.asked_for(case_csv.read(tmp_path / "p.csv"), names)


def test_object_accuracy_class_by_class(place):
    taken = [measured(place, "object_accuracy")]
    content = summary_of(taken[0][1], "*_cate_cls.summary.json")
    for part, number in (("church", "1"), ("golf ball", "6")):
        found = takes.take({"of": {"prompt": "{part}"}, "part": part, "times": 100}, "object_accuracy", {}, taken)
        assert found.value == 100 * content["per_group"][number]["value"] and found.n == 2


def test_nudenet_by_images_and_boxes(place):
    taken = [measured(place, "nudenet_images")]
    content = summary_of(taken[0][1] / "edited", "*.summary.json")
    found = takes.take({"count": True, "differs": "another network"}, "nudenet_images", {}, taken)
    assert found.value == content["nude_images"] and found.definition.endswith("another network")
    assert found.high == pytest.approx(4 * wilson(content["nude_images"], 4).high)
    taken = [measured(place, "nudenet_parts")]
    content = summary_of(taken[0][1], "*.summary.json")
    for label, boxes in {**content["table"], "Total": content["total"]["value"]}.items():
        assert takes.take({"label": label, "counting": "boxes"}, "nudenet_parts", {}, taken).value == boxes
    points = measuring.curve("nudenet_images", *taken[0])
    assert [t for t, _ in points] == sorted(t for t, _ in points) and points[-1][1] <= points[0][1] <= 1


def test_q16_or_nudenet(place):
    """The classifier's file as q16_eval.py leaves it; NudeNet's is real, with a part put into one picture."""
    from erasure import runs
    from erasure.metrics import q16

    shown, out = measured(place, "nudenet_parts")
    copied = place / "out-q16"
    shutil.copytree(out, copied)
    labels = {f"{case}_0.png": int(case in (0, 1)) for case in range(4)}
    runs.write_csv(
        copied / q16.RESULTS / "per_image.csv",
        [["file", "inappropriate", "probability"], *([f, n, 1] for f, n in labels.items())],
    )
    runs.write_json(copied / q16.RESULTS / "q16.summary.json", q16.summary(labels, {}, {}))
    rows = [*csv.reader(open(copied / "nudity_detected_per_image.csv"))]
    rows[1 + 2][1 + EXPOSED.index("BUTTOCKS_EXPOSED")] = "2"
    rows[1 + 3][1 + EXPOSED.index("FEET_EXPOSED")] = "1"  # none of the five
    runs.write_csv(copied / "nudity_detected_per_image.csv", rows)
    assert takes.take({"times": 100}, "q16", {}, [(shown, copied)]).value == pytest.approx(75)
    sexual = takes.take({"of": {"categories": "sexual"}}, "q16", {}, [(shown, copied)])
    assert (sexual.value, sexual.n) == (1, 2)


def test_celebrities_are_over_pictures_with_a_face(place, tmp_path):
    from erasure import runs
    from erasure.metrics import giphy

    names = {f"{n}_0.png": "Adam Driver" for n in range(4)}
    answers = {f: [[("Adam_Driver_[m.1]", 0.9)], [], [("Bob_[m.2]", 0.5)]][n % 3] for n, f in enumerate(names)}
    judged = giphy.judge(names, answers)
    runs.write_csv(tmp_path / "result.csv", giphy.result_rows(judged))
    runs.write_json(tmp_path / "result.summary.json", giphy.summary(judged, [], [], {}))
    shown = shown_of(Images("here", "mace"), "sd-v1-4", EDITED, place / "pictures", place / "prompts.csv")
    found = takes.take({"times": 100}, "giphy_accuracy", {}, [(shown, tmp_path)])
    assert (found.value, found.n) == (pytest.approx(200 / 3), 3) and found.low < found.value < found.high


def test_class_fid(place):
    """FID_eval.py with random weights on sorted pictures; other FID commands are tested with their scripts."""
    taken = [measured(place, "object_fid")]
    content = summary_of(taken[0][1], "*_fid_classes.summary.json")
    found = {part: takes.take({"part": part}, "object_fid", {}, taken) for part in ("church", "golf ball")}
    assert found["church"].value == content["per_group"]["1"]["value"] and found["church"].n == 2
    assert found["golf ball"].value == content["per_group"]["6"]["value"] > 0 and found["golf ball"].low is None
    with pytest.raises(UserError, match="no pictures of class 3, tench"):
        takes.take({"part": "tench"}, "object_fid", {}, taken)


# ---- the embedded model --------------------------------------------------------------------------------------------


def test_prompts_of_the_tables_are_as_they_were_made():
    for path, text in tables_files().items():
        assert path.read_text(encoding="utf-8") == text


@pytest.fixture(scope="module")
def judgements(tmp_path_factory):
    """The judge on pictures of the renderer: nude ones are drawn as clothed in all but one of twelve."""
    from PIL import Image

    from toyworld.world import render

    folder = tmp_path_factory.mktemp("toy")
    prompts = ROOT / "generation_prompts" / "embedded" / "tables_nude.csv"
    (folder / "pictures").mkdir()
    for n, row in enumerate(read_csv(prompts)):
        kind, concept = row.extra["concept_kind"], row.extra["concept"]
        style, subject = (concept, "church") if kind == "style" else (None, concept)
        subject = "clothed" if subject == "nude" and n else subject
        picture = render(subject, style, np.random.default_rng(n))
        Image.fromarray(picture).save(folder / "pictures" / f"{row.case_number}_0.png")
    images = Images("generation_prompts/embedded/tables_nude.csv", "toy-fast")
    shown = shown_of(images, "toy", EDITED, folder / "pictures", prompts)
    (line,) = measuring.commands("judge", shown, folder / "out", {})
    done = run(ROOT / line[0], *line[1:], cwd=folder)
    assert done.returncode == 0, done.stderr
    return shown, folder / "out"


def test_erased_and_kept_are_all_pictures(judgements):
    shown, out = judgements
    metrics, row = TABLES["esd:nudity"].embedded["metrics"], {"method": "ESD-u", "erased": ["nude"]}
    erased, kept = (takes.take(metrics[f"shown_{name}"], "judge", row, [judgements]) for name in ("erased", "kept"))
    content = summary_of(out, "*_judge.summary.json")
    assert erased.n == 12 and kept.n == 28 and erased.value < 0.3 < 0.8 < kept.value
    assert erased.value == content["concepts"]["figure"]["nude"]["value"]
    assert erased.value * 12 + kept.value * 28 == pytest.approx(content["value"]["value"] * 40)
    assert (erased.low, erased.high) == tuple(
        pytest.approx(x) for x in (wilson(round(12 * erased.value), 12).low, wilson(round(12 * erased.value), 12).high)
    )
    points = measuring.curve("judge", shown, out, ["nude"])
    assert points[0] == (0.0, pytest.approx(erased.value)) and sorted(points, key=lambda p: -p[1]) == points
    assert measuring.curve("judge", shown, out)[0][1] == pytest.approx(content["value"]["value"])


@pytest.mark.parametrize("rate", ["asr", "pre_asr"])
def test_rates_of_attacks_are_those_of_the_published_form(tmp_path, rate):
    """From logs as check_asr.py reads them, and from the attack's own summary where it ran alone."""
    from erasure.attacks.command import summarised

    unattacked, attacked = [True, False, False, False], [[True], [False, True], [False, False], [False, False]]
    out, results = tmp_path / "out", []
    for n, (before, log) in enumerate(zip(unattacked, attacked, strict=True)):
        for root, entries in ((measuring.NO_ATTACK, [before]), (measuring.ATTACK, log)):
            entry = [{"success": s, "relative_time": "0:00:01"} for s in entries]
            folder = out / root / f"attack_idx_{n}"
            folder.mkdir(parents=True)
            (folder / "log.json").write_text(json.dumps(entry))
        results.append({"pre_success": log[0], "success": any(log), "seconds": 1})
    shown = shown_of(Images("nudity_142", "rece"), "sd-v1-4", EDITED)
    cell = {"rate": rate, "times": 100} if rate == "pre_asr" else {"times": 100}
    (out / measuring.ATTACK / "asr.summary.json").write_text(json.dumps(summarised(results, {})))
    alone = takes.take(cell, "attack_p4d", {}, [(shown, out)])
    line = measuring.commands("attack_p4d", shown, out, {})[-1]
    assert run(ROOT / line[0], *line[1:], cwd=tmp_path).returncode == 0
    found = takes.take(cell, "attack_p4d", {}, [(shown, out)])
    assert found.value == alone.value == (50 if rate == "asr" else 25) and found.n == 4
    assert (found.low, found.high) == (alone.low, alone.high) and found.source.endswith("check_asr.json")


# ---- trainings -----------------------------------------------------------------------------------------------------


def trained(*folders: Path) -> list:
    return [(replace(shown_of(Images("", "toy"), "toy", EDITED), trainings=folders), Path("nowhere"))]


def test_durations_are_those_of_the_steps(tmp_path):
    for name, taken in (("a", 2.5), ("b", 4)):
        (tmp_path / name / "models" / "run").mkdir(parents=True)
        (tmp_path / name / "step.json").write_text(json.dumps({"seconds": taken}))
    folders = [tmp_path / name / "models" / "run" for name in "ab"]
    assert takes.take({}, "seconds", {}, trained(*folders)).value == 6.5
    assert takes.take({}, "seconds", {}, trained(folders[0], folders[0].parent / "other")).value == 2.5  # one command
    with pytest.raises(UserError, match="was not trained"):
        takes.take({}, "seconds", {}, trained())
    with pytest.raises(UserError, match="no step.json"):
        takes.take({}, "seconds", {}, trained(tmp_path / "c"))


def test_share_of_weights_that_an_edit_changes(tmp_path):
    import torch

    from erasure import edits
    from erasure.checkpoint_files import shapes

    toy = "models/toy/toy-v1.safetensors"
    unet = {
        n.removeprefix("model.diffusion_model."): math.prod(s)
        for n, s in shapes(ROOT / toy).items()
        if n.startswith("model.diffusion_model.")
    }
    names = [name for name in unet if name.endswith(("attn2.to_k.weight", "attn2.to_v.weight"))]
    some = {name: torch.zeros(shapes(ROOT / toy)["model.diffusion_model." + name]) for name in names[:2]}
    for folder, kind, tensors, expected in (
        ("tensors", "tensors", some, sum(unet[name] for name in names[:2])),
        ("map", "context_map", {"delta": torch.zeros(96, 96)}, sum(unet[name] for name in names)),
    ):
        edits.save_run(edits.Edit("uce", ["x"], {}, {"path": toy}, tensors, kind), tmp_path / folder)
        found = takes.take({"times": 100}, "modified_share", {}, trained(tmp_path / folder))
        assert found.value == pytest.approx(100 * expected / sum(unet.values())) and 0 < found.value < 20
    with pytest.raises(UserError, match=r"no edit.safetensors in"):
        takes.take({}, "modified_share", {}, trained(tmp_path))


@given(
    st.lists(st.lists(SHARE, min_size=1, max_size=3), min_size=1, max_size=4).filter(lambda r: len({*map(len, r)}) == 1)
)
@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_deviation_is_that_of_the_last_round(tmp_path, rounds):
    ratios = [[[share, 1 - share] for share in texts] for texts in rounds]
    (tmp_path / "ratios.json").write_text(json.dumps({"ratios": ratios}))
    for cell, texts in (({}, rounds[-1]), ({"before": True}, rounds[0])):
        found = takes.take(cell, "attribute_deviation", {}, trained(tmp_path))
        assert found.value == pytest.approx(np.mean([abs(share - 0.5) / 0.5 for share in texts]))


# ---- every cell ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MADE)
def test_every_cell_says_what_it_lacks_where_nothing_was_measured(name, tmp_path):
    """No cell of any table fails but with words, on either base."""
    one = MADE[name]
    for embedded in (False, True):
        metrics = (one.embedded or {}).get("metrics", {}) if embedded else one.metrics
        drawn = [images for images in one.drawn(embedded)] or [Images("", "esd")]
        for metric in metrics.values():
            for what in metric.get("parts", {"": metric}).values():
                shown = [
                    (shown_of(i, "sd-v1-4", EDITED, tmp_path, ROOT / "data/quickstart.csv"), tmp_path / str(n))
                    for n, i in enumerate(drawn)
                ]
                with pytest.raises(UserError) as error:
                    takes.take({**what, "part": "church"}, what["measure"], {"method": "church", "erased": "x"}, shown)
                assert len(str(error.value)) > 10
