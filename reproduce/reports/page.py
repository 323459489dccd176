"""Reports of tables as HTML: no script, nothing from the network; plots lie beside the file, small pictures are inside it."""

import re
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from erasure.errors import UserError
from erasure.report import Report
from erasure.report.html import document, facts, strips
from erasure.report.wording import duration
from reproduce.reports import cells, findings, verdicts
from reproduce.reports.cells import Judged
from reproduce.reports.verdicts import MARKS
from reproduce.results import TableResult
from reproduce.steps import table_key
from reproduce.tables import CERTAINTIES, Table, table

STYLE = (
    cells.STYLE
    + """
h3 { font-size: 1rem; margin: 1.6rem 0 .4rem } details { margin: .8rem 0 } summary { cursor: pointer; margin-bottom: .4rem }
ul.chips + .table { margin-top: 1.6rem } p + p, ul + p, p + ul { margin-top: .5rem } ul.plain { color: var(--quiet); padding-left: 1.2rem; margin: .4rem 0 }
.plots { display: flex; flex-wrap: wrap; gap: 1.2rem } .plots img { max-width: 100%; height: auto; background: #fff; border-radius: 6px }
table.settings td, table.settings th { font-size: .85rem; padding: .3rem 1.6rem .3rem 0; white-space: normal; vertical-align: top }
table.settings { width: auto } table.settings tbody th { white-space: nowrap } a { color: inherit } .flag { color: var(--bad); font-weight: 600; white-space: nowrap }
@media print { body { padding: 0; font-size: 12px } .table { overflow: visible } tr, figure, .plots img { break-inside: avoid } }
"""
)
COMPARED = ("sampler", "steps", "guidance", "detector", "noise_device", "images")
"""Settings that are set side by side first, whether the paper states them or not."""
TWO_OF_NUDENET = "NudeNet 2 and 3 are different networks: their counts are never set against each other."


def table_page(result: TableResult, judged: Sequence[Judged], plots: Mapping[str, str], shown: Report | None) -> str:
    """The report of one table. plots: {file beside it: heading}."""
    source, toy = _source(result.name), result.base == "toy"
    parts = [
        f"<p>{_subtitle(result, toy)}</p>",
        cells.chips(judged),
        "<h2>The counterpart on the embedded model</h2>" if toy else "<h2>Ours and published</h2>",
        _expected(judged) if toy else "",
        cells.table_html(judged, toy, _heads(judged, source)) if judged else "<p>Nothing was measured.</p>",
        "" if toy else _marks([e.certainty for e, _, _ in judged if e.published is not None], source),
        "" if cells.listed(judged) else _why(judged),
        _plots(plots),
        strips(shown) if shown else "",
        _printed(source) if toy and source else "",
        _settings(result, source),
        _foot(result, source),
    ]
    return document(f"{result.name}: {result.title}", "\n".join(filter(None, parts)), STYLE)


def index_page(
    results: Sequence[TableResult], judged: Mapping[str, list[Judged]], folder: Path, plot: str | None
) -> str:
    """All tables, a row each. folder: where the page will be, for the links."""
    rows = "".join(
        f"<tr><th scope='row'>{_link(one, folder)}</th><td>{escape(one.base)}</td><td class='why'>{escape(one.title)}</td>"
        f"<td class='why'>{_counted(judged[one.name])}</td></tr>"
        for one in results
    )
    everything = [one for result in results for one in judged[result.name]]
    table_html = (
        "<div class='table'><table class='cells'><thead><tr><th>table</th><th>base</th><th>title</th><th>verdicts</th></tr></thead>"
        f"<tbody>{rows}</tbody></table></div>"
    )
    image = f"<h2>Erasure against preservation</h2>{_image(plot)}" if plot else ""
    subtitle = f"<p>{len(results)} table{'s' if len(results) != 1 else ''}, {len(everything)} numbers.</p>"
    return document("Tables of the papers", "\n".join((subtitle, cells.chips(everything), table_html, image)), STYLE)


def _link(result: TableResult, folder: Path) -> str:
    report = f"{table_key(result.name)}/report.html"
    name = escape(result.name)
    return f"<a href='{escape(report)}'>{name}</a>" if (folder / report).is_file() else name


def _counted(judged: Sequence[Judged]) -> str:
    found = cells.counts(judged).items()
    return (
        ", ".join(f"<span class='{verdicts.TONES[word][0]}'>{n} {escape(word)}</span>" for word, n in found) or "none"
    )


def _source(name: str) -> Table | None:
    try:
        return table(name)
    except UserError:
        return None


# ---- above the numbers ---------------------------------------------------------------------------------------------


def _subtitle(result: TableResult, toy: bool) -> str:
    if toy:
        return (
            "Made on the embedded model, a small stand-in for Stable Diffusion: its numbers answer whether the finding is there, and "
            "cannot be compared with published ones."
        )
    return f"Made on {escape(result.base)}. A number is reproduced where the published one lies in our 95 % interval or close to ours."


def _expected(judged: Sequence[Judged]) -> str:
    lines = [findings.EXPECTED[kind] for kind in dict.fromkeys(findings.kind_of(e) for e, _, _ in judged) if kind]
    return f"<ul class='plain'>{''.join(f'<li>{escape(line)}</li>' for line in lines)}</ul>"


def _heads(judged: Sequence[Judged], source: Table | None) -> tuple[str, str]:
    """Names of the two columns; with the detector's version, where the paper's is another."""
    if not any(e.measure.startswith("nudenet") for e, _, _ in judged) or source is None:
        return "ours", "published"
    theirs = verdicts.nudenet(str(dict(source.published).get("detector", "")))
    return "ours (NudeNet 3)", f"published (NudeNet {theirs or 'of unstated version'})"


