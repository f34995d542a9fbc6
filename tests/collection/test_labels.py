"""Labels: a small journal beside the rows, folded into them many at a time, and never lost."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
import unicodedata
import uuid
import warnings
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import lancedb
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from birder.collection.journal import FILE, Journal
from birder.collection.labels import checked_name, checked_value, give_label, history, ids_of, undo
from birder.collection.pending import relabelled
from birder.collection.search import search
from birder.collection.storage import Row, Storage
from birder.collection.whole import TornCopyWarning
from birder.errors import CollectionError, ConfigError
from birder.sources import Stamp
from tests.factory import KINDS, collection_of_images


@pytest.fixture
def collection(tmp_path: Path) -> Storage:
    return collection_of_images(tmp_path, 12, labelled=6)


def labels(collection: Storage, column: str = "label") -> dict[str, str | None]:
    collection.see_latest()
    table = collection.to_arrow().sort_by("uri")
    return dict(zip(table["id"].to_pylist(), table[column].to_pylist(), strict=True))


def in_rows(collection: Storage, column: str = "label") -> list[str | None]:
    """What the table itself has, whatever is in the journal."""
    images = lancedb.connect(collection.path).open_table("images")
    values: list[str | None] = images.to_arrow().sort_by("uri")[column].to_pylist()
    return values


@pytest.mark.parametrize(
    "value",
    ["", "  ", "x" * 301, "a\nb", "\x00", "\ud800", "a\u202eb", "\u200c\u200d", "\ufe0f", "a\u200bb", "\u2066a"],
)
def test_a_label_is_a_short_printable_text(collection: Storage, value: str) -> None:
    with pytest.raises(ConfigError, match="printable"):
        give_label(collection, list(labels(collection)), "label", value)
    with pytest.raises(ConfigError, match="printable"):
        give_label(collection, list(labels(collection)), "label", "x", by=value)
    assert not (collection.path / FILE).exists()


@pytest.mark.parametrize(
    "value", ["می‌خواهم", "ക്ഷൻ\u200d", "👨‍👩‍👧‍👦", "❤️", "葛\U000e0100", "x" * 300, "🦉" * 300, "e\u0301" * 300]
)
def test_all_scripts_and_emoji_are_labels(collection: Storage, value: str) -> None:
    ids = list(labels(collection))
    change = give_label(collection, ids[:1], "label", value)
    assert change.value == checked_value(value) == unicodedata.normalize("NFC", value)
    assert labels(collection)[ids[0]] == change.value
    assert checked_name("Größe \u0645\u06cc\u200c\u062e") == "Größe \u0645\u06cc\u200c\u062e"


def test_a_label_is_a_small_line_until_it_is_folded_with_others(collection: Storage) -> None:
    before = labels(collection)
    ids = list(before)
    give_label(collection, ids[:1], "label", "lynx", by="Ada")  # which makes the file
    size = (collection.path / FILE).stat().st_size
    version = lancedb.connect(collection.path).open_table("images").version
    for number in range(10):
        give_label(collection, ids[1:2], "label", f"kind {number}")
    assert (collection.path / FILE).stat().st_size - size < 10 * 400
    assert in_rows(collection) == list(before.values())
    assert collection.fold_labels() == 2
    assert in_rows(collection) == list((before | {ids[0]: "lynx", ids[1]: "kind 9"}).values())
    assert collection.version == version + 1
    assert collection.fold_labels() == 0
    assert collection.version == version + 1


@pytest.mark.parametrize("column", ["label", "order", "class", "site", "group"])
def test_any_column_of_text_is_written_and_undone(collection: Storage, column: str) -> None:
    ids = list(labels(collection))
    for number, value in enumerate(("a'b", "c", None, "`d`")):
        give_label(collection, ids[number : number + 5], column, value)
    expected = ["a'b", "c", None, *["`d`"] * 5, *[None] * 4]
    rest = [f"S{number % 3}" for number in range(12)]
    if column == "site":
        expected[8:] = rest[8:]
    assert list(labels(Storage.open(collection.path), column).values()) == expected
    for number in range(4):
        undo(collection)
        if number == 1:
            collection.see_latest()
    before = {"label": [*(KINDS * 2)[:6], *[None] * 6], "site": rest}.get(column, [None] * 12)
    assert list(labels(Storage.open(collection.path), column).values()) == before


def test_labels_by_people_take_precedence_over_later_runs(collection: Storage) -> None:
    """A file that changed is embedded again, with the name of its folder; a label by a person stays."""
    table = collection.to_arrow().sort_by("uri").to_pylist()
    give_label(collection, [table[0]["id"]], "label", "lynx")
    give_label(collection, [table[1]["id"]], "label", None)
    give_label(collection, [table[2]["id"]], "label", "wolf")
    collection.see_latest()
    undo(collection)  # pending
    with collection.writing():
        rows = [Row(row["uri"], row["sha256"], Stamp(1, 1), None, {"label": "folder"}, known=True) for row in table[:4]]
        collection.write(rows)
    assert list(labels(collection).values())[:4] == ["lynx", None, table[2]["label"], "folder"]
    assert undo(collection).restored == 1
    assert undo(collection).restored == 1
    assert list(labels(collection).values())[:2] == [table[0]["label"], table[1]["label"]]


def test_in_a_read_only_folder_a_copy_with_the_labels_is_read(collection: Storage) -> None:
    before = labels(collection)
    ids = list(before)
    give_label(collection, ids[:3], "label", "lynx")
    locks = [collection.path / name for name in ("lock", "write.lock", "run.lock")]
    for lock in locks:
        lock.unlink(missing_ok=True)
        lock.mkdir()
    reader = Storage.open(collection.path)
    assert labels(reader) == before | dict.fromkeys(ids[:3], "lynx")
    assert reader.count("label = 'lynx'") == 3
    assert len(search(reader, ids=ids[:1], where="label = 'lynx'")) == 2
    assert in_rows(collection) == list(before.values())
    with pytest.raises(CollectionError, match="Cannot write"):
        reader.fold_labels()
    for lock in locks:
        lock.rmdir()
    reader.see_latest()
    assert in_rows(collection) == list(labels(reader).values())
    assert reader.count("label = 'lynx'") == 3


@pytest.mark.parametrize("tail", [b'{"act":"x","at', b"\0" * 5000, b"{}", b'{"act": "\xff'])
def test_a_torn_last_line_is_cut_off(collection: Storage, tail: bytes) -> None:
    before = labels(collection)
    ids = list(before)
    give_label(collection, ids[:1], "label", "lynx")
    file = collection.path / FILE
    whole = file.read_bytes()
    file.write_bytes(whole + tail)
    assert len(history(Journal(collection.path)).acts) == 1
    give_label(collection, ids[1:2], "label", "wolf")
    assert file.read_bytes().startswith(whole + b'{"act":')
    assert labels(Storage.open(collection.path)) == before | {ids[0]: "lynx", ids[1]: "wolf"}


def test_a_damaged_line_of_the_journal_loses_only_itself_and_is_reported(collection: Storage) -> None:
    ids = list(labels(collection))
    for number in range(3):
        give_label(collection, ids[number : number + 1], "label", f"kind {number}")
    file = collection.path / FILE
    lines = file.read_bytes().splitlines(keepends=True)
    lines[1] = b"\0" * (len(lines[1]) - 1) + b"\n"
    file.write_bytes(b"".join(lines))
    with pytest.warns(UserWarning, match="is damaged: the line at byte"):
        values = labels(Storage.open(collection.path))
    assert (values[ids[0]], values[ids[2]]) == ("kind 0", "kind 2")


def test_labels_that_a_full_disk_refuses_are_not_in_the_journal(
    collection: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = list(labels(collection))
    give_label(collection, ids[:1], "label", "lynx")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("birder.collection.journal.os.fsync", full)
    with pytest.raises(CollectionError, match="Free some space"):
        give_label(collection, ids[1:2], "label", "wolf")
    monkeypatch.undo()
    assert [act.values for act in history(collection.journal).acts] == [[("lynx", 1)]]
    give_label(collection, ids[1:2], "label", "wolf")
    assert [act.values for act in history(Journal(collection.path)).acts] == [[("wolf", 1)], [("lynx", 1)]]


def test_a_copy_whose_rows_are_older_than_its_journal_gets_the_labels_again(
    collection: Storage, tmp_path: Path
) -> None:
    ids = list(labels(collection))
    give_label(collection, ids[:3], "label", "lynx")
    collection.fold_labels()
    expected = labels(collection)
    copy = tmp_path / "copy.birder"
    shutil.copytree(collection.path, copy)
    data = sorted((copy / "images.lance" / "data").iterdir(), key=lambda file: file.stat().st_mtime)
    data[-1].unlink()  # what the fold wrote had not been copied yet
    with pytest.warns(TornCopyWarning):
        opened = Storage.open(copy)
    assert labels(opened) == expected
    assert in_rows(opened) == list(expected.values())


# A former version's journal: a table, whose changes were made in the rows at once.
OLD = pa.schema(
    [
        pa.field("change", pa.string(), nullable=False),
        pa.field("at", pa.timestamp("us", "UTC"), nullable=False),
        pa.field("column", pa.string(), nullable=False),
        pa.field("value", pa.string()),
        pa.field("count", pa.int64(), nullable=False),
        pa.field("state", pa.string(), nullable=False),
        pa.field("uris", pa.list_(pa.string()), nullable=False),
        pa.field("before", pa.list_(pa.string()), nullable=False),
    ]
)


def old_change(number: int, state: str, value: str, uris: list[str], before: list[str | None]) -> dict[str, Any]:
    at = datetime(2026, 1, 1, 0, number, tzinfo=UTC)
    return {
        **{"change": f"c{number}", "at": at, "column": "label", "value": value, "count": len(uris), "state": state},
        **{"uris": uris, "before": before},
    }


def test_a_former_versions_journal_is_read_and_replaced_without_loss(collection: Storage) -> None:
    uris = collection.to_arrow().sort_by("uri")["uri"].to_pylist()
    changes = [
        old_change(0, "done", "lynx", uris[:2], ["owl", "fox"]),
        old_change(1, "undone", "wolf", uris[1:3], ["lynx", "o'hare"]),
        old_change(2, "undoing", "bear", uris[4:5], ["owl"]),
        old_change(3, "begun", "hare", uris[5:6], ["fox"]),
    ]
    with collection.writing():  # the rows as those changes left them, in two cases cut short
        values = pa.array(["lynx", "lynx", "bear"])
        collection.update(pa.table({"uri": pa.array([uris[0], uris[1], uris[4]]), "label": values}))
    lancedb.connect(collection.path).create_table("labels", pa.Table.from_pylist(changes, schema=OLD))
    collection = Storage.open(collection.path)
    now = labels(collection)
    ids = list(now)
    assert list(now.values())[:6] == ["lynx", "lynx", "o'hare", "Größe", "owl", "hare"]
    page = history(collection.journal)
    assert [(act.act, act.undone) for act in page.acts] == [("c3", False), ("c2", True), ("c1", True), ("c0", False)]
    assert [act.former for act in page.acts][:3] == [[("fox", 1)], [("owl", 1)], [("lynx", 1), ("o'hare", 1)]]
    word = collection.journal.word("label", ids[1])
    assert word is not None and word.change == "c0"
    give_label(collection, ids[:1], "label", "lion")
    assert not (collection.path / "labels.lance").exists()
    assert undo(collection).restored == 1
    assert undo(collection, "c0").restored == 2
    assert list(labels(Storage.open(collection.path)).values())[:2] == ["owl", "fox"]
    assert history(Journal(collection.path)).total == 5


def test_an_incomplete_table_of_a_former_version_locks_nothing(collection: Storage) -> None:
    ids = list(labels(collection))
    (collection.path / "labels.lance" / "_versions").mkdir(parents=True)
    assert history(collection.journal).total == 0
    give_label(collection, ids[:1], "label", "lynx")
    assert labels(Storage.open(collection.path))[ids[0]] == "lynx"


class Journaled(RuleBasedStateMachine):
    """Random labels, undos, folds, crashes and restarts, by two processes' worth of handles; against a dictionary."""

    folder: Path
    number = 0

    @initialize()
    def begin(self) -> None:
        Journaled.number += 1
        path = self.folder / f"{Journaled.number}.birder"
        shutil.copytree(self.folder / "c.birder", path)
        self.handles = [Storage.open(path), Storage.open(path)]
        self.model = labels(self.handles[0])
        self.ids = list(self.model)
        self.acts: list[tuple[str, str | None, str | None, dict[str, str | None]]] = []

    @rule(
        who=st.integers(0, 1),
        places=st.sets(st.integers(0, 5), min_size=1),
        value=st.sampled_from(["a", "b", None]),
        by=st.sampled_from(["Ada", None]),
    )
    def label(self, who: int, places: set[int], value: str | None, by: str | None) -> None:
        some = [self.ids[place] for place in sorted(places)]
        change = give_label(self.handles[who], some, "label", value, by=by)
        former = {id_: self.model[id_] for id_ in some if self.model[id_] != value}
        assert change.count == len(former)
        if former:
            self.acts.append((change.act, by, value, former))
            self.model |= dict.fromkeys(former, value)

    @rule(who=st.integers(0, 1), whose=st.sampled_from([None, ("Ada",), (None,)]))
    def undo_last(self, who: int, whose: tuple[str | None] | None) -> None:
        mine = [act for act in self.acts if whose is None or act[1] == whose[0]]
        if not mine:
            with pytest.raises(CollectionError, match="nothing to undo"):
                undo(self.handles[who], whose=whose)
            return
        act, _, value, former = mine[-1]
        undone = undo(self.handles[who], whose=whose)
        back = {id_: old for id_, old in former.items() if self.model[id_] == value}
        assert undone == (act, len(back), len(former) - len(back))
        self.model |= back
        self.acts.remove(mine[-1])

    @rule(who=st.integers(0, 1))
    def fold(self, who: int) -> None:
        self.handles[who].fold_labels()
        assert in_rows(self.handles[who]) == list(self.model.values())

    @rule(who=st.integers(0, 1))
    def die_between_the_rows_and_the_journal(self, who: int) -> None:
        collection = self.handles[who]
        cells, _ = collection.journal.pending(lancedb.connect(collection.path).open_table("images").version)
        with collection.writing():
            changed = relabelled(collection.snapshot(), cells)
            if changed.num_rows:
                collection.update(changed)
        self.handles[who] = Storage.open(collection.path, labels=False)

    @rule(tail=st.binary(min_size=1, max_size=40).filter(lambda tail: b"\n" not in tail))
    def die_while_writing_a_line(self, tail: bytes) -> None:
        file = self.handles[0].path / FILE
        if file.exists():
            with file.open("ab") as opened:
                opened.write(tail)
        self.handles[0] = Storage.open(self.handles[0].path, labels=False)

    @rule(who=st.integers(0, 1))
    def commit_something_else(self, who: int) -> None:
        collection = self.handles[who]
        with collection.writing():
            uri = collection.to_arrow().sort_by("uri")["uri"][0]
            collection.update(pa.table({"uri": pa.array([uri]), "site": pa.array([str(uuid.uuid4())])}))

    @invariant()
    def everybody_sees_the_same(self) -> None:
        if not hasattr(self, "handles"):
            return
        path = self.handles[0].path
        images = lancedb.connect(path).open_table("images")
        cells, _ = Journal(path).pending(images.version)
        rows = dict(zip(self.ids, in_rows(self.handles[0]), strict=True))
        assert rows | cells.get("label", {}) == self.model
        past = history(Journal(path), 1000).acts
        assert {act.act for act in past if not act.undone} == {act for act, *_ in self.acts}


