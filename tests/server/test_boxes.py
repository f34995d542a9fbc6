"""The boxes of an image over HTTP: all rows that are of the same one, whatever their names are sorted between."""

from __future__ import annotations

import io
import json
import shutil
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from birder.collection.storage import Storage
from birder.sources import Box, image_of, uri_to_path
from tests.cli.running import shared_session
from tests.factory import card, collection_of, collection_of_columns, jpeg, row_of_file
from tests.server.live import serving

CAMERA = Path(__file__).parents[2] / "examples" / "camera-trap"
IMAGES = [
    *("file:///p/a.jpg", "file:///p/a.jpg!.jpg", "file:///p/a.jpg%23.jpg", "file:///p/a.jp", "file:///p/a.jpg.jpg"),
    *("file:///p/v.mp4#t=npt:2", "file:///p/v.mp4#t=npt:10.5", "file:///p/v.mp4#t=npt:100"),
    *("file:///p/s.tar#dir/a.jpg", "file:///p/s.tar#dir/a.jpg.png", "https://x.org/a.jpg", "file:///p/%C3%A4.jpg"),
]


@pytest.mark.parametrize("frames", [False, True])
def test_every_row_finds_those_of_its_own_image(tmp_path: Path, frames: bool) -> None:
    random = np.random.default_rng(3)
    uris = []
    for image in [image for image in IMAGES if frames or "npt" not in image]:
        if random.random() < 0.6:
            uris.append(image)
        for _ in range(random.integers(0, 5)):
            box = Box(*random.uniform(0.01, 0.4, 4).round(6).tolist())
            uris.append(f"{image}{'&' if '#' in image else '#'}{box.fragment}")
    random.shuffle(uris)
    collection_of_columns(tmp_path / "c.birder", {uri: {} for uri in uris})
    of_image = defaultdict(list)
    for uri in uris:
        of_image[image_of(uri)].append(uri)
    assert max(map(len, of_image.values())) > 2
    with serving(tmp_path / "c.birder") as client:
        ids = {}
        for id_ in client.get("ids").json()["ids"]:
            ids[client.get(f"photos/{id_}").json()["uri"]] = id_
        for uri in uris:
            answer = client.get(f"photos/{ids[uri]}/boxes").json()
            same = of_image[image_of(uri)]
            assert {each["id"] for each in answer["boxes"]} == {ids[each] for each in same if "xywh" in each}
            assert answer["whole"] == (ids[image_of(uri)] if image_of(uri) in same else None)
            lefts = [each["place"]["x"] for each in answer["boxes"]]
            assert lefts == sorted(lefts)
        assert client.get("photos/no-such-id/boxes").status_code == 404


@pytest.fixture
def client(tmp_path: Path) -> Iterator[httpx.Client]:
    """An image with a row of its own and three boxes, of which a detector and a model said something."""
    path = tmp_path / "a.jpg"
    path.write_bytes(jpeg(1, (200, 100)))
    rows = [row_of_file(path, np.ones(4))]
    for number in range(3):
        row = row_of_file(path, np.eye(4)[number])
        told = {"category": "animal", "confidence": 0.5 + number / 10, "predicted_label": "fox", "predicted_score": 0.9}
        row.columns |= told
        row.uri += f"#xywh=percent:{70 - 30 * number},20,20,50"
        row.sha256 = f"{number:064x}"
        rows.append(row)
    types = {"category": pa.string(), "confidence": pa.float64(), "predicted_label": pa.string()}
    types["predicted_score"] = pa.float32()
    collection_of(tmp_path / "c.birder", rows, model=card(4), types=types)
    with serving(tmp_path / "c.birder") as client:
        yield client


