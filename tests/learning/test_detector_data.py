"""COCO files and VOC folders: what is read, what is left out, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from birder.errors import ConfigError
from birder.learning.detector_data import read_boxes, read_coco, read_validation, read_voc

COCO: dict[str, Any] = {
    "images": [
        {"id": 7, "file_name": "b/one.jpg", "width": 100, "height": 50},
        {"id": 3, "file_name": "a.jpg"},
        {"id": 4, "file_name": "empty.jpg"},
    ],
    "annotations": [
        {"id": 1, "image_id": 7, "category_id": 20, "bbox": [10, 5, 30, 20], "iscrowd": 0},
        {"id": 2, "image_id": 7, "category_id": 10, "bbox": [80, 40, 40, 40], "iscrowd": 1},
        {"id": 3, "image_id": 3, "category_id": 10, "bbox": [1.5, 2.5, 10, 10]},
        {"id": 4, "image_id": 3, "category_id": 10, "bbox": [5, 5, 0, 10]},
        {"id": 5, "image_id": 7, "category_id": 10, "bbox": [120, 5, 10, 10]},
    ],
    "categories": [{"id": 20, "name": "owl"}, {"id": 10, "name": "fox"}],
}
OBJECT = (
    "<object><name>{}</name>{}<bndbox><xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax><ymax>{}</ymax></bndbox></object>"
)


def coco(folder: Path, data: Any = None) -> Path:
    file = folder / "boxes.json"
    file.write_text(data if isinstance(data, str) else json.dumps(COCO if data is None else data), "utf-8")
    return file


def voc(folder: Path, **files: str) -> Path:
    (folder / "annotations").mkdir(parents=True)
    for name, objects in files.items():
        text = f"<annotation><filename>{name}.JPG</filename><size><width>90</width><height>60</height></size>{objects}"
        (folder / "annotations" / f"{name}.xml").write_text(f"{text}</annotation>", "utf-8")
    return folder


def test_a_coco_file_is_read_in_the_order_of_names(tmp_path: Path) -> None:
    data = read_coco(coco(tmp_path))
    assert data.classes == ("fox", "owl")  # by their ids
    assert [each.name for each in data.images] == ["a.jpg", "b/one.jpg", "empty.jpg"]
    one = data.images[1]
    assert one.path == tmp_path / "b/one.jpg"
    assert (one.boxes.tolist(), one.classes.tolist()) == ([[10, 5, 40, 25], [80, 40, 100, 50]], [1, 0])
    assert one.ignored.tolist() == [False, True]
    assert (one.size, data.images[0].size, len(data.images[2].boxes)) == ((50, 100), None, 0)
    assert data.boxes == 2
    assert data.notes == ("2 boxes without area on their image were left out, the first on b/one.jpg.",)
    assert read_coco(coco(tmp_path), Path("else")).images[0].path == Path("else/a.jpg")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("{", "is not JSON"),
        ("[]", "must be an object"),
        ("[" * 100_000, "is not JSON"),
        ({"images": []}, "is not COCO's JSON"),
        ({**COCO, "images": [*COCO["images"], {"id": 3, "file_name": "c.jpg"}]}, "the same id"),
        ({**COCO, "images": [*COCO["images"], {"id": 9, "file_name": "a.jpg"}]}, "two entries for .*a.jpg"),
        ({**COCO, "images": [{"id": 3}, {"id": 7, "file_name": "a.jpg"}]}, "image 3 has no file_name"),
        ({**COCO, "categories": [{"id": 20, "name": "fox"}, {"id": 10, "name": "fox"}]}, "the same name"),
        ({**COCO, "categories": [{"id": 20, "name": "owl"}]}, "annotation 1 .id 2. is of category 10"),
        ({**COCO, "annotations": [{"id": 8, "image_id": 1, "category_id": 10, "bbox": [1, 1, 2, 2]}]}, "is of image 1"),
        ({**COCO, "annotations": [{"id": 8, "image_id": 3, "category_id": 10, "bbox": [1, 1, 2]}]}, "four numbers"),
        ({**COCO, "annotations": [{"id": 8, "image_id": 3, "category_id": 10, "bbox": "1 1 2 2"}]}, "four numbers"),
        ({**COCO, "annotations": [None]}, "four numbers"),
        ({**COCO, "annotations": []}, "no boxes to learn"),
    ],
)
def test_what_is_not_a_coco_file_is_refused(tmp_path: Path, change: Any, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        read_coco(coco(tmp_path, change))
    with pytest.raises(ConfigError, match="Cannot read"):
        read_coco(tmp_path / "missing.json")


def test_boxes_that_are_no_numbers_are_left_out(tmp_path: Path) -> None:
    endless = json.dumps(COCO).replace("1.5", "NaN").replace("120", "Infinity")
    data = read_coco(coco(tmp_path, endless))
    assert data.boxes == 1
    assert data.notes[0].startswith("3 boxes")


def test_a_voc_folder_is_read_with_pixels_counted_from_one(tmp_path: Path) -> None:
    folder = voc(
        tmp_path / "voc",
        b=OBJECT.format("owl", "<difficult>1</difficult>", 1, 1, 90, 60) + OBJECT.format("fox", "", 11, 5, 20, 15),
        a="",
        c=OBJECT.format("fox", "", 5, 5, 999, 30),
    )
    (folder / "images").mkdir()
    (folder / "images" / "b.jpg").touch()  # its XML file says b.JPG
    data = read_voc(folder)
    assert data.classes == ("fox", "owl")
    assert [each.path for each in data.images[:2]] == [folder / "JPEGImages" / "a.JPG", folder / "images" / "b.jpg"]
    assert data.images[1].boxes.tolist() == [[0, 0, 90, 60], [10, 4, 20, 15]]
    assert (data.images[1].ignored.tolist(), data.images[1].size) == ([True, False], (60, 90))
    assert data.images[2].boxes.tolist() == [[4, 4, 90, 30]]  # cut to its image


@pytest.mark.parametrize(
    ("objects", "says"),
    [
        ("<object>", "mismatched"),
        ("<object><name>owl</name></object>", "no bndbox"),
        (OBJECT.format("", "", 1, 1, 2, 2), "no name"),
        (OBJECT.format("owl", "", "one", 1, 2, 2), "could not convert"),
        ("", "no boxes to learn"),
    ],
)
def test_what_is_not_an_annotation_is_refused(tmp_path: Path, objects: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        read_voc(voc(tmp_path / "voc", a=objects))


def test_entities_and_folders_without_annotations_are_refused(tmp_path: Path) -> None:
    folder = voc(tmp_path / "voc", a=OBJECT.format("owl", "", 1, 1, 5, 5))
    (folder / "annotations" / "z.xml").write_text('<!DOCTYPE a [<!ENTITY x "xx">]><annotation>&x;</annotation>')
    with pytest.raises(ConfigError, match="defines entities"):
        read_voc(folder)
    for wrong, says in ((tmp_path, "is not an annotation|defines entities"), (tmp_path / "none", "not a folder")):
        with pytest.raises(ConfigError, match=says):
            read_voc(wrong)
    (tmp_path / "bare").mkdir()
    with pytest.raises(ConfigError, match="no XML files"):
        read_voc(tmp_path / "bare")
    for both in ((None, None), (tmp_path, tmp_path)):
        with pytest.raises(ConfigError, match="either"):
            read_boxes(both[0], both[1], None)


def test_validation_images_are_named_in_a_list_or_have_a_file_of_their_own(tmp_path: Path) -> None:
    training = read_coco(coco(tmp_path))
    names = tmp_path / "judged.txt"
    names.write_text("one\n\n", "utf-8")
    rest, judged = read_validation(names, training, None)
    assert ([each.name for each in judged.images], [each.name for each in rest.images]) == (
        ["b/one.jpg"],
        ["a.jpg", "empty.jpg"],
    )
    for text, says in (("two", "'two' is not one"), ("a.jpg\none.jpg", "no boxes to learn"), ("empty", "to judge")):
        names.write_text(text, "utf-8")
        with pytest.raises(ConfigError, match=says):
            read_validation(names, training, None)
    with pytest.raises(ConfigError, match="Cannot read"):
        read_validation(tmp_path / "missing.txt", training, None)
    other = tmp_path / "other"
    other.mkdir()
    flipped = {**COCO, "categories": [{"id": 10, "name": "owl"}, {"id": 20, "name": "fox"}]}
    _, judged = read_validation(coco(other, flipped), training, None)
    assert judged.classes == training.classes
    assert np.array_equal(judged.images[1].classes, [0, 1])
    with pytest.raises(ConfigError, match="3 images of .* trained on as well"):
        read_validation(coco(tmp_path), training, None)
    with pytest.raises(ConfigError, match="not trained: hare"):
        read_validation(
            coco(other, {**COCO, "categories": [{"id": 10, "name": "hare"}, {"id": 20, "name": "fox"}]}), training, None
        )
