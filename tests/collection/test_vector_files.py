"""Files that make searching fast are never needed for a right answer: whatever happens to them or to the rows."""

from __future__ import annotations

import functools
import gc
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import lance
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from birder.collection import in_place, nearest, vector_files
from birder.collection import index as vector_index
from birder.collection.backup import backup
from birder.collection.index import ensure_index, make_index
from birder.collection.labels import give_label
from birder.collection.maintenance import tidy
from birder.collection.manifest import fragments
from birder.collection.probe import Probe
from birder.collection.search import search
from birder.collection.storage import Content, Row, Stamp, Storage
from birder.collection.vector_files import FOLDER, open_files
from birder.vectors import unit
from tests.factory import DIMENSION, append, clustered, collection_in_bulk, images_of

Vectors = npt.NDArray[np.float32]
ASKED = clustered(2, seed=7)
COLUMNS = ["width", "uri", "label", "sha256"]


@pytest.fixture(autouse=True)
def graph_from_few_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vector_files, "GRAPH_FROM", 300)
    monkeypatch.setattr(vector_files, "_UNGRAPHED", 40)
    monkeypatch.setattr(nearest, "_FEW", 50)
    monkeypatch.setattr(vector_index, "AUTOMATIC", 300)


@functools.cache
def _made() -> tempfile.TemporaryDirectory[str]:
    folder = tempfile.TemporaryDirectory()
    make_index(collection_in_bulk(Path(folder.name) / "c.birder", clustered(400)))
    return folder


def indexed(path: Path) -> Storage:
    """A collection of 400 rows and its files."""
    return Storage.open(shutil.copytree(Path(_made().name) / "c.birder", path))


def check(collection: Storage) -> None:
    """Exact searches are those of NumPy over what the table has, and the graph's have nothing that it does not have."""
    rows = images_of(collection.path).search().select([*COLUMNS, "embedding"]).to_arrow()
    whole = {row["width"]: row for row in rows.select(COLUMNS).to_pylist()}
    vectors = np.stack(rows["embedding"].to_numpy(zero_copy_only=False)).astype(np.float64)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    numbers = rows["width"].to_numpy()
    for query in ASKED:
        cosines = vectors @ (query / np.linalg.norm(query).astype(np.float64))
        of_row = dict(zip(numbers.tolist(), cosines.tolist(), strict=True))
        for where, wanted in ((None, numbers == numbers), ("width < 150", numbers < 150)):
            best = np.sort(cosines[wanted])[::-1][:10]
            for exact in (True, False):
                answer = search(collection, vectors=[query], columns=COLUMNS, k=10, exact=exact, where=where)
                found = answer.to_list()
                similar = [row["similarity"] for row in found]
                right = [of_row[row["width"]] for row in found]
                assert similar == pytest.approx(right, abs=1e-6 if answer.exact else 2**-11)  # float16 rounds to that
                assert all(row.items() >= whole[row["width"]].items() for row in found)
                assert len({row["width"] for row in found}) == len(found) == len(best)
                if exact or where:
                    assert similar == pytest.approx(best.tolist(), abs=1e-6)
                else:
                    assert np.isin(np.round(right, 6), np.round(best, 6)).mean() >= 0.8


def replace(collection: Storage, number: int, vector: Vectors) -> None:
    with collection.writing():
        content = Content(vector, number, 1, None, None, None)
        collection.write([Row(f"file:///{number}", "ff", Stamp(1, 1), content, known=True)])


def delete(collection: Storage, where: str) -> None:
    with collection.writing():
        images_of(collection.path).delete(where)
    collection.see_latest()


def label(collection: Storage, numbers: range, value: str) -> None:
    with collection.writing():
        collection.update(pa.table({"uri": [f"file:///{n}" for n in numbers], "label": [value] * len(numbers)}))


actions = st.lists(
    st.tuples(st.sampled_from(["add", "delete", "replace", "label", "tidy", "index", "restart"]), st.integers(0, 399)),
    min_size=1,
    max_size=6,
)


