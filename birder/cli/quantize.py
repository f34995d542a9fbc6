"""`birder quantize`: a model in int8, calibrated on the user's images."""

from __future__ import annotations

from typing import Annotated

import typer

from birder.cli import options
from birder.cli.output import note
from birder.registry import DEFAULT_WEIGHTS


def quantize(
    images: Annotated[
        list[str], typer.Argument(metavar="IMAGE", help="Image files, folders (searched recursively), or patterns.")
    ],
    model: Annotated[str, options.model_option()] = DEFAULT_WEIGHTS,
    sample: Annotated[
        int, typer.Option("--sample", min=8, metavar="N", help="Number of images to calibrate on, drawn at random.")
    ] = 128,
) -> None:
    """Quantise a model to int8 for this machine's CPU, and report how close its embeddings stay and how fast it is.

    Calibrate it on images like those to embed; then use it with birder embed --precision int8.

    For example:

    birder quantize photos/ --model vit_b16_pn_bioclip-v1
    """
    import random

    import numpy as np

    from birder.errors import ImageError
    from birder.images.open import open_image
    from birder.images.transform import classification_transform
    from birder.inference.engine import open_engine
    from birder.inference.quantize import GOOD_COSINE
    from birder.inference.quantize import quantize as run
    from birder.sources import find_images
    from birder.weights.resolve import resolve

    found = resolve(model)
    opened = open_engine(found, engine="openvino", precision="fp32")
    transform = classification_transform(opened.engine.size, opened.rgb_stats)
    sources = find_images(images, labels=False)
    random.Random(0).shuffle(sources)
    pixels: list[np.ndarray[tuple[int, ...], np.dtype[np.uint8]]] = []
    for source in sources:
        if len(pixels) == sample:
            break
        try:
            pixels.append(transform.to_uint8(open_image(source.path, draft=transform.resize_to)))
        except ImageError as error:
            note(f"birder: {source.path}: {error}; left out")
    note(f"Quantising {found.name} on {len(pixels)} images; this takes minutes for a large network.")
    result = run(found, np.stack(pixels) if pixels else np.empty((0, *opened.engine.size, 3), np.uint8))
    note(
        f"{found.name} in int8: cosine to fp32 {result.cosine:.4f} on average, {result.lowest:.4f} at the lowest, over "
        f"{result.measured_on} images that it was not calibrated on."
    )
    gain = result.rate / result.usual_rate
    note(
        f"On this machine: {result.rate:.1f} images/s in int8, {result.usual_rate:.1f} in {result.usual}, "
        f"{gain:.1f} times as fast."
    )
    if gain < 1.1:
        note(f"Warning: int8 is not faster on this processor. Leave --precision out: {result.usual} is better.")
    if result.cosine < GOOD_COSINE:
        note(f"Warning: that is below {GOOD_COSINE}: neighbours will change. Prefer bf16 or fp32 for this model.")
