"""Labels over HTTP: given, shown at once, undone, sent to open pages, many at a time, and small on disk."""

from __future__ import annotations

import asyncio
import functools
import json
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from birder.collection.journal import Journal
from birder.collection.labels import Recorder, Wish, history
from birder.collection.storage import Storage
from birder.server import label_desk
from birder.server.catalogue import Catalogue
from birder.server.label_desk import LabelDesk
from tests.factory import collection_of_images, collection_of_vectors, images_of
from tests.server.live import awaited, serving


@pytest.fixture
def collection(tmp_path: Path) -> Storage:
    return collection_of_images(tmp_path, 12, labelled=6)


@pytest.fixture
def client(collection: Storage) -> Iterator[httpx.Client]:
    with serving(collection.path) as client:
        yield client


def labels(collection: Storage, column: str = "label") -> dict[str, str | None]:
    collection.see_latest()
    table = collection.to_arrow().sort_by("uri")
    return dict(zip(table["id"].to_pylist(), table[column].to_pylist(), strict=True))


def post(client: httpx.Client, address: str, **body: Any) -> dict[str, Any]:
    answer = client.post(address, json=body)
    assert answer.status_code == 200, answer.text
    told: dict[str, Any] = answer.json()
    return told


def acts(client: httpx.Client, **parameters: Any) -> list[dict[str, Any]]:
    told: list[dict[str, Any]] = client.get("labels/history", params=parameters).json()["acts"]
    return told


def shown(client: httpx.Client, column: str = "label") -> dict[str, str | None]:
    """What the page shows; unlike `labels`, without folding anything."""
    ids = client.get("ids").json()["ids"]
    return {id_: client.get(f"photos/{id_}").json()["row"][column] for id_ in ids}


def test_a_label_is_written_shown_at_once_and_undone(client: httpx.Client, collection: Storage) -> None:
    before = labels(collection)
    ids = list(before)[4:9]
    told = post(client, "labels", ids=[*ids, "not there"], value="lynx", by="Ada")
    assert (told["changed"], told["column"], told["value"], told["can_undo"]) == (5, "label", "lynx", True)
    assert told["changes"] == [{"change": told["change"], "column": "label", "value": "lynx", "changed": 5}]
    assert shown(client) == labels(collection) == before | dict.fromkeys(ids, "lynx")
    assert client.get("photos", params={"where": "label = 'lynx'"}).json()["total"] == 5
    (past,) = acts(client)
    assert past.pop("at").endswith("+00:00")
    assert sorted(past.pop("former"), key=str) == sorted(
        ({"value": before[id_], "count": n} for id_, n in ((ids[0], 1), (ids[1], 1), (ids[2], 3))), key=str
    )
    assert past == {
        "act": told["act"],
        "by": "Ada",
        "column": "label",
        "values": [{"value": "lynx", "count": 5}],
        "count": 5,
        "ids": past["ids"],
        "undone": False,
    }
    assert sorted(past["ids"]) == sorted(ids)
    assert sorted(client.get(f"labels/history/{told['act']}").json()["ids"]) == sorted(ids)
    assert post(client, "labels/undo") == {"act": told["act"], "restored": 5, "skipped": 0}
    assert shown(client) == labels(collection) == before
    assert acts(client)[0]["undone"] is True
    assert client.get("photos", params={"where": "label = 'lynx'"}).json()["total"] == 0
    assert client.get("labels/history/none").status_code == 404


def test_undo_leaves_labels_that_have_been_changed_since(client: httpx.Client, collection: Storage) -> None:
    before = labels(collection)
    ids = list(before)
    first = post(client, "labels", ids=ids[:6], value="lynx")
    post(client, "labels", ids=ids[4:8], value="lion")
    undone = {"act": first["act"], "restored": 4, "skipped": 2}
    assert post(client, "labels/undo", change=first["change"]) == undone
    assert shown(client) == before | dict.fromkeys(ids[4:8], "lion")
    post(client, "labels/undo")  # the last that is not undone: the lions, which were lynxes in part
    assert labels(collection) == shown(client) == before | dict.fromkeys(ids[4:6], "lynx")
    assert client.post("labels/undo").status_code == 409


