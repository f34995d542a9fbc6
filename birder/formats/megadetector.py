"""Predictions merged into MegaDetector's results, for Timelapse, AddaxAI and whatever else reads them.

The format is MegaDetector's batch output, 1.x (https://lila.science/megadetector-output-format): `images` with
`detections` (category, conf, bbox); a detection may have `classifications`, pairs of category and confidence, surest
first; `classification_categories` gives their names by numbers as texts; `info` has the classifier and when it ran.
"""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from birder.collection.predictions import Prediction, prediction_columns, prediction_of
from birder.errors import BirderError, ConfigError
from birder.formats.snapshot import Snapshot
from birder.sources import as_number, read_results, uri_to_path

_BOX = ("box_x", "box_y", "box_width", "box_height")
_TOLERANCE = 2e-6  # boxes of a collection have six digits
_FILES_TO_COMPARE = 1000
_Path = tuple[str, ...]
_Box = tuple[float, ...]


class _Named(NamedTuple):
    box: _Box | None
    prediction: Prediction


@dataclass
class Merged:
    """How many detections got a prediction, and how many predictions found no detection."""

    merged: int = 0
    unmatched: int = 0


def write_megadetector(snapshot: Snapshot, results: Path, file: Path, classifier: str) -> Merged:
    """Write MegaDetector's results with the collection's predictions as `classifications`.

    A row that was made of a box (`birder embed --crops`) belongs to the detection with this box; a row of a whole
    photograph, to its surest animal. Everything else stays as it is in the original; a detection that is classified
    there already gets the prediction in place of that.

    Parameters
    ----------
    snapshot
        The rows.
    results
        The original file.
    file
        What to write.
    classifier
        The name of what made the predictions.

    Raises
    ------
    ConfigError
        The original cannot be read, or none of its photographs is in the collection.
    CollectionError
        There are no predictions.
    """
    found = read_results(results)
    animals = {key for key, name in found["detection_categories"].items() if name.lower() == "animal"}
    images = [(image, _parts(image["file"])) for image in found["images"]]
    named = _named(snapshot)
    root = _root([parts for _, parts in images], list(named), results)
    categories = _Categories(found)
    done = Merged()
    for image, parts in images:
        rows = named.pop((*root, *parts), [])
        for row in rows:
            detection = _detection(image.get("detections") or [], row.box, animals)
            if detection is None:
                done.unmatched += 1
                continue
            confidence = round(row.prediction.score, 6)
            detection["classifications"] = [[categories.key(row.prediction), confidence]]
            done.merged += 1
    done.unmatched += sum(map(len, named.values()))
    info = found["info"]
    info["classifier"] = classifier
    info["classification_completion_time"] = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S")
    file.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", "utf-8")
    return done


def _parts(file: str) -> _Path:
    return tuple(part for part in file.replace("\\", "/").split("/") if part not in ("", "."))


def _named(snapshot: Snapshot) -> dict[_Path, list[_Named]]:
    """The predictions, by the paths of their photographs."""
    names = snapshot.schema.names
    columns = ["uri", *prediction_columns(names), *(name for name in _BOX if name in names)]
    named: dict[_Path, list[_Named]] = defaultdict(list)
    for table in snapshot.batches(columns):
        for row in table.to_pylist():
            prediction = prediction_of(row)
            if prediction is None:
                continue
            box = tuple(row.get(name) for name in _BOX)
            given = tuple(float(value) for value in box if value is not None)
            named[_parts(_place(row["uri"]))].append(_Named(given if len(given) == 4 else None, prediction))
    return named


def _place(uri: str) -> str:
    try:
        return uri_to_path(uri)
    except BirderError:
        return uri.partition("#")[0]


def _root(files: list[_Path], paths: list[_Path], results: Path) -> _Path:
    """What stands before the files of the results in the paths of the collection's photographs."""
    by_name: dict[str, list[_Path]] = defaultdict(list)
    for path in paths:
        by_name[path[-1]].append(path)
    roots: Counter[_Path] = Counter()
    compared = 0
    for file in files:
        if file and file[-1] in by_name:
            fitting = [path for path in by_name[file[-1]] if path[-len(file) :] == file]
            roots.update(path[: -len(file)] for path in fitting)
            compared += bool(fitting)
        if compared >= _FILES_TO_COMPARE:
            break
    best = roots.most_common(2)
    if not best:
        raise ConfigError(
            f"No photograph with a prediction is in {results}: name the results that the collection was made with."
        )
    if len(best) == 2 and best[0][1] == best[1][1]:
        folders = " or ".join("/" + "/".join(root) for root, _ in best)
        raise ConfigError(
            f"The files in {results} could be those in {folders}: say which with --where \"uri LIKE 'file:///...%'\"."
        )
    return best[0][0]


def _detection(detections: list[dict[str, Any]], box: _Box | None, animals: set[str]) -> dict[str, Any] | None:
    """The detection that a row is about."""
    of_animals = [each for each in detections if str(each.get("category")) in animals]
    if box is None:
        return max(of_animals, key=lambda each: as_number(each.get("conf")) or 0.0, default=None)
    for each in of_animals:
        bbox = _within(each.get("bbox"))
        if bbox is not None and max(abs(a - b) for a, b in zip(bbox, box, strict=True)) <= _TOLERANCE:
            return each
    return None


def _within(bbox: object) -> _Box | None:
    """A box cut at the photograph's borders, as the collection has it; None if it is none."""
    values = [as_number(value) for value in bbox] if isinstance(bbox, list) else []
    if len(values) != 4 or None in values:
        return None
    x, y, width, height = (value or 0.0 for value in values)
    left, top = min(max(x, 0.0), 1.0), min(max(y, 0.0), 1.0)
    right, bottom = min(max(x + width, left), 1.0), min(max(y + height, top), 1.0)
    return left, top, right - left, bottom - top


class _Categories:
    """`classification_categories`, and their descriptions where the results have them, with names added."""

    def __init__(self, results: dict[str, Any]) -> None:
        self._names: dict[str, str] = results.get("classification_categories") or {}
        results["classification_categories"] = self._names
        self._descriptions: dict[str, str] | None = results.get("classification_category_descriptions")
        self._keys: dict[str, str] = {name: key for key, name in self._names.items()}
        self._next = max((int(key) for key in self._names if re.fullmatch(r"[0-9]{1,9}", key)), default=-1) + 1

    def key(self, prediction: Prediction) -> str:
        if (there := self._keys.get(prediction.name)) is not None:
            return there
        key = str(self._next)
        self._next += 1
        self._keys[prediction.name] = key
        self._names[key] = prediction.name
        if self._descriptions is not None:
            self._descriptions[key] = ";".join(prediction.ranks.values()) or prediction.name
        return key
