from __future__ import annotations

import hashlib
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from birder.errors import CollectionError
from birder.images.open import open_image
from birder.pipeline.embed import Plan, embed_images, plan
from birder.pipeline.outcomes import UNUSABLE_EMBEDDING
from birder.sources import find_images, path_to_uri, uri_to_path
from tests.pipeline.means import TRANSFORM, Means, broken_files, collection_in, draw, run


def check_complete(folder: Path) -> None:
    """Every file is there exactly once, with the embedding that it has by hand."""
    rows = collection_in(folder).to_arrow().to_pylist()
    files = sorted((folder / "photos").iterdir())
    assert sorted(row["uri"] for row in rows) == [path_to_uri(file) for file in files]
    for row in rows:
        path = uri_to_path(row["uri"])
        assert row["sha256"] == hashlib.sha256(Path(path).read_bytes()).hexdigest()
        expected = Means().embed(TRANSFORM.to_uint8(open_image(path))[None])[0]
        assert np.array_equal(np.array(row["embedding"], "f4"), expected)


@pytest.mark.parametrize(("batch_size", "threads", "commit_rows"), [(1, 1, 1), (3, 4, 7), (64, 2, 512)])
def test_every_file_becomes_a_row(tmp_path: Path, batch_size: int, threads: int, commit_rows: int) -> None:
    draw(tmp_path, 10)
    seen: list[int] = []
    summary = run(
        tmp_path,
        batch_size=batch_size,
        threads=threads,
        commit_rows=commit_rows,
        on_progress=lambda s: seen.append(s.finished),
    )
    assert (summary.embedded, summary.failed, summary.stopped) == (10, [], False)
    assert seen == sorted(seen) and seen[-1] == 10
    check_complete(tmp_path)
    row = collection_in(tmp_path).to_arrow().to_pylist()[0]
    assert (row["width"], row["height"], row["label"]) == (24, 20, "photos")


def test_a_second_run_opens_no_file(tmp_path: Path) -> None:
    draw(tmp_path, 5)
    run(tmp_path)
    for path in (tmp_path / "photos").iterdir():  # other bytes, of which size and time tell nothing
        status = path.stat()
        path.write_bytes(b"\0" * status.st_size)
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    todo = plan(collection_in(tmp_path), find_images([tmp_path / "photos"]))
    assert (todo.pending, todo.done) == ([], 5)


def test_changed_touched_and_new_files_are_done_and_only_they(tmp_path: Path) -> None:
    draw(tmp_path, 5)
    run(tmp_path)
    draw(tmp_path, 1, start=5)
    shutil.copy(tmp_path / "photos/0005.png", tmp_path / "photos/0001.png")
    os.utime(tmp_path / "photos/0002.png", (1, 1))
    engine = Means()
    summary = run(tmp_path, engine)
    assert (summary.embedded, summary.reused, engine.images) == (3, 2, 1)
    check_complete(tmp_path)
    assert run(tmp_path).embedded == 0


def test_two_files_that_swap_their_contents_keep_both_embeddings(tmp_path: Path) -> None:
    draw(tmp_path, 2)
    run(tmp_path)
    a, b = sorted((tmp_path / "photos").iterdir())
    contents = a.read_bytes(), b.read_bytes()
    a.write_bytes(contents[1])
    b.write_bytes(contents[0])
    os.utime(a, (1, 1))
    os.utime(b, (1, 1))
    engine = Means()
    run(tmp_path, engine, commit_rows=1, batch_size=1)
    assert engine.images == 0
    check_complete(tmp_path)


@pytest.mark.parametrize("threads", [1, 8])
def test_the_same_content_is_encoded_once_and_every_file_has_its_row(tmp_path: Path, threads: int) -> None:
    draw(tmp_path, 3)
    for i in range(40):
        shutil.copy(tmp_path / f"photos/000{i % 3}.png", tmp_path / f"photos/copy{i:02}.png")
    engine = Means()
    summary = run(tmp_path, engine, threads=threads, batch_size=2, commit_rows=5)
    assert (engine.images, summary.embedded, summary.reused) == (3, 43, 40)
    check_complete(tmp_path)


def test_broken_files_end_as_failures_with_reasons(tmp_path: Path) -> None:
    draw(tmp_path, 3)
    expected = broken_files(tmp_path / "photos")
    summary = run(tmp_path, batch_size=2, threads=4)
    assert (summary.embedded, len(summary.failed)) == (3, len(expected))
    failures = {Path(uri_to_path(f["uri"])).name: f["reason"] for f in collection_in(tmp_path).failures()}
    assert failures.keys() == expected.keys()
    for name, reason in expected.items():
        assert re.search(reason, failures[name]), (name, failures[name])


def test_failures_are_tried_again_when_asked_or_changed(tmp_path: Path) -> None:
    draw(tmp_path, 2)
    bad = tmp_path / "photos" / "bad.png"
    bad.write_bytes(b"x")
    run(tmp_path)
    todo = plan(collection_in(tmp_path), find_images([tmp_path / "photos"]))
    assert (len(todo.pending), todo.done, todo.failed_before) == (0, 2, 1)
    assert len(run(tmp_path, retry_failed=True).failed) == 1
    shutil.copy(tmp_path / "photos/0000.png", bad)
    summary = run(tmp_path)
    assert (summary.embedded, summary.failed) == (1, [])
    assert collection_in(tmp_path).failures() == []
    check_complete(tmp_path)


