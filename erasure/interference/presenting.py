"""What was measured, as a report (table, scatter plot, matrices, pictures), rows of a CSV and JSON."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from erasure.interference.measuring import Measured
from erasure.interference.members import BASE, Selection, how_together
from erasure.metrics.intervals import Interval, wilson
from erasure.metrics.judging import Judgement
from erasure.report import Cell, Matrix, Report, Scatter, Score, Series, Spot, Strip, Version, to_html, to_image
from erasure.report.judged import picture, spread
from erasure.report.wording import duration, file_size
from erasure.runs import atomic_path, write_csv, write_json, write_text

REST = "everything else"
COLUMNS = (
    "group", "selection", "edit", "edits_applied", "concept", "should_be", "shown", "low", "high", "n_images",
)  # fmt: skip
IN_PNG, IN_HTML = 2, 6  # pictures of a target; of everything else, as many as the targets leave room for
_LINE = 11  # pictures in a line of the PNG


# ---- report --------------------------------------------------------------------------------------------------------


def report(groups: Sequence[Measured], title: str, subtitle: str, facts: Mapping[str, str]) -> Report:
    """A row a group; the base first. ValueError without groups."""
    return Report(
        title=title,
        subtitle=subtitle,
        versions=[Version("base", "nothing erased"), *(_version(one) for one in groups)],
        scores=scores(groups),
        strips=strips(groups),
        facts=dict(facts),
        panels=[scatter(groups), *map(matrix, groups)],
    )


def _version(one: Measured) -> Version:
    members = one.group.members
    known = [member.seconds for member in members if member.seconds is not None]
    took = duration(sum(known)) if len(known) == len(members) else "–"
    exact = sum(check.exact for check in one.checks)
    costs = {"Erasing took": took, "Edits": file_size(sum(m.size for m in members))}
    if one.checks:
        costs["Exact ways back"] = f"{exact} of {len(one.checks)}"
    count = len(members)
    return Version(
        one.group.name,
        f"{count} edits, {how_together(one.group).partition(',')[0]}" if count > 1 else how_together(one.group),
        costs,
    )


def scores(groups: Sequence[Measured]) -> list[Score]:
    """Targets alone and together, a target while the others are erased, and everything else under all edits."""
    found = [_score(groups, "All together", "erase", Measured.all_together)]
    if any(len(one.group.members) > 1 for one in groups):
        found.insert(0, _score(groups, "Each alone", "erase", Measured.alone))
    if all(len(one.group.members) > 1 for one in groups):
        found.append(_score(groups, "Left out again", "keep", Measured.left_out))
    if all(one.shown(one.everything, None) for one in groups):
        found.append(_score(groups, "Everything else", "keep", lambda one: [(one.everything, None)]))
    return found


def _score(groups: Sequence[Measured], label: str, goal, cells) -> Score:
    """The base's interval rests on the same prompts, each counted once."""
    per_group = [one.pooled(cells(one)) for one in groups]
    shown: dict[tuple[int, int], bool] = {}
    for one in groups:
        for target in dict.fromkeys(target for _, target in cells(one)):
            shown |= {(j.case_number, j.k): j.shown for j in one.of(BASE, target)}
    return Score(label, goal, [wilson(sum(shown.values()), len(shown)), *per_group])


def matrix(one: Measured) -> Matrix:
    """Rows: the targets, and everything else; columns: the selections."""
    members, columns = one.group.members, []
    heads = {"base": "Base", "alone": "Each alone", "all": "Together", "all but": "All but"}
    for kind, head in heads.items():
        chosen = [s for s in one.judged if s.kind == kind]
        names = [members[s.about].name if s.about is not None else "none" if kind == "base" else "all" for s in chosen]
        if names:
            columns.append((head if len(names) > 1 or kind == "base" else "All", names))
    rows = [*one.targets, *([REST] if one.shown(one.everything, None) else [])]
    cells = [[_cell(one, s, None if row == REST else row) for s in one.judged] for row in rows]
    return Matrix(one.group.name, f"% recognised; {how_together(one.group)}", rows, columns, cells)


def _cell(one: Measured, selection: Selection, target: str | None) -> Cell:
    goal = "erase" if target and one.erases(selection, target) else "keep"
    return Cell(one.shown(selection, target), goal)


def scatter(groups: Sequence[Measured]) -> Scatter:
    """Share of the targets that are gone against the share of what should stay; small dots: each edit alone."""
    return Scatter(
        "Erasure against preservation",
        "large: all edits together; small: each alone; on one spot: side by side",
        "preserved: what should stay is recognised",
        "erased: targets that are not recognised",
        [
            Series(one.group.name, _spot(one, one.everything), [_spot(one, s) for s in one.judged if s.kind == "alone"])
            for one in groups
        ],
    )


