"""The numbers of a table as HTML: a line a number while they are few, else in columns as the paper prints them."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from html import escape
from typing import Any

from reproduce.reports.points import side
from reproduce.reports.verdicts import MARKS, TONES
from reproduce.reports.wording import beside, number
from reproduce.results import Entry
from reproduce.tables import Table

FEW = 26  # so many numbers are listed one by one
MISSING = "–"
Judged = tuple[Entry, str, str]  # with the verdict and its reason

STYLE = """
table.cells th, table.cells td { padding: .35rem .9rem .35rem 0; font-size: .9rem; vertical-align: top }
table.cells thead th { border-bottom: 1px solid var(--line); color: var(--quiet) }
table.cells tbody th { font-size: .9rem; white-space: normal; min-width: 8rem; max-width: 18rem }
table.cells td b { font-size: 1.02rem } table.cells td small { display: block; margin: 0; font-size: .78rem; white-space: nowrap }
table.cells td.why { white-space: normal; min-width: 14rem; color: var(--quiet); font-size: .82rem }
table.cells.dense th, table.cells.dense td { padding: .25rem .55rem .25rem .3rem } table.cells.dense th:first-child { padding-left: 0 }
table.cells tr.same > th, table.cells tr.same > td { border-top: 0 }
table.cells th.num, table.cells td.num { text-align: right } table.cells td.gone { background: var(--track) }
.good { color: var(--keep) } .fair { color: #a16207 } .none { color: var(--faint) } .sign { font-style: normal; margin-left: .25rem }
.published { color: var(--quiet) } .recalled { color: var(--faint) }
.chips { display: flex; flex-wrap: wrap; gap: .4rem .9rem; margin: 1rem 0 0; padding: 0; list-style: none; font-size: .95rem }
.chips b { margin-right: .2rem }
@media (prefers-color-scheme: dark) { .fair { color: #facc15 } }
"""


def table_html(judged: Sequence[Judged], toy: bool, heads: tuple[str, str] = ("ours", "published")) -> str:
    """Everything that was measured. toy: beside the base model's numbers instead of published ones."""
    if listed(judged):
        return _listed(judged, toy, heads)
    legend = f"In a cell: {heads[0]}, its 95 % interval, {'the base model' if toy else heads[1]}. " + _signs(judged)
    legend += " Shaded: what should be gone." if any(e.part and side(e) == "erase" for e, _, _ in judged) else ""
    return f"<p class='legend'>{escape(legend)}</p>\n" + _dense(judged, lambda one: _dense_cell(one, toy))


def listed(judged: Sequence[Judged]) -> bool:
    """Whether every number has a line, which says the reason too."""
    return len(judged) <= FEW and not any(e.part for e, _, _ in judged)


def printed_html(table: Table) -> str:
    """What the paper prints, as it is."""
    names = [row_name(row) for row in table.rows or ()]
    entries = [
        Entry(names[c.row], c.method, c.metric, c.part, c.better, c.measure, c.value, c.certainty)
        for c in table.cells()
    ]
    return _dense([(entry, "", "") for entry in entries], lambda one: f"<td class='num'>{published(one[0])}</td>")


def row_name(row: Mapping[str, Any]) -> str:
    """A row of a table's file, as the paper's print tells it from the others."""
    when = [f"scene {row['scene']}"] if "scene" in row else []
    return ", ".join(str(part) for part in (row["method"], row.get("erased"), *when, row.get("t")) if part)


def chips(judged: Sequence[Judged]) -> str:
    """How often each verdict was given."""
    found = "".join(
        f"<li class='{TONES[word][0]}'><b>{n} {escape(word)}</b>{TONES[word][1]}</li>"
        for word, n in counts(judged).items()
    )
    return f"<ul class='chips'>{found}</ul>"


def counts(judged: Iterable[Judged]) -> dict[str, int]:
    """{verdict: how often}, in the order of TONES."""
    words = [word for _, word, _ in judged]
    return {word: words.count(word) for word in TONES if word in words}


def name_of(metric: str) -> str:
    return escape(metric.replace("_", " "))


def plain(entry: Entry, toy: bool) -> tuple[str, str, str]:
    """(ours, its interval, the base model's or the published number) without markup."""
    second = _second(entry, toy) if toy else _published(entry)
    return _ours(entry), _interval(entry), second


# ---- one by one ----------------------------------------------------------------------------------------------------


def _listed(judged: Sequence[Judged], toy: bool, heads: tuple[str, str]) -> str:
    second = "base model" if toy else heads[1]
    head = "".join(f"<th class='num'>{escape(h)}</th>" for h in (heads[0], second, "95 % interval"))
    rows, last = [], None
    for entry, word, reason in judged:
        tone, sign = TONES[word]
        first = entry.row != last
        last = entry.row
        rows.append(
            f"<tr class='{'first' if first else 'same'}'><th scope='row'>{escape(entry.row) if first else ''}</th>"
            f"<td{_about(entry)}>{name_of(entry.metric)}{_arrow(entry)}</td><td class='num'><b>{_ours(entry)}</b></td>"
            f"<td class='num'>{_second(entry, toy)}</td><td class='num'>{_interval(entry)}</td>"
            f"<td class='{tone}'><b>{escape(word)}</b><i class='sign'>{sign}</i></td><td class='why'>{escape(reason)}</td></tr>"
        )
    return (
        f"<div class='table'><table class='cells'><thead><tr><th></th><th>metric</th>{head}<th>verdict</th><th></th></tr></thead>"
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def _about(entry: Entry) -> str:
    title = entry.ours.definition if entry.ours else ""
    return f" title='{escape(title)}'" if title else ""


def _arrow(entry: Entry) -> str:
    return {"lower": " ↓", "higher": " ↑"}.get(entry.better, "")


def _ours(entry: Entry) -> str:
    return beside(entry.ours.value, entry.published) if entry.ours else MISSING


def _interval(entry: Entry) -> str:
    one = entry.ours
    if one is None or None in (one.low, one.high):
        return MISSING
    return f"{beside(one.low, entry.published)} – {beside(one.high, entry.published)}"


def _second(entry: Entry, toy: bool) -> str:
    if toy:
        return beside(entry.before.value, None) if entry.before else MISSING
    return published(entry)


def published(entry: Entry) -> str:
    """The paper's number with its mark: * reprinted, ? (and grey) from memory."""
    css = "recalled" if entry.certainty == "recalled" else "published"
    return f"<span class='{css}'>{_published(entry)}</span>"


def _published(entry: Entry) -> str:
    return MISSING if entry.published is None else f"{number(entry.published)}{MARKS.get(entry.certainty, '')}"


# ---- in columns ----------------------------------------------------------------------------------------------------


def _dense(judged: Sequence[Judged], cell: Callable[[Judged], str]) -> str:
    """Metrics as columns; where numbers have parts (concepts), a table a metric with the parts as columns."""
    if not any(e.part for e, _, _ in judged):
        return _columns(judged, lambda e: e.metric, cell)
    blocks = []
    for metric in dict.fromkeys(e.metric for e, _, _ in judged):
        own = [one for one in judged if one[0].metric == metric]
        blocks.append(
            f"<details open><summary><b>{name_of(metric)}</b></summary>{_columns(own, lambda e: e.part or '', cell)}</details>"
        )
    return "\n".join(blocks)


def _columns(judged: Sequence[Judged], of: Callable[[Entry], str], cell: Callable[[Judged], str]) -> str:
    columns = list(dict.fromkeys(of(e) for e, _, _ in judged))
    arrows = {c: {_arrow(e) for e, _, _ in judged if of(e) == c} for c in columns}
    heads = "".join(
        f"<th class='num'>{name_of(c)}{arrows[c].copy().pop() if len(arrows[c]) == 1 else ''}</th>" for c in columns
    )
    placed = {(one[0].row, of(one[0])): one for one in judged}
    body = "".join(
        f"<tr><th scope='row'>{escape(row)}</th>"
        + "".join(cell(placed[row, c]) if (row, c) in placed else "<td></td>" for c in columns)
        + "</tr>"
        for row in dict.fromkeys(e.row for e, _, _ in judged)
    )
    return f"<div class='table'><table class='cells dense'><thead><tr><th></th>{heads}</tr></thead><tbody>{body}</tbody></table></div>"


def _dense_cell(one: Judged, toy: bool) -> str:
    entry, word, reason = one
    tone, sign = TONES[word]
    interval = f"<small>{_interval(entry)}</small>" if _interval(entry) != MISSING else ""
    ours = f"<b class='{tone}'>{_ours(entry)}</b>" if entry.ours else ""
    gone = " gone" if entry.part and side(entry) == "erase" else ""
    return (
        f"<td class='num{gone}' title='{escape(f'{word}: {reason}')}'>{ours}"
        f"<i class='sign {tone}'>{sign}</i>{interval}<small>{_second(entry, toy)}</small></td>"
    )


def _signs(judged: Sequence[Judged]) -> str:
    return "; ".join(f"{TONES[word][1]} {word}" for word in counts(judged)) + "."
