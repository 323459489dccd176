"""The verdict on a number: does it agree with the published one; on the embedded model, is the finding there.

A published number counts if it was read in its source or a later paper reprints it. It is reproduced where it lies in our 95 %
interval or within BANDS of ours, else ours is better or worse, by the metric's direction. What was written from memory is never
judged. No published number is about the embedded model: there reports/findings.py compares with the base model's.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from erasure.errors import UserError
from reproduce.reports import findings
from reproduce.reports.wording import family, number, within
from reproduce.results import Entry, TableResult
from reproduce.tables import Table, table

MARKS = {"secondary": "*", "recalled": "?"}  # after a published value
NO_NUMBER = ("recalled", "missing")


@dataclass(frozen=True)
class Band:
    """How far a number may lie from the published one; only a convention for display.

    points: of a share, whether printed as percent or as fraction. share: of the published number, but `least` where that is
    below `small`. plus: in the number's own unit; cosine: instead, where that is no 100 x cosine. images: it holds from so many on.
    """

    points: float = 0.0
    plus: float = 0.0
    cosine: float = 0.0
    share: float = 0.0
    least: float = 0.0
    small: float = 0.0
    images: int = 0

    def width(self, published: float, unit: str | None) -> float:
        if self.points:
            return self.points / 100 if unit == "fraction" else self.points
        if self.share:
            return self.least if abs(published) < self.small else self.share * abs(published)
        return self.cosine if self.cosine and abs(published) < 1 else self.plus

    def text(self, width: float) -> str:
        return f"±{self.points:g} points" if self.points else f"±{number(width)}"


_ACCURACY, _NUDENET = Band(points=3), Band(share=0.15, least=8, small=60)
BANDS: Mapping[str, Band] = {
    "imagenet_accuracy": _ACCURACY,
    "imagenet_drop": _ACCURACY,
    "style_accuracy": _ACCURACY,
    "object_accuracy": _ACCURACY,
    "giphy_accuracy": _ACCURACY,
    "clip_accuracy": _ACCURACY,
    "fid": Band(plus=1.0, images=30_000),
    "clip_score": Band(plus=0.3, cosine=0.003),
    "nudenet_images": _NUDENET,
    "nudenet_parts": _NUDENET,
    "lpips": Band(plus=0.02),
}
"""By `family` of the measure; one that is not here has no band: the interval alone decides."""
NO_COSINE = 0.2  # ESD's CLIP scores: real pictures have 0.156, and no cosine of image and caption is that low
NUDE_SHARES = ("nudity_reduction_pct", "nudity_acc", "pre_asr", "i2p")
"""Metrics that NudeNet measures and the paper prints as shares: no totals, so without its band."""
MANY = ("fid", "kid", "nudenet_images", "nudenet_parts")
"""Measures whose value depends on how many images they are over."""

TONES: Mapping[str, tuple[str, str]] = {
    "reproduced": ("good", "✓"), "better": ("good", "▲"), "worse": ("bad", "▼"), "differs": ("fair", "≠"),
    "erased": ("good", "✓"), "partly": ("fair", "◐"), "not erased": ("bad", "✗"),
    "kept": ("good", "✓"), "harmed": ("bad", "✗"), "restored": ("good", "✓"), "not restored": ("bad", "✗"),
    "as before": ("none", "="), "lower": ("none", "▽"), "resists": ("good", "✓"), "broken": ("bad", "✗"),
    "balanced": ("good", "✓"), "not balanced": ("bad", "✗"), "measured": ("none", "·"), "base model": ("none", "·"),
    "not judged": ("none", "?"), "not transcribed": ("none", "·"), "not printed": ("none", "·"),
    "not comparable": ("none", "≁"), "not measured": ("none", "–"),
}  # fmt: skip
"""Every verdict: how it is coloured, and a sign for narrow columns."""


def judged(result: TableResult) -> list[tuple[Entry, str, str]]:
    """Every entry with its verdict and the reason."""
    try:
        source = table(result.name)
    except UserError:  # a table that has left the files since
        source = None
    entries = [replace(e, published=None, certainty="") if result.base == "toy" else e for e in result.entries]
    found = [(entry, *verdict(entry, source)) for entry in entries]
    return [(entry, word, reason + _ratio(entry, word, result, source)) for entry, word, reason in found]


def verdict(entry: Entry, source: Table | None = None) -> tuple[str, str]:
    """(one of TONES, the reason in a sentence). `source` tells the unit, the detector and the number of images."""
    ours, published = entry.ours, entry.published
    if ours is None:
        return "not measured", entry.why or "no reason was noted"
    if kind := findings.kind_of(entry):
        return findings.verdict(entry, kind)
    if entry.certainty == "missing":
        return "not transcribed", "the paper's number is not known here"
    if entry.certainty == "recalled":
        return "not judged", "the number was written from memory and never compared with the paper"
    if published is None:
        return "not printed", "the paper prints no number here"
    if why := next(_obstacles(entry, source), None):
        return "not comparable", why
    return _compared(entry, source)


# ---- against a published number --------------------------------------------------------------------------------------


def _obstacles(entry: Entry, source: Table | None) -> Iterator[str]:
    """Why ours and the published number are not of the same kind."""
    said = dict(source.published) if source else {}
    if entry.measure.startswith("nudenet") and (theirs := nudenet(str(said.get("detector", "")))):
        if theirs != (mine := nudenet(entry.ours.definition) or "3"):  # the package that is used here is version 3
            yield f"NudeNet {mine} here, NudeNet {theirs} in the paper: their counts do not compare"
    if entry.measure == "clip_score" and abs(entry.published) < NO_COSINE:
        yield "the scale of the published number is not known; ratios to the base model's row compare"
    elif entry.measure == "clip_score" and abs(entry.published) < 1 < abs(entry.ours.value):
        yield "100 x cosine here, the cosine in the paper"
    if (
        family(entry.measure) in MANY
        and entry.metric not in NUDE_SHARES
        and entry.ours.n
        and (theirs := _images(entry, said))
    ):
        if entry.ours.n < 0.9 * theirs:
            yield f"over {entry.ours.n} images here, {theirs} in the paper: the value depends on their number"


def _ratio(entry: Entry, word: str, result: TableResult, source: Table | None) -> str:
    """Both numbers as ratios to the base model's, where only the scale keeps them apart."""
    bases = {label for label, run in ((source.runs or {}) if source else {}).items() if run["method"] == "base"}
    same = (e for e in result.entries if e.method in bases and (e.metric, e.part) == (entry.metric, entry.part))
    base = next((e for e in same if e.ours and e.ours.value and e.published), None)
    if word != "not comparable" or entry.measure != "clip_score" or base is None:
        return ""
    ours, theirs = entry.ours.value / base.ours.value, entry.published / base.published
    return f": {ours:.3f} of {base.method}'s here, {theirs:.3f} in the paper"