@pytest.mark.slow
def test_any_sequence_of_labels_undos_folds_and_crashes_is_as_a_simple_model_says(tmp_path: Path) -> None:
    collection_of_images(tmp_path, 6, labelled=3)
    machine = type("Here", (Journaled,), {"folder": tmp_path})
    checks = [HealthCheck.too_slow, HealthCheck.data_too_large]
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=25, stateful_step_count=20, deadline=None, suppress_health_check=checks, derandomize=True
        ),
    )


LABELLING = """
import sys
from birder.collection.labels import give_label, undo
from birder.collection.storage import Storage
collection = Storage.open(sys.argv[1])
ids = sorted(collection.to_arrow()["id"].to_pylist())
print("begun", flush=True)
for number in range(100000):
    give_label(collection, ids, "label", f"{sys.argv[2]} {number}")
    print(number, flush=True)
    if number % 5 == 3:
        collection.fold_labels()
"""


def killed(path: Path, name: str, seconds: float) -> int:
    """Label in a process that is killed; the last label that it said it had given."""
    command = [sys.executable, "-c", LABELLING, str(path), name]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None and child.stdout.readline() == "begun\n"
    time.sleep(seconds)
    child.send_signal(signal.SIGKILL)
    numbers = child.stdout.read().split("\n")[:-1]
    child.wait()
    return int(numbers[-1]) if numbers else -1


