"""`birder reproduce`: published tables, filled with what models have on the benchmarks of this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from birder.cli import options
from birder.cli.errors import FAILED
from birder.cli.output import note, one_line, say
from birder.cli.progress import stage_progress


def reproduce(
    paper: Annotated[
        Literal["bioclip"], typer.Argument(metavar="PAPER", help="Whose tables: bioclip, with those of BioCLIP 2.")
    ],
    data: Annotated[
        Path,
        typer.Option(
            "--data",
            metavar="FOLDER",
            help="A folder with a folder for each benchmark, by its name: rare-species, meta-album/PLK_Mini, ...",
        ),
    ],
    to: Annotated[
        Path,
        typer.Option(
            "--to", metavar="FOLDER", help="Write tables.html, tables.md, results.json and cells/ into this folder."
        ),
    ],
    model: Annotated[
        list[str] | None,
        typer.Option(
            "--model",
            metavar="MODEL",
            help="Model: a registered name, a hub repository, a folder or a checkpoint file; repeatable (default: the "
            "registered models that the tables have figures of).",
        ),
    ] = None,
    device: options.Device = None,
    date: Annotated[
        str | None,
        typer.Option("--date", metavar="YYYY-MM-DD", help="The date that results.json says (default: none)."),
    ] = None,
) -> None:
    """Fill the published tables of BioCLIP and BioCLIP 2 with what models have on the benchmarks of this machine.

    Each benchmark whose folder is in --data is judged as published, and each published value stands beside the figure
    that was found, its interval, and whether the value lies inside. What could not be run says why, and how to get it.
    A run that was stopped goes on where it was if the same command is run again. Exit code 1 says that something
    failed: a model that could not be fetched, a folder that is not whole, an image that could not be read.

    For example:

    birder reproduce bioclip --data benchmarks/ --model vit_b16_pn_bioclip-v1 --to reproduced/
    """
    import birder

    try:
        done = birder.reproduce(
            paper,
            data,
            to,
            models=model or (),
            device=device,
            date=date,
            progress=stage_progress(every_stage=True),
        )
    except KeyboardInterrupt:
        note("Stopped. What is finished stays: to go on, run the same command again.")
        raise
    for name, why in done.missing:
        note(one_line(f"Not run: {name}: {why}"))
    for name, why in done.failed:
        note(one_line(f"Failed: {name}: {why}"))
    say(one_line(str(done)))
    say(f"Wrote {to}.")
    if done.failed:
        raise typer.Exit(FAILED)
