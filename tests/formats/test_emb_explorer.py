"""Against the requirements of docs/DATA_FORMAT.md in Imageomics/emb-explorer."""

from __future__ import annotations

from pathlib import Path

import httpx
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from birder.collection.storage import Storage
from birder.errors import CollectionError, ConfigError
from birder.formats.export import export
from birder.formats.import_embeddings import import_embeddings
from birder.taxonomy import RANKS
from tests.formats.conftest import REFERENCE, Make


def test_the_published_example_of_emb_explorer_is_reproduced(tmp_path: Path) -> None:
    collection = import_embeddings(REFERENCE, tmp_path / "c.birder", model="bioclip-2").collection
    export(collection, tmp_path / "e.parquet", format="emb-explorer")
    given, out = pq.read_table(REFERENCE), pq.read_table(tmp_path / "e.parquet")
    assert sorted(out.column_names) == sorted(given.column_names)
    assert out.select(given.column_names).equals(given.replace_schema_metadata(None))
    assert out.schema.field("emb").type == given.schema.field("emb").type == pa.list_(pa.float32())


def test_a_collection_of_images_has_what_emb_explorer_requires(make: Make, tmp_path: Path) -> None:
    rows = {
        "https://a.org/1.jpg": {"label": "owl", "kingdom": "Animalia", "species": "Bubo bubo"},
        "file:///b.jpg": {"label": "wren"},
    }
    collection = make(rows, {"seen": pa.int64()})
    export(collection, tmp_path / "e.parquet", format="emb-explorer")
    table = pq.read_table(tmp_path / "e.parquet")
    # "Must Have": validated on load
    assert table.schema.field("uuid").type == pa.string()
    assert table["uuid"].to_pylist() == collection.to_arrow()["id"].to_pylist()
    frame = table.to_pandas()
    assert len(frame["emb"].iloc[0]) == 4
    assert np.stack(frame["emb"]).astype("f4").tolist() == collection.to_arrow()["embedding"].to_pylist()
    # "Good to Have"
    assert table["identifier"].to_pylist() == ["https://a.org/1.jpg", "/b.jpg"]
    assert set(RANKS) < set(table.column_names)
    assert table["kingdom"].to_pylist() == ["Animalia", None]
    # the rest are filters: what is filled, and nothing of Birder's bookkeeping
    assert {"label", "taken_at", "width"} < set(table.column_names)
    assert not {"embedding", "id", "uri", "sha256", "etag", "seen", "latitude"} & set(table.column_names)


def test_a_uuid_column_that_is_not_unique_is_not_used(make: Make, tmp_path: Path) -> None:
    collection = make({"file:///a": {"uuid": "x"}, "file:///b": {"uuid": "x"}}, {"uuid": pa.string()})
    export(collection, tmp_path / "e.parquet", format="emb-explorer")
    assert pq.read_table(tmp_path / "e.parquet")["uuid"].to_pylist() == collection.to_arrow()["id"].to_pylist()


def test_a_file_for_emb_explorer_must_be_parquet_with_rows(make: Make, tmp_path: Path) -> None:
    collection = make({"file:///a": {}})
    with pytest.raises(ConfigError, match=r"e\.parquet"):
        export(collection, tmp_path / "e.csv", format="emb-explorer")
    with pytest.raises(CollectionError, match="No rows match the filter"):
        export(collection, tmp_path / "e.parquet", format="emb-explorer", where="label = 'x'")
    assert Storage.open(collection.path).count() == 1


@pytest.mark.slow
def test_image_addresses_are_those_that_birder_serve_answers(tmp_path: Path) -> None:
    from tests.factory import collection_of_images
    from tests.server.live import serving

    collection = collection_of_images(tmp_path, 3)
    with serving(collection.path) as client:
        address = str(client.base_url).removesuffix("/api/v1/")
        export(collection, tmp_path / "e.parquet", format="emb-explorer", images_at=address)
        for identifier in pq.read_table(tmp_path / "e.parquet")["identifier"].to_pylist():
            assert identifier.startswith("http://")  # else that tool does not even try
            answer = httpx.get(identifier, headers={"User-Agent": "emb-explorer"}, timeout=60)
            assert answer.status_code == 200 and answer.headers["content-type"].startswith("image/")
    with pytest.raises(ConfigError, match="not a web address"):
        export(collection, tmp_path / "f.parquet", format="emb-explorer", images_at="photos/")
