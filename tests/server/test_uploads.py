from __future__ import annotations

import gzip
import io
import os
import pickle
import resource
import struct
import time
import zipfile
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image

from birder.errors import ImageError
from birder.images.apart import Decoders
from birder.images.open import open_image
from birder.images.transform import ClassificationTransform
from birder.server.routes.uploads import Upload, decode_upload
from tests.factory import collection_by_model, jpeg
from tests.robustness.memory import tree_memory
from tests.server.live import serving

TRANSFORM = {
    "size": [8, 8],
    "mean": [0.5] * 3,
    "std": [0.5] * 3,
    "center_crop": 1.0,
    "simple_crop": False,
    "draft": True,
}


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory, photos: Path) -> Iterator[httpx.Client]:
    folder = tmp_path_factory.mktemp("uploads")
    spool = tmp_path_factory.mktemp("spool")
    path = collection_by_model(folder, sorted((photos / "birds").glob("*.jpg"))[:1])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", str(spool))
        patch.setattr("tempfile.tempdir", str(spool))
        with serving(path) as client:
            yield client
    assert list(spool.iterdir()) == [], "uploads left files"


def png(width: int, height: int, pixels: bytes) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def zipped() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.jpg", b"\0" * 10_000_000)
    return buffer.getvalue()


def deep_scans() -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save(buffer, "JPEG", progressive=True)
    data = buffer.getvalue()
    start = data.rindex(b"\xff\xda")
    return data[:start] + data[start:-2] * 2000 + b"\xff\xd9"


HOSTILE = {
    "nothing": b"",
    "text": b"owl " * 100,
    "svg": b"<?xml version='1.0'?><svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>",
    "svg with an entity": b"<!DOCTYPE s [<!ENTITY x SYSTEM 'file:///etc/passwd'>]><svg>&x;</svg>",
    "html": b"<!doctype html><script>alert(1)</script>",
    "zip": zipped(),
    "gzip of a picture": gzip.compress(jpeg()),
    "zeros": bytes(1_000_000),
    "truncated": jpeg(size=(640, 480))[:2000],
    "a head alone": jpeg()[:20],
    "a gif's head before html": b"GIF89a<script>alert(1)</script>",
    "a bomb of 65,000 x 65,000": png(65_000, 65_000, zlib.compress(bytes(1_000_000))),
    "more pixels than its data": png(4000, 4000, zlib.compress(b"\0" * 100)),
    "endless scans": deep_scans(),
    "postscript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(/etc/passwd) (r) file",
    "a script": b"#!/bin/sh\ntouch /tmp/owned\n",
    "pickle": pickle.dumps(print),
}


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("address", ["embed", "search/image", "predict"])
def test_uploads_that_are_not_images_are_refused_quickly_with_a_reason(
    client: httpx.Client, address: str, name: str
) -> None:
    begin = time.monotonic()
    answer = client.post(address, files={"file": ("owl.jpg", HOSTILE[name], "image/jpeg")})
    assert answer.status_code == 400, answer.text
    assert "image cannot be used" in answer.json()["detail"]
    assert time.monotonic() - begin < 10


def test_a_polyglot_file_is_decoded_only_as_an_image(client: httpx.Client) -> None:
    for more in (zipped(), b"<script>alert(1)</script>", b"%PDF-1.4"):
        answer = client.post("embed", files={"file": ("<script>.html", jpeg() + more, "text/html")})
        assert answer.status_code == 200
        assert answer.headers["content-type"] == "application/json" and "script" not in answer.text


def test_the_widest_allowed_image_is_decoded(client: httpx.Client) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (65_000, 20), "green").save(buffer, "PNG")
    answer = client.post("embed", files={"file": ("wide.png", buffer.getvalue())})
    assert answer.status_code == 200
    assert (answer.json()["width"], answer.json()["height"]) == (65_000, 20)


class Zeros:
    """A form whose file is zeros, made as they are sent."""

    head = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.jpg"\r\n\r\n'
    tail = b"\r\n--b--\r\n"

    def __init__(self, size: int) -> None:
        self.left = size
        self.size = size + len(self.head) + len(self.tail)

    def __iter__(self) -> Iterator[bytes]:
        yield self.head
        while self.left > 0:
            self.left -= 1 << 20
            yield bytes(1 << 20)
        yield self.tail


