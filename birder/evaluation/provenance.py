"""The versions of what computed a result, to be written beside it."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version

from birder.version import __version__

_PACKAGES = ("lancedb", "mapie", "numpy", "openvino", "pillow", "pyarrow", "scikit-learn", "scipy", "torch")


def versions() -> dict[str, str]:
    """The versions of Birder, Python and the packages that results depend on; those not installed are absent."""
    found = {"birder": __version__, "python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
