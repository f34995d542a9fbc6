"""Making the tables of a collection, and opening them: what a folder must contain to be a collection."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from birder.collection.disk import connect, disk_says, has_table, locked, make_table
from birder.collection.flush import flushing
from birder.collection.schema import FAILURES, NEEDED, ModelCard, check_table, image_fields
from birder.errors import CollectionError, CollectionNotFoundError
from birder.files import at_home, flush_folder

if TYPE_CHECKING:
    from lancedb.table import Table

_CARD = b"birder"
_FORMAT = 1


def exists(path: str | Path) -> bool:
    """Whether a folder contains a collection; one whose creation was interrupted does not count."""
    return has_table(at_home(path), "images")


def create_tables(path: Path, model: ModelCard) -> None:
    """Make an empty collection; one that another process has made meanwhile is left alone.

    Raises
    ------
    CollectionError
        The folder contains something else, or is not writable.
    """
    if path.is_file() or (path.is_dir() and any(entry.suffix not in (".lance", ".lock") for entry in path.iterdir())):
        raise CollectionError(f"{path} exists and is not a collection: name a new or empty folder.")
    card = json.dumps({"format": _FORMAT, **asdict(model)})
    try:
        path.mkdir(parents=True, exist_ok=True)
        with locked(path):
            if exists(path):
                return
            with flushing(path):
                make_table(path, "failures", FAILURES)
            with flushing(path):  # the images come last: their first version is what makes it a collection
                make_table(path, "images", pa.schema(image_fields(model), metadata={_CARD: card.encode()}))
        flush_folder(path.parent)
    except (OSError, RuntimeError, ValueError) as error:
        raise CollectionError(
            f"Cannot create a collection in {path}: {disk_says(error)}. "
            "Name a folder that you may write to, on a disk with free space."
        ) from error


def open_tables(path: Path) -> tuple[Table, Table, ModelCard]:
    """The tables of the rows and of the failures, and the model's card.

    Raises
    ------
    CollectionNotFoundError
        The folder does not contain a collection.
    CollectionError
        It is damaged, or one that this version cannot read.
    """
    if not exists(path):
        raise CollectionNotFoundError(
            f"{path} is not a collection. Create one by embedding images into it: birder embed IMAGES --in {path}"
        )
    try:
        database = connect(path)
        images, failures = database.open_table("images"), database.open_table("failures")
        stored = json.loads((images.schema.metadata or {})[_CARD])
        version = stored.pop("format")
        if version != _FORMAT:
            raise CollectionError(f"{path} was written by a newer Birder (format {version}): update with pip.")
        model = ModelCard(**stored)
        check_table(path, images.schema, model)
        # Ours have none; of another's table it has to be counted.
        nullable = [name for name in NEEDED if images.schema.field(name).nullable]
        if nullable and images.count_rows(" OR ".join(f"{name} IS NULL" for name in nullable)):
            raise CollectionError(
                f"{path} cannot be used as a collection: rows have no value in {' or '.join(nullable)}. "
                "Export it with the program that made it, and read the export with: birder import."
            )
    except (ValueError, KeyError, TypeError, RuntimeError, OSError) as error:
        raise CollectionError(
            f"{path} is damaged or was not made by Birder ({error}). "
            "Restore it from a copy, or embed the images into another folder."
        ) from error
    return images, failures, model
