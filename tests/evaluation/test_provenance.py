"""The versions that stand beside a result."""

from __future__ import annotations

import importlib.metadata

import numpy as np
import pytest

from birder.evaluation.provenance import versions
from birder.version import __version__


def test_versions_are_those_that_run() -> None:
    found = versions()
    assert found["birder"] == __version__ and found["numpy"] == np.__version__
    assert {"python", "scikit-learn", "torch"} <= set(found)


def test_what_is_not_installed_is_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    installed = importlib.metadata.version

    def without_mapie(name: str) -> str:
        if name == "mapie":
            raise importlib.metadata.PackageNotFoundError(name)
        return installed(name)

    monkeypatch.setattr("birder.evaluation.provenance.version", without_mapie)
    assert "mapie" not in versions()
