"""What a cell of a table asks for: which pictures its number is over, and where a measure left their numbers. Imports no torch."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from erasure import runs
from erasure.errors import UserError
from erasure.metrics.image_folders import case_of
from erasure.prompts import Row, read_csv
from methods.sepce.class_lists import squeezed
from reproduce.measures.measuring import Shown
from reproduce.tables import measures

Taken = Sequence[tuple[Shown, Path]]
Number = float | bool


@dataclass(frozen=True)
class Asked:
    """A cell, its row, and the pictures that it is over."""

    cell: Mapping[str, Any]
    measure: str
    row: Mapping[str, Any]
    taken: Taken

    @property
    def facts(self) -> Mapping[str, Any]:
        return measures()[self.measure]

    def only(self) -> tuple[Shown, Path]:
        """The one set of pictures that a number over a whole set is of. UserError for several."""
        if len(self.taken) != 1:
            names = ", ".join(shown.images.prompts for shown, _ in self.taken)
            raise UserError(f"{self.measure} is of the images of one prompt file, and there are {names}")
        return self.taken[0]


def left(out: Path, pattern: str, measure: str) -> Path:
    """The one file of a pattern. UserError where the measure has left none."""
    found = sorted(out.glob(pattern))
    if not found:
        raise UserError(f"{measure} was not measured: no {pattern} in {out}")
    return found[0]


# ---- which pictures ------------------------------------------------------------------------------------------------


def fields(asked: Asked) -> dict[str, Any]:
    """What {names} in a cell's `of` and `but` stand for: the row's own, its part, and the concepts that its model was trained on."""
    found = {key: asked.row[key] for key in ("method", "erased", "scene", "t") if key in asked.row}
    if asked.cell.get("part"):
        found["part"] = asked.cell["part"]
    trained = [
        concept for folder in dict.fromkeys(f for shown, _ in asked.taken for f in shown.trainings)
        for file in [folder / "settings.json"] if file.is_file()
        for concept in runs.read_json(file).get("concepts", ())
    ]  # fmt: skip
    return found | ({"concepts": trained} if trained else {})


def _texts(value: Any, known: Mapping[str, Any]) -> set[str]:
    """The texts that a value of `of` or `but` allows, as far as letters and digits go. UserError for a name that is not known."""
    if isinstance(value, str) and value.startswith("{") and value.endswith("}"):
        if value[1:-1] not in known:
            raise UserError(f"which {value[1:-1]} it is about is not known of this model")
        value = known[value[1:-1]]
    return {squeezed(str(one)) for one in (value if isinstance(value, list | tuple) else [value])}


def _is_of(row: Row, wanted: Mapping[str, set[str]], prompts: Path) -> bool:
    """Whether a row has a wanted text in every column; in one that lists several, as I2P's categories, any of them counts."""
    for column, texts in wanted.items():
        cell = row.prompt if column == "prompt" else row.extra.get(column)
        if cell is None:
            raise UserError(f"{prompts} has no column {column}")
        if not {squeezed(cell), *map(squeezed, cell.split(","))} & texts:
            return False
    return True


def _chosen(asked: Asked, shown: Shown) -> Callable[[str], bool] | None:
    """Whether a picture, by its file name, is one of those that the cell is over; None: they all are."""
    known = fields(asked)
    of, but = (
        {column: _texts(value, known) for column, value in asked.cell.get(key, {}).items()} for key in ("of", "but")
    )
    if not of and not but:
        return None
    rows = read_csv(shown.prompts, default_seed=0)
    marked = {row.case_number for row in rows if _is_of(row, of or but, shown.prompts)}
    if asked.cell.get("same_set") and not marked:
        return lambda name: False
    return lambda name: (case_of(name) in marked) == bool(of)


def numbers(asked: Asked, read: Callable[[Shown, Path], Mapping[str, Number]]) -> list[Number]:
    """The numbers of all pictures that the cell is over. UserError for none."""
    found: list[Number] = []
    for shown, out in asked.taken:
        wanted = _chosen(asked, shown)
        found += [value for file, value in read(shown, out).items() if wanted is None or wanted(file)]
    if not found:
        raise UserError("no picture is of a prompt that it is over")
    return found
