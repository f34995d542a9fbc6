"""MegaDetector's results: each animal box on a photograph becomes a source of its own.

The format is 1.x of MegaDetector's batch output: `detection_categories`, and `images` with `file` and either
`detections` (category, conf, bbox: x, y, width, height as fractions from the top left, upright) or `failure`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from birder.errors import ConfigError
from birder.sources.columns import as_number
from birder.sources.manifest import resolve
from birder.sources.read import read_json
from birder.sources.source import Box, Source, readable

_OPTIONAL = ("classification_categories", "classification_category_descriptions")


def read_crops(results: str | Path, folder: str | Path, min_conf: float = 0.2, *, labels: bool = True) -> list[Source]:
    """The animal boxes of MegaDetector's results.

    Parameters
    ----------
    results
        Its JSON file.
    folder
        What its files are relative to; none may lead out of it.
    min_conf
        Boxes below this confidence are left out.
    labels
        Take the name of the folder right above a file as its label.

    Returns
    -------
    One source a box, those of one photograph together, with the columns confidence, category, box_x, box_y, box_width
    and box_height (fractions, clamped to the photograph); and one with a problem for each photograph that failed.

    Raises
    ------
    ConfigError
        The file cannot be read or is none of MegaDetector's.
    """
    found = read_results(results)
    categories = found["detection_categories"]
    animals = {key for key, name in categories.items() if name.lower() == "animal"}
    if categories and not animals:
        raise ConfigError(f"{results} has no category animal, only {', '.join(categories.values())}.")
    root = os.path.abspath(folder)  # noqa: PTH100 - as all sources' paths are made
    sources: dict[tuple[str, Box | None], Source] = {}
    for image in found["images"]:
        for source in _boxes(image, root, animals, min_conf):
            if labels:
                source.label = readable(os.path.basename(os.path.dirname(source.path))) or None  # noqa: PTH119, PTH120
            # of two detections that agree to the last digit, the surer one, which comes first
            sources.setdefault((source.path, source.box), source)
    return list(sources.values())


def read_results(path: str | Path) -> dict[str, Any]:
    """MegaDetector's results, checked.

    `images` is a list of dictionaries with a `file` and a list of dictionaries as `detections` (or None); `info` is a
    dictionary, and each table of categories gives texts for texts. What else there is may be anything.

    Raises
    ------
    ConfigError
        The file cannot be read or is none of MegaDetector's.
    """
    try:
        found = read_json(os.fspath(path))
        images = list(found["images"])
        for name in ("detection_categories", *_OPTIONAL):
            if name not in _OPTIONAL or found.get(name) is not None:
                found[name] = {str(key): str(value) for key, value in found[name].items()}
        if not isinstance(found.setdefault("info", {"format_version": "1.3"}), dict):
            raise TypeError("info is no object")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(f"Cannot read {path}: {error}. It must be MegaDetector's results: JSON, format 1.") from error
    for number, image in enumerate(images):
        if not isinstance(image, dict) or not isinstance(image.get("file"), str):
            raise ConfigError(f"{path}: images[{number}] names no file. It must be MegaDetector's results, format 1.")
        detections = image.get("detections") or []
        if not isinstance(detections, list) or not all(isinstance(each, dict) for each in detections):
            raise ConfigError(
                f"{path}: images[{number}].detections is no list of detections. "
                "It must be MegaDetector's results, format 1."
            )
    return found  # type: ignore[no-any-return]


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
        bbox = detection.get("bbox")
        values = [as_number(value) for value in bbox] if isinstance(bbox, list) else []
        if len(values) != 4 or None in values:
            yield Source(path, problem=f"MegaDetector's box is no rectangle: {str(bbox)[:200]}")
            continue
        x, y, width, height = (value or 0.0 for value in values)
        left, top = min(max(x, 0.0), 1.0), min(max(y, 0.0), 1.0)
        right, bottom = min(max(x + width, left), 1.0), min(max(y + height, top), 1.0)
        # As many digits as its uri has, so that two boxes never share one.
        box = Box(*(round(value, 6) for value in (left, top, right - left, bottom - top)))
        columns = {"confidence": confidence, "category": "animal"}
        columns |= {f"box_{name}": value for name, value in box._asdict().items()}
        empty = None if box.width > 0 and box.height > 0 else "MegaDetector's box has no area on the photograph"
        yield Source(path, columns=columns, box=box, problem=empty)
