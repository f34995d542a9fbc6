"""The activity report of a collection as one page: effort and captures, activity, accumulation, stations."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path

import numpy as np

from birder.analysis.activity import LEAST, Activity
from birder.analysis.circular import REPLICATES, STEP
from birder.files import replacing
from birder.plots import activity_charts as charts
from birder.plots.activity_charts import Station
from birder.plots.document import Section, page, table
from birder.plots.report_charts import text

MOST = 1000
"""Deployments in a table of the page, at most."""
_WIDE = 12  # species in the table by deployment
_BLOCKS = 6  # of the day, in the table of activity
_NONE = "(none)"
_STYLE = """
tfoot tr > * { border-top: 2px solid var(--edge); border-bottom: 0; font-weight: 650; }
.answer .facts { font-size: 1.25rem; line-height: 1.5; }
.curves { display: grid; align-items: end; gap: 1rem; }
.curves { grid-template-columns: repeat(auto-fill, minmax(min(100%, 21rem), 1fr)); }
.curves figcaption { font-size: 0.9rem; margin: 0 0 0.25rem; color: var(--ink); }
.band, .station { fill: var(--right); fill-opacity: 0.22; }
.station { fill-opacity: 0.4; stroke: var(--right); }
.station.none { fill: var(--card); stroke: var(--quiet); }
.scale { stroke: var(--ink); stroke-width: 2; }
.chart.map { max-width: 45rem; }
"""


def write_activity_page(found: Activity, to: str | Path, asked: Mapping[str, str]) -> None:
    """Write the report as one HTML file that asks no network for anything.

    Parameters
    ----------
    found
        What it shows.
    to
        The file; replaced as a whole.
    asked
        What was asked: `collection`, and others by what they are called.

    Raises
    ------
    BirderError
        The file cannot be written.
    """
    sections = [
        Section("effort", "Effort and captures", _effort(found)),
        Section("species", "Captures by species", _species(found)),
        Section("activity", "Activity over the day", _activity(found)),
        Section("accumulation", "Accumulation of species", _accumulation(found)),
        Section("stations", "Stations", _stations(found)),
        Section("made", "How this was made", _made(asked)),
    ]
    title = f"Effort, captures and activity in {asked['collection']}"
    document = page(title, _head(title, found, asked), sections, style=_STYLE)
    with replacing(to) as draft:
        draft.write_text(document, encoding="utf-8")


def station_list(found: Activity) -> list[Station]:
    """The deployments whose coordinates are known."""
    captures = found.counts.sum(1).tolist()
    return [
        Station(each.name, each.latitude, each.longitude, number)
        for each, number in zip(found.deployments, captures, strict=True)
        if each.name and each.latitude is not None and each.longitude is not None
    ]


def _head(title: str, found: Activity, asked: Mapping[str, str]) -> str:
    notes = "".join(f"<li>{text(each)}</li>" for each in found.notes)
    aside = f'<aside aria-label="Notes"><h2>Before you use these figures</h2><ul>{notes}</ul></aside>' if notes else ""
    where = f" where <code>{text(asked['where'])}</code>" if asked.get("where") else ""
    return (
        f'<header><h1>{text(title)}</h1><p class="asked">{found.rows:,} rows{where}. A capture is one species in one '
        "event; an event is a sequence, or an image without one.</p>"
        f'<div class="opening"><div class="answer"><p class="facts">{found.summary}.</p></div>{aside}</div></header>'
    )


def _effort(found: Activity) -> str:
    shown = found.deployments[:MOST]
    kinds = ("events", "animals", "humans", "vehicles", "blanks", "unnamed")
    rows = []
    for each in shown:
        counts = "".join(_number(getattr(each, kind)) for kind in kinds)
        rows.append(
            f"<tr>{_name(each.name)}<td class=span>{_moment(each.start)}</td><td class=span>{_moment(each.end)}</td>"
            f"{_number(each.nights, 1)}<td>{text(each.known_by or '')}</td>{counts}"
            f"{_number(100 * each.animals / each.nights if each.nights else None, 2)}</tr>"
        )
    totals = "".join(_number(sum(getattr(each, kind) for each in found.deployments)) for kind in kinds)
    at_work = sum(each.animals for each in found.deployments if each.nights)
    rate = 100 * at_work / found.nights if found.nights else None
    foot = (
        f"<tr><th scope=row>All</th><td></td><td></td>{_number(found.nights, 1)}<td></td>{totals}"
        f"{_number(rate, 2)}</tr>"
    )
    heads = ["Deployment", "Start", "End", "Nights", "Nights from", "Events", "Animals", "Humans", "Vehicles"]
    heads += ["Blank", "Not named", "Animals per 100 nights"]
    numbers = set(heads) - {"Deployment", "Start", "End", "Nights from"}
    parts = [
        "<p>A trap night is 24 hours of one camera. Animals, humans and vehicles are numbers of events that show them, "
        "animals with a name; one event can show several. In a blank event every image is blank; one that is not named "
        "shows none of these.</p>",
        table("Effort and captures by deployment", heads, rows, numbers=numbers, down=numbers, foot=foot),
        _cut(len(shown), len(found.deployments)),
    ]
    named = found.species[:_WIDE]
    if named:
        rows = []
        for each, counts in zip(shown, found.counts.tolist(), strict=False):
            others = [_number(sum(counts[_WIDE:]))] if len(found.species) > _WIDE else []
            rows.append(f"<tr>{_name(each.name)}{''.join(map(_number, counts[:_WIDE]))}{''.join(others)}</tr>")
        columns = [each.name for each in named] + (["Others"] if len(found.species) > _WIDE else [])
        heads = ["Deployment", *columns]
        parts.append("<h3>Captures of each species</h3>")
        parts.append(table("Captures by deployment and species", heads, rows, numbers=columns, down=columns))
    return "".join(parts)


def _species(found: Activity) -> str:
    if not found.species:
        return "<p>No row has the name of an animal.</p>"
    rows = []
    for each in found.species:
        span = "" if each.low is None or each.high is None else f"{each.low:,.2f} to {each.high:,.2f}"
        rows.append(
            f"<tr>{_name(each.name)}{_number(each.captures)}{_number(each.deployments)}{_number(each.rate, 2)}"
            f'<td class="number">{span}</td></tr>'
        )
    heads = ("Species", "Captures", "Deployments", "Per 100 nights", "95\u00a0% interval")
    about = (
        "<p>The rate is that of deployments whose nights are known. Its interval is that of a bootstrap over "
        "deployments, if there are at least 5.</p>"
    )
    return about + table("Captures by species", heads, rows, numbers=heads[1:], down=heads[1:4])


def _activity(found: Activity) -> str:
    if not found.curves:
        return f"<p>No species has {LEAST} captures with a time.</p>"
    most = max(float(curve.high.max()) for curve in found.curves.values())
    figures = "".join(
        f"<figure><figcaption><b>{_bdi(name)}</b>, {curve.n:,} events, highest at {charts.clock(curve)}</figcaption>"
        f"{charts.activity(name, curve, most)}</figure>"
        for name, curve in found.curves.items()
    )
    length = 24 // _BLOCKS
    rows = []
    for name, curve in found.curves.items():
        shares = (curve.density.reshape(_BLOCKS, -1).sum(1) * STEP / 60).tolist()
        cells = "".join(f'<td class="number" data-v="{share:.6f}">{100 * share:.1f}\u00a0%</td>' for share in shares)
        rows.append(f"<tr>{_name(name)}{_number(curve.n)}<td>{charts.clock(curve)}</td>{cells}</tr>")
    heads = ["Species", "Events", "Highest at"]
    heads += [f"{block * length}:00 to {(block + 1) * length}:00" for block in range(_BLOCKS)]
    numbers = {"Events", *heads[3:]}
    about = (
        f"<p>Clock time of the first image of the species in each event, for species with at least {LEAST}: a von "
        "Mises kernel density (Ridout and Linkie 2009) with the concentration of Taylor (2008). The band holds "
        f"95\u00a0% of {REPLICATES:,} samples of the events, point by point.</p>"
    )
    shares = table("Share of the activity in parts of the day", heads, rows, numbers=numbers, down=numbers)
    return f'{about}<div class="curves">{figures}</div>{shares}{"".join(_overlaps(found))}'


def _overlaps(found: Activity) -> Iterator[str]:
    if not found.overlaps:
        return
    rows = [
        f"<tr>{_name(first)}{_name(second, head=False)}{_number(each.estimate, 2)}"
        f'<td class="number">{each.low:.2f} to {each.high:.2f}</td><td>{each.kind}</td></tr>'
        for (first, second), each in found.overlaps.items()
    ]
    heads = ("Species", "and", "Overlap", "95\u00a0% interval", "Estimator")
    yield (
        "<h3>Overlap</h3><p>How much of two curves is common to both, from 0 to 1: Dhat1 where a species has fewer "
        "than 75 events, else Dhat4 (Ridout and Linkie 2009).</p>"
    )
    yield table("Overlap of activity", heads, rows, numbers=heads[2:4], down=heads[2:3])


def _accumulation(found: Activity) -> str:
    curve = found.accumulation
    if curve is None:
        return "<p>No capture has a deployment and a time.</p>"
    places = np.unique(np.linspace(0, len(curve.samples) - 1, min(11, len(curve.samples))).round().astype(int)).tolist()
    rows = []
    for place in places:
        expected, error = float(curve.expected[place]), 1.959964 * float(curve.error[place])
        rows.append(
            f"<tr>{_number(int(curve.samples[place]), head=True)}{_number(expected, 1)}"
            f'<td class="number">{max(expected - error, 0):.1f} to {expected + error:.1f}</td></tr>'
        )
    heads = ("Days", "Species", "95\u00a0% interval")
    return (
        f"<p>{curve.expected[-1]:.0f} species in {int(curve.samples[-1]):,} days at a deployment; Chao2 estimates that "
        f"there are at least {curve.richness:.1f}. The curve is exact sample-based rarefaction (Mao Tau; Ugland et al. "
        "2003, Colwell et al. 2004), of all animals, whichever were asked for. Every different name counts as a "
        "species.</p>"
        f"{charts.accumulation(curve)}{table('Accumulation of species', heads, rows, numbers=heads, sortable=False)}"
    )


def _stations(found: Activity) -> str:
    there = station_list(found)
    if not there:
        return "<p>No deployment has coordinates (columns latitude and longitude), so there is no map.</p>"
    rows = [
        f"<tr>{_name(each.name)}{_number(each.latitude, 5)}{_number(each.longitude, 5)}{_number(each.captures)}</tr>"
        for each in there[:MOST]
    ]
    lacking = sum(bool(each.name) for each in found.deployments) - len(there)
    more = f" {lacking:,} deployments have no coordinates." if lacking else ""
    heads = ("Deployment", "Latitude", "Longitude", "Captures")
    return (
        f"<p>The area of a circle is proportional to the captures; empty circles have none.{more}</p>"
        f"{charts.stations(there)}{table('Stations', heads, rows, numbers=heads[1:], down=heads[3:])}"
        f"{_cut(len(rows), len(there))}"
    )


def _made(asked: Mapping[str, str]) -> str:
    shown = "".join(f"<dt>{text(key)}</dt><dd>{_bdi(value)}</dd>" for key, value in asked.items())
    return f"<dl>{shown}</dl>"


def _cut(shown: int, number: int) -> str:
    if shown == number:
        return ""
    return f"<p>The first {shown:,} of {number:,}; birder activity --format csv lists all.</p>"


def _bdi(value: str) -> str:
    return f"<bdi>{text(value)}</bdi>"


def _name(value: str, *, head: bool = True) -> str:
    shown = _bdi(value) if value else _NONE
    return f"<th scope=row>{shown}</th>" if head else f"<td>{shown}</td>"


def _number(value: float | None, digits: int = 0, *, head: bool = False) -> str:
    if value is None:
        return '<td class="number" data-v="-1"></td>'
    kind = "th scope=row" if head else "td"
    return f'<{kind} class="number" data-v="{value:.6g}">{value:,.{digits}f}</{kind[:2]}>'


def _moment(moment: datetime | None) -> str:
    return "" if moment is None else f"{moment:%Y-%m-%d\u00a0%H:%M}"
