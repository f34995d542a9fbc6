"""Collections for tests, made of given rows, vectors or columns: no network runs, unless the test asks for one.

`collection_of` takes rows; the others say what the rows are made of, and call it. Each adds to a collection that is
already there.
"""

from __future__ import annotations

import functools
import hashlib
import io
import json
import pickle
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import lancedb
import numpy as np
import numpy.typing as npt
import pyarrow as pa
from lancedb.table import Table
from PIL import Image

from birder.collection.storage import Content, Failure, ModelCard, Row, Stamp, Storage, column_types

TRANSFORM = {"size": [8, 8], "mean": [0.5] * 3, "std": [0.5] * 3, "center_crop": 1.0, "simple_crop": False}
CARD = ModelCard("tiny", "tiny", "ab" * 32, {**TRANSFORM, "draft": True}, "torch", "fp32", 4)
KINDS = ["owl", "fox", "o'hare", "Größe"]
DIMENSION = 16
"""Of the embeddings of `collection_of_images`."""


def card(dimension: int, **changes: Any) -> ModelCard:
    """The card of a model that does not exist, whose embeddings have this dimension."""
    return replace(CARD, embedding_size=dimension, **changes)


def row(name: str, vector: Sequence[float] | None = None, sha256: str = "00", **more: Any) -> Row:
    """A row; without a vector, one whose content another row has."""
    content = None if vector is None else Content(np.array(vector, "f4"), 30, 20, datetime(2020, 5, 1), 1.0, None)
    return Row(f"file:///{name}", sha256, Stamp(10, 1_000_000), content, **more)


def row_of_file(path: Path, vector: npt.NDArray[np.floating[Any]], **columns: Any) -> Row:
    """A row for a file that exists."""
    data = path.read_bytes()
    content = Content(vector.astype(np.float32), 64, 48, None, None, None)
    return Row(path.as_uri(), hashlib.sha256(data).hexdigest(), Stamp(len(data), 1_000_000), content, columns=columns)


def write(collection: Storage, rows: Sequence[Row], failures: Sequence[Failure] = ()) -> None:
    """One commit."""
    with collection.writing():
        collection.write(rows, failures)


def collection_of(
    path: Path,
    rows: Sequence[Row] = (),
    failures: Sequence[Failure] = (),
    *,
    model: ModelCard = CARD,
    types: Mapping[str, pa.DataType] | None = None,
) -> Storage:
    """A collection of these rows and failures, with columns of these types.

    What is asked for again is copied: that is much quicker.
    """
    known = None if path.exists() else _made_of(pickle.dumps((rows, failures, model, dict(types or {}))))
    if known is not None and known.exists():
        return Storage.open(shutil.copytree(known, path, copy_function=shutil.copyfile))
    collection = Storage.create_or_open(path, model)
    with collection.writing():
        collection.add_columns(types or {})
        collection.write(rows, failures)
    if known is not None:
        shutil.copytree(path, known)
    return collection


@functools.cache
def _kept() -> TemporaryDirectory[str]:
    return TemporaryDirectory()


def _made_of(given: bytes) -> Path | None:
    """Where a collection that is made of this is kept; None if it is large."""
    return Path(_kept().name, hashlib.sha256(given).hexdigest()) if len(given) < 1 << 20 else None


def collection_of_vectors(
    path: Path,
    vectors: npt.NDArray[np.floating[Any]],
    *,
    names: Sequence[str] | None = None,
    sha256: Sequence[str] | None = None,
    sizes: Sequence[int] | None = None,
    columns: Mapping[str, Sequence[Any]] | None = None,
    known: bool = False,
) -> Storage:
    """A collection of these (N, D) vectors; `sizes` are the images' widths, `known` rows replace what they name."""
    given = np.asarray(vectors, np.float32)
    names = names or [f"p/{i:05d}.jpg" for i in range(len(given))]
    rows = [
        Row(
            f"file:///{name}",
            sha256[i] if sha256 else hashlib.sha256(f"{name} {given[i].tobytes()!r}".encode()).hexdigest(),
            Stamp(10, 1_000_000),
            Content(given[i], sizes[i] if sizes else 40, 30, None, None, None),
            {key: values[i] for key, values in (columns or {}).items() if values[i] is not None},
            known=known,
        )
        for i, name in enumerate(names)
    ]
    types = column_types({name: list(values) for name, values in (columns or {}).items()})
    return collection_of(path, rows, model=card(given.shape[1]), types=types)


def collection_of_columns(
    path: Path,
    rows: Mapping[str, Mapping[str, Any]],
    types: Mapping[str, pa.DataType] | None = None,
    failures: Sequence[Failure] = (),
) -> Storage:
    """A collection of rows given as uri -> columns; their 4-dimensional embeddings are seeded random numbers."""
    random = np.random.default_rng(7)
    written = []
    for number, (uri, columns) in enumerate(rows.items()):
        taken_at = columns.get("taken_at", datetime(2020, 5, 1))
        content = Content(random.normal(size=4).astype("f4"), 30, 20, taken_at, None, None)
        stamp = Stamp(10, 1_600_000_000_000_000 + number)
        written.append(Row(uri, f"{number:064x}", stamp, content, columns=dict(columns)))
    return collection_of(path, written, failures, types=types)


