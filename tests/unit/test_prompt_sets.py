"""Prompt files made by rule are the published ones; the engine that follows a rule; what is said of files that are not here."""

import csv
import hashlib
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from erasure import prompt_rules, prompt_sets
from erasure.errors import UserError
from erasure.runs import ROOT, find

RULES = prompt_rules.rules()
NAME = st.text(st.characters(exclude_categories=("Cs", "Cc"), exclude_characters="\x85\u2028\u2029"), min_size=1)
NAMES = st.lists(NAME, min_size=1, max_size=4)
TEMPLATES = st.lists(
    st.sampled_from(["{}", "A sketch of {}", '{}, "quoted"', "an image of {a} {}"]), min_size=1, max_size=3
)
COLUMNS = ["", "kind", "name", "prompt", "evaluation_seed"]


@pytest.mark.parametrize("name", RULES)
def test_is_the_published_file(name):
    content = prompt_rules.build(name)
    assert hashlib.sha256(content).hexdigest() == RULES[name]["sha256"]
    lines = [line for line in csv.reader(io.StringIO(content.decode(), newline="")) if line]
    columns = RULES[name].get("columns")
    assert len(lines) - bool(columns) == RULES[name]["rows"]
    if columns:
        assert lines[0] == columns


@pytest.mark.parametrize("path", ["data/style_classify.csv", "data/object_classify.csv"])
def test_is_the_file_that_the_repository_has(path):
    assert (ROOT / path).read_bytes() == prompt_rules.build(path.rpartition("/")[2])


def test_everyday_sentences_are_stored_as_made():
    content = prompt_rules.build("everyday_sentences242.txt")
    assert prompt_rules.place("everyday_sentences242.txt").read_bytes() == content
    assert len(set(content.decode().splitlines())) == 242


def table(rule, templates):
    return list(csv.DictReader(io.StringIO(prompt_rules.text_of(rule, templates), newline="")))


@given(NAMES, TEMPLATES, st.integers(1, 3), st.integers(0, 5000))
def test_goes_through_names_templates_and_seeds_in_that_order(names, templates, seeds, first):
    block = {"names": names, "seeds": seeds, "values": {"kind": "erased"}}
    found = table({"columns": COLUMNS, "templates": "t", "first_index": first, "blocks": [block]}, {"t": templates})
    wanted = [(n, t, s) for n in names for t in templates for s in range(1, seeds + 1)]
    assert [int(row[""]) for row in found] == list(range(first, first + len(wanted)))
    for row, (name, template, seed) in zip(found, wanted, strict=True):
        prompt = template.replace("{a}", prompt_rules.article(name)).replace("{}", name, 1)
        assert row == {"": row[""], "kind": "erased", "name": name, "prompt": prompt, "evaluation_seed": str(seed)}


@given(NAMES, NAMES, TEMPLATES, st.sampled_from(["\n", "\r\n"]), st.sampled_from(["", "\n", "\n\n"]))
def test_blocks_follow_each_other(first, second, templates, newline, end):
    """A file of two blocks is the file of the first, and that of the second counted on from it."""
    blocks = [{"names": first, "seeds": [7]}, {"names": second, "seeds": 2}]
    rule = {"columns": ["", "prompt", "evaluation_seed"], "templates": "t", "newline": newline, "end": end}
    both = prompt_rules.text_of(rule | {"blocks": blocks}, {"t": templates})
    rows_of = [list(prompt_rules.rows(rule | {"blocks": [block]}, templates)) for block in blocks]
    start = len(rows_of[0])
    counted_on = prompt_rules.text_of(rule | {"blocks": blocks[1:], "first_index": start}, {"t": templates})
    alone = prompt_rules.text_of(rule | {"blocks": blocks[:1], "end": newline}, {"t": templates})
    assert both == alone + counted_on.removeprefix(f",prompt,evaluation_seed{newline}")


