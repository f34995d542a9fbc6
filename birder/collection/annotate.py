"""Going through the embeddings of a collection, and writing columns beside them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import lancedb
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from birder.collection.store import Collection
from birder.errors import unknown_name


def embedding_batches(
    collection: Collection, columns: Sequence[str] = ("uri",)
) -> Iterator[tuple[pa.RecordBatch, npt.NDArray[np.float32]]]:
    """All rows, a batch at a time: the columns, and the embeddings (B, D) float32 as the network gave them.

    Raises
    ------
    UnknownNameError
        The collection has no such column.
    """
    for name in columns:
        if name not in collection.columns:
            raise unknown_name("column", name, collection.columns)
    images = lancedb.connect(collection.path).open_table("images")
    width = collection.model.embedding_size
    for batch in images.search().select([*columns, "embedding"]).to_batches():
        if batch.num_rows:
            yield batch.select(list(columns)), batch["embedding"].flatten().to_numpy().reshape(-1, width)


def write_columns(collection: Collection, uris: Sequence[str], columns: Mapping[str, pa.Array]) -> None:
    """Write values into the rows of these uris, in one commit; columns that are not there yet are added.

    Other rows and other columns stay as they are, and nothing is embedded again.

    Raises
    ------
    CollectionError
        Another process is writing, or a column is there with another type.
    """
    with collection.writing():
        collection.add_columns({name: values.type for name, values in columns.items()})
        images = lancedb.connect(collection.path).open_table("images")
        table = pa.table({"uri": pa.array(uris, pa.string()), **columns})
        images.merge_insert("uri").when_matched_update_all().execute(table)
