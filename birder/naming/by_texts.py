"""Names by texts: from the labels that a user gives to something that names image features."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from birder.errors import ConfigError
from birder.naming.label_files import read_bins, read_label_list, read_taxa
from birder.naming.label_sets import (
    LABEL,
    Groups,
    Labels,
    group_by_bins,
    group_by_rank,
    label_names,
    subset_mask,
)
from birder.naming.predictions import Predictions, rows_of
from birder.naming.prompts import OPENAI_TEMPLATES, TextType, taxon_text
from birder.naming.text_embeddings import cached_labels
from birder.naming.tree_of_life import fetch_tree_of_life, read_tree_of_life
from birder.naming.zero_shot import log_probabilities, top_groups, top_labels
from birder.taxonomy import ranks_in

if TYPE_CHECKING:
    from birder.weights.clip import LoadedClip

Vectors = npt.NDArray[np.float32]


@dataclass(frozen=True)
class TextNames:
    """Names by text embeddings.

    Attributes
    ----------
    labels
        What to choose from.
    groups
        How the labels are grouped; None if each stands for itself.
    logit_scale
        What cosine similarities are multiplied by.
    """

    labels: Labels
    groups: Groups | None
    logit_scale: float

    @property
    def columns(self) -> list[str]:
        """The columns of a prediction, the one with the name itself last but for `common_name`."""
        return list((self.labels if self.groups is None else self.groups).names.column_names)

    @property
    def pooled_names(self) -> pa.Table:
        """All names, as `all_scores` has them."""
        return (self.labels if self.groups is None else self.groups).names

    @property
    def gives_probabilities(self) -> bool:
        """Scores are probabilities."""
        return True

    def all_scores(self, vectors: Vectors) -> Vectors:
        """Logarithms of the probabilities of all C names, float32 (B, C), for features as in `predict`."""
        return log_probabilities(vectors, self.labels, self.logit_scale, self.groups)

    def predict(self, features: Vectors, k: int, min_score: float = 0.0) -> Predictions:
        """Name image features in the shared space, float32 (B, E); scores are probabilities."""
        if self.groups is None:
            return rows_of(top_labels(features, self.labels, self.logit_scale, k), self.labels.names, min_score)
        return rows_of(
            top_groups(features, self.labels, self.groups, self.logit_scale, k), self.groups.names, min_score
        )


def name_by_texts(
    clip: LoadedClip,
    *,
    source: str | Sequence[str] | None = None,
    bins: Path | None = None,
    subset: Path | Mapping[str, Sequence[str]] | None = None,
    rank: str | None = None,
    text_type: TextType | None = None,
    templates: Sequence[str] = OPENAI_TEMPLATES,
    progress: Callable[[int, int], None] | None = None,
) -> TextNames:
    """Prepare the names that a CLIP model chooses from.

    Parameters
    ----------
    clip
        The model; its text encoder encodes labels that are not in the cache.
    source
        Labels; "a,b,c"; a text file with one label per line; a table of taxa (.csv, .parquet); or TreeOfLife's
        published embeddings on this machine (.npy, its names beside it as .json). Default, without `bins`: the
        model's label set on the hub.
    bins
        A table of labels and the bins they belong to, in place of `source`.
    subset
        The only taxa to choose from: a table of them, or lists of names by rank, {"genus": ["Pica", "Corvus"]}.
    rank
        Add up the probabilities of the taxa within each taxon of this rank; default: each taxon by itself.
    text_type
        How taxa of a table are written; default: "taxonomic+common".
    templates
        Texts with one {} each, where the label goes.
    progress
        Called with the number of labels encoded so far, and of all.

    Raises
    ------
    ConfigError
        Arguments that do not go together, or a file that cannot be used.
    UnknownNameError
        A rank or taxon that the labels do not have.
    HubError
        The published embeddings are not in the cache and the hub is out of reach.
    """
    if bins is not None and source is not None:
        raise ConfigError("Give either labels or bins: a table of bins contains the labels.")
    ending = Path(source).suffix.lower() if isinstance(source, str) else ""
    is_table = ending in (".csv", ".parquet")
    if text_type is not None and not is_table:
        raise ConfigError("A text type says how taxa are written: it needs a table of taxa as labels (.csv, .parquet).")
    if bins is not None or (source is not None and not is_table and ending != ".npy"):
        if rank is not None or subset is not None:
            raise ConfigError("Plain labels have no ranks: leave out rank and subset, or give a table of taxa.")
        groups = read_bins(bins) if bins is not None else None
        given = read_label_list(source) if isinstance(source, str) else list(source or ())
        names = label_names(list(groups) if groups is not None else given)
        labels = Labels(names, _encode(clip, names.column(LABEL).to_pylist(), templates, progress))
        return TextNames(labels, group_by_bins(names, groups) if groups is not None else None, clip.logit_scale)
    if is_table:
        names = read_taxa(Path(str(source)))
        if subset is not None:
            names = names.filter(pa.array(subset_mask(names, subset)))
        texts = [taxon_text(taxon, text_type or TextType.taxonomic_common) for taxon in names.to_pylist()]
        labels = Labels(names, _encode(clip, texts, templates, progress))
    else:
        if isinstance(source, str):
            labels = read_tree_of_life(Path(source), Path(source).with_suffix(".json"))
        else:
            labels = fetch_tree_of_life(clip.name)
        if subset is not None:
            labels = labels.take(subset_mask(labels.names, subset))
    return TextNames(labels, _groups(labels, rank), clip.logit_scale)


def _groups(labels: Labels, rank: str | None) -> Groups | None:
    lowest = ranks_in(labels.names.column_names)[-1]
    return None if rank is None or rank == lowest else group_by_rank(labels.names, rank)


def _encode(
    clip: LoadedClip, texts: list[str], templates: Sequence[str], progress: Callable[[int, int], None] | None
) -> Vectors:
    done = 0

    def advance(count: int) -> None:
        nonlocal done
        done += count
        if progress is not None:
            progress(done, len(texts))

    return cached_labels(clip, texts, templates, model_id=clip.sha256, progress=advance)
