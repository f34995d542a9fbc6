"""`birder duplicates`: photographs that are there more than once, or nearly."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from birder.cli.output import Format, note, write_rows

if TYPE_CHECKING:
    from birder.analysis.duplicates import Group

_GROUPS_ON_PAGE = 500


def duplicates(
    collection: Annotated[Path, typer.Argument(metavar="DIR", help="The collection.")],
    threshold: Annotated[
        float | None,
        typer.Option(
            "--threshold", metavar="COSINE", help="From which cosine on photographs are similar; 0.97 without it."
        ),
    ] = None,
    where: Annotated[
        str | None, typer.Option("--where", metavar="SQL", help="Only among rows that this holds for: label = 'owl'")
    ] = None,
    format: Annotated[Format, typer.Option("--format", help="How to print the groups.")] = Format.table,
    html: Annotated[
        Path | None, typer.Option("--html", metavar="FILE", help="Also write a page with the groups side by side.")
    ] = None,
) -> None:
    """Find photographs with the same content, and ones whose embeddings are nearly the same.

    The first of a group is the largest picture; `similarity` is the cosine to it.

    Example: birder duplicates photos.birder --html duplicates.html
    """
    from birder.analysis.duplicates import SAME, THRESHOLD, find_duplicates
    from birder.collection.storage import Storage

    opened = Storage.open(collection)
    least = THRESHOLD if threshold is None else threshold
    groups = find_duplicates(opened, threshold=least, where=where)
    rows = [
        {
            "group": number,
            "kind": group.kind,
            "image": _shown(photo.uri),
            "width": photo.width,
            "height": photo.height,
            "similarity": photo.similarity,
        }
        for number, group in enumerate(groups, 1)
        for photo in group.photos
    ]
    if rows or format is not Format.table:
        write_rows(rows, format)
    if html is not None:
        _write_page(groups, html, f"{collection}: duplicates", least)
    same = sum(group.kind == SAME for group in groups)
    extra = sum(len(group.photos) - 1 for group in groups if group.kind == SAME)
    note(
        f"{_number(same, 'group')} of the same content ({extra:,} more than needed), "
        f"{_number(len(groups) - same, 'group')} with a cosine of {least:g} or more."
    )


def _write_page(groups: list[Group], to: Path, title: str, threshold: float) -> None:
    from birder.plots.image_page import Tile, write_page

    lines = [f"Similar: a cosine of {threshold:g} or more. The first of a group is the largest picture."]
    if len(groups) > _GROUPS_ON_PAGE:
        lines.append(f"The first {_GROUPS_ON_PAGE:,} of {len(groups):,} groups; --format csv has all.")
    sections = [
        (
            f"{number}. {group.kind}",
            [
                Tile(
                    photo.uri,
                    Path(_shown(photo.uri)).name,
                    [_shown(photo.uri), f"{photo.width} x {photo.height}, similarity {photo.similarity:.4f}"],
                )
                for photo in group.photos
            ],
        )
        for number, group in enumerate(groups[:_GROUPS_ON_PAGE], 1)
    ]
    missing = write_page(to, title, lines, sections)
    if missing:
        note(f"{len(missing):,} pictures are missing on the page, such as {_shown(next(iter(missing)))}.")


def _number(count: int, thing: str) -> str:
    return f"{count:,} {thing}{'' if count == 1 else 's'}"


def _shown(uri: str) -> str:
    from birder.sources import readable, uri_to_path

    # What is behind # is a part of a file: then the uri itself is the name.
    return readable(uri_to_path(uri) if uri.startswith("file://") and "#" not in uri else uri)