@pytest.mark.parametrize("told", [True, False])
@pytest.mark.slow
def test_a_gigabyte_is_refused_and_not_kept(client: httpx.Client, told: bool) -> None:
    zeros = Zeros(1 << 30)
    headers = {"Content-Type": "multipart/form-data; boundary=b"} | (
        {"Content-Length": str(zeros.size)} if told else {}
    )
    begin = time.monotonic()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        answer = client.post("embed", content=iter(zeros), headers=headers)
        assert answer.status_code == 413 and "too large" in answer.json()["detail"]
    except (httpx.WriteError, httpx.ReadError, httpx.RemoteProtocolError):
        pass  # on a slow machine the server has not waited for the end of it
    assert time.monotonic() - begin < 30
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200 << 10  # kilobytes; the server is in here
    assert client.get("collection").status_code == 200


def test_a_large_body_where_none_is_wanted_is_refused(client: httpx.Client) -> None:
    for address in ("search", "labels", "labels/undo"):
        answer = client.post(address, content=b" " * (9 << 20), headers={"Content-Type": "application/json"})
        assert answer.status_code == 413 and "too large" in answer.json()["detail"]


def test_an_invalid_form_is_refused(client: httpx.Client) -> None:
    bodies = {
        "multipart/form-data; boundary=b": b"--b\r\nnonsense",
        "multipart/form-data": b"",
        "application/json": b'{"file": "/etc/passwd"}',
        "application/x-www-form-urlencoded": b"file=/etc/passwd",
        "text/plain": b"owl",
    }
    for kind, body in bodies.items():
        answer = client.post("embed", content=body, headers={"Content-Type": kind})
        assert answer.status_code in (400, 422), kind
        assert isinstance(answer.json()["detail"], str)


@pytest.fixture
def decoders() -> Iterator[Decoders]:
    pool = Decoders(2)
    yield pool
    pool.stop()
    assert all(process.poll() is not None for process in pool._running)


def decode(decoders: Decoders, data: bytes, **changes: object) -> Upload:
    return decode_upload(decoders, io.BytesIO(data), TRANSFORM | changes)


def test_decoders_wait_for_each_other(decoders: Decoders) -> None:
    with ThreadPoolExecutor(9) as pool:
        found = list(pool.map(lambda _: decode(decoders, jpeg())[1:], range(9)))
    assert found == [(64, 48)] * 9
    assert len(decoders._running) <= 2


def test_a_decoder_returns_what_the_transform_returns(decoders: Decoders, photos: Path) -> None:
    path = sorted((photos / "birds").glob("*.jpg"))[0]
    for draft in (True, False):
        transform = ClassificationTransform((32, 32), [0.5] * 3, [0.5] * 3)
        pixels = transform.to_uint8(open_image(path, draft=(32, 32) if draft else None))
        assert np.array_equal(decode(decoders, path.read_bytes(), size=[32, 32], draft=draft).pixels, pixels)


def test_an_upload_whose_client_has_gone_is_not_decoded(decoders: Decoders) -> None:
    file = io.BytesIO(jpeg())
    file.close()
    with pytest.raises(ImageError, match="empty"):
        decode_upload(decoders, file, TRANSFORM)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="tells the memory of a process tree on Linux")
def test_bombs_at_once_take_no_more_than_the_largest_alone(client: httpx.Client) -> None:
    """Each takes 640 MB; two at once took twice that, and the server's own memory."""
    bomb = png(10_000, 8_000, zlib.compress(bytes(8_000 * (1 + 3 * 10_000))))
    base = tree_memory()
    peak = 0
    with ThreadPoolExecutor(6) as pool:
        answers = [pool.submit(client.post, "embed", files={"file": ("bomb.png", bomb)}) for _ in range(6)]
        while not all(answer.done() for answer in answers):
            peak = max(peak, tree_memory())
            time.sleep(0.02)
    assert {answer.result().status_code for answer in answers} == {200}
    assert peak - base < 800_000_000


def test_no_process_of_the_server_writes_what_it_is_sent(client: httpx.Client, tmp_path: Path) -> None:
    assert not os.path.exists("/tmp/owned")  # noqa: PTH110 - as the script above would have made it
