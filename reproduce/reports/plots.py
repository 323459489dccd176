"""Plots of a table, as PNG: erasure against preservation, thresholds, and all tables on one sheet.

Better is always up and to the right: an axis on which less is better runs downwards. Filled dots are ours, hollow ones published;
both carry the method's number. Dots on one spot stand side by side.
"""

import textwrap
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from matplotlib.transforms import ScaledTranslation

from erasure.report.drawing import FAINT, INK, LINE, PAPER, QUIET, lighter
from erasure.report.scatter import COLOURS
from erasure.runs import atomic_path
from reproduce.reports import points
from reproduce.reports.findings import BASES
from reproduce.reports.points import Axis, Method, Points, Value
from reproduce.reports.wording import family
from reproduce.results import Curve

DPI = 160
PLOT = (4.6, 3.5)  # inches, without the legend
DOT = 11.0  # diameter in points
MOST_PANELS, MOST_METHODS = 6, 40
SIDES = {"keep": "preserved", "erase": "erased"}
Spot = tuple[Method, int, bool, Value, Value]  # method, its position, published, x, y


def tradeoff(title: str, found: Points, path: Path) -> None:
    """A plane, or a panel a metric with a line a method."""
    if found.plane:
        height = max(PLOT[1], 0.25 * len(found.methods[:MOST_METHODS]) + 1.2)
        figure = _figure(PLOT[0] + 2.6, height, title)
        axes = figure.subplots(1, 2, width_ratios=(PLOT[0], 2.4))
        plane(axes[0], found)
        legend(axes[1], found)
    else:
        shown = found.axes[:MOST_PANELS]
        height = max(1.9, 0.34 * len(found.methods[:MOST_METHODS]) + 1.5)
        figure = _figure(2.0 + 2.2 * max(2, len(shown)), height, title)
        panels = figure.subplots(1, len(shown), squeeze=False)[0]
        for i, (panel, axis) in enumerate(zip(panels, shown, strict=True)):
            lines(panel, found, i, axis, names=i == 0)
        figure.supxlabel("; ".join(_key(found)), fontsize=7.5, color=QUIET, x=0.02, ha="left")
    _save(figure, path)


