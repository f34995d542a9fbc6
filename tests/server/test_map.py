from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest

from birder.collection.storage import Storage
from tests.factory import KINDS, collection_of_images
from tests.server.live import serving

pytestmark = pytest.mark.slow  # maps are computed by a process that imports UMAP


def wait_for_map(client: httpx.Client) -> list[dict[str, object]]:
    """The states of a map until it is computed."""
    states = []
    end = time.monotonic() + 120
    while time.monotonic() < end:
        states.append(client.get("map").json())
        if states[-1]["state"] != "computing":
            return states
        time.sleep(0.1)
    raise AssertionError(states[-1])


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    folder = tmp_path_factory.mktemp("map")
    collection_of_images(folder)
    with serving(folder / "c.birder") as client:
        assert client.get("map").json() == {
            "state": "absent",
            "progress": 0,
            "stage": "",
            "points": 0,
            "missing": 40,
            "laid_out": None,
            "can_compute": True,
            "why": None,
        }
        for address in ("map/points", "map/ids", "map/column/label"):
            answer = client.get(address)
            assert answer.status_code == 404 and "POST" in answer.json()["detail"]
        started = client.post("map")
        assert (started.status_code, started.json()["state"]) == (202, "computing")
        assert client.post("map").json()["state"] == "computing"
        states = wait_for_map(client)
        assert (states[-1]["state"], states[-1]["points"], states[-1]["missing"]) == ("ready", 40, 0), states[-1]
        shares = [float(str(state["progress"])) for state in states]
        assert shares == sorted(shares) and shares[-1] == 1
        yield client


def test_the_points_are_numbers_in_the_order_of_their_ids(client: httpx.Client) -> None:
    ids = client.get("map/ids").json()["ids"]
    answer = client.get("map/points")
    xy = np.frombuffer(answer.content, "<f4").reshape(-1, 2)
    assert sorted(ids) == sorted(client.get("ids").json()["ids"])
    assert xy.shape == (40, 2) and np.isfinite(xy).all() and len(np.unique(xy, axis=0)) == 40
    assert answer.headers["x-birder-version"] == str(client.get("collection").json()["version"])
    names = {photo["id"]: photo["name"] for photo in client.get("photos").json()["photos"]}
    kinds = np.array([int(names[id_].rpartition("/")[2][:4]) % 4 for id_ in ids])
    centres = np.array([xy[kinds == kind].mean(axis=0) for kind in range(4)])
    nearest = np.linalg.norm(xy[:, None] - centres, axis=2).argmin(axis=1)
    assert (nearest == kinds).mean() > 0.8  # the clusters lie apart


def test_the_page_gets_ids_and_columns_as_bytes(client: httpx.Client) -> None:
    accept = {"Accept": "application/octet-stream"}
    for address in ("map/ids", "ids?where=label%20is%20not%20null&order=-label", "ids?where=false"):
        told, answer = client.get(address).json(), client.get(address, headers=accept)
        assert answer.headers["content-type"] == "application/octet-stream"
        assert answer.headers["x-birder-version"] == str(told["version"])
        assert answer.content == b"".join(uuid.UUID(id_).bytes for id_ in told["ids"])
    for name in ("label", "Temp C", "night", "seen", "species"):
        told, content = (
            client.get(f"map/column/{name}").json(),
            client.get(f"map/column/{name}", headers=accept).content,
        )
        start = 4 + int.from_bytes(content[:4], "little")
        head = json.loads(content[4:start])
        assert start % 4 == 0 and head.items() <= told.items()
        if head["type"] == "category":
            assert list(content[start:]) == [255 if code < 0 else code for code in told["codes"]]
        else:
            values = np.array(told["values"], float)
            span = (told["max"] - told["min"]) or 1
            np.testing.assert_allclose(np.frombuffer(content[start:], "<f4"), (values - told["min"]) / span, rtol=1e-6)


def test_points_have_the_categories_and_numbers_of_their_rows(client: httpx.Client) -> None:
    ids = client.get("map/ids").json()["ids"]
    rows = {id_: client.get(f"photos/{id_}").json()["row"] for id_ in ids}
    told = client.get("map/column/label").json()
    assert told["type"] == "category" and sorted(told["categories"]) == sorted(KINDS)
    labels = [None if code == -1 else told["categories"][code] for code in told["codes"]]
    assert labels == [rows[id_]["label"] for id_ in ids]
    told = client.get("map/column/Temp C").json()
    assert told["type"] == "number" and told["values"] == [rows[id_]["Temp C"] for id_ in ids]
    assert (told["min"], told["max"]) == (0, 39)
    told = client.get("map/column/night").json()
    assert sorted(told["categories"]) == ["false", "true"]
    told = client.get("map/column/seen").json()
    assert told["max"] - told["min"] == 39 * 86400
    told = client.get("map/column/species").json()
    assert told["categories"] == [] and set(told["codes"]) == {-1}
    told = client.get("map/column/uri").json()
    assert len(told["categories"]) == 40 and "other" not in told["categories"]
    assert client.get("map/column/embedding").status_code == 404


def test_the_rarest_categories_are_grouped(tmp_path: Path) -> None:
    import pyarrow as pa

    from birder.server.routes.map import _categories

    names = [f"kind {n:02d}" for n in range(45) for _ in range(50 - n)] + [None]
    told = json.loads(bytes(_categories(pa.array(names), as_bytes=False).body))
    assert told["categories"] == [f"kind {n:02d}" for n in range(40)] + ["other"]
    expected = [-1 if name is None else min(int(name[-2:]), 40) for name in names]
    assert told["codes"] == expected


def test_too_few_images_make_no_map(tmp_path: Path) -> None:
    collection_of_images(tmp_path, 3)
    with serving(tmp_path / "c.birder") as client:
        state = client.get("map").json()
        assert not state["can_compute"] and "at least 5" in state["why"]
        answer = client.post("map")
        assert answer.status_code == 409 and "at least 5" in answer.json()["detail"]


def test_a_map_that_cannot_be_stored_says_why_and_can_be_tried_again(tmp_path: Path) -> None:
    collection = collection_of_images(tmp_path, 12)
    with serving(tmp_path / "c.birder") as client:
        with collection.writing():
            assert client.post("map").status_code == 202
            state = wait_for_map(client)[-1]
        assert state["state"] == "absent" and "Another process is writing" in str(state["why"])
        assert state["can_compute"] is True
        client.post("map")
        assert wait_for_map(client)[-1]["state"] == "ready"
        assert Storage.open(collection.path).count() == 12
