"""Going through the embeddings of a collection, and writing columns beside them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from birder.collection.disk import open_images
from birder.collection.filter import checked_condition, explained
from birder.collection.storage import Storage
from birder.errors import unknown_name

_ROWS_AT_ONCE = 1024


def embedding_batches(
    collection: Storage, columns: Sequence[str] = ("uri",), where: str | None = None
) -> Iterator[tuple[pa.Table, npt.NDArray[np.float32]]]:
    """Rows that match a filter, a thousand or more at a time: columns, and embeddings (B, D) float32, not normalised.

    Raises
    ------
    UnknownNameError
        The collection has no such column.
    """
    columns = list(dict.fromkeys(columns))
    for name in columns:
        if name not in collection.columns:
            raise unknown_name("column", name, collection.columns)
    images = open_images(collection.path)
    width = collection.model.embedding_size
    query = images.search().select(list(dict.fromkeys([*columns, "embedding"])))
    query = query if where is None else query.where(checked_condition(where, collection.columns))
    with explained(where, collection.path):
        for table in _joined(query.to_batches()):
            vectors = table["embedding"].combine_chunks().flatten().to_numpy()
            yield table.select(columns), vectors.reshape(-1, width)


def _joined(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.Table]:
    """Batches put together: a collection that was filled bit by bit gives them in small pieces."""
    waiting: list[pa.RecordBatch] = []
    for batch in batches:
        waiting.append(batch)
        if sum(each.num_rows for each in waiting) >= _ROWS_AT_ONCE:
            yield pa.Table.from_batches(waiting)
            waiting = []
    if any(each.num_rows for each in waiting):
        yield pa.Table.from_batches(waiting)


def write_columns(collection: Storage, uris: Sequence[str], columns: Mapping[str, pa.Array]) -> None:
    """Write values into the rows of these uris, in one commit; columns that are not there yet are added.

    Other rows and other columns stay as they are, and nothing is embedded again.

    Raises
    ------
    CollectionError
        Another process is writing, or a column is there with another type.
    """
    with collection.writing():
        collection.add_columns({name: values.type for name, values in columns.items()})
        images = open_images(collection.path)
        table = pa.table({"uri": pa.array(uris, pa.string()), **columns})
        images.merge_insert("uri").when_matched_update_all().execute(table)
