"""Exporting the same rows twice gives the same bytes, in every format that is written."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, get_args

import pyarrow as pa
import pytest
from PIL import Image

from birder.collection.labels import give_label
from birder.collection.storage import Storage
from birder.formats.boxes import BoxFormat, DetectorFacts, write_boxes
from birder.formats.export import export
from birder.formats.table import FOLDER, FORMATS, export_formats
from birder.inference.detector import Detection, ImageDetections
from tests.factory import collection_of_columns
from tests.formats.camtrap import PREDICTED, PROJECT, check

PREDICTED_AT = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.fixture
def collection(tmp_path: Path) -> Storage:
    (tmp_path / "photos").mkdir()
    rows: dict[str, dict[str, Any]] = {}
    for number in range(4):
        path = tmp_path / "photos" / f"{number}.jpg"
        Image.new("RGB", (40, 30), (60 * number, 90, 90)).save(path)
        named = {"label": "fox"} if number else {"predicted_label": "owl", "predicted_score": 0.75}
        when = {"predicted_at": PREDICTED_AT, "predicted_by": "net"} if not number else {}
        rows[path.as_uri()] = {"deployment": "A", "sequence": "1", **named, **when}
    types = {**PREDICTED, "predicted_at": pa.timestamp("us", "UTC")}
    types |= dict.fromkeys(("predicted_by", "deployment", "sequence"), pa.string())
    return collection_of_columns(tmp_path / "c.birder", rows, types)


def written(folder: Path) -> dict[str, bytes]:
    files = [folder] if folder.is_file() else sorted(folder.rglob("*"))
    return {str(file.relative_to(folder)): file.read_bytes() for file in files if file.is_file()}


@pytest.mark.slow
def test_every_format_gives_the_same_bytes_again(collection: Storage, tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    box = {"category": "1", "conf": 0.9, "bbox": [0.1, 0.1, 0.5, 0.5]}
    results = {
        "info": {"format_version": "1.3", "classification_completion_time": "2020-01-01 00:00:00"},
        "detection_categories": {"1": "animal"},
        "images": [{"file": f"{number}.jpg", "detections": [box]} for number in range(4)],
    }
    (photos / "md.json").write_text(json.dumps(results))
    table = collection.to_arrow()
    points = {id_: (float(number), 0.5) for number, id_ in enumerate(table["id"].to_pylist())}
    options: dict[str, dict[str, Any]] = {
        "camtrap-dp": {"project": PROJECT}, "megadetector": {"results": photos / "md.json"},
        "embedding-atlas": {"points": points},
    }  # fmt: skip
    found: list[dict[str, dict[str, bytes]]] = []
    for round_ in ("first", "second"):
        (tmp_path / round_).mkdir()
        made: dict[str, dict[str, bytes]] = {}
        for name in export_formats():
            for ending in FORMATS[name].endings:
                to = photos if name == "xmp" else tmp_path / round_ / f"{name}{ending}"
                export(collection, to, **{"format": name, **options.get(name, {})})
                made[name + ending] = written(to)
                if ending != FOLDER:
                    assert list(made[name + ending]) == ["."]
        for sidecar in photos.glob("*.xmp"):
            sidecar.unlink()
        found.append(made)
        time.sleep(1.1)  # clocks in files go by the second
    differing = [name for name in found[0] if found[0][name] != found[1][name]]
    assert not differing and all(found[0].values())
    package = json.loads(found[0]["camtrap-dp"]["datapackage.json"])
    assert package["created"] == "2026-03-01T12:00:00Z"
    check(tmp_path / "first" / "camtrap-dp", tmp_path)
    merged = json.loads(found[0]["megadetector.json"]["."])
    assert merged["info"]["classification_completion_time"] == "2026-03-01 12:00:00"
    give_label(collection, [table["id"][1].as_py()], "label", "lynx", by="Ada")
    collection = Storage.open(collection.path)
    export(collection, tmp_path / "third", format="camtrap-dp", project=PROJECT)
    created = datetime.fromisoformat(json.loads((tmp_path / "third" / "datapackage.json").read_text())["created"])
    assert datetime.now(UTC) - created < timedelta(minutes=5), "a label is the latest change"


@pytest.mark.slow
def test_boxes_are_written_as_the_same_bytes_again(tmp_path: Path) -> None:
    found = [ImageDetections("a.jpg", (Detection("animal", 0.9, 0.1, 0.1, 0.5, 0.5),), None, 40, 30)]
    facts = DetectorFacts("net", "00", (640, 640), 0.1)
    for form in get_args(BoxFormat):
        write_boxes(tmp_path / f"{form}-1.json", found, facts, form, force=False)
    time.sleep(1.1)
    for form in get_args(BoxFormat):
        write_boxes(tmp_path / f"{form}-2.json", found, facts, form, force=False)
        assert (tmp_path / f"{form}-1.json").read_bytes() == (tmp_path / f"{form}-2.json").read_bytes()
