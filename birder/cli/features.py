"""`birder features`: image features of photographs in the space that images and texts share, as a file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from birder.cli.output import note

if TYPE_CHECKING:
    from birder.errors import ImageError


def features(
    images: Annotated[list[str] | None, typer.Argument(metavar="IMAGE...", help="Files, folders, patterns.")] = None,
    to: Annotated[
        Path | None,
        typer.Option("--to", metavar="FILE", help=".parquet, .json (as bioclip embed has it), .csv or .npy."),
    ] = None,
    collection: Annotated[
        Path | None, typer.Option("--in", metavar="DIR", help="Of what this collection holds; nothing is embedded.")
    ] = None,
    model: Annotated[
        str | None,
        typer.Option("--model", help="A model with a text encoder, as for birder predict (default: BioCLIP 2)."),
    ] = None,
    batch_size: Annotated[int, typer.Option("--batch-size", min=1, help="Images that are embedded at once.")] = 16,
    device: Annotated[
        str | None, typer.Option("--device", help="cpu, cuda, mps, ... (default: best available).")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite what is there.")] = False,
) -> None:
    """Write image features, projected into the space of the texts and not normalised.

    All of them are in memory at once; for more photographs than that: birder embed, then birder export.

    Examples: birder features photos/ --to features.npy --model imageomics/bioclip-2

    birder features --in photos.birder --to features.parquet
    """
    if bool(images) == (collection is not None):
        raise typer.BadParameter("name photographs, or a collection with --in (one of the two).")
    if to is None:
        raise typer.BadParameter("name what to write: --to FILE")

    import numpy as np

    from birder.cli.predict import load_clip_for, shown
    from birder.collection.storage import Storage
    from birder.errors import CollectionError
    from birder.formats.features import write_features
    from birder.naming.inputs import image_features, stored_features
    from birder.sources import readable

    opened = Storage.open(collection) if collection is not None else None
    unreadable: list[str] = []

    def on_unreadable(path: str, error: ImageError) -> None:
        note(f"birder: {readable(path)}: {error}")
        unreadable.append(path)

    clip = load_clip_for(model, opened, device)
    if opened is not None:
        batches = stored_features(opened, clip)
    else:
        batches = image_features(images or [], clip, on_unreadable, batch_size)
    paths: list[str] = []
    vectors = []
    for keys, block in batches:
        paths += map(shown, keys)
        vectors.append(block)
    if not vectors:
        raise CollectionError("There is nothing to write: no photograph could be read.")
    note(write_features(to, paths, np.concatenate(vectors), clip.name, force=force))
    if unreadable:
        note(f"{len(unreadable):,} of {len(paths) + len(unreadable):,} could not be read.")
        raise typer.Exit(1)
