"""`birder classify`: the classes that weights with class names see in photographs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from birder.cli.output import Format, note, one_line, write_rows
from birder.registry import DEFAULT_WEIGHTS


def classify(
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE...", help="Photographs.")],
    model: Annotated[str, typer.Option("--model", help="Weights by name, or a checkpoint file.")] = DEFAULT_WEIGHTS,
    k: Annotated[int, typer.Option("-k", min=1, help="How many classes for each photograph.")] = 5,
    device: Annotated[str | None, typer.Option("--device", help="cpu, cuda, mps, ...; the best without it.")] = None,
    format: Annotated[Format, typer.Option("--format", help="How to print it.")] = Format.table,
) -> None:
    """Classify photographs with weights that have class names; probabilities are between 0 and 1.

    Example: birder classify examples/photos/birds/crow.jpg -k 3
    """
    from birder.errors import ImageError, WeightsError
    from birder.inference.classification import infer_image
    from birder.inference.engine_torch import find_device
    from birder.weights.resolve import resolve

    chosen = find_device(device)
    loaded = resolve(model).load_image_encoder(device=chosen)
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
    write_rows(rows, format)
    if unreadable:
        note(f"{unreadable} of {len(images)} could not be read.")
        raise typer.Exit(1)
