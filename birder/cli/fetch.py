"""`birder fetch`: download the weights of a model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from birder.cli import options
from birder.cli.output import say


def fetch(
    name: Annotated[str, typer.Argument(metavar="MODEL", help="A registered name; birder models lists them.")],
    to: Annotated[Path | None, options.to_option("a copy of the weights, to take to another machine")] = None,
) -> None:
    """Download the weights of a registered model, check their sha256, and print where they are.

    A file that --to finds is used if it has the registered sha256.

    For example:

    birder fetch vit_b16_pn_bioclip-v1
    """
    from birder.registry import weights_spec
    from birder.weights import hub

    say(str(hub.fetch(weights_spec(name), dst=to)))
