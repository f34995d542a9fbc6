from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from birder.collection.storage import Content, Failure, ModelCard, Row, Stamp, Storage

DATA = Path(__file__).parents[1] / "data"
REFERENCE = DATA / "bioclip2-tol200m-1030.parquet"
CARD = ModelCard("tiny", "tiny", "ab" * 32, {"size": [8, 8], "draft": True}, "torch", "fp32", 4)

Make = Callable[..., Storage]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Makes a collection from rows: uri -> columns; embeddings are seeded random numbers."""

    def make(
        rows: dict[str, dict[str, Any]],
        types: dict[str, pa.DataType] | None = None,
        failures: list[Failure] | None = None,
        name: str = "c.birder",
    ) -> Storage:
        collection = Storage.create_or_open(tmp_path / name, CARD)
        random = np.random.default_rng(7)
        written = [
            Row(
                uri,
                f"{number:064x}",
                Stamp(10, 1_600_000_000_000_000 + number),
                Content(
                    random.normal(size=4).astype("f4"),
                    30,
                    20,
                    columns.get("taken_at", datetime(2020, 5, 1)),
                    None,
                    None,
                ),
                columns=columns,
            )
            for number, (uri, columns) in enumerate(rows.items())
        ]
        with collection.writing():
            collection.add_columns(types or {})
            collection.write(written, failures or [])
        return collection

    return make
