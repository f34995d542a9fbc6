"""Runs of the pipeline with an engine that can be followed by hand, on images drawn for it."""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from birder.collection.model import model_card
from birder.collection.storage import Storage
from birder.images.transform import ClassificationTransform
from birder.pipeline.embed import Summary, embed_images, plan
from birder.sources import find_images

TRANSFORM = ClassificationTransform((16, 16), (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


class Means:
    """An engine that can be followed by hand: the means of 4 x 4 tiles; it counts what it embeds."""

    name, precision, size, embedding_size = "means", "fp32", (16, 16), 48
    patches: tuple[int, int, int] | None = None

    def __init__(self, seconds: float = 0.0) -> None:
        self.images = 0
        self.seconds = seconds

    def embed(self, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        self.images += len(images)
        time.sleep(self.seconds * len(images))
        tiles: npt.NDArray[np.float32] = images.reshape(-1, 4, 4, 4, 4, 3).mean(axis=(2, 4), dtype=np.float32)
        return tiles.reshape(len(images), -1)

    def embed_with_patches(
        self, images: npt.NDArray[np.uint8]
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float16]]:
        raise NotImplementedError  # `patches` is None


def collection_in(folder: Path) -> Storage:
    card = model_card("means", "means", "00" * 32, TRANSFORM, Means(), draft=False)
    return Storage.create_or_open(folder / "c.birder", card)


def run(folder: Path, engine: Means | None = None, retry_failed: bool = False, **options: object) -> Summary:
    collection = collection_in(folder)
    todo = plan(collection, find_images([folder / "photos"]), retry_failed=retry_failed)
    return embed_images(collection, engine or Means(), TRANSFORM, todo, draft=False, **options)  # type: ignore[arg-type]


def draw(folder: Path, count: int, start: int = 0) -> None:
    photos = folder / "photos"
    photos.mkdir(exist_ok=True)
    for i in range(start, start + count):
        pixels = np.random.default_rng(i).integers(0, 256, (20, 24, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(photos / f"{i:04}.png")


def broken_files(photos: Path) -> dict[str, str]:
    """Broken files of many kinds: name -> what the reason must say."""
    good = (photos / "0000.png").read_bytes()
    jpeg = photos.parent / "good.jpg"
    Image.open(photos / "0000.png").resize((300, 300)).save(jpeg)
    contents = {
        "empty.jpg": (b"", "empty"),
        "zeros.jpg": (b"\0" * 500, "zeros"),
        "text.jpg": (b"once upon a time", "unknown file format"),
        "cut.png": (good[: len(good) // 2], "truncated|damaged"),
        "cut.jpg": (jpeg.read_bytes()[:2000], "truncated"),
        "bomb.ppm": (b"P6 60000 60000 255\n" + bytes(100), "bomb"),
    }
    for name, (data, _) in contents.items():
        (photos / name).write_bytes(data)
    (photos / "dangling.jpg").symlink_to(photos / "nowhere")
    os.mkfifo(photos / "pipe.jpg")
    (photos / "cut-copy.jpg").write_bytes(contents["cut.jpg"][0])
    return {name: reason for name, (_, reason) in contents.items()} | {
        "dangling.jpg": "does not exist",
        "pipe.jpg": "not a regular file",
        "cut-copy.jpg": "truncated",
    }
