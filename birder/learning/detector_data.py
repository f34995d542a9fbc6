"""Images with boxes to train a detector on, and to judge it: COCO's JSON and folders in Pascal VOC's layout.

What annotators' tools write is not always sound. A file that is not what it says is an error; a box that no detector
can learn (without area, or off its image) is left out, and a note says so.
"""

from __future__ import annotations

import json
import math
import xml.etree.ElementTree as ElementTree
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from birder.errors import ConfigError
from birder.images.open import IMAGE_EXTENSIONS
from birder.words import counted

MAX_JSON, MAX_XML = 4 * 2**30, 16 * 2**20  # bytes
Corners = npt.NDArray[np.float32]


@dataclass(frozen=True)
class BoxedImage:
    """An image with its boxes.

    Attributes
    ----------
    name
        As the annotations call it.
    path
        Where it should be; whether it is there and can be read shows when it is opened.
    boxes
        (N, 4) float32: left, top, right, bottom in pixels of the upright image; N may be 0.
    classes
        (N,) int64, indices into `BoxData.classes`.
    ignored
        (N,) bool: neither learned nor judged (COCO's iscrowd, Pascal VOC's difficult).
    size
        (height, width) in pixels that the annotations say; None if they do not.
    """

    name: str
    path: Path
    boxes: Corners
    classes: npt.NDArray[np.int64]
    ignored: npt.NDArray[np.bool_]
    size: tuple[int, int] | None = None


@dataclass(frozen=True)
class BoxData:
    """Images with boxes, in the order of their names; the names of the classes; and notes for the user."""

    images: tuple[BoxedImage, ...]
    classes: tuple[str, ...]
    notes: tuple[str, ...] = ()

    @property
    def boxes(self) -> int:
        """How many boxes there are to learn or judge."""
        return sum(int((~each.ignored).sum()) for each in self.images)


def read_boxes(coco: Path | None, voc: Path | None, images: Path | None) -> BoxData:
    """Read a COCO file or a VOC folder, whichever is given; `images` is the folder of a COCO file's images.

    Raises
    ------
    ConfigError
        Both or neither is given, or as `read_coco` and `read_voc`.
    """
    if coco is not None and voc is None:
        return read_coco(coco, images)
    if voc is not None and coco is None:
        return read_voc(voc)
    raise ConfigError("Give the boxes either as --coco FILE or as --voc FOLDER.")


def read_coco(file: Path, images: Path | None = None) -> BoxData:
    """Read COCO's JSON (`images`, `annotations`, `categories`).

    Parameters
    ----------
    file
        The JSON file.
    images
        The folder that its file names start from; default: the file's own.

    Raises
    ------
    ConfigError
        The file cannot be read, is not COCO's JSON, or has no boxes.
    """
    data = _json(file)
    folder = file.parent if images is None else images
    try:
        names = {int(each["id"]): str(each["name"]) for each in data["categories"]}
        listed = {int(each["id"]): each for each in data["images"]}
        annotations: list[Mapping[str, Any]] = list(data["annotations"])
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigError(
            f"{file} is not COCO's JSON: it needs images and categories with ids, and annotations ({error!r})."
        ) from None
    if len(names) != len(data["categories"]) or len(listed) != len(data["images"]):
        raise ConfigError(f"{file} uses the same id for two images, or for two categories.")
    if len(set(names.values())) != len(names):
        raise ConfigError(f"{file} has two categories of the same name.")
    places = {id_: place for place, id_ in enumerate(sorted(names))}
    rows: dict[int, list[tuple[list[float], int, bool]]] = {id_: [] for id_ in listed}
    for number, each in enumerate(annotations):
        try:
            image, category = int(each["image_id"]), int(each["category_id"])
            x, y, width, height = (float(value) for value in each["bbox"])
        except (KeyError, TypeError, ValueError):
            raise ConfigError(
                f"{file}: annotation {number} (id {_id_of(each)}) needs image_id, category_id and a bbox of four "
                "numbers."
            ) from None
        if image not in rows or category not in places:
            what = f"image {image}" if image not in rows else f"category {category}"
            raise ConfigError(f"{file}: annotation {number} (id {_id_of(each)}) is of {what}, which is not listed.")
        rows[image].append(([x, y, x + width, y + height], places[category], bool(each.get("iscrowd", 0))))
    found, notes = [], _Notes()
    for id_, entry in listed.items():
        name = entry.get("file_name")
        if not isinstance(name, str) or not name:
            raise ConfigError(f"{file}: image {id_} has no file_name.")
        size = _size(entry.get("height"), entry.get("width"))
        found.append(_boxed(name, folder / name, rows[id_], size, notes))
    return _checked(file, found, tuple(names[id_] for id_ in sorted(names)), notes)


