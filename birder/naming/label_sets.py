"""What a photograph may be called: names, their text embeddings, and how they group.

D is the width of the space that images and texts share, N the number of labels, G the number of groups.
"""

from __future__ import annotations

import contextlib
import gc
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from birder.errors import ConfigError, UnknownNameError, WeightsError, unknown_name
from birder.naming.cache import cached_path, keep
from birder.registry import registered_name, weights_spec
from birder.sources.text_table import read_text_table
from birder.taxonomy import COMMON_NAME, RANKS, is_rank, ranks_in

LABEL = "label"

# The Hub data sets with the text embeddings of all their species, by the CLIP model that made them.
TREE_OF_LIFE = {
    "imageomics/bioclip": "imageomics/TreeOfLife-10M",
    "imageomics/bioclip-2": "imageomics/TreeOfLife-200M",
}
_EMBEDDINGS, _NAMES = "embeddings/txt_emb_species.npy", "embeddings/txt_emb_species.json"


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
            raise ConfigError(f"{self.names.num_rows} names do not fit text embeddings of shape {self.matrix.shape}.")

    def take(self, keep: npt.NDArray[np.bool_]) -> Labels:
        """The labels where `keep` (N) is true; their part of the matrix is copied."""
        return Labels(self.names.filter(pa.array(keep)), np.ascontiguousarray(self.matrix[:, np.flatnonzero(keep)]))


@dataclass(frozen=True)
class Groups:
    """Labels put together: `codes`, int64 (N), says which of the G rows of `names` a label belongs to."""

    names: pa.Table
    codes: npt.NDArray[np.int64]


def label_names(labels: Sequence[str]) -> pa.Table:
    """The table of plain labels, with surrounding space removed.

    Raises
    ------
    ConfigError
        There is none, one is empty, or one comes twice.
    """
    stripped = [label.strip() for label in labels]
    if not stripped or not all(stripped):
        raise ConfigError("A list of labels needs at least one, and none empty: a,b,c, or a file with one a line.")
    seen: set[str] = set()
    for label in stripped:
        if label in seen:
            raise ConfigError(f"The label {label!r} comes twice: its probability would be split. Remove one.")
        seen.add(label)
    return pa.table({LABEL: pa.array(stripped, pa.string())})


def read_tree_of_life(embeddings: Path, names: Path) -> Labels:
    """TreeOfLife's published text embeddings; the matrix stays on disk, mapped into memory.

    Parameters
    ----------
    embeddings
        `txt_emb_species.npy`: float32 (D, N), columns of length 1.
    names
        `txt_emb_species.json`: N entries [[kingdom, phylum, class, order, family, genus, epithet], common name].

    Raises
    ------
    WeightsError
        A file is missing, damaged, or the two do not fit.
    """
    try:
        # Copy-on-write, because torch warns of read-only arrays; nothing is ever written.
        matrix = np.load(embeddings, mmap_mode="c", allow_pickle=False)
        taxa = _read_taxa(names)
    except (OSError, ValueError, TypeError) as error:
        raise WeightsError(f"Cannot read TreeOfLife's text embeddings: {error}. Fetch the two files again.") from error
    if matrix.ndim != 2 or matrix.dtype != np.float32 or matrix.shape[1] != taxa.num_rows:
        raise WeightsError(
            f"{embeddings} ({matrix.dtype} {matrix.shape}) and {names} ({taxa.num_rows} taxa) do not fit: one column "
            "for each taxon is needed. Fetch both again."
        )
    return Labels(taxa, matrix)


def fetch_tree_of_life(clip_name: str) -> Labels:
    """The published text embeddings of all TreeOfLife species for a CLIP model, e.g. "imageomics/bioclip".

    Raises
    ------
    UnknownNameError
        None are published for this model.
    HubError
        They are not in the cache and the hub is out of reach.
    """
    from birder.weights.hub import fetch_repository_file

    repository = _data_set(clip_name)
    names = fetch_repository_file(repository, _NAMES, repo_type="dataset")
    return read_tree_of_life(fetch_repository_file(repository, _EMBEDDINGS, repo_type="dataset"), names)


