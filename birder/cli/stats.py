"""`birder stats`: what is in a collection, as tables and charts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import typer

from birder.cli import options
from birder.cli.options import Format
from birder.cli.output import note, say, write_rows, write_value
from birder.taxonomy import RANKS
from birder.words import counted

if TYPE_CHECKING:
    from birder.collection.api import Collection

Show: TypeAlias = Callable[[Sequence[dict[str, Any]]], None]
_LISTED = 30
_CHARTS = (".png", ".svg", ".pdf")


def stats(
    collection: options.Collection,
    column: Annotated[
        str | None, typer.Option("--column", metavar="COLUMN", help="Count the values of this column.")
    ] = None,
    neighbours: Annotated[
        bool,
        typer.Option(
            "--neighbours",
            help="How often the nearest image is of the same taxon, for each rank (or for --column).",
        ),
    ] = False,
    where: options.Where = None,
    to: Annotated[Path | None, options.to_option(".png, .svg or .pdf for a chart, or .csv, .json, .parquet")] = None,
    format: options.FormatOption = None,
    force: options.Force = False,
) -> None:
    """Summarise a collection: rows, failures, model, which columns are filled and with what.

    For example:

    birder stats photos.birder

    birder stats photos.birder --column label --to labels.png

    birder stats photos.birder --where "deployment = 'A4'" --column label

    birder stats photos.birder --neighbours
    """
    chart = to if to is not None and to.suffix.lower() in _CHARTS else None
    rows_to = to if chart is None else None
    form = options.format_of(format, rows_to)
    options.check_to(to, force)

    import birder

    opened = birder.open_collection(collection)
    show = partial(write_rows, format=form, to=rows_to)
    if neighbours:
        found = opened.agreement([column] if column else RANKS, where=where, to=chart)
        show([asdict(each) for each in found])
        note("agreement: with the nearest other image of different content, among images whose rank is known.")
    elif column is not None:
        rows = [asdict(each) for each in opened.value_counts(column, where=where, to=chart)]
        if form is Format.table and len(rows) > _LISTED:
            note(f"The {_LISTED} most frequent of {len(rows):,}; --format csv lists all.")
            rows = rows[:_LISTED]
        show(rows)
    else:
        _overview(opened, where, show, form, rows_to, chart)
    if chart is not None:
        note(f"Wrote {chart}.")


def _overview(
    opened: Collection, where: str | None, show: Show, form: Format, to: Path | None, chart: Path | None
) -> None:
    from birder.analysis.stats import TAXA

    found = opened.stats(where=where, to=chart)
    if form is Format.json and chart is None:
        write_value(asdict(found), to)
        return
    to_read = form is Format.table and to is None
    tell = say if to_read else note
    match = "matches the filter," if found.rows == 1 else "match the filter,"
    rows = counted(found.rows, "row") if where is None else f"{counted(found.rows, 'row')} {match}"
    tell(
        f"{opened.path}: {rows} with "
        f"{counted(found.contents, 'different content')}, {counted(found.failures, 'failure')}; "
        f"{found.model}, {found.engine}, {found.precision}, {found.embedding_size:,}-dimensional embeddings."
    )
    columns = [
        asdict(each) | {"share": each.filled / found.rows if found.rows else None}
        for each in found.columns
        if each.filled or form is not Format.table
    ]
    names = ("column", "type", "filled", "share", "distinct", "least", "most")
    show([{name: row[name] for name in names} for row in columns])
    if form is not Format.table:
        return
    if columns and (empty := [each.column for each in found.columns if not each.filled]):
        say(f"Empty: {', '.join(empty)}.")
    for each in found.columns:
        if each.column in TAXA and each.filled:
            filled = [
                asdict(value) for value in opened.value_counts(each.column, where=where) if value.value is not None
            ]
            say(f"\n{each.column}, the most frequent of {len(filled):,}:")
            show(filled[:5])
