"""The videos of frames as the server sends them: whole, in parts, and nothing but videos of the collection's rows."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.responses import FileResponse
from starlette.testclient import TestClient

from birder.server.byte_ranges import byte_range
from tests.factory import collection_of_columns, jpeg
from tests.server.live import serving
from tests.sources.videos import write_video

FIRST_BYTES = b"\0\0\0\x18ftypmp42"


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_video(tmp_path_factory.mktemp("videos") / "Füchse 1.MP4", 75)


@pytest.fixture(scope="module")
def client(clip: Path) -> Iterator[httpx.Client]:
    rows = {f"{clip.as_uri()}#t=npt:{seconds}": {"video_seconds": float(seconds)} for seconds in (1, 2.5, 10)}
    collection_of_columns(clip.parent / "c.birder", rows, {"video_seconds": pa.float64()})
    with serving(clip.parent / "c.birder") as client:
        yield client


@pytest.fixture(scope="module")
def address(client: httpx.Client) -> str:
    return f"photos/{client.get('ids').json()['ids'][1]}/video"


NUMBERS = st.one_of(st.integers(0, 60), st.integers(0, 10**25)).map(str) | st.just("")


@given(first=NUMBERS, last=NUMBERS, size=st.integers(1, 50), zeros=st.sampled_from(["", "0", "000"]))
def test_a_range_names_the_positions_between_its_ends(first: str, last: str, size: int, zeros: str) -> None:
    found = byte_range(f"Bytes= {first and zeros + first}-{last and zeros + last}", size)
    if not (first or last) or (first and last and int(last) < int(first)):
        assert found is None
    elif first:
        end = int(last) if last else size
        assert found is not None and list(found) == [n for n in range(size) if int(first) <= n <= end]
    else:
        assert found is not None and list(found) == list(range(size))[max(size - int(last), 0) :]


@given(st.text(st.sampled_from("bytes=0123456789-, \t٣_+.")) | st.text(max_size=30))
def test_what_is_not_one_range_is_ignored(header: str) -> None:
    found = byte_range(header, 100)
    assert found is None or (header.strip().lower().startswith("bytes=") and "," not in header and header.isascii())
    for each in (f"bytes={header},0-1", f"seconds=0-1{header}", f"bytes=0x1-{header}", f"bytes=-٣{header}"):
        assert byte_range(each, 100) is None


def test_parts_are_those_that_another_server_sends(client: httpx.Client, address: str, clip: Path) -> None:
    """Starlette's own answers for a file (https://www.starlette.io/responses/#fileresponse) are the reference."""
    size = clip.stat().st_size
    other = TestClient(FileResponse(clip))
    for asked in (
        "0-0",
        "0-",
        "10-99",
        f"{size - 1}-",
        "-1",
        "-100",
        f"-{size + 9}",
        f"5-{size + 9}",
        f"{size}-",
        "-0",
    ):
        headers = {"Range": f"bytes={asked}"}
        ours, theirs = client.get(address, headers=headers), other.get("/", headers=headers)
        assert ours.status_code == theirs.status_code, asked
        assert ours.headers["content-range"].replace("bytes */", "") == theirs.headers["content-range"].replace(
            "bytes */", ""
        ), asked
        if ours.status_code == 206:
            assert ours.content == theirs.content and ours.headers["content-length"] == str(len(theirs.content))
        else:
            assert ours.status_code == 416 and f"{size:,} bytes" in ours.json()["detail"]


def test_the_whole_video_is_sent_as_it_is(client: httpx.Client, address: str, clip: Path) -> None:
    whole = client.get(address)
    assert (whole.status_code, whole.content) == (200, clip.read_bytes())
    assert whole.headers["content-type"] == "video/mp4" and whole.headers["accept-ranges"] == "bytes"
    assert "media-src 'self'" in whole.headers["content-security-policy"]
    for ignored in ("bytes=9-2", "bytes=0-1,5-9", "frames=0-1", "bytes"):
        assert client.get(address, headers={"Range": ignored}).content == whole.content
    head = client.head(address, headers={"Range": "bytes=0-1"})  # which counts for GET alone
    assert (head.status_code, head.content, head.headers["content-length"]) == (200, b"", str(len(whole.content)))
    tag, changed = whole.headers["etag"], whole.headers["last-modified"]
    assert client.get(address, headers={"If-None-Match": tag}).status_code == 304
    for condition, status in ((tag, 206), (changed, 206), ('"other"', 200), (f"W/{tag}", 200)):
        assert client.get(address, headers={"Range": "bytes=0-9", "If-Range": condition}).status_code == status
    assert client.post(address).headers["allow"] == "GET, HEAD"
    assert client.get(address, headers={"Sec-Fetch-Site": "cross-site"}).status_code == 403


