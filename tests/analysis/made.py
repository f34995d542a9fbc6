"""Collections made of given vectors, without photographs."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from birder.collection.storage import Content, ModelCard, Row, Stamp, Storage, column_types

CHROMIUM = os.environ.get("BIRDER_CHROMIUM") or shutil.which("chromium")
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="no chromium: install it, or name it in BIRDER_CHROMIUM")


def make(
    path: Path,
    vectors: npt.NDArray[np.floating[Any]],
    *,
    names: Sequence[str] | None = None,
    sha256: Sequence[str] | None = None,
    sizes: Sequence[int] | None = None,
    columns: Mapping[str, Sequence[Any]] | None = None,
    known: bool = False,
) -> Storage:
    """A collection of these (N, D) vectors; added to the one that is there already."""
    given = np.asarray(vectors, np.float32)
    card = ModelCard("test", "test", "0" * 64, {"draft": True}, "torch", "fp32", given.shape[1])
    collection = Storage.create_or_open(path, card)
    names = names or [f"p/{i:05d}.jpg" for i in range(len(given))]
    rows = [
        Row(
            f"file:///{name}",
            sha256[i] if sha256 else hashlib.sha256(f"{name} {given[i].tobytes()!r}".encode()).hexdigest(),
            Stamp(10, 1_000_000),
            Content(given[i], sizes[i] if sizes else 40, 30, None, None, None),
            {key: values[i] for key, values in (columns or {}).items() if values[i] is not None},
            known=known,
        )
        for i, name in enumerate(names)
    ]
    with collection.writing():
        collection.add_columns(column_types({name: list(values) for name, values in (columns or {}).items()}))
        collection.write(rows)
    return collection


def clusters(count: int, each: int, size: int = 16, spread: float = 0.15) -> tuple[npt.NDArray[np.float32], list[str]]:
    """Vectors around `count` directions, and a label for each."""
    random = np.random.default_rng(0)
    middles = np.linalg.qr(random.normal(size=(size, size)))[0][:count]
    vectors = np.repeat(middles, each, axis=0) + spread * random.normal(size=(count * each, size)) / np.sqrt(size)
    return vectors.astype(np.float32), [f"group {i}" for i in range(count) for _ in range(each)]
