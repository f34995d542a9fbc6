"""`birder stats`: what is in a collection, as tables and pictures."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from birder.cli.output import Format, note, write_rows

if TYPE_CHECKING:
    from birder.collection.storage import Storage

_LISTED = 30


def stats(
    collection: Annotated[Path, typer.Argument(metavar="DIR", help="The collection.")],
    column: Annotated[
        str | None, typer.Option("--column", metavar="COLUMN", help="Count the values of this column.")
    ] = None,
    neighbours: Annotated[
        bool,
        typer.Option(
            "--neighbours",
            help="How often the photograph nearest to one is of the same taxon, for each rank (or for --column).",
        ),
    ] = False,
    to: Annotated[
        Path | None, typer.Option("--to", metavar="FILE", help="Also draw it: counts.png (or .svg, .pdf).")
    ] = None,
    format: Annotated[Format, typer.Option("--format", help="How to print it.")] = Format.table,
) -> None:
    """Tell what a collection holds: rows, failures, model, which columns are filled and with what.

    Examples: birder stats photos.birder

    birder stats photos.birder --column family --to families.png

    birder stats photos.birder --neighbours
    """
    from birder.collection.storage import Storage

    opened = Storage.open(collection)
    if neighbours:
        _neighbours(opened, column, to, format)
    elif column is not None:
        _values(opened, column, to, format)
    else:
        _overview(opened, to, format)
    if to is not None:
        note(f"Wrote {to}.")


def _overview(opened: Storage, to: Path | None, format: Format) -> None:
    from birder.analysis.stats import TAXA, stats, value_counts

    found = stats(opened)
    note(
        f"{opened.path}: {found.rows:,} rows of {found.contents:,} different contents, {found.failures:,} failures; "
        f"{found.model}, {found.engine}, {found.precision}, {found.embedding_size:,} numbers each."
    )
    rows: list[dict[str, Any]] = []
    for each in found.columns:
        line = asdict(each) | {"share": each.filled / found.rows if found.rows else None}
        rows.append({name: line[name] for name in ("column", "type", "filled", "share", "distinct", "least", "most")})
    if format is Format.table:
        empty = [row["column"] for row in rows if not row["filled"]]
        rows = [row for row in rows if row["filled"]]
        write_rows(rows, format)
        if empty and rows:
            note(f"Empty: {', '.join(empty)}.")
    else:
        write_rows(rows, format)
    counts = {}
    for each in found.columns:
        if each.column in TAXA and each.filled:
            counts[each.column] = value_counts(opened, each.column)
    if format is Format.table:
        for name, values in counts.items():
            note(f"\n{name}, the most frequent of {len([each for each in values if each.value is not None]):,}:")
            write_rows([asdict(each) for each in values if each.value is not None][:5], format)
    if to is not None:
        from birder.errors import BirderError
        from birder.plots.map_image import draw_counts

        if not counts:
            raise BirderError("No row has a label or a taxon: name another column to draw, with --column.")
        draw_counts(counts, to)


def _values(opened: Storage, column: str, to: Path | None, format: Format) -> None:
    from birder.analysis.stats import value_counts

    counts = value_counts(opened, column)
    rows = [asdict(each) for each in counts]
    if format is Format.table and len(rows) > _LISTED:
        note(f"The {_LISTED} most frequent of {len(rows):,}; --format csv has all.")
        rows = rows[:_LISTED]
    write_rows(rows, format)
    if to is not None:
        from birder.plots.map_image import draw_counts

        draw_counts({column: counts}, to)


def _neighbours(opened: Storage, column: str | None, to: Path | None, format: Format) -> None:
    from birder.analysis.agreement import neighbour_agreement
    from birder.errors import BirderError
    from birder.taxonomy import RANKS

    found = neighbour_agreement(opened, RANKS if column is None else [column])
    if not any(each.agreement is not None for each in found):
        raise BirderError(
            f"Not two rows of {opened.path} with different content have a {column or 'taxon'}: "
            "name the column that has labels, as in --column label."
        )
    write_rows([asdict(each) for each in found], format)
    note("agreement: of the nearest other photographs with other content, among those whose rank is known.")
    if to is not None:
        from birder.plots.map_image import draw_agreement

        draw_agreement(found, to)