def test_frames_say_their_video_and_are_listed_in_the_order_of_time(client: httpx.Client) -> None:
    ids = client.get("ids").json()["ids"]
    videos = [client.get(f"photos/{id_}").json()["video"] for id_ in ids]
    assert videos == [
        {"name": "Füchse 1.MP4", "media_type": "video/mp4", "seconds": seconds} for seconds in (1, 2.5, 10)
    ]
    assert client.get("ids", params={"where": "video_seconds > 1"}).json()["ids"] == ids[1:]


@pytest.mark.slow
def test_nothing_but_videos_of_frames_is_sent(tmp_path: Path) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text("the password is owl")
    (tmp_path / "text.mp4").write_text("the password is owl, and this is no video")
    (tmp_path / "link.mp4").symlink_to(secret)
    (tmp_path / "folder.mp4").mkdir()
    os.mkfifo(tmp_path / "pipe.mp4")
    (tmp_path / "photo.jpg").write_bytes(jpeg(1))
    video = write_video(tmp_path / "video.avi", 3, codec="mpeg4")
    (tmp_path / "video.txt").write_bytes(video.read_bytes())
    names = ["secret.txt", "text.mp4", "link.mp4", "folder.mp4", "pipe.mp4", "photo.jpg", "gone.mp4", "video.txt"]
    uris = [f"{(tmp_path / name).as_uri()}#t=npt:0" for name in names]
    uris += [
        (tmp_path / "photo.jpg").as_uri(),
        video.as_uri(),
        f"{video.as_uri()}#t=npt:",
        "http://127.0.0.1:9/a.mp4#t=npt:0",
    ]
    rows: dict[str, dict[str, float]] = {uri: {} for uri in [*uris, f"{video.as_uri()}#t=npt:0&xywh=percent:0,0,50,50"]}
    collection_of_columns(tmp_path / "c.birder", rows)
    with serving(tmp_path / "c.birder") as client:
        sent = []
        for id_ in client.get("ids").json()["ids"]:
            answer = client.get(f"photos/{id_}/video")
            assert "password" not in answer.text
            if answer.status_code == 200:
                sent.append(client.get(f"photos/{id_}").json()["uri"])
                assert answer.headers["content-type"] == "video/x-msvideo" and answer.content == video.read_bytes()
            else:
                assert answer.status_code == 404 and answer.json()["detail"]
        assert sent == [f"{video.as_uri()}#t=npt:0&xywh=percent:0,0,50,50"]
        for traversal in ("..%2f..%2fsecret.txt", "file%3A%2F%2F%2Fetc%2Fpasswd", "%00"):
            assert client.get(f"photos/{traversal}/video").status_code == 404
    with serving(tmp_path / "c.birder", token="kuckuck-und-eisvogel-7") as locked:
        assert locked.get(f"photos/{id_}/video").status_code == 401


@pytest.mark.slow
def test_a_video_that_shrinks_or_stalls_neither_lies_nor_holds_up_the_server(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    large = tmp_path / "large.mp4"
    with large.open("wb") as file:
        file.write(FIRST_BYTES)
        file.truncate(300 << 20)
    collection_of_columns(tmp_path / "c.birder", {f"{large.as_uri()}#t=npt:1": {}})
    with serving(tmp_path / "c.birder") as client:
        address = f"photos/{client.get('ids').json()['ids'][0]}/video"
        tail = client.get(address, headers={"Range": "bytes=-5"})
        assert (
            tail.content == bytes(5)
            and tail.headers["content-range"] == f"bytes {(300 << 20) - 5}-{(300 << 20) - 1}/{300 << 20}"
        )
        stalled = socket.create_connection(("127.0.0.1", client.base_url.port or 0))
        stalled.sendall(f"GET {client.base_url.path}{address} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
        assert stalled.recv(12) == b"HTTP/1.1 200"
        with client.stream("GET", address) as answer, pytest.raises(httpx.RemoteProtocolError, match="without sending"):
            parts = answer.iter_raw()
            next(parts)
            os.truncate(large, 30 << 20)
            for _ in parts:
                pass
        assert client.get("collection").status_code == 200
        begin = time.monotonic()
    assert time.monotonic() - begin < 5
    stalled.close()
    assert "Traceback" not in capfd.readouterr().err