@pytest.mark.slow
@given(actions)
@settings(max_examples=6, deadline=None)
def test_after_any_changes_the_answers_are_those_of_the_table(steps: list[tuple[str, int]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        collection = indexed(Path(folder) / "c.birder")
        for number, (what, at) in enumerate(steps):
            if what == "add":
                append(collection, clustered(60, number + 10), 1000 * (number + 1))
            elif what == "delete":
                delete(collection, f"width >= {at} AND width < {at + 30}")
            elif what == "replace":
                replace(collection, at, clustered(1, 50 + number)[0])
            elif what == "label":
                label(collection, range(at, at + 100), "owl")
            elif what == "tidy":
                tidy(collection)
            elif what == "index":
                with collection.writing():
                    ensure_index(collection)
            else:
                collection = Storage.open(collection.path)
            check(collection)


@pytest.mark.slow
def test_moved_rows_keep_their_places_and_columns_written_in_place_are_noticed(tmp_path: Path) -> None:
    collection = collection_in_bulk(tmp_path / "c.birder", clustered(500))
    make_index(collection)
    before = open_files(collection.path, DIMENSION)
    append(collection, clustered(30, 1), 500)
    delete(collection, "width = 3")
    label(collection, range(300), "fox")
    tidy(collection)  # rows get other addresses
    after = open_files(collection.path, DIMENSION)
    assert before is not None
    assert after is not None
    assert (len(before.vectors), len(after.vectors)) == (500, 530)
    assert after.graphed == before.graphed == 500
    check(collection)
    with collection.writing():  # every row of a fragment gets another embedding, at the address that it had
        rows = images_of(collection.path).search().select(["uri", "embedding"]).to_arrow()
        turned = -rows["embedding"].combine_chunks().flatten().to_numpy()
        column = pa.FixedSizeListArray.from_arrays(pa.array(turned), DIMENSION)
        collection.update(pa.table({"uri": rows["uri"], "embedding": column}))
    check(collection)
    theirs = lance.dataset(str(collection.path / "images.lance"))
    mine = fragments(collection.path / "images.lance", theirs.version, "embedding")
    (field,) = (each.id() for each in theirs.lance_schema.fields() if each.name() == "embedding")
    assert mine is not None
    assert [(each.number, each.rows, each.file) for each in mine] == [
        (each.fragment_id, each.physical_rows, next(f.path for f in each.data_files() if field in f.fields))
        for each in theirs.get_fragments()
    ]


def _cut(folder: Path, kind: str) -> None:
    (file,) = folder.glob(f"{kind}*")
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


@pytest.mark.slow
@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: _cut(folder, "f16"),
        lambda folder: _cut(folder, "graph"),
        lambda folder: _cut(folder, "addresses"),
        lambda folder: _cut(folder, "axes"),
        lambda folder: _cut(folder, "rows"),
        lambda folder: _cut(folder, "state"),
        lambda folder: (folder / "state.json").write_text("[1]"),
        lambda folder: next(folder.glob("graph*")).unlink(),
        shutil.rmtree,
    ],
    ids=["vectors", "graph", "addresses", "axes", "rows", "state", "other state", "no graph", "nothing"],
)
def test_without_whole_files_the_table_answers_and_they_are_made_again(
    tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    collection = indexed(tmp_path / "c.birder")
    damage(collection.path / FOLDER)
    reader = Storage.open(collection.path)
    check(reader)
    with collection.writing():
        assert ensure_index(collection) is not None
    assert open_files(collection.path, DIMENSION) is not None
    check(reader)


@pytest.mark.slow
def test_files_of_another_version_or_another_collection_give_nothing_of_their_own(tmp_path: Path) -> None:
    collection = indexed(tmp_path / "c.birder")
    other = collection_in_bulk(tmp_path / "d.birder", clustered(400, seed=3))  # the same addresses
    shutil.copytree(collection.path / FOLDER, other.path / FOLDER)
    check(other)
    shutil.copytree(collection.path / FOLDER, tmp_path / "former")
    delete(collection, "width < 100")
    append(collection, clustered(200, 4), 400)
    tidy(collection)
    shutil.rmtree(collection.path / FOLDER)
    shutil.copytree(tmp_path / "former", collection.path / FOLDER)
    check(Storage.open(collection.path))
    with collection.writing():
        ensure_index(collection)
    check(collection)
    backup(collection, tmp_path / "backup")
    assert not (tmp_path / "backup" / FOLDER).exists()
    check(Storage.open(tmp_path / "backup"))


_APPENDS = """
import sys
from pathlib import Path
from birder.collection import vector_files
from birder.collection.index import ensure_index
from birder.collection.storage import Storage
from tests.factory import append, clustered
vector_files.GRAPH_FROM, vector_files._UNGRAPHED = 300, 40
collection = Storage.open(Path(sys.argv[1]))
print("ready", flush=True)
for number in range(200):
    append(collection, clustered(50, int(sys.argv[2]) + number), int(sys.argv[2]) + 50 * number)
    with collection.writing():
        ensure_index(collection)
    print(number, flush=True)
"""


@pytest.mark.slow
def test_a_reader_is_right_beside_a_writer_and_after_the_writer_was_killed(tmp_path: Path) -> None:
    collection = indexed(tmp_path / "c.birder")
    reader = Storage.open(collection.path)
    for first, wait in ((100_000, 0.0), (200_000, 0.05)):
        command = [sys.executable, "-c", _APPENDS, str(collection.path), str(first)]
        writer = subprocess.Popen(command, stdout=subprocess.PIPE)
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"ready\n"
        writer.stdout.readline()
        version = reader.version
        for query in ASKED:  # as of the version that is open, whatever the writer does
            found = search(reader, vectors=[query], k=10, exact=True, columns=["width"]).to_list()
            images = images_of(reader.path)
            images.checkout(version)
            rows = images.search().select(["width", "embedding"]).to_arrow()
            vectors = np.stack(rows["embedding"].to_numpy(zero_copy_only=False))
            order = np.argsort(-(vectors @ query / np.linalg.norm(vectors, axis=1)))[:10]
            assert [row["width"] for row in found] == rows["width"].to_numpy()[order].tolist()
        time.sleep(wait)
        writer.send_signal(signal.SIGKILL)
        writer.wait()
        reader.see_latest()
        check(reader)
    with collection.writing():
        ensure_index(collection)
    assert not [each for each in (collection.path / FOLDER).iterdir() if each.name.endswith(".part")]
    check(collection)


def test_a_folder_that_cannot_be_written_to_is_searched_all_the_same(tmp_path: Path) -> None:
    collection = indexed(tmp_path / "c.birder")
    append(collection, clustered(100, 1), 400)
    kept = sorted((each.name, each.stat().st_mtime_ns) for each in (collection.path / FOLDER).iterdir())
    reader = Storage.open(collection.path)
    check(reader)  # what the files lack is read from the table
    rows = reader._nearest.at(reader._images, reader.version)
    assert rows is not None
    assert not rows.up_to_date
    assert kept == sorted((each.name, each.stat().st_mtime_ns) for each in (collection.path / FOLDER).iterdir())
    assert json.loads((collection.path / FOLDER / "state.json").read_text())["places"] == 400


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="only Linux tells what is mapped")
@pytest.mark.slow
def test_the_pages_that_searches_map_of_a_large_file_are_given_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    collection = collection_in_bulk(tmp_path / "c.birder", clustered(400))
    make_index(collection)
    collection = Storage.open(collection.path)

    def resident() -> int:
        parts = re.split(r"^(?=[0-9a-f]+-[0-9a-f]+ )", Path("/proc/self/smaps").read_text(), flags=re.MULTILINE)
        ours = [part for part in parts if str(collection.path / FOLDER / "f16-") in part]
        return sum(int(part.split("Rss:")[1].split()[0]) for part in ours)

    for where in (None, "width < 15"):
        for bytes_, given_back in ((0, True), (2**27, False)):
            monkeypatch.setattr(vector_files, "_STAYS_MAPPED", bytes_)
            opened = Storage.open(collection.path)
            search(opened, vectors=[ASKED[0]], columns=COLUMNS, k=10, where=where)
            assert (resident() == 0) is given_back
            del opened
            gc.collect()


