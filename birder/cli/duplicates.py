"""`birder duplicates`: images that a collection has more than once, or nearly."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from birder.cli import options
from birder.cli.options import Format
from birder.cli.output import note, write_rows

if TYPE_CHECKING:
    from birder.analysis.duplicates import Group

_GROUPS_ON_PAGE = 500


def duplicates(
    collection: options.Collection,
    threshold: Annotated[
        float | None,
        typer.Option("--threshold", metavar="COSINE", help="Least cosine of similar images (default: 0.97)."),
    ] = None,
    where: options.Where = None,
    to: options.ToPage = None,
    format: options.PageFormatOption = None,
    force: options.Force = False,
) -> None:
    """Find images with the same content, and ones whose embeddings are nearly the same.

    The first of a group is its largest image; `similarity` is the cosine to it.

    For example:

    birder duplicates photos.birder --threshold 0.93 --to duplicates.html
    """
    form = options.format_of(format, to, page=True)
    options.check_to(to, force)

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
    if form is Format.html:
        assert to is not None
        _write_page(groups, to, f"{collection}: duplicates", least)
    elif rows or form is not Format.table:
        write_rows(rows, form, to)
    same = sum(group.kind == SAME for group in groups)
    extra = sum(len(group.photos) - 1 for group in groups if group.kind == SAME)
    note(
        f"{_number(same, 'group')} of the same content ({extra:,} more than needed), "
        f"{_number(len(groups) - same, 'group')} with a cosine of {least:g} or more."
    )


def _write_page(groups: list[Group], to: Path, title: str, threshold: float) -> None:
    from birder.cli.pictures import Tile, write_page

    lines = [f"Similar: a cosine of {threshold:g} or more. The first of a group is the largest image."]
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
        note(f"{len(missing):,} images are missing on the page, such as {_shown(next(iter(missing)))}.")


def _number(count: int, thing: str) -> str:
    return f"{count:,} {thing}{'' if count == 1 else 's'}"


def _shown(uri: str) -> str:
    from birder.sources import readable, uri_to_path

    # What is behind # is a part of a file: then the uri itself is the name.
    return readable(uri_to_path(uri) if uri.startswith("file://") and "#" not in uri else uri)
