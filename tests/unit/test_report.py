"""Reports hold what they were given, need nothing from outside, and survive awkward contents."""

import re
from html.parser import HTMLParser

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from erasure.metrics.intervals import wilson
from erasure.report import Picture, Report, Score, Shown, Strip, Version, text_table, to_html, to_image
from erasure.report.drawing import fit, font, lighter, tile, wrap
from erasure.report.png import COLUMNS, TILE, WIDTH

COLOURS = [(255, 0, 0), (0, 0, 255), (0, 255, 0), (255, 0, 255), (0, 255, 255), (255, 255, 0), (99, 0, 0), (0, 99, 0)]


def picture(versions=2, caption="a church", size=(32, 32), bad=()):
    shown = [Shown(Image.new("RGB", size, COLOURS[i]), f"answer {i}", i not in bad) for i in range(versions)]
    return Picture(caption, shown)


def report(pictures=3, strips=1, versions=2, **kwargs):
    scores = [
        Score("style <b>", "erase", [wilson(9, 10), *[wilson(i % 10, 10) for i in range(1, versions)]]),
        Score("rest", "keep", [wilson(9, 9)] + [wilson(8, 9)] * (versions - 1)),
    ]
    costs = [{}] + [{"erasing took": f"{i} s", "edit": "<1 kB>"} for i in range(1, versions)]
    named = [Version(f"<v{i}>", "a note", cost) for i, cost in enumerate(costs)]
    shown = [Strip(f"strip {i}", [picture(versions)] * pictures, "keep") for i in range(strips)]
    return Report("Erasing “x” & <y>", "how it was done", named, scores, shown, {"base": "<toy>"}, **kwargs)


def one_strip(*pictures, **kwargs):
    versions = [Version(str(i)) for i in range(len(pictures[0].shown))]
    return Report("r", "", versions, [], [Strip("s", list(pictures), **kwargs)])


def colours(image):
    return {colour: n for n, colour in image.getcolors(maxcolors=1 << 20)}


@pytest.mark.parametrize("versions", [2, 4, 8])
def test_png_shows_every_picture_in_every_version(versions):
    image = to_image(report(pictures=3, versions=versions))
    assert image.width == WIDTH and image.mode == "RGB"
    counts = colours(image)
    assert all(0.97 < counts[colour] / (3 * TILE * TILE) <= 1 for colour in COLOURS[:versions])


def test_png_grows_with_what_it_holds():
    heights = [to_image(report(strips=strips)).height for strips in (0, 1, COLUMNS)]
    assert heights == sorted(set(heights))
    heights = [to_image(report(pictures=pictures)).height for pictures in (COLUMNS, COLUMNS + 1)]
    assert heights == sorted(set(heights))
    assert to_image(report(versions=2)).height < to_image(report(versions=3)).height
    assert to_image(Report("nothing", "", [Version("base")], [], [])).height > 0


def test_png_puts_short_strips_side_by_side():
    assert to_image(report(pictures=3, strips=3)).height == to_image(report(pictures=3, strips=1)).height


def test_png_shows_the_first_pictures_where_it_has_less_room():
    shown = [picture() for _ in range(5)]
    image = to_image(one_strip(*shown, png_pictures=2))
    assert image.tobytes() == to_image(one_strip(*shown[:2])).tobytes()
    assert to_html(one_strip(*shown, png_pictures=2)).count("<img") == 10


@pytest.mark.parametrize(
    "made",
    [
        report(pictures=COLUMNS),
        report(pictures=2, strips=5, versions=8),
        Report("t" * 100, "word " * 200, [Version("v" * 40, "n" * 200)], [], [], {"fact": "f" * 500}),
    ],
)
def test_png_keeps_its_margins_clear(made):
    image = to_image(made)
    for box in (
        (0, 0, 40, image.height),
        (WIDTH - 40, 0, WIDTH, image.height),
        (0, 0, WIDTH, 40),
        (0, image.height - 20, WIDTH, image.height),
    ):
        assert colours(image.crop(box)).keys() == {(255, 255, 255)}


def test_both_are_the_same_for_the_same_report():
    assert to_image(report()).tobytes() == to_image(report()).tobytes()
    assert to_html(report()) == to_html(report())


