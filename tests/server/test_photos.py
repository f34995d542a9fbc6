from __future__ import annotations

import hashlib
import io
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from birder.collection.storage import Content, Row, Stamp, Storage
from birder.sources.row_images import shrunk
from tests.factory import DIMENSION, KINDS, card, collection_of_images, jpeg, row_of_file
from tests.server.live import serving


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[httpx.Client, Path]]:
    folder = tmp_path_factory.mktemp("photos")
    collection_of_images(folder)
    with serving(folder / "c.birder") as client:
        yield client, folder


@pytest.fixture(scope="module")
def client(here: tuple[httpx.Client, Path]) -> httpx.Client:
    return here[0]


def rows(client: httpx.Client, **query: object) -> list[dict[str, object]]:
    answer = client.get("photos", params={"limit": 1000, **query})  # type: ignore[dict-item]
    assert answer.status_code == 200, answer.text
    found: list[dict[str, object]] = answer.json()["photos"]
    return found


def number(photo: dict[str, object]) -> int:
    return int(str(photo["name"]).rpartition("/")[2][:4])


def test_the_collection_is_described(client: httpx.Client) -> None:
    told = client.get("collection").json()
    assert told["name"] == "c.birder"
    assert told["model"] == {"name": "tiny", "precision": "fp32", "engine": "torch", "embedding_size": DIMENSION}
    assert (told["rows"], told["failures"], told["writable"]) == (40, 1, True)
    columns = {each["name"]: (each["type"], each["filled"]) for each in told["columns"]}
    assert columns["label"] == ("text", 20)
    assert columns["Temp C"] == ("number", 39)
    assert columns["seen"] == ("time", 40)
    assert columns["night"] == ("boolean", 40)
    assert "embedding" not in columns
    assert told["can"]["search_image"] is False and "birder fetch tiny" in told["can"]["why"]
    assert told["map"] == {"state": "absent", "points": 0, "missing": 40}


def test_list_returns_images_by_uri_in_pages(client: httpx.Client) -> None:
    everything = [number(photo) for photo in rows(client)]
    assert everything == list(range(40))
    page = client.get("photos", params={"offset": 15, "limit": 10}).json()
    assert [number(photo) for photo in page["photos"]] == list(range(15, 25))
    assert (page["total"], page["offset"]) == (40, 15)
    assert client.get("photos", params={"offset": 99}).json()["photos"] == []
    first = page["photos"][0]
    assert set(first) == {"id", "name", "label", "width", "height", "v"}
    assert (first["label"], first["width"], first["height"]) == (KINDS[3], 64, 48)


def test_a_filter_selects_and_a_column_orders(client: httpx.Client) -> None:
    found = rows(client, where="site = 'S1' AND night", order="-Temp C")
    expected = sorted((n for n in range(40) if n % 3 == 1 and n % 2 == 0), reverse=True)
    assert [number(photo) for photo in found] == expected
    assert [number(photo) for photo in rows(client, where="label = 'o''hare'")] == [2, 6, 10, 14, 18]
    assert {number(photo) for photo in rows(client, where="seen < '2024-05-03'")} == {0, 1}


def test_rows_without_a_value_come_last_either_way(client: httpx.Client) -> None:
    for order in ("label", "-label"):
        labels = [photo["label"] for photo in rows(client, order=order)]
        assert None not in labels[:20] and set(labels[20:]) == {None}
    names = [str(photo["label"]) for photo in rows(client, order="label")[:20]]
    assert names == sorted(names)


def test_ids_have_the_order_of_the_list(client: httpx.Client) -> None:
    for query in ({}, {"where": "site = 'S2'", "order": "-Temp C"}):
        listed = client.get("ids", params=query).json()
        assert listed["ids"] == [photo["id"] for photo in rows(client, **query)]
        assert listed["total"] == len(listed["ids"])


