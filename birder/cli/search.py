"""`birder search`: the rows of a collection that are like images, texts and rows, and unlike others."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from birder.cli import options
from birder.cli.options import Format, format_of
from birder.cli.output import note, write_rows

if TYPE_CHECKING:
    from birder.collection.search import Found
    from birder.collection.storage import Storage
    from birder.weights.clip import LoadedClip

_BOOKKEEPING = {"id", "uri", "sha256", "bytes", "modified", "etag", "width", "height", "label_source"}


def search(
    collection: options.Collection,
    image: Annotated[
        list[Path] | None, typer.Option("--image", metavar="FILE", help="Like this image; repeatable.")
    ] = None,
    text: Annotated[
        list[str] | None,
        typer.Option("--text", metavar="TEXT", help="What the image shows, with a text encoder; repeatable."),
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
    exact: Annotated[bool, typer.Option("--exact", help="Compare all rows, even where there is an index.")] = False,
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

    from birder.collection.search import find_row
    from birder.collection.search import search as run
    from birder.collection.storage import Storage

    opened = Storage.open(collection)
    unwanted: list[str | Path] = [Path(what) if _is_file(what) else what for what in unlike or ()]
    texts = bool(text) or any(isinstance(what, str) and find_row(opened, what) is None for what in unwanted)
    photographs = bool(image) or any(isinstance(what, Path) for what in unwanted)
    clip = _text_half(opened, model, device) if texts else None
    encoder = None
    if photographs:
        from birder.collection.model import load_encoder_of

        encoder = load_encoder_of(opened, device, model=model, clip=clip)
    found = run(
        opened,
        images=image or (),
        texts=text or (),
        ids=id or (),
        unlike=unwanted,
        where=where,
        k=k,
        exact=exact,
        encoder=encoder,
        clip=clip,
    )
    for each in found.notes:
        note(f"birder: {each}")
    if found.matching is None:
        note(f"Searched {opened.count(where):,} rows of {collection} with {opened.model.name}.")
    else:
        more = "" if found.matching <= len(found) else f"; the first {len(found):,} are shown, -k shows more"
        note(f"{found.matching:,} rows of {collection} match{more}.")
    if form is Format.html:
        assert to is not None
        asked = _asked(image or (), text or (), id or (), unlike or (), where)
        _write_page(to, opened, found, asked, [*(image or ()), *(u for u in unwanted if isinstance(u, Path))])
    else:
        write_rows(_rows(found, form), form, to)


def _is_file(what: str) -> bool:
    try:
        return Path(what).is_file()
    except (OSError, ValueError):  # a text may be longer than names of files can be
        return False


def _text_half(opened: Storage, model: str | None, device: str | None) -> LoadedClip:
    from birder.collection.text_encoder import load_text_half

    return load_text_half(opened, model, device)


def _rows(found: Found, form: Format) -> list[dict[str, Any]]:
    from birder.sources import uri_to_name

    rows = []
    for row in found.to_list():
        similarity = {"similarity": round(row.pop("similarity"), 6)} if "similarity" in row else {}
        rows.append({**similarity, "file": uri_to_name(row["uri"]), **row})
    hidden = {name for name in (rows[0] if rows else ()) if all(row[name] is None for row in rows)}
    if form is Format.table:  # to read: what tells images apart, not their bookkeeping
        hidden |= _BOOKKEEPING
    return [{name: value for name, value in row.items() if name not in hidden} for row in rows]


def _asked(
    images: Sequence[Path], texts: Sequence[str], ids: Sequence[str], unlike: Sequence[str], where: str | None
) -> list[str]:
    """The query in words, a line each."""
    wanted = [*(image.name for image in images), *(f"“{text}”" for text in texts), *ids]
    lines = [f"like {', '.join(wanted)}"] if wanted else []
    lines += [f"unlike {', '.join(unlike)}"] if unlike else []
    return lines + ([f"where {where}"] if where is not None else [])


def _write_page(to: Path, opened: Storage, found: Found, asked: list[str], images: Sequence[Path]) -> None:
    from birder.cli.pictures import Tile, write_page
    from birder.sources import path_to_uri

    queries = [Tile(path_to_uri(image), image.name) for image in images]
    results = [_tile(row) for row in found.to_list()]
    sections = [("Asked with", queries)] if queries else []
    sections.append((f"{len(results):,} found" if queries else "", results))
    about = f"{len(results):,} of {opened.count():,} photographs in {opened.path.name}, compared by {opened.model.name}"
    missing = write_page(to, f"Search: {'; '.join(asked)}", [about], sections)
    if missing:
        note(f"{len(missing):,} photographs are shown as missing, as they cannot be read any more.")


def _tile(row: dict[str, Any]) -> Any:
    from birder.cli.pictures import Tile
    from birder.sources import uri_to_name

    name = uri_to_name(row["uri"])
    lines = [str(row[column]) for column in ("label", "taken_at") if row.get(column) is not None]
    similarity = f"{row['similarity']:.4f}" if "similarity" in row else ""
    return Tile(row["uri"], similarity or Path(name).name, [*lines, name] if similarity else lines)