def test_undo_without_an_act_is_of_ones_own(client: httpx.Client, collection: Storage) -> None:
    ids = list(labels(collection))
    before = shown(client)
    mine = post(client, "labels", ids=ids[:2], value="lynx", by="Ada")
    nobodys = post(client, "labels", ids=ids[2:3], value="lion")
    post(client, "labels", ids=ids[3:5], value="wolf", by="Ben")
    assert post(client, "labels/undo", by="Ada")["act"] == mine["act"]
    answer = client.post("labels/undo", json={"by": "Ada"})
    assert answer.status_code == 409 and "by Ada" in answer.json()["detail"]
    assert post(client, "labels/undo", by=None)["act"] == nobodys["act"]
    assert client.post("labels/undo", json={"by": None}).status_code == 409
    assert shown(client) == before | dict.fromkeys(ids[3:5], "wolf")
    assert [(act["by"], act["undone"]) for act in acts(client)] == [("Ben", False), (None, True), ("Ada", True)]
    assert [act["by"] for act in acts(client, by="Ada")] == ["Ada"]


def test_an_act_of_several_changes_is_one_line_of_the_history_and_one_undo(
    client: httpx.Client, collection: Storage
) -> None:
    before = labels(collection)
    ids = list(before)
    act = str(uuid.uuid4())
    changes = [{"ids": ids[:3], "column": "label", "value": "lynx"}, {"ids": ids[3:5], "column": "label", "value": "a"}]
    told = post(client, "labels", act=act, by="Ada", changes=changes)
    assert (told["act"], told["changed"], len(told["changes"]), "change" in told) == (act, 5, 2, False)
    post(client, "labels", act=act, by="Ada", ids=ids[5:7], value="lynx")
    (past,) = acts(client)
    assert (past["act"], past["count"]) == (act, 7)
    assert past["values"] == [{"value": "lynx", "count": 5}, {"value": "a", "count": 2}]
    assert post(client, "labels/undo", act=act) == {"act": act, "restored": 7, "skipped": 0}
    assert shown(client) == labels(collection) == before


def test_a_repeated_label_request_changes_nothing(client: httpx.Client, collection: Storage) -> None:
    ids = list(labels(collection))
    name = str(uuid.uuid4())
    first = post(client, "labels", change=name, ids=ids[:3], value="lynx")
    post(client, "labels", ids=ids[:2], value="lion")
    now = shown(client)
    assert post(client, "labels", change=name, ids=ids[:3], value="lynx") == first
    assert post(client, "labels", changes=[{"change": name, "ids": ids[:3], "value": "lynx"}])["changed"] == 3
    assert shown(client) == now
    assert len(acts(client)) == 2
    # also one that changed nothing at first
    name = str(uuid.uuid4())
    assert post(client, "labels", change=name, ids=ids[:2], value="lion")["changed"] == 0
    post(client, "labels/undo")
    assert post(client, "labels", change=name, ids=ids[:2], value="lion")["changed"] == 0


def test_the_history_comes_in_pages(client: httpx.Client, collection: Storage) -> None:
    ids = list(labels(collection))
    for number in range(7):
        post(client, "labels", ids=ids[:1], value=f"kind {number}")
    seen, after = [], None
    while True:
        page = client.get("labels/history", params={"limit": 3} | ({} if after is None else {"after": after})).json()
        assert page["total"] == 7
        seen += [act["values"][0]["value"] for act in page["acts"]]
        after = page["next"]
        if after is None:
            break
    assert seen == [f"kind {number}" for number in reversed(range(7))]


