"""`birder models`: the registered models."""

from __future__ import annotations

from typing import Annotated

import typer

from birder.cli import options
from birder.cli.output import write_rows


def models(
    pattern: Annotated[
        str | None, typer.Argument(metavar="PATTERN", help="Part of a name, or a shell pattern.", show_default=False)
    ] = None,
    to: options.ToRows = None,
    format: options.FormatOption = None,
    force: options.Force = False,
) -> None:
    """List the registered models, and whether their weights are on this machine.

    For example:

    birder models bioclip
    """
    form = options.format_of(format, to)
    options.check_to(to, force)

    from birder import registry
    from birder.errors import unknown_name
    from birder.weights.hub import cached_file

    glob = pattern if pattern is None or set(pattern) & set("*?[") else f"*{pattern}*"
    names = registry.list_pretrained_models(glob)
    if pattern is not None and not names:
        raise unknown_name("pretrained weights", pattern, registry.list_pretrained_models())
    rows = []
    for name in names:
        spec = registry.weights_spec(name)
        rows.append(
            {
                "name": name,
                "network": spec.network,
                "million parameters": None if spec.parameters is None else round(spec.parameters / 1e6, 1),
                "licence": spec.license,
                "here": "yes" if cached_file(spec) else "no",
                "description": spec.description,
            }
        )
    write_rows(rows, form, to)
