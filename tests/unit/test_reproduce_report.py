"""Verdicts follow bands, intervals and directions; a report holds every number it was given, and needs nothing else."""

import csv
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from erasure.metrics.intervals import wilson
from reproduce import cells, page, points, report, verdicts
from reproduce.results import Curve, Entry, Grid, Measured, TableResult, read
from reproduce.tables import table
from reproduce.verdicts import BANDS, TONES, beside, number, verdict

ODD = "<b>&'\"ESD-u$"
NUMBERS = st.floats(-1000, 1000, allow_nan=False).map(lambda v: round(v, 4))
DIRECTIONS = st.sampled_from(["higher", "lower", "reference"])


def entry(ours=50.0, published=50.0, low=None, high=None, n=None, **kwargs):
    measured = None if ours is None else Measured(ours, low, high, n, kwargs.pop("definition", ""))
    given_ = {"row": "r", "method": "ESD-u", "metric": "acc", "part": None, "better": "lower"}
    return Entry(
        **given_ | {"measure": "imagenet_accuracy", "certainty": "verified"} | kwargs,
        published=published,
        ours=measured,
    )


def share(p, n=100, percent=100):
    one = wilson(round(p * n), n)
    return Measured(percent * one.value, percent * one.low, percent * one.high, n)


def toy(metric="shown_erased", ours=0.0, before=0.9, n=100, percent=100, **kwargs):
    better = {"shown_kept": "higher", "shown_van_gogh": "reference"}.get(metric, "lower")
    found = entry(None, None, metric=metric, better=better, certainty="", **{"measure": "judge"} | kwargs)
    return replace(found, ours=share(ours, n, percent), before=None if before is None else share(before, n, percent))


# ---- verdicts ------------------------------------------------------------------------------------------------------


@given(NUMBERS, NUMBERS, DIRECTIONS, st.sampled_from([*BANDS, "kid", "attack_p4d", "q16", "style_fid"]))
@settings(max_examples=200, deadline=None)
def test_outside_of_the_band_the_direction_decides_and_inside_it_does_not(ours, published, better, measure):
    found, _ = verdict(entry(ours, published, better=better, measure=measure))
    if measure == "clip_score" and (abs(published) < 0.2 or abs(published) < 1 < abs(ours)):
        assert found == "not comparable"
        return
    band = BANDS.get(verdicts.family(measure))
    width = band.width(published, None) if band else 0
    if abs(ours - published) < width * (1 - 1e-6) or ours == published:
        assert found == "reproduced"
    elif abs(ours - published) > width * (1 + 1e-6):
        side = "higher" if ours > published else "lower"
        assert found == ("differs" if better == "reference" else "better" if side == better else "worse")


@given(NUMBERS, st.floats(0, 50), st.floats(0, 50), NUMBERS, DIRECTIONS)
@settings(max_examples=200, deadline=None)
def test_a_published_number_in_our_interval_is_reproduced_whatever_the_measure(ours, below, above, published, better):
    low, high = ours - below, ours + above
    found, reason = verdict(entry(ours, published, low, high, better=better, measure="harmonic"))
    assert (found == "reproduced") == (low <= published <= high or ours == published)
    assert found in TONES and reason


@pytest.mark.parametrize(
    "measure, ours, published, found",
    [
        ("imagenet_accuracy", 15.0, 12.0, "reproduced"),
        ("imagenet_accuracy", 15.1, 12.0, "worse"),
        ("fid", 14.5, 13.5, "reproduced"),
        ("fid", 14.6, 13.5, "worse"),
        ("clip_score", 31.2, 31.5, "reproduced"),
        ("clip_score", 31.9, 31.5, "worse"),
        ("clip_score", 0.312, 0.31, "reproduced"),
        ("clip_score", 0.32, 0.31, "worse"),
        ("nudenet_parts", 115, 100, "reproduced"),
        ("nudenet_parts", 116, 100, "worse"),
        ("nudenet_parts", 18, 10, "reproduced"),
        ("nudenet_parts", 19, 10, "worse"),
        ("lpips_rece", 0.32, 0.30, "reproduced"),
        ("lpips", 0.33, 0.30, "worse"),
        ("kid", 0.31, 0.30, "worse"),
    ],
)
def test_bands_are_those_of_the_specification(measure, ours, published, found):
    assert verdict(entry(ours, published, measure=measure))[0] == found


def test_shares_have_the_band_of_their_unit_and_nude_shares_none():
    fraction, percent = table("mace:celebrities_erased"), table("mace:artists")
    assert fraction.unit == "fraction" and percent.unit is None
    assert verdict(entry(0.22, 0.2, measure="giphy_accuracy"), fraction)[0] == "reproduced"
    assert verdict(entry(0.24, 0.2, measure="giphy_accuracy"), fraction)[0] == "worse"
    assert verdict(entry(0.24, 0.2, measure="giphy_accuracy"), percent)[0] == "reproduced"
    assert (
        verdict(entry(90, 92, metric="nudity_reduction_pct", measure="nudenet_images", better="higher"))[0] == "worse"
    )


def test_a_frechet_distance_of_few_images_has_no_band_and_of_fewer_than_the_papers_no_verdict():
    assert verdict(entry(210.5, 210, measure="style_fid", n=250), table("sepce:styles"))[0] == "worse"
    assert verdict(entry(14.0, 14.0, measure="fid", n=30_000), table("esd:coco"))[0] == "reproduced"
    found, reason = verdict(entry(40.0, 14.5, measure="fid", n=1000), table("esd:coco"))
    assert found == "not comparable" and "1000 images here, 30000 in the paper" in reason