@pytest.mark.skipif(sys.platform == "win32", reason="there a large file is read where it is mapped")
@pytest.mark.parametrize("singly", [0, 1_024])
def test_vectors_of_a_large_file_are_the_same_read_or_mapped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, singly: int
) -> None:
    collection = collection_in_bulk(tmp_path / "c.birder", clustered(400))
    make_index(collection)
    rows = collection._nearest.at(collection._images, collection.version)
    assert rows is not None
    places = np.array([399, 0, 7, 7, 120])
    mapped = rows.files.at(places)
    monkeypatch.setattr(vector_files, "_STAYS_MAPPED", 0)
    monkeypatch.setattr(vector_files, "_READ_SINGLY", singly)
    assert rows.files.at(places).tobytes() == mapped.tobytes()
    assert rows.files.at(places[:0]).shape == (0, mapped.shape[1])


@pytest.mark.slow
def test_columns_come_from_the_files_only_as_long_as_the_table_has_the_same(tmp_path: Path) -> None:
    collection = indexed(tmp_path / "c.birder")
    every = [name for name in collection.columns if name != "embedding"]
    addresses = vector_files.row_addresses(collection._images)[[7, 3, 399]]

    def read() -> tuple[pa.Table, list[str]]:
        rows = collection._nearest.at(collection._images, collection.version)
        assert rows is not None
        found, rest = rows.columns.take(addresses, every)
        taken = images_of(collection.path).take_row_ids(addresses.tolist()).with_row_id().to_arrow()
        theirs = {row.pop("_rowid"): row for row in taken.to_pylist()}
        for at, row in zip(addresses.tolist(), found.to_pylist(), strict=True):
            assert row.items() <= theirs[at].items()
        return found, rest

    assert read()[1] == []
    assert collection._nearest.at(collection._images, collection.version) is not None
    label(collection, range(5), "owl")
    assert read()[1] == ["uri", "label"]  # LanceDB writes the column anew by which it finds the rows
    with collection.writing():
        collection.add_columns({"note": pa.string()})
    every.append("note")
    assert read()[1] == ["uri", "label", "note"]
    with collection.writing():
        assert ensure_index(collection) is not None
        assert ensure_index(collection) is None
    assert read()[1] == []
    for number in range(12):  # many small additions do not make many files
        append(collection, clustered(5, number), 1000 * (number + 1))
        with collection.writing():
            ensure_index(collection)
        assert 1 <= len(list((collection.path / FOLDER).glob("rows-*"))) <= 8
    assert read()[1] == []
    check(collection)