def nudenet(text: str) -> str | None:
    """The version of NudeNet that a text names: 2 or 3; None where it leaves that open, or names both."""
    named = re.findall(r"NudeNet(?: version)? v?([23])[.\d]*(?: (?:or|and) v?([23]))?", text, re.IGNORECASE)
    found = {version for pair in named for version in pair if version}
    return found.pop() if len(found) == 1 else None


def _images(entry: Entry, said: Mapping) -> int | None:
    """The paper's number of images; where it states two, the distances are over the larger."""
    numbers = [int(n) for n in re.findall(r"\d+", re.sub(r"\(.*?\)", "", str(said.get("images", ""))))]
    return (max if family(entry.measure) in ("fid", "kid") else min)(numbers, default=None)


def _compared(entry: Entry, source: Table | None) -> tuple[str, str]:
    ours, published = entry.ours, entry.published
    if ours.low is not None and ours.high is not None and ours.low <= published <= ours.high:
        return "reproduced", f"the published {number(published)} lies in our 95 % interval"
    band = None if entry.metric in NUDE_SHARES else BANDS.get(family(entry.measure))
    if band and not (band.images and ours.n and ours.n < band.images):
        width = band.width(published, source.unit if source else None)
        if within(abs(ours.value - published), width):
            return "reproduced", f"within {band.text(width)} of the published {number(published)}"
    difference = ours.value - published
    if difference == 0:
        return "reproduced", f"equals the published {number(published)}"
    way = f"{number(abs(difference), 3)} {'above' if difference > 0 else 'below'} the published {number(published)}"
    if published:
        way += f" ({100 * difference / abs(published):+.0f} %)"
    if entry.better not in ("higher", "lower"):
        return "differs", way
    return "better" if (difference > 0) == (entry.better == "higher") else "worse", f"{way}; {entry.better} is better"
