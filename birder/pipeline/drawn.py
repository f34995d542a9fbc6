"""A box that a person draws on an image: cut out, embedded, and a row of its own, as `embed --crops` makes one.

The row is written as a box that is wrong, so that nothing counts it before a label says that it is right. That label is
a part of the act by which it was drawn, together with its name, and with the word that the box it corrects is wrong:
undone, all of it goes back to what was there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pyarrow as pa

from birder.collection.detection import DETECTIONS
from birder.collection.filter import as_filter, quoted
from birder.collection.labels import Wish
from birder.collection.model import Encoder
from birder.collection.predictions import is_prediction
from birder.collection.schema import LABEL_SOURCE, VECTORS, Row
from birder.collection.storage import Storage
from birder.collection.wrong_boxes import BOX, RIGHT, WRONG
from birder.errors import CollectionError, ImageError
from birder.pipeline.boxes import COLUMNS
from birder.pipeline.decode import Unreadable, read_one
from birder.pipeline.known import Pending
from birder.pipeline.outcomes import embedded
from birder.sources import RESERVED, Box, Source, box_of, image_of, sources_again
from birder.taxonomy import RANKS

_NAMES = ("label", *RANKS, "common_name", "scientificName", LABEL_SOURCE, "count")
"""Columns that say what a box shows, not what its image is; those that people filled in are taken over as labels."""
_PATIENCE = 10.0  # seconds for another process that commits


def uri_of_box(uri: str, box: Box) -> str:
    """The uri of a box on the image of a row."""
    image = image_of(uri)
    return f"{image}{'&' if '#' in image else '#'}{box.fragment}"


def embed_box(storage: Storage, encoder: Encoder, uri: str, box: Box, *, corrects: bool) -> Row:
    """Cut a box out of the image of a row, and embed it.

    Parameters
    ----------
    storage
        The collection.
    encoder
        Of its model.
    uri
        Of a row: the whole image, or another box on it.
    box
        Rounded as in `birder.formats.megadetector.box_on_image`.
    corrects
        Whether the new box is the row's own, put right: then it takes over its names, too.

    Returns
    -------
    A row to be written with `write_box`, with what the row of `uri` says of the image.

    Raises
    ------
    ImageError
        The image cannot be read.
    CollectionError
        No row has this id.
    """
    item = Pending(replace(_source_of(image_of(uri)), box=box), None)
    read = read_one(item, encoder.transform, bool(encoder.card.transform["draft"]))
    outcome = read if isinstance(read, Unreadable) else embedded(encoder.engine, [read], 1)[0]
    if isinstance(outcome, Unreadable):
        raise ImageError(outcome.reason)
    assert item.stamp is not None
    place = {f"box_{name}": value for name, value in box._asdict().items()}
    told = {"category": "animal", **place, BOX: WRONG}
    columns = {**outcome.columns, **_about_image(storage, uri, names=corrects), **told}
    return Row(item.uri, outcome.sha256, item.stamp, outcome.content, columns)


def write_box(storage: Storage, row: Row) -> None:
    """Commit the row of `embed_box`, unless there is one of its uri.

    Raises
    ------
    CollectionError
        Another process is writing, or a column of boxes exists with another type.
    """
    types = {name: type_ for name, type_ in COLUMNS.items() if name != DETECTIONS}
    with storage.writing(patience=_PATIENCE):
        storage.add_columns({**types, BOX: pa.string()})
        if not storage.count(_is(row.uri, storage)):
            storage.write([row])


def wishes_of_box(
    storage: Storage, new: str, *, label: tuple[str, str] | None = None, corrected: str | None = None
) -> list[Wish]:
    """The labels by which a box counts, as one act.

    Parameters
    ----------
    storage
        The collection.
    new
        The id of its row.
    label
        A column and a name: what it shows.
    corrected
        The id of the row in whose place it comes: what people said of that is said of this, and that is wrong.
    """
    wishes = [Wish([new], BOX, RIGHT)]
    if corrected is not None:
        said = storage.journal.words([corrected], storage.columns).get(corrected, {})
        wishes += [Wish([new], name, value) for name, value in said.items() if name != BOX and value is not None]
        wishes.append(Wish([corrected], BOX, WRONG))
    if label is not None:
        wishes.append(Wish([new], *label))
    return wishes


def _source_of(image: str) -> Source:
    """The image that a uri names; one that is gone raises `ImageError`."""
    again, _ = sources_again([image], labels=False)
    for found in again:
        for source in [found] if found.members is None else found.members.sources():
            if source.uri == image:
                return source
    raise ImageError("the file no longer exists")


def _about_image(storage: Storage, uri: str, *, names: bool) -> Mapping[str, Any]:
    """What a row says of its image, and with `names` what nobody but a folder, table or shard said of the box."""
    rows = [row for batch in storage.scan(where=_is(uri, storage)) for row in batch.to_pylist()]
    if not rows:
        raise CollectionError("The row of the image is gone: reload the list.")
    said = storage.journal.words([rows[0]["id"]], storage.columns).get(rows[0]["id"], {})
    left_out = {*RESERVED, *VECTORS, *COLUMNS, BOX, "suspect", *said} - {LABEL_SOURCE}
    left_out |= set() if names else set(_NAMES)
    return {
        name: value
        for name, value in rows[0].items()
        if value is not None and name not in left_out and not is_prediction(name)
    }


def _is(uri: str, storage: Storage) -> Any:
    return as_filter(f"uri = {quoted(uri)}", storage.columns)


def is_box(uri: str) -> bool:
    """Whether a row's uri names a box."""
    return box_of(uri.partition("#")[2]) is not None