def test_a_row_is_removed_if_its_file_is_broken_but_stays_if_it_cannot_be_read(tmp_path: Path) -> None:
    draw(tmp_path, 2)
    run(tmp_path)
    (tmp_path / "photos/0000.png").write_bytes(b"x")
    todo = plan(collection_in(tmp_path), find_images([tmp_path / "photos"]))
    run(tmp_path)
    assert len(todo.pending) == 1
    collection = collection_in(tmp_path)
    assert (collection.count(), len(collection.failures())) == (1, 1)
    # a file that goes between being listed and being read
    os.utime(tmp_path / "photos/0001.png", (1, 1))
    todo = plan(collection, find_images([tmp_path / "photos"]))
    (tmp_path / "photos/0001.png").unlink()
    summary = embed_images(collection, Means(), TRANSFORM, todo, draft=False)
    assert summary.failed == [(str(tmp_path / "photos/0001.png"), "the file does not exist")]
    assert collection.count() == 1


@pytest.mark.parametrize(("values", "value"), [(slice(1), np.nan), (slice(1), np.inf), (slice(None), 0.0)])
def test_an_embedding_that_is_zero_or_not_finite_is_a_failure(tmp_path: Path, values: slice, value: float) -> None:
    class Broken(Means):
        def embed(self, images: np.ndarray) -> np.ndarray:
            out = super().embed(images)
            out[0, values] = value
            return out

    draw(tmp_path, 3)
    shutil.copy(tmp_path / "photos/0000.png", tmp_path / "photos/0009.png")
    summary = run(tmp_path, Broken(), batch_size=3, threads=1)  # one thread: 0000 comes before its copy
    assert (summary.embedded, len(summary.failed)) == (2, 2)
    assert {f["reason"] for f in collection_in(tmp_path).failures()} == {UNUSABLE_EMBEDDING}


def test_an_error_of_the_engine_is_raised_and_finished_rows_are_kept(tmp_path: Path) -> None:
    class Dying(Means):
        def embed(self, images: np.ndarray) -> np.ndarray:
            if self.images >= 4:
                raise RuntimeError("out of memory")
            return super().embed(images)

    draw(tmp_path, 9)
    with pytest.raises(RuntimeError, match="out of memory"):
        run(tmp_path, Dying(), batch_size=2)
    assert collection_in(tmp_path).count() == 4
    assert run(tmp_path).embedded == 5
    check_complete(tmp_path)


@pytest.mark.slow
def test_an_error_of_the_writer_is_raised(tmp_path: Path) -> None:
    draw(tmp_path, 30)
    collection = collection_in(tmp_path)
    todo = plan(collection, find_images([tmp_path / "photos"]))
    shutil.rmtree(collection.path / "images.lance")
    (collection.path / "images.lance").write_text("in the way")
    with pytest.raises((CollectionError, RuntimeError, OSError, ValueError)):
        embed_images(collection, Means(), TRANSFORM, todo, batch_size=1, commit_rows=1)


def test_stop_finishes_the_batch_and_the_next_run_does_the_rest(tmp_path: Path) -> None:
    draw(tmp_path, 30)
    stop = threading.Event()
    summary = run(tmp_path, batch_size=2, threads=2, stop=stop, on_progress=lambda s: stop.set())
    assert summary.stopped
    assert 2 <= summary.embedded < 30
    assert collection_in(tmp_path).count() == summary.embedded
    assert run(tmp_path).embedded == 30 - summary.embedded
    check_complete(tmp_path)


def test_columns_that_do_not_fit_are_refused_before_anything_is_embedded(tmp_path: Path) -> None:
    draw(tmp_path, 2)
    collection = collection_in(tmp_path)
    collection.add_columns({"trap": pa.int64()})
    sources = find_images([tmp_path / "photos"])
    sources[0].columns = {"trap": "north"}
    engine = Means()
    with pytest.raises(CollectionError, match="column trap"):
        embed_images(collection, engine, TRANSFORM, plan(collection, sources))
    assert engine.images == 0


def test_an_empty_plan_does_nothing(tmp_path: Path) -> None:
    assert embed_images(collection_in(tmp_path), Means(), TRANSFORM, Plan([])).finished == 0


@pytest.mark.slow
def test_killed_at_random_moments_the_next_run_ends_with_every_file_once(tmp_path: Path) -> None:
    draw(tmp_path, 200)
    for i in range(20):
        shutil.copy(tmp_path / f"photos/{i:04}.png", tmp_path / f"photos/copy{i:02}.png")
    code = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parents[2])!r})
from pathlib import Path
import lancedb  # its import takes longer than the run shall live
from tests.pipeline.means import Means, run
print("ready", flush=True)
run(Path({str(tmp_path)!r}), Means(0.02), batch_size=4, threads=2, commit_rows=4)
"""
    counts = Counter[bool]()
    chance = random.Random(4)
    for number in range(8):
        process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
        assert process.stdout is not None
        process.stdout.readline()
        while number == 0 and process.poll() is None and not list(tmp_path.rglob("images.lance/data/*.lance")):
            time.sleep(0.01)
        time.sleep(chance.uniform(0.02, 0.4))
        process.send_signal(signal.SIGKILL)
        counts[process.wait() == -signal.SIGKILL] += 1
    assert counts[True] == 8  # it was indeed killed while it worked
    assert 0 < collection_in(tmp_path).count() < 220
    run(tmp_path)
    check_complete(tmp_path)
