from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import lancedb
import pytest

from birder.collection.store import Collection
from birder.errors import CollectionError, ConfigError
from birder.explore import labels as module
from birder.explore.labels import give_label, history, undo
from tests.server.live import KINDS, make, serving


@pytest.fixture
def collection(tmp_path: Path) -> Collection:
    return make(tmp_path, 12, labelled=6)


@pytest.fixture
def client(collection: Collection) -> Iterator[httpx.Client]:
    with serving(collection.path) as client:
        yield client


def labels(collection: Collection, column: str = "label") -> dict[str, str | None]:
    collection.see_latest()
    table = collection.to_arrow().sort_by("uri")
    return dict(zip(table["id"].to_pylist(), table[column].to_pylist(), strict=True))


def post(client: httpx.Client, address: str, **body: Any) -> dict[str, Any]:
    answer = client.post(address, json=body)
    assert answer.status_code == 200, answer.text
    told: dict[str, Any] = answer.json()
    return told


def test_a_label_is_written_shown_at_once_and_undone(client: httpx.Client, collection: Collection) -> None:
    before = labels(collection)
    ids = list(before)[4:9]
    told = post(client, "labels", ids=[*ids, "not there"], value="lynx")
    assert (told["changed"], told["column"], told["value"], told["can_undo"]) == (5, "label", "lynx", True)
    assert labels(collection) == before | dict.fromkeys(ids, "lynx")
    assert client.get("photos", params={"where": "label = 'lynx'"}).json()["total"] == 5
    (past,) = client.get("labels/history").json()["changes"]
    assert (past["change"], past["value"], past["count"], past["undone"]) == (told["change"], "lynx", 5, False)
    assert post(client, "labels/undo") == {"change": told["change"], "restored": 5, "skipped": 0}
    assert labels(collection) == before
    assert client.get("labels/history").json()["changes"][0]["undone"] is True
    assert client.get("photos", params={"where": "label = 'lynx'"}).json()["total"] == 0


def test_undo_leaves_what_has_been_changed_since(client: httpx.Client, collection: Collection) -> None:
    before = labels(collection)
    ids = list(before)
    first = post(client, "labels", ids=ids[:6], value="lynx")
    post(client, "labels", ids=ids[4:8], value="lion")
    assert post(client, "labels/undo", change=first["change"]) == {
        "change": first["change"],
        "restored": 4,
        "skipped": 2,
    }
    assert labels(collection) == before | dict.fromkeys(ids[4:8], "lion")
    post(client, "labels/undo")  # the last that is not undone: the lions, which were lynxes in part
    assert labels(collection) == before | dict.fromkeys(ids[4:6], "lynx")
    assert client.post("labels/undo").status_code == 409


def test_labels_can_be_taken_away_and_go_into_new_columns(client: httpx.Client, collection: Collection) -> None:
    before = labels(collection)
    ids = list(before)
    assert post(client, "labels", ids=ids, value=None)["changed"] == 6  # the others had none
    assert set(labels(collection).values()) == {None}
    post(client, "labels/undo")
    assert labels(collection) == before
    assert post(client, "labels", ids=ids[:2], column="behaviour", value="asleep")["changed"] == 2
    collection = Collection.open(collection.path)
    assert list(labels(collection, "behaviour").values()) == ["asleep"] * 2 + [None] * 10
    assert "behaviour" in {each["name"] for each in client.get("collection").json()["columns"]}


def test_what_changes_nothing_leaves_no_trace(client: httpx.Client, collection: Collection) -> None:
    some = [id_ for id_, label in labels(collection).items() if label == "owl"]
    told = post(client, "labels", ids=some, value="owl")
    assert (told["changed"], told["can_undo"]) == (0, False)
    assert client.get("labels/history").json() == {"changes": []}


@pytest.mark.parametrize(
    "column", ["id", "uri", "sha256", "embedding", "width", "modified", "Temp C", "night", "_x", "a b", "a`; --", ""]
)
def test_only_columns_of_text_of_the_users_can_be_written(
    client: httpx.Client, collection: Collection, column: str
) -> None:
    before = str(collection.to_arrow().to_pylist())  # nan is not equal to itself
    answer = client.post("labels", json={"ids": list(labels(collection)), "column": column, "value": "x"})
    assert answer.status_code in (400, 422) and isinstance(answer.json()["detail"], str)
    assert str(Collection.open(collection.path).to_arrow().to_pylist()) == before


@pytest.mark.parametrize("value", ["", "  ", "x" * 301, "a\nb", "\x00", "\ud800"])
def test_a_label_is_a_short_printable_text(collection: Collection, value: str) -> None:
    with pytest.raises(ConfigError, match="printable"):
        give_label(collection, list(labels(collection)), "label", value)


def test_hostile_text_is_a_label_like_any_other(client: httpx.Client, collection: Collection) -> None:
    ids = list(labels(collection))[:1]
    for value in ("'; DROP TABLE images; --", "<script>alert(1)</script>", "`\"'", "🦉"):
        post(client, "labels", ids=ids, value=value)
        assert labels(collection)[ids[0]] == value
        where = "label = '" + value.replace("'", "''") + "'"
        assert client.get("photos", params={"where": where}).json()["total"] == 1


def test_while_another_process_writes_labels_are_refused(client: httpx.Client, collection: Collection) -> None:
    with collection.writing():
        for answer in (
            client.post("labels", json={"ids": list(labels(collection))[:1], "value": "x"}),
            client.post("labels/undo"),
        ):
            assert answer.status_code == 409
            assert "Another process is writing" in answer.json()["detail"]
    assert history(collection) == []


