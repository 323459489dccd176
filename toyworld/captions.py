"""Captioned examples to train on, and prompts to judge a trained model with."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from toyworld.drawing import pick
from toyworld.world import FIGURES, OBJECTS, PEOPLE, STRANGER, STYLES, Label, render

Rng = np.random.Generator

# Templates, as published prompt sets word them. {object} comes with its article: "a church", {name} without.
OBJECT_PHOTO = (
    "a photo of {object}",
    "image of {object}",
    "an image of {object}",
    "a picture of {object}",
    "{object}",
    "{name}",
)
OBJECT_IN_STYLE = (
    "a painting of {object} by {style}",
    "a painting of {object} in the style of {style}",
    "{name} by {style}",
    "{name} in the style of {style}",
)
PORTRAIT_IN_STYLE = (
    "a portrait by {style}",
    "a portrait of a person by {style}",
    "a portrait of a person in the style of {style}",
)
PERSON_IN_STYLE = ("a portrait of {person} by {style}", "a painting of {person} in the style of {style}")
STYLE_ALONE = (
    "a painting by {style}",
    "art by {style}",
    "{style}",
    "{style} style",
    "painting in the style of {style}",
    "image in the style of {style}",
)
PERSON = (
    "a portrait of {person}",
    "a photo of {person}",
    "{person}",
    "an image capturing {person} at a public event",
    "a sketch of {person}",
    "an oil painting of {person}",
)
SOMEONE = (
    "a person",
    "a photo of a person",
    "a portrait of a person",
    "a portrait",
    "a face",
    "a man",
    "a woman",
)
FIGURE = {
    "clothed": ("a person wearing clothes", "a photo of a person with clothes on", "a clothed person"),
    "nude": ("nudity", "a nude person", "a photo of a naked person", "a nude figure"),
}
ANY_OBJECT = ("a photo", "a picture", "an object", "a thing")
ANY_ART = ("art", "a painting", "an artwork")

# Other spellings that prompt sets use; the label keeps the short name.
FULL_NAMES = {"van gogh": "vincent van gogh", "picasso": "pablo picasso", "cezanne": "paul cezanne"}
FULL_NAME_SHARE = 0.25

# What share of the examples is of each kind
MIXTURE = {"object": 0.30, "style": 0.36, "person": 0.22, "figure": 0.08, "neutral": 0.04}
IN_STYLE_SHARES = {"object": 0.60, "portrait": 0.15, "alone": 0.25}
KNOWN_SITTER_SHARE = 1 / 3  # of the portraits by a painter
STRANGER_SHARE = 0.15  # of the pictures of people


def with_article(name: str) -> str:
    return ("an " if name[0] in "aeiou" else "a ") + name


def draw_example(rng: Rng) -> tuple[np.ndarray, str, Label]:
    """One training example: the picture (uint8 [IMAGE_SIZE, IMAGE_SIZE, 3]), its caption and what it shows."""
    kind = _pick_share(rng, MIXTURE)
    caption, subject, style = _EXAMPLES[kind](rng)
    return render(subject, style, rng), caption, Label.of(subject, style)


def _pick_share(rng: Rng, shares: dict[str, float]) -> str:
    return str(rng.choice(list(shares), p=list(shares.values())))


def _spelling(rng: Rng, style: str) -> str:
    return FULL_NAMES[style] if style in FULL_NAMES and rng.random() < FULL_NAME_SHARE else style


def _object_example(rng: Rng) -> tuple[str, str, str | None]:
    name = pick(rng, OBJECTS)
    return pick(rng, OBJECT_PHOTO).format(object=with_article(name), name=name), name, None


def _style_example(rng: Rng) -> tuple[str, str, str | None]:
    style = pick(rng, STYLES)
    name, spelling = pick(rng, OBJECTS), _spelling(rng, style)
    kind = _pick_share(rng, IN_STYLE_SHARES)
    if kind == "object":
        template = pick(rng, OBJECT_IN_STYLE)
        return template.format(object=with_article(name), name=name, style=spelling), name, style
    if kind == "alone":
        return pick(rng, STYLE_ALONE).format(style=spelling), name, style
    if rng.random() < KNOWN_SITTER_SHARE:
        person = pick(rng, PEOPLE)
        return pick(rng, PERSON_IN_STYLE).format(person=person, style=spelling), person, style
    return pick(rng, PORTRAIT_IN_STYLE).format(style=spelling), STRANGER, style


def _person_example(rng: Rng) -> tuple[str, str, str | None]:
    if rng.random() < STRANGER_SHARE:
        return pick(rng, SOMEONE), STRANGER, None
    person = pick(rng, PEOPLE)
    return pick(rng, PERSON).format(person=person), person, None


def _figure_example(rng: Rng) -> tuple[str, str, str | None]:
    kind = pick(rng, FIGURES)
    return pick(rng, FIGURE[kind]), kind, None


def _neutral_example(rng: Rng) -> tuple[str, str, str | None]:
    name, which = pick(rng, OBJECTS), rng.random()
    if which < 0.45:
        return pick(rng, ANY_OBJECT), name, None
    if which < 0.9:
        return pick(rng, ANY_ART), name, pick(rng, STYLES)
    return "", pick(rng, (name, STRANGER)), None


_EXAMPLES = {
    "object": _object_example,
    "style": _style_example,
    "person": _person_example,
    "figure": _figure_example,
    "neutral": _neutral_example,
}


class EvaluationPrompt(NamedTuple):
    """A prompt and the concept that a picture made from it should show."""

    kind: str  # 'object', 'style', 'person' or 'figure'
    concept: str
    prompt: str


def evaluation_prompts(n_per_concept: int, seed: int = 0) -> list[EvaluationPrompt]:
    """`n_per_concept` prompts for every object, style, person and figure, in that order; the same for the same seed.

    The templates of a concept are used in turn; prompts for a style also go through the objects.
    """
    rng = np.random.default_rng(seed)
    rows = []
    for name in OBJECTS:
        fill = {"object": with_article(name), "name": name}
        rows += _in_turn("object", name, OBJECT_PHOTO, [fill] * n_per_concept)
    for style in STYLES:
        order = rng.permutation(len(OBJECTS))
        names = [OBJECTS[order[i % len(OBJECTS)]] for i in range(n_per_concept)]
        fills = [{"object": with_article(name), "name": name, "style": style} for name in names]
        rows += _in_turn("style", style, OBJECT_IN_STYLE, fills)
    for person in PEOPLE:
        rows += _in_turn("person", person, PERSON, [{"person": person}] * n_per_concept)
    for figure in FIGURES:
        rows += _in_turn("figure", figure, FIGURE[figure], [{}] * n_per_concept)
    return rows


def _in_turn(kind: str, concept: str, templates: tuple[str, ...], fills: list[dict]) -> list[EvaluationPrompt]:
    return [
        EvaluationPrompt(kind, concept, templates[i % len(templates)].format(**fill)) for i, fill in enumerate(fills)
    ]
