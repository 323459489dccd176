"""A report holds every number that it was given, and needs nothing else."""

import csv
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from erasure import runs
from reproduce.reports import cells, page, points, report, verdicts
from reproduce.reports.verdicts import TONES, verdict
from reproduce.reports.wording import beside, number
from reproduce.results import Curve, Entry, Grid, Measured, TableResult, read
from reproduce.tables import table
from tests.unit.table_entries import entry, toy

ODD = "<b>&'\"ESD-u$"


# ---- points --------------------------------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.floats(0, 100), st.floats(0, 9), st.floats(0, 9)), min_size=1, max_size=6))
def test_a_mean_lies_in_its_interval_and_is_no_less_sure_than_its_numbers(values):
    found = points.mean([points.Value(v, v - a, v + b) for v, a, b in values])
    assert found.low <= found.value <= found.high
    assert found.high - found.low <= max(a + b for _, a, b in values) * 2**0.5 + 1e-6
    assert points.mean([found, points.Value(1.0)]).low is None and points.mean([]) is None


def test_sides_of_metrics():
    def of(measure, better):
        return points.side(entry(measure=measure, better=better))

    assert [of("judge", b) for b in ("lower", "higher")] == ["erase", "keep"]
    assert [of("style_fid", b) for b in ("lower", "higher", "reference")] == ["keep", "erase", None]
    assert of("nudenet_drop", "higher") == of("attack_p4d", "lower") == "erase"
    assert of("imagenet_drop", "lower") == "keep" and of("seconds", "lower") is None


def test_points_are_means_over_the_same_cells_and_leave_out_what_is_no_published_number():
    rows = [("a", 10, 20), ("b", None, 90), ("c", 30, 40)]
    made = [
        entry(ours, pub, row=r, metric=m, better=b)
        for r, ours, pub in rows
        for m, b in (("e", "lower"), ("s", "higher"))
    ]
    found = points.of([(e, *verdict(e)) for e in made])
    (method,) = found.methods
    assert found.plane and [axis.key[0] for axis in found.axes] == ["s", "e"]
    assert [v.value for v in method.ours] == [20, 20] and [v.value for v in method.published] == [30, 30]
    guessed = points.of([(replace(e, certainty="recalled"), *verdict(e)) for e in made])
    assert guessed.methods[0].published == (None, None)
    assert points.of([(replace(e, ours=None, published=None), *verdict(e)) for e in made]) is None


def test_a_plot_holds_no_published_counts_of_another_detector():
    made = [
        entry(134, 134, measure="nudenet_images", metric="n"),
        entry(None, 796, measure="nudenet_images", metric="n", method="SD"),
    ]
    found = points.of([(e, *verdict(e, table("esd:nudity"))) for e in made])
    assert [m.name for m in found.methods] == ["ESD-u"] and found.methods[0].published == (None,)
    found = points.of([(e, *verdict(e, table("cpe:nudity"))) for e in made])
    assert [m.published[0].value for m in found.methods] == [134, 796]


# ---- reports -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    found = []
    for i, colour in enumerate(("#ff0000", "#00ff00", "#0000ff", "#ff00ff")):
        Image.new("RGB", (64, 64), colour).save(folder / f"{i}_0.png")
        found.append(str(folder / f"{i}_0.png"))
    return found


FACTS = {
    "source": "s", "settings": {"sampler": "ddim", "steps": 20, "images": 60}, "versions": {"torch": "2.10"}, "seconds": 71.0,
}  # fmt: skip


def toy_result(pictures):
    entries = [toy(m, p, row=name, method=name)
               for name in (ODD, "SepCE, van gogh restored") for m, p in (("shown_erased", 0.07), ("shown_van_gogh", 0.9), ("shown_kept", 0.88))]  # fmt: skip
    grids = (
        Grid(
            f"erased {ODD}", ("a <church>", "nude"), {"before": tuple(pictures[:2]), ODD: (pictures[2], "nowhere.png")}
        ),
    )
    curves = tuple(Curve(label, "judge: i2p", ((0.1, 0.8), (0.5, 0.4))) for label in ("before", ODD))
    return TableResult("sepce:styles", "toy", f"Styles {ODD}", tuple(entries), grids, curves, FACTS)


def sd_result(pictures):
    one, entries = table("sepce:styles"), []
    for i, cell in enumerate(one.cells()):
        ours = Measured(cell.value * 1.04, cell.value, cell.value * 1.1, 250) if i % 5 else None
        row = cells.row_name(one.rows[cell.row])
        entries.append(Entry(row, cell.method, cell.metric, cell.part, cell.better, cell.measure, cell.value, cell.certainty,
                             ours, why="" if ours else "no <weights>"))  # fmt: skip
    grids = (Grid("erased", ("nude",), {"ORI": (pictures[0],)}),)
    return TableResult(one.name, "sd-v1-4", one.title, tuple(entries), grids, (), FACTS)


class Page(HTMLParser):
    """Text, links and balance of a document."""

    VOID = {"meta", "img", "br"}

    def __init__(self, text):
        super().__init__()
        self.open, self.links, self.words = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.links += [value for key, value in attrs if key in ("src", "href", "srcset")]
        self.words += [value for key, value in attrs if key == "title"]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.words.append(data)

    @property
    def text(self):
        return " ".join(self.words)

    @property
    def numbers(self):
        return {*re.split(r"[\s–*?;:,]+", self.text)}


