"""The tables that BioCLIP's authors published, cell by cell: the published value, what was found here, or why not.

All values are in percent.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from birder.evaluation.benchmarks import Published, benchmarks, published_values
from birder.evaluation.published_values import compared_with, lies_inside, model_of

Paper = Literal["bioclip"]
MEAN = "mean"
"""What published tables call the mean of a row."""


@dataclass(frozen=True)
class PublishedTable:
    """A published table: what stands in it, by model and column, and the protocols that its values are by.

    Attributes
    ----------
    name, title, about
        In addresses; as a heading; and what must be known to read it.
    columns
        Benchmark and protocol of each column, as published; the benchmark may be a group of benchmarks ("idle-oo"), one
        that Birder does not have, or "mean", of all other columns.
    values
        By model, as published, and column.
    """

    name: str
    title: str
    about: str
    columns: tuple[tuple[str, str], ...]
    values: Mapping[tuple[str, tuple[str, str]], Published]

    @property
    def models(self) -> tuple[str, ...]:
        """The models as published, in the order of the table; some stand there twice, with two versions of figures."""
        return tuple(dict.fromkeys(model for model, _ in self.values))

    def needed(self, column: tuple[str, str]) -> tuple[str, ...]:
        """The benchmarks of Birder that a column takes; none where Birder does not have it."""
        known = benchmarks()
        if column[0] == MEAN:
            return tuple(name for each in self.columns if each[0] != MEAN for name in self.needed(each))
        if column[0] in known:
            return (column[0],)
        return tuple(name for name, entry in known.items() if entry.group == column[0])


@dataclass(frozen=True)
class Judged:
    """A model on a benchmark: what was found, or why nothing was.

    Attributes
    ----------
    protocols
        What `birder.evaluation.benchmark_protocols.judge` gave, by the protocol's name.
    why
        Why there are no figures, or why those that there are cannot be compared with published ones.
    """

    protocols: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    why: str | None = None


@dataclass(frozen=True)
class JudgedModel:
    """A model that was asked for.

    Attributes
    ----------
    word
        What the user calls it.
    published
        What the published tables call it; None if they do not have it.
    sha256
        Of its weights; None if they could not be had.
    benchmarks
        What was found, by benchmark; a benchmark that is absent was not run.
    """

    word: str
    published: str | None
    sha256: str | None
    benchmarks: Mapping[str, Judged]


@dataclass(frozen=True)
class Cell:
    """A cell of a published table, or of the row that another model would have there.

    Attributes
    ----------
    table, benchmark, protocol
        As published.
    published_model, published, source
        The model as published, its value and where that stands; None for a model or cell that was not published.
    model, sha256
        What was judged here, and the sha256 of its weights; None if no such model was asked for.
    metric
        What is compared: "zero-shot.top1".
    value, low, high, n
        What was found, its 95 % interval and the number of images; None where nothing was, or no interval is known.
    inside
        Whether the published value lies in the interval; None where they cannot be compared.
    why
        Why there is no value, or why it is not compared; None where there is nothing to say.
    """

    table: str
    benchmark: str
    protocol: str
    published_model: str | None
    published: float | None
    source: str | None
    model: str | None
    sha256: str | None
    metric: str | None
    value: float | None = None
    low: float | None = None
    high: float | None = None
    n: int | None = None
    inside: bool | None = None
    why: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        return asdict(self)


@dataclass(frozen=True)
class Row:
    """A row of a table: a model as published, or one that only this machine has."""

    model: str
    judged: JudgedModel | None
    cells: tuple[Cell, ...]


_TABLES: dict[Paper, tuple[tuple[str, str, str, tuple[str, ...]], ...]] = {
    "bioclip": (
        (
            "zero-shot-v1",
            "BioCLIP: zero-shot",
            "Two versions of BioCLIP's own figures were published, on its page and on an older model card. Both stand "
            "here, and both are compared with what was found.",
            ("zero-shot (v1)",),
        ),
        (
            "rare-species-card",
            "Rare Species: zero-shot, one-shot and five-shot",
            "From the dataset's card, whose zero-shot figures of CLIP and OpenCLIP are by common names alone. One-shot "
            "and five-shot are means of five folds, drawn as BioCLIP's code draws them.",
            ("zero-shot (Rare Species card)", "one-shot (v1)", "five-shot (v1)"),
        ),
        (
            "zero-shot-v2",
            "BioCLIP 2: zero-shot",
            "The five sets of IDLE-OO Camera Traps stand as their mean. Figures of BioCLIP differ from those in its "
            "own tables.",
            ("zero-shot (v2)",),
        ),
        (
            "beyond-species-v2",
            "BioCLIP 2: beyond species",
            "Each benchmark is judged by its own published protocol.",
            ("beyond species (v2)",),
        ),
    )
}


def published_tables(paper: Paper = "bioclip") -> tuple[PublishedTable, ...]:
    """The tables of a paper and its successors, in the order in which they are shown."""
    tables = []
    for name, title, about, protocols in _TABLES[paper]:
        values = [value for each in protocols for value in published_values() if value.protocol == each]
        tables.append(
            PublishedTable(
                name,
                title,
                about,
                tuple(dict.fromkeys((value.benchmark, value.protocol) for value in values)),
                {(value.model, (value.benchmark, value.protocol)): value for value in values},
            )
        )
    return tuple(tables)


def needed_protocols(tables: Iterable[PublishedTable]) -> dict[str, tuple[str, ...]]:
    """The protocols that must be run to fill tables, by benchmark, in the order of all benchmarks."""
    needed: dict[str, dict[str, None]] = {name: {} for name in benchmarks()}
    for table in tables:
        for column in table.columns:
            for name in table.needed(column):
                if (place := compared_with(Published("", name, column[1], 0.0, ""))) is not None:
                    needed[name][place[0]] = None
    return {name: tuple(protocols) for name, protocols in needed.items() if protocols}


def fill(table: PublishedTable, judged: Sequence[JudgedModel]) -> list[Row]:
    """A table's rows with what was found: each model as published, then those that were not published.

    Parameters
    ----------
    table
        From `published_tables`.
    judged
        The models that were asked for.
    """
    rows = []
    there = {model_of(value) for value in table.values.values()}
    for model in table.models:
        of = next(model_of(value) for (name, _), value in table.values.items() if name == model)
        own: list[JudgedModel | None] = [each for each in judged if each.published == of]
        rows += [_row(table, model, of, each) for each in own or [None]]
    rows += [_row(table, each.word, None, each) for each in judged if each.published not in there]
    return rows


def _row(table: PublishedTable, model: str, of: str | None, judged: JudgedModel | None) -> Row:
    cells: dict[tuple[str, str], Cell] = {}
    for column in sorted(table.columns, key=lambda column: column[0] == MEAN):  # the mean is of the others
        benchmark, protocol = column
        value = table.values.get((model, column)) if of is not None else None
        place = compared_with(Published("", (table.needed(column) or (benchmark,))[0], protocol, 0.0, ""))
        blank = Cell(
            table.name,
            benchmark,
            protocol,
            None if value is None else value.model,
            None if value is None else value.percent,
            None if value is None else value.source,
            None if judged is None else judged.word,
            None if judged is None else judged.sha256,
            None if place is None or benchmark == MEAN else ".".join(place),
        )
        if judged is None:
            cells[column] = replace(blank, why=f"not run: {of} is not among the models that were asked for")
        elif benchmark == MEAN:
            cells[column] = _mean(blank, list(cells.values()))
        elif benchmark in benchmarks():
            cells[column] = _found(blank, judged, benchmark, place)
        else:
            parts = table.needed(column)
            of_parts = [_found(replace(blank, benchmark=each), judged, each, place) for each in parts]
            cells[column] = _mean(blank, of_parts)
    return Row(model, judged, tuple(cells[column] for column in table.columns))


def _found(blank: Cell, judged: JudgedModel, benchmark: str, place: tuple[str, str] | None) -> Cell:
    """What a model was found to have on a benchmark, beside the published value."""
    found = judged.benchmarks.get(benchmark)
    if found is None or place is None:
        return replace(blank, why="not run")
    figure = found.protocols.get(place[0], {}).get("metrics", {}).get(place[1])
    if figure is None:
        return replace(blank, why=found.why or f"not run: {judged.word} cannot be judged by {place[0]}")
    low, high = (None if figure[end] is None else 100 * figure[end] for end in ("low", "high"))
    return _compared(
        replace(blank, value=100 * figure["estimate"], low=low, high=high, n=figure["n"], why=found.why),
    )


def _mean(blank: Cell, parts: Sequence[Cell]) -> Cell:
    """The mean of cells, whose intervals are taken for independent."""
    if not parts:
        return replace(blank, why=f"not run: Birder does not have the benchmark {blank.benchmark}")
    lacking = [each.benchmark for each in parts if each.value is None]
    if lacking:
        return replace(
            blank, why=f"not run: the mean needs all of its {len(parts)} benchmarks, and lacks {_few(lacking)}"
        )
    values = [each.value for each in parts if each.value is not None]
    value = sum(values) / len(values)
    half = [(each.high - each.low) / 2 for each in parts if each.low is not None and each.high is not None]
    low = high = None
    if len(half) == len(parts):
        width = math.sqrt(sum(each**2 for each in half)) / len(half)
        low, high = max(value - width, 0.0), min(value + width, 100.0)
    incomplete = [each.benchmark for each in parts if each.why is not None]
    why = f"not compared: incomplete on {_few(incomplete)}" if incomplete else None
    n = sum(each.n or 0 for each in parts)
    return _compared(replace(blank, value=value, low=low, high=high, n=n, why=why))


def _compared(cell: Cell) -> Cell:
    """A cell with a verdict, where there is a published value, an interval, and nothing that forbids it."""
    if cell.published is None or cell.low is None or cell.high is None or cell.why is not None:
        return cell
    return replace(cell, inside=lies_inside(cell.published, cell.low, cell.high))


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
