"""File URIs of Windows paths, which are written and read on any system."""

from __future__ import annotations

import os
from pathlib import PureWindowsPath
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from birder.sources import Source, path_to_uri, uri_to_name, uri_to_windows_path, windows_path_to_uri

NAMES = st.text(st.characters(codec="utf-8", exclude_characters='\0/\\:<>"|?*'), min_size=1, max_size=8).filter(
    lambda name: name.strip(". ") == name
)
PATHS = st.builds(
    lambda start, names: start + "\\".join(names),
    st.sampled_from(["D:\\", "c:\\", "\\\\server\\share\\", "\\\\nas 1\\Größe\\"]),
    st.lists(NAMES, max_size=4),
)


@pytest.mark.parametrize(
    ("path", "uri"),
    [
        ("D:\\photos\\owl.jpg", "file:///D:/photos/owl.jpg"),
        ("D:/photos//owl.jpg", "file:///D:/photos/owl.jpg"),
        ("D:\\", "file:///D:/"),
        ("c:\\Größe 1\\50%#.jpg", "file:///c:/Gr%C3%B6%C3%9Fe%201/50%25%23.jpg"),
        ("\\\\server\\share\\owl.jpg", "file://server/share/owl.jpg"),
        ("\\\\server\\my share\\", "file://server/my%20share/"),
        ("\\\\?\\D:\\photos\\owl.jpg", "file:///D:/photos/owl.jpg"),
        ("\\\\?\\UNC\\server\\share\\owl.jpg", "file://server/share/owl.jpg"),
    ],
)
def test_a_windows_path_has_the_uri_of_its_drive_or_server(path: str, uri: str) -> None:
    assert windows_path_to_uri(path) == uri


@given(PATHS)
def test_a_windows_path_has_the_uri_that_the_standard_library_gives_it(path: str) -> None:
    assert windows_path_to_uri(path) == PureWindowsPath(path).as_uri()


@given(PATHS)
def test_the_uri_of_a_windows_path_leads_back_to_it(path: str) -> None:
    assert uri_to_windows_path(windows_path_to_uri(path)) == str(PureWindowsPath(path))


def test_bytes_that_are_not_utf_8_survive_in_the_uri_of_a_windows_path() -> None:
    path = "D:\\gr\udcf6sse.jpg"
    assert windows_path_to_uri(path) == "file:///D:/gr%F6sse.jpg"
    assert uri_to_windows_path("file:///D:/gr%F6sse.jpg") == path


@pytest.mark.skipif(os.name == "nt", reason="paths of POSIX")
@given(st.text(st.sampled_from("aZ9_.~-/ %#é"), max_size=12))
def test_the_uri_of_a_path_is_that_of_its_normal_form_encoded(path: str) -> None:
    expected = "file://" + quote(os.path.abspath("/" + path))  # noqa: PTH100
    assert path_to_uri("/" + path) == Source("/" + path).uri == expected


@pytest.mark.skipif(os.name == "nt", reason="paths of POSIX")
@given(st.text(st.sampled_from("aZ9_.~-/ %#?é&=\udcf6"), max_size=12))
def test_the_name_of_a_uri_is_the_path_that_it_is_of(path: str) -> None:
    uri = path_to_uri("/" + path)
    assert uri_to_name(uri) == os.path.abspath("/" + path).replace("\udcf6", "\ufffd")  # noqa: PTH100 - as path_to_uri
    assert uri_to_name(f"{uri}?v=1") == uri_to_name(uri)
    for other in (f"{uri}#xywh=percent:1,2,3,4", f"https://x.org{path}", ""):
        assert uri_to_name(other) == other