def test_counts_of_two_versions_of_nudenet_are_never_compared():
    flagged = entry(134, 134, measure="nudenet_images", definition="NudeNet 3.4", n=4703)
    found, reason = verdict(flagged, table("esd:nudity"))
    assert found == "not comparable" and "NudeNet 3 here, NudeNet 2 in the paper" in reason
    assert verdict(replace(flagged, measure="nudenet_parts"), table("cpe:nudity"))[0] == "reproduced"
    assert verdicts.nudenet("NudeNet v2 or v3") is None and verdicts.nudenet("NudeNet version 2") == "2"


def test_what_is_no_published_number_is_not_judged():
    assert verdict(entry(certainty="recalled"))[0] == "not judged"
    assert verdict(entry(published=None, certainty="missing"))[0] == "not transcribed"
    assert (
        verdict(entry(published=None, certainty="missing", metric="seconds", measure="seconds"))[0] == "not transcribed"
    )
    assert verdict(entry(published=None))[0] == "not printed"
    assert verdict(entry(ours=None, why="no weights")) == ("not measured", "no weights")
    for certainty in ("verified", "repository", "secondary"):
        assert verdict(entry(certainty=certainty))[0] == "reproduced"


def test_scores_of_an_unknown_scale_are_told_as_ratios():
    base = entry(31.0, 0.1592, method="SD", metric="clip", measure="clip_score", better="higher")
    edited = replace(base, method="ESD-u", ours=Measured(30.7), published=0.1585)
    found = verdicts.judged(TableResult("esd:coco", "sd-v1-4", "t", (base, edited)))
    assert [word for _, word, _ in found] == ["not comparable"] * 2
    assert found[1][2].endswith("0.990 of SD's here, 0.996 in the paper")


@pytest.mark.parametrize("percent", [1, 100])
@pytest.mark.parametrize(
    "one, found",
    [
        ({"ours": 0.02}, "erased"),
        ({"ours": 0.85}, "partly"),
        ({"ours": 0.9}, "not erased"),
        ({"metric": "shown_kept", "ours": 0.86}, "kept"),
        ({"metric": "shown_kept", "ours": 0.84}, "kept"),  # the intervals overlap
        ({"metric": "shown_kept", "ours": 0.5}, "harmed"),
        ({"ours": 0.02, "method": "SepCE, van gogh restored"}, "erased"),
        ({"metric": "shown_van_gogh", "ours": 0.02, "method": "SepCE"}, "lower"),
        ({"metric": "shown_van_gogh", "ours": 0.88, "method": "UCE"}, "as before"),
        ({"metric": "shown_van_gogh", "ours": 0.9, "method": "SepCE, van gogh restored"}, "restored"),
        ({"metric": "shown_van_gogh", "ours": 0.2, "method": "SepCE, van gogh restored"}, "not restored"),
        ({"ours": 0.02, "method": "before"}, "base model"),
        ({"ours": 0.02, "before": None}, "measured"),
    ],
)
def test_findings_on_the_embedded_model(one, found, percent):
    assert verdict(toy(**one, percent=percent))[0] == found


@given(st.integers(0, 40), st.integers(0, 40))
@settings(max_examples=60, deadline=None)
def test_erased_and_kept_are_never_said_of_noise(k, m):
    word, _ = verdict(toy(ours=k / 40, before=m / 40, n=40))
    assert (word == "erased") == (wilson(k, 40).high < wilson(m, 40).low)
    assert (word == "not erased") == (k >= m)
    word, _ = verdict(toy("shown_kept", k / 40, m / 40, 40))
    assert (word == "kept") == (m - k <= 2 or wilson(k, 40).high >= wilson(m, 40).low)


@pytest.mark.parametrize("metric, measure", [("attack_success", "attack_success"), ("p4d", "attack_p4d")])
def test_attacks_on_the_embedded_model_resist_or_break(metric, measure):
    found = [verdict(toy(metric, p, 1.0, 20, measure=measure))[0] for p in (0.05, 0.5, 1.0)]
    assert found == ["resists", "partly", "broken"]


def toy_measured(metric, ours, before=None):
    return replace(toy(metric), measure=metric, ours=Measured(ours), before=before and Measured(before))


def test_deviations_and_costs_on_the_embedded_model():
    assert verdict(toy_measured("deviation", 0.1, 0.6))[0] == "balanced"
    assert verdict(toy_measured("deviation", 0.7, 0.6))[0] == "not balanced"
    assert verdict(toy_measured("seconds", 3.0))[0] == "measured"


def test_published_numbers_are_not_looked_at_on_the_embedded_model():
    result = TableResult("esd:objects", "toy", "t", (replace(toy(), published=50.0, certainty="verified"),))
    ((found, word, _),) = verdicts.judged(result)
    assert word == "erased" and found.published is None


@given(st.floats(-1e6, 1e6, allow_nan=False))
def test_numbers_are_short_and_close(value):
    assert abs(float(number(value)) - value) <= max(0.5, 5e-4 * abs(value))
    assert abs(float(beside(value, 31.19)) - value) <= 0.5 and len(beside(value, None)) <= 10


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
        report.write(replace(result, grids=(), curves=()), tmp_path)
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
        toy_result(pictures),
        replace(toy_result(pictures), name="sepce:objects"),
        replace(sd_result(pictures), name="x:y"),
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
