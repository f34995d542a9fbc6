"""`birder failures`: the images that could not be read, and why."""

from __future__ import annotations

from birder.cli import options
from birder.cli.output import note, write_rows


def failures(
    collection: options.Collection,
    to: options.ToRows = None,
    format: options.FormatOption = None,
    force: options.Force = False,
) -> None:
    """List the images that could not be read, each with the reason; birder embed --retry-failed tries them again.

    For example:

    birder failures photos.birder --format csv
    """
    form = options.format_of(format, to)
    options.check_to(to, force)

    import birder
    from birder.sources import readable_path

    rows = [
        {"path": readable_path(row["uri"]), "reason": row["reason"], "failed_at": row["failed_at"], "uri": row["uri"]}
        for row in birder.open_collection(collection).failures()
    ]
    if form is options.Format.table:  # for programs: the name byte for byte
        rows = [{name: value for name, value in row.items() if name != "uri"} for row in rows]
    note(f"{len(rows):,} failed in {collection}.")
    if rows or form is not options.Format.table:
        write_rows(rows, form, to, columns=("path", "reason", "failed_at", "uri"))
