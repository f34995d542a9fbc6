"""From images with boxes to what a detector is trained on: pixels, or the maps of a frozen backbone, kept on disk."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from birder.errors import ConfigError, ImageError
from birder.files import replacing
from birder.images.open import decoded_photo
from birder.inference.detector import Letterbox, letterboxed
from birder.learning.detector_data import BoxedImage
from birder.net.fcos import Target
from birder.weights.detector import DetectorNetwork

Pixels = npt.NDArray[np.uint8]
Maps = dict[str, torch.Tensor]
SCALES = (0.6, 1.0)
"""Of the size that fits, where images are opened anew each time."""
_AT_ONCE = 8
_LARGEST = 65504.0  # float16's


class Geometry:
    """Where an image lies in the input, and what that makes of its boxes.

    Parameters
    ----------
    place
        Of the image in the input.
    size
        (height, width) of the upright image in pixels.
    flipped
        The input is mirrored; `width` is that of the input.
    """

    def __init__(self, place: Letterbox, size: tuple[int, int], *, flipped: bool, width: int) -> None:
        self._scale = np.array([place.width / size[1], place.height / size[0]] * 2, np.float32)
        self._shift = np.array([place.left, place.top] * 2, np.float32)
        self._width = width if flipped else None
        self.size = size

    def to_input(self, boxes: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Boxes (N, 4) in pixels of the input."""
        moved = boxes * self._scale + self._shift
        if self._width is not None:
            moved[:, [0, 2]] = self._width - moved[:, [2, 0]]
        return moved.astype(np.float32)

    def to_image(self, boxes: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Boxes (N, 4) of an input that is not mirrored in pixels of the image, and within it."""
        moved = (boxes - self._shift) / self._scale
        height, width = self.size
        return moved.clip(0, [width, height, width, height]).astype(np.float32)


@dataclass(frozen=True)
class Opened:
    """An image as the detector's input: pixels (H, W, 3) uint8, where it lies in them, and what is to be found."""

    pixels: Pixels
    place: Letterbox
    geometry: Geometry
    target: Target


def open_boxed(image: BoxedImage, detector: DetectorNetwork, *, flipped: bool = False, scale: float = 1.0) -> Opened:
    """Open an image safely, and put it with its boxes into the detector's input.

    Raises
    ------
    ImageError
        It cannot be read, or is of another size than its annotations say.
    """
    size = detector.net.size
    with decoded_photo(image.path, draft=size) as photo:
        upright = (photo.height, photo.width)
        if image.size is not None and image.size != upright:
            raise ImageError(
                f"its boxes are for {image.size[1]} x {image.size[0]} pixels, and it has {upright[1]} x {upright[0]}"
            )
        pixels, place = letterboxed(photo.image, size, detector.fill, scale)
    geometry = Geometry(place, upright, flipped=flipped, width=size[1])
    return Opened(pixels[:, ::-1] if flipped else pixels, place, geometry, _target(image, geometry))


def _target(image: BoxedImage, geometry: Geometry) -> Target:
    learned = ~image.ignored
    return {
        "boxes": torch.from_numpy(geometry.to_input(image.boxes[learned])),
        "labels": torch.from_numpy(image.classes[learned] + 1),
    }


def open_all(
    images: Sequence[BoxedImage],
    detector: DetectorNetwork,
    *,
    flipped: Sequence[bool],
    scales: Sequence[float],
    threads: int,
) -> Iterator[Opened | ImageError]:
    """`open_boxed` in threads, in order, a few images ahead; an error stands for an image that cannot be read."""

    def opened(place: int) -> Opened | ImageError:
        try:
            return open_boxed(images[place], detector, flipped=flipped[place], scale=scales[place])
        except ImageError as error:
            return error

    with ThreadPoolExecutor(threads, thread_name_prefix="birder-reader") as pool:
        for start in range(0, len(images), 4 * _AT_ONCE):
            yield from pool.map(opened, range(start, min(start + 4 * _AT_ONCE, len(images))))


def normalised(pixels: Sequence[Pixels], detector: DetectorNetwork, device: torch.device) -> torch.Tensor:
    """Pixels (H, W, 3) uint8 as a batch (B, 3, H, W) float32 for the network."""
    x = torch.from_numpy(np.stack(pixels)).to(device).permute(0, 3, 1, 2).float() / 255
    mean, std = (torch.tensor(detector.rgb_stats[key], device=device).view(3, 1, 1) for key in ("mean", "std"))
    return (x - mean) / std


class KeptMaps:
    """The backbone's maps of images, as float16 in a folder, and of each mirrored image if asked.

    They are read from disk as they are needed. What a run that was stopped has left is used if it is of the same
    images and the same backbone.

    Parameters
    ----------
    folder
        Where they are, or will be.
    key
        Says what they are of.
    images
        N images.
    mirrored
        Keep the maps of the mirrored images as well.

    Attributes
    ----------
    images
        Those that could be read, M of them.
    geometry, targets
        Of each; of the mirrored ones too, behind the others.
    failed
        Name and reason of the others.
    """

    def __init__(
        self,
        folder: Path,
        key: str,
        images: Sequence[BoxedImage],
        detector: DetectorNetwork,
        *,
        mirrored: bool,
        device: torch.device,
        threads: int,
        on_image: Callable[[int], None],
    ) -> None:
        self.folder = folder
        copies = 2 if mirrored else 1
        facts = self._facts(key)
        if facts is None:
            facts = self._fill(key, images, detector, copies, device, threads, on_image)
        self.failed: list[tuple[str, str]] = [(name, reason) for name, reason in facts["failed"]]
        read = [each for each in images if each.name not in dict(self.failed)]
        self.images = tuple(read)
        self._maps = {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in facts["maps"]}
        width = detector.net.size[1]
        self.geometry = [
            Geometry(Letterbox(*place), (size[0], size[1]), flipped=copy > 0, width=width)
            for copy in range(copies)
            for place, size in facts["places"]
        ]
        self.targets = [
            _target(image, geometry) for image, geometry in zip(self.images * copies, self.geometry, strict=True)
        ]

    def maps(self, rows: Sequence[int], device: torch.device) -> Maps:
        """The maps (B, C, ...) of images by their numbers, float32; M and more are the mirrored ones."""
        return {name: torch.from_numpy(array[list(rows)]).to(device).float() for name, array in self._maps.items()}

    def _facts(self, key: str) -> dict[str, Any] | None:
        try:
            facts: dict[str, Any] = json.loads((self.folder / "facts.json").read_text("utf-8"))
        except (OSError, ValueError):
            return None
        return facts if facts.get("key") == key else None

    def _fill(
        self,
        key: str,
        images: Sequence[BoxedImage],
        detector: DetectorNetwork,
        copies: int,
        device: torch.device,
        threads: int,
        on_image: Callable[[int], None],
    ) -> dict[str, Any]:
        shapes = map_shapes(detector)
        needed = 2 * copies * len(images) * sum(int(np.prod(shape)) for shape in shapes.values())
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "facts.json").unlink(missing_ok=True)
        if needed > shutil.disk_usage(self.folder).free:
            raise ConfigError(
                f"The backbone's maps take {needed / 2**30:.1f} GiB, more than is free at {self.folder}. Train with "
                "fewer images or a smaller --size, or with --unfreeze-last 1, which keeps no maps."
            )
        arrays = {
            name: np.lib.format.open_memmap(
                self.folder / f"{name}.npy", mode="w+", dtype=np.float16, shape=(copies * len(images), *shape)
            )
            for name, shape in shapes.items()
        }
        failed: list[tuple[str, str]] = []
        places: list[tuple[list[int], list[int]]] = []
        waiting: list[Opened] = []

        def compute() -> None:
            first = len(places) - len(waiting)
            for copy in range(copies):
                pixels = [each.pixels[:, ::-1] if copy else each.pixels for each in waiting]
                with torch.inference_mode():
                    maps = detector.net.maps(normalised(pixels, detector, device))
                for name, x in maps.items():
                    rows = x.clamp(-_LARGEST, _LARGEST).half().cpu().numpy()
                    # The mirrored ones stand behind all the others; where those end shows when all are read.
                    arrays[name][copy * len(images) + first :][: len(waiting)] = rows
            waiting.clear()

        once = [False] * len(images), [1.0] * len(images)
        opened = open_all(images, detector, flipped=once[0], scales=once[1], threads=threads)
        for number, (image, each) in enumerate(zip(images, opened, strict=True), 1):
            if isinstance(each, ImageError):
                failed.append((image.name, str(each)))
            else:
                places.append((list(each.place), list(each.geometry.size)))
                waiting.append(each)
            if len(waiting) == _AT_ONCE or (waiting and number == len(images)):
                compute()
            on_image(number)
        if failed and copies > 1:
            for array in arrays.values():
                for row in range(len(places)):
                    array[len(places) + row] = array[len(images) + row]
        for array in arrays.values():
            array.flush()
        facts = {"key": key, "maps": list(shapes), "failed": failed, "places": places}
        with replacing(self.folder / "facts.json") as draft:
            draft.write_text(json.dumps(facts), "utf-8")
        return facts


def map_shapes(detector: DetectorNetwork) -> dict[str, tuple[int, ...]]:
    """Shapes (C, rows, columns) of the backbone's maps, by name."""
    with torch.inference_mode():
        device = next(detector.net.parameters()).device
        maps = detector.net.maps(torch.zeros(1, 3, *detector.net.size, device=device))
    return {name: tuple(x.shape[1:]) for name, x in maps.items()}
