"""`birder similar`: the photographs of a collection that are nearest to one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from birder.cli.output import Format, note, write_rows


def similar(
    image: Annotated[Path, typer.Argument(metavar="IMAGE", help="The photograph to compare with.")],
    collection: Annotated[Path, typer.Option("--in", metavar="DIR", help="The collection to search.")],
    k: Annotated[int, typer.Option("-k", min=1, help="How many.")] = 10,
    format: Annotated[Format, typer.Option("--format", help="How to print them.")] = Format.table,
    model: Annotated[
        str | None,
        typer.Option("--model", help="Of imported embeddings: what made them, as a name or folder of this machine."),
    ] = None,
    device: Annotated[str | None, typer.Option("--device", help="cpu, cuda, mps, ...; the best without it.")] = None,
) -> None:
    """Find the photographs most similar to one by the cosine of their embeddings, 1 for the same picture.

    The photograph itself is left out if it is in the collection; a copy of it under another name is not.

    Example: birder similar photos/birds/owl.jpg --in photos.birder -k 5
    """
    from birder.collection.model import load_encoder_of, made_elsewhere
    from birder.collection.schema import IMPORTED
    from birder.collection.search import search
    from birder.collection.storage import Storage
    from birder.errors import ImageError
    from birder.sources import path_to_uri, uri_to_name

    opened = Storage.open(collection)
    encoder = load_encoder_of(opened, device, model=model)
    try:
        vector = encoder.embed_one(image)
    except ImageError as error:
        raise ImageError(f"{image}: {error}. Name another photograph.") from error
    if opened.model.engine == IMPORTED:
        note(f"birder: {made_elsewhere(opened)}")
    note(f"Searching {opened.count():,} rows of {collection} with {opened.model.name}.")
    own = path_to_uri(image)
    nearest = [row for row in search(opened, vectors=[vector], k=k + 1).to_list() if row["uri"] != own][:k]
    rows = [
        {"similarity": round(row["similarity"], 6), "file": uri_to_name(row["uri"]), **_rest(row)} for row in nearest
    ]
    empty = {name for name in (rows[0] if rows else ()) if all(row[name] is None for row in rows)}
    if format == Format.table:  # for eyes: what tells photographs apart, not their bookkeeping
        empty |= {"id", "uri", "sha256", "bytes", "modified", "width", "height", "label_source"}
        rows = [{name: value for name, value in row.items() if name not in empty} for row in rows]
    write_rows(rows, format)


def _rest(row: dict[str, object]) -> dict[str, object]:
    return {name: value for name, value in row.items() if name != "similarity"}
