"""The LanceDB tables of a collection, for tests that look behind `Storage` or change rows as other programs would."""

from __future__ import annotations

from pathlib import Path

import lancedb
from lancedb.table import Table


def images_of(path: Path) -> Table:
    """The table of images, opened anew."""
    return lancedb.connect(path).open_table("images")
