"""`birder similar`: the images of a collection that are nearest to one."""

from __future__ import annotations

from typing import Annotated

import typer

from birder.cli import options
from birder.cli.options import Format
from birder.cli.output import note, write_rows


def similar(
    image: Annotated[options.Path, typer.Argument(metavar="IMAGE", help="The image to compare with, a file.")],
    collection: options.In,
    k: options.K = 10,
    to: options.ToRows = None,
    format: options.FormatOption = None,
    force: options.Force = False,
    model: Annotated[str | None, options.model_option("the collection's")] = None,
    device: options.Device = None,
) -> None:
    """Find the images most similar to one by the cosine of their embeddings, which is 1 for the same image.

    The image itself is left out if it is in the collection; a copy under another name is not.

    For example:

    birder similar owl.jpg --in photos.birder -k 5
    """
    form = options.format_of(format, to)
    options.check_to(to, force)

    from birder.collection.model import load_encoder_of, made_elsewhere
    from birder.collection.schema import IMPORTED
    from birder.collection.storage import Storage
    from birder.errors import ImageError
    from birder.sources import path_to_uri, uri_to_name

    opened = Storage.open(collection)
    encoder = load_encoder_of(opened, device, model=model)
    try:
        vector = encoder.embed_one(image)
    except ImageError as error:
        raise ImageError(f"{image}: {error}. Name another image.") from error
    if opened.model.engine == IMPORTED:
        note(f"birder: {made_elsewhere(opened)}")
    note(f"Searching {opened.count():,} rows of {collection} with {opened.model.name}.")
    own = path_to_uri(image)
    nearest = [row for row in opened.nearest(vector, k + 1) if row["uri"] != own][:k]
    rows = [
        {"similarity": round(row["similarity"], 6), "file": uri_to_name(row["uri"]), **_rest(row)} for row in nearest
    ]
    empty = {name for name in (rows[0] if rows else ()) if all(row[name] is None for row in rows)}
    if form is Format.table:  # to read: what tells images apart, not their bookkeeping
        empty |= {"id", "uri", "sha256", "bytes", "modified", "width", "height", "label_source"}
        rows = [{name: value for name, value in row.items() if name not in empty} for row in rows]
    write_rows(rows, form, to)


def _rest(row: dict[str, object]) -> dict[str, object]:
    return {name: value for name, value in row.items() if name != "similarity"}
