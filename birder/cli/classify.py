"""`birder classify`: the classes that a classifier sees in images."""

from __future__ import annotations

from typing import Annotated

import typer

from birder.cli import options
from birder.cli.errors import FAILED
from birder.cli.output import note, one_line, write_rows
from birder.registry import DEFAULT_WEIGHTS


def classify(
    images: Annotated[list[options.Path], typer.Argument(metavar="IMAGE", help="Image files.")],
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
    """
    form = options.format_of(format, to)
    options.check_to(to, force)

    from birder.errors import ImageError, WeightsError
    from birder.inference.classification import infer_image
    from birder.inference.engine_torch import find_device
    from birder.weights.load import load_any

    chosen = find_device(device)
    loaded = load_any(model, device=chosen)
    if not loaded.info.class_to_idx:
        raise WeightsError(
            f"{loaded.name} has no class names: its outputs are image features. Use its embeddings "
            f"(birder embed, birder similar), or classify with --model {DEFAULT_WEIGHTS}."
        )
    names = {index: name for name, index in loaded.info.class_to_idx.items()}
    transform = loaded.transform()
    note(f"Classifying with {loaded.name}.")
    rows, unreadable = [], 0
    for image in images:
        try:
            out, _ = infer_image(loaded.net, image, transform, device=chosen)
        except ImageError as error:
            note(f"birder: {one_line(str(image))}: {one_line(str(error))}")
            unreadable += 1
            continue
        for rank, index in enumerate(out[0].argsort()[::-1][:k].tolist(), start=1):
            rows.append(
                {
                    "image": str(image),
                    "rank": rank,
                    "class": names.get(index, index),
                    "probability": float(out[0, index]),
                }
            )
    write_rows(rows, form, to)
    if unreadable:
        note(f"{unreadable} of {len(images)} could not be read.")
        raise typer.Exit(FAILED)
