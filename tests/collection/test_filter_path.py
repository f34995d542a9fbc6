"""`path` in filters: what people read of a uri can be asked for, whatever characters it has."""

from __future__ import annotations

import re
import sqlite3
import time
from pathlib import Path

import lancedb
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from birder.collection.filter import parse_filter, quoted
from birder.collection.reading import RowReader
from birder.collection.search import find_row
from birder.errors import FilterError
from birder.sources import Box, path_to_uri, readable_path
from tests.factory import collection_of_vectors

NAMES = (
    "/fotos/Öwl 100%.jpg",
    "/fotos/öwl.jpg",
    "/fotos/plain_owl.jpg",
    "/a/C3.jpg",
    "/a/#1 & co.jpg",
    "/a/b+c=d,e.jpg",
)
ODD = "/a/\udcff owl.jpg"
BOX = Box(0.1, 0.2, 0.305, 0.4).fragment
PARTS = (
    path_to_uri("/a/eine Eule.jpg") + f"#{BOX}",
    path_to_uri("/a/Vögel.mp4") + f"#t=npt:12.5&{BOX}",
    path_to_uri("/a/s#1.tar") + "#ordner%20%C3%B6/x%3D1.jpg",
    path_to_uri("/a/s.tar") + f"#%C3%B6.jpg&{BOX}",
)
OTHERS = ("https://host/K%C3%B6ln.jpg?a=1", "s3://bucket/100%25/öwl.jpg", "urn:uuid:1")
URIS = (*map(path_to_uri, NAMES), path_to_uri(ODD), *PARTS, *OTHERS, "file:///D:/Fotos/%C3%B6.jpg", "file://nas/x.jpg")


def rows_of(uris: tuple[str, ...], **columns: list[str]) -> RowReader:
    table = pa.table({"uri": list(uris), **columns})
    return RowReader(Path("test"), lancedb.connect("memory://").create_table("rows", table))


def matching(rows: RowReader, where: str) -> list[str]:
    found: list[str] = rows.to_table(["uri"], parse_filter(where, rows.columns))["uri"].to_pylist()
    return found


@pytest.fixture(scope="module")
def rows() -> RowReader:
    return rows_of(URIS)


def test_paths_are_what_people_read() -> None:
    assert [readable_path(uri) for uri in URIS] == [
        *NAMES,
        "/a/\ufffd owl.jpg",
        f"/a/eine Eule.jpg#{BOX}",
        f"/a/Vögel.mp4#t=npt:12.5&{BOX}",
        "/a/s#1.tar#ordner ö/x=1.jpg",
        f"/a/s.tar#ö.jpg&{BOX}",
        *OTHERS,
        "D:/Fotos/ö.jpg",
        "//nas/x.jpg",
    ]


def test_a_path_that_is_shown_finds_its_row(rows: RowReader) -> None:
    for uri in URIS:
        if uri == path_to_uri(ODD):
            continue  # the replacement character stands for any byte that is not text
        shown = quoted(readable_path(uri))
        for where in (f"path = {shown}", f"{shown} = PATH", f"`path` IN ({shown}, 'none')", f"path = {shown} = true"):
            assert matching(rows, where) == [uri], where
        rest = [each for each in URIS if each != uri]
        for where in (f"path <> {shown}", f"path NOT IN ('none', {shown})", f"NOT path = {shown}"):
            assert matching(rows, where) == rest, where
    assert len(matching(rows, "path IS NOT NULL")) == len(URIS)


def test_patterns_see_characters_and_not_their_encoding(rows: RowReader) -> None:
    def ask(where: str) -> list[str]:
        return [readable_path(uri) for uri in matching(rows, where)]

    assert ask("path LIKE '%öwl%'") == ["/fotos/öwl.jpg", "s3://bucket/100%25/öwl.jpg"]
    assert ask("path ILIKE '%ÖWL%'") == ["/fotos/Öwl 100%.jpg", "/fotos/öwl.jpg", "s3://bucket/100%25/öwl.jpg"]
    assert ask("path LIKE '%C3%'") == ["/a/C3.jpg", "https://host/K%C3%B6ln.jpg?a=1"]  # a URL is as it is
    assert ask("path LIKE '/fotos/_wl.jpg'") == ["/fotos/öwl.jpg"]
    assert ask(r"path LIKE '%100\%.jpg' ESCAPE '\'") == ["/fotos/Öwl 100%.jpg"]
    assert ask("ends_with(path, 'ö/x=1.jpg') OR starts_with(path, 'D:/Fotos')") == [
        "/a/s#1.tar#ordner ö/x=1.jpg", "D:/Fotos/ö.jpg",
    ]  # fmt: skip
    assert ask("contains(path, '#t=npt:12.5') AND path NOT LIKE '%owl%'") == [f"/a/Vögel.mp4#t=npt:12.5&{BOX}"]
    assert ask("path LIKE '//%'") == ["//nas/x.jpg"]
    assert ask("(starts_with(path, '/a/eine')) = true") == [f"/a/eine Eule.jpg#{BOX}"]


