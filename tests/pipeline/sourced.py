"""Runs of the pipeline over sources of any kind, with the engine that can be followed by hand."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image

from birder.pipeline.embed import Plan, Summary, embed_images, plan
from birder.sources import Source
from tests.pipeline.means import TRANSFORM, Means, collection_in


def png(seed: int, size: tuple[int, int] = (20, 24)) -> bytes:
    out = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)).save(out, "png")
    return out.getvalue()


def run(folder: Path, sources: list[Source], engine: Means | None = None, **options: object) -> tuple[Plan, Summary]:
    collection = collection_in(folder)
    todo = plan(collection, sources)
    return todo, embed_images(collection, engine or Means(), TRANSFORM, todo, draft=False, **options)  # type: ignore[arg-type]


def rows_of(folder: Path) -> dict[str, dict[str, object]]:
    rows = collection_in(folder).to_arrow().to_pylist()
    found = {row["uri"]: row for row in rows}
    assert len(found) == len(rows)
    return found
