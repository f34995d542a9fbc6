"""Collections made by other software: no value in them makes a request fail."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from pathlib import Path

import lancedb
import numpy as np
import pyarrow as pa
import pytest

from birder.collection.schema import FAILURES, image_fields
from birder.collection.storage import Storage
from birder.errors import CollectionError
from tests.factory import DIMENSION, card
from tests.server.live import serving


def foreign(path: Path, change: dict[str, pa.Array | None] | None = None) -> Path:
    """A collection as another program would write it, whose sha256 are not hashes; `change` replaces columns."""
    rows = 8
    columns = {
        "id": pa.array([f"row {n}" for n in range(rows)]),
        "uri": pa.array([f"file:///gone/{n}.jpg" for n in range(rows)]),
        "sha256": pa.array(["", "no hash", "../../x", "zz" * 32, "é", "ab", "AB" * 32, "0" * 64]),
        "embedding": pa.array(list(np.eye(rows, DIMENSION, dtype="f4")), pa.list_(pa.float32(), DIMENSION)),
    }
    fields = image_fields(card(DIMENSION))
    made = {each.name: columns.get(each.name, pa.nulls(rows, each.type)) for each in fields} | (change or {})
    stored = {b"birder": json.dumps({"format": 1, **asdict(card(DIMENSION))}).encode()}
    table = pa.table({name: column for name, column in made.items() if column is not None}).replace_schema_metadata(
        stored
    )
    database = lancedb.connect(path)
    database.create_table("images", table)
    database.create_table("failures", schema=FAILURES)
    return path


@pytest.mark.slow
def test_rows_with_an_invalid_sha256_are_labelled_and_shown(tmp_path: Path) -> None:
    path = foreign(tmp_path / "c")
    assert Storage.open(path).index().contents == {b"\xab", b"\xab" * 32, bytes(32)}
    with serving(path) as client:
        ids = client.get("ids").json()["ids"]
        assert client.post("labels", json={"ids": ids, "value": "owl"}).json()["changed"] == 8
        assert client.get("photos").json()["photos"][0]["label"] == "owl"
        for id_ in ids:
            assert client.get(f"photos/{id_}").status_code == 200
            assert client.get(f"photos/{id_}/thumbnail").status_code == 404


@pytest.mark.slow  # UMAP is imported
def test_rows_with_an_invalid_sha256_are_mapped(tmp_path: Path) -> None:
    with serving(foreign(tmp_path / "c")) as client:
        assert client.post("map").status_code == 202
        end = time.monotonic() + 120
        while (state := client.get("map").json())["state"] == "computing" and time.monotonic() < end:
            time.sleep(0.1)
        assert state["state"] == "ready", state


@pytest.mark.parametrize(
    ("column", "values", "why"),
    [
        ("sha256", None, "sha256 is missing"),
        ("sha256", pa.array(range(8)), "sha256 is int64, not string"),
        ("embedding", pa.array([[1.0]] * 8, pa.list_(pa.float32(), 1)), "embedding is .*, not"),
        ("sha256", pa.array([None, *"abcdefg"]), "no value"),
        ("id", pa.array([None, *"abcdefg"]), "no value"),
    ],
)
def test_tables_without_birders_columns_are_refused_when_opened(
    tmp_path: Path, column: str, values: pa.Array | None, why: str
) -> None:
    with pytest.raises(CollectionError, match=why):
        Storage.open(foreign(tmp_path / "c", {column: values}))
