"""Filters with names and exports over HTTP."""

from __future__ import annotations

import csv
import io
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import pyarrow.parquet as pq
import pytest

from birder.collection.storage import Storage
from tests.factory import collection_of_images
from tests.server.live import serving


@pytest.fixture
def client(tmp_path: Path) -> Iterator[httpx.Client]:
    collection_of_images(tmp_path, 12, labelled=6)
    with serving(tmp_path / "c.birder") as client:
        yield client


def test_filters_are_kept_in_the_collection(client: httpx.Client, tmp_path: Path) -> None:
    hostile = "<img src=x onerror=alert(1)>"
    shown = [{"column": "label", "values": ["owl"]}]
    assert client.get("filters").json() == {"filters": []}
    client.post("filters", json={"name": "owls", "where": "label = 'owl'", "shown": shown}).raise_for_status()
    client.post("filters", json={"name": hostile, "where": "night"}).raise_for_status()
    answer = client.post("filters", json={"name": "owls", "where": "label = 'fox'", "shown": []}).json()
    assert [(each["name"], each["where"]) for each in answer["filters"]] == [
        (hostile, "night"),
        ("owls", "label = 'fox'"),
    ]
    refused = client.post("filters", json={"name": "wrong", "where": "no_such_column = 1"})
    assert refused.status_code == 400
    (folder := tmp_path / "c.birder").joinpath("filters.json").stat()
    assert [each["name"] for each in json.loads((folder / "filters.json").read_text())["filters"]] == [hostile, "owls"]
    assert len(client.post("filters/remove", json={"name": hostile}).json()["filters"]) == 1
    (folder / "filters.json").write_text("{")
    damaged = client.get("filters")
    assert damaged.status_code == 400
    assert "damaged" in damaged.json()["detail"]
    Storage.open(folder)


def test_what_is_exported_are_the_rows_that_match(
    client: httpx.Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drafts = tmp_path / "drafts"
    drafts.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(drafts))
    photos = client.get("photos").json()["photos"]
    ids = [photo["id"] for photo in photos]
    client.post("labels", json={"ids": ids[10:11], "value": "=2+2"}).raise_for_status()  # in the journal alone
    where = "label IS NOT NULL"
    formats = [each["name"] for each in client.get("export/formats").json()["formats"]]
    assert {"paths", "json", "csv", "parquet", "npz", "camtrap-dp"} <= set(formats)
    assert not {"folders", "xmp", "megadetector"} & set(formats)

    def export(**how: object) -> httpx.Response:
        return client.post("export", json=how)

    answer = export(format="paths", where=where)
    assert answer.headers["content-disposition"] == 'attachment; filename="c.txt"'
    names = answer.text.splitlines()
    assert names == [photo["name"] for photo in [*photos[:6], photos[10]]]
    told = export(format="json", where=where, ids=ids[4:12]).json()
    assert [(row["id"], row["label"]) for row in told] == [
        (ids[4], "owl"),
        (ids[5], "fox"),
        (ids[10], "=2+2"),
    ]
    assert told[0]["seen"].startswith("2024-05-05")
    table = pq.read_table(io.BytesIO(export(format="parquet", where=where).content))
    assert sorted(table["id"].to_pylist()) == sorted([*ids[:6], ids[10]])
    assert len(table["embedding"][0]) == 16
    lines = list(csv.DictReader(io.StringIO(export(format="csv", ids=ids[:3]).content.decode("utf-8-sig"))))
    assert len(lines) == 3
    assert export(format="json", where="label = 'no such'").json() == []
    assert export(format="csv", where="label = 'no such'").status_code == 400
    assert export(format="csv", where="no_such = 1").status_code == 400
    assert export(format="folders").status_code == 422
    assert list(drafts.iterdir()) == []  # drafts are gone, also of what failed
