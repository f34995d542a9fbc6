"""Filters on `label_source`, against LanceDB's own filter on rows that say who gave each label."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import lancedb
import numpy as np
import pyarrow as pa
import pytest

import birder
from birder.collection.labels import give_label, undo
from birder.collection.search import search
from birder.collection.storage import Storage
from birder.formats.snapshot import Snapshot
from tests.factory import collection_of_columns
from tests.server.live import serving

FILTERS = [
    "label_source = 'person'",
    "label_source = 'folder'",
    "label_source != 'person'",
    "NOT (LABEL_SOURCE = 'folder' OR label_source = 'table')",
    "label_source IS NULL",
    "label_source IS NOT NULL AND label = 'owl'",
    "label_source IN ('person', 'table') OR site = 'S1'",
    "`label_source` LIKE 'per%' AND path LIKE '%/1%'",
    "upper(label_source) = 'PERSON'",
    "coalesce(label_source, 'nobody') = 'nobody'",
    "site = 'S2'",
]


def ids_by(where: str, rows: pa.Table) -> set[str]:
    """The ids of the rows that LanceDB itself finds by a filter on these columns."""
    rows = rows.append_column("path", pa.array([uri.removeprefix("file://") for uri in rows["uri"].to_pylist()]))
    found = lancedb.connect("memory://").create_table("told", rows).search().where(where).limit(len(rows)).to_arrow()
    return set(found["id"].to_pylist())


@pytest.fixture
def collection(tmp_path: Path) -> Storage:
    sources = ("folder", "table", None)
    rows: dict[str, dict[str, Any]] = {
        f"file:///p/{n}.jpg": {
            "label": None if sources[n % 3] is None else ("owl", "fox")[n % 2],
            "label_source": sources[n % 3],
            "site": f"S{n % 4}",
        }
        for n in range(36)
    }
    return collection_of_columns(tmp_path / "c.birder", rows, {"site": pa.string()})


def given(collection: Storage) -> None:
    ids = [row["id"] for row in sorted(collection.to_arrow().to_pylist(), key=lambda row: row["uri"])]
    give_label(collection, ids[:9], "label", "owl", by="Ada")
    give_label(collection, ids[6:12], "label", None, by="Ada")
    give_label(collection, ids[12:18], "label", "it's", by="Ben")
    undo(collection, whose=("Ben",))
    give_label(collection, ids[20:22], "site", "S9", by="Ada")  # of another column


def test_filters_find_what_outputs_show(collection: Storage) -> None:
    given(collection)
    opened = Storage.open(collection.path)
    told = pa.concat_tables(Snapshot(opened).batches(["id", "uri", "label", "label_source", "site"]))
    assert set(told["label_source"].to_pylist()) == {"folder", "table", "person", None}
    ways: dict[str, Callable[[str], set[str]]] = {
        "scan": lambda where: {id_ for batch in opened.scan(["id"], where) for id_ in batch["id"].to_pylist()},
        "listed": lambda where: set(search(opened, where=where, k=50, columns=["id"]).table["id"].to_pylist()),
        "near": lambda where: set(
            search(opened, vectors=[np.ones(4, np.float32)], where=where, k=50, columns=["id"]).table["id"].to_pylist()
        ),
        "exported": lambda where: {
            id_ for table in Snapshot(opened, where).batches(["id"]) for id_ in table["id"].to_pylist()
        },
    }
    for where in FILTERS:
        expected = ids_by(where, told)
        assert {name: way(where) for name, way in ways.items()} == dict.fromkeys(ways, expected), where
        assert opened.count(where) == len(expected)
    assert birder.open_collection(collection.path).count("label_source = 'person'") == 9 - 3


@pytest.mark.slow
def test_the_server_finds_the_same_while_labels_are_pending(collection: Storage) -> None:
    with serving(collection.path) as client:

        def found(where: str) -> set[str]:
            return set(client.get("ids", params={"where": where}).raise_for_status().json()["ids"])

        before = found("label_source = 'folder'")
        assert found("label_source = 'person'") == set() and len(before) == 12
        given(collection)
        client.post("labels", json={"ids": sorted(before)[:2], "value": "lynx", "by": "Cy"}).raise_for_status()
        told = pa.concat_tables(Snapshot(Storage.open(collection.path)).batches())
        for where in FILTERS:
            assert found(where) == ids_by(where, told.drop_columns(["embedding"])), where
