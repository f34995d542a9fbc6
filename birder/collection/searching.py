"""A search as users ask for it, and its results in their words."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from birder.collection.filter import Filter, as_filter
from birder.collection.results import SearchResults
from birder.collection.search import find_row, search
from birder.collection.storage import Storage

if TYPE_CHECKING:
    from birder.collection.model import Encoder
    from birder.naming.class_words import ClassWords
    from birder.weights.clip import LoadedClip

Vector = npt.NDArray[np.float32]

_LARGE = 10_000


@dataclass(frozen=True)
class Query:
    """What the results should resemble, and in `unlike` what they should not; see `Collection.search`."""

    images: Sequence[str | Path]
    texts: Sequence[str]
    ids: Sequence[str]
    unlike: Sequence[str | Path | Vector]
    vectors: Sequence[Vector]

    def in_words(self, where: str | Filter | None) -> str:
        """The query and its filter, for the heading of its results."""
        wanted = [*(Path(file).name for file in self.images), *(f"“{text}”" for text in self.texts), *self.ids]
        wanted += ["a vector"] * len(self.vectors)
        unwanted = ["a vector" if isinstance(each, np.ndarray) else str(each) for each in self.unlike]
        parts = [f"like {', '.join(wanted)}"] if wanted else []
        parts += [f"unlike {', '.join(unwanted)}"] if unwanted else []
        parts += [f"where {where}"] if where is not None else []
        return "; ".join(parts)


def search_rows(
    storage: Storage,
    query: Query,
    where: str | Filter | None,
    k: int,
    columns: Sequence[str],
    *,
    exact: bool,
    load_encoder: Callable[[], Encoder],
    load_clip: Callable[[], LoadedClip],
    load_words: Callable[[], ClassWords | None],
) -> SearchResults:
    """What `Collection.search` gives; the models are loaded only for a query that needs them."""
    filter = as_filter(where, storage.columns)
    if k > _LARGE:  # LanceDB takes no number that 32 bits do not hold; counting would cost every search its time
        k = min(k, max(1, storage.count()))
    needs_texts = bool(query.texts) or any(
        isinstance(each, str) and find_row(storage, each) is None for each in query.unlike
    )
    words = load_words() if needs_texts else None
    found = search(
        storage,
        images=query.images,
        texts=query.texts,
        ids=query.ids,
        unlike=query.unlike,
        vectors=query.vectors,
        where=filter,
        k=k,
        columns=columns,
        exact=exact,
        encoder=_LazyEncoder(load_encoder),
        clip=load_clip() if needs_texts and words is None else None,
        words=words,
    )
    return SearchResults(
        found.table,
        query=query.in_words(where),
        images=(*map(Path, query.images), *(each for each in query.unlike if isinstance(each, Path))),
        count_searched=lambda: storage.count(filter) if found.matching is None else found.matching,
        matching=found.matching,
        collection=storage.path.name,
        model=storage.model.name,
        notes=found.notes,
        exact=found.exact,
    )


class _LazyEncoder:
    """An image encoder that is loaded when the first image is embedded."""

    def __init__(self, load: Callable[[], Encoder]) -> None:
        self._load = load

    def embed_one(self, path: str | Path) -> Vector:
        return self._load().embed_one(path)