TEXTS = st.text(
    st.sampled_from("aAöÖ€🦉%_\\C3 #&=,:.'[]{}()|^$*+?-~\"\n") | st.characters(exclude_characters="\0/"), max_size=8
)


@settings(max_examples=60, deadline=None)
@given(st.lists(TEXTS.filter(lambda text: text not in (".", "..", "")), min_size=1, max_size=6), st.data())
def test_patterns_agree_with_those_of_sqlite(names: list[str], data: st.DataObject) -> None:
    names = [re.sub("[\ud800-\udfff]", "x", name) for name in names]
    uris = dict.fromkeys([path_to_uri(f"/x/{name}") for name in names])
    rows = rows_of(tuple(uris))
    like = data.draw(st.sampled_from(names).map(lambda name: f"%{name}") | TEXTS.map(lambda text: f"/x/{text}%"))
    like = re.sub("[\ud800-\udfff]", "x", like)
    if re.search(r"(?<!\\)(\\\\)*\\$", like):
        like += "\\"  # nothing would be behind the last one
    sqlite = sqlite3.connect(":memory:")
    sqlite.execute("PRAGMA case_sensitive_like = ON")
    expected = [
        uri for uri in uris if sqlite.execute("SELECT ? LIKE ? ESCAPE '\\'", (readable_path(uri), like)).fetchone()[0]
    ]
    assert matching(rows, f"path LIKE {quoted(like)}") == expected
    sqlite.close()


@pytest.mark.parametrize(
    "where",
    ["lower(path) = 'a'", "path > 'a'", "path LIKE uri", "path LIKE ('a')", "length(path) = 3", "path || 'a' = 'b'",
     "path LIKE '%!%' ESCAPE '!'", "regexp_like(path, 'a')", "starts_with('a', path)", "path BETWEEN 'a' AND 'b'",
     "path"],
)  # fmt: skip
def test_what_cannot_be_asked_of_a_path_is_refused(rows: RowReader, where: str) -> None:
    with pytest.raises(FilterError, match="column path can be compared with texts"):
        parse_filter(where, rows.columns)


def test_a_column_of_the_users_own_comes_first() -> None:
    rows = rows_of(URIS[:2], path=["mine", "öwl"])
    assert matching(rows, "path = 'mine'") == [URIS[0]]
    assert matching(rows, "length(path) = 3") == [URIS[1]]
    assert parse_filter("path = 'mine'", rows.columns).columns == {"path"}
    assert parse_filter("path = 'mine'", {"uri": pa.string()}).columns == {"uri"}


def test_rows_are_named_by_the_paths_that_are_shown(tmp_path: Path) -> None:
    uris = [uri for uri in URIS if uri.startswith("file:///") and uri != path_to_uri(ODD)]
    vectors = np.eye(len(uris), dtype=np.float32)
    names = [uri.removeprefix("file:///") for uri in uris]
    storage = collection_of_vectors(tmp_path / "c.birder", vectors, names=names)
    for uri in uris:
        for name in (readable_path(uri), readable_path(uri).removeprefix("/a/"), uri):
            found = find_row(storage, name)
            assert found is not None and found["uri"] == uri


def test_a_million_paths_are_matched_in_seconds() -> None:
    uris = tuple(path_to_uri(f"/data/Köln 2024/camera {n % 50}/IMG_{n:06d}.jpg") for n in range(20_000))
    rows = rows_of(uris)
    begun = time.perf_counter()
    assert rows.count(parse_filter("path LIKE '%Köln%camera 7/%' AND path NOT ILIKE '%img%1.JPG'", rows.columns)) == 400
    assert time.perf_counter() - begun < 2  # 0.05 s where the machine is quiet
