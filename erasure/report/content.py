"""What a report says, before it is laid out: several versions of a model, given the same prompts and seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from PIL import Image

from erasure.metrics.intervals import Interval

Goal = Literal["erase", "keep"]
WANTED: Mapping[Goal, str] = {"erase": "should be gone", "keep": "should stay"}


@dataclass(frozen=True)
class Version:
    """A row of the table: the base model, which comes first, or what a method made of it."""

    name: str  # "UCE"
    note: str = ""  # "closed form"
    costs: Mapping[str, str] = field(default_factory=dict)  # columns after the scores: {"erasing took": "0.01 s"}


@dataclass(frozen=True)
class Score:
    """A column of the table: how often a group of concepts is recognised."""

    label: str  # "other styles"
    goal: Goal
    intervals: Sequence[Interval]  # one a version

    @property
    def images(self) -> str:
        """How many images a version's score rests on."""
        counts = sorted({interval.n for interval in self.intervals})
        return f"{'-'.join(map(str, {counts[0]: None, counts[-1]: None}))} images"


@dataclass(frozen=True)
class Shown:
    """One picture, and what the judge named in it ('' where nothing judged)."""

    image: Image.Image
    answer: str = ""
    good: bool = True  # the answer is what one hopes for here

    @property
    def verdict(self) -> str:
        """The answer, marked where it is not the wanted one: not everybody tells the colours apart."""
        return self.answer if self.good else f"× {self.answer}".strip()


@dataclass(frozen=True)
class Picture:
    """The same prompt and seed in every version."""

    caption: str
    shown: Sequence[Shown]


@dataclass(frozen=True)
class Strip:
    """Pictures side by side under one heading, a row a version."""

    title: str
    pictures: Sequence[Picture]
    goal: Goal | None = None
    png_pictures: int | None = None  # only the first so many of them in the PNG, which has less room


class Panel(Protocol):
    """Something between the table and the pictures that lays itself out: `Matrix`, `Scatter`."""

    title: Any

    def size(self) -> tuple[int, int]:
        """(width, height) in the PNG, in pixels."""

    def draw(self, page, x: int, y: int) -> None:
        """On a `drawing.Page`, from its upper left corner."""

    def html(self) -> str:
        """Without the title."""


@dataclass(frozen=True)
class Report:
    """ValueError where a score or a picture is not of as many versions as there are."""

    title: str
    subtitle: str
    versions: Sequence[Version]
    scores: Sequence[Score]
    strips: Sequence[Strip]
    facts: Mapping[str, str] = field(default_factory=dict)  # settings and versions of software, by name
    score_title: str = "How often the judge recognises what the prompt names"
    panels: Sequence[Panel] = ()  # between the table and the pictures

    def __post_init__(self):
        lengths = {len(score.intervals) for score in self.scores}
        lengths |= {len(picture.shown) for strip in self.strips for picture in strip.pictures}
        if not self.versions or lengths - {len(self.versions)}:
            raise ValueError(f"scores or pictures of {sorted(lengths)} versions in a report of {len(self.versions)}")

    @property
    def cost_names(self) -> list[str]:
        return list(dict.fromkeys(name for version in self.versions for name in version.costs))


def text_table(report: Report) -> str:
    """The table for a terminal: a line a version, with 95 % intervals."""
    table = [["", *(score.label for score in report.scores), *report.cost_names]]
    for i, version in enumerate(report.versions):
        scores = [score.intervals[i].percent() for score in report.scores]
        table.append([version.name, *scores, *(version.costs.get(name, "-") for name in report.cost_names)])
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    return "\n".join("  ".join(f"{c:<{w}}" for c, w in zip(line, widths, strict=True)).rstrip() for line in table)
