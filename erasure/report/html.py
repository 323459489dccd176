"""The report as one HTML file that needs nothing else: pictures are embedded, no script, no network."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from html import escape

from PIL import Image

from erasure.metrics.intervals import Interval
from erasure.report.content import WANTED, Picture, Report, Score, Shown, Strip

_STYLE = """
:root { color-scheme: light dark;
        --ink: #16181d; --quiet: #5b6270; --faint: #8b93a1; --line: #e4e7ec; --paper: #fff;
        --erase: #c2410c; --keep: #0f766e; --bad: #b91c1c; --track: #eef0f3; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #eceef2; --quiet: #a8afbb; --faint: #7d8592; --line: #2b2f37; --paper: #15171b;
          --erase: #fb923c; --keep: #2dd4bf; --bad: #f87171; --track: #23262d; } }
* { box-sizing: border-box }
body { margin: 0 auto; padding: 3rem 2rem; max-width: 100rem; background: var(--paper); color: var(--ink);
       font: 16px/1.5 system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif }
h1 { font-size: 2.2rem; line-height: 1.2; margin: 0 0 .4rem }
h2 { font-size: 1.2rem; margin: 2.8rem 0 .8rem }
h2 small { font-weight: 400; font-size: .95rem; margin-left: .6rem }
p { color: var(--quiet); margin: 0; max-width: 64rem }
p.legend { color: var(--faint); font-size: .85rem; margin-top: .7rem }
.table { overflow-x: auto }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums }
th { text-align: left; font-weight: 600; padding: .3rem 2rem .5rem 0; vertical-align: top; white-space: nowrap }
th small { display: block; font-weight: 400; font-size: .85rem }
tbody th { font-size: 1.1rem; vertical-align: middle }
tbody th, td { border-top: 1px solid var(--line); padding: .8rem 2rem .9rem 0; white-space: nowrap }
td b { font-size: 1.25rem } td small { color: var(--faint); margin-left: .5rem }
.cost { text-align: right; padding-right: 0; padding-left: 1.2rem }
svg { display: block; width: 100%; min-width: 7rem; height: 14px; margin-top: .35rem; overflow: visible }
.erase { color: var(--erase) } .keep { color: var(--keep) } .base { color: var(--faint) }
.quiet { color: var(--quiet) } .bad { color: var(--bad) }
.strip { display: grid; grid-template-columns: repeat(auto-fill, minmax(8.2rem, 1fr)); gap: 1.4rem .7rem }
figure { margin: 0; display: flex; flex-direction: column; justify-content: flex-end; font-size: .8rem; line-height: 1.35 }
figcaption { color: var(--quiet); margin-bottom: .35rem }
figure img { width: 100%; aspect-ratio: 1; object-fit: contain; border-radius: 6px; display: block }
figure div { margin: .15rem 0 .5rem } figure div b { color: var(--ink); font-weight: 600; margin-right: .3rem }
.panels { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(30rem, 100%), 1fr)); gap: 0 3rem }
.panels section { overflow-x: auto } .panels p.legend { margin: -.6rem 0 .6rem }
svg.plot { width: 100%; height: auto; margin: 0 }
table.matrix { border-collapse: separate; border-spacing: 3px } table.matrix th { font-size: .8rem; font-weight: 400; padding: .1rem .3rem;
     border: 0; color: var(--quiet); white-space: normal } table.matrix tbody th { font-size: .9rem; color: var(--ink); white-space: nowrap }
table.matrix td { border: 0; border-radius: 5px; padding: .5rem 0; min-width: 2.6rem; text-align: center; color: var(--faint) }
dl { display: flex; flex-wrap: wrap; gap: .3rem 2rem; margin: 3rem 0 0; padding-top: 1rem; border-top: 1px solid var(--line);
     color: var(--faint); font-size: .85rem }
