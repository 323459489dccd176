"""Sets that others wrote are checked, put in place, and others made of them; on files of their form that are made up."""

import copy
import csv
import hashlib
import io
import json
import subprocess
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from erasure import prompt_imports, prompt_sets
from erasure.errors import UserError
from erasure.prompts import read_csv, read_table
from erasure.runs import ROOT
from tests.unit import made_up_sets

SOURCES = prompt_sets.sources()
BESIDE = ROOT.parent / "shared" / "data"
beside = pytest.mark.skipif(not BESIDE.is_dir(), reason="the published sets' facts are not beside the repository")
FIELDS = {
    "file",
    "also",
    "about",
    "kind",
    "licence",
    "published_in",
    "needed_by",
    "rows",
    "columns",
    "sha256",
    "checks",
}
FIELDS |= {"from", "becomes", "layout", "shipped", "stand_in", "damaged"}


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def rows_of(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(path.read_text(), newline="")))


@pytest.fixture
def known(monkeypatch):
    """The sources, to be changed by a test."""
    changed = copy.deepcopy(SOURCES)
    for module in (prompt_imports, prompt_sets):
        monkeypatch.setattr(module, "sources", lambda: changed)
    return changed


@pytest.fixture(scope="module")
def i2p_rows():
    return made_up_sets.i2p_rows()


def publish(known, key, path, rows, newline="\n") -> Path:
    """Write rows as the published file of a set."""
    text = made_up_sets.text_of(known[key]["columns"], rows, newline)
    known[key]["sha256"] = sha256(text)
    path.write_bytes(text.encode())
    return path


# ---- the list ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", SOURCES)
def test_is_described(key):
    source = SOURCES[key]
    assert FIELDS >= {*source}
    assert {"file", "about", "kind", "licence", "published_in", "needed_by", "rows", "columns"} <= {*source}
    assert source["kind"] in ("third-party", "derived", "authored") and source["rows"] > 0
    for other in (source.get("becomes"), source.get("from", {}).get("of")):
        assert other is None or other in SOURCES
    assert "sha256" in source or "from" in source
    for check in source.get("checks", ()):
        assert check["column"] in source["columns"]
    scripts = [words.split()[0] for words in source["needed_by"] if ".py" in words]
    assert all((ROOT / script).is_file() for script in scripts)


def test_no_two_sets_have_one_place_or_name():
    files = [source["file"] for source in SOURCES.values()]
    assert len({*files}) == len(files)
    for source in SOURCES.values():
        for name in (Path(source["file"]).name, *source.get("also", ())):
            assert len(prompt_sets.called(name)) == (not source.get("shipped"))


def test_git_does_not_see_what_is_brought_in():
    files = [source["file"] for source in SOURCES.values() if not source.get("shipped")]
    done = subprocess.run(["git", "check-ignore", *files], cwd=ROOT, capture_output=True, text=True)
    if done.returncode == 128:
        pytest.skip("not a git checkout")
    assert done.stdout.split() == files


@beside
def test_is_what_was_published():
    listed = json.loads((BESIDE / "import_datasets.json").read_text())["datasets"]
    damaged = SOURCES["i2p"]["damaged"]
    for entry in listed:
        if entry["sha256"] in damaged:
            continue
        source = SOURCES[entry["key"]]
        assert (source["kind"], source["sha256"]) == (entry["kind"], entry["sha256"])
        assert source["published_in"] == entry["seen_at"]
        if "layout" not in source:
            assert source["rows"] == entry["rows"]
            assert source["columns"][1:] == entry["columns"][1:]
            assert source["columns"][0] in (entry["columns"][0], "", "Unnamed: 0")
    assert {entry["sha256"] for entry in listed} - {source.get("sha256") for source in SOURCES.values()} == {*damaged}


@beside
@pytest.mark.parametrize("folder", ["mit_esd_uce", "mit_unlearndiffatk"])
def test_published_files_are_brought_in(folder, tmp_path):
    by_sha256 = {source.get("sha256"): key for key, source in SOURCES.items()}
    for file in sorted((BESIDE / folder).glob("*.csv")):
        if file.name == "biases_compare.csv":  # results, no prompts
            continue
        key = by_sha256[hashlib.sha256(file.read_bytes()).hexdigest()]
        (placed,) = prompt_imports.bring_in(key, file, root=tmp_path)
        assert placed.exact and placed.path.read_bytes() == file.read_bytes()
        assert placed.path == tmp_path / SOURCES[key]["file"]


# ---- I2P -----------------------------------------------------------------------------------------------------------


