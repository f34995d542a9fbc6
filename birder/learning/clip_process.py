"""`python -m birder.learning.clip_process`: one stream of a CLIP training's samples, read in a process of its own.

What comes in on standard input is JSON, each after its length (4 bytes, big-endian): first an `Asked`, then requests.
`{"number": N, "count": C, "texts": [...]}` asks for the next C samples with one of these texts each; what goes out is
JSON after its length, `keys` and `texts` (fewer than C at the end of a pass, `error` if nothing can be read), then the
pixels, (H, W, 3) uint8 each. `{"after": N}` asks for where the stream was after the samples of number N. The process
ends when standard input does, as when the training is killed.
"""

from __future__ import annotations

import json
import math
import struct
import sys
from collections import deque
from collections.abc import Sequence
from typing import IO, Any, TypedDict

import numpy as np
import numpy.typing as npt
from PIL import Image

from birder.errors import ConfigError
from birder.images.decoding_process import say
from birder.images.transform import ClassificationTransform
from birder.learning.clip_shards import Captions, Sample, ShardStream

REMEMBERED = 16
"""Requests after which the place in the shards is remembered, counted from the last."""
CROP_AREA = (0.9, 1.0)
"""The share of an image that a crop shows in training, from and to, as in BioCLIP's."""
_ASPECT = 4 / 3
_TRIES = 10


class Asked(TypedDict):
    """What a stream reads.

    Attributes
    ----------
    stream
        The arguments of `ShardStream`.
    transform
        A card's: what a whole image becomes; its size is that of a crop, too.
    crop
        Whether images are cropped at random.
    state
        Where to go on: what `{"after": N}` gave; None at the beginning.
    """

    stream: dict[str, Any]
    transform: dict[str, Any]
    crop: bool
    state: dict[str, Any] | None


def main() -> None:
    """Answer requests until standard input ends."""
    requests, answers = sys.stdin.buffer, sys.stdout.buffer
    sys.stdout = sys.stderr  # a library that prints must not corrupt the stream
    asked: Asked = _next(requests)
    reader = _Reader(asked)
    after: deque[tuple[int, dict[str, Any]]] = deque(maxlen=REMEMBERED)
    while (wanted := _next(requests)) is not None:
        if "after" in wanted:
            say(answers, dict(after)[wanted["after"]])
        else:
            try:
                samples, texts = reader.read(wanted["number"], wanted["count"], wanted["texts"])
            except ConfigError as error:
                say(answers, {"error": str(error)})
            else:
                after.append((wanted["number"], reader.state()))
                say(answers, {"keys": [key for key, _ in samples], "texts": texts})
                for _, pixels in samples:
                    answers.write(pixels.data)
        answers.flush()


def _next(requests: IO[bytes]) -> Any:
    length = requests.read(4)
    return json.loads(requests.read(struct.unpack(">I", length)[0])) if len(length) == 4 else None


class _Reader:
    """A stream, what was taken from it, and the crops."""

    def __init__(self, asked: Asked) -> None:
        self._stream = ShardStream(**asked["stream"])
        self._captions = Captions()
        self._transform = ClassificationTransform.from_card(asked["transform"])
        self._crop = asked["crop"]
        self._seed = (asked["stream"]["seed"], asked["stream"]["stream"])
        if (state := asked["state"]) is not None:
            self._stream.restore(state["stream"])
            self._captions.replaced.update({(wanted, taken): count for wanted, taken, count in state["replaced"]})

    def read(
        self, number: int, count: int, texts: Sequence[str]
    ) -> tuple[list[tuple[str, npt.NDArray[np.uint8]]], list[str]]:
        """Keys and pixels of the next samples, and of each one of the texts; what is drawn follows from the number."""
        random = np.random.default_rng([*self._seed, 3, number])
        samples, taken = [], []
        for _ in range(count):
            sample = next(self._stream, None)
            if sample is None:
                break
            name = texts[int(random.integers(len(texts)))] if len(texts) > 1 else texts[0]
            taken.append(self._captions.of(sample.texts, name))
            samples.append((sample.key, self._pixels(sample, random)))
        return samples, taken

    def state(self) -> dict[str, Any]:
        """Where the stream is, as JSON."""
        replaced = [[*names, count] for names, count in sorted(self._captions.replaced.items())]
        return {"stream": self._stream.state(), "replaced": replaced}

    def _pixels(self, sample: Sample, random: np.random.Generator) -> npt.NDArray[np.uint8]:
        image = Image.fromarray(sample.pixels)
        if not self._crop:
            return np.ascontiguousarray(self._transform.to_uint8(image))
        return random_crop(image, self._transform.size, random)


def random_crop(image: Image.Image, size: tuple[int, int], random: np.random.Generator) -> npt.NDArray[np.uint8]:
    """A random part of an RGB image, resized to (height, width), bicubic: uint8 (height, width, 3).

    It shows 90 to 100 % of the image's area and has an aspect ratio from 3/4 to 4/3, where such a part fits into the
    image; else the largest one in the middle (torchvision's RandomResizedCrop(scale=(0.9, 1))).
    """
    left, top, width, height = _part(image.width, image.height, random)
    part = image.crop((left, top, left + width, top + height))
    return np.array(part.resize(size[::-1], Image.Resampling.BICUBIC))


def _part(width: int, height: int, random: np.random.Generator) -> tuple[int, int, int, int]:
    """Left, top, width and height."""
    for _ in range(_TRIES):
        area = random.uniform(*CROP_AREA) * width * height
        aspect = math.exp(random.uniform(-math.log(_ASPECT), math.log(_ASPECT)))
        across, down = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < across <= width and 0 < down <= height:
            return int(random.integers(width - across + 1)), int(random.integers(height - down + 1)), across, down
    across, down = min(width, round(height * _ASPECT)), min(height, round(width * _ASPECT))
    return (width - across) // 2, (height - down) // 2, across, down


if __name__ == "__main__":
    main()
