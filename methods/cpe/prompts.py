"""Texts of a training, all plain strings: templates filled with the target, its neutral stand-in, and anchor words.

Filling replaces the word of the domain (actor, artist, explicit) wherever it is, inside other words too, and does so twice:
"mentors young actors" becomes "mentors young chris evanss", and the anchor "Leading actors" in it "Leading Leading actorss".
The published weights were trained on these strings, so that they are the default; `clean` replaces whole words, once.
"""

import os
import re
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path

from erasure.errors import UserError
from erasure.prompt_sets import prompt_file
from erasure.prompts import read_table
from erasure.runs import find

WORD_COLUMNS = ("key", "artist", "name", "prompt")  # of a CSV of words, the first that it has
MISSPELLED = {  # names of the published list of artists -> as the other lists spell them
    "clarence holbrook crealistic photoer": "clarence holbrook carter",
    "catrin welz stein": "catrin welz-stein",
    "charles francois daubigny": "charles-francois daubigny",
}


def fill(template: str, word: str, concept: str, clean: bool = False) -> str:
    """A template with `concept` in place of `word`."""
    if clean:
        return re.sub(rf"\b{re.escape(word)}\b", lambda _: concept, template, flags=re.IGNORECASE)
    return template.replace(word, concept).replace(word.lower(), concept)


def fill_all(templates: Iterable[str], word: str, concept: str, clean: bool = False) -> list[str]:
    return [fill(template, word, concept, clean) for template in templates]


def read_templates(path: str | os.PathLike, word: str) -> list[str]:
    """Column `prompt` of a CSV, line ends kept, and last the word alone. UserError without the column or the word in it."""
    header, rows = read_table(path)
    if "prompt" not in header or not rows:
        raise UserError(f"{find(path)}: no column prompt, or no rows in it")
    if not any(word in row["prompt"] or word.lower() in row["prompt"] for row in rows):
        raise UserError(
            f"{find(path)}: replace_word {word!r}, for which concepts are filled in, is in none of its rows"
        )
    return [row["prompt"] for row in rows] + [word]


def read_words(source: str | os.PathLike | Sequence[str]) -> list[str]:
    """Words or sentences: a list itself, lines of a text file, or a column (`WORD_COLUMNS`) of a CSV, line ends of cells kept.

    Repeats stay, but for artists, of whom published files have five rows each.
    """
    if not isinstance(source, (str, os.PathLike)):
        if not source:
            raise UserError("a list of anchors in the configuration has no words")
        return [str(word) for word in source]
    path = prompt_file(source)
    if path.suffix == ".csv":
        header, rows = read_table(path)
        column = next((name for name in WORD_COLUMNS if name in header), None)
        if column is None:
            raise UserError(f"{path}: none of the columns {', '.join(WORD_COLUMNS)}; it has {', '.join(header)}")
        words = [row[column] for row in rows]
        words = list(dict.fromkeys(words)) if column == "artist" else words
    else:
        try:
            words = [line for line in Path(path).read_text(encoding="utf-8").splitlines() if line.strip()]
        except UnicodeDecodeError as error:
            raise UserError(f"{path} is not a text in UTF-8 (byte {error.start})") from None
    if not words:
        raise UserError(f"{path}: no words in it")
    return words


def candidates_without(names: Sequence[str], target: str) -> list[str]:
    """`names` but those that the target is a part of, in lower case: all that a published training left out."""
    return [name for name in names if target.lower() not in name.lower()]


def cleaned_candidates(names: Sequence[str], targets: Iterable[str]) -> list[str]:
    """`names` once each, without any target of the run, however it is written (accents and hyphens included)."""
    erased = {_letters(MISSPELLED.get(target, target)) for target in targets}
    once = {letters: name for name in reversed(names) if (letters := _letters(name)) not in erased}
    return list(dict.fromkeys(name for name in names if once.get(_letters(name)) == name))


def _letters(name: str) -> str:
    plain = unicodedata.normalize("NFKD", name)
    return "".join(character for character in plain if character.isalnum()).casefold()