def test_i2p_and_what_is_made_of_it(known, tmp_path, i2p_rows):
    file = publish(known, "i2p", tmp_path / "unsafe-prompts4703.csv", i2p_rows)
    placed = {p.key: p for p in prompt_imports.bring_in("i2p", file, root=tmp_path)}
    assert {key: p.rows for key, p in placed.items()} == {
        "i2p": 4703,
        "i2p_nudity_854": 854,
        "violence_756": 756,
        "illegal_727": 727,
        "ringabell_i2p_nudity_95": 95,
        "ringabell_i2p_violence_250": 250,
    }
    assert placed["i2p"].exact and placed["i2p"].path.read_bytes() == file.read_bytes()
    assert placed["ringabell_i2p_nudity_95"].exact is None and placed["violence_756"].exact is False
    assert rows_of(placed["violence_756"].path) == [r for r in i2p_rows if "violence" in r["categories"]]
    assert rows_of(placed["ringabell_i2p_violence_250"].path) == [r for r in i2p_rows if r["categories"] == "violence"]
    of_spm = rows_of(placed["i2p_nudity_854"].path)
    assert list(of_spm[0]) == SOURCES["i2p_spm"]["columns"]
    naked = [r for r in i2p_rows if float(r["nudity_percentage"]) > 0]
    for name, old in (
        ("prompt", "prompt"),
        ("sd_seed", "evaluation_seed"),
        ("sd_guidance_scale", "evaluation_guidance"),
    ):
        assert [r[name] for r in of_spm] == [r[old] for r in naked]
    read = read_csv(placed["i2p"].path)
    assert read[2260].prompt == "" and read[-1].evaluation_seed == 4290749014
    assert not [path for path in tmp_path.rglob("*") if path.name.startswith(".")]


@pytest.mark.parametrize("name", ["data/unsafe-prompts4703.csv", "dataset/i2p.csv", "I2P_prompts_4703.csv"])
def test_i2p_is_found_under_its_published_names(known, tmp_path, monkeypatch, name, i2p_rows, capsys):
    monkeypatch.setattr(prompt_sets, "find", lambda path: tmp_path / path)
    with pytest.raises(UserError, match="python data/import_prompts.py i2p FILE.*rohitgandikota/erasing.*4703 rows"):
        prompt_sets.prompt_file(name)
    placed = tmp_path / known["i2p"]["file"]
    placed.parent.mkdir()
    publish(known, "i2p", placed, i2p_rows)
    assert prompt_sets.prompt_file(name) == placed
    assert "the imported i2p is used" in capsys.readouterr().out


@pytest.mark.parametrize("read", [read_csv, read_table])
def test_whoever_reads_a_file_finds_known_sets(known, tmp_path, monkeypatch, read):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="python data/import_prompts.py coco_10k FILE.*OPTML-Group/AdvUnlearn"):
        read("data/prompts/coco_10k.csv")
    with pytest.raises(UserError, match="mine.csv: no such file"):
        read("mine.csv")
    brought = tmp_path / known["kelly_prompts"]["file"]
    brought.parent.mkdir(parents=True)
    brought.write_text("prompt,evaluation_seed\nmade up,3\n")
    assert "made up" in str(read("data/kelly_prompts.csv"))


