"""Searching a collection: by images, texts, rows and vectors, wanted or unwanted, among the rows that match a filter.

What is compared. Images and rows are compared in the space of the stored embeddings. As soon as a text is among the
queries, all are compared in the space that the model's two encoders share, into which stored embeddings are projected.
A model without a text encoder may have class names; then texts are words for classes, and rows are compared by the
probabilities of these.
A row's similarity is the mean of its cosines with what is wanted less the mean of its cosines with what is not; with
one query it is the cosine. For unit vectors that is the inner product with (mean of the wanted - mean of the unwanted).

D is the embedding dimension, E that of the shared space, N a number of rows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from lancedb.query import ColumnOrdering

from birder.collection.filter import Filter, as_filter, filter_errors, quoted
from birder.collection.filter_path import encodings, uris_of
from birder.collection.filter_source import sql_of
from birder.collection.index import AUTOMATIC, nearest_rows
from birder.collection.model import load_encoder_of, made_elsewhere
from birder.collection.schema import IMPORTED, VECTORS
from birder.collection.storage import Storage
from birder.collection.wrong_boxes import without_wrong_boxes
from birder.errors import BirderError, CollectionError, ConfigError, ImageError, RowNotFoundError, unknown_name
from birder.sources import path_to_uri
from birder.vectors import length, unit

if TYPE_CHECKING:
    import torch

    from birder.weights.clip import LoadedClip

Vector = npt.NDArray[np.float32]
Unlike = str | Path | Vector

_TEXT_CANDIDATES = 8_000
"""Rows that are found for a text, whatever k; see docs/search.md for how often the right ones are among them."""
_ROWS_AT_ONCE = 16_384


class ImageEncoder(Protocol):
    """What embeds an image as the collection has it, such as `birder.collection.model.Encoder`."""

    def embed_one(self, path: str | Path) -> Vector:
        """The embedding (D,) float32."""


class TextEncoder(Protocol):
    """An image encoder and a text encoder, such as `birder.weights.clip.LoadedClip`."""

    @property
    def embedding_size(self) -> int:
        """E."""

    def encode_text(self, texts: Sequence[str], normalize: bool = False) -> torch.Tensor:
        """Features (N, E) of texts."""

    def project(self, embedding: torch.Tensor, normalize: bool = False) -> torch.Tensor:
        """Features (N, E) of embeddings (N, D)."""


class WordScorer(Protocol):
    """What scores embeddings by words without a text encoder, such as `birder.naming.class_words.ClassWords`."""

    def scorer(self, texts: Sequence[tuple[str, bool]]) -> tuple[Callable[[Vector], Vector], str]:
        """What gives float32 (N,) of embeddings (N, D), for texts, each with whether it is wanted; and what that is."""


@dataclass(frozen=True)
class Found:
    """What a search found.

    Attributes
    ----------
    table
        The rows: `similarity` (float64; not without a query), then the columns asked for.
    notes
        Warnings about the search.
    matching
        Without a query, how many rows match the filter; else None.
    exact
        Whether all rows were compared, rather than those that the graph of the embeddings led to.
    """

    table: pa.Table
    notes: tuple[str, ...] = ()
    matching: int | None = None
    exact: bool = True

    def __len__(self) -> int:
        return int(self.table.num_rows)

    def to_arrow(self) -> pa.Table:
        """The rows, nearest first."""
        return self.table

    def to_pandas(self) -> Any:
        """The rows as a pandas DataFrame.

        Raises
        ------
        BirderError
            pandas is not installed.
        """
        try:
            return self.table.to_pandas()
        except ImportError as error:
            raise BirderError(
                "pandas is not installed: pip install pandas, or use .to_arrow() or .to_list()."
            ) from error

    def to_list(self) -> list[dict[str, Any]]:
        """The rows as dictionaries."""
        rows: list[dict[str, Any]] = self.table.to_pylist()
        return rows


def search(
    collection: Storage,
    *,
    images: Sequence[str | Path] = (),
    texts: Sequence[str] = (),
    ids: Sequence[str] = (),
    unlike: Sequence[Unlike] = (),
    vectors: Sequence[Vector] = (),
    known: Mapping[str, Mapping[str, Any]] = MappingProxyType({}),
    where: str | Filter | None = None,
    k: int = 20,
    columns: Sequence[str] = (),
    exact: bool = False,
    encoder: ImageEncoder | None = None,
    clip: TextEncoder | None = None,
    words: WordScorer | None = None,
) -> Found:
    """Find the rows most similar to what is wanted, and dissimilar to what is not.

    Parameters
    ----------
    collection
        Where to search.
    images
        Image files.
    texts
        Descriptions of what they should show; the model needs a text encoder.
    ids
        Rows of the collection: their id, uri or file name.
    unlike
        What they should not resemble: a row's id, uri or file name, else a text; a `Path` is a file; an array a vector.
    vectors
        Embeddings, (D,) float32 each, as the network computes them.
    known
        By id, the `uri` and `embedding` of rows among `ids` and `unlike` that need not be looked up.
    where
        A filter, applied first: "family = 'Corvidae' AND taken_at >= '2024-05-01'". Without a query, the matching rows
        are ordered by uri.
    k
        How many rows.
    columns
        Which columns; default: all but embedding and patches.
    exact
        Compare all rows even if there is an index.
    encoder, clip
        The loaded models that encode images and texts; default: the collection's model, loaded when it is needed.
    words
        What scores rows by texts, in place of a text encoder.

    Returns
    -------
    `Found`, nearest first. Rows of `images` and `ids`, and of those in `unlike`, are left out.

    Raises
    ------
    CollectionError
        An id or vector does not fit, what is wanted and unwanted cancel out, or there is no query at all.
    FilterError
        The filter cannot be used.
    ImageError
        An image cannot be read.
    WeightsError
        There are texts and the model has no text encoder.
    """
    if k < 1:
        raise ConfigError(f"k is {k}: ask for at least one row.")
    own = collection.columns
    chosen = as_filter(where, own)
    for name in columns:
        if name not in own:
            raise unknown_name("column", name, own)
    selected = list(dict.fromkeys(columns)) or [name for name in own if name not in VECTORS]
    query = _Query(collection, known, encoder, clip)
    for image in images:
        query.add_image(image, wanted=True)
    for key in ids:
        query.add_row(key, wanted=True)
    query.add_vectors(vectors, wanted=True)
    query.texts += [(text, True) for text in texts]
    for each in unlike:
        query.add_unlike(each)
    if query.empty:
        if chosen is None:
            raise ConfigError("Nothing to search by: give an image, a text, an id, a vector or a filter.")
        return _matching(collection, without_wrong_boxes(chosen, own) or chosen, k, selected)
    chosen = without_wrong_boxes(chosen, own)
    wanted = k + len(query.left_out)
    note: str | None = None
    needed = list(dict.fromkeys([*selected, "uri"])) if query.left_out else selected
    if query.texts and words is not None:
        if query.stored:
            raise ConfigError(
                "This model has no text encoder: words search by its class names, and images by embeddings, which "
                "cannot be put together. Search by one, and filter by the other's results."
            )
        score, note = words.scorer(query.texts)
        compared = True
        table = _best_rows(collection, score, wanted, chosen, needed)
    elif query.in_shared_space:
        table, compared = _in_shared_space(collection, query, wanted, chosen, needed, exact)
    else:
        direction = query.direction(query.stored)
        found = nearest_rows(collection, direction, wanted, where=chosen, columns=needed, exact=exact)
        table, compared = _with_similarity(found.rows, length(direction) * found.similarities), found.exact
    if query.left_out:
        keep = [uri not in query.left_out for uri in table["uri"].to_pylist()]
        table = table.filter(pa.array(keep, pa.bool_())).slice(0, k).select(["similarity", *selected])
    notes = tuple(each for each in (query.note, note) if each is not None)
    return Found(table, notes, exact=compared)


class _Query:
    """What is wanted and what is not: stored embeddings (D,), features (E,), and texts that become features."""

    def __init__(
        self,
        collection: Storage,
        known: Mapping[str, Mapping[str, Any]],
        encoder: ImageEncoder | None,
        clip: TextEncoder | None,
    ) -> None:
        self.collection = collection
        self.known = known
        self.encoder = encoder
        self.clip = clip
        self.imported = collection.model.engine == IMPORTED
        self.stored: list[tuple[Vector, bool]] = []
        self.texts: list[tuple[str, bool]] = []
        self.left_out: set[str] = set()
        self.note: str | None = None

    @property
    def empty(self) -> bool:
        return not self.stored and not self.texts

    @property
    def in_shared_space(self) -> bool:
        return bool(self.texts)

    def add_vectors(self, vectors: Sequence[Vector], wanted: bool) -> None:
        size = self.collection.model.embedding_size
        for vector in vectors:
            vector = np.asarray(vector, dtype=np.float32)
            if vector.shape != (size,) or not np.isfinite(vector).all() or not vector.any():
                raise CollectionError(
                    f"{self.collection.path} holds {size}-dimensional embeddings. A vector of shape {vector.shape}, or "
                    f"one that is zero or not finite, cannot be compared with them. Embed the query with the model of "
                    f"the collection, {self.collection.model.name}."
                )
            self.stored.append((vector, wanted))

    def add_image(self, image: str | Path, wanted: bool) -> None:
        try:
            vector = self._embed(image)
        except ImageError as error:
            raise ImageError(f"{image}: {error}. Choose another image.") from error
        self.stored.append((vector, wanted))
        self.left_out.add(path_to_uri(image))

    def add_row(self, key: str, wanted: bool) -> None:
        self._add_found(self.known.get(key) or get_row(self.collection, key), wanted)

    def _add_found(self, row: Mapping[str, Any], wanted: bool) -> None:
        self.add_vectors([np.asarray(row["embedding"], dtype=np.float32)], wanted)
        self.left_out.add(row["uri"])

    def add_unlike(self, what: Unlike) -> None:
        if isinstance(what, Path):
            self.add_image(what, wanted=False)
        elif not isinstance(what, str):
            self.add_vectors([what], wanted=False)
        elif (row := self.known.get(what) or find_row(self.collection, what)) is not None:
            self._add_found(row, wanted=False)
        else:
            self.texts.append((what, False))

    def text_encoder(self) -> TextEncoder:
        if self.clip is None:
            from birder.collection.text_encoder import load_text_encoder  # it brings torch, for texts alone

            self.clip = load_text_encoder(self.collection)
        if self.imported:
            self.note = made_elsewhere(self.collection)
        return self.clip

    def project(self, embeddings: Vector) -> Vector:
        """Unit vectors (N, E) in the shared space of stored embeddings (N, D)."""
        return unit(_shared(self, embeddings))

    def features(self) -> list[tuple[Vector, bool]]:
        """Everything that is wanted or not, in the shared space."""
        result = [(self.project(vector[None])[0], wanted) for vector, wanted in self.stored]
        texts = self.text_encoder().encode_text([text for text, _ in self.texts]).float().cpu().numpy()
        return result + [(vector, wanted) for vector, (_, wanted) in zip(texts, self.texts, strict=True)]

    def direction(self, parts: Sequence[tuple[Vector, bool]]) -> Vector:
        """Mean of the unit vectors wanted less that of the unwanted: similarity is the inner product with it."""
        total = np.zeros(len(parts[0][0]), np.float64)
        for sign, side in ((1.0, True), (-1.0, False)):
            vectors = [vector for vector, wanted in parts if wanted is side]
            for vector in vectors:  # one is the rule: no matrix is made of it
                total += vector.astype(np.float64) * (sign / len(vectors) / (length(vector) or 1.0))
        if length(total) < 1e-6:
            raise CollectionError("The wanted and unwanted queries cancel each other out: leave one of them out.")
        return total.astype(np.float32)

    def _loaded_clip(self) -> LoadedClip | None:
        """The model whose text encoder is used, if its image encoder can be used as well."""
        if self.clip is None:
            return None
        from birder.weights.clip import LoadedClip  # it brings torch

        return self.clip if isinstance(self.clip, LoadedClip) else None

    def _embed(self, image: str | Path) -> Vector:
        if self.encoder is None:
            self.encoder = load_encoder_of(self.collection, clip=self._loaded_clip())
        if self.imported:
            self.note = made_elsewhere(self.collection)
        return self.encoder.embed_one(image)


def find_row(collection: Storage, key: str) -> dict[str, Any] | None:
    """The row (id, uri, embedding) whose id, uri or file name is `key`, or None.

    Raises
    ------
    CollectionError
        Several files have that name.
    """

    def rows(sql: str, limit: int) -> list[dict[str, Any]]:
        def query(table: Any) -> Any:
            return table.query().where(sql).limit(limit).select(["id", "uri", "embedding"])

        with filter_errors(None, collection.path):
            found: list[dict[str, Any]] = collection._async_rows.run(collection.version, query).to_pylist()
        return found

    path_uri = "" if "\0" in key else path_to_uri(key)
    uris = ", ".join(map(quoted, dict.fromkeys([path_uri, *uris_of(key)])))
    found = rows(f"id = {quoted(key)}", 1) or rows(f"uri IN ({uris})", 2)
    if not found and key.strip() and "\0" not in key:
        names = [f"/{key}", f"#{key}", *(mark + each for each in encodings(key) for mark in "/#")]
        found = rows(" OR ".join(f"ends_with(uri, {quoted(name)})" for name in dict.fromkeys(names)), 4)
    if len(found) > 1:
        several = ", ".join(row["uri"] for row in found[:3])
        raise CollectionError(f"Several rows are named {key!r} ({several}, ...): name one by its id or its uri.")
    return found[0] if found else None


def get_row(collection: Storage, key: str) -> dict[str, Any]:
    """The row (id, uri, embedding) whose id, uri or file name is `key`.

    Raises
    ------
    RowNotFoundError
        The row does not exist.
    CollectionError
        Several files have that name.
    """
    row = find_row(collection, key)
    if row is None:
        raise RowNotFoundError(
            f"{collection.path} has no row {key!r}: name one by its id, its uri or its file's name, as "
            "`birder search --where` prints them."
        )
    return row


def _matching(collection: Storage, where: Filter, k: int, columns: list[str]) -> Found:
    images = collection._images
    with filter_errors(where, collection.path):
        sql = sql_of(where, collection.path, images)
        matching = int(images.count_rows(sql))
        query = images.search().where(sql).order_by([ColumnOrdering(column_name="uri")])
        table = query.limit(k).select(list(dict.fromkeys([*columns, "uri"]))).to_arrow()
    return Found(table.select(columns), (), matching)


def _in_shared_space(
    collection: Storage, query: _Query, k: int, where: Filter | None, columns: list[str], exact: bool
) -> tuple[pa.Table, bool]:
    """The nearest rows in the shared space, with `similarity` first; and whether all rows were projected.

    The inner product of a text's feature q with a projected row P x is that of P^T q with x itself: by that candidates
    are found, which are then compared as the projection wants it. Small collections are projected as a whole.
    """
    images = collection._images
    direction = query.direction(query.features())
    with filter_errors(where, collection.path):
        matching = int(images.count_rows(sql_of(where, collection.path, images) if where else None))
    if not exact and matching > AUTOMATIC:
        back = _back(query, direction)
        needed = list(dict.fromkeys([*columns, "embedding"]))
        count = max(_TEXT_CANDIDATES, 20 * k)
        found = nearest_rows(collection, back, count, where=where, columns=needed, exact=True).rows
        scores = query.project(_embeddings(found)) @ direction
        order = np.argsort(-scores, kind="stable")[:k]
        return _with_similarity(found.select(columns).take(pa.array(order)), scores[order]), False
    return _best_rows(collection, lambda vectors: query.project(vectors) @ direction, k, where, columns), True


def _best_rows(
    collection: Storage, score: Callable[[Vector], Vector], k: int, where: Filter | None, columns: list[str]
) -> pa.Table:
    """The k rows with the highest scores among all that match a filter, with `similarity` first.

    `score` gives float32 (N,) for stored embeddings (N, D); all are scored, 16,384 at a time.
    """
    images = collection._images
    numbers, best = np.zeros(0, np.int64), np.zeros(0, np.float32)
    scan = images.search().select(["embedding"]).with_row_id(True)
    if where is not None:
        scan = scan.where(sql_of(where, collection.path, images))
    with filter_errors(where, collection.path):
        for batch in scan.to_batches(_ROWS_AT_ONCE):
            if not batch.num_rows:
                continue
            table = pa.Table.from_batches([batch])
            scores = np.concatenate([best, score(_embeddings(table))])
            rows = np.concatenate([numbers, table["_rowid"].to_numpy().astype(np.int64)])
            order = np.argsort(-scores, kind="stable")[:k]
            numbers, best = rows[order], scores[order]
        taken = images.take_row_ids(numbers.tolist()).select(columns).with_row_id().to_arrow()
    places = pc.index_in(pa.array(numbers), taken["_rowid"].cast(pa.int64()).combine_chunks())
    return _with_similarity(taken.take(places).select(columns), best)


def _back(query: _Query, direction: Vector) -> Vector:
    """P^T q (D,) of a direction (E,): the projection has no bias, so that of the unit vectors is its matrix."""
    identity = np.eye(query.collection.model.embedding_size, dtype=np.float32)
    return _shared(query, identity) @ direction


def _shared(query: _Query, embeddings: Vector) -> Vector:
    """Features (N, E) of embeddings (N, D); see `birder.collection.text_encoder.shared_features`."""
    from birder.collection.text_encoder import shared_features  # it brings torch, for texts alone

    return shared_features(query.collection, query.text_encoder(), embeddings)


def _embeddings(table: pa.Table) -> Vector:
    column = table["embedding"].combine_chunks()
    vectors: Vector = column.flatten().to_numpy().reshape(-1, column.type.list_size)
    return np.array(vectors)  # torch requires writable memory


def _with_similarity(table: pa.Table, scores: npt.NDArray[np.floating[Any]]) -> pa.Table:
    return table.add_column(0, "similarity", pa.array(scores.astype(np.float64)))