@pytest.mark.slow
def test_labels_written_into_the_rows_are_in_the_files_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(in_place, "WORTH_AN_INDEX", 1)  # as in large collections, rows stay where they are
    collection = indexed(tmp_path / "c.birder")
    ids = collection.to_arrow()["id"].to_pylist()
    every = [name for name in collection.columns if name != "embedding"]
    folder = collection.path / FOLDER

    def lacking() -> list[str]:
        rows = collection._nearest.at(collection._images, collection.version)
        assert rows is not None
        addresses = vector_files.row_addresses(collection._images)
        found, rest = rows.columns.take(addresses[::-1], every)
        taken = images_of(collection.path).take_row_ids(addresses.tolist()).with_row_id().to_arrow()
        theirs = {row.pop("_rowid"): row for row in taken.to_pylist()}
        for at, row in zip(addresses[::-1].tolist(), found.to_pylist(), strict=True):
            assert row.items() <= theirs[at].items()
        few, _ = rows.columns.take(addresses[::-1][:60], every)  # these are put together in another way
        assert few.select(found.column_names).equals(found.slice(0, 60))
        return rest

    first = next(each for each in folder.iterdir() if each.name.startswith("rows-"))
    kept = first.read_bytes()
    for number in range(4):  # one file of what labels changed, in place of the former one
        give_label(collection, ids[number : number + 50], "label", f"owl {number}", by="A")
        give_label(collection, ids[:3], f"new_{number}", "yes")
        collection.fold_labels()
        assert lacking() == []
        assert first.read_bytes() == kept
        assert len([each for each in folder.iterdir() if each.name.startswith("rows-")]) <= number + 3
    check(collection)
    append(collection, clustered(60, 1), 1000)  # what the files lack altogether comes with the next label
    delete(collection, "width = 7")
    give_label(collection, ids[20:30], "label", "wren")
    collection.fold_labels()
    assert lacking() == []
    check(collection)
    for number in range(12):
        collection.write_columns(pa.table({"id": ids[:5], f"more_{number}": [number] * 5}))
        every.append(f"more_{number}")
    assert lacking() == []
    assert len([each for each in folder.iterdir() if each.name.startswith("rows-")]) <= 8

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as context, pytest.raises(KeyboardInterrupt):
        context.setattr(vector_files, "_replace_state", killed)
        give_label(collection, ids[40:45], "label", "crow")
        collection.fold_labels()
    collection = Storage.open(collection.path)
    assert collection.count("label = 'crow'") == 5
    assert lacking() == ["uri", "label"]
    check(collection)
    give_label(collection, ids[46:47], "label", "crow")
    collection.fold_labels()
    assert lacking() == []
    named = set(json.loads((folder / "state.json").read_text())["sizes"])
    assert {each.name for each in folder.iterdir()} == {*named, "state.json"}
    (folder / next(name for name in named if name.startswith("rows-"))).write_bytes(b"")
    give_label(collection, ids[:1], "label", "rook")
    collection.fold_labels()  # damaged files do not keep a label away
    check(collection)


