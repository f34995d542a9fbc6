"""`birder label` and `birder undo`: labels for rows, and taking them back."""

from __future__ import annotations

from pathlib import Path
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
    accept: Annotated[
        str | None,
        typer.Option(
            "--accept",
            metavar="COLUMN",
            help="Make these predictions labels: predicted_label becomes label. Labels of people and tables stay.",
        ),
    ] = None,
    above: Annotated[
        float | None,
        typer.Option("--above", min=0.0, max=1.0, metavar="P", help="With --accept: the least score (required)."),
    ] = None,
    by: Annotated[
        str | None, typer.Option("--by", metavar="NAME", help="Author of the label, for the history.")
    ] = None,
    undo: Annotated[bool, typer.Option("--undo", help="Take back the latest act, as birder undo does.")] = False,
) -> None:
    """Label all rows that match a filter, as one act that birder undo takes back.

    A label that a person sets counts as that person's, also where the folder's name said the same.

    For example:

    birder label photos.birder --where "path LIKE '%/owl%'" --set label=owl --by Ada

    birder label photos.birder --accept predicted_label --above 0.9 --by Ada

    birder label photos.birder --where "label = 'owl'" --clear label
    """
    if undo:
        if where is not None or set_ is not None or clear is not None or accept is not None:
            options.wrong_use("--undo takes back the latest act: leave out the other options.")
        _undo(collection, None)
        return
    if (above is None) != (accept is None):
        options.wrong_use("--accept and --above go together: --accept predicted_label --above 0.9")
    if sum(each is not None for each in (set_, clear, accept)) != 1:
        options.wrong_use("Say what to write, one of: --set COLUMN=VALUE, --clear COLUMN, --accept COLUMN --above P.")
    if accept is not None and above is not None:
        _accept(collection, accept, above, where, by)
        return
    if where is None:
        options.wrong_use("Say which rows to label: --where FILTER, or --where true for all.")
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
    _undo(collection, act)


def _accept(collection: Path, predicted: str, above: float, where: str | None, by: str | None) -> None:
    import birder

    done = birder.open_collection(collection).accept(predicted, above=above, where=where, author=by)
    kept = f"; {counted(done.kept, 'row keeps its label', 'rows keep their labels')}" if done.kept else ""
    back = f" To undo: birder undo {collection} --act {done.act}" if done.accepted else ""
    note(f"{collection}: accepted {predicted} of {counted(done.accepted, 'row')}{kept}.{back}")


def _undo(collection: Path, act: str | None) -> None:
    import birder

    done = birder.open_collection(collection).undo(act)
    since = f"; {done.skipped:,} were changed since and stay as they are" if done.skipped else ""
    note(
        f"{collection}: {counted(done.restored, 'row restored to its', 'rows restored to their')} former value{since}."
    )