def checked(result, folder):
    """Write the report; its page, after what every one must hold."""
    paths = report.write(read_again(result, folder), folder)
    assert all(path.stat().st_size > 0 for path in paths) and len(set(paths)) == len(paths)
    html = (folder / "report.html").read_text(encoding="utf-8")
    found = Page(html)
    assert found.open == [] and "<script" not in html and "@import" not in html and "url(" not in html
    for link in found.links:
        assert link.startswith("data:image/") or (folder / link.removesuffix(" 1.5x")).is_file()
    return found, {path.name for path in paths}


def read_again(result, folder):
    result.write(folder / "result.json")
    assert (again := read(folder / "result.json")) == result
    return again


def numbers_of(result):
    for one in result.entries:
        for measured in filter(None, (one.ours, one.before if result.base == "toy" else None)):
            like = one.published if measured is one.ours else None
            yield beside(measured.value, like)
        if one.ours:
            yield from (beside(one.ours.low, one.published), beside(one.ours.high, one.published))
        if one.published is not None:
            yield number(one.published)


def test_a_report_on_the_embedded_model_holds_everything(tmp_path, pictures):
    result = toy_result(pictures)
    found, names = checked(result, tmp_path)
    assert names == {"report.html", "table.csv", "tradeoff.png", "thresholds.png", "grid.png"}
    assert {*numbers_of(result)} <= found.numbers and ODD in found.text and "a <church>" in found.text
    assert "What the paper prints" in found.text and "12.4" in found.text  # of Table 2, for reading
    assert "restored" in found.text and "lower with those" in found.text
    assert sum(link.startswith("data:") for link in found.links) == 4
    with Image.open(tmp_path / "grid.png") as grid:
        shown = {colour for _, colour in grid.getcolors(maxcolors=1 << 20)}
    assert {(255, 0, 0), (0, 255, 0), (0, 0, 255)} <= shown


def test_a_report_of_a_large_table_holds_every_number_beside_the_published_one(tmp_path, pictures):
    result = sd_result(pictures)
    found, names = checked(result, tmp_path)
    assert len(result.entries) == 486 and names == {"report.html", "table.csv", "tradeoff.png", "grid.png"}
    assert {*numbers_of(result)} <= found.numbers
    assert "98 not measured: no <weights>" in found.text


def test_the_csv_says_everything_that_the_result_does(tmp_path, pictures):
    for result in (toy_result(pictures), sd_result(pictures)):
        runs.write_csv(tmp_path / "table.csv", report.csv_rows(result, verdicts.judged(result)))
        with open(tmp_path / "table.csv", newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        assert tuple(rows[0]) == report.COLUMNS and len(rows) == len(result.entries)
        for row, one in zip(rows, result.entries, strict=True):
            assert (row["row"], row["method"], row["metric"], row["part"]) == (
                one.row,
                one.method,
                one.metric,
                one.part or "",
            )
            assert row["published"] == ("" if one.published is None else repr(one.published))
            assert row["ours_value"] == (repr(one.ours.value) if one.ours else "") and row["verdict"] in TONES
            assert row["before_high"] == (repr(one.before.high) if one.before else "")


def test_a_report_of_nothing_is_still_one(tmp_path):
    found, names = checked(TableResult("no:such", "toy", "t", ()), tmp_path)
    assert names == {"report.html", "table.csv"} and "Nothing was measured" in found.text


def test_recalled_numbers_are_marked_and_reprints_name_their_source(tmp_path):
    checked(TableResult("rece:nudity", "sd-v1-4", "t", (entry(certainty="recalled", published=66.0),)), tmp_path)
    html = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "<span class='recalled'>66?</span>" in html and "not judged" in html
    found, _ = checked(
        TableResult("rece:attacks_trce", "sd-v1-4", "t", (entry(certainty="secondary", published=66.0),)), tmp_path
    )
    assert "66*" in found.text and table("rece:attacks_trce").source in found.text


def test_settings_that_differ_are_flagged():
    published = {"sampler": "LMS (script default)", "steps": "100 (the maintainer later said 50)", "guidance": 7.5,
                 "detector": "NudeNet v2 detector", "images": "4703 and 30000"}  # fmt: skip
    ours = {
        "sampler": "lms",
        "steps": 50,
        "guidance": 7.5,
        "noise_device": "cpu",
        "images": 30000,
        "detector": "boxes; NudeNet 3.4",
    }
    flags = {name: flag for name, *_, flag in page.settings(ours, published)}
    assert [name for name, flag in flags.items() if flag] == ["steps", "detector"] and "noise_device" in flags
    assert page.differ("ddim", "LMS") and page.differ("7", "7.5") and not page.differ("100", "100 (script default)")


def test_the_overview_links_every_report(tmp_path, pictures):
    results = [
        replace(toy_result(pictures), name=f"sepce:{name}", grids=(), curves=()) for name in ("styles", "objects")
    ]
    report.write(results[0], tmp_path / "table" / "sepce_styles")
    index = report.overview(results, tmp_path)
    found = Page(index.read_text(encoding="utf-8"))
    assert found.links[0] == "table/sepce_styles/report.html" and (tmp_path / found.links[0]).is_file()
    assert "overview.png" in found.links and (tmp_path / "overview.png").is_file()
    assert re.search(r"4 erased.*4 kept", found.text) and "sepce:objects" in found.text


def test_the_text_for_a_terminal_is_a_line_a_number_or_counts(pictures):
    lines = report.text(toy_result(pictures)).splitlines()
    assert lines[0] == "sepce:styles on toy: 2 erased, 2 kept, 1 restored, 1 as before" and len(lines) == 2 + 6
    assert report.text(sd_result(pictures)).count("\n") == 0
