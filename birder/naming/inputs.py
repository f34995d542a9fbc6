"""What is named: the embeddings of a collection or of image files, a batch at a time.

B is the number of rows in a batch, D the embedding dimension, E that of the space that images and texts share.
"""

from __future__ import annotations

import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import torch

from birder.collection.filter import Filter
from birder.collection.reading import RowReader
from birder.collection.storage import Storage
from birder.collection.text_encoder import shared_features
from birder.collection.wrong_boxes import without_wrong_boxes
from birder.errors import CollectionError, ConfigError, ImageError
from birder.images.open import IMAGE_EXTENSIONS, open_image
from birder.images.video import VIDEO_EXTENSIONS
from birder.sources import find_images
from birder.sources.video import is_video
from birder.taxonomy import is_rank, ranks_down_to
from birder.weights.clip import LoadedClip

IMAGES_AT_ONCE = 16
_OF_VIDEO = "it is a video: embed it into a collection (birder embed), and its frames are images of that"

T = TypeVar("T")
Vectors = npt.NDArray[np.float32]
Batches = Iterator[tuple[list[str], Vectors]]
"""Uris or paths, and their vectors (B, D) or (B, E) float32."""
OnUnreadable = Callable[[str, ImageError], None]
"""Called with the path of an image that cannot be read, and why."""


@dataclass(frozen=True)
class LabelledEmbeddings:
    """The rows of a collection that have a value in a column: uris and labels of all, embeddings a block at a time.

    Attributes
    ----------
    uris, labels
        Of N rows.
    lineages
        Where the column is a rank: the names above each label, by rank, that most of its rows have.
    """

    uris: list[str]
    labels: list[str]
    lineages: dict[str, dict[str, str]]
    _rows: RowReader
    _column: str
    _where: Filter | None = None

    def embeddings(self, chosen: npt.NDArray[np.bool_] | None = None) -> Iterator[Vectors]:
        """The embeddings (B, D) of the rows, or of those chosen of N, in their order; each time they are read anew."""
        done = 0
        for table, vectors in self._rows.embedding_batches((self._column,), self._where):
            has = np.array([_is_value(value) for value in table[self._column].to_pylist()], bool)
            if chosen is not None:
                filled = int(has.sum())
                has[has] = chosen[done : done + filled]
                done += filled
            if has.any():
                yield vectors[has]


def labelled_embeddings(collection: Storage, column: str, *, where: str | Filter | None = None) -> LabelledEmbeddings:
    """The rows that match a filter and have a value in a column, as they are now.

    Raises
    ------
    UnknownNameError
        There is no such column.
    CollectionError
        No rows have a value in it.
    """
    rows = collection.snapshot()
    chosen = without_wrong_boxes(where, rows.columns)
    uris: list[str] = []
    labels: list[str] = []
    ranks = [each for each in ranks_down_to(column)[:-1] if each in rows.columns] if is_rank(column) else []
    above: dict[str, dict[str, Counter[str]]] = defaultdict(lambda: defaultdict(Counter))
    for table in rows.tables(("uri", column, *ranks), chosen):
        columns = (table[name].to_pylist() for name in ("uri", column, *ranks))  # the labels may be uris
        for uri, value, *names in zip(*columns, strict=True):
            if _is_value(value):
                uris.append(uri)
                labels.append(label := sys.intern(str(value)))
                for rank, name in zip(ranks, names, strict=True):
                    if _is_value(name):
                        above[label][rank][str(name)] += 1
    if not labels:
        which = "" if where is None else " that match the filter"
        raise CollectionError(
            f"No rows of {collection.path}{which} have a value in {column}: name the column with the labels."
        )
    lineages = {
        label: {rank: min(names, key=lambda name: (-names[name], name)) for rank, names in by_rank.items()}
        for label, by_rank in above.items()
    }
    return LabelledEmbeddings(uris, labels, lineages, rows, column, chosen)


def _is_value(value: object) -> bool:
    return value is not None and str(value).strip() != ""


def stored_embeddings(
    collection: Storage, leave_out: AbstractSet[str] = frozenset(), *, where: Filter | None = None
) -> Batches:
    """Embeddings (B, D) of the rows that match a filter, except those whose uri is in `leave_out`."""
    for table, embeddings in collection.embedding_batches(where=where):
        uris = table["uri"].to_pylist()
        keep = [uri not in leave_out for uri in uris]
        if any(keep):
            yield [uri for uri, kept in zip(uris, keep, strict=True) if kept], embeddings[keep]


def stored_features(collection: Storage, clip: LoadedClip, *, where: Filter | None = None) -> Batches:
    """Image features (B, E) of the rows that match a filter: only the projection is computed, no image is read."""
    for uris, embeddings in stored_embeddings(collection, where=where):
        yield uris, shared_features(collection, clip, embeddings)


def image_embeddings(
    images: Sequence[str], embed_one: Callable[[str], Vectors], on_unreadable: OnUnreadable
) -> Batches:
    """Embeddings (1, D) of image files, one by one; `embed_one` gives (D,) for a path."""
    for path, vector in _readable(images, embed_one, on_unreadable):
        yield [path], vector[None]


def image_features(
    images: Sequence[str], clip: LoadedClip, on_unreadable: OnUnreadable, batch_size: int = IMAGES_AT_ONCE
) -> Batches:
    """Image features (B, E) of files, folders (searched recursively), or patterns; `batch_size` are encoded at once."""
    transform = clip.whole_image_transform
    paths: list[str] = []
    inputs: list[torch.Tensor] = []
    for path, tensor in _readable(images, lambda path: transform(open_image(path)), on_unreadable):
        paths.append(path)
        inputs.append(tensor)
        if len(inputs) == batch_size:
            yield paths, clip.encode_image(torch.stack(inputs)).float().cpu().numpy()
            paths, inputs = [], []
    if inputs:
        yield paths, clip.encode_image(torch.stack(inputs)).float().cpu().numpy()


def _readable(images: Sequence[str], read: Callable[[str], T], on_unreadable: OnUnreadable) -> Iterator[tuple[str, T]]:
    """Each image as it is read; those that cannot be read are reported and left out."""
    sources = find_images(images, labels=False, extensions=IMAGE_EXTENSIONS | VIDEO_EXTENSIONS)
    if not sources:
        raise ConfigError(f"There are no images in {', '.join(images)}: no files that end in .jpg, .png, ...")
    for source in sources:
        try:
            if source.problem is not None:
                raise ImageError(source.problem)
            if is_video(source.path):
                raise ImageError(_OF_VIDEO)
            result = read(source.path)
        except ImageError as error:
            on_unreadable(source.path, error)
            continue
        yield source.path, result