def read_voc(folder: Path) -> BoxData:
    """Read a folder of Pascal VOC's XML files, one an image; the classes are in the order of their names.

    The XML files are in `Annotations` or `annotations`, else anywhere in the folder. An image is what `filename` says,
    else has the XML file's name, and is in `JPEGImages` or `images`, in the folder, or beside the XML file. Pixels are
    counted from 1, as Pascal VOC counts them.

    Raises
    ------
    ConfigError
        There is no such folder, or no XML file in it, a file is not Pascal VOC's, or there are no boxes.
    """
    if not folder.is_dir():
        raise ConfigError(f"{folder} is not a folder: --voc takes a folder with XML files and images.")
    at = next((folder / name for name in ("Annotations", "annotations") if (folder / name).is_dir()), folder)
    files = sorted(at.rglob("*.xml"))
    if not files:
        raise ConfigError(f"{at} has no XML files, which Pascal VOC's layout has one of for each image.")
    read = [_read_xml(file) for file in files]
    classes = tuple(sorted({name for each in read for _, name, _ in each.objects}))
    places = {name: place for place, name in enumerate(classes)}
    homes = [folder / name for name in ("JPEGImages", "images")] + [folder]
    notes = _Notes()
    found = []
    for file, each in zip(files, read, strict=True):
        path = _image_of(file, each.filename, [*homes, file.parent])
        rows = [(corners, places[name], difficult) for corners, name, difficult in each.objects]
        found.append(_boxed(path.name, path, rows, each.size, notes))
    return _checked(folder, found, classes, notes)


def read_validation(given: Path, training: BoxData, images: Path | None) -> tuple[BoxData, BoxData]:
    """Training and validation data by what `--val` names: data of its own, or which of the training images.

    Parameters
    ----------
    given
        A COCO file (.json), a VOC folder, or a text file that lists names of training images, one a line, with or
        without their extension; those are taken out of training.
    training
        The images that are there.
    images
        The folder of a COCO file's images.

    Raises
    ------
    ConfigError
        The data cannot be read, has classes that training has not, shares images with it, or leaves nothing to one of
        the two.
    """
    if given.is_dir() or given.suffix.lower() == ".json":
        judged = read_voc(given) if given.is_dir() else read_coco(given, images)
        places = {name: place for place, name in enumerate(training.classes)}
        if unknown := sorted(set(judged.classes) - set(places)):
            raise ConfigError(f"{given} has classes that are not trained: {', '.join(unknown[:10])}.")
        order = np.array([places[name] for name in judged.classes], np.int64)
        moved = tuple(replace(each, classes=order[each.classes]) for each in judged.images)
        shared = {each.path.resolve() for each in training.images} & {each.path.resolve() for each in moved}
        if shared:
            raise ConfigError(
                f"{len(shared):,} images of {given} are trained on as well, {min(shared).name} for one: figures from "
                "them would say nothing. Take them out of one of the two."
            )
        return training, BoxData(moved, training.classes, judged.notes)
    try:
        names = [line for raw in given.read_text("utf-8-sig").splitlines() if (line := raw.strip())]
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"Cannot read {given} as a list of names, a COCO file or a VOC folder: {error}.") from None
    by_name: dict[str, list[int]] = {}
    for place, each in enumerate(training.images):
        for key in {each.name, Path(each.name).name, Path(each.name).stem, str(Path(each.name).with_suffix(""))}:
            by_name.setdefault(key, []).append(place)
    for name in names:
        if len(by_name.get(name, ())) != 1:
            what = "is not one of the images" if name not in by_name else "is the name of several images"
            raise ConfigError(f"{given}: {name!r} {what}.")
    chosen = {by_name[name][0] for name in names}
    kept = tuple(each for place, each in enumerate(training.images) if place not in chosen)
    judged = BoxData(tuple(training.images[place] for place in sorted(chosen)), training.classes)
    rest = replace(training, images=kept)
    if not rest.boxes or not judged.boxes:
        raise ConfigError(f"{given} leaves no boxes to {'learn' if not rest.boxes else 'judge'}.")
    return rest, judged


@dataclass
class _Notes:
    """What was left out, for the user."""

    left_out: int = 0
    first: str = ""

    def leave_out(self, name: str) -> None:
        self.left_out += 1
        self.first = self.first or name

    def lines(self) -> tuple[str, ...]:
        if not self.left_out:
            return ()
        return (
            f"{counted(self.left_out, 'box without area on its image was', 'boxes without area on their image were')} "
            f"left out, the first on {self.first}.",
        )


