from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from sklearn.neighbors import KNeighborsClassifier

from birder.analysis import projection
from birder.analysis.projection import compute_map, read_map
from birder.collection import disk
from birder.collection.disk import locked
from birder.errors import CollectionError
from tests.factory import clusters, collection_of_vectors, images_of

pytestmark = pytest.mark.slow  # maps need UMAP


def test_clusters_stay_separate_and_the_map_is_stored_whole(tmp_path: Path) -> None:
    vectors, labels = clusters(6, 40)
    collection = collection_of_vectors(tmp_path / "c.birder", vectors)
    assert read_map(collection) is None
    told: list[tuple[str, float]] = []
    points = compute_map(collection, progress=lambda stage, done: told.append((stage, done)))
    by_id = dict(zip(collection.to_arrow()["id"].to_pylist(), labels, strict=True))
    names = [by_id[id_] for id_ in points.ids]
    assert points.xy.shape == (240, 2)
    assert points.xy.dtype == np.float32
    assert points.missing == 0
    near = KNeighborsClassifier(5).fit(points.xy, names)
    assert near.score(points.xy, names) > 0.99
    assert list(dict.fromkeys(stage for stage, _ in told)) == ["reading", "neighbours", "graph", "layout", "storing"]
    shares = [done for _, done in told]
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    back = read_map(collection)
    assert back is not None
    assert back.ids == points.ids
    assert np.array_equal(back.xy, points.xy)
    assert back.made == {"neighbours": 15, "directions": 0, "seed": 0, "umap": points.made["umap"]}
    # the same seed gives the same map, another one another
    assert np.array_equal(compute_map(collection).xy, points.xy)
    assert not np.array_equal(compute_map(collection, seed=1).xy, points.xy)


def test_large_collections_are_reduced_to_principal_directions_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(projection, "_REDUCED_FROM", 100)
    vectors, labels = clusters(6, 40, size=80)
    collection = collection_of_vectors(tmp_path / "c.birder", vectors)
    points = compute_map(collection)
    assert points.made["directions"] == 50
    assert KNeighborsClassifier(5).fit(points.xy, labels).score(points.xy, labels) > 0.99


def test_new_changed_and_removed_rows_are_counted(tmp_path: Path) -> None:
    vectors, _ = clusters(3, 10)
    collection = collection_of_vectors(tmp_path / "c.birder", vectors)
    compute_map(collection)
    collection_of_vectors(collection.path, vectors[:4], names=[f"new{i}" for i in range(4)])
    collection_of_vectors(collection.path, vectors[:1] + 1, names=["p/00000.jpg"], known=True)
    with collection.writing():
        images_of(collection.path).delete("uri = 'file:///p/00001.jpg'")
    points = read_map(collection)
    assert points is not None
    assert (len(points.ids), len(points.xy), points.missing) == (29, 29, 5)
    again = compute_map(collection)
    assert (len(again.ids), again.missing) == (33, 0)


def test_a_map_needs_five_rows_which_may_be_equal(tmp_path: Path) -> None:
    with pytest.raises(CollectionError, match="at least 5"):
        compute_map(collection_of_vectors(tmp_path / "four.birder", np.eye(4)))
    assert compute_map(collection_of_vectors(tmp_path / "five.birder", np.eye(5))).xy.shape == (5, 2)
    assert np.isfinite(compute_map(collection_of_vectors(tmp_path / "equal.birder", np.ones((40, 3)))).xy).all()
    assert np.isfinite(compute_map(collection_of_vectors(tmp_path / "zero.birder", np.zeros((6, 3)))).xy).all()


def test_another_writer_is_reported_at_once(tmp_path: Path) -> None:
    collection = collection_of_vectors(tmp_path / "c.birder", np.eye(6))
    with locked(collection.path), pytest.raises(CollectionError, match="Another process is writing"):
        compute_map(collection)
    assert read_map(collection) is None


def test_storing_the_map_waits_for_a_writer_and_finally_gives_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    collection = collection_of_vectors(tmp_path / "c.birder", np.eye(6))
    before = compute_map(collection)
    monkeypatch.setattr(disk, "PATIENCE", 0.6)
    held = contextlib.ExitStack()

    def hold(stage: str, done: float) -> None:
        if (stage, done) == ("storing", 0.98):
            held.enter_context(locked(collection.path))

    with held, pytest.raises(CollectionError, match="Another process is writing"):
        compute_map(collection, seed=1, progress=hold)
    now = read_map(collection)
    assert now is not None
    assert np.array_equal(now.xy, before.xy)


def test_a_killed_computation_leaves_the_former_map(tmp_path: Path) -> None:
    vectors, _ = clusters(4, 20)
    collection = collection_of_vectors(tmp_path / "c.birder", vectors)
    before = compute_map(collection)
    script = (
        "import sys, time\n"
        "from birder.collection.storage import Storage\n"
        "from birder.analysis.projection import compute_map\n"
        "def tell(stage, done):\n"
        "    print(stage, flush=True)\n"
        "    time.sleep(60 if stage == 'layout' else 0)\n"
        "compute_map(Storage.open(sys.argv[1]), seed=5, progress=tell)\n"
    )
    command = [sys.executable, "-c", script, str(collection.path)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2])
    assert process.stdout is not None
    assert any(line.strip() == "layout" for line in process.stdout)
    time.sleep(0.2)
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    now = read_map(collection)
    assert now is not None
    assert np.array_equal(now.xy, before.xy)
    assert now.missing == 0


def test_a_damaged_map_is_reported_and_recomputed(tmp_path: Path) -> None:
    collection = collection_of_vectors(tmp_path / "c.birder", np.eye(6))
    compute_map(collection)
    for manifest in (collection.path / "map.lance" / "_versions").iterdir():
        manifest.write_bytes(b"nothing")
    with pytest.raises(CollectionError, match="--recompute"):
        read_map(collection)


def test_of_many_rows_a_sample_is_laid_out_and_the_others_lie_beside_their_like(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vectors, labels = clusters(6, 120)
    collection = collection_of_vectors(tmp_path / "c.birder", vectors)
    whole = compute_map(collection)
    assert "laid_out" not in whole.made
    monkeypatch.setattr(projection, "_LAID_OUT", 200)
    points, again = compute_map(collection), compute_map(collection)
    assert points.made["laid_out"] == 200
    assert points.missing == 0
    assert points.ids == again.ids == whole.ids
    assert points.xy.tobytes() == again.xy.tobytes()
    assert (compute_map(collection, seed=1).xy != points.xy).any()
    by_id = dict(zip(collection.to_arrow()["id"].to_pylist(), labels, strict=True))
    names = [by_id[id_] for id_ in points.ids]
    assert KNeighborsClassifier(6).fit(points.xy, names).score(points.xy, names) > 0.98
    assert read_map(collection) is not None
