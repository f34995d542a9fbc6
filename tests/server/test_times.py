"""Shifts of times in the interface: what is listed, and what undoing restores."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from pathlib import Path

import pytest

import birder
from birder.collection.times import FILE
from tests.factory import collection_of_columns
from tests.server.live import serving

NOON = datetime(2024, 5, 1, 12)


@pytest.mark.slow
def test_shifts_are_listed_and_undone(tmp_path: Path) -> None:
    rows = {
        f"file:///{place}/{n}.jpg": {"deployment": place, "taken_at": NOON + timedelta(hours=n)}
        for place in ("A4", "B1")
        for n in range(3)
    }
    collection_of_columns(tmp_path / "c.birder", rows)
    collection = birder.open_collection(tmp_path / "c.birder")
    with serving(tmp_path / "c.birder") as client:
        assert client.get("times/history").json() == {"shifts": []}
        first = collection.shift_time("+1h30s", where="deployment = 'A4'", author="Ada")
        second = collection.shift_time("-2d", where="uri = 'file:///B1/0.jpg'")
        told = client.get("times/history").json()["shifts"]
        assert [(each["act"], each["by"], each["seconds"], each["rows"], each["undone"]) for each in told] == [
            (second.act, None, -172_800, 1, False),
            (first.act, "Ada", 3630, 3, False),
        ]
        assert told[1]["where"] == "deployment = 'A4'"
        collection.shift_time("+1m", where="uri = 'file:///A4/2.jpg'")
        undone = client.post("times/undo", json={"act": first.act, "by": "Ben"})
        assert undone.json() == {"act": first.act, "restored": 2, "skipped": 1}
        taken = {
            photo["name"]: client.get(f"photos/{photo['id']}").json()["row"]["taken_at"]
            for photo in client.get("photos").json()["photos"]
        }
        assert [taken[f"/A4/{n}.jpg"] for n in range(3)] == [
            "2024-05-01T12:00:00", "2024-05-01T13:00:00", "2024-05-01T15:01:30"
        ]  # fmt: skip
        assert taken["/B1/0.jpg"] == "2024-04-29T12:00:00"
        assert [each["undone"] for each in client.get("times/history").json()["shifts"]] == [False, False, True]
        for act in (first.act, "none"):
            refused = client.post("times/undo", json={"act": act})
            assert refused.status_code == 409 and act in refused.json()["detail"]
        assert client.post("times/undo", json={"act": second.act, "by": "\0"}).status_code == 400
        (tmp_path / "c.birder" / FILE).write_text(json.dumps({"shifts": 1}))
        damaged = client.get("times/history")
        assert damaged.status_code == 400 and "Restore it from a copy" in damaged.json()["detail"]
        assert client.get("labels/history").status_code == 200
