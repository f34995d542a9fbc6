"""A folder or table of labelled images as the collection that a network is trained on."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from birder.collection.functions import embed
from birder.collection.training import check_destination, state_folder
from birder.errors import ConfigError


def collection_of_data(
    data: Path, to: Path, *, init: Path | None, device: str | None, resume: bool, force: bool
) -> Path:
    """Embed the images of a folder or table into a collection beside the state of their training.

    Parameters
    ----------
    data
        A folder, whose images' folders are their labels; or a table that names images (.csv, .parquet).
    to
        The checkpoint to be written.
    init
        The network; default: the one that `birder embed` takes.

    Returns
    -------
    The collection's folder, which goes when the training has ended.
    """
    if "RANK" in os.environ:
        raise ConfigError(
            "Several processes train on a collection, not on --data: embed the images first with birder embed."
        )
    check_destination(to, resume=resume, force=force)
    folder = state_folder(to)
    if force:
        shutil.rmtree(folder, ignore_errors=True)
    embed([data], folder / "images.birder", None if init is None else str(init), device=device, progress=None)
    return folder / "images.birder"