def test_versions_must_agree():
    with pytest.raises(ValueError, match="report of 2"):
        Report("r", "", [Version("a"), Version("b")], [Score("x", "keep", [wilson(1, 2)])], [])
    with pytest.raises(ValueError, match="report of 2"):
        Report("r", "", [Version("a"), Version("b")], [], [Strip("s", [picture(3)])])
    with pytest.raises(ValueError, match="report of 0"):
        Report("r", "", [], [], [])


@pytest.mark.parametrize("size", [(512, 512), (512, 64), (8, 8), (1, 300), (TILE, TILE)])
def test_tile_takes_any_shape_without_cropping(size):
    out = tile(Image.new("RGB", size, COLOURS[0]), TILE)
    assert out.size == (TILE, TILE) and out.getpixel((TILE // 2, TILE // 2))[0] == 255
    assert out.getpixel((0, 0)) != COLOURS[0]  # the corners are round


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text("abc mW…é", min_size=1, max_size=12), max_size=12), st.integers(20, 200))
def test_wrapped_lines_fit(words, width):
    text, face = " ".join(words), font(12)
    lines = wrap(text, face, width)
    assert all(face.getlength(line) <= width for line in lines)
    if max((face.getlength(word) for word in text.split()), default=0) <= width:
        assert " ".join(lines).split() == text.split()
    few = wrap(text, face, width, most=2)
    assert len(few) == min(2, len(lines)) and all(face.getlength(line) <= width for line in few)
    assert face.getlength(fit(text, face, width)) <= width


def test_a_wrapped_text_is_whole_where_it_has_room():
    text = "a painting of an english springer in the style of kelly mckernan"
    assert " ".join(wrap(text, font(12), 120)) == text
    assert wrap("", font(12), 120) == [""]


def test_lighter_goes_to_white():
    assert lighter("#c2410c", 0) == "#c2410c" and lighter("#c2410c", 1) == "#ffffff"


class Checker(HTMLParser):
    """Collects what would be fetched and complains about tags that do not close."""

    def __init__(self, text):
        super().__init__()
        self.open, self.sources, self.scripts = [], [], 0
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.sources += [value for name, value in attributes if name in ("src", "href")]
        self.scripts += tag == "script"
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        pass

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.mark.parametrize("versions", [1, 2, 5])
def test_html_is_whole_and_self_contained(versions):
    text = to_html(report(pictures=2, versions=versions))
    checked = Checker(text)
    assert not checked.open and not checked.scripts
    assert len(checked.sources) == 2 * versions
    assert all(source.startswith("data:image/jpeg;base64,") for source in checked.sources)
    assert not re.search(r"https?://|@import|url\(", text)


def test_html_escapes_what_it_is_given():
    text = to_html(report())
    assert "Erasing “x” &amp; &lt;y&gt;" in text and "style &lt;b&gt;" in text and "<toy>" not in text
    assert "&lt;v1&gt;" in text and "<v1>" not in text and "&lt;1 kB&gt;" in text
    assert "answer 0" in text and "90 %" in text and "10 %" in text


def test_a_bad_answer_is_marked():
    bad, good = one_strip(picture(bad=[1])), one_strip(picture())
    assert "class='bad'" in to_html(bad) and "× answer 1" in to_html(bad)
    assert "class='bad'" not in to_html(good) and "×" not in to_html(good)
    assert to_image(bad).tobytes() != to_image(good).tobytes()


def test_a_score_says_how_many_images_it_rests_on():
    assert Score("x", "keep", [wilson(1, 3), wilson(2, 3)]).images == "3 images"
    assert Score("x", "keep", [wilson(1, 3), wilson(2, 5), wilson(2, 4)]).images == "3-5 images"


def test_text_table_lines_up():
    lines = text_table(report(versions=3)).splitlines()
    assert len(lines) == 4
    assert [line.split() for line in lines] == [
        "style <b> rest erasing took edit".split(),
        "<v0> 90 % [60, 98] 100 % [70, 100] - -".split(),
        "<v1> 10 % [2, 40] 89 % [57, 98] 1 s <1 kB>".split(),
        "<v2> 20 % [6, 51] 89 % [57, 98] 2 s <1 kB>".split(),
    ]
    starts = {(line.index(score), line.index(cost)) for line, score, cost in zip(
        lines, ("style", "90 %", "10 %", "20 %"), ("erasing", "-  ", "1 s", "2 s"), strict=True
    )}  # fmt: skip
    assert len(starts) == 1
