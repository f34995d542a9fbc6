"""What formats of predictions by other tools have in common."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class ForeignPrediction(NamedTuple):
    """The prediction of another tool for an image.

    Attributes
    ----------
    path
        Of the image, as the tool's file has it.
    names
        By rank, or "label" alone for what is not a taxon; empty if there is no prediction.
    score
        The probability of the name.
    tool
        The name of the tool.
    model
        The name of the model, if the file tells it.
    """

    path: str
    names: Mapping[str, str]
    score: float
    tool: str
    model: str | None = None
