"""Values of text columns that are found by their words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from birder.server.catalogue import Catalogue
from birder.server.routes.columns import count_values
from birder.server.values_by_word import ValuesByWord
from tests.factory import collection_of, row, write
from tests.server.live import serving

NAMES = ["Helmeted guineafowl", "An owl", "Eurasian eagle-owl", "Águila real", "owl", "Barn Owl", "sea owlet", None]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    columns = ["a", "b", "c", "d", "e", "f", "common_name", "station"]
    collection = collection_of(
        tmp_path_factory.mktemp("finding") / "c.birder", types=dict.fromkeys(columns, pa.string())
    )
    rows = [
        row(
            f"{n:02}",
            [n, 1, 0, 0],
            f"{n:064x}",
            columns={
                "common_name": NAMES[n % 8],
                "station": f"A{n % 4:02} ridge",
                **dict.fromkeys("abcdef", f"x{n % 3}"),
            },
        )
        for n in range(40)
    ]
    write(collection, rows)
    return collection.path


def found(folder: Path, text: str, limit: int = 10) -> Any:
    return ValuesByWord().find(Catalogue(folder).current(), text, limit)


def test_whole_words_come_before_parts_in_every_column(folder: Path) -> None:
    owls = found(folder, "OWL")
    expected = ["owl", "An owl", "Barn Owl", "Eurasian eagle-owl", "sea owlet", "Helmeted guineafowl"]
    assert [each.value for each in owls.values] == expected
    assert [each.match for each in owls.values] == ["value", "words", "words", "words", "beginnings", "parts"]
    assert {each.count for each in owls.values} == {5}
    (column,) = owls.columns
    assert (column.column, column.distinct, column.count, column.match) == ("common_name", 4, 20, "words")
    assert sorted(column.values) == sorted(expected[:4])


@pytest.mark.slow
def test_several_words_in_any_order_accents_and_two_columns(folder: Path) -> None:
    assert [each.value for each in found(folder, "owl barn").values] == ["Barn Owl"]
    assert [each.value for each in found(folder, "aguila").values] == ["Águila real"]
    both = found(folder, "barn owl a01")
    assert both.values == []
    assert [(each.column, each.text) for each in both.together] == [("common_name", "barn owl"), ("station", "a01")]
    assert both.together_count == sum(NAMES[n % 8] == "Barn Owl" and n % 4 == 1 for n in range(40)) == 5
    assert found(folder, "barn owl a02").together == []  # no image has both
    assert found(folder, " .,! ").values == [] and found(folder, "zebra").columns == []


def test_the_request_has_a_limit_and_says_what_is_left_out(folder: Path) -> None:
    with serving(folder) as client:
        told = client.get("values", params={"text": "owl", "limit": 2}).json()
        assert [each["value"] for each in told["values"]] == ["owl", "An owl"] and told["more"] == 4
        ids = client.get("ids").json()["ids"]
        client.post("labels", json={"ids": ids[:3], "column": "label", "value": "Snowy owl"})
        told = client.get("values", params={"text": "snowy"}).json()
        assert told["values"] == [{"column": "label", "value": "Snowy owl", "count": 3, "match": "words"}]


TEXTS = st.lists(st.one_of(st.none(), st.text("ab c", max_size=4)), max_size=30)


@settings(max_examples=60, deadline=None)
@given(TEXTS, st.lists(st.text("ab c", max_size=4), max_size=3), st.integers(0, 8), st.integers(0, 8))
def test_values_by_name_in_pieces_and_those_asked_for(
    texts: list[str | None], also: list[str], offset: int, limit: int
) -> None:
    column = pa.array(texts, pa.string())
    for kept in (column, column.dictionary_encode()):
        told = count_values(kept, limit, offset=offset, order="value", also=also)
        every = sorted({text for text in texts if text is not None})
        expected = [{"value": text, "count": texts.count(text)} for text in every[offset : offset + limit]]
        assert told["values"] == expected
        assert told["also"] == [{"value": text, "count": texts.count(text)} for text in also]