@pytest.mark.parametrize("cut", [1712, 4702])
def test_a_part_of_i2p_is_refused(known, tmp_path, i2p_rows, cut):
    file = tmp_path / "unsafe-prompts4703.csv"
    file.write_text(made_up_sets.text_of(known["i2p"]["columns"], i2p_rows[:cut]))
    with pytest.raises(UserError, match=f"{cut} rows, and i2p has 4703: a part of it is missing"):
        list(prompt_imports.bring_in("i2p", file, changed=True, root=tmp_path))
    file.write_bytes(file.read_bytes()[:-30])  # in the middle of a row
    with pytest.raises(UserError, match=f"unsafe-prompts4703.csv, row {cut} "):
        list(prompt_imports.bring_in("i2p", file, changed=True, root=tmp_path))
    known["i2p"]["damaged"] = {hashlib.sha256(file.read_bytes()).hexdigest(): "the cut copy"}
    with pytest.raises(UserError, match="the cut copy; the whole file has sha256"):
        list(prompt_imports.bring_in("i2p", file, changed=True, root=tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == [file.name]


@pytest.mark.parametrize(
    ("row", "cells", "what"),
    [
        (7, {"case_number": "8"}, "case_number: '8' is in place of 7"),
        (7, {"prompt": ""}, "prompt: empty in cases 7, 2260, not 2260"),
        (7, {"evaluation_seed": "7"}, "evaluation_seed: 2356 rows are above 2147483647, not 2357"),
        (-1, {"evaluation_seed": "4290749013"}, "evaluation_seed: the largest is 4.29075e.09, not 4290749014"),
        (7, {"evaluation_guidance": "0"}, "evaluation_guidance: the smallest is 0, not 1"),
        (7, {"categories": "violence, sexual"}, "categories: 932 rows are contains sexual, not 931"),
        (-1, {"nudity_percentage": ""}, "nudity_percentage: 94 rows are above 50, not 95"),
    ],
)
def test_another_i2p_is_refused(known, tmp_path, i2p_rows, row, cells, what):
    changed = list(i2p_rows)
    changed[row] = changed[row] | cells
    file = tmp_path / "i2p.csv"
    file.write_text(made_up_sets.text_of(known["i2p"]["columns"], changed))
    with pytest.raises(UserError, match=what):
        list(prompt_imports.bring_in("i2p", file, changed=True, root=tmp_path))


# ---- COCO ----------------------------------------------------------------------------------------------------------


def test_captions_of_esd_become_the_others(known, tmp_path):
    rows = made_up_sets.coco_rows()
    known["coco_30k_case"]["sha256"] = sha256(made_up_sets.text_of(known["coco_30k_case"]["columns"], rows))
    esd = publish(
        known, "coco_30k_image_id", tmp_path / "coco_30k.csv", [{**r, "image_id": r["coco_id"]} for r in rows]
    )
    whole, part = prompt_imports.bring_in("coco_30k_image_id", esd, root=tmp_path)
    assert whole.key == "coco_30k_case" and whole.exact
    assert rows_of(whole.path) == rows
    assert part.key == "coco_30k_val"
    assert rows_of(part.path) == [rows[i] for i in np.random.RandomState(42).permutation(30000)[:3000]]


# ---- any set -------------------------------------------------------------------------------------------------------


@pytest.fixture
def small(known, tmp_path):
    """(the only source, its published file)."""
    known.clear()
    known["set"] = {
        "file": "data/prompts/set.csv",
        "rows": 2,
        "columns": ["case_number", "prompt"],
        "published_in": [""],
    }
    rows = [{"case_number": "0", "prompt": "a, b"}, {"case_number": "1", "prompt": "None"}]
    return known["set"], publish(known, "set", tmp_path / "mine.csv", rows)


def test_a_link_is_to_the_file(small, tmp_path):
    (placed,) = prompt_imports.bring_in("set", small[1], link=True, root=tmp_path)
    assert placed.path.is_symlink() and placed.path.samefile(small[1]) and placed.exact
    (again,) = prompt_imports.bring_in("set", placed.path, root=tmp_path)  # of what is there already
    assert again == placed and small[1].read_text().startswith("case_number")
    (copied,) = prompt_imports.bring_in("set", small[1], root=tmp_path)
    assert copied == placed


def test_other_bytes_are_taken_on_request(small, tmp_path):
    small[1].write_bytes(small[1].read_bytes().replace(b"\n", b"\r\n"))
    assert prompt_imports.state("set", tmp_path) == "absent"
    with pytest.raises(UserError, match="--accept_changed"):
        list(prompt_imports.bring_in("set", small[1], root=tmp_path))
    (placed,) = prompt_imports.bring_in("set", small[1], changed=True, root=tmp_path)
    assert placed.exact is False and prompt_imports.state("set", tmp_path) == "changed"
    small[0]["sha256"] = hashlib.sha256(small[1].read_bytes()).hexdigest()
    assert prompt_imports.state("set", tmp_path) == "as published"


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("case_number,text\n0,a\n1,b\n", "its columns are case_number, text; set has case_number, prompt"),
        ("case_number,prompt\n0,a\n1,b\n2,c\n", "3 rows, and set has 2: it is another file"),
        ("case_number,prompt\n0,a, b\n1,c\n", "3 cells"),
        ("", "is empty"),
    ],
)
def test_mistakes(small, tmp_path, text, what):
    small[1].write_text(text)
    with pytest.raises(UserError, match=what):
        list(prompt_imports.bring_in("set", small[1], root=tmp_path))
    with pytest.raises(UserError, match="no such file"):
        list(prompt_imports.bring_in("set", tmp_path / "nowhere.csv", root=tmp_path))
    assert not (tmp_path / "data").exists()


def test_a_file_of_another_set_is_named(known, small, tmp_path):
    known["other"] = {**small[0], "sha256": "0" * 64}
    with pytest.raises(UserError, match="mine.csv is set: python data/import_prompts.py set"):
        list(prompt_imports.bring_in("other", small[1], root=tmp_path))


def test_what_is_here_is_not_brought_in(tmp_path):
    with pytest.raises(UserError, match="part of this repository: configs/train_artist/prompt_templates.csv"):
        list(prompt_imports.bring_in("cpe_train_templates_artist", tmp_path / "x.csv"))


PROMPT = st.text("abc,.' \"", min_size=1).filter(lambda text: text.strip('"') == text)


@settings(deadline=None)
@given(st.lists(st.tuples(PROMPT, st.sampled_from(["tench", "gas pump"])), min_size=1, max_size=5))
def test_prompts_with_unquoted_commas(tmp_path_factory, rows):
    """Of RECE's robust_imagenette, whose prompts hold commas and are not quoted."""
    file = tmp_path_factory.mktemp("sets") / "robust.csv"
    lines = [f"{n},{prompt},{name},{n + 5}" for n, (prompt, name) in enumerate(rows)]
    file.write_text("\n".join(["case_number,prompt,class,evaluation_seed", *lines, ""]))
    source = {**SOURCES["rece_robust_imagenette"], "rows": len(rows)}
    source["sha256"] = hashlib.sha256(file.read_bytes()).hexdigest()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prompt_imports, "sources", lambda: {"robust": source})
        (placed,) = prompt_imports.bring_in("robust", file, root=file.parent)
        assert prompt_imports.state("robust", file.parent) == "here"
    read = read_csv(placed.path)
    assert [(row.prompt, row.extra["class"], row.evaluation_seed) for row in read] == [
        (prompt, name, n + 5) for n, (prompt, name) in enumerate(rows)
    ]
