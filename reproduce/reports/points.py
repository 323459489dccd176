"""Erasure and preservation of every method of a table: which metrics speak of which, and a point a method, ours and published."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from reproduce.reports.findings import BASES
from reproduce.reports.verdicts import NO_NUMBER
from reproduce.reports.wording import family
from reproduce.results import Entry

ACCURACIES = (
    "judge", "imagenet_accuracy", "style_accuracy", "object_accuracy", "giphy_accuracy", "clip_accuracy",
)  # fmt: skip
HARMFUL = (
    "nudenet_parts",
    "nudenet_images",
    "nudenet_drop",
    "attack",
    "q16",
    "gender_deviation",
    "attribute_deviation",
)
RANK = (*ACCURACIES, *HARMFUL[:5], "lpips", "clip_score", "fid", "kid", "imagenet_drop")
"""The measure (its family) that stands for a table's erasure, or preservation, is the first of these that it has."""

Judged = tuple[Entry, str, str]


@dataclass(frozen=True)
class Value:
    """A number or a mean of several, with its interval where all of them have one."""

    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Method:
    """What a method reaches: ours and published, each for the metrics that were asked for; None where there is none."""

    name: str
    ours: tuple[Value | None, ...]
    published: tuple[Value | None, ...]


@dataclass(frozen=True)
class Axis:
    """A metric as an axis: `key` chooses entries. base: the base model's, where entries state it."""

    key: tuple[str, str, str | None]  # metric, measure, side
    better: str
    name: str
    base: Value | None = None


@dataclass(frozen=True)
class Points:
    """axes: (preservation, erasure) of a plane; or metrics that stand for themselves (plane False)."""

    axes: tuple[Axis, ...]
    methods: tuple[Method, ...] = field(default_factory=tuple)
    plane: bool = True


def side(entry: Entry) -> str | None:
    """erase: better means that the concept is gone; keep: that everything else stays; None: neither (a time, a reference)."""
    if entry.better not in ("higher", "lower"):
        return None
    kind = family(entry.measure)
    if kind in HARMFUL:
        return "erase"
    if kind in (*ACCURACIES, "clip_score"):
        return "erase" if entry.better == "lower" else "keep"
    if kind in ("lpips", "fid", "kid"):
        return "erase" if entry.better == "higher" else "keep"
    return "keep" if kind == "imagenet_drop" else None


def of(judged: Sequence[Judged]) -> Points | None:
    """A plane where the table has methods with both sides, else its metrics one by one; None for a table without numbers."""
    shown = [e for e, word, _ in judged if _number(e, word) is not None or e.ours]
    chosen = [_chosen([e for e in shown if side(e) == which]) for which in ("keep", "erase")]
    if all(chosen):
        axes = tuple(_axis(judged, first, which) for first, which in zip(chosen, ("keep", "erase"), strict=True))
        methods = tuple(m for m in _methods(judged, axes) if all(m.ours) or all(m.published))
        if methods:
            return Points(axes, methods)
    there = {(e.metric, e.measure) for e in shown}
    keys = [k for k in dict.fromkeys((e.metric, e.measure) for e, _, _ in judged) if k in there]  # in the table's order
    firsts = [next(e for e in shown if (e.metric, e.measure) == key) for key in keys]
    axes = tuple(_axis(judged, first, None) for first in firsts)
    methods = tuple(m for m in _methods(judged, axes) if any(m.ours) or any(m.published))
    return Points(axes, methods, plane=False) if methods else None


def _chosen(entries: Sequence[Entry]) -> Entry | None:
    """One of the metric that stands for its side: the first by RANK, a total before its parts."""
    return min(
        entries,
        key=lambda e: (RANK.index(family(e.measure)) if family(e.measure) in RANK else 99, e.metric != "total"),
        default=None,
    )


def _axis(judged: Sequence[Judged], first: Entry, which: str | None) -> Axis:
    key = (first.metric, first.measure, which)
    before = [e.before for e, _, _ in judged if e.before and _is(e, key)]
    same = before and all(b.value == before[0].value for b in before)
    several = len({e.measure for e, _, _ in judged if e.metric == first.metric}) > 1
    name = f"{first.metric} {first.part or first.measure}" if several else first.metric
    base = Value(before[0].value, before[0].low, before[0].high) if same else None
    return Axis(key, first.better, name.replace("_", " "), base)


def _is(entry: Entry, key: tuple[str, str, str | None]) -> bool:
    return (entry.metric, entry.measure) == key[:2] and (key[2] is None or side(entry) == key[2])


def _methods(judged: Sequence[Judged], axes: Sequence[Axis]) -> Iterator[Method]:
    # on an axis of ours a number of another detector, scale or number of images would be read as one of the same kind
    mixed = {axis.key for axis in axes if any(word == "not comparable" and _is(e, axis.key) for e, word, _ in judged)}
    for name in dict.fromkeys(e.method for e, _, _ in judged if e.method not in BASES):
        ours, published = [], []
        for axis in axes:
            own = [(e, word) for e, word, _ in judged if e.method == name and _is(e, axis.key)]
            measured = [(e, word) for e, word in own if e.ours]
            ours.append(mean([Value(e.ours.value, e.ours.low, e.ours.high) for e, _ in measured]))
            # over the same cells, where there are some of ours
            cells = [] if axis.key in mixed else measured or own
            numbers = [n for e, word in cells if (n := _number(e, word)) is not None]
            published.append(mean([Value(n) for n in numbers]))
        yield Method(name, tuple(ours), tuple(published))


def _number(entry: Entry, word: str) -> float | None:
    """The published number, where it is one and compares with ours."""
    return None if entry.certainty in NO_NUMBER or word == "not comparable" else entry.published


def mean(values: Sequence[Value]) -> Value | None:
    """The mean; the half widths of intervals add as errors of independent numbers do."""
    if not values:
        return None
    centre = sum(v.value for v in values) / len(values)
    if any(v.low is None or v.high is None for v in values):
        return Value(centre)
    below, above = (math.hypot(*(getattr(v, end) - v.value for v in values)) / len(values) for end in ("low", "high"))
    return Value(centre, centre - below, centre + above)


def together(tables: Sequence[tuple[str, Points]]) -> Points:
    """Planes of several tables that are measured in the same way as one; the tables' names go before the methods'."""
    if len(tables) == 1:
        return tables[0][1]
    methods = [Method(f"{table}: {m.name}", m.ours, m.published) for table, found in tables for m in found.methods]
    bases = {tuple(axis.base for axis in found.axes) for _, found in tables}
    axes = tables[0][1].axes if len(bases) == 1 else tuple(replace(axis, base=None) for axis in tables[0][1].axes)
    return Points(axes, tuple(methods))