def fetch_taxa(clip_name: str) -> pa.Table:
    """The taxa of TreeOfLife that a CLIP model has text embeddings of, without these: the ranks and `common_name`.

    Raises
    ------
    UnknownNameError, HubError
        As `fetch_tree_of_life`.
    WeightsError
        The file is damaged.
    """
    from birder.weights.hub import fetch_repository_file

    path = fetch_repository_file(_data_set(clip_name), _NAMES, repo_type="dataset")
    try:
        return _read_taxa(path)
    except (OSError, ValueError, TypeError) as error:
        raise WeightsError(f"Cannot read TreeOfLife's taxa: {error}. Fetch {path.name} again.") from error


def _data_set(clip_name: str) -> str:
    """The data set of a model, whose name may be that of its image half's weights."""
    registered = registered_name(clip_name)
    name = weights_spec(registered).openclip if registered is not None else clip_name
    if name not in TREE_OF_LIFE:
        raise UnknownNameError(
            f"No TreeOfLife text embeddings are published for {clip_name}; there are for {', '.join(TREE_OF_LIFE)}. "
            "With another model, give the labels: --labels names.txt, or a table of taxa."
        )
    return TREE_OF_LIFE[name]


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
        None is wanted.
    UnknownNameError
        The table does not have the rank, or a name is not among the taxa; the message lists the first few.
    """
    _ranks_to(names, rank)
    if not wanted:
        raise ConfigError(f"There is no {rank} to choose from: name one.")
    column = names.column(rank)
    known = set(column.unique().to_pylist())
    unknown = [value for value in dict.fromkeys(wanted) if value not in known]
    if unknown:
        shown = ", ".join(map(repr, unknown[:10])) + (f" and {len(unknown) - 10} more" if len(unknown) > 10 else "")
        raise UnknownNameError(f"The labels have no {rank} {shown}. Correct or remove that.")
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
        It lists nothing.
    UnknownNameError
        The column is no rank, or as `taxa_mask`.
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
        raise ConfigError(f"{subset} lists no {rank}: one a line, below the header.")
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


def _read_taxa(names: Path) -> pa.Table:
    """The taxa of `txt_emb_species.json`; mapped from Birder's cache if this file was read before."""
    stat = names.stat()
    mark = f"{names.resolve()}\n{stat.st_size}\n{stat.st_mtime_ns}"
    path = cached_path("taxa", f"{hashlib.sha256(mark.encode('utf-8', 'surrogateescape')).hexdigest()}.arrow")
    # A damaged file is made again.
    with contextlib.suppress(OSError, pa.ArrowException):
        cached = pa.ipc.open_file(pa.memory_map(str(path))).read_all()
        if cached.column_names == [*RANKS, COMMON_NAME]:
            return cached
    taxa = _parse_taxa(names)

    def write(file: BinaryIO) -> None:
        with pa.ipc.new_file(file, taxa.schema) as writer:
            writer.write_table(taxa)

    keep(path, write)
    return taxa


def _parse_taxa(names: Path) -> pa.Table:
    with _no_garbage_collection():
        entries = json.loads(names.read_bytes())
        taxa = list(zip(*(taxon for taxon, _ in entries), strict=True))
        common = [name or "" for _, name in entries]
        del entries
    if len(taxa) != len(RANKS):
        raise ValueError(f"{names} has {len(taxa)} ranks, not {len(RANKS)}")
    columns = {
        rank: pa.array([value or "" for value in values], pa.string()) for rank, values in zip(RANKS, taxa, strict=True)
    }
    columns["species"] = pc.binary_join_element_wise(columns["genus"], columns["species"], " ")
    return pa.table(columns | {COMMON_NAME: pa.array(common, pa.string())})


@contextlib.contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """Without it, Python looks through a million new lists again and again: four fifths of the time to read them."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
