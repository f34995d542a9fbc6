"""Detection over many images: read and decode in threads, detect in batches; nothing ends the run but the user."""

from __future__ import annotations

import json
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from birder.errors import ImageError, write_error
from birder.files import write_errors
from birder.images.open import decoded_photo
from birder.inference.detector import Detection, Detector, ImageDetections, Letterbox
from birder.pipeline.decode import UNREADABLE, why_unreadable
from birder.sources import Source, Stamp, held_source, stamp_of

_BATCH = 8
KEPT_ENDING = ".partial"
"""What is added to the name of the results for what a run has found so far."""


@dataclass(frozen=True)
class DetectProgress:
    """How far a run has come: images in all, finished (in an earlier run too), failed, and with an animal; seconds."""

    total: int
    finished: int = 0
    before: int = 0
    failed: int = 0
    with_animal: int = 0
    seconds: float = 0.0

    @property
    def rate(self) -> float:
        """Images a second."""
        return (self.finished - self.before) / self.seconds if self.seconds else 0.0


class _Prepared(NamedTuple):
    """An image that is ready for the detector, or why it is not."""

    source: Source
    stamp: Stamp | None
    failure: str | None = None
    pixels: npt.NDArray[np.uint8] | None = None
    place: Letterbox | None = None
    width: int = 0
    height: int = 0


def detect_images(
    sources: Iterable[Source],
    detector: Detector,
    *,
    min_conf: float,
    kept: Kept | None = None,
    threads: int | None = None,
    on_progress: Callable[[DetectProgress], None] | None = None,
    stop: threading.Event | None = None,
) -> Iterator[ImageDetections]:
    """Detect what is on images, in their order; shards are gone through.

    Parameters
    ----------
    min_conf
        Boxes with a lower confidence are left out.
    kept
        What an earlier run has found; what this one finds is added.
    threads
        How many read and decode; default: as many as there are processors.
    on_progress
        Called after each batch.
    stop
        Once set, images already decoded are dealt with, and the run ends.
    """
    images = [image for source in sources for image in _members(source)]
    progress = DetectProgress(len(images))
    began = time.perf_counter()
    stop = stop or threading.Event()
    waiting: list[_Prepared | ImageDetections] = []
    for prepared in _in_threads(images, detector, kept, threads or os.cpu_count() or 1, stop):
        waiting.append(prepared)
        if len(waiting) < _BATCH:
            continue
        for found in _detected(waiting, detector, min_conf, kept):
            progress = _counted(progress, found)
            yield found
        progress = _before(progress, waiting)
        waiting = []
        if on_progress is not None:
            on_progress(replace(progress, seconds=time.perf_counter() - began))
    for found in _detected(waiting, detector, min_conf, kept):
        progress = _counted(progress, found)
        yield found
    progress = _before(progress, waiting)
    if on_progress is not None:
        on_progress(replace(progress, seconds=time.perf_counter() - began))


def _members(source: Source) -> Iterator[Source]:
    if source.members is None:
        yield source
    else:
        yield from source.members.sources()


def _counted(progress: DetectProgress, found: ImageDetections) -> DetectProgress:
    animal = any(each.category == "animal" for each in found.detections or ())
    return replace(
        progress,
        finished=progress.finished + 1,
        failed=progress.failed + (found.failure is not None),
        with_animal=progress.with_animal + animal,
    )


def _before(progress: DetectProgress, batch: list[_Prepared | ImageDetections]) -> DetectProgress:
    return replace(progress, before=progress.before + sum(isinstance(each, ImageDetections) for each in batch))


def _in_threads(
    images: list[Source], detector: Detector, kept: Kept | None, threads: int, stop: threading.Event
) -> Iterator[_Prepared | ImageDetections]:
    """Prepare images in threads, in their order, a few ahead; none after `stop`."""

    def prepared(source: Source) -> _Prepared | ImageDetections:
        stamp = stamp_of(source) if source.problem is None else None
        known = None if kept is None else kept.found(source.name, stamp)
        return known if known is not None else _prepare(source, stamp, detector)

    rest = iter(images)
    futures: deque[Future[_Prepared | ImageDetections]] = deque()
    with ThreadPoolExecutor(threads, thread_name_prefix="birder-reader") as pool:
        try:
            while True:
                while len(futures) < 2 * _BATCH and not stop.is_set() and (source := next(rest, None)) is not None:
                    futures.append(pool.submit(prepared, source))
                if not futures:
                    return
                future = futures.popleft()
                if not (stop.is_set() and future.cancel()):
                    yield future.result()
        finally:
            for future in futures:
                future.cancel()


