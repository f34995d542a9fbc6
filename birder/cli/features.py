"""`birder features`: image features in the space that images and texts share, as a file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from birder.cli import options
from birder.cli.errors import tell_unreadable
from birder.cli.output import note


def features(
    images: options.Images = None,
    to: Annotated[Path | None, options.to_option(".parquet, .json (as bioclip embed writes it), .csv or .npy")] = None,
    collection: options.MaybeIn = None,
    where: options.Where = None,
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

    birder features --in photos.birder --to owls.parquet --where "label = 'owl'"
    """
    if bool(images) == (collection is not None):
        options.wrong_use("Name images, or a collection with --in: one of the two.")
    options.check_where(where, collection)
    if to is None:
        options.wrong_use("Name the file to write: --to FILE")
    options.check_to(to, force)

    import birder

    if collection is not None:
        found = birder.open_collection(collection, device=device).features(where=where, to=to, model=model, force=force)
    else:
        found = birder.image_features(
            images or (), to=to, model=model, device=device, batch_size=batch_size, force=force
        )
    for each in found.notes:
        note(f"birder: {each}")
    note(found.written)
    tell_unreadable(found.unreadable, len(found.images) + len(found.unreadable))