@pytest.mark.parametrize(
    "query",
    [
        {"where": "labl = 'owl'"},
        {"where": "label = 'owl"},
        {"where": "label = 'owl'; DROP TABLE images"},
        {"where": "label"},
        {"where": "repeat(label, 100000000) = 'x'"},
        {"where": "label = (SELECT max(label) FROM images)"},
        {"where": "(" * 400 + "bytes = 1" + ")" * 400},
        {"where": " OR ".join(["night"] * 900)},
        {"where": "label = '\0'  OR"},
        {"where": "1 / 0 > 1"},
    ],
)
def test_an_invalid_filter_is_refused_with_a_reason(client: httpx.Client, query: dict[str, str]) -> None:
    answer = client.get("photos", params=query)
    assert answer.status_code == 400
    assert len(answer.json()["detail"]) > 20
    assert client.get("photos").json()["total"] == 40


def test_an_order_by_an_unknown_column_is_refused(client: httpx.Client) -> None:
    for order in ("embedding", "nothing", "-"):
        answer = client.get("photos", params={"order": order})
        assert answer.status_code == 404 and "Unknown column" in answer.json()["detail"]


def test_the_length_of_a_filter_is_limited(client: httpx.Client) -> None:
    assert client.get("photos", params={"where": "label = '" + "x" * 20_000 + "'"}).status_code == 422


def test_an_image_has_its_row_without_the_embedding(client: httpx.Client) -> None:
    photo = rows(client)[2]
    told = client.get(f"photos/{photo['id']}").json()
    assert told["image"] is True and told["uri"].startswith("file://") and told["uri"].endswith(".jpg")
    row = told["row"]
    assert "embedding" not in row
    assert (row["label"], row["night"], row["Temp C"], row["seen"]) == ("o'hare", True, None, "2024-05-03T00:00:00")


@pytest.mark.parametrize("size", [96, 256, 512])
def test_a_thumbnail_is_a_jpeg_no_larger_than_asked_and_kept(here: tuple[httpx.Client, Path], size: int) -> None:
    client, folder = here
    id_ = rows(client)[0]["id"]
    answer = client.get(f"photos/{id_}/thumbnail", params={"size": size})
    assert answer.headers["content-type"] == "image/jpeg"
    image = Image.open(io.BytesIO(answer.content))
    assert image.format == "JPEG" and max(image.size) == min(size, 64)
    sha256 = client.get(f"photos/{id_}").json()["row"]["sha256"]
    kept = folder / "c.birder" / "thumbnails" / sha256[:2] / f"{sha256}-{size}.jpg"
    assert kept.read_bytes() == answer.content
    again = client.get(
        f"photos/{id_}/thumbnail", params={"size": size}, headers={"If-None-Match": answer.headers["etag"]}
    )
    assert again.status_code == 304 and again.content == b""


def test_a_thumbnail_named_with_its_version_may_be_cached_for_good(client: httpx.Client) -> None:
    id_ = rows(client)[1]["id"]
    assert "immutable" in client.get(f"photos/{id_}/thumbnail", params={"v": "1"}).headers["cache-control"]
    assert "immutable" not in client.get(f"photos/{id_}/thumbnail").headers["cache-control"]
    assert client.get(f"photos/{id_}/thumbnail", params={"size": 100}).status_code == 422


