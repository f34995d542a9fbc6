"""`birder info`: what is known of a model."""

from __future__ import annotations

from typing import Annotated

import typer

from birder.cli import options
from birder.cli.options import Format
from birder.cli.output import write_rows


def info(
    name: Annotated[
        str, typer.Argument(metavar="MODEL", help="A registered name, a hub repository or a checkpoint file.")
    ],
    to: options.ToRows = None,
    format: options.FormatOption = None,
    force: options.Force = False,
) -> None:
    """Describe a model: parameters, input, size, sha256, licence, citation, and where its file is.

    For example:

    birder info vit_b16_pn_bioclip-v1

    birder info vit_b16_pn_mine.safetensors
    """
    form = options.format_of(format, to)
    options.check_to(to, force)

    from birder.weights.describe import describe_model

    facts = describe_model(name)
    if form in (Format.json, Format.parquet):
        write_rows([facts], form, to)
    else:
        write_rows([{"what": key, "value": value} for key, value in facts.items() if value is not None], form, to)