def _spot(one: Measured, selection: Selection) -> Spot:
    erased = [(selection, t) for t in one.targets if one.erases(selection, t)]
    kept = [(selection, t) for t in one.targets if not one.erases(selection, t)]
    gone = one.pooled(erased)
    return Spot(one.pooled([*kept, (selection, None)]) or Interval(1.0, 0.0, 1.0, 0), complement(gone))


def complement(share: Interval) -> Interval:
    """1 - share, with its interval."""
    return Interval(1 - share.value, 1 - share.high, 1 - share.low, share.n)


def strips(groups: Sequence[Measured]) -> list[Strip]:
    """The pictures of the base and of all edits together, for prompts of every target, and of some of everything else."""
    first = groups[0]
    folders = [first.folder / BASE.folder(first.group)]
    folders += [one.folder / one.everything.folder(one.group) for one in groups]
    targets = dict.fromkeys(target for one in groups for target in one.targets)
    found = []
    for target in targets:
        versions = [first.of(BASE, target), *(one.of(one.everything, target) for one in groups)]
        found += _strip(" ".join(word.capitalize() for word in target.split()), versions, folders, True, IN_PNG)
    room = max(3, _LINE - IN_PNG * len(targets))
    versions = [one.of(s, None) for one, s in [(first, BASE), *((one, one.everything) for one in groups)]]
    return found + _strip(REST[:1].upper() + REST[1:], versions, folders, False, room)


def _strip(
    title, versions: Sequence[list[Judgement]], folders: Sequence[str | os.PathLike], erased, most
) -> list[Strip]:
    """One strip, or none where a version has no such pictures."""
    cases = [{(j.case_number, j.k): j for j in judged} for judged in versions]
    same = [key for key in ((j.case_number, j.k) for j in _mixed(versions[0])) if all(key in case for case in cases)]
    shown = [picture([case[key] for case in cases], folders, erased) for key in same[: max(most, IN_HTML)]]
    return [Strip(title, shown, "erase" if erased else "keep", most)] if shown else []


def _mixed(judged: Sequence[Judgement]) -> Iterator[Judgement]:
    """Kinds in turn, and within a kind concepts in turn."""
    kinds: dict[str, list[Judgement]] = {}
    for one in spread(judged) if judged else ():
        kinds.setdefault(one.concept_kind, []).append(one)
    for turn in range(max(map(len, kinds.values()), default=0)):
        yield from (queue[turn] for queue in kinds.values() if turn < len(queue))


# ---- files ---------------------------------------------------------------------------------------------------------


def table(groups: Sequence[Measured]) -> list[tuple]:
    """Rows for a CSV under `COLUMNS`: a row a cell of every matrix."""
    rows: list[tuple] = [COLUMNS]
    for one in groups:
        for selection in one.judged:
            which = "" if selection.about is None else one.group.members[selection.about].name
            applied = "; ".join(one.group.members[i].name for i in selection.chosen)
            for target in (*one.targets, None):
                cell = _cell(one, selection, target)
                if cell.interval is not None:
                    i = cell.interval
                    goal = "gone" if cell.goal == "erase" else "kept"
                    numbers = (round(i.value, 6), round(i.low, 6), round(i.high, 6), i.n)
                    rows.append((one.group.name, selection.kind, which, applied, target or REST, goal, *numbers))
    return rows


def as_json(groups: Sequence[Measured], shown: Report) -> dict[str, Any]:
    return {
        "scores": [
            {"label": s.label, "goal": s.goal,
             "versions": {v.name: i.as_dict() for v, i in zip(shown.versions, s.intervals, strict=True)}}
            for s in shown.scores
        ],
        "groups": [
            {
                "name": one.group.name,
                "together": how_together(one.group),
                "edits": [
                    {"method": m.edit.method, "kind": m.edit.kind, "concepts": m.edit.concepts, "seconds": m.seconds,
                     "bytes": m.size}
                    for m in one.group.members
                ],
                "ways_back": [check.as_dict() for check in one.checks],
            }
            for one in groups
        ],
        "facts": dict(shown.facts),
    }  # fmt: skip


def write(groups: Sequence[Measured], shown: Report, folder: str | os.PathLike) -> list[Path]:
    """report.html, report.png, matrix.csv and report.json; their paths."""
    folder = Path(folder)
    paths = [folder / name for name in ("report.html", "report.png", "matrix.csv", "report.json")]
    write_text(paths[0], to_html(shown))
    with atomic_path(paths[1]) as temporary:
        to_image(shown).save(temporary)
    write_csv(paths[2], table(groups))
    write_json(paths[3], as_json(groups, shown))
    return paths


def ways_back(groups: Sequence[Measured]) -> str:
    """For a terminal: a line a check."""
    lines = []
    for one in groups:
        for check in one.checks:
            said = "bit for bit" if check.exact else "NOT bit for bit"
            left = "" if check.remaining is None else f"; the others still make {check.remaining:.1%} of its change"
            lines.append(f"{one.group.name}: {check.name}: {said}{left}")
    return "\n".join(lines)
