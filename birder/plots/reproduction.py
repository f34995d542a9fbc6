"""Published tables with what was found beside them, as one HTML page and as Markdown."""

from __future__ import annotations

from collections.abc import Sequence

from birder.evaluation.benchmarks import benchmarks
from birder.evaluation.published_tables import Cell, PublishedTable, Row
from birder.plots.document import Section, page, table
from birder.plots.report_charts import text

Filled = Sequence[tuple[PublishedTable, Sequence[Row]]]
"""Tables and their rows, from `birder.evaluation.published_tables.fill`."""
Missing = Sequence[tuple[str, str]]
"""Benchmarks without a folder, and how to get them."""

TITLE = "BioCLIP's published tables, and what was found here"
INTRODUCTION = (
    "Each published value stands above what was found here, with its 95 % interval, all in percent.",
    "An interval tells how far other images of the same kind would change a figure; that of a mean takes its "
    "benchmarks for independent.",
    "Inside: the published value, which is rounded, lies in the interval. Outside: it does not. Models without a "
    "second line were not run; their published values stand for comparison.",
)
_HEADS = ("Model", "Benchmark", "Protocol", "Published", "Here", "95 % interval", "Images", "Verdict", "Source")
_NUMBERS = ("Published", "Here", "95 % interval", "Images")
_SHORT = {"mean": "Mean", "idle-oo": "IDLE-OO", "herbarium19": "Herbarium19"}
_STYLE = """
.inside { color: var(--right); }
.outside { color: var(--wrong); }
td.why { min-width: 16rem; }
tbody th { min-width: 13rem; }
"""


def as_html(filled: Filled, missing: Missing) -> str:
    """The tables as one page that asks no network for anything."""
    sections = [
        Section(
            each.name,
            each.title,
            f"<p>{text(each.about)}</p>{_grid_html(each, rows)}{_details_html(each, rows)}",
        )
        for each, rows in filled
    ]
    if missing:
        items = "".join(f"<li><b>{text(name)}</b>: {text(why)}</li>" for name, why in missing)
        sections.append(Section("missing", "Not run: their folders are not there", f"<ul>{items}</ul>"))
    said = "".join(f"<p>{text(each)}</p>" for each in INTRODUCTION)
    head = f"<header><h1>{text(TITLE)}</h1>{said}</header>"
    return page(TITLE, head, sections, style=_STYLE)


def as_markdown(filled: Filled, missing: Missing) -> str:
    """The tables as Markdown."""
    lines = [f"# {TITLE}", "", *INTRODUCTION, ""]
    for each, rows in filled:
        lines += [f"## {each.title}", "", each.about, ""]
        heads = ["Model", *(_head(column) for column in each.columns)]
        lines += _markdown(heads, _grid(rows))
        lines += _markdown(_HEADS, [_detail(row, cell) for row in rows if row.judged for cell in row.cells])
    if missing:
        lines += ["## Not run: their folders are not there", ""]
        lines += [f"- **{_escaped(name)}**: {_escaped(why)}" for name, why in missing]
        lines += [""]
    return "\n".join(lines)


def _grid(rows: Sequence[Row]) -> list[list[str]]:
    """The table as published; below each model that was run, what was found."""
    lines = []
    for place, row in enumerate(rows):
        first = place == 0 or rows[place - 1].model != row.model
        if first and any(cell.published is not None for cell in row.cells):
            lines.append(
                [row.model, *("" if cell.published is None else _number(cell.published) for cell in row.cells)]
            )
        if row.judged is not None:
            lines.append([f"{row.judged.word}, here", *(_found(cell) for cell in row.cells)])
    return lines


def _grid_html(each: PublishedTable, rows: Sequence[Row]) -> str:
    heads = ["Model", *(_head(column) for column in each.columns)]
    lines = [
        f"<tr><th scope=row>{text(line[0])}</th>"
        + "".join(f'<td class="number">{text(value)}</td>' for value in line[1:])
        + "</tr>"
        for line in _grid(rows)
    ]
    return table(f"{each.title}, as published", heads, lines, numbers=heads[1:], sortable=False, whole=True)


def _details_html(each: PublishedTable, rows: Sequence[Row]) -> str:
    lines = []
    for row in rows:
        for cell in row.cells if row.judged else ():
            model, *values, verdict, source = _detail(row, cell)
            kind = {True: "inside", False: "outside", None: "why"}[cell.inside]
            lines.append(
                f"<tr><th scope=row>{text(model)}</th>"
                + "".join(
                    f"<td{' class=number' if head in _NUMBERS else ''}>{text(value)}</td>"
                    for head, value in zip(_HEADS[1:-2], values, strict=True)
                )
                + f'<td class="{kind}">{text(verdict)}</td><td>{text(source)}</td></tr>'
            )
    if not lines:
        return ""
    return table(f"{each.title}, cell by cell", _HEADS, lines, numbers=_NUMBERS)


def _detail(row: Row, cell: Cell) -> list[str]:
    assert row.judged is not None
    model = row.judged.word if row.model == row.judged.word else f"{row.judged.word} ({row.model})"
    return [
        model,
        _title(cell.benchmark),
        cell.protocol,
        _published(cell),
        "" if cell.value is None else _number(cell.value),
        _interval(cell),
        "" if cell.n is None else f"{cell.n:,}",
        _verdict(cell),
        cell.source or "",
    ]


def _verdict(cell: Cell) -> str:
    if cell.why is not None:
        return cell.why
    if cell.inside is not None:
        return "inside" if cell.inside else "outside"
    if cell.published is None:
        return "no published value"
    return "not compared: no interval is known"


def _found(cell: Cell) -> str:
    """A cell of the grid: what was found, its interval, and on which side the published value lies."""
    if cell.value is None:
        return "not run"
    interval = _interval(cell)
    said = {True: ", inside", False: ", outside", None: ""}[cell.inside]
    return f"{_number(cell.value)}{f' ({interval}){said}' if interval else ''}"


def _published(cell: Cell) -> str:
    return "" if cell.published is None else _number(cell.published)


def _interval(cell: Cell) -> str:
    return "" if cell.low is None or cell.high is None else f"{_number(cell.low)} to {_number(cell.high)}"


def _number(percent: float) -> str:
    """With one decimal, and two where that is what was published."""
    return f"{percent:.1f}" if round(percent, 1) == percent or percent != round(percent, 2) else f"{percent:.2f}"


def _head(column: tuple[str, str]) -> str:
    benchmark, protocol = column
    shown = _title(benchmark)
    return f"{shown}, {protocol}" if "shot" in protocol and not protocol.startswith("zero-shot (v") else shown


def _title(benchmark: str) -> str:
    known = benchmarks()
    if benchmark not in known:
        return _SHORT.get(benchmark, benchmark)
    return known[benchmark].title.removeprefix("Meta-Album ").removesuffix(" (Mini)").removesuffix(" (test)")


def _markdown(heads: Sequence[str], lines: Sequence[Sequence[str]]) -> list[str]:
    if not lines:
        return []
    rows = [list(heads), ["---"] * len(heads), *([_escaped(value) for value in line] for line in lines)]
    return [*(f"| {' | '.join(row)} |" for row in rows), ""]


def _escaped(value: str) -> str:
    return " ".join(value.split()).replace("|", "\\|")
