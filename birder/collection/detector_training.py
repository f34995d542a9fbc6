"""From images with boxes to a detector in a file, and its report."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from birder.collection.progress import Show, StageProgress, stages_shown
from birder.errors import ConfigError, ImageError, file_exists
from birder.evaluation.detection import FoundBoxes, Mistakes, TrueBoxes, judge_detections, mistakes
from birder.evaluation.provenance import versions
from birder.extras import need
from birder.images.open import open_image
from birder.inference.detector import CATEGORIES, Category, Detection, Detector, GraphForm
from birder.learning.detector_data import BoxData, BoxedImage, read_boxes, read_validation
from birder.plots.detector_report import BOXES, METRICS, MOST, PAGE, BoxPicture, DrawnBox, write_detector_report
from birder.registry import DEFAULT_WEIGHTS
from birder.weights.detector import new_detector, resolve_detector, save_detector
from birder.weights.resolve import resolve
from birder.words import counted

FOLDER_ENDING = ".training"
"""What is added to the name of a detector's file for the folder of its training while that is under way."""
_SIDE = 360  # pixels of the report's pictures
_QUALITY = 80
_LEAST = 0.05  # confidence of the installed detector's boxes that are judged


@dataclass(frozen=True)
class TrainedDetector:
    """A detector that was trained.

    Attributes
    ----------
    path
        Its checkpoint; not there if the training was stopped.
    classes
        Names of its classes.
    images, boxes
        How many it was trained on.
    figures
        What it was judged to be worth: `judged`, `beside` and the rest of metrics.json (docs/train-detector.md); empty
        without validation images.
    failures
        Name -> why an image could not be read.
    notes
        What the user should know of the data.
    seconds
        What the training took, all runs together.
    report
        The page that was written, if one was asked for.
    stopped
        Whether it was stopped before its end; the same call with `resume` goes on.
    """

    path: Path
    classes: tuple[str, ...]
    images: int
    boxes: int
    figures: dict[str, Any] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    seconds: float = 0.0
    report: Path | None = None
    stopped: bool = False


