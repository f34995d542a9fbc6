"""The catalogue against a plain table: whatever is labelled, undone and folded, filtered and sorted."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from birder.collection import in_place, index, nearest, vector_files
from birder.collection.index import ensure_index, vectors_for_graph
from birder.collection.labels import Wish, give_label, recording
from birder.collection.reading import RowReader
from birder.collection.storage import Storage
from birder.server.catalogue import Catalogue, Snapshot
from birder.server.encoded import counted, decoded, encoded, replaced, sorted_positions
from birder.server.id_index import IdIndex
from birder.server.label_desk import _Values
from tests.factory import collection_of_vectors, images_of

ROWS = 60
VALUES = ["owl", "fox", "Größe", "o'hare", None]
FILTERS: dict[str, Callable[[dict[str, Any]], bool]] = {
    "label = 'owl'": lambda row: row["label"] == "owl",
    "label IS NULL OR site = 'S1'": lambda row: row["label"] is None or row["site"] == "S1",
    "lower(site) LIKE '%s2%' AND label <> 'fox'": lambda row: row["site"] == "S2" and row["label"] not in (None, "fox"),
    "number > 30": lambda row: row["number"] is not None and row["number"] > 30,
}
TEXTS = st.lists(st.one_of(st.none(), st.sampled_from(["", "a", "b", "Ö", "zz"]), st.text(max_size=2)), max_size=40)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    columns: dict[str, list[Any]] = {
        "label": [VALUES[n % 5] for n in range(ROWS)],
        "site": [None if n % 7 == 0 else f"S{n % 3}" for n in range(ROWS)],
        "number": [None if n % 11 == 0 else n * 37 % ROWS for n in range(ROWS)],
    }
    names = [f"p/{n * 29 % ROWS:03}.jpg" for n in range(ROWS)]  # not written in the order of uris
    vectors = np.random.default_rng(0).normal(size=(ROWS, 4))
    return collection_of_vectors(
        tmp_path_factory.mktemp("catalogue") / "c.birder", vectors, names=names, columns=columns
    ).path


class Plain:
    """The same rows as dictionaries, and the acts that can be undone."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.rows = [dict(row) for row in decoded_rows(snapshot)]
        self.acts: list[tuple[str, dict[int, Any]]] = []

    def label(self, rows: list[int], column: str, value: str | None) -> None:
        former = {row: self.rows[row][column] for row in rows if self.rows[row][column] != value}
        if former:
            self.acts.append((column, former))
        for row in former:
            self.rows[row][column] = value

    def undo(self) -> None:
        column, former = self.acts.pop()
        for row, value in former.items():
            self.rows[row][column] = value

    def sorted(self, column: str, descending: bool) -> list[int]:
        there = [n for n, row in enumerate(self.rows) if row[column] is not None]
        # Arrow compares texts as bytes.
        key = {n: v.encode() if isinstance(v := self.rows[n][column], str) else v for n in there}
        there.sort(key=lambda n: key[n], reverse=descending)  # reversed or not, equal ones stay as they are
        return there + [n for n, row in enumerate(self.rows) if row[column] is None]


def decoded_rows(snapshot: Snapshot) -> list[dict[str, Any]]:
    return snapshot.rows(np.arange(len(snapshot)), ["id", "label", "site", "number"])


