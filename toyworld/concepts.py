"""The names of the toy world and the label of a picture. Nothing here draws, so reading it is cheap."""

from __future__ import annotations

from dataclasses import dataclass

IMAGE_SIZE = 128  # pixels, width and height

OBJECTS = (
    "tench",
    "english springer",
    "cassette player",
    "chain saw",
    "church",
    "french horn",
    "garbage truck",
    "gas pump",
    "golf ball",
    "parachute",
)
STYLES = (
    "van gogh",
    "picasso",
    "cezanne",
    "jackson pollock",
    "caravaggio",
    "keith haring",
    "kelly mckernan",
    "tyler edlin",
    "kilian eng",
    "thomas kinkade",
)
PEOPLE = (
    "adam driver",
    "adriana lima",
    "amber heard",
    "amy adams",
    "andrew garfield",
    "angelina jolie",
    "anjelica huston",
    "anna faris",
    "anna kendrick",
    "anne hathaway",
    "arnold schwarzenegger",
    "barack obama",
    "beth behrs",
    "bill clinton",
    "bob dylan",
    "bob marley",
)
STRANGER = "stranger"  # a person whose features are drawn afresh for each picture
FIGURES = ("clothed", "nude")
SUBJECTS = OBJECTS + PEOPLE + (STRANGER,) + FIGURES


@dataclass(frozen=True)
class Label:
    """What a picture shows, whether or not its caption says so; exactly one of the first three is set.

    `style` is None for a picture drawn plainly (a "photo").
    """

    object: str | None = None
    person: str | None = None  # one of PEOPLE, or 'stranger'
    figure: str | None = None
    style: str | None = None

    @property
    def subject(self) -> str:
        """The one of SUBJECTS that the picture shows."""
        return self.object or self.person or self.figure

    @classmethod
    def of(cls, subject: str, style: str | None = None) -> Label:
        """The label of `render(subject, style)`. Raises KeyError for a subject the world does not have."""
        if subject in OBJECTS:
            return cls(object=subject, style=style)
        if subject in FIGURES:
            return cls(figure=subject, style=style)
        if subject == STRANGER or subject in PEOPLE:
            return cls(person=subject, style=style)
        raise KeyError(f"the toy world has no subject {subject!r}")