def test_labels_can_be_removed_and_given_in_new_columns(client: httpx.Client, collection: Storage) -> None:
    before = labels(collection)
    ids = list(before)
    assert post(client, "labels", ids=ids, value=None)["changed"] == 6  # the others had none
    assert set(shown(client).values()) == set(labels(collection).values()) == {None}
    post(client, "labels/undo")
    assert labels(collection) == before
    assert post(client, "labels", ids=ids[:2], column="behaviour", value="asleep")["changed"] == 2
    assert list(shown(client, "behaviour").values()) == ["asleep"] * 2 + [None] * 10
    collection = Storage.open(collection.path)
    assert list(labels(collection, "behaviour").values()) == ["asleep"] * 2 + [None] * 10
    columns = {each["name"]: each["filled"] for each in client.get("collection").json()["columns"]}
    assert columns["behaviour"] == 2 and "label_source" not in columns


def test_a_label_that_changes_nothing_is_not_in_the_history(client: httpx.Client, collection: Storage) -> None:
    some = [id_ for id_, label in labels(collection).items() if label == "owl"]
    first = post(client, "labels", ids=some, value="owl")  # what a folder or table said is now this person's word
    assert (first["changed"], first["can_undo"]) == (len(some), True)
    again = post(client, "labels", ids=some, value="owl")
    assert (again["changed"], again["can_undo"]) == (0, False)
    nothing = [id_ for id_, label in labels(collection).items() if label is None]
    assert post(client, "labels", ids=nothing, value=None)["changed"] == 0
    assert client.get("labels/history").json()["total"] == 1


@pytest.mark.parametrize(
    "column",
    ["id", "uri", "sha256", "embedding", "width", "label_source", "Temp C", "night", "_x", "a b", "a`; --", ""],
)
@pytest.mark.slow
def test_only_columns_of_text_of_the_users_can_be_written(
    client: httpx.Client, collection: Storage, column: str
) -> None:
    before = str(collection.to_arrow().to_pylist())  # nan is not equal to itself
    answer = client.post("labels", json={"ids": list(labels(collection)), "column": column, "value": "x"})
    assert answer.status_code in (400, 422) and isinstance(answer.json()["detail"], str)
    assert str(Storage.open(collection.path).to_arrow().to_pylist()) == before


def test_hostile_text_is_a_label_like_any_other(client: httpx.Client, collection: Storage) -> None:
    ids = list(labels(collection))[:1]
    for value in (
        "'; DROP TABLE images; --",
        "<script>alert(1)</script>",
        "`\"'",
        "🦉",
        "شیر\u200cها",
        "👨\u200d👩\u200d👧",
    ):
        post(client, "labels", ids=ids, value=value, by=value)
        assert shown(client)[ids[0]] == value
        where = "label = '" + value.replace("'", "''") + "'"
        assert client.get("photos", params={"where": where}).json()["total"] == 1
        assert acts(client)[0]["by"] == value


@pytest.mark.parametrize("body", [{"value": "x" * 301}, {"value": "a\nb"}, {"value": "x", "by": "a\u202eb"}])
def test_invisible_labels_are_refused(client: httpx.Client, collection: Storage, body: dict[str, str]) -> None:
    answer = client.post("labels", json={"ids": list(labels(collection))[:1], **body})
    assert answer.status_code == 400 and "printable" in answer.json()["detail"]


def test_labels_are_given_while_another_process_writes_rows(client: httpx.Client, collection: Storage) -> None:
    before = labels(collection)
    ids = list(before)
    with collection.writing():
        told = post(client, "labels", ids=ids[:2], value="lynx")
        assert shown(client) == before | dict.fromkeys(ids[:2], "lynx")
        post(client, "labels/undo", act=told["act"])
        post(client, "labels", ids=ids[:1], value="lynx")
    assert labels(collection) == before | {ids[0]: "lynx"}


