"""Figures of matplotlib as files: .png, .svg, .pdf; the same figure gives the same bytes."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from birder.errors import BirderError
from birder.extras import need
from birder.files import replacing

_UNDATED = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}


@contextlib.contextmanager
def figure_in(file: str | Path, inches: tuple[float, float]) -> Iterator[Any]:
    """A figure that is written to a file, whole or not at all.

    Raises
    ------
    BirderError
        The file cannot be written, or is of a format that matplotlib does not have.
    """
    need("map", "Drawing an image")
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    file = Path(file)
    ending = file.suffix.lower().lstrip(".")
    known = FigureCanvasAgg.get_supported_filetypes()
    if ending not in known:
        raise BirderError(f"{file} is not an image file: use .png, .svg or .pdf.")
    figure = Figure(figsize=inches, layout="constrained", dpi=130)
    FigureCanvasAgg(figure)
    yield figure
    with replacing(file) as draft, matplotlib.rc_context({"svg.hashsalt": "birder"}):
        figure.savefig(draft, format=ending, metadata=_UNDATED.get(ending))


def short(name: str) -> str:
    """A name of at most 40 letters, in which matplotlib finds no formula (between two $)."""
    text = name if len(name) <= 40 else f"{name[:39]}…"
    return text.replace("$", r"\$")
