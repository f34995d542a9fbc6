"""The labels that images are named by: names, their text embeddings, and how they are grouped.

D is the width of the space that images and texts share, N the number of labels, G the number of groups.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from birder.errors import ConfigError, UnknownNameError, unknown_name
from birder.sources.text_table import read_text_table
from birder.taxonomy import RANKS, is_rank, ranks_in

LABEL = "label"


@dataclass(frozen=True)
class Labels:
    """Labels with their text embeddings.

    Attributes
    ----------
    names
        N rows of text: the column `label`, or the ranks that are known and `common_name`.
    matrix
        Text embeddings as columns, float32 (D, N), each of length 1. It may lie on disk (memory-mapped).
    """

    names: pa.Table
    matrix: npt.NDArray[np.float32]

    def __post_init__(self) -> None:
        if self.matrix.ndim != 2 or self.matrix.dtype != np.float32:
            raise ConfigError(f"Text embeddings must be float32 (D, N), not {self.matrix.dtype} {self.matrix.shape}.")
        if self.matrix.shape[1] != self.names.num_rows or self.names.num_rows == 0:
            raise ConfigError(f"{self.names.num_rows} names do not match text embeddings of shape {self.matrix.shape}.")

    def take(self, keep: npt.NDArray[np.bool_]) -> Labels:
        """The labels where `keep` (N) is true; their part of the matrix is copied."""
        return Labels(self.names.filter(pa.array(keep)), np.ascontiguousarray(self.matrix[:, np.flatnonzero(keep)]))


@dataclass(frozen=True)
class Groups:
    """Labels in groups: `codes`, int64 (N), says which of the G rows of `names` a label belongs to."""

    names: pa.Table
    codes: npt.NDArray[np.int64]


def label_names(labels: Sequence[str]) -> pa.Table:
    """The table of plain labels, with surrounding space removed.

    Raises
    ------
    ConfigError
        There are none, one is empty, or one occurs twice.
    """
    stripped = [label.strip() for label in labels]
    if not stripped or not all(stripped):
        raise ConfigError(
            "A list of labels needs at least one label, none of them empty: a,b,c, or a file with one per line."
        )
    seen: set[str] = set()
    for label in stripped:
        if label in seen:
            raise ConfigError(f"The label {label!r} occurs twice, which would split its probability. Remove one.")
        seen.add(label)
    return pa.table({LABEL: pa.array(stripped, pa.string())})


def group_by_rank(names: pa.Table, rank: str) -> Groups:
    """Group taxa by their lineage down to a rank: a genus of the same name in another family is another genus.

    Raises
    ------
    UnknownNameError
        The rank is unknown or the table does not have it.
    """
    ranks = _ranks_to(names, rank)
    codes = np.zeros(names.num_rows, dtype=np.int64)
    for each in ranks:
        encoded = names.column(each).combine_chunks().dictionary_encode()
        pairs = codes * len(encoded.dictionary) + encoded.indices.to_numpy(zero_copy_only=False)
        _, first, codes = np.unique(pairs, return_index=True, return_inverse=True)
    return Groups(names.select(ranks).take(pa.array(first)), codes)


def group_by_bins(names: pa.Table, bins: Mapping[str, str]) -> Groups:
    """Group plain labels by the bin of each."""
    encoded = pa.array([bins[label] for label in names.column(LABEL).to_pylist()], pa.string()).dictionary_encode()
    return Groups(pa.table({LABEL: encoded.dictionary}), encoded.indices.to_numpy().astype(np.int64))


def taxa_mask(names: pa.Table, rank: str, wanted: Sequence[str]) -> npt.NDArray[np.bool_]:
    """Which taxa are among those wanted at a rank: bool (N), as `Labels.take` keeps them.

    Raises
    ------
    ConfigError
        No name is given.
    UnknownNameError
        The table does not have the rank, or a name is not among the taxa; the message lists the first few.
    """
    _ranks_to(names, rank)
    if not wanted:
        raise ConfigError(f"No {rank} is given to choose from: name at least one.")
    column = names.column(rank)
    known = set(column.unique().to_pylist())
    unknown = [value for value in dict.fromkeys(wanted) if value not in known]
    if unknown:
        shown = ", ".join(map(repr, unknown[:10])) + (f" and {len(unknown) - 10} more" if len(unknown) > 10 else "")
        raise UnknownNameError(f"The labels have no {rank} {shown}. Correct or remove it.")
    mask: npt.NDArray[np.bool_] = pc.is_in(column, value_set=pa.array(wanted, pa.string())).to_numpy()
    return mask


def subset_mask(names: pa.Table, subset: Path | Mapping[str, Sequence[str]]) -> npt.NDArray[np.bool_]:
    """Which taxa a subset allows: bool (N).

    Parameters
    ----------
    subset
        Lists of names by rank, all of which a taxon must be in; or a file whose first column is named by a rank and
        lists names at that rank.

    Raises
    ------
    ConfigError
        It lists no names.
    UnknownNameError
        The column is not a rank, or as `taxa_mask`.
    """
    if not isinstance(subset, Path):
        if not subset:
            raise ConfigError('A subset needs a rank and its names: {"genus": ["Pica", "Corvus"]}.')
        mask = np.ones(names.num_rows, dtype=np.bool_)
        for rank, wanted in subset.items():
            mask &= taxa_mask(names, rank, wanted)
        return mask
    table = read_text_table(subset)
    rank = table.column_names[0].lower() if table.num_columns else ""
    _ranks_to(names, rank)
    wanted = [value for value in table.column(0).to_pylist() if value]
    if not wanted:
        raise ConfigError(f"{subset} lists no {rank}: write one per line, below the header.")
    try:
        return taxa_mask(names, rank, wanted)
    except UnknownNameError as error:
        raise UnknownNameError(f"{subset}: {error}") from None


def _ranks_to(names: pa.Table, rank: str) -> list[str]:
    """The ranks of the table from the widest down to `rank`."""
    if not is_rank(rank):
        raise unknown_name("rank", rank, RANKS)
    have = ranks_in(names.column_names)
    if rank not in have:
        raise UnknownNameError(
            f"The labels have no rank {rank}; they have {', '.join(have) or 'plain names, no ranks'}."
        )
    return have[: have.index(rank) + 1]
