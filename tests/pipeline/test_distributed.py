"""On a real Ray of this machine: the same rows as the local pipeline, whatever dies on the way."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import birder
from birder.collection.model import Encoder, EncoderSpec
from birder.collection.storage import Storage
from birder.errors import BirderError, CollectionError, MissingExtraError
from birder.extras import EXTRAS
from birder.pipeline.cluster import lay_out, running_ray
from birder.pipeline.distributed import _chunks, _unpack, embed_on_ray
from birder.pipeline.embed import Summary, embed_images, plan
from birder.sources import Box, Source, TableRow, find_images, path_to_uri
from tests.pipeline.detecting import draw_greys, grey, write_detector
from tests.pipeline.means import broken_files, draw
from tests.pipeline.on_ray import MODEL, children, run

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", autouse=True)
def ray() -> Iterator[None]:
    """One Ray for all tests here, which `embed_on_ray` then uses."""
    if importlib.util.find_spec("ray") is None:  # importing it is left to Birder, which tells it where to listen
        pytest.skip("the extra cluster is not installed")
    with running_ray(None):
        yield


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return MODEL.load(draft=True)


def check_same(folder: Path) -> None:
    """Both collections have the same rows, column by column, and the same failures."""
    here, there = (Storage.open(folder / name) for name in ("local.birder", "ray.birder"))
    assert here.columns == there.columns
    rows = [collection.to_arrow().sort_by("uri") for collection in (here, there)]
    assert rows[0].schema.metadata == rows[1].schema.metadata
    names = [name for name in here.columns if name != "embedding"]
    assert rows[0].select(names).to_pylist() == rows[1].select(names).to_pylist()
    vectors = [np.stack(table["embedding"].to_numpy()) for table in rows]
    assert np.abs(vectors[0] - vectors[1]).max() <= 1e-6
    failures = [[{**f, "failed_at": None} for f in collection.failures()] for collection in (here, there)]
    assert failures[0] == failures[1]


def actors() -> list[int]:
    return [pid for pid, name in children().items() if "_EncodeActor" in name]


def test_rows_and_failures_are_those_of_the_local_pipeline(tmp_path: Path, encoder: Encoder, photos: Path) -> None:
    draw(tmp_path, 20)
    broken_files(tmp_path / "photos")
    for i, photo in enumerate(sorted(photos.rglob("*.jpg"))[:8]):
        shutil.copy(photo, tmp_path / f"photos/real{i}.jpg")
    shutil.copy(tmp_path / "photos/0000.png", tmp_path / "photos/0000-beside.png")  # its copy is in the same chunk
    shutil.copy(tmp_path / "photos/0000.png", tmp_path / "photos/zz-far.png")  # and in another
    sources = find_images([tmp_path / "photos"])
    table = pa.table(
        {"trap": range(len(sources)), "species": [f"s{i % 3}" if i % 2 else None for i in range(len(sources))]}
    )
    for i, source in enumerate(sources):
        source.columns = TableRow(table, i)
    summaries = [run(tmp_path, encoder, sources, to) for to in ("local.birder", "ray.birder")]
    check_same(tmp_path)
    assert summaries[0].embedded == summaries[1].embedded == 30
    assert sorted(summaries[0].failed) == sorted(summaries[1].failed)
    assert not summaries[1].stopped


def test_a_second_run_has_nothing_to_do_and_a_third_does_what_changed(tmp_path: Path, encoder: Encoder) -> None:
    draw(tmp_path, 10)
    (tmp_path / "photos/bad.png").write_bytes(b"x")
    (tmp_path / "photos/good-then-bad.png").write_bytes((tmp_path / "photos/0003.png").read_bytes())
    for to in ("local.birder", "ray.birder"):
        run(tmp_path, encoder, to=to)
    assert run(tmp_path, encoder).finished == 0
    draw(tmp_path, 3, start=10)  # new
    shutil.copy(tmp_path / "photos/0001.png", tmp_path / "photos/bad.png")  # failed before, now a known content
    (tmp_path / "photos/good-then-bad.png").write_bytes(b"once upon a time")  # its row goes
    a, b = ((tmp_path / f"photos/000{i}.png").read_bytes() for i in (4, 5))
    (tmp_path / "photos/0004.png").write_bytes(b)  # two that swap their contents
    (tmp_path / "photos/0005.png").write_bytes(a)
    os.utime(tmp_path / "photos/0004.png", (1, 1))
    os.utime(tmp_path / "photos/0005.png", (1, 1))
    shutil.copy(tmp_path / "photos/0012.png", tmp_path / "photos/0006.png")  # a row that gets a content nobody had
    summaries = [run(tmp_path, encoder, to=to) for to in ("local.birder", "ray.birder")]
    check_same(tmp_path)
    assert summaries[0].embedded == summaries[1].embedded == 7
    assert Storage.open(tmp_path / "ray.birder").count() == 13 + 1
    assert [f["uri"] for f in Storage.open(tmp_path / "ray.birder").failures()] == [
        path_to_uri(tmp_path / "photos/good-then-bad.png")
    ]
    assert run(tmp_path, encoder).finished == 0


def test_a_killed_worker_loses_no_row(tmp_path: Path, encoder: Encoder) -> None:
    draw(tmp_path, 240)
    (tmp_path / "photos/bad.png").write_bytes(b"x")
    killed: list[int] = []
    survivors: list[int] = []
    finished: list[int] = []

    def kill(summary: Summary) -> None:
        if len(killed) < 2 and summary.finished < 200 and (found := [pid for pid in actors() if pid not in killed]):
            os.kill(found[0], signal.SIGKILL)
            killed.append(found[0])
            finished.append(summary.finished)
        survivors[:] = actors() or survivors

    summary = run(tmp_path, encoder, on_progress=kill)
    assert len(killed) == 2 and finished[-1] < 240
    assert survivors and not set(survivors) & set(killed)
    assert (summary.embedded, len(summary.failed), summary.stopped) == (240, 1, False)
    run(tmp_path, encoder, to="local.birder")
    check_same(tmp_path)
    assert run(tmp_path, encoder).finished == 0


def test_stop_commits_what_came_back_and_the_next_run_does_the_rest(tmp_path: Path, encoder: Encoder) -> None:
    draw(tmp_path, 80)
    stop = threading.Event()
    summary = run(tmp_path, encoder, stop=stop, on_progress=lambda s: stop.set())
    assert summary.stopped and 0 < summary.embedded < 80
    assert Storage.open(tmp_path / "ray.birder").count() == summary.embedded
    assert run(tmp_path, encoder).embedded == 80 - summary.embedded
    run(tmp_path, encoder, to="local.birder")
    check_same(tmp_path)


def test_a_killed_driver_loses_at_most_what_was_not_committed_and_the_cluster_goes_on(
    tmp_path: Path, encoder: Encoder
) -> None:
    import ray

    draw(tmp_path, 60)
    Storage.create_or_open(tmp_path / "ray.birder", encoder.card)
    address = ray.get_runtime_context().gcs_address
    code = f"""
