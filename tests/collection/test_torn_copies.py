"""Copies taken while a collection is written: in any order of files, each opens and is whole."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from birder.collection.index import make_index
from birder.collection.search import search
from birder.collection.storage import Content, Failure, Row, Stamp, Storage
from birder.collection.whole import TornCopyWarning, make_whole
from birder.errors import CollectionError, TornCopyError
from tests.factory import CARD, clustered, collection_in_bulk

ROWS = 8
# A process that writes batch after batch: rows, changed columns, deletions, failures, compaction, an index.
WRITER = """
import sys, itertools, warnings
import numpy as np, pyarrow as pa
warnings.simplefilter("ignore")
from birder.collection.storage import Storage, Content, Failure, Row, Stamp
from tests.factory import CARD
path = sys.argv[1]
collection = Storage.create_or_open(path, CARD)
for batch in itertools.count():
    with collection.writing():
        rows = []
        for i in range(batch * 8, batch * 8 + 8):
            content = Content(np.full(4, i, "f4"), 1, 1, None, None, None)
            rows.append(Row(f"file:///{i}", f"{i:064x}", Stamp(1, 1), content, columns={"label": str(i)}))
        collection.write(rows, [Failure(f"file:///bad{batch}", "bad", None)])
        if batch % 5 == 3:
            uris = [f"file:///{i}" for i in range(batch * 8)]
            collection.update(pa.table({"uri": uris, "species": [uri[8:] for uri in uris]}))
        if batch % 7 == 6:
            collection.compact()
    print(batch, flush=True)
