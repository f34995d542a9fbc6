"""MegaDetector's results: boxes on images, read as sources; and predictions merged into them, for Timelapse or AddaxAI.

The format is MegaDetector's batch output, 1.x (https://lila.science/megadetector-output-format):
`detection_categories`, and `images` with `file` and either `detections` (category, conf, bbox: x, y, width, height as
fractions from the top left, upright) or `failure`; a detection may have `classifications`, pairs of category and
confidence, the best first; `classification_categories` gives their names by numbers as texts; `info` has the
classifier and when it ran.
"""

from __future__ import annotations

import json
import os
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from birder.collection.predictions import Prediction, prediction_columns, prediction_of
from birder.collection.storage import Storage
from birder.collection.wrong_boxes import only_wrong_boxes
from birder.errors import ConfigError
from birder.files import replacing
from birder.formats.matching import Parts, find_prefix, path_parts, uri_parts
from birder.formats.names import classifier_of
from birder.formats.snapshot import Snapshot
from birder.formats.table import ExportReport
from birder.sources import Box, Source, as_number, box_of, read_json, readable
from birder.sources.manifest import resolve
from birder.words import counted

_OPTIONAL = ("classification_categories", "classification_category_descriptions")
_BOX = ("box_x", "box_y", "box_width", "box_height")
BOX_DIGITS = 6
"""Of a box in a collection: as many as its uri has, so that no two boxes share one."""
CONFIDENCE_DIGITS = 4
"""Of a confidence that is written."""
_TOLERANCE = 2e-6
_MUST_BE = "It must be MegaDetector's results (JSON, format 1)."


def read_boxes(
    file: str | Path, folder: str | Path, min_conf: float = 0.2, *, labels: bool = True, others: bool = False
) -> list[Source]:
    """The boxes of animals in MegaDetector's results.

    Parameters
    ----------
    file
        The results.
    folder
        What their files are relative to; none may lead out of it.
    min_conf
        Boxes with a lower confidence are left out.
    labels
        Use the name of an image's folder as its label.
    others
        Also give each image without an animal, as a whole.

    Returns
    -------
    A source for each box, those of one image together, with the columns confidence, category, box_x, box_y, box_width
    and box_height (fractions, clipped to the image); and one with a problem for each image that failed. With `others`,
    a source for each image without an animal: its category is that of its surest other box ("person", "vehicle"), or
    "empty".

    Raises
    ------
    ConfigError
        The file cannot be read, or is not MegaDetector's.
    """
    results = _read(file)
    animals = _animals(results)
    if results["detection_categories"] and not animals:
        raise ConfigError(f"{file} has no category animal, only {', '.join(results['detection_categories'].values())}.")
    root = os.path.abspath(folder)  # noqa: PTH100 - as all sources' paths are made
    sources: dict[tuple[str, Box | None], Source] = {}
    for image in results["images"]:
        found = list(_boxes(image, root, animals, min_conf))
        if others and not found:
            found = [_without_animal(image, root, results["detection_categories"], min_conf)]
        for source in found:
            if labels:
                source.label = readable(os.path.basename(os.path.dirname(source.path))) or None  # noqa: PTH119, PTH120
            # of two boxes that are equal to the last digit, the one with more confidence, which comes first
            sources.setdefault((source.path, source.box), source)
    return list(sources.values())


