"""Sources that fsspec opens: a real HTTP server on this machine, and the memory file system."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import fsspec
import pytest

from birder.errors import BirderError, ConfigError
from birder.formats.sources import find_sources
from birder.sources import Source, load_source, read_source, stamp_of
from tests.pipeline.sourced import png, rows_of, run
from tests.sources.remote import site
from tests.sources.shards import TREE, write_parquet, write_tar

__all__ = ["site"]

pytest.importorskip("aiohttp", reason="the extra remote is not installed")


def test_a_remote_image_is_read_and_its_change_is_noticed_without_reading(
    site: tuple[str, Path, list[Any]],
) -> None:
    url, folder, asked = site
    (folder / "owl.jpg").write_bytes(b"owl")
    os.utime(folder / "owl.jpg", (1_000_000_000, 1_000_000_000))
    (source,) = find_sources([f"{url}/owl.jpg"])
    assert source.uri == f"{url}/owl.jpg"
    assert read_source(source.path) == b"owl"
    asked.clear()
    before = stamp_of(source)
    assert before is not None
    assert (before.bytes, before.modified) == (3, 1_000_000_000_000_000)
    assert {command for command, _ in asked} == {"HEAD"}
    os.utime(folder / "owl.jpg", ns=(1, 1_000_000_000_000_000_001))  # the same second: only the ETag tells
    assert stamp_of(source) != before


def test_a_large_remote_image_is_read_whole(site: tuple[str, Path, list[Any]]) -> None:
    data = os.urandom(5_000_000)
    (site[1] / "scan.jpg").write_bytes(data)
    assert read_source(f"{site[0]}/scan.jpg") == data


def test_urls_become_rows_once_and_are_not_fetched_again(site: tuple[str, Path, list[Any]], tmp_path: Path) -> None:
    url, folder, asked = site
    for i in range(4):
        (folder / f"{i}.png").write_bytes(png(i))
    lines = "".join(f"{url}/{i}.png,{i}\n" for i in range(5)) + "nosuchprotocol://x/y.jpg,6\n"
    (tmp_path / "list.csv").write_text("url,n\n" + lines)
    _, summary = run(tmp_path, find_sources([tmp_path / "list.csv"]))
    assert summary.embedded == 4
    assert dict(summary.failed)[f"{url}/4.png"] == "the file does not exist"
    assert "s3fs" in dict(summary.failed)["nosuchprotocol://x/y.jpg"]
    assert sorted(row["n"] for row in rows_of(tmp_path).values()) == [0, 1, 2, 3]  # type: ignore[type-var]
    asked.clear()
    todo, _ = run(tmp_path, find_sources([tmp_path / "list.csv"]))
    assert (todo.done, todo.failed_before, todo.pending) == (4, 2, [])
    assert ("GET", "/0.png") not in asked
    (folder / "2.png").write_bytes(png(9))
    todo, summary = run(tmp_path, find_sources([tmp_path / "list.csv"]))
    assert [item.uri for item in todo.pending] == [f"{url}/2.png"] and summary.embedded == 1


def test_a_missing_url_raises_os_error(site: tuple[str, Path, list[Any]]) -> None:
    source = Source(f"{site[0]}/nobody.jpg")
    assert stamp_of(source) is None
    with pytest.raises(FileNotFoundError):
        load_source(source)


def test_an_unreachable_server_raises_os_error() -> None:
    with pytest.raises(OSError, match="."):
        read_source("http://127.0.0.1:9/owl.jpg")


def test_shards_are_read_by_ranges(site: tuple[str, Path, list[Any]]) -> None:
    url, folder, _ = site
    write_tar(folder / "x.tar", TREE)
    write_parquet(folder / "x.parquet", 40, 16)
    (tar,) = find_sources([f"{url}/x.tar"])
    assert tar.members is not None
    owl, _ = tar.members.sources()
    assert owl.uri == f"{url}/x.tar#20.jpg"
    assert load_source(owl).data == b"owl"
    (table,) = find_sources([f"{url}/x.parquet"])
    assert table.members is not None
    rows = list(table.members.sources())
    assert len(rows) == 40 and load_source(rows[33]).data == b"33" * 100


def test_a_fetched_manifest_names_images_beside_it(site: tuple[str, Path, list[Any]]) -> None:
    url, folder, _ = site
    (folder / "set").mkdir()
    (folder / "set" / "list.csv").write_text("path,n\nimg/a.jpg,1\n/etc/passwd,2\n")
    a, b = find_sources([f"{url}/set/list.csv"])
    assert (a.path, a.problem, dict(a.columns)) == (f"{url}/set/img/a.jpg", None, {"n": 1})
    assert "leads out" in str(b.problem)


def test_a_bucket_is_listed(tmp_path: Path) -> None:
    memory = fsspec.filesystem("memory")
    for name in ("b/1.jpg", "b/deep/2.PNG", "b/notes.txt"):
        memory.pipe(f"/birder-test/{name}", b"x")
    assert [s.uri for s in find_sources(["memory://birder-test/b/"])] == [
        "memory:///birder-test/b/1.jpg",
        "memory:///birder-test/b/deep/2.PNG",
    ]
    assert [s.path for s in find_sources(["memory://birder-test/b/*.jpg"])] == ["memory:///birder-test/b/1.jpg"]
    memory.pipe("/birder-test/b/owl.MP4", b"x")
    videos = [each for each in find_sources(["memory://birder-test/b/"]) if each.path.endswith(".MP4")]
    assert len(videos) == 1 and "download it first" in str(videos[0].problem)
    with pytest.raises(BirderError, match="no images"):
        find_sources(["memory://birder-test/nowhere/"])
    stamp = stamp_of(Source("memory://birder-test/b/1.jpg"))
    assert stamp is not None and stamp.bytes == 1 and stamp.modified is not None


def test_an_unknown_protocol_names_the_package_to_install() -> None:
    with pytest.raises(ConfigError, match="s3fs"):
        read_source("nosuchprotocol://bucket/owl.jpg")
