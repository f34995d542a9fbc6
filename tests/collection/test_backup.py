"""Backups: consistent while others write, incremental, restorable by a plain copy, resumable after being killed."""

from __future__ import annotations

import itertools
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from birder.collection import backup as backup_module
from birder.collection import disk
from birder.collection.backup import backup
from birder.collection.disk import keeping_versions
from birder.collection.index import make_index
from birder.collection.journal import Journal
from birder.collection.labels import give_label, history, undo
from birder.collection.maintenance import tidy
from birder.collection.schema import Content, Failure, ModelCard, Row
from birder.collection.search import search
from birder.collection.storage import Storage
from birder.errors import CollectionBusyError, CollectionError, FileExistsError, TornCopyError
from birder.sources import Stamp

CARD = ModelCard("tiny", "tiny", "ab" * 32, {"size": [8, 8], "draft": True}, "torch", "fp32", 4)
ROOT = Path(__file__).parents[2]
BATCH = 8

# A process that writes rows, replaces some, deletes some, gives and undoes labels, joins pieces, makes an index.
# Row i of batch b has the embedding (i, b, r, 0), where r counts how often it was replaced; `label` repeats r.
WRITER = """
import itertools, sys, time
import numpy as np
from birder.collection.index import make_index
from birder.collection.labels import give_label, undo
from birder.collection.schema import Content, Failure, ModelCard, Row
from birder.collection.storage import Storage
from birder.sources import Stamp
card = ModelCard("tiny", "tiny", "ab" * 32, {"size": [8, 8], "draft": True}, "torch", "fp32", 4)
collection = Storage.create_or_open(sys.argv[1], card)

def row(number, replaced, known=False):
    content = Content(np.array([number, number // 8, replaced, 0], "f4"), 1, 1, None, None, None)
    columns = {"species": str(replaced)}
    return Row(f"file:///{number}", f"{number:032x}{replaced:032x}", Stamp(1, 1), content, columns, known)

for batch in itertools.count():
    with collection.writing():
        rows = [row(number, 0) for number in range(batch * 8, batch * 8 + 8)]
        collection.write(rows, [Failure(f"file:///bad{batch}", "bad", None)])
    if batch % 3 == 2:
        with collection.writing():
            collection.write([row(number, batch, known=True) for number in range(batch * 8)])
    first = row(batch * 8, 0)
    id_ = collection.table_of([first], {first.sha256: first.content})["id"][0].as_py()
    give_label(collection, [id_], "label", f"batch {batch}", by="Ada")
    if batch % 4 == 1:
        undo(collection)
    if batch % 5 == 4:
        with collection.writing():
            collection.compact()
    if batch == 40:
        make_index(collection)
    print(batch, flush=True)
    time.sleep(0.05)  # it writes half of the time, and leaves the other half to those who read
"""
BACKUP = """
import sys
from birder.collection.backup import backup
backup(sys.argv[1], sys.argv[2])
"""


def row(number: int, *, known: bool = False, replaced: int = 0) -> Row:
    content = Content(np.array([number, 0, replaced, 1], "f4"), 1, 1, None, None, None)
    return Row(f"file:///{number}", f"{number:032x}{replaced:032x}", Stamp(1, 1), content, {}, known)


def write(collection: Storage, numbers: range, *, known: bool = False, replaced: int = 0) -> None:
    with collection.writing():
        collection.write([row(number, known=known, replaced=replaced) for number in numbers])


def contents(folder: Path) -> dict[str, tuple[int, int]]:
    return {
        str(file.relative_to(folder)): (file.stat().st_mtime_ns, file.stat().st_ino)
        for file in folder.rglob("*")
        if file.is_file() and file.suffix != ".lock"
    }


