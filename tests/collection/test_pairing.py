"""Rows of two collections that are of the same image."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from birder.collection.pairing import PAIRED_BY, pair_rows
from tests.factory import card, collection_of, row

KEYS = st.sampled_from("abcdef")
ROWS = st.lists(st.tuples(KEYS, KEYS, KEYS), max_size=12)


def table(rows: list[tuple[str, str, str]]) -> pa.Table:
    """Rows of id, uri and sha256."""
    return pa.table({name: pa.array([each[i] for each in rows], pa.string()) for i, name in enumerate(PAIRED_BY)})


@given(ROWS, ROWS)
def test_each_row_is_in_one_pair_at_most_and_pairs_have_something_in_common(
    mine: list[tuple[str, str, str]], theirs: list[tuple[str, str, str]]
) -> None:
    found = pair_rows(table(mine), table(theirs))
    one, other = found.first.tolist(), found.second.tolist()
    assert one == sorted(set(one)) and len(other) == len(set(other)) == len(one)
    shared = [[a == b for a, b in zip(mine[i], theirs[j], strict=True)] for i, j in zip(one, other, strict=True)]
    assert all(any(each) for each in shared)
    assert found.differ == sum(not same_content for _, _, same_content in shared)
    left = [set(range(len(rows))) - set(used) for rows, used in ((mine, one), (theirs, other))]
    assert not any(a == b for i in left[0] for j in left[1] for a, b in zip(mine[i], theirs[j], strict=True))


@given(
    st.lists(st.tuples(KEYS, KEYS, KEYS), max_size=10, unique_by=(lambda each: each[0], lambda each: each[1])),
    st.randoms(),
)
def test_a_collection_is_paired_with_itself_in_any_order(
    rows: list[tuple[str, str, str]], random: st.DataObject
) -> None:
    order = list(range(len(rows)))
    random.shuffle(order)  # type: ignore[attr-defined]
    found = pair_rows(table(rows), table([rows[i] for i in order]))
    assert [order[j] for j in found.second.tolist()] == list(range(len(rows))) and found.differ == 0


def test_content_counts_before_the_address() -> None:
    """An image that moved is found where it is now; one that was replaced there is not taken for it."""
    mine = [("1", "a", "A"), ("2", "b", "B"), ("3", "c", "C")]
    theirs = [("9", "c", "B"), ("8", "d", "C"), ("1", "a", "?")]
    found = pair_rows(table(mine), table(theirs))
    assert list(zip(found.first.tolist(), found.second.tolist(), strict=True)) == [(0, 2), (1, 0), (2, 1)]
    assert found.differ == 1


def test_ids_do_not_depend_on_the_model_and_boxes_of_one_image_are_told_apart(tmp_path: Path) -> None:
    names = ["a.jpg", "b.jpg#xywh=percent:0,0,50,50", "b.jpg#xywh=percent:50,50,50,50"]
    made = [
        collection_of(
            tmp_path / f"{size}.birder",
            [row(name, [1.0 + i for i in range(size)], sha256=name) for name in order],
            model=card(size, name=f"model {size}", sha256=f"{size:064}"),
        )
        for size, order in ((4, names), (6, names[::-1]))
    ]
    tables = [each.snapshot().to_table(list(PAIRED_BY)) for each in made]
    assert sorted(tables[0]["id"].to_pylist()) == sorted(tables[1]["id"].to_pylist())
    found = pair_rows(*tables)
    assert tables[0]["uri"].to_pylist() == tables[1]["uri"].take(pa.array(found.second)).to_pylist()