STEP = st.one_of(
    st.tuples(
        st.just("label"),
        st.lists(st.integers(0, ROWS - 1), min_size=1, max_size=8, unique=True),
        st.sampled_from(["label", "site"]),
        st.sampled_from([*VALUES, "S1", "new"]),
    ),
    st.tuples(st.just("undo")),
    st.tuples(st.just("fold")),
    st.tuples(st.just("read again")),
)


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(STEP, min_size=1, max_size=8), st.sampled_from([0, 10**9]))
@example([("label", [0], "site", "new"), ("undo",), ("fold",)], 0)
@pytest.mark.slow
def test_any_sequence_of_labels_undoing_and_folding_gives_what_a_plain_table_gives(
    path: Path, steps: list[Any], worth_an_index: int
) -> None:
    catalogue = Catalogue(path)
    ids = catalogue.current().table["id"].to_pylist()
    plain = Plain(catalogue.current())
    journal = Storage.open(path, labels=False).journal
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(in_place, "WORTH_AN_INDEX", worth_an_index)
        for what, *how in steps:
            before = catalogue.current()
            rows_before = decoded_rows(before)
            if what == "label":
                rows, column, value = how
                with recording(journal, _Values(catalogue)) as recorder:
                    recorder.give([Wish([ids[row] for row in rows], column, value)])
                plain.label(rows, column, value)
                snapshot = catalogue.labelled()
            elif what == "undo":
                if not plain.acts:
                    continue
                with recording(journal, _Values(catalogue)) as recorder:
                    recorder.undo()
                plain.undo()
                snapshot = catalogue.labelled()
            elif what == "fold":
                Storage.open(path, labels=False).fold_labels()
                snapshot = catalogue.refresh()
                assert snapshot.pending == 0 and snapshot.ids is before.ids, "a fold must not read the columns again"
            else:
                catalogue = Catalogue(path)
                snapshot = catalogue.current()
            assert decoded_rows(snapshot) == plain.rows
            assert decoded_rows(before) == rows_before, "a snapshot has changed"
            for text, matches in FILTERS.items():
                wanted = [n for n, row in enumerate(plain.rows) if matches(row)]
                assert snapshot.select(snapshot.filter(text)).tolist() == wanted
                for column in ("label", "number"):
                    expected = [n for n in plain.sorted(column, True) if n in set(wanted)]
                    assert snapshot.select(snapshot.filter(text), f"-{column}").tolist() == expected
            for column in ("label", "site", "number"):
                assert snapshot.select(None, column).tolist() == plain.sorted(column, False)
                assert snapshot.filled[column] == sum(row[column] is not None for row in plain.rows)
    Storage.open(path).fold_labels()


def test_a_label_that_is_given_while_labels_are_folded_stays_visible(path: Path) -> None:
    catalogue = Catalogue(path)
    id_ = catalogue.current().table["id"][5].as_py()
    journal = Storage.open(path, labels=False).journal
    seen: list[str | None] = []
    stop = threading.Event()

    def fold_and_look() -> None:
        while not stop.is_set():
            with catalogue.folding():
                Storage.open(path, labels=False).fold_labels()
            catalogue.refresh()

    thread = threading.Thread(target=fold_and_look)
    thread.start()
    try:
        for number in range(25):
            with recording(journal, _Values(catalogue)) as recorder:
                recorder.give([Wish([id_], "label", f"number {number}")])
            catalogue.labelled()
            for _ in range(20):
                seen.append(catalogue.current().rows(np.array([5]), ["label"])[0]["label"])
    finally:
        stop.set()
        thread.join()
    assert seen == [f"number {number}" for number in range(25) for _ in range(20)]


@given(TEXTS, st.data())
def test_a_dictionary_is_sorted_counted_and_changed_as_the_texts_are(
    texts: list[str | None], data: st.DataObject
) -> None:
    plain = pa.array(texts, pa.string())
    kept = plain.dictionary_encode()
    where = data.draw(st.lists(st.integers(0, max(0, len(texts) - 1)), unique=True, max_size=len(texts)).map(sorted))
    new = pa.array(
        data.draw(st.lists(st.sampled_from([None, "a", "new", ""]), min_size=len(where), max_size=len(where))),
        pa.string(),
    )
    positions = np.array(where, np.int64)
    for column in (plain, kept):
        changed = replaced(column, positions, new)
        expected = list(texts)
        for position, value in zip(where, new.to_pylist(), strict=True):
            expected[position] = value
        assert decoded(changed).to_pylist() == expected and decoded(column).to_pylist() == texts
        for descending in (False, True):
            order = pc.array_sort_indices(
                pa.array(expected, pa.string()), order="descending" if descending else "ascending"
            )
            assert sorted_positions(changed, descending=descending).tolist() == order.to_pylist()
        values, counts = counted(changed.drop_null())
        there = [text for text in expected if text is not None]
        assert dict(zip(values.to_pylist(), counts.to_pylist(), strict=True)) == {
            text: there.count(text) for text in there
        }
    assert decoded(encoded(plain)).equals(plain)


def ids_of(count: int) -> Iterator[str]:
    return (f"{n * 7919 % 100_003:x}" for n in range(count))


