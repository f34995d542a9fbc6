from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from birder.errors import BirderError, ConfigError
from birder.sources import Source, find_images, path_to_uri, read_source, readable, uri_to_path
from birder.sources.table import join_table, read_table, typed

NAMES = st.binary(min_size=1, max_size=40).filter(lambda b: b"/" not in b and b"\0" not in b and b not in (b".", b".."))


@given(st.lists(NAMES, min_size=1, max_size=4))
def test_any_path_survives_as_a_uri(parts: list[bytes]) -> None:
    path = os.fsdecode(b"/" + b"/".join(parts))
    uri = path_to_uri(path)
    assert uri.isascii()
    assert uri_to_path(uri) == path
    # as the standard library, not ours, reads and writes a file URI
    assert not urlsplit(uri).query and not urlsplit(uri).fragment and not urlsplit(uri).netloc
    assert uri == Path(path).as_uri()


def test_a_uri_of_another_kind_is_refused() -> None:
    with pytest.raises(BirderError, match="not a file on this machine"):
        uri_to_path("s3://bucket/owl.jpg")


def make(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x")


def found(*paths: str | Path) -> list[str]:
    return [source.path for source in find_images(paths)]


def test_folders_are_searched_to_the_bottom_for_images_only(tmp_path: Path) -> None:
    make(tmp_path, "b/deep/owl.JPG", "a.png", "notes.txt", ".hidden.jpg", ".trash/x.jpg", "b/._owl.jpg", "b/c.tiff")
    names = [os.path.relpath(path, tmp_path) for path in found(tmp_path)]
    assert names == ["a.png", "b/c.tiff", "b/deep/owl.JPG"]


def test_the_folder_right_above_is_the_label(tmp_path: Path) -> None:
    make(tmp_path, "birds/owl.jpg")
    assert [source.label for source in find_images([tmp_path])] == ["birds"]
    assert [source.label for source in find_images([tmp_path], labels=False)] == [None]


def test_a_file_named_twice_comes_once_and_any_extension_is_taken_if_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(tmp_path, "a/owl.jpg", "scan.dat")
    monkeypatch.chdir(tmp_path)
    assert found(tmp_path, "a/owl.jpg", "a/../a", "scan.dat") == [str(tmp_path / n) for n in ("a/owl.jpg", "scan.dat")]


def test_patterns_find_the_images_that_match(tmp_path: Path) -> None:
    make(tmp_path, "a/1.jpg", "a/b/2.jpg", "a/b/3.png")
    assert found(f"{tmp_path}/**/*.jpg") == [str(tmp_path / "a/1.jpg"), str(tmp_path / "a/b/2.jpg")]
    with pytest.raises(BirderError, match="No files match"):
        found(f"{tmp_path}/*.webp")


def test_a_name_with_pattern_characters_is_a_file_first(tmp_path: Path) -> None:
    make(tmp_path, "owl[1].jpg")
    assert found(tmp_path / "owl[1].jpg") == [str(tmp_path / "owl[1].jpg")]


def test_a_missing_path_is_reported(tmp_path: Path) -> None:
    with pytest.raises(BirderError, match=r"no file or folder .*nowhere"):
        found(tmp_path / "nowhere")


def test_circular_links_are_followed_once(tmp_path: Path) -> None:
    make(tmp_path, "a/owl.jpg")
    (tmp_path / "a" / "up").symlink_to(tmp_path)
    assert found(tmp_path) == [str(tmp_path / "a/owl.jpg")]


def test_a_linked_folder_is_followed(tmp_path: Path) -> None:
    make(tmp_path, "store/owl.jpg")
    (tmp_path / "view").mkdir()
    (tmp_path / "view" / "birds").symlink_to(tmp_path / "store")
    assert found(tmp_path / "view") == [str(tmp_path / "view/birds/owl.jpg")]


def test_file_names_that_are_not_utf8_are_found(tmp_path: Path) -> None:
    make(tmp_path, os.fsdecode(b"fr\xe9d/\xff.jpg"))
    (source,) = find_images([tmp_path])
    assert source.label == "fr\N{REPLACEMENT CHARACTER}d"
    assert read_source(uri_to_path(source.uri)) == b"x"
    readable(source.path).encode("utf-8")


def test_a_pipe_is_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    with pytest.raises(OSError, match="not a regular file"):
        read_source(str(tmp_path / "pipe.jpg"))


@pytest.mark.parametrize(
    ("texts", "values"),
    [
        (["1", "", "-20"], [1, None, -20]),
        (["1", "2.5", "1e3"], [1.0, 2.5, 1000.0]),
        (["007", "008"], ["007", "008"]),
        (["true", "False"], [True, False]),
        (["12345678901234567890", "1"], [12345678901234567890.0, 1.0]),
        (["nan", "1"], ["nan", "1"]),
        (["", ""], [None, None]),
    ],
)
def test_columns_have_the_type_that_all_values_fit(texts: list[str], values: list[object]) -> None:
    assert typed(texts) == values
    assert [type(v) for v in typed(texts)] == [type(v) for v in values]


def table_of(folder: Path, text: str) -> Path:
    path = folder / "photos.csv"
    path.write_text(text, "utf-8")
    return path


def test_names_join_beside_the_table_then_by_the_end_of_the_path(tmp_path: Path) -> None:
    sources = [Source(f"/p/{n}") for n in ("a/crow.jpg", "b/crow.jpg", "b/owl.jpg")]
    sources.append(Source(str(tmp_path / "owl.jpg")))
    table = table_of(tmp_path, "file_name,sex\na/crow.jpg,f\nb\\crow.jpg,m\nowl.jpg,x\nnobody.jpg,y\n")
    joined = join_table(sources, read_table(table))
    assert [source.columns.get("sex") for source in sources] == ["f", "m", None, "x"]
    assert (joined.matched, joined.without_file, joined.ambiguous) == (3, ["nobody.jpg"], [])
    assert joined.without_row == ["/p/b/owl.jpg"]


def test_a_row_with_an_ambiguous_name_matches_no_image(tmp_path: Path) -> None:
    sources = [Source("/p/a/crow.jpg"), Source("/p/b/crow.jpg")]
    joined = join_table(sources, read_table(table_of(tmp_path, "file_name,sex\ncrow.jpg,f\n")))
    assert joined.ambiguous == ["crow.jpg"]
    assert all(not source.columns for source in sources)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("file_name,x\na.jpg,1\nb.jpg,1\n./a.jpg,2\n", "names a.jpg twice, in rows 2 and 4"),
        ("name,x\na.jpg,1\n", "no column of file names"),
        ("file_name,x\na.jpg\n", "row 2: 1 values for 2 columns"),
        ("file_name,x y,x.y\na.jpg,1,2\n", "distinct name"),
        ("", "is empty"),
    ],
)
def test_a_table_that_cannot_be_joined_is_refused(tmp_path: Path, text: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        read_table(table_of(tmp_path, text))


def test_a_table_that_is_neither_utf8_nor_latin_1_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "photos.csv"
    path.write_bytes(b"file_name\nh\x81ron.jpg\n")
    with pytest.raises(ConfigError, match="UTF-8"):
        read_table(path)
