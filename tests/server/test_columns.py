from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from birder.server.routes.columns import count_values
from birder.taxonomy import RANKS
from tests.factory import KINDS, collection_of_columns, collection_of_images
from tests.server.live import serving


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    folder = tmp_path_factory.mktemp("columns")
    collection_of_images(folder)
    with serving(folder / "c.birder") as client:
        yield client


def values(client: httpx.Client, name: str, **query: object) -> dict[str, Any]:
    answer = client.get(f"columns/{name}/values", params=query)  # type: ignore[arg-type]
    assert answer.status_code == 200, answer.text
    told: dict[str, Any] = answer.json()
    return told


def test_a_text_column_has_its_values_with_counts_most_frequent_first(client: httpx.Client) -> None:
    told = values(client, "site")
    assert told["values"] == [{"value": "S0", "count": 14}, {"value": "S1", "count": 13}, {"value": "S2", "count": 13}]
    assert (told["type"], told["nulls"], told["distinct"], told["histogram"]) == ("text", 0, 3, None)
    told = values(client, "label", limit=1)
    assert told["values"] == [{"value": min(KINDS), "count": 5}]
    assert (told["nulls"], told["distinct"]) == (20, 4)


def test_counts_follow_a_filter_and_a_part_of_the_value(client: httpx.Client) -> None:
    told = values(client, "label", where="site = 'S1'")
    expected = Counter(KINDS[n % 4] for n in range(20) if n % 3 == 1)
    assert {each["value"]: each["count"] for each in told["values"]} == expected
    told = values(client, "label", contains="ö")
    assert [each["value"] for each in told["values"]] == ["Größe"]
    assert values(client, "label", contains="OWL")["distinct"] == 1


def test_numbers_times_and_booleans_have_ranges(client: httpx.Client) -> None:
    told = values(client, "Temp C")
    assert (told["min"], told["max"], told["nulls"]) == (0, 39, 2)  # nan is no value either
    told = values(client, "seen")
    assert (told["min"], told["max"]) == ("2024-05-01T00:00:00", "2024-06-09T00:00:00")
    assert told["histogram"][0]["from"] == "2024-05-01T00:00:00"
    assert told["histogram"][-1]["to"] == "2024-06-09T00:00:00"
    told = values(client, "night")
    assert told["values"] == [{"value": False, "count": 20}, {"value": True, "count": 20}]


def test_a_range_of_the_histogram_selects_as_many_rows_as_it_says(client: httpx.Client) -> None:
    bins = values(client, "Temp C")["histogram"]
    for number, each in enumerate(bins):
        upper = "<=" if number == len(bins) - 1 else "<"
        where = f"NOT isnan(`Temp C`) AND `Temp C` >= {each['from']!r} AND `Temp C` {upper} {each['to']!r}"
        assert client.get("photos", params={"where": where}).json()["total"] == each["count"]


def test_columns_that_cannot_be_shown_are_refused(client: httpx.Client) -> None:
    for name in ("embedding", "labl"):
        answer = client.get(f"columns/{name}/values")
        assert answer.status_code == 404 and "Unknown column" in answer.json()["detail"]


NUMBERS = st.one_of(
    st.lists(st.one_of(st.none(), st.floats(width=64)), max_size=30).map(lambda x: pa.array(x, pa.float64())),
    st.lists(st.one_of(st.none(), st.integers(-(2**63), 2**63 - 1)), max_size=30).map(
        lambda x: pa.array(x, pa.int64())
    ),
    st.lists(st.one_of(st.none(), st.integers(-5, 5)), max_size=30).map(lambda x: pa.array(x, pa.int32())),
    st.lists(st.one_of(st.none(), st.datetimes()), max_size=30).map(lambda x: pa.array(x, pa.timestamp("us"))),
    st.lists(st.one_of(st.none(), st.datetimes()), max_size=30).map(
        lambda x: pa.array(x, pa.timestamp("us", tz="UTC"))
    ),
    st.lists(st.one_of(st.none(), st.text(max_size=3)), max_size=30).map(lambda x: pa.array(x, pa.string())),
    st.lists(st.one_of(st.none(), st.booleans()), max_size=30).map(lambda x: pa.array(x, pa.bool_())),
)


