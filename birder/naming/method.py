"""How labelled examples name images: the choices, which cost nothing to import."""

from __future__ import annotations

from enum import StrEnum


class Method(StrEnum):
    """How examples name images."""

    simpleshot = "simpleshot"
    knn = "knn"

    @property
    def display_name(self) -> str:
        """The method as it is shown."""
        return {"simpleshot": "SimpleShot", "knn": "nearest neighbours"}[self.value]


DEFAULT_METHOD = Method.simpleshot
"""Better with few examples per class, and for images from other series; docs/names.md has the figures."""