def test_seeds_of_a_list(tmp_path, monkeypatch):
    monkeypatch.setattr(prompt_rules, "NAMES", tmp_path)
    (tmp_path / "a.csv").write_text("artist,s1,s2\nEve,5,6\nBo,7,8\n")
    (tmp_path / "seeds.txt").write_text("1\n2\n3\n4\n")
    (tmp_path / "names.txt").write_text("x\ny\n")

    def seeds(**block):
        found = prompt_rules.rows({"blocks": [block]}, ["{}", "of {}"])
        return [(row["prompt"], str(row["evaluation_seed"])) for row in found]

    assert seeds(names="a.csv", seeds="per_template") == [("Eve", "5"), ("of Eve", "6"), ("Bo", "7"), ("of Bo", "8")]
    assert seeds(names="a.csv", seeds="per_name", first=1) == [(p, s) for p in ("Eve", "of Eve") for s in "56"]
    shared = seeds(names="names.txt", seeds="seeds.txt", seeds_per_name=2)
    assert shared == [(p, s) for p, two in (("x", "12"), ("of x", "12"), ("y", "34"), ("of y", "34")) for s in two]


def test_a_changed_list_is_found_out(tmp_path, monkeypatch):
    lines = (prompt_rules.NAMES / "sepce_styles9.txt").read_text().replace("VanGogh", "Van Gogh")
    for name in ("sepce_styles9.txt", "sepce_eval_seeds450.txt"):
        (tmp_path / name).write_text((prompt_rules.NAMES / name).read_text())
    (tmp_path / "sepce_styles9.txt").write_text(lines)
    monkeypatch.setattr(prompt_rules, "NAMES", tmp_path)
    with pytest.raises(UserError, match="style_classify.csv.*one of those lists was changed"):
        prompt_rules.build("style_classify.csv")


@pytest.fixture
def place(tmp_path, monkeypatch):
    """An empty working directory, and a repository to write to beside it."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setattr(prompt_rules, "ROOT", tmp_path / "repository")
    return tmp_path


def test_a_file_that_is_there_counts(place):
    (place / "here" / "character_64.csv").write_text("prompt\nmine\n")
    assert prompt_sets.prompt_file("character_64.csv").read_text() == "prompt\nmine\n"


def test_a_file_of_a_rule_is_made_once(place, capsys):
    path = prompt_sets.prompt_file("nowhere/character_64.csv")
    assert path == place / "repository" / "generation_prompts" / "character_64.csv"
    assert path.read_bytes() == prompt_rules.build("character_64.csv")
    assert "325 rows" in capsys.readouterr().out
    written = path.stat().st_mtime_ns
    assert prompt_sets.prompt_file("nowhere/character_64.csv") == path
    assert path.stat().st_mtime_ns == written and not capsys.readouterr().out
    assert not list((place / "here").iterdir())


@pytest.mark.parametrize("key", [k for k, s in prompt_sets.sources().items() if not {"stand_in", "shipped"} & {*s}])
def test_a_third_party_file_is_described(place, key, monkeypatch):
    source = prompt_sets.sources()[key]
    monkeypatch.setattr(prompt_sets, "find", lambda path: place / path)
    with pytest.raises(UserError) as error:
        prompt_sets.prompt_file(source["file"])
    for word in (source["published_in"][0], source.get("sha256", key), f"{source['rows']} rows", source["file"]):
        assert word in str(error.value)


def test_ours_stand_in_for_sentences_that_are_not_here(place, capsys, monkeypatch):
    monkeypatch.setattr(
        prompt_sets, "find", lambda path: place / path if str(path).startswith("anchors") else find(path)
    )
    path = prompt_sets.prompt_file("anchors/mass_surr_prompts_explicit.csv")
    assert path == ROOT / "data" / "names" / "everyday_sentences242.txt"
    assert "everyday_sentences242.txt stands in" in capsys.readouterr().out


def test_the_users_copy_is_used_and_compared(place, capsys, monkeypatch):
    copy = place / "here" / "mass_surr_prompts_explicit.csv"
    copy.write_text("id,name,value\n0,Hello.,0.5\n")
    assert prompt_sets.prompt_file(copy) == copy
    assert "is not the published file" in capsys.readouterr().out
    sha256 = hashlib.sha256(copy.read_bytes()).hexdigest()
    known = {"file": f"anchors/{copy.name}", "rows": 1, "sha256": sha256}
    monkeypatch.setattr(prompt_sets, "sources", lambda: {"x": known})
    assert prompt_sets.prompt_file(copy) == copy and not capsys.readouterr().out
    known |= {"sha256": "0" * 64, "damaged": {sha256: "cut in row 1"}}
    with pytest.raises(UserError, match="cut in row 1"):
        prompt_sets.prompt_file(copy)


def test_any_other_file_is_missing(place):
    with pytest.raises(UserError, match="nothing.csv: no such file"):
        prompt_sets.prompt_file("nothing.csv")
