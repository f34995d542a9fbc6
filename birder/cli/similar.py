"""`birder similar`: the images of a collection that are nearest to one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from birder.cli import options
from birder.cli.search import tell_search, write_results


def similar(
    image: Annotated[Path, typer.Argument(metavar="IMAGE", help="The image file to compare with.")],
    collection: options.In,
    where: options.Where = None,
    k: options.K = 10,
    to: options.ToRows = None,
    format: options.FormatOption = None,
    force: options.Force = False,
    model: Annotated[str | None, options.model_option("the collection's")] = None,
    device: options.Device = None,
) -> None:
    """Find the images most similar to one by the cosine of their embeddings, which is 1 for the same image.

    The image itself is left out if it is in the collection; a copy under another name is not.

    For example:

    birder similar owl.jpg --in photos.birder -k 5

    birder similar owl.jpg --in photos.birder --where "deployment = 'A4'"
    """
    form = options.format_of(format, to)
    options.check_to(to, force)

    import birder

    found = birder.open_collection(collection, device=device).search(images=image, where=where, k=k, model=model)
    tell_search(found, collection)
    write_results(found, form, to)
