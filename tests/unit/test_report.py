"""Reports hold what they were given, need nothing from outside, and survive awkward contents."""

import re
from html.parser import HTMLParser

import pytest
from PIL import Image

from erasure.metrics.intervals import wilson
from erasure.report import Picture, Report, Score, Strip, to_html, to_image
from erasure.report.content import text_table
from erasure.report.png import COLUMNS, TILE, WIDTH, fit, font, tile, wrap

RED, BLUE = (255, 0, 0), (0, 0, 255)


def picture(caption="a church", size=(32, 32), **kwargs):
    return Picture(caption, Image.new("RGB", size, RED), Image.new("RGB", size, BLUE), "church", "photo", **kwargs)


def report(pictures=3, strips=1, **kwargs):
    scores = [
        Score("style <b>", wilson(9, 10), wilson(1, 10), "erase"),
        Score("rest", wilson(9, 9), wilson(8, 9), "keep"),
    ]
    shown = [Strip(f"strip {i}", [picture() for _ in range(pictures)], "a note") for i in range(strips)]
    return Report("Erasing “x” & <y>", "how it was done", scores, shown, {"base": "<toy>"}, **kwargs)


def colours(image):
    return {colour for _, colour in image.getcolors(maxcolors=1 << 20)}


def test_png_shows_every_picture_before_and_after():
    image = to_image(report(pictures=3))
    assert image.width == WIDTH and image.mode == "RGB"
    counts = {colour: n for n, colour in image.getcolors(maxcolors=1 << 20)}
    assert 0.97 < counts[RED] / (3 * TILE * TILE) <= 1
    assert 0.97 < counts[BLUE] / (3 * TILE * TILE) <= 1


def test_png_grows_with_what_it_holds():
    assert to_image(report(strips=0)).height < to_image(report(strips=1)).height < to_image(report(strips=2)).height
    assert to_image(report(pictures=COLUMNS)).height < to_image(report(pictures=COLUMNS + 1)).height
    assert to_image(Report("nothing", "", [], [])).height > 0


def test_png_keeps_its_margins_clear():
    image = to_image(report(pictures=COLUMNS))
    for box in (
        (0, 0, 40, image.height),
        (WIDTH - 40, 0, WIDTH, image.height),
        (0, image.height - 20, WIDTH, image.height),
    ):
        assert colours(image.crop(box)) == {(255, 255, 255)}


def test_both_are_the_same_for_the_same_report():
    assert to_image(report()).tobytes() == to_image(report()).tobytes()
    assert to_html(report()) == to_html(report())


@pytest.mark.parametrize("size", [(512, 512), (512, 64), (8, 8), (1, 300)])
def test_tile_takes_any_shape_without_cropping(size):
    out = tile(Image.new("RGB", size, RED))
    assert out.size == (TILE, TILE) and out.getpixel((TILE // 2, TILE // 2))[0] == 255


@pytest.mark.parametrize(
    "text", ["", "a", "a painting of an english springer in the style of kelly mckernan", "x" * 200]
)
def test_wrapped_lines_fit(text):
    face = font(12)
    lines = wrap(text, face, 100)
    assert all(face.getlength(line) <= 100 for line in lines)
    if "x" not in text:
        assert " ".join(lines) == text
    assert face.getlength(fit(text, face, 50)) <= 50


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


def test_html_is_whole_and_self_contained():
    text = to_html(report(pictures=2))
    checked = Checker(text)
    assert not checked.open and not checked.scripts
    assert len(checked.sources) == 4 and all(source.startswith("data:image/jpeg;base64,") for source in checked.sources)
    assert not re.search(r"https?://|@import|url\(", text)


def test_html_escapes_what_it_is_given():
    text = to_html(report())
    assert "Erasing “x” &amp; &lt;y&gt;" in text and "style &lt;b&gt;" in text and "<toy>" not in text
    assert "before: church" in text and "after: photo" in text
    assert "90 %" in text and "10 %" in text


def test_a_bad_answer_is_marked():
    bad = Report("r", "", [], [Strip("s", [picture(good_after=False)])])
    good = Report("r", "", [], [Strip("s", [picture()])])
    assert "class='bad'" in to_html(bad) and "class='bad'" not in to_html(good)
    assert to_image(bad).tobytes() != to_image(good).tobytes()


def test_text_table_lines_up():
    lines = text_table(report().scores).splitlines()
    assert len(lines) == 3
    assert lines[1].split() == "style <b> 90 % [60, 98] -> 10 % [2, 40] 10".split()
    assert len({line.index("->") for line in lines[1:]}) == 1 and len({len(line) for line in lines}) == 1