def boxes_of(client: httpx.Client, id_: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = client.get(f"photos/{id_}/boxes").raise_for_status().json()["boxes"]
    return found


def test_a_box_tells_what_is_known_and_its_image_can_be_had_whole(client: httpx.Client) -> None:
    first = client.get("ids").json()["ids"][0]
    left, middle, right = boxes_of(client, first)
    assert left["place"] == {"x": 0.1, "y": 0.2, "width": 0.2, "height": 0.5}
    assert (middle["category"], middle["confidence"], middle["predicted"], middle["box"]) == (
        "animal",
        0.6,
        "fox",
        None,
    )
    sizes = {}
    for whole in ("", "?whole=true", "?full=true", "?full=true&whole=true"):
        answer = client.get(f"photos/{right['id']}/image{whole}")
        sizes[whole] = Image.open(io.BytesIO(answer.content)).size
        again = client.get(f"photos/{right['id']}/image{whole}", headers={"If-None-Match": answer.headers["etag"]})
        assert again.status_code == 304
    assert sizes == {
        "": (40, 50),
        "?whole=true": (200, 100),
        "?full=true": (40, 50),
        "?full=true&whole=true": (200, 100),
    }


def test_a_wrong_box_is_in_no_list_until_it_is_asked_for_and_comes_back(client: httpx.Client) -> None:
    ids = client.get("ids").json()["ids"]
    wrong = boxes_of(client, ids[0])[0]["id"]
    act = client.post("labels", json={"ids": [wrong], "column": "box", "value": "wrong"}).json()["act"]
    assert {each["id"]: each["box"] for each in boxes_of(client, wrong)}[wrong] == "wrong"  # still told of the image
    assert client.get("photos").json()["total"] == 3
    assert wrong not in client.get("ids").json()["ids"]
    assert client.get("review").json()["total"] == 2
    assert client.get("columns/category/values").json()["values"] == [{"value": "animal", "count": 2}]
    assert client.get("columns/box/values").json()["values"] == [{"value": "wrong", "count": 1}]
    near = client.post("search", json={"ids": [ids[0]], "k": 10}).json()["photos"]
    assert len(near) >= 2
    assert wrong not in {each["id"] for each in near}
    assert client.post("search", json={"k": 10}).status_code == 400  # nothing is asked for
    assert client.get("ids", params={"where": "box = 'wrong'"}).json()["ids"] == [wrong]
    assert client.get("ids", params={"where": f"id = '{wrong}'"}).json()["ids"] == [wrong]
    client.post("labels/undo", json={"act": act}).raise_for_status()
    assert client.get("ids").json()["ids"] == ids


@pytest.mark.slow
def test_a_drawn_box_is_as_embed_makes_one_and_outlives_the_next_run(tmp_path: Path) -> None:
    folder = tmp_path / "card"
    shutil.copytree(CAMERA, folder)
    collection = tmp_path / "c.birder"
    run = shared_session().run
    command = ("embed", folder, "--in", collection, "--detect")
    run(*command)
    with serving(collection) as client:
        before = client.get("ids").json()["ids"]
        of_boxes = [id_ for id_ in before if "xywh" in client.get(f"photos/{id_}").json()["name"]]
        old = of_boxes[0]
        client.post("labels", json={"ids": [old], "column": "species", "value": "Vulpes vulpes"}).raise_for_status()
        place = {"x": 0.25, "y": 0.25, "width": 0.25, "height": 0.5}
        asked = place | {"corrects": True, "by": "Ada"}
        fixed = client.post(f"photos/{old}/boxes", json=asked).raise_for_status().json()
        added = client.post(f"photos/{old}/boxes", json={"x": 0, "y": 0, "width": 0.5, "height": 0.5, "label": "hare"})
        rows = {id_: client.get(f"photos/{id_}").json()["row"] for id_ in (old, fixed["id"], added.json()["id"])}
        was, now, new = rows.values()
        assert [row["box"] for row in rows.values()] == ["wrong", "right", "right"]
        assert (now["species"], now["label"], new["species"], new["label"]) == ("Vulpes vulpes", "creek", None, "hare")
        assert now["deployment"] == new["deployment"] == was["deployment"]
        assert (now["box_x"], now["box_height"], now["category"]) == (0.25, 0.5, "animal")
        (act, *_) = client.get("labels/history", params={"by": "Ada"}).json()["acts"]
        assert act["act"] == fixed["act"]
        for wrong, why in (
            ({"corrects": True}, "where it was"),
            ({"width": 0}, "no area"),
            ({"by": "\n"}, "A name"),
        ):
            answer = client.post(f"photos/{fixed['id']}/boxes", json=place | wrong)
            assert answer.status_code == 400 and why in answer.json()["detail"]
        whole = next(id_ for id_ in before if id_ not in of_boxes)
        assert "whole image" in client.post(f"photos/{whole}/boxes", json=asked).json()["detail"]
        client.post("labels/undo", json={"act": fixed["act"]}).raise_for_status()
        boxes = {each["id"]: each["box"] for each in boxes_of(client, old)}
        assert (boxes[old], boxes[fixed["id"]], boxes[added.json()["id"]]) == (None, "wrong", "right")
        again = client.post(f"photos/{old}/boxes", json=asked).raise_for_status().json()
        assert again["id"] == fixed["id"]  # the row is there already
        number = client.get("collection").json()["rows"]
        assert number == len(before) + 2
    assert "nothing to do" in run(*command).stderr.lower()
    stored = Storage.open(collection)
    assert stored.count() == number
    table = stored.to_arrow().select(["id", "uri", "box", "embedding", "sha256", "width", "height"]).to_pylist()
    assert len({row["uri"] for row in table}) == number
    # The same box from a file of boxes has the same row.
    drawn = next(row for row in table if row["id"] == fixed["id"])
    file = str(Path(uri_to_path(drawn["uri"])).relative_to(folder))
    detection = {"category": "1", "conf": 0.9, "bbox": list(place.values())}
    results: dict[str, Any] = {"info": {"format_version": "1.4"}, "detection_categories": {"1": "animal"}}
    results["images"] = [{"file": file, "detections": [detection]}]
    (tmp_path / "boxes.json").write_text(json.dumps(results))
    run("embed", folder, "--in", tmp_path / "d.birder", "--crops", tmp_path / "boxes.json")
    same = next(row for row in Storage.open(tmp_path / "d.birder").to_arrow().to_pylist() if "xywh" in row["uri"])
    for name in ("id", "uri", "sha256", "width", "height"):
        assert same[name] == drawn[name]
    a, b = np.array(same["embedding"]), np.array(drawn["embedding"])
    assert a @ b / np.linalg.norm(a) / np.linalg.norm(b) > 0.9999