@settings(max_examples=300, deadline=None)
@given(NUMBERS)
def test_every_value_is_counted_once_and_lies_in_one_bin(column: pa.Array) -> None:
    told = count_values(column, 100)
    present = len(column) - told["nulls"]
    assert sum(each["count"] for each in told["values"]) == present
    assert len(told["values"]) == told["distinct"]
    counts = [each["count"] for each in told["values"]]
    assert counts == sorted(counts, reverse=True)
    if told.get("histogram"):
        assert sum(each["count"] for each in told["histogram"]) == present
        assert all(each["count"] >= 0 for each in told["histogram"])


def test_the_collection_provides_the_lists_that_the_page_shows(client: httpx.Client) -> None:
    described = client.get("collection").json()
    assert described["ranks"] == list(RANKS)
    assert described["technical_columns"][:2] == ["uri", "id"]
    assert set(described["technical_columns"]) <= {column["name"] for column in described["columns"]}
    assert all(re.fullmatch("#[0-9a-f]{6}", colour) for colour in [*described["palette"], described["missing_colour"]])
    assert len(set(described["palette"])) == len(described["palette"]) >= 12


def test_answers_are_compressed_where_that_makes_them_shorter(client: httpx.Client) -> None:
    """Starlette does it; what is ours is what it does it for."""
    page = str(client.base_url).removesuffix("/api/v1/")
    image = client.get("photos").json()["photos"][0]["id"]
    compressed = {"photos", "openapi.json", f"{page}/page/main.js", f"{page}/page/style.css", f"{page}/"}
    for address in (*sorted(compressed), "columns/site/values", f"photos/{image}/thumbnail", "ids"):
        as_bytes = {"Accept": "application/octet-stream"} if address == "ids" else {}
        plain = client.get(address, headers={"Accept-Encoding": "identity"} | as_bytes)
        answer = client.get(address, headers={"Accept-Encoding": "gzip"} | as_bytes)
        assert plain.status_code == answer.status_code == 200 and plain.content == answer.content
        assert (answer.headers.get("content-encoding") == "gzip") == (address in compressed), address
        if address in compressed:
            assert answer.num_bytes_downloaded < len(plain.content)
    tag = client.get(f"{page}/page/main.js").headers["etag"]
    again = client.get(f"{page}/page/main.js", headers={"If-None-Match": tag})
    assert (again.status_code, again.content) == (304, b"")


def test_times_are_counted_and_filtered_by_hour_and_month(tmp_path: Path) -> None:
    moments = [datetime(2024, 5, 1, 23, 59), datetime(2025, 5, 2, 0, 0), datetime(2024, 12, 31, 23, 0), None]
    rows = {f"file:///{n}.jpg": {"seen": moment, "day": moment and moment.date()} for n, moment in enumerate(moments)}
    collection_of_columns(tmp_path / "c.birder", rows, {"seen": pa.timestamp("us"), "day": pa.date32()})
    with serving(tmp_path / "c.birder") as client:

        def counted(part: str, **how: str) -> dict[int, int]:
            answer = client.get("columns/seen/values", params={"part": part, **how}).raise_for_status().json()
            return {each["value"]: each["count"] for each in answer["values"]}

        assert counted("hour") == {23: 2, 0: 1}
        assert counted("month") == {5: 2, 12: 1}
        assert counted("hour", where="date_part('month', `seen`) IN (5)") == {23: 1, 0: 1}
        for part, values in (("hour", "22, 23"), ("month", "5")):
            where = f"date_part('{part}', `seen`) IN ({values})"
            assert client.get("ids", params={"where": where}).json()["total"] == 2
        for name in ("uri", "day"):
            assert client.get(f"columns/{name}/values", params={"part": "hour"}).status_code == 400
        days = client.get("columns/day/values", params={"part": "month"}).raise_for_status().json()
        assert days["values"] == client.get("columns/seen/values", params={"part": "month"}).json()["values"]
        assert client.get("ids", params={"where": "date_part('month', `day`) IN (5)"}).json()["total"] == 2
