"""TreeOfLife's published text embeddings: which model has them, and reading them."""

from __future__ import annotations

import contextlib
import hashlib
import json
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from birder.errors import UnknownNameError, WeightsError
from birder.many_objects import many_objects
from birder.naming.cache import cached_path, keep
from birder.naming.label_sets import Labels
from birder.registry import LabelSetSpec, label_set_spec, list_pretrained_models, weights_spec
from birder.taxonomy import COMMON_NAME, RANKS
from birder.weights.hub import fetch_repository_file
from birder.weights.resolve import Model, resolve


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
        A file is missing, damaged, or the two do not match.
    """
    try:
        # Copy-on-write, because torch warns of read-only arrays; nothing is ever written.
        matrix = np.load(embeddings, mmap_mode="c", allow_pickle=False)
        taxa = _read_taxa(names)
    except (OSError, ValueError, TypeError) as error:
        raise WeightsError(f"Cannot read TreeOfLife's text embeddings: {error}. Fetch the two files again.") from error
    if matrix.ndim != 2 or matrix.dtype != np.float32 or matrix.shape[1] != taxa.num_rows:
        raise WeightsError(
            f"{embeddings} ({matrix.dtype} {matrix.shape}) and {names} ({taxa.num_rows} taxa) do not match: one column "
            "per taxon is needed. Fetch both again."
        )
    return Labels(taxa, matrix)


def fetch_tree_of_life(model: str | Model) -> Labels:
    """The published text embeddings of all TreeOfLife species for a CLIP model, e.g. "imageomics/bioclip".

    Raises
    ------
    UnknownNameError
        None are published for this model.
    HubError
        They are not in the cache and the hub is out of reach.
    """
    label_set = _label_set(model)
    names = fetch_repository_file(label_set.repository, label_set.names, repo_type="dataset")
    return read_tree_of_life(
        fetch_repository_file(label_set.repository, label_set.embeddings, repo_type="dataset"), names
    )


def fetch_taxa(model: str | Model) -> pa.Table:
    """The taxa of TreeOfLife that a CLIP model has text embeddings of, without these: the ranks and `common_name`.

    Raises
    ------
    UnknownNameError, HubError
        As `fetch_tree_of_life`.
    WeightsError
        The file is damaged.
    """
    label_set = _label_set(model)
    path = fetch_repository_file(label_set.repository, label_set.names, repo_type="dataset")
    try:
        return _read_taxa(path)
    except (OSError, ValueError, TypeError) as error:
        raise WeightsError(f"Cannot read TreeOfLife's taxa: {error}. Fetch {path.name} again.") from error


def _label_set(model: str | Model) -> LabelSetSpec:
    """The label set of a model, by the registry."""
    found = resolve(model)
    if found.spec is None or found.spec.label_set is None:
        specs = map(weights_spec, list_pretrained_models())
        published = [spec.openclip or spec.name for spec in specs if spec.label_set is not None]
        raise UnknownNameError(
            f"No TreeOfLife text embeddings are published for {found.name}, only for {', '.join(published)}. "
            "For another model, give the labels: --labels names.txt, or a table of taxa."
        )
    return label_set_spec(found.spec.label_set)


def _read_taxa(names: Path) -> pa.Table:
    """The taxa of `txt_emb_species.json`; mapped from Birder's cache if this file was read before."""
    stat = names.stat()
    mark = f"{names.resolve()}\n{stat.st_size}\n{stat.st_mtime_ns}"
    path = cached_path("taxa", f"{hashlib.sha256(mark.encode('utf-8', 'surrogateescape')).hexdigest()}.arrow")
    # A damaged file is written again.
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
    with many_objects():  # a fifth of the time
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
