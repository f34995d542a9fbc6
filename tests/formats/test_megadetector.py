"""Against https://lila.science/megadetector-output-format, rules as its validator (validate_batch_results) has them."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from birder.collection.labels import give_label
from birder.collection.storage import Storage
from birder.errors import CollectionError, ConfigError
from birder.formats.export import export
from birder.formats.megadetector import read_boxes
from birder.sources import path_to_uri
from tests.formats.conftest import Make
from tests.robustness.documents import changed

TYPES = {"predicted_label": pa.string(), "predicted_score": pa.float32()}
TYPES |= {f"box_{name}": pa.float64() for name in ("x", "y", "width", "height")}
RESULTS: dict[str, Any] = {
    "info": {"format_version": "1.4", "detector": "md_v5a.0.0.pt", "detector_metadata": {"typical": 0.2}},
    "detection_categories": {"1": "animal", "2": "person"},
    "classification_categories": {"3": "deer"},
    "images": [
        {
            "file": "site 1/a.jpg",
            "detections": [
                {"category": "1", "conf": 0.9, "bbox": [0.1, 0.2, 0.3, 0.123456789], "x": "kept"},
                {"category": "1", "conf": 0.3, "bbox": [-0.01, 0.5, 0.2, 0.7], "classifications": [["3", 0.5]]},
                {"category": "2", "conf": 0.8, "bbox": [0.1, 0.2, 0.3, 0.4]},
            ],
        },
        {"file": "site 1\\b.jpg", "detections": [{"category": "1", "conf": 0.7, "bbox": [0, 0, 1, 1]}]},
        {"file": "empty.jpg", "detections": []},
        {"file": "bad.jpg", "failure": "Failure image access", "detections": None},
    ],
    "summary": "<p>kept</p>",
}


@pytest.fixture
def results(tmp_path: Path) -> Path:
    (tmp_path / "md.json").write_text(json.dumps(RESULTS))
    return tmp_path / "md.json"


def crops(make: Make, results: Path, root: str, named: dict[int, tuple[str, float]]) -> Storage:
    """A collection of the boxes, as `birder embed --crops` makes it, with predictions for some."""
    sources = [source for source in read_boxes(results, root, 0.0) if source.problem is None]
    rows = {}
    for number, source in enumerate(sources):
        label, score = named.get(number, (None, None))
        box = {name: value for name, value in source.columns.items() if name.startswith("box_")}
        rows[source.uri] = {**box, "predicted_label": label, "predicted_score": score}
    return make(rows, TYPES)


def test_predictions_of_boxes_are_written_to_their_detections_alone(make: Make, results: Path, tmp_path: Path) -> None:
    collection = crops(make, results, "/photos", {0: ("owl", 0.875), 1: ("deer", 0.25)})
    report = export(collection, tmp_path / "out.json", format="megadetector", results=results, classifier="mine")
    assert report.summary.startswith("2 detections")
    out = json.loads((tmp_path / "out.json").read_text())
    expected = copy.deepcopy(RESULTS)
    expected["classification_categories"]["4"] = "owl"
    expected["images"][0]["detections"][0]["classifications"] = [["4", 0.875]]
    expected["images"][0]["detections"][1]["classifications"] = [["3", 0.25]]
    assert out["info"].pop("classifier") == "mine"
    assert out == expected
    assert json.loads(results.read_text()) == RESULTS


def test_merged_results_follow_the_rules_of_the_format(make: Make, results: Path, tmp_path: Path) -> None:
    collection = crops(make, results, "/photos", {0: ("owl", 1.0), 2: ("wren", 0.1)})
    export(collection, tmp_path / "out.json", format="megadetector", results=results)
    out = json.loads((tmp_path / "out.json").read_text())
    assert all(
        key.isdecimal() and isinstance(name, str) and name for key, name in out["classification_categories"].items()
    )
    for image in out["images"]:
        for detection in image["detections"] or ():
            scores = [score for _, score in detection.get("classifications", ())]
            assert all(isinstance(score, float) and 0 <= score <= 1 for score in scores)
            assert scores == sorted(scores, reverse=True)
            assert {key for key, _ in detection.get("classifications", ())} <= set(out["classification_categories"])
    assert out["images"][1]["detections"][0]["classifications"][0][1] == 0.1
    assert out["info"]["classifier"].startswith("tiny (Birder ")


def test_a_prediction_of_a_whole_image_is_written_to_its_highest_confidence_detection(
    make: Make, results: Path, tmp_path: Path
) -> None:
    rows = {
        path_to_uri("/photos/site 1/a.jpg"): {"predicted_label": "owl", "predicted_score": 0.5},
        path_to_uri("/photos/empty.jpg"): {"predicted_label": "wren", "predicted_score": 0.5},
    }
    said = str(export(make(rows, TYPES), tmp_path / "o.json", format="megadetector", results=results))
    out = json.loads((tmp_path / "o.json").read_text())
    named = [["classifications" in each for each in image["detections"] or ()] for image in out["images"]]
    assert named == [[True, True, False], [False], [], []]
    assert out["images"][0]["detections"][1]["classifications"] == [["3", 0.5]]
    assert "1 prediction matches no detection" in said


def test_ranks_become_a_name_and_a_description_where_the_results_have_them(
    make: Make, results: Path, tmp_path: Path
) -> None:
    given = {**RESULTS, "classification_category_descriptions": {"3": "animalia;...;deer"}}
    results.write_text(json.dumps(given))
    types = {"predicted_score": pa.float32(), "predicted_genus": pa.string(), "predicted_species": pa.string()}
    row = {"predicted_genus": "Bubo", "predicted_species": "Bubo bubo", "predicted_score": 0.5}
    collection = make({path_to_uri("/p/site 1/a.jpg"): row}, types)
    export(collection, tmp_path / "o.json", format="megadetector", results=results)
    out = json.loads((tmp_path / "o.json").read_text())
    assert out["classification_categories"] == {"3": "deer", "4": "Bubo bubo"}
    assert out["classification_category_descriptions"]["4"] == "Bubo;Bubo bubo"


def test_predictions_that_cannot_be_merged_are_reported(make: Make, results: Path, tmp_path: Path) -> None:
    with pytest.raises(CollectionError, match="no predictions yet"):
        export(make({"file:///a": {}}), tmp_path / "o.json", format="megadetector", results=results)
    row = {"predicted_label": "owl", "predicted_score": 0.5}
    collection = make({path_to_uri("/p/other.jpg"): row}, TYPES, name="d.birder")
    with pytest.raises(ConfigError, match="No image in .*md.json matches a row"):
        export(collection, tmp_path / "o.json", format="megadetector", results=results)
    with pytest.raises(ConfigError, match="--results"):
        export(collection, tmp_path / "o.json", format="megadetector")
    (tmp_path / "x.json").write_text("[]")
    with pytest.raises(ConfigError, match="MegaDetector's results"):
        export(collection, tmp_path / "o.json", format="megadetector", results=tmp_path / "x.json")
    collection = make({path_to_uri(f"/{p}/empty.jpg"): row for p in "pq"}, TYPES, name="e.birder")
    with pytest.raises(ConfigError, match="could be those in /p or /q"):
        export(collection, tmp_path / "o.json", format="megadetector", results=results)
    assert not (tmp_path / "o.json").exists()


HOSTILE: tuple[Any, ...] = (5, 10**400, "\0", "\ud800", None, True, [], {}, [5], {"a": 5}, [None], [[0.1, "x"]], 1e308)


@pytest.mark.slow
def test_hostile_results_are_refused_in_words_or_cost_only_themselves(
    make: Make, results: Path, tmp_path: Path
) -> None:
    collection = crops(make, results, "/photos", {0: ("owl", 0.875), 1: ("deer", 0.25)})
    merged = 0
    for document in changed(RESULTS, HOSTILE):
        (tmp_path / "hostile.json").write_text(json.dumps(document))
        try:
            export(collection, tmp_path / "o.json", format="megadetector", results=tmp_path / "hostile.json")
        except ConfigError:
            continue
        json.loads((tmp_path / "o.json").read_text("utf-8"))
        (tmp_path / "o.json").unlink()
        merged += 1
    assert merged > 100


def test_a_detection_that_a_person_said_is_wrong_is_left_out(make: Make, results: Path, tmp_path: Path) -> None:
    collection = crops(make, results, "/photos", {0: ("owl", 0.875), 1: ("deer", 0.25)})
    uris = collection.to_arrow().select(["uri", "id"]).to_pylist()
    (wrong,) = [row["id"] for row in uris if row["uri"].endswith("#xywh=percent:0,50,19,50")]
    give_label(collection, [wrong], "box", "wrong")
    collection.see_latest()
    report = export(collection, tmp_path / "out.json", format="megadetector", results=results)
    assert "left out: 1 detection that a person said is wrong" in report.summary
    (first, *others) = json.loads((tmp_path / "out.json").read_text())["images"]
    kept = RESULTS["images"][0]["detections"]
    assert [each["bbox"] for each in first["detections"]] == [kept[0]["bbox"], kept[2]["bbox"]]
    assert others == RESULTS["images"][1:]