def rows_of(path: Path) -> pa.Table:
    """The rows, with every warning an error: of a backup there is nothing to repair."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return Storage.open(path).to_arrow().sort_by("uri")


@pytest.fixture
def collection(tmp_path: Path) -> Storage:
    collection = Storage.create_or_open(tmp_path / "c.birder", CARD)
    for batch in range(3):
        write(collection, range(batch * BATCH, batch * BATCH + BATCH))
    with collection.writing():
        collection.write([], [Failure("file:///bad", "corrupt image data", None)])
    return collection


@pytest.fixture(scope="class")
def written(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A collection that another process is writing to."""
    path = tmp_path_factory.mktemp("written") / "c.birder"
    writer = subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert writer.stdout is not None
    while writer.stdout.readline() != "2\n":
        assert writer.poll() is None
    yield path
    assert writer.poll() is None, "the writer has died"
    writer.kill()
    writer.wait()


def check_written(path: Path) -> int:
    """Check every row of what the writer writes: whole batches, each row of one commit, with its labels; how many."""
    rows = rows_of(path)
    numbers = sorted(int(uri[8:]) for uri in rows["uri"].to_pylist())
    assert numbers == list(range(len(numbers))) and len(numbers) % BATCH == 0
    vectors = np.stack(rows["embedding"].to_numpy(zero_copy_only=False))
    for uri, vector, species, sha256 in zip(
        rows["uri"].to_pylist(), vectors, rows["species"].to_pylist(), rows["sha256"].to_pylist(), strict=True
    ):
        number, replaced = int(uri[8:]), int(species)
        assert vector.tolist() == [number, number // BATCH, replaced, 0]
        assert sha256 == f"{number:032x}{replaced:032x}"
    replaced_by = {int(text) for text in rows["species"].to_pylist()}
    assert len(replaced_by) <= 3  # a replacement is one commit: 0, the last one, and rows added since
    opened = Storage.open(path)
    assert len(opened.failures()) == len(numbers) // BATCH
    assert opened.count() == len(numbers)
    said = opened.journal.words(rows["id"].to_pylist(), ["label"])
    labels = dict(zip(rows["id"].to_pylist(), rows["label"].to_pylist(), strict=True))
    assert {id_: {"label": label} for id_, label in labels.items() if label is not None} == said
    assert len(search(opened, vectors=[np.ones(4, "f4")], k=3)) == 3
    return len(numbers)


class TestWhileItIsWritten:
    """A class, so that the writer ends with these tests: it takes a processor."""

    @pytest.mark.slow
    def test_backups_of_a_collection_being_written_are_consistent_incremental_and_restorable(
        self, written: Path, tmp_path: Path
    ) -> None:
        sizes = []
        for number in range(6):
            done = backup(Storage.open(written), tmp_path / "backup.birder")
            assert done.rows == check_written(tmp_path / "backup.birder")
            restored = Path(shutil.copytree(tmp_path / "backup.birder", tmp_path / f"restored{number}.birder"))
            assert check_written(restored) == done.rows
            again = Storage.open(restored)  # and it goes on being used
            with again.writing():
                again.write([row(10**6)])
            assert Storage.open(restored).count() == done.rows + 1
            sizes.append(done.rows)
        assert sizes[-1] > sizes[0]  # it was being written

    @pytest.mark.slow
    def test_a_killed_backup_leaves_the_earlier_one_and_the_next_run_completes_it(
        self, written: Path, tmp_path: Path
    ) -> None:
        chance = random.Random(0)
        to = tmp_path / "backup.birder"
        before, killed = 0, 0
        started = time.monotonic()
        subprocess.run(
            [sys.executable, "-c", BACKUP, str(written), str(tmp_path / "whole.birder")], cwd=ROOT, check=True
        )
        took = time.monotonic() - started
        for number in range(5):
            child = subprocess.Popen([sys.executable, "-c", BACKUP, str(written), str(to)], cwd=ROOT)
            time.sleep(chance.uniform(0.6, 1.0) * took)
            os.kill(child.pid, signal.SIGKILL)
            killed += child.wait() == -signal.SIGKILL
            try:
                now = check_written(to)
            except (CollectionError, TornCopyError):
                assert before == 0  # no backup has been finished yet
            else:
                assert now >= before
                before = now
            if number == 2:
                before = backup(Storage.open(written), to).rows
        assert killed >= 2
        assert backup(Storage.open(written), to).rows == check_written(to) >= before
        assert not list(to.rglob("*.part"))


class Interrupted(Exception):
    pass


class Steps:
    """Counts what changes files of a backup, and interrupts the backup at one of these steps."""

    def __init__(self, last: int) -> None:
        self.left = last

    def before(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*arguments: object, **options: object) -> object:
            if self.left == 0:
                raise Interrupted
            self.left -= 1
            return call(*arguments, **options)

        return counted


@pytest.mark.slow
def test_interrupted_at_any_step_a_backup_is_the_earlier_one_or_whole(tmp_path: Path) -> None:
    original = Storage.create_or_open(tmp_path / "c.birder", CARD)
    write(original, range(24))
    states = [rows_of(original.path)]
    backup(original, tmp_path / "earlier.birder")
    write(original, range(4), known=True, replaced=1)
    write(original, range(100, 104))
    states.append(rows_of(original.path))
    for step in itertools.count():
        to = Path(shutil.copytree(tmp_path / "earlier.birder", tmp_path / f"{step}.birder"))
        steps, interrupted = Steps(step), False
        with pytest.MonkeyPatch.context() as patched:
            for owner, name in (
                (backup_module, "_copy"),
                (backup_module, "_write"),
                (backup_module, "flush_folder"),
                (Path, "unlink"),
            ):
                patched.setattr(owner, name, steps.before(getattr(owner, name)))
            try:
                backup(original, to)
            except Interrupted:
                interrupted = True
        left = rows_of(Path(shutil.copytree(to, tmp_path / f"{step}-left.birder")))
        assert any(left.equals(state) for state in states)
        backup(original, to)
        assert rows_of(to).equals(states[1])
        if not interrupted:
            break
    assert step > 20


def test_an_interrupted_first_backup_is_never_taken_for_a_collection(
    collection: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    to = tmp_path / "backup.birder"

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(backup_module, "_switch", interrupt)
        backup(collection, to)
    with pytest.raises(TornCopyError, match="interrupted. Complete it: run birder backup again"):
        Storage.open(to)
    with pytest.raises(CollectionError):
        Storage.create_or_open(to, CARD)
    done = backup(collection, to)
    assert done.copied_files < 10  # the data were there
    assert rows_of(to).equals(rows_of(collection.path))


def test_a_later_backup_copies_only_what_is_new_and_removes_what_is_no_longer_needed(
    collection: Storage, tmp_path: Path
) -> None:
    to = tmp_path / "backup.birder"
    thumbnail = collection.path / "thumbnails" / "ab" / f"{'ab' * 32}-96.jpg"
    thumbnail.parent.mkdir(parents=True)
    thumbnail.write_bytes(b"jpeg" * 1000)
    first = backup(collection, to)
    before = contents(to)
    assert (to / thumbnail.relative_to(collection.path)).read_bytes() == thumbnail.read_bytes()
    write(collection, range(100, 108))
    told: list[tuple[int, int]] = []
    second = backup(collection, to, progress=lambda done, total: told.append((done, total)))
    unchanged = [name for name, state in before.items() if "/data/" in name or name.startswith("thumbnails")]
    assert len(unchanged) >= 4
    assert all(contents(to)[name] == before[name] for name in unchanged)
    assert second.copied_bytes < first.copied_bytes / 2
    assert told[0] == (0, second.copied_bytes) and told[-1] == (second.copied_bytes, second.copied_bytes)
    assert sorted(told) == told
    assert (second.rows, second.failures) == (32, 1)
    time.sleep(0.01)
    tidy(collection, keep=timedelta(0))
    backup(collection, to)
    assert len(list((to / "images.lance" / "data").iterdir())) == 1
    assert rows_of(to).equals(rows_of(collection.path))


def test_labels_are_in_the_rows_of_a_backup_with_their_history_and_opening_it_changes_nothing(
    collection: Storage, tmp_path: Path
) -> None:
    to = tmp_path / "backup.birder"
    ids = collection.to_arrow()["id"].to_pylist()
    give_label(collection, ids[:3], "label", "lynx", by="Ada")
    give_label(collection, ids[2:5], "note", "at night", by="Ben")
    backup(collection, to)
    before = contents(to)
    rows = rows_of(to)
    assert contents(to) == before
    assert rows.equals(rows_of(collection.path))
    assert [(act.by, act.count) for act in history(Journal(to)).acts] == [("Ben", 3), ("Ada", 3)]
    restored = Storage.open(shutil.copytree(to, tmp_path / "restored.birder"))
    assert undo(restored).restored == 3
    assert restored.count("note IS NOT NULL") == 0 and restored.count("label = 'lynx'") == 3


def test_a_backup_has_the_index_and_the_collection_goes_on_with_it(tmp_path: Path) -> None:
    collection = Storage.create_or_open(tmp_path / "c.birder", CARD)
    write(collection, range(300))
    make_index(collection, columns=["uri"])
    backup(collection, tmp_path / "backup.birder")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        restored = Storage.open(shutil.copytree(tmp_path / "backup.birder", tmp_path / "restored.birder"))
    assert search(restored, vectors=[np.array([7, 0, 0, 1], "f4")], k=1).to_list()[0]["uri"] == "file:///7"
    write(restored, range(4), known=True, replaced=1)
    assert restored.count() == 300


@pytest.mark.parametrize("where", ["inside", "around", "same", "other files", "a file", "another collection's backup"])
def test_a_destination_with_other_contents_is_refused_and_stays_as_it_was(
    collection: Storage, tmp_path: Path, where: str
) -> None:
    to = tmp_path / "backup.birder"
    if where == "inside":
        to = collection.path / "backup"
    elif where == "around":
        to = tmp_path
    elif where == "same":
        to = collection.path
    elif where == "other files":
        to.mkdir()
        (to / "thesis.txt").write_text("chapter 1")
    elif where == "a file":
        to.write_text("chapter 1")
    else:
        other = Storage.create_or_open(tmp_path / "other.birder", CARD)
        write(other, range(3))
        backup(other, to)
    before = contents(tmp_path)
    with pytest.raises(CollectionError if where in ("inside", "around", "same") else FileExistsError):
        backup(collection, to)
    after = contents(tmp_path)
    after.pop("c.birder/collection.id", None)
    assert after == before


@pytest.mark.parametrize("change", ["rows", "labels"])
def test_a_backup_that_was_changed_is_not_overwritten(collection: Storage, tmp_path: Path, change: str) -> None:
    to = tmp_path / "backup.birder"
    backup(collection, to)
    used = Storage.open(to)
    if change == "rows":
        write(used, range(500, 501))
    else:
        give_label(used, used.to_arrow()["id"].to_pylist()[:1], "label", "lynx")
    with pytest.raises(FileExistsError, match="has been changed since"):
        backup(collection, to)
    assert Storage.open(to).count() == 24 + (change == "rows")
    assert Storage.open(to).count("label = 'lynx'") == (change == "labels")


def test_a_new_collection_in_the_same_place_does_not_replace_the_backup_of_the_former(
    collection: Storage, tmp_path: Path
) -> None:
    to = tmp_path / "backup.birder"
    backup(collection, to)
    shutil.rmtree(collection.path)
    anew = Storage.create_or_open(collection.path, CARD)
    with pytest.raises(FileExistsError, match="a backup of another collection"):
        backup(anew, to)
    assert Storage.open(to).count() == 24


def test_a_moved_and_a_restored_collection_continue_their_backup(collection: Storage, tmp_path: Path) -> None:
    to = tmp_path / "backup.birder"
    backup(collection, to)
    moved = collection.path.rename(tmp_path / "moved.birder")
    backup(Storage.open(moved), to)
    shutil.rmtree(moved)
    restored = Storage.open(shutil.copytree(to, moved))
    write(restored, range(200, 204))
    assert backup(restored, to).rows == 28
    assert rows_of(to).equals(rows_of(moved))


def test_while_a_version_is_backed_up_nothing_removes_it(
    collection: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = rows_of(collection.path)
    copy = backup_module._copy
    done = False

    def meanwhile(*arguments: object, **options: object) -> None:
        nonlocal done
        if not done:
            done = True
            other = Storage.open(collection.path)
            write(other, range(24), known=True, replaced=9)
            with pytest.raises(CollectionBusyError, match="is being backed up"):
                tidy(other, keep=timedelta(0))
            with other.writing():
                other.compact()
        copy(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(backup_module, "_copy", meanwhile)
    backup(collection, tmp_path / "backup.birder")
    assert rows_of(tmp_path / "backup.birder").equals(expected)
    monkeypatch.undo()
    tidy(collection, keep=timedelta(0))  # it is possible again


def test_versions_that_are_being_backed_up_survive_compaction_however_old_they_are(collection: Storage) -> None:
    table = collection.path / "images.lance"
    versions = len(list((table / "_versions").glob("*.manifest")))
    optimize, ages = type(collection._images).optimize, []

    class Recorded:
        def optimize(self, *, cleanup_older_than: timedelta | None = None) -> None:
            ages.append(cleanup_older_than)
            optimize(collection._images, cleanup_older_than=cleanup_older_than)

    with keeping_versions(collection.path), collection.writing():
        disk.optimize(collection.path, Recorded())  # type: ignore[arg-type]
    assert ages == [timedelta(days=36500)]
    assert len(list((table / "_versions").glob("*.manifest"))) >= versions
    with collection.writing():
        disk.optimize(collection.path, Recorded())  # type: ignore[arg-type]
    assert ages[1] is None


def test_two_backups_at_once_are_refused(collection: Storage, tmp_path: Path) -> None:
    with keeping_versions(collection.path), pytest.raises(CollectionBusyError, match="is being backed up"):
        backup(collection, tmp_path / "backup.birder")
    assert not (tmp_path / "backup.birder").exists()


def test_copied_files_are_flushed_before_the_manifests_name_them(
    collection: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    to = tmp_path / "backup.birder"
    flushed: list[str] = []
    fsync = os.fsync

    def recorded(handle: int) -> None:
        flushed.append(re.sub(r"\.[0-9a-f]{8}\.part$", ".part", str(Path(f"/proc/self/fd/{handle}").readlink())))
        fsync(handle)

    monkeypatch.setattr(os, "fsync", recorded)
    backup(collection, to)
    (manifest,) = (to / "images.lance" / "_versions").glob("*.manifest")
    at = flushed.index(f"{manifest}.part")
    for file in (to / "images.lance" / "data").iterdir():
        assert flushed.index(f"{file}.part") < flushed.index(str(file.parent)) < at
    record = json.loads((to / "backup.json").read_bytes())
    assert record["finished"] and record["source"] == str(collection.path)


def test_a_full_disk_is_reported_and_the_earlier_backup_stays(
    collection: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    to = tmp_path / "backup.birder"
    backup(collection, to)
    before = rows_of(to)
    write(collection, range(100, 140))

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched, pytest.raises(CollectionError, match="No space left on device"):
        patched.setattr(backup_module, "_copy", full)
        backup(collection, to)
    assert rows_of(to).equals(before)
    assert backup(collection, to).rows == 64