def collection_of_images(folder: Path, rows: int = 40, *, labelled: int = 20) -> Storage:
    """A collection of image files in four clusters, named like their label; the first `labelled` have it as label too.

    Its columns: label, site (S0 to S2), night, `Temp C` (nan in one row, null in one), seen (days of May 2024).
    """
    photos = folder / "photos"
    photos.mkdir(parents=True)
    centres = np.random.default_rng(7).normal(size=(len(KINDS), DIMENSION))
    written = []
    for number in range(rows):
        kind = number % len(KINDS)
        path = photos / f"{number:04d} {KINDS[kind]}.jpg"
        path.write_bytes(jpeg(number))
        vector = centres[kind] + 0.2 * np.random.default_rng(number).normal(size=DIMENSION)
        temperature = {2: float("nan"), 3: None}.get(number, float(number))
        label = KINDS[kind] if number < labelled else None
        columns = {"label": label, "site": f"S{number % 3}", "night": number % 2 == 0, "Temp C": temperature}
        seen = pa.scalar(1714521600_000_000 + number * 86_400_000_000, pa.timestamp("us")).as_py()
        written.append(row_of_file(path, vector, **columns, seen=seen))
    failures = [Failure("file:///gone/bad.jpg", "not an image (it begins with text)", None)]
    types = {"site": pa.string(), "night": pa.bool_(), "Temp C": pa.float64(), "seen": pa.timestamp("us")}
    return collection_of(folder / "c.birder", written, failures, model=card(DIMENSION), types=types)


def lay_out(collection: Storage, xy: npt.NDArray[np.floating[Any]]) -> None:
    """Store a map of a collection with these places, (N, 2), of its rows in the order in which they are stored."""
    rows = collection.stored_rows().to_table(["id", "sha256"])
    places = {name: pa.array(values, pa.float32()) for name, values in zip("xy", xy.T, strict=True)}
    table = pa.table({"id": rows["id"], **places, "sha256": rows["sha256"]})
    collection.write_side_table(
        "map", table.replace_schema_metadata({b"birder": json.dumps({"neighbours": 15}).encode()})
    )


def collection_by_model(folder: Path, paths: Iterable[Path]) -> Path:
    """A collection of images as the bundled model embeds them; their folder's name is their label."""
    from birder.collection.model import load_encoder
    from birder.registry import DEFAULT_WEIGHTS

    encoder = load_encoder(DEFAULT_WEIGHTS, "cpu", engine="torch")
    rows = [row_of_file(path, encoder.embed_one(path), label=path.parent.name) for path in paths]
    return collection_of(folder / "c.birder", rows, model=encoder.card).path


def collection_in_bulk(path: Path, vectors: npt.NDArray[np.float32]) -> Storage:
    """A collection of tens of thousands of (N, D) vectors; see `append`."""
    collection = Storage.create_or_open(path, card(vectors.shape[1]))
    append(collection, vectors)
    return collection


def append(collection: Storage, vectors: npt.NDArray[np.float32], first: int = 0) -> None:
    """Add rows in bulk; `width` is the number of the row."""
    numbers = range(first, first + len(vectors))
    values: dict[str, pa.Array] = {
        "id": pa.array([f"id {n}" for n in numbers]),
        "uri": pa.array([f"file:///{n}" for n in numbers]),
        "sha256": pa.array([f"{n:064x}" for n in numbers]),
        "embedding": pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), vectors.shape[1]),
        "width": pa.array(numbers, pa.int32()),
        "label": pa.array([None if n % 7 == 0 else f"label {n % 40}" for n in numbers]),
        "latitude": pa.array([float(n % 180 - 90) for n in numbers]),
    }
    columns = collection.columns
    arrays = [values[n].cast(t) if n in values else pa.nulls(len(vectors), t) for n, t in columns.items()]
    with collection.writing():
        collection.append(pa.Table.from_arrays(arrays, schema=collection.schema))


def images_of(path: Path) -> Table:
    """The LanceDB table of images, opened anew: to look behind `Storage`, or change rows as other programs would."""
    return lancedb.connect(path).open_table("images")


def clusters(count: int, each: int, size: int = 16, spread: float = 0.15) -> tuple[npt.NDArray[np.float32], list[str]]:
    """Vectors of dimension `size` around `count` directions, and a label for each."""
    random = np.random.default_rng(0)
    middles = np.linalg.qr(random.normal(size=(size, size)))[0][:count]
    vectors = np.repeat(middles, each, axis=0) + spread * random.normal(size=(count * each, size)) / np.sqrt(size)
    return vectors.astype(np.float32), [f"group {i}" for i in range(count) for _ in range(each)]


def clustered(rows: int, seed: int = 0, size: int = DIMENSION) -> npt.NDArray[np.float32]:
    """Vectors of dimension `size` around 200 directions, as uneven as embeddings are."""
    random = np.random.default_rng(seed)
    spread = 1 / np.arange(1, size + 1) ** 0.5
    centres = np.random.default_rng(99).normal(size=(200, size))
    return ((centres[random.integers(0, 200, rows)] + 0.6 * random.normal(size=(rows, size))) * spread).astype("f4")


def jpeg(seed: int = 0, size: tuple[int, int] = (64, 48)) -> bytes:
    """A small image file."""
    colours = np.random.default_rng(seed).integers(0, 255, (4, 6, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(colours).resize(size).save(buffer, "JPEG")
    return buffer.getvalue()