def test_concurrent_requests_for_one_thumbnail_make_it_once(
    here: tuple[httpx.Client, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    client, _ = here
    made: list[int] = []
    real = shrunk

    def slow(data: bytes, fragment: str, side: int) -> Image.Image:
        made.append(side)
        time.sleep(0.3)
        return real(data, fragment, side)

    monkeypatch.setattr("birder.server.thumbnails.shrunk", slow)
    url = f"photos/{rows(client)[30]['id']}/thumbnail"
    answers: list[httpx.Response] = []
    threads = [threading.Thread(target=lambda: answers.append(client.get(url))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {(answer.status_code, answer.content) for answer in answers} == {(200, answers[0].content)}
    assert made == [256]


def test_an_image_is_encoded_again_without_metadata_and_bounded(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x010F] = "Secret camera"
    exif[0x0112] = 6  # turned
    path = tmp_path / "large.jpg"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (600, 3000, 3), np.uint8)).save(path, exif=exif)
    collection = Storage.create_or_open(tmp_path / "c", card(DIMENSION))
    with collection.writing():
        collection.write([row_of_file(path, np.ones(DIMENSION))])
    with serving(tmp_path / "c") as client:
        id_ = rows(client)[0]["id"]
        answer = client.get(f"photos/{id_}/image")
        image = Image.open(io.BytesIO(answer.content))
        assert image.format == "JPEG" and image.size == (410, 2048)  # upright
        assert b"Secret" not in answer.content and not image.getexif()
        again = client.get(f"photos/{id_}/image", headers={"If-None-Match": answer.headers["etag"]})
        assert again.status_code == 304


def test_boxes_and_members_of_shards_are_shown(tmp_path: Path) -> None:
    halves = Image.new("RGB", (200, 100), "red")
    halves.paste("blue", (100, 0, 200, 100))
    photo = tmp_path / "halves.png"
    halves.save(photo)
    import tarfile

    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for name, colour in (("one.png", "green"), ("two.png", "yellow")):
            buffer = io.BytesIO()
            Image.new("RGB", (30, 20), colour).save(buffer, "PNG")
            info = tarfile.TarInfo(name)
            info.size = len(buffer.getvalue())
            archive.addfile(info, io.BytesIO(buffer.getvalue()))
    buffer = io.BytesIO()
    Image.new("RGB", (30, 20), "white").save(buffer, "PNG")
    shard = pa.table({"image": [{"bytes": jpeg(1), "path": "x"}, {"bytes": buffer.getvalue(), "path": "y"}]})
    pq.write_table(shard, tmp_path / "a.parquet")
    wanted = {
        f"{photo.as_uri()}#xywh=percent:50,0,50,100": (0, 0, 254),
        f"{photo.as_uri()}#xywh=percent:0,0,50,100": (254, 0, 0),
        f"{(tmp_path / 'a.tar').as_uri()}#two.png": (255, 255, 0),
        f"{(tmp_path / 'a.tar').as_uri()}#one.png": (0, 128, 0),
        f"{(tmp_path / 'a.parquet').as_uri()}#row=1": (255, 255, 255),
    }
    collection = Storage.create_or_open(tmp_path / "c", card(DIMENSION))
    content = Content(np.ones(DIMENSION, np.float32), 1, 1, None, None, None)
    with collection.writing():
        collection.write([Row(uri, hashlib.sha256(uri.encode()).hexdigest(), Stamp(1, 1), content) for uri in wanted])
    with serving(tmp_path / "c") as client:
        for row in rows(client):
            uri = client.get(f"photos/{row['id']}").json()["uri"]
            for kind in ("thumbnail", "image"):
                answer = client.get(f"photos/{row['id']}/{kind}")
                assert answer.status_code == 200, (uri, answer.text)
                colours = np.asarray(Image.open(io.BytesIO(answer.content))).reshape(-1, 3).mean(axis=0)
                assert np.allclose(colours, wanted[uri], atol=4), uri


def test_images_that_are_missing_remote_or_not_images_are_404_with_a_reason(tmp_path: Path) -> None:
    text = tmp_path / "secret.txt"
    text.write_text("root:x:0:0: the password is owl")
    gone = tmp_path / "gone.jpg"
    gone.write_bytes(jpeg())
    content = Content(np.ones(DIMENSION, np.float32), 1, 1, None, None, None)
    uris = [
        text.as_uri(),
        gone.as_uri(),
        "http://127.0.0.1:9/a.jpg",
        "s3://bucket/a.jpg",
        "urn:uuid:1",
        "file:///dev/zero",
        tmp_path.as_uri(),
    ]
    collection = Storage.create_or_open(tmp_path / "c", card(DIMENSION))
    with collection.writing():
        collection.write([Row(uri, hashlib.sha256(uri.encode()).hexdigest(), Stamp(1, 1), content) for uri in uris])
    gone.unlink()
    with serving(tmp_path / "c") as client:
        for row in rows(client):
            told = client.get(f"photos/{row['id']}").json()
            assert told["image"] is (told["uri"] == text.as_uri())
            for kind in ("thumbnail", "image"):
                answer = client.get(f"photos/{row['id']}/{kind}")
                assert answer.status_code == 404
                assert "The image cannot be shown" in answer.json()["detail"]
                assert "password" not in answer.text


def test_a_file_that_has_changed_is_shown_as_it_is_and_not_kept_for_the_former_content(tmp_path: Path) -> None:
    path, copy = tmp_path / "a.jpg", tmp_path / "copy.jpg"
    for each in (path, copy):
        each.write_bytes(jpeg(1))
    collection = Storage.create_or_open(tmp_path / "c", card(DIMENSION))
    with collection.writing():
        collection.write([row_of_file(path, np.ones(DIMENSION)), row_of_file(copy, np.ones(DIMENSION))])
    Image.new("RGB", (64, 48), "red").save(path)
    with serving(tmp_path / "c") as client:
        changed, same = (client.get(f"photos/{row['id']}/thumbnail") for row in rows(client))
    assert np.asarray(Image.open(io.BytesIO(changed.content))).mean(axis=(0, 1))[0] > 250
    assert np.asarray(Image.open(io.BytesIO(same.content))).mean(axis=(0, 1))[0] < 250
    assert changed.headers["etag"] != same.headers["etag"]


@pytest.mark.slow
def test_rows_that_another_process_adds_appear_and_the_version_changes(tmp_path: Path) -> None:
    collection = collection_of_images(tmp_path, 5)
    with serving(tmp_path / "c.birder") as client:
        before = client.get("photos").json()
        assert before["total"] == 5
        new = tmp_path / "photos" / "9999 new.jpg"
        new.write_bytes(jpeg(99))
        with collection.writing():
            collection.write([row_of_file(new, np.ones(DIMENSION))])
        end = time.monotonic() + 10
        while (after := client.get("photos").json())["total"] == 5 and time.monotonic() < end:
            time.sleep(0.05)
        assert after["total"] == 6 and after["version"] != before["version"]
        assert client.get(f"photos/{after['photos'][-1]['id']}/thumbnail").status_code == 200


@pytest.mark.slow
def test_opening_the_page_shows_what_was_committed_a_moment_ago(tmp_path: Path) -> None:
    collection = collection_of_images(tmp_path, 5)
    with serving(tmp_path / "c.birder") as client:
        for rows in range(6, 12):  # each time right after a look, within the time that lists are not looked for again
            assert client.get("collection").json()["rows"] == rows - 1
            new = tmp_path / "photos" / f"{rows:04d} new.jpg"
            new.write_bytes(jpeg(rows))
            with collection.writing():
                collection.write([row_of_file(new, np.ones(DIMENSION))])
            assert client.get("collection").json()["rows"] == client.get("photos").json()["total"] == rows


def test_the_failures_are_listed(client: httpx.Client) -> None:
    told = client.get("failures").json()
    assert told["total"] == 1
    assert told["failures"][0]["name"] == "/gone/bad.jpg" and "not an image" in told["failures"][0]["reason"]
    assert client.get("failures", params={"offset": 1}).json() == {"total": 1, "failures": []}


def test_unknown_ids_and_addresses_are_404(client: httpx.Client) -> None:
    for address in (
        "photos/nothing",
        "photos/nothing/image",
        "photos/nothing/neighbours",
        "photos/nothing/predictions",
        "nothing",
    ):
        answer = client.get(address)
        assert answer.status_code == 404 and isinstance(answer.json()["detail"], str)


def test_lists_and_searches_give_values_of_the_columns_asked_for(client: httpx.Client) -> None:
    columns = ["Temp C", "seen", "night", "label"]
    listed = rows(client, columns=columns, offset=1, limit=3)
    assert [photo["values"] for photo in listed] == [
        {"Temp C": 1.0, "seen": "2024-05-02T00:00:00", "night": False, "label": "fox"},
        {"Temp C": None, "seen": "2024-05-03T00:00:00", "night": True, "label": "o'hare"},  # nan is not a value
        {"Temp C": None, "seen": "2024-05-04T00:00:00", "night": False, "label": "Größe"},
    ]
    asked = {"ids": [listed[0]["id"]], "k": 3, "columns": columns}
    found = client.post("search", json=asked).json()
    assert "columns" not in found["query"] and len(found["photos"]) == 3
    of = {photo["id"]: photo["values"] for photo in rows(client, columns=columns)}
    assert all(photo["values"] == of[photo["id"]] for photo in found["photos"])
    assert "values" not in rows(client)[0]
    unknown = client.get("photos", params={"columns": "embedding"})
    assert unknown.status_code == 404 and "embedding" in unknown.json()["detail"]