def thresholds(title: str, curves: Sequence[Curve], path: Path) -> None:
    """A panel for each thing that is counted, a line a model."""
    titles = list(dict.fromkeys(curve.title for curve in curves))
    labels = list(dict.fromkeys(curve.label for curve in curves))
    figure = _figure(PLOT[0] * min(2, len(titles)) + 2.4, PLOT[1] * -(-len(titles) // 2) + 0.3, title)
    panels = figure.subplots(-(-len(titles) // 2), min(2, len(titles)), squeeze=False).flat
    for panel, name in zip(panels, titles, strict=False):
        for curve in (c for c in curves if c.title == name):
            i = labels.index(curve.label)
            x, y = zip(*sorted(curve.points), strict=True) if curve.points else ((), ())
            base = curve.label in BASES
            style = {"color": FAINT if base else _colour(i), "linestyle": "-" if base else _DASHES[i % len(_DASHES)]}
            panel.plot(
                x, y, label=curve.label, linewidth=1.8, marker="o" if len(x) < 12 else "", markersize=3.5, **style
            )
        panel.set_title(_wrapped(name, PLOT[0], 9), fontsize=9, color=QUIET, loc="left")
        panel.set_xlabel("threshold", fontsize=9, color=QUIET)
        panel.set_ylim(bottom=0)
        _quiet(panel)
    for panel in panels:
        panel.set_axis_off()
    handles, names = [], []
    for panel in figure.axes:
        for handle, label in zip(*panel.get_legend_handles_labels(), strict=True):
            if label not in names:
                handles, names = [*handles, handle], [*names, label]
    figure.legend(handles, names, loc="outside right upper", frameon=False, fontsize=8.5)
    _save(figure, path)


_DASHES = ("-", (0, (5, 2)), (0, (1, 1.2)))  # lines on one another stay visible


def sheet(title: str, panels: Sequence[tuple[str, Points]], path: Path) -> None:
    """Small multiples: planes with their legends."""
    columns = min(2, len(panels))
    rows = -(-len(panels) // columns)
    height = max(PLOT[1], 0.25 * max(len(found.methods[:MOST_METHODS]) for _, found in panels) + 1.0)
    figure = _figure((PLOT[0] + 2.6) * columns, height * rows + 0.4, title)
    grid = figure.subplots(rows, 2 * columns, squeeze=False, width_ratios=(PLOT[0], 2.4) * columns)
    spaces = [(row[2 * i], row[2 * i + 1]) for row in grid for i in range(columns)]
    for (panel, names), (name, found) in zip(spaces, panels, strict=False):
        plane(panel, found)
        panel.set_title(name, fontsize=10, color=INK, loc="left", fontweight="bold")
        legend(names, found)
    for pair in spaces[len(panels) :]:
        for panel in pair:
            panel.set_axis_off()
    _save(figure, path)


# ---- panels --------------------------------------------------------------------------------------------------------


def plane(panel: Axes, found: Points) -> None:
    """Preservation to the right, erasure up."""
    methods = found.methods[:MOST_METHODS]
    spots: list[Spot] = []
    for i, one in enumerate(methods):
        for published, (x, y) in ((True, one.published), (False, one.ours)):
            if x and y:
                spots.append((one, i, published, x, y))
    for axis, which in zip(found.axes, ("x", "y"), strict=True):
        values = [v for spot in spots for v in _ends(spot[3 if which == "x" else 4])] + list(_ends(axis.base))
        _scale(panel, which, axis, values)
    base = tuple(axis.base for axis in found.axes)
    if all(base):
        panel.plot(base[0].value, base[1].value, "s", color=FAINT, markersize=8, zorder=3)
        panel.annotate("base model", (base[0].value, base[1].value), (0, 8), textcoords="offset points",
                       ha="right" if _at(panel, base)[0] > 0.5 else "left", fontsize=8, color=QUIET)  # fmt: skip
    for one in methods:
        if all(one.ours) and all(one.published):
            ends = [(v.value, w.value) for v, w in zip(one.ours, one.published, strict=True)]
            panel.plot(*ends, color=lighter(_colour(methods.index(one)), 0.5), linewidth=1, linestyle=":", zorder=2)
    for spot, shift in zip(spots, _shifts(panel, spots), strict=True):
        _dot(panel, spot, shift)
    for axis, which in zip(found.axes, ("x", "y"), strict=True):
        side = SIDES[axis.key[2] or "keep"]
        arrow = "→" if which == "x" else "↑"
        less = "" if axis.better == "higher" else ", less is better"
        getattr(panel, f"set_{which}label")(f"{side}: {axis.name}{less}  {arrow}", fontsize=9, color=QUIET)
    _quiet(panel)


def lines(panel: Axes, found: Points, which: int, axis: Axis, names: bool) -> None:
    """One metric: a line a method, the first at the top; ours above published."""
    methods = found.methods[:MOST_METHODS]
    values: list[float] = list(_ends(axis.base))
    for i, one in enumerate(methods):
        for published, value, lift in ((True, one.published[which], 0.16), (False, one.ours[which], -0.16)):
            if value:
                values += _ends(value)
                at = i + (lift if one.published[which] and one.ours[which] else 0)
                if value.low is not None and value.high is not None:
                    panel.plot((value.low, value.high), (at, at), color=lighter(_colour(i), 0.45), linewidth=2)
                face = PAPER if published else _colour(i)
                panel.plot(
                    value.value, at, "o", color=face, markeredgecolor=_colour(i), markersize=7, markeredgewidth=1.5
                )
    if axis.base:
        panel.axvline(axis.base.value, color=FAINT, linewidth=1.2, linestyle="--", zorder=1)
        panel.text(axis.base.value, -0.72, "base model", fontsize=7.5, color=QUIET, ha="center", va="bottom")
    _scale(panel, "x", axis, values, reverse=False)
    panel.xaxis.set_major_locator(MaxNLocator(5))
    panel.set_ylim(len(methods) - 0.3, -0.75)
    panel.set_yticks(range(len(methods)), [_short(m.name) for m in methods] if names else [""] * len(methods))
    less = {"lower": "less is better", "higher": "more is better"}.get(axis.better, "")
    panel.set_xlabel(f"{axis.name}\n{less}".strip(), fontsize=9, color=QUIET)
    _quiet(panel)
    panel.tick_params(axis="y", labelsize=9, colors=INK)


def legend(panel: Axes, found: Points) -> None:
    """The methods' numbers and names, from the top; then what the dots mean."""
    panel.set_axis_off()
    names = [one.name for one in found.methods[:MOST_METHODS]]
    inches = panel.get_figure().get_size_inches()[1] / panel.get_gridspec().nrows - 0.9
    step = min(0.25 / inches, 1 / (len(names) + 3))
    panel.set(xlim=(0, 1), ylim=(0, 1))
    for i, name in enumerate(names):
        y = 1 - (i + 0.5) * step
        panel.plot(0.03, y, "o", color=_colour(i), markersize=DOT, clip_on=False)
        panel.text(0.03, y, str(i + 1), fontsize=6.5, color=PAPER, ha="center", va="center_baseline", fontweight="bold")
        name, size = (_short(name), 8.5) if len(name) <= 30 else (_short(name, 76, 38), 7)
        panel.text(0.12, y, name, fontsize=size, color=INK, va="center", clip_on=False, linespacing=1.05)
    text = "\n".join(_key(found))
    panel.text(0, 1 - (len(names) + 0.5) * step, text, fontsize=7.5, color=QUIET, va="top", linespacing=1.5)


def _key(found: Points) -> list[str]:
    more = [f"and {len(found.methods) - MOST_METHODS} more"] if len(found.methods) > MOST_METHODS else []
    ours = ["filled: ours, with 95 % intervals"] if any(v for one in found.methods for v in one.ours) else []
    return [*more, *ours, *(["hollow: published"] if any(v for one in found.methods for v in one.published) else [])]


# ---- parts ---------------------------------------------------------------------------------------------------------


def _dot(panel: Axes, spot: Spot, shift: float) -> None:
    _, i, published, x, y = spot
    colour, pale = _colour(i), lighter(_colour(i), 0.5)
    if not published:
        low, high = (
            (v.value if v.low is None else v.low for v in (x, y)),
            (v.value if v.high is None else v.high for v in (x, y)),
        )
        (x0, y0), (x1, y1) = low, high
        panel.plot((x0, x1), (y.value, y.value), color=pale, linewidth=1.5, zorder=2)
        aside = panel.transData + ScaledTranslation(shift / 72, 0, panel.get_figure().dpi_scale_trans)
        panel.plot((x.value, x.value), (y0, y1), color=pale, linewidth=1.5, zorder=2, transform=aside)
    box = {
        "boxstyle": "circle,pad=0.22",
        "facecolor": PAPER if published else colour,
        "edgecolor": colour,
        "linewidth": 1.3,
    }
    panel.annotate(f"{i + 1:>2}".replace(" ", "\N{FIGURE SPACE}") if i > 8 else str(i + 1), (x.value, y.value), (shift, 0),
                   textcoords="offset points", fontsize=6.5, fontweight="bold", ha="center", va="center",
                   color=colour if published else PAPER, bbox=box, zorder=5, annotation_clip=False)  # fmt: skip


def _shifts(panel: Axes, spots: Sequence[Spot]) -> list[float]:
    """How far each dot goes aside, in points: dots that would cover each other stand in a row, in the order of their methods."""
    size = panel.get_figure().get_size_inches() * 72 * 0.6  # about what the plane takes
    places = [np.array(_at(panel, (x, y))) * size for *_, x, y in spots]
    groups: list[list[int]] = []
    for i, place in enumerate(places):
        near = next((g for g in groups if np.hypot(*(places[g[0]] - place)) < 0.85 * DOT), None)
        groups.append([i]) if near is None else near.append(i)
    shifts = [0.0] * len(spots)
    for group in groups:
        order = sorted(group, key=lambda i: (spots[i][1], spots[i][2]))
        for k, i in enumerate(order):
            own = places[i][0] - places[group[0]][0]
            shifts[i] = (k - (len(order) - 1) / 2) * (DOT + 2) - (own if len(group) > 1 else 0)
    return shifts


def _at(panel: Axes, spot: Sequence[Value]) -> tuple[float, float]:
    """Where a spot is on the panel, from 0 to 1."""
    x, y = panel.transAxes.inverted().transform(panel.transData.transform([spot[0].value, spot[1].value]))
    return float(x), float(y)


def _scale(panel: Axes, which: str, axis: Axis, values: Sequence[float], reverse: bool = True) -> None:
    """From below the lowest to above the highest value; shares over at least 20 points, so that noise does not look large."""
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    if family(axis.key[1]) in ("attack", *points.ACCURACIES):
        wanted = 0.2 if high <= 1 else 20.0
        extra = max(0.0, wanted - (high - low)) / 2
        low, high = low - extra, high + extra
    margin = 0.08 * (high - low) or 0.1 * abs(high) or 1.0
    ends = (low - margin, high + margin)
    getattr(panel, f"set_{which}lim")(*(ends[::-1] if reverse and axis.better == "lower" else ends))


def _ends(value: Value | None) -> tuple[float, ...]:
    return tuple(v for v in (value.low, value.value, value.high) if v is not None) if value else ()


def _colour(i: int) -> str:
    return COLOURS[i % len(COLOURS)]


def _short(name: str, most: int = 30, line: int = 0) -> str:
    """At most so many letters; line: broken into lines of so many."""
    short = name if len(name) <= most else name[: most - 1] + "…"
    return _plain("\n".join(textwrap.wrap(short, line)) if line else short)


def _wrapped(text: str, inches: float, size: float) -> str:
    """Lines that are no longer than there is room; a letter is about 0.6 of its size wide."""
    return _plain("\n".join(textwrap.wrap(text, max(20, int(72 * inches / (0.64 * size))))))


def _plain(text: str) -> str:
    """Dollars would begin a formula."""
    return text.replace("$", r"\$")


def _quiet(panel: Axes) -> None:
    panel.grid(color=LINE, linewidth=0.8)
    panel.set_axisbelow(True)
    panel.tick_params(colors=QUIET, labelsize=8, length=0)
    for spine in panel.spines.values():
        spine.set_visible(False)


def _figure(width: float, height: float, title: str) -> Figure:
    figure = Figure(figsize=(width, height), dpi=DPI, layout="constrained", facecolor=PAPER)
    figure.suptitle(_wrapped(title, 0.94 * width, 11), fontsize=11, color=INK, fontweight="bold", x=0.02, ha="left")
    return figure


def _save(figure: Figure, path: Path) -> None:
    with atomic_path(path) as temporary:
        figure.savefig(temporary)
