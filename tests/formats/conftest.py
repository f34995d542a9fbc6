from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from birder.collection.storage import Failure, Storage
from tests.factory import collection_of_columns

DATA = Path(__file__).parents[1] / "data"
REFERENCE = DATA / "bioclip2-tol200m-1030.parquet"

Make = Callable[..., Storage]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Makes a collection in the test's folder from rows: uri -> columns."""

    def make(
        rows: dict[str, dict[str, Any]],
        types: dict[str, pa.DataType] | None = None,
        failures: list[Failure] | None = None,
        name: str = "c.birder",
    ) -> Storage:
        return collection_of_columns(tmp_path / name, rows, types, failures or ())

    return make
