"""Predictions that other programs made, as their files have them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class Given(NamedTuple):
    """A prediction of an image: its path, names by rank or "label" (none: no prediction), score, and the model."""

    path: str
    names: Mapping[str, str]
    score: float
    by: str | None = None