"""


def data_first(source: Path, target: Path) -> None:
    """The worst order: what versions name, long before the versions."""
    _in_order(source, target, lambda path: "_versions" in path.parts, pause=0.05)


def versions_first(source: Path, target: Path) -> None:
    _in_order(source, target, lambda path: "_versions" not in path.parts, pause=0.05)


def as_listed(source: Path, target: Path) -> None:
    subprocess.run(["cp", "-r", source, target], stderr=subprocess.DEVNULL)  # complains about drafts that are gone


def _in_order(source: Path, target: Path, is_late: Callable[[Path], bool], pause: float) -> None:
    for late in (False, True):
        for folder, _, files in os.walk(source):
            for name in files:
                file = Path(folder, name)
                place = target / file.relative_to(source)
                if is_late(file) is late:
                    place.parent.mkdir(parents=True, exist_ok=True)
                    with contextlib.suppress(FileNotFoundError):  # a draft (.tmp...) that has its name by now
                        shutil.copyfile(file, place)
        time.sleep(pause)


@pytest.fixture(scope="class")
def written(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    path = tmp_path_factory.mktemp("written") / "c.birder"
    root = Path(__file__).parents[2]
    writer = subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True, cwd=root)
    assert writer.stdout is not None
    assert writer.stdout.readline() == "0\n"
    yield path
    assert writer.poll() is None, "the writer has died"
    writer.kill()
    writer.wait()


class TestWhileItIsWritten:
    """A class, so that the writer ends with these tests: it takes a processor."""

    @pytest.mark.parametrize("copy", [data_first, versions_first, as_listed], ids=lambda copy: copy.__name__)
    @pytest.mark.slow
    def test_a_copy_of_a_collection_that_is_being_written_is_whole(
        self, written: Path, tmp_path: Path, copy: Callable[[Path, Path], None]
    ) -> None:
        sizes = []
        for number in range(5):
            before = Storage.open(written).count()
            copy(written, tmp_path / f"{number}.birder")
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", TornCopyWarning)
                opened = Storage.open(tmp_path / f"{number}.birder")
            rows = opened.to_arrow()
            # the rows are as after some commit: whole batches from the first one on, each row as it was written
            assert sorted(int(uri[8:]) for uri in rows["uri"].to_pylist()) == list(range(rows.num_rows))
            assert rows.num_rows % ROWS == 0
            assert rows.num_rows == opened.count() >= before * (copy is not as_listed)
            assert rows["label"].to_pylist() == [uri[8:] for uri in rows["uri"].to_pylist()]
            assert rows["embedding"].combine_chunks().flatten().to_numpy()[::4].tolist() == [
                float(label) for label in rows["label"].to_pylist()
            ]
            assert len(opened.failures()) >= 1
            assert len(search(opened, vectors=[np.ones(4, "f4")], k=3)) == 3
            with opened.writing():  # and goes on
                opened.write([_row(10**6)])
            assert Storage.open(opened.path).count() == rows.num_rows + 1
            sizes.append(rows.num_rows)
        assert sizes[-1] > sizes[0]  # it was being written


def _row(number: int) -> Row:
    content = Content(np.full(4, number, "f4"), 1, 1, None, None, None)
    return Row(f"file:///{number}", f"{number:064x}", Stamp(1, 1), content)


@pytest.fixture
def collection(tmp_path: Path) -> Storage:
    collection = Storage.create_or_open(tmp_path / "c.birder", CARD)
    for batch in range(3):
        with collection.writing():
            collection.write([_row(batch * 2), _row(batch * 2 + 1)], [Failure(f"file:///bad{batch}", "bad", None)])
    return collection


def newest(folder: Path) -> Path:
    return max(folder.iterdir(), key=lambda file: file.stat().st_mtime_ns)


@pytest.mark.parametrize("damage", ["missing", "cut short", "deletions", "manifest cut short"])
def test_a_version_that_lacks_files_is_replaced_by_the_one_before(collection: Storage, damage: str) -> None:
    table = collection.path / "images.lance"
    if damage == "deletions":
        with collection.writing():
            collection.write([], [Failure("file:///5", "gone", None, known=True)])
        (table / "_deletions").rename(collection.path / "elsewhere")
        expected = 6
    else:
        expected = 4
        torn = newest(table / "data")
        if damage == "missing":
            torn.unlink()
        elif damage == "cut short":
            torn.write_bytes(torn.read_bytes()[:-100])
        else:
            first = min(each for each in (table / "_versions").glob("*.manifest"))
            first.write_bytes(first.read_bytes()[:-10])
    with pytest.warns(TornCopyWarning, match="its table images is as of version"):
        make_whole(collection.path)
    opened = Storage.open(collection.path)
    assert opened.to_arrow().num_rows == expected
    assert len(opened.failures()) >= 3
    with opened.writing():
        opened.write([_row(77)])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        make_whole(collection.path)
    assert Storage.open(collection.path).to_arrow().num_rows == expected + 1


def test_a_whole_collection_is_only_read(collection: Storage) -> None:
    before = {file: file.stat().st_mtime_ns for file in collection.path.rglob("*")}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        make_whole(collection.path)
    assert {file: file.stat().st_mtime_ns for file in collection.path.rglob("*")} == before


def test_a_copy_without_its_index_keeps_every_row_and_says_how_to_rebuild_it(tmp_path: Path) -> None:
    collection, rows = collection_in_bulk(tmp_path / "c.birder", clustered(300)), 300
    make_index(collection, columns=["uri"])
    for file in (collection.path / "images.lance" / "_indices").rglob("*.lance"):
        file.unlink()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        opened = Storage.open(collection.path)
    assert opened.count() == rows
    changed = opened.to_arrow().select(["uri", "label"]).slice(0, 1)
    with opened.writing(), pytest.raises(CollectionError, match="birder index"):
        opened.update(changed)
    make_index(opened, columns=["uri"])
    with opened.writing():
        opened.update(changed)
    assert opened.count() == rows


def test_a_copy_without_any_whole_version_is_refused(collection: Storage) -> None:
    versions = collection.path / "images.lance" / "_versions"
    for manifest in sorted(versions.glob("*.manifest"))[1:]:
        manifest.unlink()
    newest(collection.path / "images.lance" / "data").unlink()
    with pytest.raises(TornCopyError, match="no version of its table images is complete.* birder backup"):
        make_whole(collection.path)


def test_arrow_reads_what_was_copied(collection: Storage, tmp_path: Path) -> None:
    shutil.copytree(collection.path, tmp_path / "copy.birder")
    assert Storage.open(tmp_path / "copy.birder").to_arrow().equals(collection.to_arrow())
    assert isinstance(collection.to_arrow(), pa.Table)
