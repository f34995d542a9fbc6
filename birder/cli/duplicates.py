"""`birder duplicates`: images that a collection has more than once, or nearly."""

from __future__ import annotations

from typing import Annotated

import typer

from birder.cli import options
from birder.cli.options import Format
from birder.cli.output import image_name, note, write_rows
from birder.cli.progress import stage_progress
from birder.words import counted


def duplicates(
    collection: options.Collection,
    threshold: Annotated[
        float | None,
        typer.Option("--threshold", metavar="COSINE", help="Minimum cosine of similar images (default: 0.97)."),
    ] = None,
    where: options.Where = None,
    to: options.ToPage = None,
    format: options.PageFormatOption = None,
    force: options.Force = False,
) -> None:
    """Find images with the same content, and ones whose embeddings are nearly the same.

    The first of a group is its largest image; `similarity` is the cosine to it, at least the threshold for all of them.

    For example:

    birder duplicates photos.birder --threshold 0.93 --to duplicates.html
    """
    form = options.format_of(format, to, page=True)
    options.check_to(to, force)

    import birder
    from birder.analysis.duplicates import SAME
    from birder.collection.results import BY_GRAPH

    limit = {} if threshold is None else {"threshold": threshold}
    found = birder.open_collection(collection).duplicates(where=where, progress=stage_progress(), **limit)
    if form is Format.html:
        assert to is not None
        missing = found.save_page(to)
        note(f"Wrote {to}.")
        if missing:
            note(
                f"{counted(len(missing), 'image is', 'images are')} missing on the page, such as "
                f"{image_name(next(iter(missing)))}."
            )
    elif found or form is not Format.table:
        names = ("group", "kind", "path", "width", "height", "similarity")
        rows = [row | {"path": image_name(row["uri"])} for row in found.to_arrow().to_pylist()]
        write_rows([{name: row[name] for name in names} for row in rows], form, to, columns=names)
    same = sum(group.kind == SAME for group in found)
    extra = sum(len(group.photos) - 1 for group in found if group.kind == SAME)
    note(
        f"{counted(same, 'group')} of the same content ({extra:,} more than needed), "
        f"{counted(len(found) - same, 'group')} with a cosine of {found.threshold:g} or more."
    )
    if found.by_graph:
        note(BY_GRAPH)