def export(
    collection: Storage,
    rows: Snapshot,
    to: Path,
    *,
    force: bool,
    results: str | Path | None = None,
    classifier: str | None = None,
) -> ExportReport:
    """Write MegaDetector's results with the collection's predictions as `classifications`.

    A row that was made from a box (`birder embed --crops`) belongs to the detection with this box; a row of a whole
    image, to the highest-confidence detection of an animal on it. A detection whose box a person said is wrong is left
    out. Everything else stays as it is in the original; a
    detection that is classified there already gets the prediction instead. `classification_completion_time` is the
    time of the latest prediction, so that the same rows give the same bytes; without any it is left out.

    Parameters
    ----------
    collection, rows
        The collection, and which of its rows.
    to
        The file to write.
    force
        Replace a file that exists.
    results
        The original file.
    classifier
        The name of what made the predictions (default: the model).

    Raises
    ------
    ConfigError
        The original is not given or cannot be read, or none of its images is in the collection.
    CollectionError
        There are no predictions.
    """
    if results is None:
        raise ConfigError("Name MegaDetector's results, into which the predictions are merged: --results FILE.json")
    document = _read(results)
    named = _named(rows)
    wrong = _wrong(collection)
    times = [each.prediction.at for several in named.values() for each in several if each.prediction.at is not None]
    merged, unmatched, gone = _merge(document, named, wrong, Path(results))
    info = document["info"]
    info["classifier"] = classifier or classifier_of(collection)
    info.pop("classification_completion_time", None)
    if times:
        info["classification_completion_time"] = f"{max(times):%Y-%m-%d %H:%M:%S}"
    with replacing(to, force=force) as draft:
        draft.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", "utf-8")
    left = f"; {counted(unmatched, 'prediction matches', 'predictions match')} no detection" if unmatched else ""
    if gone:
        left += f"; left out: {counted(gone, 'detection')} that a person said {'is' if gone == 1 else 'are'} wrong"
    return ExportReport(f"{counted(merged, 'detection has', 'detections have')} a classification in {to}{left}.")


def _read(path: str | Path) -> dict[str, Any]:
    """MegaDetector's results, checked.

    `images` is a list of dictionaries with a `file` and a list of dictionaries as `detections` (or None); `info` is a
    dictionary, and each table of categories maps texts to texts. Everything else may be anything.
    """
    try:
        found = read_json(os.fspath(path))
        images = list(found["images"])
        for name in ("detection_categories", *_OPTIONAL):
            if name not in _OPTIONAL or found.get(name) is not None:
                found[name] = {str(key): str(value) for key, value in found[name].items()}
        if not isinstance(found.setdefault("info", {"format_version": "1.3"}), dict):
            raise TypeError("info is not an object")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(f"Cannot read {path}: {error}. {_MUST_BE}") from error
    for number, image in enumerate(images):
        if not isinstance(image, dict) or not isinstance(image.get("file"), str):
            raise ConfigError(f"{path}: images[{number}] has no file. {_MUST_BE}")
        detections = image.get("detections") or []
        if not isinstance(detections, list) or not all(isinstance(each, dict) for each in detections):
            raise ConfigError(f"{path}: images[{number}].detections is not a list of detections. {_MUST_BE}")
    return found  # type: ignore[no-any-return]


def _animals(results: dict[str, Any]) -> set[str]:
    """The keys of the category animal."""
    return {key for key, name in results["detection_categories"].items() if name.lower() == "animal"}


def _boxes(image: dict[str, Any], root: str, animals: set[str], min_conf: float) -> Iterator[Source]:
    path, problem = resolve(image["file"].replace("\\", "/"), root, inside=True)
    if problem is None and image.get("failure"):
        problem = f"MegaDetector failed on it: {str(image['failure'])[:200]}"
    if problem is not None:
        yield Source(path, problem=problem)
        return
    for detection in image.get("detections") or ():
        confidence = as_number(detection.get("conf")) or 0.0
        if str(detection.get("category")) not in animals or confidence < min_conf:
            continue
        box = box_on_image(detection.get("bbox"))
        if box is None:
            yield Source(path, problem=f"MegaDetector's box is not a rectangle: {str(detection.get('bbox'))[:200]}")
            continue
        columns = {"confidence": confidence, "category": "animal"}
        columns |= {f"box_{name}": value for name, value in box._asdict().items()}
        empty = None if box.width > 0 and box.height > 0 else "MegaDetector's box has no area on the image"
        yield Source(path, columns=columns, box=box, problem=empty)


def _without_animal(image: dict[str, Any], root: str, categories: dict[str, str], min_conf: float) -> Source:
    """An image without an animal as a whole, and what else is on it."""
    path, _ = resolve(image["file"].replace("\\", "/"), root, inside=True)
    sure = [
        (confidence, name)
        for each in image.get("detections") or ()
        if (name := categories.get(str(each.get("category")), "").lower()) not in ("", "animal")
        and (confidence := as_number(each.get("conf")) or 0.0) >= min_conf
    ]
    if not sure:
        return Source(path, columns={"category": "empty"})
    confidence, name = max(sure)
    return Source(path, columns={"category": name, "confidence": confidence})


