"""`birder label` and `birder undo`: labels for rows, and taking them back."""

from __future__ import annotations

from typing import Annotated

import typer

from birder.cli import options
from birder.cli.output import note


def label(
    collection: options.Collection,
    where: options.Where = None,
    set_: Annotated[
        str | None, typer.Option("--set", metavar="COLUMN=VALUE", help="Write this value into this column.")
    ] = None,
    clear: Annotated[str | None, typer.Option("--clear", metavar="COLUMN", help="Empty this column.")] = None,
    by: Annotated[
        str | None, typer.Option("--by", metavar="NAME", help="Who gives the label, for the history.")
    ] = None,
) -> None:
    """Label all rows that match a filter, as one act that birder undo takes back.

    For example:

    birder label photos.birder --where "uri LIKE '%/owl%'" --set label=owl --by Ada

    birder label photos.birder --where "label = 'owl'" --clear label
    """
    if where is None:
        options.wrong_use("Say which rows to label: --where FILTER, or --where true for all.")
    if (set_ is None) == (clear is None):
        options.wrong_use("Say what to write: --set COLUMN=VALUE or --clear COLUMN, one of the two.")
    column, equals, value = (set_ or f"{clear}=").partition("=")
    if not equals or (set_ is not None and not value):
        options.wrong_use(f"{set_!r} is not COLUMN=VALUE, as in --set label=owl. To empty a column: --clear COLUMN")

    from birder.collection.api import open_collection

    opened = open_collection(collection)
    rows = opened.to_arrow(["id"], where)["id"].to_pylist()
    act = opened.label(rows, value or None, column=column, author=by)


def undo(
    collection: options.Collection,
    act: Annotated[
        str | None, typer.Option("--act", metavar="ID", help="The act to take back (default: the latest).")
    ] = None,
) -> None:
    """Take back an act of labelling; rows that were labelled again since keep their newer label.

    For example:

    birder undo photos.birder
    """
    from birder.collection.api import open_collection

    done = open_collection(collection).undo(act)
    note(f"{done.restored:,} rows have what they had before; {done.skipped:,} were changed since and stay as they are.")
