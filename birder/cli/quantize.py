"""`birder quantize`: a model in int8, calibrated on the user's images."""

from __future__ import annotations

from typing import Annotated

import typer

from birder.cli import options
from birder.cli.outcomes import LeftOut
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
    from birder.inference.quantize import FEWEST, calibration_images
    from birder.inference.quantize import quantize as run
    from birder.sources import find_images
    from birder.weights.resolve import resolve

    found = resolve(model)
    left_out = LeftOut()
    pixels = calibration_images(
        found,
        [source.path for source in find_images(images, labels=False)],
        sample,
        left_out,
    )
    if len(pixels) < FEWEST:
        left_out.end()  # else too few were named, which is wrong use
    note(f"Quantising {found.name} on {len(pixels)} images; this takes minutes for a large network.")
    result = run(found, pixels)
    note(
        f"{found.name} in int8: cosine to fp32 {result.cosine:.4f} on average, {result.lowest:.4f} at the lowest, over "
        f"{result.measured_on} images that it was not calibrated on."
    )
    note(
        f"On this machine: {result.rate:.1f} images/s in int8, {result.usual_rate:.1f} in {result.usual}, "
        f"{result.gain:.1f} times as fast."
    )
    for each in result.warnings:
        note(f"Warning: {each}")
    left_out.end()
