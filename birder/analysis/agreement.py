"""How well embeddings separate taxa: how often the nearest image is of the same taxon, at each rank."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from birder.analysis.neighbours import nearest_rows
from birder.collection.filter import Filter
from birder.collection.storage import Storage
from birder.collection.vectors import unit_vectors
from birder.errors import ConfigError, unknown_name
from birder.taxonomy import RANKS


@dataclass(frozen=True)
class Agreement:
    """Nearest-neighbour agreement at a rank.

    Attributes
    ----------
    rank
        The column.
    n
        Rows with a value in the column: both the queries and their candidate neighbours.
    taxa
        Different values.
    agreement
        The share of neighbours with the same value as their row; None for fewer than two rows.
    chance
        The share expected if neighbours were drawn at random among the others: the frequencies alone.
    possible
        The share of rows whose value occurs in another row: an upper bound for any embeddings.
    """

    rank: str
    n: int
    taxa: int
    agreement: float | None
    chance: float | None
    possible: float | None


def neighbour_agreement(
    collection: Storage, ranks: Sequence[str] = RANKS, k: int = 1, *, where: str | Filter | None = None
) -> list[Agreement]:
    """How often the nearest other images are of the same taxon.

    For each rank, the rows that have a value there are compared with each other by cosine, exactly. A row is not its
    own neighbour, nor is another with the same content (sha256): that would agree without showing anything.

    Parameters
    ----------
    collection
        The collection; the embeddings are held in memory as float32.
    ranks
        Columns of text: kingdom to species, or label, or others.
    k
        How many neighbours of each row; the share is that of all of them.
    where
        A filter: only these rows, as queries and as neighbours.

    Returns
    -------
    One for each rank, in their order.

    Raises
    ------
    UnknownNameError
        There is no such column.
    ConfigError
        k is less than 1.
    FilterError
        The filter cannot be used.
    """
    if k < 1:
        raise ConfigError(f"At least one neighbour is needed, not {k}.")
    for rank in ranks:
        if rank not in collection.columns:
            raise unknown_name("column", rank, collection.columns)
    table, vectors = unit_vectors(collection, ["sha256", *ranks], where=where)
    contents = _codes(table["sha256"])
    neighbours: dict[bytes, npt.NDArray[np.int64]] = {}  # ranks that are known of the same rows share them
    found = []
    for rank in ranks:
        codes = _codes(table[rank])
        known = np.flatnonzero(codes >= 0)
        codes = codes[known]
        if len(known) < 2:
            found.append(Agreement(rank, len(known), len(np.unique(codes)), None, None, None))
            continue
        key = known.tobytes()
        if key not in neighbours:
            nearest = nearest_rows(vectors[known], min(k, len(known) - 1), apart=contents[known])
            neighbours[key] = nearest.indices
        found.append(_agreement(rank, codes, contents[known], neighbours[key]))
    return found


def _agreement(
    rank: str,
    codes: npt.NDArray[np.int64],
    contents: npt.NDArray[np.int64],
    neighbours: npt.NDArray[np.int64],
) -> Agreement:
    counts = np.bincount(codes)
    there = neighbours >= 0
    agree = (codes[neighbours] == codes[:, None]) & there
    # Others of the same taxon among all others, without those of the same content.
    others = len(codes) - np.bincount(contents)[contents]
    both = codes * (contents.max() + 1) + contents
    _, inverse, together = np.unique(both, return_inverse=True, return_counts=True)
    same = counts[codes] - together[inverse]
    asked = others > 0
    if not asked.any():
        return Agreement(rank, len(codes), int((counts > 0).sum()), None, None, None)
    return Agreement(
        rank,
        len(codes),
        int((counts > 0).sum()),
        float(agree.sum() / there.sum()),
        float((same[asked] / others[asked]).mean()),
        float((same[asked] > 0).mean()),
    )


def _codes(column: pa.ChunkedArray) -> npt.NDArray[np.int64]:
    """An integer code for each value, -1 for null."""
    encoded = column.combine_chunks().dictionary_encode()
    codes: npt.NDArray[np.int64] = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
    return codes
