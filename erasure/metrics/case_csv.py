"""A prompt CSV with results beside its rows, as pandas wrote the published ones.

    table = read("prompts.csv")
    write("scores.csv", table, ["score"], {7: [["0.5"]]})      # case 7 has one line; cases without any have empty cells

A column without a name is called ``Unnamed: {its position}``, and a column of row numbers comes first. Imports no torch.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from erasure.prompt_sets import prompt_file
from erasure.prompts import Row, read_csv, read_table
from erasure.runs import write_csv


@dataclass(frozen=True)
class PromptTable:
    """A prompt CSV: the names of its columns, the cells of every row, and the rows as `erasure.prompts` reads them."""

    names: list[str]
    cells: list[list[str]]
    rows: list[Row]

    @property
    def cases(self) -> list[int]:
        return [row.case_number for row in self.rows]

    def column(self, name: str) -> dict[int, str]:
        """Case number -> text of a column, {} where the file has none of that name."""
        if name not in self.names:
            return {}
        place = self.names.index(name)
        return {case: cells[place] for case, cells in zip(self.cases, self.cells, strict=True)}


def read(prompts_path: str | os.PathLike) -> PromptTable:
    """A file, or one of `erasure.prompt_sets`. UserError for one that is not there or that `read_csv` refuses; seeds may be absent."""
    prompts_path = prompt_file(prompts_path)
    header, records = read_table(prompts_path)
    names = [name or f"Unnamed: {position}" for position, name in enumerate(header)]
    rows = read_csv(prompts_path, default_seed=0)
    return PromptTable(names, [[record[name] for name in header] for record in records], rows)


def lines(
    table: PromptTable, columns: Sequence[str], results: Mapping[int, Sequence[Sequence]], every_case: bool = True
) -> list[list]:
    """Header and rows, without row numbers: a row of the CSV is repeated for every line of results of its case.

    A column of the CSV that `columns` name anew is replaced. every_case: also cases without results, with empty cells
    (a left join); else they are left out (an inner one).
    """
    kept = [place for place, name in enumerate(table.names) if name not in columns]
    found: list[list] = [[*(table.names[place] for place in kept), *columns]]
    nothing = [[""] * len(columns)] if every_case else []
    for case, cells in zip(table.cases, table.cells, strict=True):
        for result in results.get(case) or nothing:
            found.append([*(cells[place] for place in kept), *result])
    return found


def write(
    path: str | os.PathLike,
    table: PromptTable,
    columns: Sequence[str],
    results: Mapping[int, Sequence[Sequence]],
    every_case: bool = True,
) -> None:
    """`lines` with a column of row numbers in front."""
    header, *rows = lines(table, columns, results, every_case)
    write_csv(path, [["", *header], *([number, *row] for number, row in enumerate(rows))])
