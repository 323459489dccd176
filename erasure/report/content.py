"""What a report says, before it is laid out."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from PIL import Image

from erasure.metrics.intervals import Interval

Goal = Literal["erase", "keep"]


@dataclass(frozen=True)
class Score:
    """One line of the table: how often a group of concepts is recognised, before and after."""

    label: str  # "target: van gogh"
    before: Interval
    after: Interval
    goal: Goal


@dataclass(frozen=True)
class Picture:
    """The same prompt and seed before and after, with what the judge named in each ('' where nothing judged)."""

    caption: str
    before: Image.Image
    after: Image.Image
    judged_before: str = ""
    judged_after: str = ""
    good_before: bool = True  # the answer is what one hopes for here
    good_after: bool = True


@dataclass(frozen=True)
class Strip:
    """Pictures side by side under one heading: a row before, a row after."""

    title: str
    pictures: list[Picture]
    note: str = ""


@dataclass(frozen=True)
class Report:
    title: str
    subtitle: str
    scores: list[Score]
    strips: list[Strip]
    facts: dict[str, str] = field(default_factory=dict)  # settings and versions, by name
    score_title: str = "How often the judge recognises what the prompt names"


def text_table(scores: list[Score]) -> str:
    """The scores for a terminal: a line each, before -> after with 95 % intervals."""
    heads = ("", "before", "after", "images")
    lines = [(s.label, s.before.percent(), s.after.percent(), str(s.after.n)) for s in scores]
    widths = [max(len(line[i]) for line in [heads, *lines]) for i in range(4)]
    shown = []
    for i, (label, before, after, n) in enumerate([heads, *lines]):
        arrow = "  " if i == 0 else "->"
        shown.append(
            f"{label:<{widths[0]}}  {before:<{widths[1]}} {arrow} {after:<{widths[2]}}  {n:>{widths[3]}}".rstrip()
        )
    return "\n".join(shown)