dl div { display: flex; gap: .4rem } dd { margin: 0; color: var(--quiet) }
"""


def to_html(report: Report) -> str:
    """The report as an HTML document (UTF-8)."""
    parts = [
        f"<p>{escape(report.subtitle)}</p>",
        _table(report) if report.scores else "",
        _panels(report) if report.panels else "",
        strips(report),
        facts(report.facts),
    ]
    return document(report.title, "\n".join(parts))


def document(title: str, body: str, style: str = "") -> str:
    """A whole page under its title, with this module's style and more of it."""
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title>
<style>{_STYLE}{style}</style>
</head>
<body>
<h1>{escape(title)}</h1>
{body}
</body>
</html>
"""


def strips(report: Report) -> str:
    """The pictures, a section a strip."""
    return "\n".join(_strip(report, strip) for strip in report.strips)


def facts(named: Mapping[str, str]) -> str:
    """A line of names and values for the foot."""
    return f"<dl>{''.join(f'<div><dt>{escape(k)}</dt><dd>{escape(v)}</dd></div>' for k, v in named.items())}</dl>"


def _table(report: Report) -> str:
    heads = "".join(_head(score) for score in report.scores)
    heads += "".join(f"<th class='cost'>{escape(name)}</th>" for name in report.cost_names)
    rows = "\n".join(_row(report, i) for i in range(len(report.versions)))
    return f"""<h2>{escape(report.score_title)}</h2>
<div class="table"><table>
<thead><tr><th></th>{heads}</tr></thead>
<tbody>
{rows}
</tbody>
</table></div>
<p class="legend">Values and 95 % intervals, on scales from 0 to 100 %.</p>"""


def _head(score: Score) -> str:
    about = f"{WANTED[score.goal]} · {score.images}"
    return f"<th>{escape(score.label)}<small class='{score.goal}'>{escape(about)}</small></th>"


def _row(report: Report, i: int) -> str:
    version = report.versions[i]
    note = f"<small class='quiet'>{escape(version.note)}</small>" if version.note else ""
    cells = "".join(_cell(score.intervals[i], score.goal if i else "base") for score in report.scores)
    costs = "".join(f"<td class='cost'>{escape(version.costs.get(name, '–'))}</td>" for name in report.cost_names)
    return f"<tr><th scope='row'>{escape(version.name)}{note}</th>{cells}{costs}</tr>"


def _cell(interval: Interval, css: str) -> str:
    """The value and its interval, and both on a scale from 0 to 100 % that takes any width."""
    low, value, high = (100 * x for x in (interval.low, interval.value, interval.high))
    scale = (
        "<rect width='100%' y='4' height='6' rx='3' fill='var(--track)'/>"
        f"<rect x='{low:.2f}%' width='{high - low:.2f}%' y='4' height='6' rx='3' fill='currentColor' opacity='.4'/>"
        f"<circle cx='{value:.2f}%' cy='7' r='6.5' fill='currentColor'/>"
    )
    return (
        f"<td class='{css}'><b>{value:.0f} %</b><small>{low:.0f} – {high:.0f}</small>"
        f"<svg role='img' aria-label='{interval.percent()}'>{scale}</svg></td>"
    )


def _panels(report: Report) -> str:
    panels = "\n".join(f"<section><h2>{escape(p.title)}</h2>\n{p.html()}</section>" for p in report.panels)
    return f"<div class='panels'>\n{panels}\n</div>"


def _strip(report: Report, strip: Strip) -> str:
    wanted = f"<small class='{strip.goal}'>{WANTED[strip.goal]}</small>" if strip.goal else ""
    figures = "\n".join(_figure(report, picture) for picture in strip.pictures)
    return f"<h2>{escape(strip.title)}{wanted}</h2>\n<div class='strip'>\n{figures}\n</div>"


def _figure(report: Report, picture: Picture) -> str:
    rows = zip(report.versions, picture.shown, strict=True)
    shown = "".join(_shown(version.name, picture.caption, one, i) for i, (version, one) in enumerate(rows))
    return f"<figure><figcaption>{escape(picture.caption)}</figcaption>{shown}</figure>"


def _shown(version: str, caption: str, shown: Shown, row: int) -> str:
    """One picture over its version and what the judge says it shows."""
    css = "bad" if not shown.good else "keep" if row else "quiet"
    return (
        f"<img alt='{escape(f'{version}: {caption}')}' src='{data_url(shown.image)}'>"
        f"<div class='{css}'><b>{escape(version)}</b>{escape(shown.verdict)}</div>"
    )


def data_url(image: Image.Image, longest: int = 512) -> str:
    """`image` as a data: URL (JPEG, quality 92, at most `longest` pixels a side)."""
    image = image.convert("RGB")
    image.thumbnail((longest, longest), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=92, subsampling=0)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
