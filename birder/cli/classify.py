"""`birder classify`: the classes that a classifier sees in images."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from birder.cli import options
from birder.cli.errors import tell_unreadable
from birder.cli.output import note, write_rows
from birder.registry import DEFAULT_WEIGHTS


def classify(
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE", help="Image files.")],
    model: Annotated[str, options.model_option()] = DEFAULT_WEIGHTS,
    k: options.K = 5,
    to: options.ToRows = None,
    format: options.FormatOption = None,
    force: options.Force = False,
    device: options.Device = None,
) -> None:
    """Classify images with a model that has class names; probabilities are between 0 and 1.

    For example:

    birder classify owl.jpg -k 3

    birder classify owl.jpg --model owls.safetensors
    """
    form = options.format_of(format, to)
    options.check_to(to, force)

    import birder

    found = birder.classify(images, model=model, k=k, device=device)
    note(f"Classified with {found.model}.")
    rows = [
        {"path": row["path"], "rank": row["rank"], "class": row["label"], "probability": row["score"]}
        for row in found.ranked()
    ]
    write_rows(rows, form, to, columns=("path", "rank", "class", "probability"))
    tell_unreadable(found.unreadable, len(images))
