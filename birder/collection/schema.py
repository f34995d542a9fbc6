"""What a collection's tables contain: the model's card, rows, failures, and the columns with their types."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from birder.errors import CollectionError, WrongModelError
from birder.sources import RESERVED, Stamp
from birder.taxonomy import RANKS

TIME = pa.timestamp("us", tz="UTC")
IMPORTED = "import"
"""The engine of a collection of embeddings that others made (`birder import`): there is a name, and no network."""

TIME_OF_IMAGE = "taken_at"
"""The column of the time at which an image was taken, local and without a zone, as EXIF has it."""

DEPLOYMENT = ("deployment", "deploymentID", "deployment_id")
"""Names of the column of an image's deployment: ours, and those in tables and in collections made before."""

USERS = {
    TIME_OF_IMAGE: pa.timestamp("us"),
    "latitude": pa.float64(),
    "longitude": pa.float64(),
    "suspect": pa.string(),
    "deployment": pa.string(),
    "sequence": pa.string(),
    "label": pa.string(),
} | dict.fromkeys(RANKS, pa.string())
"""Birder's columns that a user's table may fill."""

TECHNICAL_COLUMNS = ("uri", "id", "sha256", "etag", "bytes", "modified", "width", "height")
"""Columns about files, not about what their images show; in the order in which they are listed."""

LABEL_SOURCE = "label_source"
"""Where a row's label came from when it was embedded, "folder" or "table"; null in collections made before."""

VECTORS = ("embedding", "patches")
"""Columns of high dimension: read only where they are asked for."""

NEEDED = ("id", "uri", "sha256", "embedding")
"""Columns in which every row has a value."""

FAILURES = pa.schema(
    [
        pa.field("uri", pa.string(), nullable=False),
        pa.field("reason", pa.string(), nullable=False),
        pa.field("bytes", pa.int64()),
        pa.field("modified", TIME),
        pa.field("etag", pa.string()),
        pa.field("failed_at", TIME),
    ]
)


@dataclass(frozen=True)
class ModelCard:
    """What made the embeddings of a collection.

    `source` is what loads it again (a registered name or a checkpoint's path); `transform` holds size, mean, std,
    center_crop, simple_crop and draft. Two cards are the same model if sha256, transform, precision and embedding_size
    agree. `patches` is the shape (rows, columns, D) of the patch tokens that rows have beside the embedding, if so.
    `backbone_sha256` is that of the network's tensors without its classifier (`birder.weights.backbone`); None in
    collections made before Birder kept it, and where it cannot be known.
    """

    name: str
    source: str
    sha256: str
    transform: dict[str, Any]
    engine: str
    precision: str
    embedding_size: int
    patches: list[int] | None = None
    backbone_sha256: str | None = field(default=None, compare=False)


def other_model(path: Path, mine: ModelCard, name: str, sha256: str) -> WrongModelError:
    """The message about weights that are not those of a collection, `mine`."""
    return WrongModelError(
        f"{path} belongs to the model {mine.name} (sha256 {mine.sha256[:12]}), not {name} "
        f"({sha256[:12]}); embeddings of two models cannot be compared. "
        "Leave out --model to continue with it, or name another collection with --in."
    )


def check_model(path: Path, mine: ModelCard, model: ModelCard) -> None:
    """Refuse (`WrongModelError`) a model whose embeddings do not go with a collection's, those of `mine`."""
    if model.sha256 != mine.sha256 or model.embedding_size != mine.embedding_size:
        raise other_model(path, mine, model.name, model.sha256)
    for key, value in mine.transform.items():
        if model.transform.get(key) != value:
            how = "with" if key == "draft" and not value else "without"
            raise WrongModelError(
                f"{path} was made with {key} {value}, not {model.transform.get(key)}. "
                + (f"Run it {how} --exact, " if key == "draft" else "Use the same transform, ")
                + "or name another collection with --in."
            )
    if (model.patches or None) != (mine.patches or None):
        raise WrongModelError(
            f"{path} was made {'with' if mine.patches else 'without'} patch tokens. "
            f"{'Add' if mine.patches else 'Leave out'} --features patches, or name another collection with --in."
        )
    # fp32 and bf16 go together (a cosine of at least 0.999); what quantising does depends on the images.
    if model.precision != mine.precision and "int8" in (model.precision, mine.precision):
        raise WrongModelError(
            f"{path} holds {mine.precision} embeddings, not {model.precision}. "
            f"Use --precision {mine.precision}, or name another collection with --in."
        )


