"""`birder models`: what weights there are."""

from __future__ import annotations

from typing import Annotated

import typer

from birder.cli.output import Format, write_rows


def models(
    filter: Annotated[str | None, typer.Argument(help="A part of the name, or a shell pattern.")] = None,
    format: Annotated[Format, typer.Option("--format", help="How to print it.")] = Format.table,
) -> None:
    """List the pretrained weights, and whether their file is on this machine.

    Example: birder models bioclip
    """
    from birder import registry
    from birder.errors import unknown_name
    from birder.weights.hub import cached_file

    pattern = filter if filter is None or set(filter) & set("*?[") else f"*{filter}*"
    names = registry.list_pretrained_models(pattern)
    if filter is not None and not names:
        raise unknown_name("pretrained weights", filter, registry.list_pretrained_models())
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
    write_rows(rows, format)
