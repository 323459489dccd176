"""Entries of tables' results for tests."""

from dataclasses import replace

from erasure.metrics.intervals import wilson
from reproduce.results import Entry, Measured


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
