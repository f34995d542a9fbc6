"""The review of predictions over HTTP: what awaits a decision, in which order, and how often people agreed."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pyarrow as pa
import pytest
from scipy.stats import binomtest

from tests.factory import collection_of_columns, collection_of_images
from tests.server.live import serving

NAMES = ["fox", "owl", "fox", "hare", "owl", "fox", "hare", "fox", "owl", "fox", "fox", "owl"]
TYPES = {name: pa.string() for name in ("predicted_label", "predicted_species", "predicted_by", "sequence")}


@pytest.fixture
def client(tmp_path: Path) -> Iterator[httpx.Client]:
    """Twelve predictions in four sequences of three, of which the last image has no sequence; one row has none."""
    start = datetime(2024, 5, 1)
    rows: dict[str, dict[str, Any]] = {
        f"file:///p/{number:02d}.jpg": {
            "predicted_label": name if number else None,
            "predicted_species": None if number else name,
            "predicted_score": 0.5 + 0.04 * ((7 * number) % 12),
            "predicted_by": "tiny",
            "sequence": f"s{number // 3}" if number < 11 else None,
            "taken_at": start + timedelta(minutes=-number),
        }
        for number, name in enumerate(NAMES)
    }
    rows["file:///p/none.jpg"] = {"label": "owl"}
    collection_of_columns(tmp_path / "c.birder", rows, {**TYPES, "predicted_score": pa.float32()})
    with serving(tmp_path / "c.birder") as client:
        yield client


def asked(client: httpx.Client, **how: Any) -> dict[str, Any]:
    answer: dict[str, Any] = client.get("review", params=how).raise_for_status().json()
    return answer


def numbers(answer: dict[str, Any]) -> list[int]:
    return [int(photo["name"].split("/")[-1][:2]) for photo in answer["photos"]]


def label(client: httpx.Client, numbers: list[int], value: str | None, column: str = "label") -> None:
    photos = {photo["name"].split("/")[-1][:2]: photo["id"] for photo in client.get("photos").json()["photos"]}
    ids = [photos[f"{number:02d}"] for number in numbers]
    client.post("labels", json={"ids": ids, "column": column, "value": value}).raise_for_status()


def test_predictions_come_in_each_order(client: httpx.Client) -> None:
    scores = [0.5 + 0.04 * ((7 * number) % 12) for number in range(12)]
    by_score = sorted(range(12), key=scores.__getitem__)
    answer = asked(client)
    assert answer["total"] == 12
    assert answer["agreement"] is None
    assert answer["classes"] == [
        {"name": "fox", "count": 6},
        {"name": "owl", "count": 4},
        {"name": "hare", "count": 2},
    ]
    assert numbers(answer) == by_score
    assert (answer["photos"][0]["predicted"], answer["photos"][0]["sequence"]) == ("fox", "s0")  # by its rank
    assert answer["photos"][0]["predicted_score"] == pytest.approx(0.5)
    assert numbers(asked(client, order="certain")) == by_score[::-1]
    assert numbers(asked(client, order="class")) == sorted(range(12), key=lambda each: (NAMES[each], -scores[each]))
    assert numbers(asked(client, order="sequence")) == list(range(11, -1, -1))
    assert numbers(asked(client, name="hare")) == sorted([3, 6], key=scores.__getitem__)
    assert sorted(numbers(asked(client, where="predicted_label = 'owl'"))) == [1, 4, 8, 11]
    random = numbers(asked(client, order="random"))
    assert sorted(random) == list(range(12))
    assert random == numbers(asked(client, order="random")) != by_score


def test_stacks_hold_together_and_are_not_cut(client: httpx.Client) -> None:
    found = numbers(asked(client, stacks=True, limit=1))
    assert found == [2, 1, 0]  # the sequence of the most doubtful, by time
    everything = numbers(asked(client, stacks=True))
    assert sorted(everything) == list(range(12))
    stacks = [11 if number == 11 else number // 3 for number in everything]
    assert len(list(itertools.groupby(stacks))) == 5


def test_decisions_leave_the_review_and_count_as_agreement(client: httpx.Client) -> None:
    label(client, [0, 2], "fox")
    label(client, [1], "hawk")
    label(client, [3], "hare", "rejected")
    label(client, [5], "unknown")
    label(client, [6], "fox | hare", "rejected")
    label(client, [7], "hare | foxes", "rejected")  # not what is predicted
    answer = asked(client)
    assert sorted(numbers(answer)) == [4, 7, 8, 9, 10, 11]
    assert answer["photos"][numbers(answer).index(7)]["rejected"] == "hare | foxes"
    agreement = answer["agreement"]
    assert (agreement["estimate"], agreement["n"]) == (0.4, 5)
    assert 0 <= agreement["low"] < 0.4 < agreement["high"] <= 1
    assert agreement["interval"] == "bootstrap over groups"
    label(client, [3, 6, 7], None, "rejected")  # as undoing does
    assert sorted(numbers(asked(client))) == [3, 4, 6, 7, 8, 9, 10, 11]
    photos = client.get("photos").json()["photos"]
    assert photos[0]["predicted"] == "fox"
    assert photos[12]["predicted"] is None


def test_without_sequences_the_interval_is_wilsons(tmp_path: Path) -> None:
    predicted = {"predicted_label": "fox", "predicted_score": 0.9}
    of_folder = {"label": "fox", "label_source": "folder"}  # nobody has looked at it
    rows = {f"file:///p/{n:02d}.jpg": predicted | (of_folder if n >= 18 else {}) for n in range(20)}
    collection_of_columns(
        tmp_path / "c.birder", rows, {"predicted_label": pa.string(), "predicted_score": pa.float32()}
    )
    with serving(tmp_path / "c.birder") as client:
        label(client, list(range(11)), "fox")
        label(client, [11], "owl")
        found = asked(client)["agreement"]
        expected = binomtest(11, 12).proportion_ci(method="wilson")
        assert (found["low"], found["high"]) == pytest.approx((expected.low, expected.high), abs=1e-6)
        assert found["interval"] == "Wilson"
        label(client, [19], "owl")
        assert asked(client)["agreement"]["n"] == 13


def test_suggestions_are_reviewed_without_those_rejected(tmp_path: Path) -> None:
    collection_of_images(tmp_path, 40, labelled=20)
    with serving(tmp_path / "c.birder") as client:
        refused = client.get("review")
        assert refused.status_code == 400
        assert "birder predict" in refused.json()["detail"]
        assert "predicted" not in client.get("photos").json()["photos"][0]
        answer = asked(client, source="suggestions", order="certain")
        assert answer["total"] == 20
        right = [photo["predicted"] in photo["name"] for photo in answer["photos"]]
        assert sum(right) >= 18
        first = answer["photos"][0]
        note = {"ids": [first["id"]], "column": "rejected", "value": first["predicted"]}
        client.post("labels", json=note).raise_for_status()
        assert asked(client, source="suggestions")["total"] == 19