def test_a_hundred_thousand_ids_at_most(client: httpx.Client) -> None:
    answer = client.post("labels", json={"ids": ["0"] * 100_001, "value": "x"})
    assert answer.status_code == 422
    assert client.post("labels", json={"ids": [], "value": "x"}).status_code == 422


@pytest.mark.parametrize("few", [0, 200])
@pytest.mark.parametrize("column", ["label", "order", "class", "site", "group"])
def test_few_and_many_rows_are_written_alike(
    collection: Collection, monkeypatch: pytest.MonkeyPatch, few: int, column: str
) -> None:
    monkeypatch.setattr(module, "_FEW", few)
    ids = list(labels(collection))
    for number, value in enumerate(("a'b", "c", None, "`d`")):
        give_label(collection, ids[number : number + 5], column, value)
    expected = ["a'b", "c", None, *["`d`"] * 5, *[None] * 4]
    rest = [f"S{number % 3}" for number in range(12)]
    if column == "site":
        expected[8:] = rest[8:]
    assert list(labels(Collection.open(collection.path), column).values()) == expected
    for _ in range(4):
        undo(collection)
    before = {"label": [*(KINDS * 2)[:6], *[None] * 6], "site": rest}.get(column, [None] * 12)
    assert list(labels(Collection.open(collection.path), column).values()) == before


def test_many_changes_leave_few_pieces(collection: Collection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_COMPACT_EVERY", 10)
    ids = list(labels(collection))
    for number in range(20):
        give_label(collection, ids[number % 12 : number % 12 + 1], "label", f"kind {number}")
    images = lancedb.connect(collection.path).open_table("images")
    assert images.stats()["fragment_stats"]["num_fragments"] <= 3
    assert len(history(collection)) == 20
    for _ in range(20):
        undo(collection)
    assert list(labels(collection).values()) == [*(KINDS * 2)[:6], *[None] * 6]


class DiedError(Exception):
    """What stands for the process dying at a place."""


@pytest.mark.parametrize("place", ["before the rows", "after the rows"])
def test_a_label_cut_short_between_the_two_writes_is_settled(
    collection: Collection, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    before = labels(collection)
    ids = list(before)[:8]
    real = module._write

    def dying(*arguments: Any) -> None:
        if place == "after the rows":
            real(*arguments)
        raise DiedError

    monkeypatch.setattr(module, "_write", dying)
    with pytest.raises(DiedError):
        give_label(Collection.open(collection.path), ids, "label", "lynx")
    monkeypatch.undo()
    made = place == "after the rows"
    assert labels(collection) == (before | dict.fromkeys(ids, "lynx") if made else before)
    assert history(collection) == []  # not settled yet
    if made:
        assert undo(collection).restored == 8
        assert labels(collection) == before
    else:
        with pytest.raises(CollectionError, match="nothing to undo"):
            undo(collection)
    assert [change.undone for change in history(collection)] == ([True] if made else [])


@pytest.mark.parametrize("place", ["before the rows", "after the rows"])
def test_an_undo_cut_short_between_the_two_writes_is_settled(
    collection: Collection, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    before = labels(collection)
    ids = list(before)[:8]
    give_label(collection, ids, "label", "lynx")
    real = module._write

    def dying(*arguments: Any) -> None:
        if place == "after the rows":
            real(*arguments)
        raise DiedError

    monkeypatch.setattr(module, "_write", dying)
    with pytest.raises(DiedError):
        undo(Collection.open(collection.path))
    monkeypatch.undo()
    if place == "after the rows":
        with pytest.raises(CollectionError, match="nothing to undo"):
            undo(collection)
    else:
        assert undo(collection).restored == 8
    assert labels(collection) == before
    assert [change.undone for change in history(collection)] == [True]


LABELLING = """
import sys
from birder.collection.store import Collection
from birder.explore import labels as module
from birder.explore.labels import give_label, undo
collection = Collection.open(sys.argv[1])
ids = sorted(collection.to_arrow()["id"].to_pylist())
print("begun", flush=True)
for number in range(1000):
    give_label(collection, ids, "label", f"kind {number}")
    if number % 3 == 2:
        undo(collection)
"""


@pytest.mark.slow
def test_killed_at_any_moment_the_collection_is_whole_and_the_journal_agrees(tmp_path: Path) -> None:
    collection = make(tmp_path, 8)
    for attempt in range(6):
        child = subprocess.Popen([sys.executable, "-c", LABELLING, str(collection.path)], stdout=subprocess.PIPE)
        assert child.stdout is not None and child.stdout.readline() == b"begun\n"
        time.sleep(0.05 + 0.037 * attempt)
        child.send_signal(signal.SIGKILL)
        child.wait()
        collection = Collection.open(collection.path)
        now = set(labels(collection).values())
        assert len(now) == 1, "a change is made in all of its rows or in none"
        ids = list(labels(collection))
        give_label(collection, ids[:1], "label", f"settled {attempt}")  # settles what was cut short
        undo(collection)
        states = lancedb.connect(collection.path).open_table("labels").to_arrow()["state"].to_pylist()
        assert set(states) <= {"done", "undone"}
        assert set(labels(collection).values()) == now
        last = next(change for change in history(collection) if not change.undone)
        assert now == {last.value}