def train_detector(
    to: str | Path,
    *,
    coco: str | Path | None = None,
    voc: str | Path | None = None,
    images: str | Path | None = None,
    val: str | Path | None = None,
    backbone: str | Path = DEFAULT_WEIGHTS,
    report: str | Path | None = None,
    size: int = 448,
    width: int = 64,
    unfreeze_last: int = 0,
    epochs: int = 20,
    lr: float = 1e-3,
    batch_size: int = 8,
    device: str | None = None,
    seed: int = 0,
    resume: bool = False,
    force: bool = False,
    progress: StageProgress = "auto",
    expect: Callable[[float], None] | None = None,
    stop: threading.Event | None = None,
) -> TrainedDetector:
    """Train a detector (FCOS, arXiv 1904.01355) on a backbone; what `birder train-detector` does.

    While it trains, its state and the backbone's maps are kept in a folder beside the file, named like it with
    ".training" behind, which is removed at the end.

    Parameters
    ----------
    to
        The checkpoint to write, a .pt.
    coco, voc
        The images and boxes to learn from, one of: a COCO file; a folder in Pascal VOC's layout.
    images
        The folder that a COCO file's names of images start from (default: the file's own).
    val
        Images to judge it on: a COCO file or a VOC folder, or a text file that lists which of the training images are
        judged instead of learned from.
    backbone
        A model, as in `open_collection(...).embed` (default: the one that is installed with Birder).
    report
        A folder for report.html, metrics.json and detections.parquet; needs `val`.
    size
        Input height and width in pixels.
    width
        Channels of the layers that are new, a multiple of 32, at least 64.
    unfreeze_last
        Blocks of the backbone that learn as well, counted from its output; then its maps are not kept, and each epoch
        computes it anew.
    epochs
        How often each image is seen.
    lr
        The peak learning rate.
    batch_size
        Images an update is computed from.
    device
        Where to compute (default: a GPU if there is one).
    seed
        The same seed gives the same detector on one machine.
    resume
        Go on with a training that was stopped; everything else must be the same.
    force
        Replace files that exist, and a training that was stopped.
    progress
        Called with a stage and the share of it that is done; "auto" for a bar in a terminal or notebook.
    expect
        Called with the seconds that the training will take, as measured on three batches, before the first update.
    stop
        Once set, the state is saved and the training ends.

    Returns
    -------
    What was trained, and how good it is on the validation images.

    Raises
    ------
    ConfigError
        The data, or an option, cannot be used.
    FileExistsError
        Birder's own: the file exists, or a training that was stopped does, and neither `force` nor `resume` is set.
    UnknownNameError, WeightsError, HubError
        The backbone is not known, cannot be loaded, or is out of reach.
    MissingExtraError
        Validation images are given, and faster-coco-eval, which judges detections, is not installed.
    """
    import torch

    from birder.learning import train_detector as training
    from birder.learning.training_checkpoint import TrainingFolder

    to, report = Path(to), None if report is None else Path(report)
    if to.suffix != ".pt":
        raise ConfigError(f"{to} is not the name of a detector's checkpoint: end it in .pt.")
    for file in (to, *([] if report is None else [report / name for name in (PAGE, METRICS, BOXES)])):
        if file.exists() and not force:
            raise file_exists(file)
    folder = TrainingFolder(to.with_name(to.name + FOLDER_ENDING))
    folder.check(resume=resume, force=force)
    if report is not None and val is None:
        raise ConfigError("A report needs images to judge the detector on: give --val.")
    if min(size, epochs, batch_size) < 1 or unfreeze_last < 0 or not 0 < lr < 1:
        raise ConfigError("Size, epochs and batch size must be at least 1, and the learning rate between 0 and 1.")
    if val is not None:
        need("detector", "Judging a detector (--val)")
    folder_of_images = None if images is None else Path(images)
    data = read_boxes(_path(coco), _path(voc), folder_of_images)
    judged: BoxData | None = None
    if val is not None:
        data, judged = read_validation(Path(val), data, folder_of_images)
    weights = resolve(backbone).fetch()
    detector = new_detector(weights, data.classes, size=(size, size), width=width, seed=seed)
    training.unfreeze(detector.net.backbone, unfreeze_last)
    recipe = training.Recipe(epochs, lr, batch_size, unfreeze_last, seed)
    asked = training.what_is_asked(recipe, detector, weights.sha256, [data, judged])
    resumed = folder.begin(asked, resume=resume)
    with stages_shown(progress) as show:
        trained = training.train(
            detector,
            data,
            judged,
            recipe,
            folder,
            asked=asked,
            resumed=resumed,
            device=torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu")),
            tell=_teller(show),
            expect=expect or _unheard,
            stop=stop or threading.Event(),
        )
        notes = (*data.notes, *(() if judged is None else judged.notes))
        if trained is None:
            return TrainedDetector(to, data.classes, len(data.images), data.boxes, notes=notes, stopped=True)
        save_detector(detector, to, trained.state)
        figures: dict[str, Any] = {}
        page = None
        if judged is not None:
            if show is not None:
                show("Judging the detector", 1.0)
            truth = training.truth_of(trained.judged)
            figures = {
                "judged": judge_detections(truth, trained.found, data.classes, seed=seed),
                "beside": _beside(trained.judged, truth, trained.found, data.classes),
                "notes": [*notes, *_failed(trained.failures)],
                "training": asked
                | {
                    "backbone": weights.model.name,
                    "backbone_sha256": weights.sha256,
                    "network": detector.backbone,
                    "images": len(data.images),
                    "boxes": data.boxes,
                    "validation": [each.name for each in judged.images],
                },
                "history": trained.history,
                "failures": trained.failures,
                "made": {"seconds": round(trained.seconds, 1), "versions": versions()},
            }
        if report is not None:
            page = _report(report, figures, trained.judged, truth, trained.found, data.classes)
    folder.remove()
    return TrainedDetector(
        to, data.classes, len(data.images), data.boxes, figures, trained.failures, notes, trained.seconds, page
    )


def _path(given: str | Path | None) -> Path | None:
    return None if given is None else Path(given)


def _unheard(_: float) -> None:
    """Nobody asked how long it takes."""


def _teller(show: Show | None) -> Callable[[Any], None]:
    """What to call with how far a training has come."""

    def tell(told: Any) -> None:
        if show is None:
            return
        if told.stage == "maps":
            show(f"Computing the backbone's maps, {told.rate:.1f} images/s", told.images / max(told.of, 1))
            return
        loss = "" if told.loss is None else f", loss {told.loss:.3f}"
        ap50 = "" if told.ap50 is None else f", AP50 {told.ap50:.3f}"
        left = "" if told.left is None else f", {told.left / 60:,.1f} min left"
        share = (told.epoch - 1 + told.images / max(told.of, 1)) / told.epochs
        show(f"Epoch {told.epoch:,} of {told.epochs:,}{loss}{ap50}, {told.rate:.1f} images/s{left}", share)

    return tell


def _failed(failures: dict[str, str]) -> list[str]:
    if not failures:
        return []
    name, reason = next(iter(sorted(failures.items())))
    return [
        f"{counted(len(failures), 'image could not be read and was', 'images could not be read and were')} left out, "
        f"{name} for one: {reason}."
    ]


def _beside(
    images: Sequence[BoxedImage], truth: Sequence[TrueBoxes], found: Sequence[FoundBoxes], classes: Sequence[str]
) -> dict[str, Any]:
    """The trained detector and the installed one on the same images, by category: what both can be asked for."""
    form = GraphForm("classes", tuple(classes), (1, 1), 0, others="animal")
    of_class = [form.category(name) for name in classes]
    there = [each for each in CATEGORIES if each in of_class]
    codes = np.array([there.index(each) for each in of_class if each is not None], np.int64)
    known = resolve_detector(None)
    installed = Detector(known.path)
    theirs = [_boxes_of(_detected(installed, each), each, there) for each in images]
    true = [each._replace(classes=codes[each.classes]) for each in truth]
    ours = [each._replace(classes=codes[each.classes]) for each in found]
    return {
        "name": known.name,
        "trained": judge_detections(true, ours, there),
        "installed": judge_detections(true, theirs, there),
    }