def test_a_hundred_thousand_ids_at_most(client: httpx.Client) -> None:
    for body in (
        {"ids": ["0"] * 100_001, "value": "x"},
        {"ids": [], "value": "x"},
        {"changes": [{"ids": ["0"] * 50_001, "value": "x"}] * 2},
        {"value": "x"},
    ):
        assert client.post("labels", json=body).status_code == 422


def test_filters_orders_counts_and_searches_see_labels_that_are_not_in_the_rows_yet(
    client: httpx.Client, collection: Storage
) -> None:
    ids = list(labels(collection))
    version = Storage.open(collection.path, labels=False).version
    post(client, "labels", ids=ids[3:6], value="lynx")
    post(client, "labels", ids=ids[:1], value=None)
    post(client, "labels", ids=ids[6:7], column="site", value="Z")
    assert client.get("ids", params={"where": "label = 'lynx'"}).json()["ids"] == ids[3:6]
    assert client.get("ids", params={"where": "label IS NULL"}).json()["ids"] == [ids[0], *ids[6:]]
    assert client.get("ids", params={"where": "label = 'lynx' AND night"}).json()["ids"] == ids[4:5]
    assert client.get("ids", params={"order": "-site"}).json()["ids"][0] == ids[6]
    values = client.get("columns/label/values").json()
    assert (values["values"][0], values["nulls"]) == ({"value": "lynx", "count": 3}, 7)
    assert client.get("stats").json()["rows"][-1]["count"] == 7
    found = post(client, "search", ids=[ids[0]], where="label = 'lynx'")["photos"]
    assert sorted(each["id"] for each in found) == sorted(ids[3:6]) and {each["label"] for each in found} == {"lynx"}
    found = client.get(f"photos/{ids[0]}/neighbours", params={"where": "label IS NULL OR site = 'Z'"}).json()["photos"]
    assert sorted(each["id"] for each in found) == sorted(ids[6:])
    classes = {each["name"]: each["count"] for each in client.get("suggest").json()["classes"]}
    assert classes == {"fox": 1, "lynx": 3, "o'hare": 1}
    assert Storage.open(collection.path, labels=False).version == version, "nothing was folded for that"


