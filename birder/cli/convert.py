"""`birder convert`: between OpenCLIP's layout and the Birder format."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from birder.cli import options
from birder.cli.output import note, say


def convert(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE",
            help="A hub repository or folder in OpenCLIP's layout, or a bare checkpoint (with --network). "
            "With --reverse: a checkpoint in the Birder format, or a registered name.",
        ),
    ],
    to: Annotated[Path, options.to_option(".safetensors or .pt; with --reverse, a folder")],
    network: Annotated[
        str | None, typer.Option("--network", metavar="NAME", help="The network, if SOURCE does not name it.")
    ] = None,
    verify: Annotated[
        Path | None,
        typer.Option("--verify", metavar="IMAGE", help="Embed this image with both and print the difference."),
    ] = None,
    reverse: Annotated[bool, typer.Option("--reverse", help="Write OpenCLIP's layout.")] = False,
    text_from: Annotated[
        str | None,
        typer.Option(
            "--text-from",
            metavar="SOURCE",
            help="With --reverse: the model whose text encoder joins the image encoder.",
        ),
    ] = None,
    force: options.Force = False,
) -> None:
    """Convert the image encoder of an OpenCLIP model into the Birder format, or back, bit by bit the same.

    For example:

    birder convert imageomics/bioclip --to vit_b16_pn_new.safetensors --verify owl.jpg

    birder convert vit_b16_pn_mine.safetensors --to clip/ --reverse --text-from imageomics/bioclip
    """
    if reverse and text_from is None:
        options.wrong_use(
            "A Birder checkpoint has only an image encoder, an OpenCLIP model also a text encoder: say where "
            "that comes from, as in --text-from imageomics/bioclip."
        )
    if text_from is not None and not reverse:
        options.wrong_use("--text-from goes with --reverse.")
    options.check_to(to, force)

    from birder.weights.convert import birder_to_openclip, compare_features, openclip_to_birder

    if text_from is None:
        done = openclip_to_birder(source, to, network)
    else:
        done = birder_to_openclip(source, to, text_from, network)
    say(f"{to}: {done.what}")
    for each in done.notes:
        note(each)
    if verify is not None:
        difference = compare_features(done, verify)
        say(
            f"{verify}: largest difference {difference.largest:.2e}, of features up to {difference.scale:.3g}, between "
            f"{done.checkpoint} in Birder and {done.weights} computed by OpenCLIP's arithmetic"
        )
