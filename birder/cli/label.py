"""`birder label` and `birder undo`: labels for rows, and taking them back."""

from __future__ import annotations

from typing import Annotated

import typer

from birder.cli import options
from birder.cli.output import note
from birder.words import counted


def label(
    collection: options.Collection,
    where: options.Where = None,
    set_: Annotated[
        str | None, typer.Option("--set", metavar="COLUMN=VALUE", help="Write this value into this column.")
    ] = None,
    clear: Annotated[str | None, typer.Option("--clear", metavar="COLUMN", help="Empty this column.")] = None,
    by: Annotated[
        str | None, typer.Option("--by", metavar="NAME", help="Author of the label, for the history.")
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

    import birder

    opened = birder.open_collection(collection)
    done = opened.label(opened.ids(where), value or None, column=column, author=by)
    what = f"cleared {column} of" if clear is not None else f"set {column} of"
    note(f"{collection}: {what} {counted(done.count, 'row')}. To undo: birder undo {collection} --act {done.act}")


def undo(
    collection: options.Collection,
    act: Annotated[
        str | None, typer.Option("--act", metavar="ID", help="The act to undo (default: the latest).")
    ] = None,
) -> None:
    """Take back an act of labelling; rows that were labelled again since keep their newer label.

    For example:

    birder undo photos.birder
    """
    import birder

    done = birder.open_collection(collection).undo(act)
    since = f"; {done.skipped:,} were changed since and stay as they are" if done.skipped else ""
    note(
        f"{collection}: {counted(done.restored, 'row restored to its', 'rows restored to their')} former value{since}."
    )