@pytest.mark.parametrize("asked", [3, 1500])
def test_ids_are_found_however_many_are_asked_for(asked: int) -> None:
    ids = list(ids_of(5000))
    index = IdIndex(pa.array(ids))
    where = {id_: n for n, id_ in enumerate(ids)}
    wanted = [*ids[::-1][:asked], "", "none", "Ü", ids[0], ids[0]]
    assert index.positions(wanted).tolist() == [where.get(id_, -1) for id_ in wanted]
    assert index.position(ids[77]) == 77 and index.position("zz") is None
    assert index.positions(pa.chunked_array([ids[:10], ids[10:]])).tolist() == list(range(5000))
    assert IdIndex(pa.array([], pa.string())).position("a") is None


def test_a_column_that_could_not_be_read_is_read_again(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = RowReader.to_table

    def torn(self: RowReader, columns: Any = None, where: Any = None) -> pa.Table:
        if columns == ["site"]:
            raise OSError("a network drive that is away")
        return whole(self, columns, where)

    monkeypatch.setattr(RowReader, "to_table", torn)
    catalogue = Catalogue(path)
    first = catalogue.current()
    assert [row["id"] for row in first.rows(np.arange(3), ["id", "label"])] == first.ids.ids[:3].to_pylist()
    with pytest.raises(OSError, match="network drive"):
        first.wait()
    assert first.failed and catalogue.refresh() is first  # nothing better is to be had yet
    monkeypatch.undo()
    again = catalogue.refresh()
    assert not again.failed and again.column("site").null_count == again.table["site"].null_count > 0


def test_ids_are_bytes_where_all_are_uuids() -> None:
    texts = [str(uuid.uuid5(uuid.NAMESPACE_URL, str(n))) for n in range(300)]
    index = IdIndex(pa.array(["row 0", *texts])[1:])
    assert index.uuids is not None and index.uuids.tobytes() == b"".join(uuid.UUID(text).bytes for text in texts)
    for other in (texts[0].upper(), texts[0].replace("-", "x"), "g" + texts[0][1:], "row 0", "é" * 18, None):
        assert IdIndex(pa.array([*texts, other])).uuids is None, other


@pytest.mark.parametrize("worth_an_index", [0, 10**9])  # labels are written where rows are, or rows are written anew
def test_embeddings_are_those_of_the_rows_as_they_are_now(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, worth_an_index: int
) -> None:
    monkeypatch.setattr(in_place, "WORTH_AN_INDEX", worth_an_index)
    vectors = np.random.default_rng(0).normal(size=(300, 4))
    names = [f"p/{n * 29 % 300:03}.jpg" for n in range(300)]
    collection = collection_of_vectors(tmp_path / "c.birder", vectors, names=names)
    catalogue = Catalogue(collection.path)
    ids = collection.to_arrow()["id"].to_pylist()

    def check() -> None:
        rows = Storage.open(collection.path).to_arrow().to_pylist()
        snapshot = catalogue.refresh()
        found, halved = (snapshot.embedded([*ids, ids[0], "absent"], k) for k in (None, 3))
        for each in (found, halved):
            assert {id_: row["uri"] for id_, row in each.items()} == {row["id"]: row["uri"] for row in rows}
        assert all(found[row["id"]]["embedding"].tolist() == row["embedding"] for row in rows)
        for row in rows:
            expected = np.array(row["embedding"]) / np.linalg.norm(row["embedding"])
            assert halved[row["id"]]["embedding"] == pytest.approx(expected, abs=2**-11)

    monkeypatch.setattr(nearest, "_FEW", 10)
    monkeypatch.setattr(vector_files, "GRAPH_FROM", 10)
    monkeypatch.setattr(index, "AUTOMATIC", 10)
    with collection.writing():
        ensure_index(collection)
    snapshot = catalogue.refresh()
    assert vectors_for_graph(snapshot.collection, snapshot.collection._rows.addresses(), 3) is not None
    check()
    give_label(collection, ids[3:40:2], "label", "owl")
    collection.fold_labels()
    check()
    collection_of_vectors(collection.path, vectors[7:9] + 1, names=names[7:9], known=True)
    with collection.writing():
        images_of(collection.path).delete(f"id = '{ids[5]}'")
    check()
