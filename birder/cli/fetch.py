"""`birder fetch`: bring weights onto this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from birder.cli.output import say


def fetch(
    name: Annotated[str, typer.Argument(help="Registered weights; `birder models` lists them.")],
    to: Annotated[
        Path | None, typer.Option("--to", metavar="FILE", help="Copy the file there too, to carry it elsewhere.")
    ] = None,
) -> None:
    """Fetch the file of pretrained weights, check its sha256, and print where it is.

    Example: birder fetch vit_b16_pn_bioclip-v1
    """
    from birder.registry import weights_spec
    from birder.weights import hub

    say(str(hub.fetch(weights_spec(name), dst=to)))
