"""Writers take turns: one run adds images, and labels, maps and indexes are committed in between."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from lancedb.index import Bitmap
from typer.testing import CliRunner

from birder.cli import app
from birder.collection.disk import locked
from birder.collection.labels import give_label
from birder.collection.schema import Failure
from birder.collection.storage import Stamp, Storage
from birder.errors import CollectionError
from birder.pipeline.embed import embed_images, plan
from birder.sources import find_images
from tests.factory import CARD, images_of, row, write
from tests.pipeline.means import TRANSFORM, Means, collection_in, draw, run


@pytest.fixture
def collection(tmp_path: Path) -> Storage:
    return Storage.create_or_open(tmp_path / "c.birder", CARD)


def test_a_commit_waits_for_another_process_and_gives_up_in_the_end(collection: Storage) -> None:
    held = threading.Event()
    freed = threading.Event()

    def hold() -> None:
        with locked(collection.path):
            held.set()
            freed.wait(30)

    holder = threading.Thread(target=hold)
    holder.start()
    held.wait(30)
    with pytest.raises(CollectionError, match="Another process is writing"), collection.writing(patience=0.1):
        pass
    threading.Timer(0.3, freed.set).start()
    begun = time.monotonic()
    with collection.writing(patience=20):
        assert 0.2 < time.monotonic() - begun < 15
    holder.join()


@pytest.mark.slow
def test_a_second_run_is_refused_while_the_first_lives(collection: Storage) -> None:
    code = f"""
from birder.collection.storage import Storage
from birder.errors import CollectionError
try:
    with Storage.open({str(collection.path)!r}).running():
        print("ran")
except CollectionError as error:
    print(error)
"""
    with collection.running():
        held = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "Another process is adding images" in held.stdout
    free = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert free.stdout.strip() == "ran"


def test_of_two_runs_planned_at_once_the_later_adds_nothing_twice(tmp_path: Path) -> None:
    draw(tmp_path, 6)
    late = collection_in(tmp_path)
    todo = plan(late, find_images([tmp_path / "photos"]))
    run(tmp_path)
    draw(tmp_path, 1, start=1)  # written again since: the same bytes at another time
    engine = Means()
    assert embed_images(late, engine, TRANSFORM, todo, draft=False).embedded == 0
    assert engine.images == 0
    assert Storage.open(late.path).count() == 6


def test_a_failure_that_has_become_a_row_is_cleared_by_a_run_with_nothing_to_do(tmp_path: Path) -> None:
    draw(tmp_path, 2)
    run(tmp_path)
    collection = collection_in(tmp_path)
    (uri, *_) = sorted(row["uri"] for row in collection.to_arrow().to_pylist())
    with collection.writing():
        collection.write([], [Failure(uri, "cut short", Stamp(1, 1))])  # as a kill between two commits leaves it
    done = CliRunner().invoke(app, ["embed", str(tmp_path / "photos"), "--in", str(collection.path)])
    assert done.exit_code == 0 and "Nothing to do" in done.stderr, done.output
    assert Storage.open(collection.path).failures() == []


@pytest.mark.slow
def test_labels_go_in_while_a_run_adds_images_and_nothing_is_lost(tmp_path: Path) -> None:
    draw(tmp_path, 40)
    run(tmp_path)
    first = [row["id"] for row in collection_in(tmp_path).to_arrow().to_pylist()]
    draw(tmp_path, 200, start=40)
    draw(tmp_path, 5, start=1000)
    for i in range(5):  # contents that change: their rows are replaced while they are labelled
        (tmp_path / f"photos/{1000 + i}.png").replace(tmp_path / f"photos/{i:04}.png")
    adding = threading.Thread(target=run, args=(tmp_path, Means(0.01)), kwargs={"batch_size": 4, "commit_rows": 8})
    adding.start()
    collection = Storage.open(tmp_path / "c.birder")
    given = {}
    rounds = 0
    while adding.is_alive():
        for id_ in first[rounds % 40 :: 40]:
            given[id_] = f"round {rounds}"
            assert give_label(collection, [id_], "seen", given[id_]).count == 1
        rounds += 1
    adding.join()
    assert rounds > 5
    rows = {row["id"]: row for row in Storage.open(collection.path).to_arrow().to_pylist()}
    assert len(rows) == 240
    assert {id_: rows[id_]["seen"] for id_ in given} == given
    assert Storage.open(collection.path).failures() == []


def test_an_index_of_rows_that_change_under_it_is_right(collection: Storage) -> None:
    write(collection, [row(f"{i}", list(np.eye(4)[i % 4] + i), f"{i:04x}") for i in range(300)])
    reader = Storage.open(collection.path)
    with collection.running():
        with reader.writing():
            images_of(collection.path).create_index("label", config=Bitmap())
        with collection.writing():
            collection.write([row("new", [1, 2, 3, 4], "ffff", columns={"label": "owl"})])
    assert Storage.open(collection.path).count("label = 'owl'") == 1
    assert pa.types.is_string(collection.columns["label"])
