"""What every benchmark needs: interleaved timing, ratios, tables.

A topic is a module of this package with

* ``run(settings) -> list[dict]``: measured rows of plain numbers and strings (they go into the JSON file as they are),
* ``TITLE``, ``NOTE`` and ``COLUMNS``: how `table` shows them.

Absolute times depend on the machine and on what else it does; a ratio between things timed in turns (A B A B ...) hardly
does. So ratios are taken pair by pair, and their median is reported with the range of the middle half.
"""

import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

FORMS = ("ours", "peer")  # the two ways to do a thing


@dataclass(frozen=True)
class Settings:
    """What to measure on. ``None`` leaves the choice to the topic."""

    device: str = "cpu"
    models: tuple[str, ...] | None = None
    dtypes: tuple[str, ...] = ("float32", "bfloat16")
    latents: int | None = None  # side of SD v1's latents
    batches: tuple[int, ...] = (1, 4, 8, 16, 32)
    seconds: float = 15.0  # for one comparison
    quick: bool = False

    def chosen_models(self, default: Sequence[str]) -> tuple[str, ...]:
        return self.models or tuple(default)


@dataclass(frozen=True)
class Column:
    key: str
    header: str
    format: Callable = str


def interleave(
    variants: dict[str, Callable[[], object]],
    device: str,
    seconds: float = 15.0,
    rounds: tuple[int, int] = (2, 30),
    warm_up: bool = True,
) -> dict[str, list[float]]:
    """Seconds of every call: each round calls all variants in turn, after one call of each that does not count (`warm_up`).

    Rounds are repeated until `seconds` are over, but at least and at most as often as `rounds` says.
    """
    for call in variants.values():
        if warm_up:
            call()
    times = {name: [] for name in variants}
    started = time.perf_counter()
    for done in range(1, rounds[1] + 1):
        for name, call in variants.items():
            synchronize(device)
            before = time.perf_counter()
            call()
            synchronize(device)
            times[name].append(time.perf_counter() - before)
        if done >= rounds[0] and time.perf_counter() - started > seconds:
            break
    return times


def compare(times: dict[str, list[float]], ours: str = "ours", peer: str = "peer") -> dict[str, float | int]:
    """Medians and the peer's time divided by ours, pair by pair: above 1, ours is faster."""
    ratios = [b / a for a, b in zip(times[ours], times[peer], strict=True)]
    low, high = spread(ratios)
    return {
        "ours_s": statistics.median(times[ours]),
        "peer_s": statistics.median(times[peer]),
        "ratio": statistics.median(ratios),
        "ratio_low": low,
        "ratio_high": high,
        "rounds": len(ratios),
    }


def spread(values: Sequence[float]) -> tuple[float, float]:
    """First and third quartile; of fewer than four values, the smallest and the largest."""
    if len(values) < 4:
        return min(values), max(values)
    low, _, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, high


def synchronize(device: str) -> None:
    if device.startswith("cuda"):
        import torch

        torch.cuda.synchronize(device)


# ---- presentation --------------------------------------------------------------------------------------------------


def seconds_text(value: float) -> str:
    return f"{1000 * value:.1f} ms" if value < 1 else f"{value:.2f} s"


def duration(value: float) -> str:
    """In hours or minutes, from two of them on."""
    for unit, size in (("h", 3600), ("min", 60)):
        if value >= 2 * size:
            return f"{value / size:.1f} {unit}"
    return seconds_text(value)


def megabytes(value: float) -> str:
    return f"{value / 1e6:,.0f} MB"


def ratio_columns() -> list[Column]:
    """Columns for what `compare` returns."""
    return [
        Column("ours_s", "ours", seconds_text),
        Column("peer_s", "peer", seconds_text),
        Column("ratio", "peer / ours", "**{:.2f}**".format),
        Column("ratio_low", "from", "{:.2f}".format),
        Column("ratio_high", "to", "{:.2f}".format),
        Column("rounds", "pairs"),
    ]


def memory_columns() -> list[Column]:
    """Columns for what `machine.trained_alone` returns."""
    return [
        Column("ours_memory", "memory, ours", megabytes),
        Column("peer_memory", "memory, peer", megabytes),
        Column("memory_ratio", "peer / ours", "**{:.2f}**".format),
    ]


def table(rows: Iterable[dict], columns: Sequence[Column]) -> str:
    """A Markdown table that is aligned enough to be read as it is. A value of None shows as a dash."""
    cells = [[column.header for column in columns]]
    for row in rows:
        cells.append(["-" if row.get(c.key) is None else c.format(row[c.key]) for c in columns])
    widths = [max(len(line[i]) for line in cells) for i in range(len(columns))]
    lines = ["| " + " | ".join(text.ljust(w) for text, w in zip(line, widths, strict=True)) + " |" for line in cells]
    return "\n".join([lines[0], "|" + "|".join("-" * (w + 2) for w in widths) + "|", *lines[1:]])