def _prepare(source: Source, stamp: Stamp | None, detector: Detector) -> _Prepared:
    if source.problem is not None:
        return _Prepared(source, stamp, source.problem)
    try:
        with (
            held_source(source, stamp) as loaded,
            decoded_photo(loaded.data, draft=detector.form.size) as photo,
        ):
            pixels, place = detector.prepare(photo.image)
            return _Prepared(source, stamp, None, pixels, place, photo.width, photo.height)
    except ImageError as error:
        return _Prepared(source, stamp, str(error))
    except UNREADABLE as error:
        return _Prepared(source, stamp, why_unreadable(error))


def _detected(
    batch: list[_Prepared | ImageDetections], detector: Detector, min_conf: float, kept: Kept | None
) -> list[ImageDetections]:
    ready = [each for each in batch if isinstance(each, _Prepared) and each.pixels is not None]
    boxes = iter(
        detector.detect(
            [each.pixels for each in ready if each.pixels is not None],
            [each.place for each in ready if each.place is not None],
            min_conf=min_conf,
        )
    )
    results, fresh = [], []
    for each in batch:
        if isinstance(each, ImageDetections):
            results.append(each)
            continue
        if each.pixels is None:
            found = ImageDetections(each.source.name, None, each.failure)
        else:
            found = ImageDetections(each.source.name, tuple(next(boxes)), None, each.width, each.height)
        fresh.append((found, each.stamp))
        results.append(found)
    if kept is not None:
        kept.add(fresh)
    return results


class Kept:
    """What a run has found so far, in a file of JSON lines beside the results, so that a stopped run can go on.

    The first line says what the run is; a file of another run is begun anew. Failures are not kept: the next run tries
    them again.

    Parameters
    ----------
    results
        The file that the results will be written to.
    run
        What must be equal for results to be: the detector's sha256, the minimum confidence.
    """

    def __init__(self, results: Path, run: Mapping[str, Any]) -> None:
        self.path = results.with_name(results.name + KEPT_ENDING)
        self._run = dict(run)
        self._found: dict[tuple[str, Stamp], ImageDetections] = {}
        whole = self._read()
        with write_errors(self.path, self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self.path.open("r+b" if whole else "wb")
            if whole:
                self._file.truncate(whole)
                self._file.seek(whole)
            else:
                self._file.write(_line(self._run))

    def __len__(self) -> int:
        return len(self._found)

    def _read(self) -> int:
        """Read what an earlier run has left; how many bytes of it are whole lines of the same run."""
        whole = 0
        try:
            with self.path.open("rb") as file:
                for number, line in enumerate(file):
                    if not line.endswith(b"\n"):
                        break  # cut short as it was written
                    told = json.loads(line)
                    if number == 0:
                        if told != self._run:
                            return 0
                    else:
                        found = ImageDetections(
                            told["name"],
                            tuple(Detection(*each) for each in told["detections"]),
                            None,
                            told["width"],
                            told["height"],
                        )
                        self._found[told["name"], Stamp(*told["stamp"])] = found
                    whole += len(line)
        except FileNotFoundError:
            return 0
        except (OSError, ValueError, KeyError, TypeError):
            self._found.clear()
            return 0
        return whole

    def found(self, name: str, stamp: Stamp | None) -> ImageDetections | None:
        """What was found on an image, if it is the same file still."""
        return None if stamp is None else self._found.get((name, stamp))

    def add(self, results: Iterable[tuple[ImageDetections, Stamp | None]]) -> None:
        """Keep results."""
        with write_errors(self.path, self.path):
            for found, stamp in results:
                if stamp is None or found.detections is None:
                    continue
                told = {"name": found.name, "stamp": list(stamp), "width": found.width, "height": found.height}
                self._file.write(_line(told | {"detections": [list(each) for each in found.detections]}))
            self._file.flush()

    def close(self, *, done: bool) -> None:
        """Close the file, and remove it if the run has come to its end."""
        try:
            self._file.close()
        except OSError as error:  # what is still in its buffer has no room; `add` has told so, or the run is over
            if not done:
                raise write_error(self.path, error) from error
        if done:
            with suppress(FileNotFoundError):
                self.path.unlink()


def _line(values: Mapping[str, Any]) -> bytes:
    return json.dumps(values).encode() + b"\n"  # surrogate escapes of names that are no text are kept as \udcXX