def box_on_image(bbox: object) -> Box | None:
    """A box as a collection has it, clipped to the image and rounded; None if it is not a rectangle."""
    clipped = _clipped(bbox)
    return None if clipped is None else Box(*(round(value, BOX_DIGITS) for value in clipped))


def _clipped(bbox: object) -> Box | None:
    """A box clipped to the image; None if it is not a rectangle."""
    values = [as_number(value) for value in bbox] if isinstance(bbox, list) else []
    if len(values) != 4 or None in values:
        return None
    x, y, width, height = (value or 0.0 for value in values)
    left, top = min(max(x, 0.0), 1.0), min(max(y, 0.0), 1.0)
    right, bottom = min(max(x + width, left), 1.0), min(max(y + height, top), 1.0)
    return Box(left, top, right - left, bottom - top)


class _Named(NamedTuple):
    """The prediction of a row, and its box if it has one."""

    box: Box | None
    prediction: Prediction


def _merge(
    results: dict[str, Any], named: dict[Parts, list[_Named]], wrong: dict[Parts, list[Box]], file: Path
) -> tuple[int, int, int]:
    """Merge the predictions of rows, by the paths of their images, into results, and leave out what is wrong.

    Returns
    -------
    How many detections got a prediction, how many predictions match no detection, and how many detections are wrong.
    """
    animals = _animals(results)
    images = [(image, path_parts(image["file"])) for image in results["images"]]
    prefix = find_prefix((parts for _, parts in images), named | wrong, file, whole=True)
    categories = _Categories(results)
    merged = unmatched = gone = 0
    for image, parts in images:
        for box in wrong.get(prefix.moved(parts), []):
            detections = image.get("detections") or []
            if (there := _detection(detections, box, animals)) is not None:
                detections.remove(there)
                gone += 1
        for row in named.pop(prefix.moved(parts), []):
            detection = _detection(image.get("detections") or [], row.box, animals)
            if detection is None:
                unmatched += 1
                continue
            confidence = round(row.prediction.score, 6)
            detection["classifications"] = [[categories.key(row.prediction), confidence]]
            merged += 1
    return merged, unmatched + sum(map(len, named.values())), gone


def _named(rows: Snapshot) -> dict[Parts, list[_Named]]:
    """The predictions, by the paths of their images."""
    names = rows.schema.names
    columns = ["uri", *prediction_columns(names), *(name for name in _BOX if name in names)]
    named: dict[Parts, list[_Named]] = defaultdict(list)
    for table in rows.batches(columns):
        for row in table.to_pylist():
            prediction = prediction_of(row)
            if prediction is None:
                continue
            box = tuple(row.get(name) for name in _BOX)
            given = [float(value) for value in box if value is not None]
            named[uri_parts(row["uri"])].append(_Named(Box(*given) if len(given) == 4 else None, prediction))
    return named


def _wrong(collection: Storage) -> dict[Parts, list[Box]]:
    """The boxes that a person said are wrong, by the paths of their images."""
    found: dict[Parts, list[Box]] = defaultdict(list)
    only = only_wrong_boxes(collection.columns)
    if only is not None:
        for table in Snapshot(collection, only).batches(["uri"]):
            for uri in table["uri"].to_pylist():
                if (box := box_of(uri.partition("#")[2])) is not None:
                    found[uri_parts(uri)].append(box)
    return found


def _detection(detections: list[dict[str, Any]], box: Box | None, animals: set[str]) -> dict[str, Any] | None:
    """The detection that a row is about."""
    of_animals = [each for each in detections if str(each.get("category")) in animals]
    if box is None:
        return max(of_animals, key=lambda each: as_number(each.get("conf")) or 0.0, default=None)
    for each in of_animals:
        bbox = _clipped(each.get("bbox"))
        if bbox is not None and max(abs(a - b) for a, b in zip(bbox, box, strict=True)) <= _TOLERANCE:
            return each
    return None


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
