"""Collections of images that can be moved: drawn, embedded, and read as they are when the collection is opened."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from birder.collection.storage import Storage
from birder.formats.sources import find_sources
from birder.pipeline.embed import embed_images, plan
from tests.pipeline.means import TRANSFORM, Means, collection_in


def draw(folder: Path, *names: str | bytes, seed: int = 0) -> None:
    """Write images of different content."""
    for number, name in enumerate(names):
        file = Path(os.fsdecode(os.path.join(os.fsencode(folder), os.fsencode(name))))  # noqa: PTH118
        file.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng([seed, number]).integers(0, 256, (20, 20, 3), np.uint8)
        with file.open("wb") as out:
            Image.fromarray(pixels).save(out, "PNG")


def embed(home: Path, *paths: str | Path) -> Storage:
    storage = collection_in(home)
    todo = plan(storage, find_sources([str(path) for path in paths]))
    embed_images(storage, Means(), TRANSFORM, todo, draft=False)
    with storage.writing():
        storage.remember_roots(paths)
    return Storage.open(storage.path)


def rows(storage: Storage) -> dict[str, dict[str, Any]]:
    """The rows by uri, as they are when the collection is opened."""
    table = Storage.open(storage.path).to_arrow()
    return {row["uri"]: row for row in table.to_pylist()}
