"""`birder features`: image features in the space that images and texts share, as a file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from birder.cli import options
from birder.cli.errors import FAILED
from birder.cli.output import note

if TYPE_CHECKING:
    from birder.errors import ImageError


def features(
    images: options.Images = None,
    to: Annotated[Path | None, options.to_option(".parquet, .json (as bioclip embed writes it), .csv or .npy")] = None,
    collection: options.MaybeIn = None,
    model: Annotated[str | None, options.model_option("the collection's, else BioCLIP 2")] = None,
    batch_size: options.BatchSize = 16,
    force: options.Force = False,
    device: options.Device = None,
) -> None:
    """Write image features: embeddings projected into the space of the texts, not normalised.

    With --in, those of the collection's images; nothing is embedded. All of them are in memory at once: for more images
    than that, use birder embed and birder export.

    For example:

    birder features photos/ --to features.npy --model imageomics/bioclip

    birder features --in photos.birder --to features.parquet
    """
    if bool(images) == (collection is not None):
        options.wrong_use("Name images, or a collection with --in: one of the two.")
    if to is None:
        options.wrong_use("Name the file to write: --to FILE")
    options.check_to(to, force)

    import numpy as np

    from birder.cli.predict import load_clip_for, shown
    from birder.collection.storage import Storage
    from birder.errors import CollectionError
    from birder.formats.features import write_features
    from birder.naming.vectors import photograph_features, stored_features
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
        batches = photograph_features(images or [], clip, on_unreadable, batch_size)
    paths: list[str] = []
    vectors = []
    for keys, block in batches:
        paths += map(shown, keys)
        vectors.append(block)
    if not vectors:
        raise CollectionError("There is nothing to write: no image could be read.")
    note(write_features(to, paths, np.concatenate(vectors), clip.name, force=force))
    if unreadable:
        note(f"{len(unreadable):,} of {len(paths) + len(unreadable):,} could not be read.")
        raise typer.Exit(FAILED)