class Content(NamedTuple):
    """What a file's bytes determine: its embedding (D,) float32, size in pixels, EXIF time and place, patch tokens.

    `suspect` says what makes it look damaged, though it decodes. The patch tokens are (rows * columns * D,) float16,
    row by row; None in a collection without them.
    """

    embedding: npt.NDArray[np.float32]
    width: int
    height: int
    taken_at: datetime | None
    latitude: float | None
    longitude: float | None
    suspect: str | None = None
    patches: npt.NDArray[np.float16] | None = None


@dataclass(slots=True)
class Row:
    """A row to write. If `content` is None, it is that of another row with the same sha256.

    `known` says that the collection has a row of this uri, which is then replaced; `failed`, that it has a failure.
    """

    uri: str
    sha256: str
    stamp: Stamp
    content: Content | None
    columns: dict[str, Any] = field(default_factory=dict)
    known: bool = False
    failed: bool = False


@dataclass(slots=True)
class Failure:
    """A file that could not be read, and why; `known` says that its row describes a former content of the file."""

    uri: str
    reason: str
    stamp: Stamp | None
    known: bool = False


class Former(NamedTuple):
    """Uris of rows and of failures that no longer hold: of boxes that are not found on the image any more.

    Rows with a person's label stay all the same.
    """

    rows: Sequence[str] = ()
    failures: Sequence[str] = ()


NOTHING_FORMER = Former()


def image_fields(card: ModelCard) -> list[pa.Field]:
    """The columns of a new collection's images."""
    patches = (
        [pa.field("patches", pa.list_(pa.float16(), math.prod(card.patches)), nullable=False)] if card.patches else []
    )
    return [
        pa.field("id", pa.string(), nullable=False),
        pa.field("uri", pa.string(), nullable=False),
        pa.field("sha256", pa.string(), nullable=False),
        pa.field("embedding", pa.list_(pa.float32(), card.embedding_size), nullable=False),
        *patches,
        pa.field("width", pa.int32()),
        pa.field("height", pa.int32()),
        pa.field("bytes", pa.int64()),
        pa.field("modified", TIME),
        pa.field("etag", pa.string()),
        *(pa.field(name, type_) for name, type_ in USERS.items()),
        pa.field(LABEL_SOURCE, pa.string()),
    ]


def check_table(path: Path, schema: pa.Schema, card: ModelCard) -> None:
    """Refuse (`CollectionError`) a table of images, made by other software, without the columns that Birder reads."""
    for own in image_fields(card):
        if own.name in (*USERS, LABEL_SOURCE):
            continue  # older collections do not have them
        given = schema.field(own.name).type if own.name in schema.names else None
        if given is None or not _same(given, own.type):
            raise CollectionError(
                f"{path} cannot be used as a collection: its column {own.name} is {given or 'missing'}, not "
                f"{own.type}. Export it with the program that made it, and read the export with: birder import."
            )


def _same(given: pa.DataType, own: pa.DataType) -> bool:
    if pa.types.is_fixed_size_list(own) and pa.types.is_fixed_size_list(given):
        return bool(given.list_size == own.list_size and given.value_type == own.value_type)
    return bool(given == own)


def column_types(columns: dict[str, Sequence[Any]]) -> dict[str, pa.DataType]:
    """Arrow types of a user's columns; of a column without values, ours if there is one of that name, else string."""
    types = {}
    for name, values in columns.items():
        refuse_reserved(name)
        type_ = pa.array(values).type
        types[name] = USERS.get(name, pa.string()) if pa.types.is_null(type_) else type_
        if name in USERS and not fits(types[name], USERS[name]):
            raise CollectionError(
                f"The column {name} must be {USERS[name]}, but is {type_} in the table: rename or correct it."
            )
    return types


def refuse_reserved(name: str) -> None:
    """Refuse (`CollectionError`) a column of the user's with a name of Birder's own."""
    if name in RESERVED or name.startswith("_"):
        raise CollectionError(f"The table may not have a column {name}: it is Birder's own. Give it another name.")


def fits(given: pa.DataType, own: pa.DataType) -> bool:
    """Whether values of a type can go into a column of another."""
    return bool(given == own or (pa.types.is_integer(given) and pa.types.is_floating(own)))


def whole_number(value: object) -> int | None:
    """A number of animals, as a person or a table gave it, in text too; None if the value is not one."""
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return None
    return int(number) if number.is_integer() and number >= 0 else None