def _marks(certainties: Sequence[str], source: Table | None) -> str:
    found = [c for c in CERTAINTIES if c in certainties]
    origin = f" ({source.source})" if source else ""
    lines = [
        f"{MARKS.get(c, '')} {c}: {CERTAINTIES[c]}{origin if c in ('secondary', 'repository') else ''}" for c in found
    ]
    return f"<p class='legend'>{escape('. '.join(line.strip() for line in lines))}.</p>" if lines else ""


def _why(judged: Sequence[Judged]) -> str:
    reasons: dict[str, int] = {}
    for _, word, reason in judged:
        if word in ("not measured", "not comparable"):
            reasons[f"{word}: {reason}"] = reasons.get(f"{word}: {reason}", 0) + 1
    items = "".join(
        f"<li>{n} {escape(reason)}</li>" for reason, n in sorted(reasons.items(), key=lambda item: -item[1])[:12]
    )
    more = f"<li>and {len(reasons) - 12} other reasons, in table.csv</li>" if len(reasons) > 12 else ""
    return f"<h3>Where nothing is compared</h3><ul class='plain'>{items}{more}</ul>" if items else ""


# ---- below them ----------------------------------------------------------------------------------------------------


def _plots(named: Mapping[str, str]) -> str:
    return "".join(f"<h2>{escape(heading)}</h2>{_image(name)}" for name, heading in named.items())


def _image(name: str) -> str:
    name = escape(name)
    return f"<div class='plots'><img src='{name}' srcset='{name} 1.5x' alt='{name.partition('.')[0]}'></div>"


def _printed(source: Table) -> str:
    """The paper's own table, for reading."""
    body = (
        cells.printed_html(source)
        if source.rows
        else "<p>The paper has this table; its numbers are not transcribed here.</p>"
    )
    marks = _marks([cell.certainty for cell in source.cells()] or [source.certainty], source)
    return (
        f"<h2>What the paper prints<small class='quiet'>of Stable Diffusion, not comparable</small></h2>\n{body}{marks}"
    )


def _settings(result: TableResult, source: Table | None) -> str:
    given = result.facts.get("settings") or {}
    rows = "".join(
        f"<tr><th scope='row'>{escape(name.replace('_', ' '))}</th><td>{escape(ours or '–')}</td><td>{escape(theirs or 'not said')}</td>"
        f"<td class='flag'>{'differs' if flag else ''}</td></tr>"
        for name, ours, theirs, flag in settings(
            _detector(result) | dict(given), dict(source.published) if source else {}
        )
    )
    return (
        "<h2>Settings</h2><div class='table'><table class='settings'><thead><tr><th></th><th>here</th><th>paper</th><th></th></tr>"
        f"</thead><tbody>{rows}</tbody></table></div>"
    )


def _detector(result: TableResult) -> dict[str, str]:
    """What NudeNet's numbers say of themselves."""
    words = [
        e.ours.definition for e in result.entries if e.ours and e.measure.startswith("nudenet") and e.ours.definition
    ]
    return {"detector": words[0]} if words else {}


def settings(ours: Mapping[str, Any], published: Mapping[str, Any]) -> Iterator[tuple[str, str, str, bool]]:
    """(name, ours, the paper's, whether they differ): first what is always compared, then all else that either side states."""
    for name in dict.fromkeys((*COMPARED, *published, *ours)):
        here, there = _text(ours.get(name)), _text(published.get(name))
        if here or there:
            yield name, here, there, bool(here and there) and differ(here, there, several=name == "images")


def differ(ours: str, published: str, several: bool = False) -> bool:
    """Whether a setting is another than the paper's words begin with: LMS and "LMS (script default)" are the same.

    several: each of the paper's numbers will do.
    """
    here, there = (_version(text) or re.findall(r"\d+(?:\.\d+)?|[a-z]+", text.casefold()) for text in (ours, published))
    if (
        here and there and isinstance(here[0], str) and here[0][0].isdigit()
    ):  # a number: the first one that the paper states
        numbers = [float(word) for word in there if word[0].isdigit()]
        return bool(numbers) and float(here[0]) not in (numbers if several else numbers[:1])
    return list(here[:1]) != list(there[:1])


def _version(text: str) -> list[str]:
    found = verdicts.nudenet(text)
    return ["nudenet " + found] if found else []


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_text(one)}" for key, one in value.items())
    return ", ".join(map(_text, value)) if isinstance(value, list | tuple) else str(value)


def _foot(result: TableResult, source: Table | None) -> str:
    given = {str(key): value for key, value in result.facts.items() if key != "settings"}
    named = {"source": source.source} if source else {}
    for key in ("note", "remark"):
        if source and getattr(source, key):
            named[key] = getattr(source, key)
    if isinstance(seconds := given.pop("seconds", None), int | float):
        named["took"] = duration(seconds)
    versions = given.pop("versions", {})
    named |= {key.replace("_", " "): _text(value) for key, value in given.items() if key not in named}
    named |= {str(key): str(value) for key, value in dict(versions).items()} if isinstance(versions, Mapping) else {}
    note = f"<p class='legend'>{escape(TWO_OF_NUDENET)}</p>" if _counts_nudity(result) else ""
    return note + facts(named)


def _counts_nudity(result: TableResult) -> bool:
    return any(entry.measure.startswith("nudenet") for entry in result.entries)