@pytest.mark.slow
def test_killed_at_any_moment_no_label_that_was_given_is_lost(tmp_path: Path) -> None:
    collection = collection_of_images(tmp_path, 8)
    for attempt in range(8):
        last = killed(collection.path, f"run {attempt}", 0.05 + 0.037 * attempt)
        collection = Storage.open(collection.path)
        (value,) = set(labels(collection).values())  # in all of its rows or in none
        assert value is not None
        kind, number = value.rsplit(" ", 1)
        if last >= 0:
            assert kind == f"run {attempt}" and int(number) in (last, last + 1)
        acts = history(collection.journal).acts
        assert acts[0].values == [(value, 8)]
        assert sorted(ids_of(collection.journal, acts[0].act, 100)) == sorted(labels(collection))
        assert undo(collection).restored == 8


@pytest.fixture
def labelling(tmp_path: Path) -> Iterator[tuple[Storage, subprocess.Popen[str]]]:
    collection = collection_of_images(tmp_path, 8)
    command = [sys.executable, "-c", LABELLING, str(collection.path), "other"]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None and child.stdout.readline() == "begun\n"
    yield collection, child
    child.kill()
    child.wait()


@pytest.mark.slow
def test_two_processes_label_at_once_and_nothing_is_lost(
    labelling: tuple[Storage, subprocess.Popen[str]],
) -> None:
    collection, child = labelling
    ids = sorted(labels(collection))
    assert child.stdout is not None
    mine = []
    for number in range(40):
        if number == 20:
            child.stdout.readline()  # by now it has given one, however slowly it began
        mine.append(give_label(collection, ids[:1], "note", f"mine {number}", by="me").act)
    child.kill()
    said = child.stdout.read().split("\n")[:-1]
    theirs = int(said[-1]) if said else 0
    acts = history(Journal(collection.path), 100_000).acts
    assert {act.act for act in acts if act.by == "me"} == set(mine)
    assert sum(act.by is None for act in acts) in (theirs + 1, theirs + 2)
    assert labels(collection, "note")[ids[0]] == "mine 39"
    lines = (collection.path / FILE).read_bytes().splitlines()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert all(json.loads(line) for line in lines)
