"""`birder search`: the rows of a collection that are like images, texts and rows, and unlike others."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from birder.cli import options
from birder.cli.options import Format, format_of
from birder.cli.output import note, write_rows
from birder.words import counted

if TYPE_CHECKING:
    from birder.collection.results import SearchResults

_BOOKKEEPING = {"id", "uri", "sha256", "bytes", "modified", "etag", "width", "height", "label_source"}


def search(
    collection: options.Collection,
    image: Annotated[
        list[Path] | None, typer.Option("--image", metavar="FILE", help="Like this image; repeatable.")
    ] = None,
    text: Annotated[
        list[str] | None,
        typer.Option(
            "--text",
            metavar="TEXT",
            help="Text that describes the image, or without a text encoder words for the model's classes (owl, bird); "
            "repeatable.",
        ),
    ] = None,
    id: Annotated[
        list[str] | None,
        typer.Option("--id", metavar="ID", help="Like this row: its id, uri or file name; repeatable."),
    ] = None,
    unlike: Annotated[
        list[str] | None,
        typer.Option(
            "--unlike",
            metavar="QUERY",
            help="Not like this: an existing file, else a row of the collection, else a text; repeatable.",
        ),
    ] = None,
    where: options.Where = None,
    k: options.K = 20,
    exact: Annotated[bool, typer.Option("--exact", help="Compare all rows, even if there is an index.")] = False,
    to: options.ToPage = None,
    format: options.PageFormatOption = None,
    force: options.Force = False,
    model: Annotated[str | None, options.model_option("the collection's")] = None,
    device: options.Device = None,
) -> None:
    """Search a collection by images, texts and its own rows, and filter it.

    Similarity is the mean of the cosines with the queries, minus the mean of those with --unlike. Images and rows of
    the query are left out of the results. With --where alone, the rows that match the filter are listed.

    For example:

    birder search photos.birder --image owl.jpg --where "latitude > 50 OR label = 'owl'" -k 5

    birder search photos.birder --text "a green frog on a leaf" --unlike "a green leaf" --to frogs.html
    """
    if not (image or text or id or unlike or where):
        options.wrong_use("Say what to search by: --image, --text, --id, --unlike or --where.")
    form = format_of(format, to, page=True)
    options.check_to(to, force)

    import birder

    found = birder.open_collection(collection, device=device).search(
        images=image or (),
        texts=text or (),
        ids=id or (),
        unlike=[Path(each) if _is_file(each) else each for each in unlike or ()],
        where=where,
        k=k,
        exact=exact,
        model=model,
    )
    tell_search(found, collection)
    if form is Format.html:
        assert to is not None
        missing = found.save_page(to)
        note(f"Wrote {to}.")
        if missing:
            note(f"{counted(len(missing), 'image')} can no longer be read: shown as missing.")
    else:
        write_results(found, form, to)


def _is_file(query: str) -> bool:
    try:
        return Path(query).is_file()
    except (OSError, ValueError):  # a text may be longer than file names can be
        return False


def tell_search(found: SearchResults, collection: Path) -> None:
    """Print what was searched, and how."""
    for each in found.notes:
        note(f"birder: {each}")
    if found.matching is None:
        how = "" if found.exact else ", by the index (--exact compares all)"
        note(f"Searched {counted(found.searched, 'row')} of {collection} with {found.model}{how}.")
    else:
        more = "" if found.matching <= len(found) else f"; the first {len(found):,} are shown, -k shows more"
        note(
            f"{counted(found.matching, 'row')} of {collection} {'matches' if found.matching == 1 else 'match'} the "
            f"filter{more}."
        )


def write_results(found: SearchResults, form: Format, to: Path | None) -> None:
    """Write the rows that a search found, without empty columns, and in a table without bookkeeping."""
    names = found.table.column_names
    columns = list(dict.fromkeys([*(name for name in names if name == "similarity"), "path", *names]))
    write_rows(_rows(found, form), form, to, columns=columns)


def _rows(found: SearchResults, form: Format) -> list[dict[str, Any]]:
    from birder.sources import readable_path

    rows = []
    for row in found.to_list():
        similarity = {"similarity": round(row.pop("similarity"), 6)} if "similarity" in row else {}
        rows.append({**similarity, "path": readable_path(row["uri"]), **row})
    hidden = {name for name in (rows[0] if rows else ()) if all(row[name] is None for row in rows)}
    if form is Format.table:  # to read: what tells images apart
        hidden |= _BOOKKEEPING
    return [{name: value for name, value in row.items() if name not in hidden} for row in rows]