def _boxed(
    name: str, path: Path, rows: Sequence[tuple[list[float], int, bool]], size: tuple[int, int] | None, notes: _Notes
) -> BoxedImage:
    """An image with those of its boxes that have an area on it."""
    kept = []
    for corners, class_, ignored in rows:
        left, top, right, bottom = corners
        if size is not None:
            left, right = (min(max(each, 0.0), float(size[1])) for each in (left, right))
            top, bottom = (min(max(each, 0.0), float(size[0])) for each in (top, bottom))
        if all(math.isfinite(each) for each in corners) and right > left and bottom > top:
            kept.append(([left, top, right, bottom], class_, ignored))
        else:
            notes.leave_out(name)
    return BoxedImage(
        name,
        path,
        np.array([each[0] for each in kept], np.float32).reshape(-1, 4),
        np.array([each[1] for each in kept], np.int64),
        np.array([each[2] for each in kept], np.bool_),
        size,
    )


def _checked(source: Path, images: Iterable[BoxedImage], classes: tuple[str, ...], notes: _Notes) -> BoxData:
    ordered = tuple(sorted(images, key=lambda each: each.name))
    repeated = [name for name, count in Counter(each.path for each in ordered).items() if count > 1]
    if repeated:
        raise ConfigError(f"{source} has two entries for {repeated[0]}.")
    data = BoxData(ordered, classes, notes.lines())
    if not data.boxes:
        raise ConfigError(f"{source} has no boxes to learn.")
    return data


def _json(file: Path) -> dict[str, Any]:
    try:
        if file.stat().st_size > MAX_JSON:
            raise ConfigError(f"{file} has more than {MAX_JSON:,} bytes.")
        data = json.loads(file.read_bytes())
    except OSError as error:
        raise ConfigError(f"Cannot read {file}: {error.strerror}.") from None
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{file} is not JSON: {error}.") from None
    if not isinstance(data, dict):
        raise ConfigError(f"{file} is not COCO's JSON: it must be an object with images, annotations and categories.")
    return data


def _id_of(annotation: object) -> object:
    return annotation.get("id", "none") if isinstance(annotation, dict) else "none"


def _size(height: object, width: object) -> tuple[int, int] | None:
    if isinstance(height, int) and isinstance(width, int) and height > 0 and width > 0:
        return height, width
    return None


@dataclass(frozen=True)
class _Xml:
    """What an XML file says: the image's file name and size, and for each object its corners, name and difficulty."""

    filename: str
    size: tuple[int, int] | None
    objects: list[tuple[list[float], str, bool]]


def _read_xml(file: Path) -> _Xml:
    try:
        content = file.read_bytes()
    except OSError as error:
        raise ConfigError(f"Cannot read {file}: {error.strerror}.") from None
    # Entities, which can make a small file huge, have no place in an annotation.
    if len(content) > MAX_XML or b"<!ENTITY" in content:
        raise ConfigError(f"{file} is not an annotation of Pascal VOC: it is too large, or defines entities.")
    try:
        root = ElementTree.fromstring(content)
        objects = []
        for each in root.iter("object"):
            box, name = each.find("bndbox"), (each.findtext("name") or "").strip()
            if box is None or not name:
                raise ValueError("an object has no bndbox or no name")
            left, top, right, bottom = (float(box.findtext(side) or "") for side in ("xmin", "ymin", "xmax", "ymax"))
            difficult = (each.findtext("difficult") or "0").strip() == "1"
            objects.append(([left - 1, top - 1, right, bottom], name, difficult))
    except (ElementTree.ParseError, ValueError) as error:
        raise ConfigError(f"{file} is not an annotation of Pascal VOC: {error}.") from None
    sides = [root.findtext(f"size/{side}") or "" for side in ("height", "width")]
    size = _size(*(int(each) if each.strip().isdecimal() else None for each in sides))
    return _Xml((root.findtext("filename") or "").strip(), size, objects)


def _image_of(file: Path, filename: str, folders: Sequence[Path]) -> Path:
    """The image of an XML file; where there is none, the place that it should be at."""
    name = filename.replace("\\", "/").rsplit("/", 1)[-1]
    names = [name] if name else []
    names += [file.stem + ending for ending in sorted(IMAGE_EXTENSIONS)]
    for each in names:
        for folder in folders:
            if (folder / each).is_file():
                return folder / each
    return folders[0] / names[0]
