"""The report as one HTML file that needs nothing else: pictures are embedded, no script, no network."""

from __future__ import annotations

import base64
import io
from html import escape

from PIL import Image

from erasure.metrics.intervals import Interval
from erasure.report.content import Picture, Report, Score, Strip

_STYLE = """
:root { --ink: #16181d; --quiet: #5b6270; --faint: #8b93a1; --line: #e4e7ec; --paper: #fff;
        --erase: #c2410c; --keep: #0f766e; --bad: #b91c1c; --scale: #eef0f3; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #eceef2; --quiet: #a8afbb; --faint: #7d8592; --line: #2b2f37; --paper: #15171b;
          --erase: #fb923c; --keep: #2dd4bf; --bad: #f87171; --scale: #23262d; } }
* { box-sizing: border-box }
body { margin: 0 auto; padding: 3rem 2rem; max-width: 96rem; background: var(--paper); color: var(--ink);
       font: 16px/1.5 system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif }
h1 { font-size: 2.1rem; line-height: 1.2; margin: 0 0 .4rem }
h2 { font-size: 1.2rem; margin: 2.6rem 0 .8rem }
h2 small { font-weight: 400; font-size: .95rem; color: var(--quiet); margin-left: .6rem }
p.subtitle { color: var(--quiet); margin: 0; max-width: 60rem }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums }
th { text-align: left; font-weight: 400; color: var(--quiet); font-size: .9rem; padding: .3rem 1rem .3rem 0 }
td { border-top: 1px solid var(--line); padding: .7rem 1rem .7rem 0; white-space: nowrap }
td.scale { width: 45% }
td small { color: var(--faint); margin-left: .4rem }
svg { display: block; width: 100%; height: 30px; overflow: visible }
.erase { color: var(--erase) } .keep { color: var(--keep) } .quiet { color: var(--quiet) } .bad { color: var(--bad) }
.strip { display: grid; grid-template-columns: repeat(auto-fill, minmax(8.2rem, 1fr)); gap: 1rem .7rem }
figure { margin: 0; display: flex; flex-direction: column; justify-content: flex-end; font-size: .8rem; line-height: 1.35 }
figcaption { color: var(--quiet); margin-bottom: .35rem }
figure img { width: 100%; aspect-ratio: 1; object-fit: contain; border-radius: 6px; display: block }
figure div { margin: .15rem 0 .45rem }
dl { display: flex; flex-wrap: wrap; gap: .3rem 2rem; margin: 3rem 0 0; padding-top: 1rem; border-top: 1px solid var(--line);
     color: var(--faint); font-size: .85rem }
dl div { display: flex; gap: .4rem } dd { margin: 0; color: var(--quiet) }
"""


def to_html(report: Report) -> str:
    """The report as an HTML document (UTF-8)."""
    scores = "\n".join(_score(score) for score in report.scores)
    strips = "\n".join(_strip(strip) for strip in report.strips)
    facts = "".join(f"<div><dt>{escape(k)}</dt><dd>{escape(v)}</dd></div>" for k, v in report.facts.items())
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(report.title)}</title>
<style>{_STYLE}</style>
</head>
<body>
<h1>{escape(report.title)}</h1>
<p class="subtitle">{escape(report.subtitle)}</p>
<h2>{escape(report.score_title)}</h2>
<table>
<thead><tr><th></th><th>0 to 100 %; grey before, coloured after; bars are 95 % intervals</th>
<th>before</th><th>after</th><th>images</th></tr></thead>
<tbody>
{scores}
</tbody>
</table>
{strips}
<dl>{facts}</dl>
</body>
</html>
"""


def _score(score: Score) -> str:
    return (
        f"<tr><td>{escape(score.label)}</td><td class='scale {score.goal}'>{_scale(score)}</td>"
        f"<td>{_percent(score.before, 'quiet')}</td><td>{_percent(score.after, score.goal)}</td>"
        f"<td class='quiet'>{score.after.n}</td></tr>"
    )


def _percent(interval: Interval, css: str) -> str:
    low, high = 100 * interval.low, 100 * interval.high
    return f"<b class='{css}'>{100 * interval.value:.0f} %</b><small>{low:.0f} – {high:.0f}</small>"


def _scale(score: Score) -> str:
    """Both intervals on one scale from 0 to 100 %. Positions are percentages, so that the drawing takes any width."""
    marks = "".join(f"<line x1='{x}%' x2='{x}%' y1='0' y2='30' stroke='var(--line)'/>" for x in (0, 50, 100))
    for interval, colour, y in ((score.before, "var(--faint)", 9), (score.after, "currentColor", 21)):
        low, value, width = 100 * interval.low, 100 * interval.value, 100 * (interval.high - interval.low)
        marks += (
            f"<rect x='{low:.2f}%' width='{width:.2f}%' y='{y - 3}' height='6' rx='3' fill='{colour}' opacity='.35'/>"
        )
        marks += f"<circle cx='{value:.2f}%' cy='{y}' r='6' fill='{colour}'/>"
    return f"<svg role='img' aria-label='{score.before.percent()} to {score.after.percent()}'>{marks}</svg>"


def _strip(strip: Strip) -> str:
    note = f"<small>{escape(strip.note)}</small>" if strip.note else ""
    figures = "\n".join(_figure(picture) for picture in strip.pictures)
    return f"<h2>{escape(strip.title)}{note}</h2>\n<div class='strip'>\n{figures}\n</div>"


def _figure(picture: Picture) -> str:
    before = _shown(picture.before, f"before: {picture.caption}", picture.judged_before, picture.good_before, "quiet")
    after = _shown(picture.after, f"after: {picture.caption}", picture.judged_after, picture.good_after, "keep")
    return f"<figure><figcaption>{escape(picture.caption)}</figcaption>{before}{after}</figure>"


def _shown(image: Image.Image, alt: str, answer: str, good: bool, css: str) -> str:
    """One picture over what the judge says it shows."""
    side = alt.split(":")[0]
    label = f"{side}: {answer}" if answer else side
    return (
        f"<img alt='{escape(alt)}' src='{data_url(image)}'><div class='{css if good else 'bad'}'>{escape(label)}</div>"
    )


def data_url(image: Image.Image, longest: int = 512) -> str:
    """`image` as a data: URL (JPEG, quality 92, at most `longest` pixels a side)."""
    image = image.convert("RGB")
    image.thumbnail((longest, longest), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=92, subsampling=0)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
