"""Lists of images with those of a sequence folded into stacks."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from birder.server.encoded import sorted_positions
from birder.server.stacks import folded
from tests.factory import collection_of_columns
from tests.server.live import serving

BYTES = {"Accept": "application/octet-stream"}


@given(st.lists(st.integers(-1, 6)), st.randoms(use_true_random=False))
def test_a_fold_puts_sequences_together_where_the_first_of_them_stands(sequences: list[int], random: Any) -> None:
    rows = random.sample(range(len(sequences)), random.randint(0, len(sequences)))
    expected: dict[object, list[int]] = {}
    for row in rows:
        expected.setdefault(("alone", row) if sequences[row] < 0 else sequences[row], []).append(row)
    found = folded(np.array(sequences, np.int32), np.array(rows, np.int64))
    stacks = list(expected.values())
    assert [each.tolist() for each in found.some(0, 100)] == stacks
    assert found.sizes.tolist() == [len(each) for each in stacks]
    assert [each.tolist() for each in found.some(1, 2)] == stacks[1:3]


@pytest.fixture
def client(tmp_path: Path) -> Iterator[httpx.Client]:
    """Seven images of a, b and c by turns, two without a sequence, and 60 of d; later ones are warmer."""
    names = [*"abcabca", None, None, *["d"] * 60]
    rows: dict[str, dict[str, Any]] = {
        f"file:///p/{number:02d}.jpg": {
            "sequence": name,
            "warm": float(number),
            "count": str(number) if number < 12 else None,
            "taken_at": datetime(2024, 5, 1) + timedelta(minutes=number),
        }
        for number, name in enumerate(names)
    }
    types = {"warm": pa.float64(), "count": pa.string()}
    collection_of_columns(tmp_path / "c.birder", rows, types)
    with serving(tmp_path / "c.birder") as client:
        yield client


def numbers(answer: dict[str, Any]) -> list[list[int]]:
    return [[int(photo["name"][-6:-4]) for photo in stack["photos"]] for stack in answer["stacks"]]


@pytest.mark.slow
def test_stacks_are_listed_in_parts_filtered_and_in_an_order(client: httpx.Client) -> None:
    def asked(**how: Any) -> dict[str, Any]:
        answer: dict[str, Any] = client.get("stacks", params=how).raise_for_status().json()
        return answer

    everything = asked()
    assert (everything["total"], everything["images"]) == (6, 69)
    assert numbers(everything)[:5] == [[0, 3, 6], [1, 4], [2, 5], [7], [8]]
    assert everything["stacks"][5]["count"] == 60
    assert numbers(everything)[5] == list(range(9, 59))  # the first 50
    assert everything["stacks"][0]["photos"][0]["sequence"] == "a"
    assert "sequence" in client.get("photos", params={"limit": 1}).json()["photos"][0]
    warmest = asked(order="-warm", where="warm < 9")
    assert numbers(warmest) == [[8], [7], [6, 3, 0], [5, 2], [4, 1]]
    assert numbers(asked(order="-warm", where="warm < 9", offset=2, limit=2)) == [[6, 3, 0], [5, 2]]
    assert numbers(asked(where="warm IN (3, 4)")) == [[3], [4]]  # only those that match
    assert numbers(asked(offset=99)) == [] and asked(where="warm > 99")["total"] == 0
    with_values = asked(where="warm IN (3, 6)", columns=["warm", "count"])["stacks"][0]["photos"]
    assert [photo["values"] for photo in with_values] == [{"warm": 3.0, "count": "3"}, {"warm": 6.0, "count": "6"}]
    assert client.get("stacks", params={"where": "nothing"}).status_code == 400

    said = client.get("stacks/ids", params={"order": "-warm"}).json()
    assert said["sizes"] == [60, 1, 1, 3, 2, 2]
    assert sorted(said["ids"]) == sorted(client.get("ids").json()["ids"])
    data = client.get("stacks/ids", params={"order": "-warm"}, headers=BYTES).content
    head = np.frombuffer(data[: 4 * 7], "<u4").tolist()
    assert head == [6, *said["sizes"]]
    assert data[28:].hex() == "".join(said["ids"]).replace("-", "")

    first = everything["stacks"][3]["photos"][0]["id"]  # a person says where it belongs
    client.post("labels", json={"ids": [first], "column": "sequence", "value": "b"}).raise_for_status()
    assert numbers(asked())[:4] == [[0, 3, 6], [1, 4, 7], [2, 5], [8]]
    counted = numbers({"stacks": [{"photos": client.get("photos", params={"order": "-count"}).json()["photos"]}]})[0]
    assert counted[:12] == list(range(11, -1, -1))  # as numbers: 10 is more than 9


def test_texts_that_are_all_whole_numbers_are_sorted_as_numbers() -> None:
    for texts, order in (
        (["10", "9", None, "0"], [3, 1, 0, 2]),
        (["10", "9", None, "many"], [0, 1, 3, 2]),
        (["10", "9", "007"], [2, 0, 1]),
        ([None, None], [0, 1]),
    ):
        for column in (pa.array(texts, pa.string()), pa.array(texts, pa.string()).dictionary_encode()):
            assert sorted_positions(column).tolist() == order
            filled = [row for row in order if texts[row] is not None]
            assert sorted_positions(column, descending=True).tolist()[: len(filled)] == filled[::-1]