@pytest.mark.filterwarnings("ignore")  # that forking while threads run is not safe in general
def test_a_forked_process_asks_the_files_that_its_parent_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nearest, "_LARGE", 100)  # by two threads
    torch.randn(300, 300) @ torch.randn(300, 300)  # it has threads of its own
    collection = collection_in_bulk(tmp_path / "c.birder", clustered(2_000))
    make_index(collection)

    def ask() -> list[list[int]]:
        rows = collection._nearest.at(collection._images, collection.version)
        assert rows is not None
        by_graph = search(collection, vectors=[ASKED[0]], k=5, columns=["width"])
        assert not by_graph.exact
        asked = ASKED[0] / np.linalg.norm(ASKED[0])
        return [by_graph.to_arrow()["width"].to_pylist(), rows.nearest(asked, 5, None, exact=True)[0].tolist()]

    expected = ask()
    for _ in range(3):
        child = os.fork()
        if child == 0:  # pragma: no cover
            signal.alarm(20)  # it must not wait for threads that it does not have
            os._exit(0 if ask() == expected else 1)
        assert os.waitpid(child, 0)[1] == 0
    assert ask() == expected


@pytest.mark.slow
@pytest.mark.parametrize(("noise_in", "axes"), [(60, 256), (768, 768)])
def test_axes_are_left_out_only_if_the_nearest_of_all_rows_are_found_without_them(noise_in: int, axes: int) -> None:
    """Sixty rows around each centre: half of them, in a sample, would all be among the forty nearest by any axes."""
    random = np.random.default_rng(0)
    centres = np.zeros((700, 768), np.float32)
    centres[:, :100] = random.normal(size=(700, 100))
    noise = np.zeros((60 * 700, 768), np.float32)
    noise[:, :noise_in] = random.normal(size=(len(noise), noise_in))
    vectors = unit(np.repeat(centres / 10, 60, axis=0) + noise * np.float32(0.3 / noise_in**0.5))
    sample = np.sort(random.permutation(len(vectors))[:20_000])
    known = vectors[sample]
    found = vector_files._axes(known, vectors.astype(np.float16), Probe.of(known, sample))[1]
    assert found.shape == (768, axes)
