"""`birder export-model`: a network as a file that runs without Birder, or as a page that names images in a browser."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from birder.cli import options
from birder.cli.outcomes import LeftOut
from birder.cli.output import note, say

_ENDINGS = (".onnx", ".xml", ".pt2")


def export_model(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            help="A registered name, a hub repository, a folder, a checkpoint file, a detached head, or a detector.",
        ),
    ],
    dest: Annotated[
        Path | None,
        typer.Argument(
            metavar="DEST", help="The file: .onnx for onnxruntime, .xml for OpenVINO, .pt2 for PyTorch and birder."
        ),
    ] = None,
    output: Annotated[
        Literal["embedding", "logits", "both", "detection"] | None,
        typer.Option(
            "--output",
            metavar="OUTPUT",
            help="embedding, logits, both, or detection: boxes of a detector, or the maps that one stands on "
            "(default: logits of a classifier, boxes of a detector, else embedding).",
        ),
    ] = None,
    encoder: Annotated[
        Literal["image", "text"],
        typer.Option("--encoder", metavar="ENCODER", help="Of a CLIP model: image or text."),
    ] = "image",
    size: Annotated[
        int | None,
        typer.Option("--size", min=1, metavar="N", help="Input in pixels a side (default: the network's own)."),
    ] = None,
    precision: Annotated[
        Literal["fp32", "fp16", "int8"],
        typer.Option(
            "--precision", metavar="PRECISION", help="fp32; fp16, half as large; int8, a quarter, with --calibrate."
        ),
    ] = "fp32",
    with_transform: Annotated[
        bool,
        typer.Option("--with-transform", help="Take RGB images of any size; resize and normalise them in the graph."),
    ] = False,
    calibrate: Annotated[
        list[str] | None,
        typer.Option("--calibrate", metavar="IMAGE", help="For int8: images like yours, files or folders; repeatable."),
    ] = None,
    to_web: Annotated[
        Path | None,
        typer.Option(
            "--to-web", metavar="FOLDER", help="Write a page that names images in any browser, without a network."
        ),
    ] = None,
    runtime: Annotated[
        Path | None,
        typer.Option(
            "--runtime",
            metavar="FOLDER",
            help="For --to-web: the npm package onnxruntime-web, unpacked (default: fetched with npm, once).",
        ),
    ] = None,
    force: options.Force = False,
) -> None:
    """Write what a network computes as a file that runs without Birder, with its labels and its model card beside it.

    The file is run in another runtime and compared with the network before it appears.

    For example:

    birder export-model owls.safetensors exported/owls.onnx --with-transform

    birder export-model owls.safetensors for-pytorch/owls.pt2 --output both
    """
    if (dest is None) == (to_web is None):
        options.wrong_use("Say where to: DEST.onnx, DEST.xml or DEST.pt2, or --to-web FOLDER for a page.")
    if runtime is not None and to_web is None:
        options.wrong_use("--runtime goes with --to-web.")
    left_out = LeftOut()
    if to_web is not None:
        if output is not None or encoder != "image" or with_transform:
            options.wrong_use(
                "--to-web has its own output and transform: leave out --output, --encoder and --with-transform."
            )
        import birder

        page = birder.export_to_web(
            model,
            to_web,
            size=size,
            precision=precision,
            calibrate=_files(calibrate),
            runtime=runtime,
            force=force,
            on_unreadable=left_out,
        )
        say(page.agreement.in_words(precision))
        say(f"Wrote {page.path}: open it in a browser; it needs no network.")
        left_out.end()
        return
    assert dest is not None  # or --to-web is given
    if dest.suffix not in _ENDINGS:
        options.wrong_use(f"{dest} has no known extension: use {', '.join(_ENDINGS)}.")
    import birder

    done = birder.export_model(
        model,
        dest,
        output=output,
        encoder=encoder,
        size=size,
        precision=precision,
        with_transform=with_transform,
        calibrate=_files(calibrate),
        force=force,
        on_unreadable=left_out,
    )
    say(done.agreement.in_words(precision))
    for each in done.warnings:
        note(f"Warning: {each}")
    say(f"Wrote {dest}: {', '.join(done.outputs)}. Beside it: {', '.join(path.name for path in done.files[1:])}.")
    left_out.end()


def _files(calibrate: list[str] | None) -> list[str]:
    if not calibrate:
        return []
    from birder.sources import find_images

    return [source.path for source in find_images(calibrate, labels=False)]