def test_more_pending_labels_than_a_filter_can_name_are_folded_for_a_search(
    client: httpx.Client, collection: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("birder.server.catalogue._MOST_NAMED", 2)
    ids = list(labels(collection))
    post(client, "labels", ids=ids[3:8], value="lynx")
    found = post(client, "search", ids=[ids[0]], where="label = 'lynx'")["photos"]
    assert sorted(each["id"] for each in found) == sorted(ids[3:8])


@pytest.mark.slow
def test_labels_are_folded_when_many_are_pending_when_it_is_quiet_and_at_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(label_desk, "FOLD_ROWS", 8)
    monkeypatch.setattr(label_desk, "_LOOK_EVERY", 0.05)
    collection = collection_of_images(tmp_path, 12, labelled=0)

    def in_rows() -> int:
        return Storage.open(collection.path, labels=False).count("label = 'lynx'")

    def soon(count: int) -> bool:
        end = time.monotonic() + 10
        while in_rows() != count and time.monotonic() < end:
            time.sleep(0.02)
        return in_rows() == count

    with serving(collection.path) as client:
        ids = client.get("ids").json()["ids"]
        post(client, "labels", ids=ids[:7], value="lynx")
        time.sleep(0.2)
        assert in_rows() == 0
        post(client, "labels", ids=ids[7:8], value="lynx")
        assert soon(8)
        monkeypatch.setattr(label_desk, "FOLD_QUIET", 0.1)
        post(client, "labels", ids=ids[8:9], value="lynx")
        assert soon(9)
        monkeypatch.setattr(label_desk, "FOLD_QUIET", 60.0)
        post(client, "labels", ids=ids[9:10], value="lynx")
        assert in_rows() == 9
    assert in_rows() == 10


def follow(client: httpx.Client, told: list[tuple[str, dict[str, Any]]], ready: threading.Event) -> None:
    """Read events until the stream ends."""
    with httpx.Client(base_url=client.base_url, timeout=30) as own, own.stream("GET", "events") as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        name = ""
        for line in stream.iter_lines():
            ready.set()
            if line.startswith("event: "):
                name = line[7:]
            elif line.startswith("data: "):
                told.append((name, json.loads(line[6:])))
                if told[-1][1].get("act") == "the-end" or (told[-1][1].get("count"), name) == (2, "label"):
                    return


@pytest.mark.slow
def test_open_pages_learn_of_labels_from_this_and_other_processes(client: httpx.Client, collection: Storage) -> None:
    ids = list(labels(collection))
    told: list[tuple[str, dict[str, Any]]] = []
    ready = threading.Event()
    reader = threading.Thread(target=follow, args=(client, told, ready))
    reader.start()
    assert ready.wait(10)
    act = post(client, "labels", ids=ids[:3], value="lynx", by="Ada")["act"]
    post(client, "labels/undo", act=act, by="Ben")
    other = (
        "import sys; from birder.collection.storage import Storage; from birder.collection.labels import give_label;"
        "c = Storage.open(sys.argv[1], labels=False);"
        "give_label(c, sys.argv[2:], 'label', 'wolf', by='Eve')"
    )
    subprocess.run([sys.executable, "-c", other, str(collection.path), *ids[:2]], check=True)
    begun = time.monotonic()
    reader.join(15)
    assert not reader.is_alive() and time.monotonic() - begun < 5
    for _, data in told:
        assert data.pop("at")
    assert told[:2] == [
        ("label", {"act": act, "by": "Ada", "column": "label", "count": 3, "undone": False}),
        ("label", {"act": act, "by": "Ben", "column": "label", "count": 3, "undone": True}),
    ]
    assert (told[2][0], told[2][1]["by"], told[2][1]["count"]) == ("label", "Eve", 2)
    assert [shown(client)[id_] for id_ in ids[:2]] == ["wolf"] * 2


@pytest.mark.slow
def test_event_streams_report_new_rows_but_not_folded_labels(client: httpx.Client, collection: Storage) -> None:
    told: list[tuple[str, dict[str, Any]]] = []
    ready = threading.Event()
    reader = threading.Thread(target=follow, args=(client, told, ready))
    reader.start()
    assert ready.wait(10)
    ids = list(labels(collection))
    post(client, "labels", ids=ids[:1], value="lynx")
    collection.see_latest()  # which folds
    time.sleep(1.2)
    with collection.writing():
        images_of(collection.path).delete(f"id = '{ids[5]}'")
    time.sleep(1.2)
    post(client, "labels", ids=ids[:1], value="wolf", act="the-end")
    reader.join(15)
    assert [name for name, _ in told] == ["label", "rows", "label"]
    assert told[1][1]["rows"] == 11


def test_streams_are_bounded(client: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("birder.server.event_streams.STREAMS", 2)
    with client.stream("GET", "events") as first, httpx.Client(base_url=client.base_url) as other:
        assert first.status_code == 200
        with other.stream("GET", "events") as second:
            assert second.status_code == 200
            answer = httpx.get(client.base_url.join("events"))
            assert answer.status_code == 503 and "Retry-After" in answer.headers
    end = time.monotonic() + 10
    while time.monotonic() < end:  # once they are closed there is room again
        with client.stream("GET", "events") as again:
            if again.status_code == 200:
                return
        time.sleep(0.1)
    raise AssertionError("no room")


def size(path: Path) -> tuple[int, int]:
    """Bytes and number of the files in a folder."""
    sizes = [file.stat().st_size for file in path.rglob("*") if file.is_file()]
    return sum(sizes), len(sizes)


def test_the_interface_says_when_tidying_is_worthwhile(
    client: httpx.Client, collection: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = client.get("collection").json()["tidy"]
    assert (told["worth"], told["pending"], told["pieces"] > 0) == (False, 0, True)
    post(client, "labels", ids=list(labels(collection))[:3], value="lynx")
    assert client.get("collection").json()["tidy"]["pending"] == 3
    monkeypatch.setattr("birder.collection.maintenance._MANY_PIECES", 2)
    collection.see_latest()  # which folds
    told = client.get("collection").json()["tidy"]
    assert (told["worth"], told["pending"]) == (True, 0)
    assert told["bytes"] > 0


@pytest.mark.slow
def test_ten_thousand_single_labels_cost_less_than_fifty_megabytes(tmp_path: Path) -> None:
    vectors = np.random.default_rng(0).normal(size=(4000, 512)).astype(np.float32)
    collection = collection_of_vectors(tmp_path / "c.birder", vectors)
    ids = collection.to_arrow()["id"].to_pylist()
    before, files_before = size(collection.path)

    async def label(desk: LabelDesk) -> None:
        wishes = [Wish([ids[number * 7 % 4000]], "label", f"kind {number}") for number in range(10_000)]
        for start in range(0, 10_000, 20):  # each a request of its own, of twenty people
            tasks = [functools.partial(Recorder.give, wishes=[wish], by="Ada") for wish in wishes[start : start + 20]]
            await asyncio.gather(*map(desk.do, tasks))

    desk = LabelDesk(collection.path, Catalogue(collection.path), lambda: None)
    awaited(label(desk))
    desk.stop()
    after, files = size(collection.path)
    print(f"{(after - before) / 1e6:.1f} MB and {files - files_before} files for 10,000 labels of 4,000 rows")
    assert after - before < 50e6
    assert history(Journal(collection.path)).total == 10_000
    last = {ids[number * 7 % 4000]: f"kind {number}" for number in range(10_000)}
    collection.see_latest()
    rows = collection.to_arrow()
    assert dict(zip(rows["id"].to_pylist(), rows["label"].to_pylist(), strict=True)) == last


@pytest.mark.slow
def test_64_clients_wait_less_than_a_second_for_their_labels(tmp_path: Path) -> None:
    collection = collection_of_images(tmp_path, 400, labelled=0)
    waited: list[float] = []
    with serving(collection.path) as client:
        ids = client.get("ids").json()["ids"]

        def one(number: int) -> None:
            with httpx.Client(base_url=client.base_url, timeout=60) as own:
                for turn in range(8):
                    begun = time.monotonic()
                    post(own, "labels", ids=[ids[(number * 8 + turn) % 400]], value=f"n{number}")
                    waited.append(time.monotonic() - begun)

        with ThreadPoolExecutor(64) as pool:
            list(pool.map(one, range(64)))
        assert client.get("labels/history").json()["total"] == 512
    waited.sort()
    print(f"a label: {waited[256]:.3f} s at the median, {waited[506]:.3f} s at the 99th percentile")
    assert waited[256] < 1.0


@pytest.mark.slow
def test_after_a_kill_the_label_that_was_answered_is_there(tmp_path: Path) -> None:
    collection = collection_of_images(tmp_path, 8, labelled=0)
    program = (
        "import sys, uvicorn, socket; from birder.server.app import create_app;"
        "s = socket.create_server(('127.0.0.1', 0)); print(s.getsockname()[1], flush=True);"
        "uvicorn.Server(uvicorn.Config(create_app(sys.argv[1]), log_level='error')).run(sockets=[s])"
    )
    server = subprocess.Popen([sys.executable, "-c", program, str(collection.path)], stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        base = f"http://127.0.0.1:{int(server.stdout.readline())}/api/v1/"
        with httpx.Client(base_url=base, timeout=60) as client:
            ids = client.get("ids").json()["ids"]
            for number, id_ in enumerate(ids):
                post(client, "labels", ids=[id_], value=f"kind {number}")
    finally:
        server.send_signal(signal.SIGKILL)
        server.wait()
    assert list(labels(Storage.open(collection.path)).values()) == [f"kind {number}" for number in range(8)]