import os, signal, sys
sys.path.insert(0, {str(Path(__file__).parents[2])!r})
from pathlib import Path
from tests.pipeline.on_ray import MODEL, children, run
seen = set()

def tell(summary):
    seen.update(children().values())
    if summary.finished >= int(sys.argv[1]):
        os.kill(os.getpid(), signal.SIGKILL)

folder, model = Path({str(tmp_path)!r}), MODEL.load(draft=True)
print(run(folder, model, address={address!r}, commit_seconds=0.0, on_progress=tell).embedded)
print([name for name in seen if "raylet" in name])
"""

    def run_there(until: int) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", code, str(until)]
        return subprocess.run(command, capture_output=True, text=True, timeout=120)

    killed = run_there(20)
    assert killed.returncode == -signal.SIGKILL, killed.stderr[-2000:]
    before = Storage.open(tmp_path / "ray.birder").count()
    assert before >= 20
    resumed = run_there(1000)
    assert resumed.stdout.splitlines() == [f"{60 - before}", "[]"], resumed.stderr  # it has no raylet of its own
    nodes: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
    assert ray.is_initialized() and len(nodes) == 1 and nodes[0]["Alive"]
    run(tmp_path, encoder, to="local.birder")
    check_same(tmp_path)


def test_a_run_starts_and_ends_a_ray_of_its_own_quietly(tmp_path: Path, encoder: Encoder) -> None:
    draw(tmp_path, 6)
    code = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parents[2])!r})
from pathlib import Path
from tests.pipeline.on_ray import MODEL, children, listening, run
found = set()
print(run(Path({str(tmp_path)!r}), MODEL.load(draft=True), on_progress=lambda _: found.update(listening())).embedded)
print(sorted(found))
import ray
print(ray.is_initialized(), sorted(name for name in children().values() if "ray" in name))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.stdout.splitlines() == ["6", f"{['0000000000000000FFFF00000100007F', '0100007F']}", "False []"], (
        done.stderr
    )
    assert done.stderr == ""


def test_a_model_that_a_worker_lacks_is_reported_in_one_sentence(tmp_path: Path, encoder: Encoder) -> None:
    draw(tmp_path, 3)
    collection = Storage.create_or_open(tmp_path / "c.birder", encoder.card)
    todo = plan(collection, find_images([tmp_path / "photos"]))
    with pytest.raises(BirderError, match=r"nowhere\.pt") as caught:
        embed_on_ray(collection, EncoderSpec("nowhere.pt", "cpu"), todo)
    assert "\n" not in str(caught.value)
    assert collection.count() == 0


def test_another_writer_is_refused(tmp_path: Path, encoder: Encoder) -> None:
    draw(tmp_path, 1)
    collection = Storage.create_or_open(tmp_path / "ray.birder", encoder.card)
    with collection.running(), pytest.raises(CollectionError, match="Another process is adding images"):
        run(tmp_path, encoder)


def test_a_missing_extra_is_named(tmp_path: Path, encoder: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    draw(tmp_path, 1)
    monkeypatch.setitem(EXTRAS, "cluster", ("no_such_module",))
    with pytest.raises(MissingExtraError, match=r'pip install "\.\[cluster\]"'):
        run(tmp_path, encoder)


@pytest.mark.parametrize(
    ("nodes", "device", "expected"),
    [
        ([{"CPU": 2.0}], None, (1, 1, 0)),
        ([{"CPU": 1.0}], None, (1, 1, 0)),
        ([{"CPU": 64.0}, {"CPU": 32.0}, {"memory": 1.0}], None, (2, 28, 0)),
        ([{"CPU": 16.0, "GPU": 4.0}, {"CPU": 16.0}], None, (4, 1, 1)),
        ([{"CPU": 16.0, "GPU": 4.0}, {"CPU": 16.0}], "cpu", (2, 14, 0)),
    ],
)
def test_each_node_or_gpu_has_one_actor(
    nodes: list[dict[str, float]], device: str | None, expected: tuple[int, int, int]
) -> None:
    assert lay_out([{"Alive": True, "Resources": node} for node in nodes], device) == expected


def test_boxes_of_an_image_stay_in_one_chunk(pending: Callable[[Source], Any]) -> None:
    items = [pending(Source(f"/{i // 3}.jpg", box=Box(0.1 * (i % 3), 0, 0.1, 0.1))) for i in range(9)]
    chunks = [[item.uri for item in _unpack(chunk)] for chunk in _chunks(items, 4)]
    assert [len(chunk) for chunk in chunks] == [6, 3]
    assert [uri for chunk in chunks for uri in chunk] == [item.uri for item in items]


@pytest.fixture
def pending() -> Callable[[Source], Any]:
    from birder.pipeline.known import Pending

    return lambda source: Pending(source, None)


def test_patch_tokens_are_written_as_by_threads(tmp_path: Path, photos: Path) -> None:
    checkpoint = tmp_path / "vit_b16_pn_tiny.pt"
    shutil.copy(Path(__file__).parents[1] / "data" / "birder" / "vit_tiny_p16_pn_test.pt", checkpoint)
    shutil.copytree(photos / "fish", tmp_path / "photos")
    spec = EncoderSpec(str(checkpoint), "cpu", precision="fp32", patches=True)
    encoder = spec.load(draft=True)
    for name, run_it in (("local.birder", embed_images), ("ray.birder", embed_on_ray)):
        collection = Storage.create_or_open(tmp_path / name, encoder.card)
        todo = plan(collection, find_images([tmp_path / "photos"]))
        if run_it is embed_images:
            embed_images(collection, encoder.engine, encoder.transform, todo)
        else:
            embed_on_ray(collection, spec, todo, batch_size=4)
    tables = [Storage.open(tmp_path / name).to_arrow().sort_by("uri") for name in ("local.birder", "ray.birder")]
    assert tables[0].num_rows > 0 and tables[0]["uri"].equals(tables[1]["uri"])
    maps = [np.stack(table["patches"].to_pylist()) for table in tables]
    np.testing.assert_allclose(maps[0], maps[1], atol=2e-3)


def test_boxes_that_a_run_finds_are_those_of_the_local_pipeline(tmp_path: Path) -> None:
    detector, model = write_detector(tmp_path / "d.onnx"), tmp_path / "vit_b16_pn_tiny.pt"
    shutil.copy(Path(__file__).parents[1] / "data" / "birder" / "vit_tiny_p16_pn_test.pt", model)
    photos = tmp_path / "photos"
    draw_greys(photos, 20)
    (photos / "broken.png").write_bytes(b"x")
    shutil.copy(photos / "004.png", photos / "zz-copy.png")
    options: dict[str, Any] = {"detect": detector, "empty": "note", "batch_size": 4, "progress": None}
    for ray in (None, "local"):
        to = tmp_path / f"{ray}.birder"
        assert birder.embed(photos, to, str(model), precision="fp32", ray=ray, **options)[1].left == 0
    grey(photos / "004.png", 0.3, 99)  # three boxes become one
    os.utime(photos / "004.png", (1, 1))
    (photos / "broken.png").unlink()
    grey(photos / "broken.png", 0.5, 100)
    reports = [birder.embed(photos, tmp_path / f"{ray}.birder", ray=ray, **options)[1] for ray in (None, "local")]
    assert [(each.embedded, each.without_animal, each.already, each.left) for each in reports] == [(3, 0, 20, 0)] * 2
    here, there = (Storage.open(tmp_path / f"{ray}.birder") for ray in (None, "local"))
    tables = [each.to_arrow().sort_by("uri") for each in (here, there)]
    names = [name for name in here.columns if name != "embedding"]
    assert tables[0].select(names).to_pylist() == tables[1].select(names).to_pylist()
    vectors = [np.stack(table["embedding"].to_numpy()) for table in tables]
    assert np.abs(vectors[0] - vectors[1]).max() <= 1e-6
    told = [[(each["uri"], each["reason"]) for each in each.failures()] for each in (here, there)]
    assert told[0] == told[1] and len(told[0]) == 8
