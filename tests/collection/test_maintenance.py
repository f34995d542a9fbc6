from __future__ import annotations

import os
import time
import warnings
from datetime import timedelta
from pathlib import Path

import lancedb
import numpy as np
import pyarrow as pa
import pytest

from birder.analysis.projection import compute_map, read_map
from birder.collection.disk import running
from birder.collection.index import make_index
from birder.collection.journal import Journal
from birder.collection.labels import give_label, history, undo
from birder.collection.maintenance import tidy, worth_tidying
from birder.collection.search import search
from birder.collection.storage import Storage
from birder.errors import CollectionError
from tests.factory import collection_of_vectors

NOW = timedelta(0)


def bit_by_bit(path: Path, pieces: int = 12) -> Storage:
    vectors = np.random.default_rng(0).normal(size=(pieces * 5, 32)).astype(np.float32)
    for i in range(pieces):
        collection = collection_of_vectors(path, vectors[5 * i : 5 * i + 5], names=[f"{i}-{j}" for j in range(5)])
    return collection


def size(path: Path) -> int:
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())


@pytest.mark.slow
def test_tidying_joins_pieces_and_removes_versions_and_nothing_else(tmp_path: Path) -> None:
    collection = bit_by_bit(tmp_path / "c.birder")
    points = compute_map(collection)
    before = collection.to_arrow().sort_by("uri")
    data = collection.path / "images.lance" / "data"
    assert len(list(data.iterdir())) == 12
    was = size(collection.path)
    time.sleep(0.01)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        done = tidy(collection, keep=NOW)
    assert (done.bytes_before, done.bytes_after) == (was, size(collection.path))
    assert done.bytes_after < done.bytes_before
    assert done.versions_removed >= 12
    assert len(list(data.iterdir())) == 1
    assert len(lancedb.connect(collection.path).open_table("images").list_versions()) == 1
    for opened in (collection, Storage.open(collection.path)):
        assert opened.to_arrow().sort_by("uri").equals(before)
    now = read_map(collection)
    assert now is not None
    assert np.array_equal(now.xy, points.xy)


def test_tidying_folds_labels_which_stay_in_the_history(tmp_path: Path) -> None:
    collection = bit_by_bit(tmp_path / "c.birder", 3)
    ids = collection.to_arrow().sort_by("uri")["id"].to_pylist()
    give_label(collection, ids[:2], "note", "lynx", by="Ada")
    tidy(collection, keep=NOW)
    rows = lancedb.connect(collection.path).open_table("images").to_arrow().sort_by("uri")
    assert rows["note"].to_pylist() == ["lynx"] * 2 + [None] * 13
    assert [act.by for act in history(Journal(collection.path)).acts] == ["Ada"]
    assert undo(collection).restored == 2


def test_an_incomplete_table_does_not_stop_tidying(tmp_path: Path) -> None:
    collection = bit_by_bit(tmp_path / "c.birder", 2)
    (collection.path / "labels.lance" / "_versions").mkdir(parents=True)
    tidy(collection, keep=NOW)


def test_what_tidying_would_save_is_estimated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    collection = bit_by_bit(tmp_path / "c.birder", 12)
    worth = worth_tidying(collection.path)
    assert worth.pieces == 12 and not worth.is_much
    for number in range(5):
        with collection.writing():
            uris = collection.to_arrow()["uri"].to_pylist()
            collection.update(pa.table({"uri": uris, "label": [f"{number}"] * len(uris)}))
    more = worth_tidying(collection.path)
    assert more.bytes > worth.bytes + 5 * 60 * 128  # the former rows, with 32 numbers each
    monkeypatch.setattr("birder.collection.maintenance._MUCH_BYTES", more.bytes)
    assert worth_tidying(collection.path).is_much
    time.sleep(0.01)
    done = tidy(collection, keep=NOW)
    assert done.bytes_before - done.bytes_after >= 0.8 * more.bytes
    assert worth_tidying(collection.path).pieces == 1
    assert not worth_tidying(collection.path).is_much


def test_an_index_is_not_counted_among_what_tidying_would_save(tmp_path: Path) -> None:
    collection = collection_of_vectors(
        tmp_path / "c.birder", np.random.default_rng(0).normal(size=(400, 64)).astype(np.float32)
    )
    before = worth_tidying(collection.path)
    make_index(collection, columns=["uri"])
    index = size(collection.path / "images.lance" / "_indices")
    assert index > 10_000
    assert worth_tidying(collection.path).bytes - before.bytes < index / 2  # manifests are


def test_versions_of_the_last_hour_stay_readable(tmp_path: Path) -> None:
    collection = bit_by_bit(tmp_path / "c.birder")
    reader = Storage.open(collection.path)
    before = reader.to_arrow()
    done = tidy(collection)
    assert done.versions_removed == 0
    assert reader.to_arrow().equals(before)
    assert len(search(reader, vectors=[np.ones(32, np.float32)], k=3)) == 3


def test_tidying_is_refused_while_another_process_adds_images(tmp_path: Path) -> None:
    collection = bit_by_bit(tmp_path / "c.birder", 2)
    was = size(collection.path)
    with running(collection.path), pytest.raises(CollectionError, match="Another process is adding images"):
        tidy(collection, keep=NOW)
    assert size(collection.path) == was


def test_thumbnails_of_removed_images_are_removed(tmp_path: Path) -> None:
    sha256 = ["a" * 64, "b" * 64]
    collection = collection_of_vectors(tmp_path / "c.birder", np.eye(2), sha256=sha256)
    folder = collection.path / "thumbnails"
    names = {
        name: folder / name[:2] / name for name in (f"{'a' * 64}-96.jpg", f"{'c' * 64}-256.jpg", "cc.part", "cc-x")
    }
    names["fresh.part"] = folder / "cc" / "fresh.part"
    for path in names.values():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"jpeg")
    old = time.time() - 7200
    os.utime(names["cc.part"], (old, old))
    done = tidy(collection)
    assert done.thumbnails_removed == 2
    assert sorted(name for name, path in names.items() if path.exists()) == [f"{'a' * 64}-96.jpg", "cc-x", "fresh.part"]