def _detected(detector: Detector, image: BoxedImage) -> tuple[tuple[int, int], list[Detection]]:
    try:
        opened = open_image(image.path)
    except ImageError:
        return (1, 1), []
    return opened.size, detector.find(opened, min_conf=_LEAST)


def _boxes_of(
    found: tuple[tuple[int, int], list[Detection]], image: BoxedImage, categories: Sequence[Category]
) -> FoundBoxes:
    (width, height), detections = found
    kept = [each for each in detections if each.category in categories]
    corners = [
        [each.x * width, each.y * height, (each.x + each.width) * width, (each.y + each.height) * height]
        for each in kept
    ]
    return FoundBoxes(
        np.array(corners, np.float32).reshape(-1, 4),
        np.array([categories.index(each.category) for each in kept], np.int64),
        np.array([each.confidence for each in kept], np.float32),
    )


def _report(
    folder: Path,
    figures: dict[str, Any],
    images: Sequence[BoxedImage],
    truth: Sequence[TrueBoxes],
    found: Sequence[FoundBoxes],
    classes: Sequence[str],
) -> Path:
    """Write the report, with images of the largest misses and the most confident false alarms."""
    best = figures["judged"]["best_score"]
    least = best["score"] if best is not None else 0.5
    wrong = [mistakes(*each, least) for each in zip(truth, found, strict=True)]
    every = range(len(images))
    missed = sorted((i for i in every if len(wrong[i].missed)), key=lambda i: -_area(truth[i], wrong[i].missed))
    false = sorted((i for i in every if len(wrong[i].false)), key=lambda i: -found[i].scores[wrong[i].false].max())

    def pictures(chosen: Sequence[int]) -> list[BoxPicture]:
        made = (_picture(images[i], truth[i], found[i], wrong[i], least, classes) for i in chosen[:MOST])
        return [each for each in made if each is not None]

    return write_detector_report(
        folder, figures, _table(images, truth, found, classes), missed=pictures(missed), false=pictures(false)
    )


def _area(truth: TrueBoxes, which: Any) -> float:
    boxes = truth.boxes[which]
    return float(((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])).max())


def _picture(
    image: BoxedImage, truth: TrueBoxes, found: FoundBoxes, wrong: Mistakes, least: float, classes: Sequence[str]
) -> BoxPicture | None:
    try:
        opened = open_image(image.path)
    except ImageError:
        return None
    size = np.array([opened.width, opened.height] * 2)

    def drawn(box: Any, kind: Any, title: str) -> DrawnBox:
        left, top, right, bottom = (float(each) for each in box / size)
        return DrawnBox((left, top, right, bottom), kind, title)

    boxes = [drawn(truth.boxes[i], "missed", f"{classes[truth.classes[i]]}, missed") for i in wrong.missed]
    for i in np.flatnonzero(found.scores >= least):
        kind = "false" if i in wrong.false else "right"
        boxes.append(drawn(found.boxes[i], kind, f"{classes[found.classes[i]]} {found.scores[i]:.2f}"))
    parts = [f"{len(wrong.missed):,} missed"] if len(wrong.missed) else []
    parts += [f"{len(wrong.false):,} false"] if len(wrong.false) else []
    opened.thumbnail((_SIDE, _SIDE))
    buffer = io.BytesIO()
    opened.save(buffer, "JPEG", quality=_QUALITY)
    return BoxPicture(image.name, buffer.getvalue(), opened.size, boxes, ", ".join(parts))


def _table(
    images: Sequence[BoxedImage], truth: Sequence[TrueBoxes], found: Sequence[FoundBoxes], classes: Sequence[str]
) -> pa.Table:
    """A row for each true and each found box; of the true ones, score is null."""
    rows: dict[str, list[Any]] = {
        name: [] for name in ("image", "class", "score", "ignored", "left", "top", "right", "bottom")
    }
    for image, true, each in zip(images, truth, found, strict=True):
        scores = [None] * len(true.boxes) + [float(score) for score in each.scores]
        ignored = [bool(flag) for flag in true.ignored] + [False] * len(each.boxes)
        names = [classes[code] for code in (*true.classes, *each.classes)]
        for box, name, score, flag in zip([*true.boxes, *each.boxes], names, scores, ignored, strict=True):
            values = [image.name, name, score, flag, *(float(side) for side in box)]
            for column, value in zip(rows.values(), values, strict=True):
                column.append(value)
    types = [pa.string(), pa.string(), pa.float32(), pa.bool_(), *[pa.float32()] * 4]
    return pa.table({name: pa.array(column, type_) for (name, column), type_ in zip(rows.items(), types, strict=True)})
