"""The columns that a search shows: however often a little changes, what is large is not written anew."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from birder.collection import in_place, vector_files
from birder.collection import index as vector_index
from birder.collection.index import ensure_index, make_index
from birder.collection.row_files import RowFiles
from birder.collection.storage import Storage
from birder.collection.vector_files import FOLDER
from tests.factory import append, clustered, collection_in_bulk, images_of


def cells(folder: Path, name: str) -> int:
    """The values that a file has been given, of all its rows and columns."""
    (file,) = RowFiles(folder, [name]).files
    rows = np.bincount((file.addresses >> np.uint64(32)).astype(np.int64))
    return sum(len(columns) * int(rows[fragment]) for fragment, columns in file.held.items())


def check(collection: Storage) -> None:
    """All columns of all rows come from the files, and are those of the table."""
    rows = collection._nearest.at(collection._images, collection.version)
    assert rows is not None
    addresses = vector_files.row_addresses(collection._images)[::-1]
    names = [name for name in collection.columns if name != "embedding"]
    found, rest = rows.columns.take(addresses, names)
    theirs = images_of(collection.path).search().select(names).with_row_id(True).to_arrow().sort_by("_rowid")
    assert rest == []
    assert found.to_pylist() == theirs.select(names).to_pylist()[::-1]


@pytest.mark.slow
def test_many_small_changes_do_not_write_the_columns_of_all_rows_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(in_place, "WORTH_AN_INDEX", 1)  # as in large collections, rows stay where they are
    monkeypatch.setattr(vector_index, "AUTOMATIC", 300)
    collection = collection_in_bulk(tmp_path / "c.birder", clustered(2_000))
    make_index(collection)
    folder = collection.path / FOLDER
    ids = collection.to_arrow()["id"].to_pylist()
    seen = {each.name for each in folder.glob("rows-*")}
    (first,) = seen
    whole, written = cells(folder, first), []
    for number in range(22):
        if number % 3 == 2:  # a few rows more, as at the end of a run
            append(collection, clustered(5, number), 10_000 * (number + 1))
            with collection.writing():
                ensure_index(collection)
        else:  # as when labels are written into the rows
            collection.write_columns(pa.table({"id": ids[:5], f"more_{number}": [number] * 5}))
        names = {each.name for each in folder.glob("rows-*")}
        assert first in names
        assert len(names) <= 8
        assert len(names - seen) == 1
        written.append(sum(cells(folder, name) for name in names - seen))
        seen |= names
    own = 2 * 2_000  # a column, and that by which rows are found
    assert max(written) <= 4 * own < whole / 2
    assert sum(written) <= 3 * len(written) * own
    check(collection)
    with collection.writing():
        images_of(collection.path).delete("width < 1500")  # now the first file is mostly waste
    collection.see_latest()
    collection.write_columns(pa.table({"id": ids[1_700:1_702], "more_0": [-1, -2]}))
    assert first not in {each.name for each in folder.glob("rows-*")}
    check(collection)
