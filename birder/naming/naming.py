"""From what a user asks for to something that names embeddings: by texts, or by labelled examples."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from birder.errors import ConfigError
from birder.naming.examples import SimpleShot
from birder.naming.from_texts import rows_of, top_groups, top_labels
from birder.naming.label_sets import (
    LABEL,
    Groups,
    Labels,
    fetch_tree_of_life,
    group_by_bins,
    group_by_rank,
    label_names,
    read_tree_of_life,
    subset_mask,
)
from birder.naming.prompts import OPENAI_TEMPLATES, RANKS, TextType, taxon_text
from birder.naming.tables import read_bins, read_label_list, read_taxa
from birder.naming.texts import cached_labels

if TYPE_CHECKING:
    from birder.weights.clip import LoadedClip

Vectors = npt.NDArray[np.float32]
Predictions = list[list[dict[str, Any]]]
"""For each image the names, best first: columns of text, and `score`."""


@dataclass(frozen=True)
class TextNames:
    """Names by text embeddings.

    Attributes
    ----------
    labels
        What to choose from.
    groups
        How the labels are put together; None for each by itself.
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

    def predict(self, features: Vectors, k: int, min_score: float = 0.0) -> Predictions:
        """Name image features in the shared space, float32 (B, E); scores are probabilities."""
        if self.groups is None:
            return rows_of(top_labels(features, self.labels, self.logit_scale, k), self.labels.names, min_score)
        return rows_of(
            top_groups(features, self.labels, self.groups, self.logit_scale, k), self.groups.names, min_score
        )


@dataclass(frozen=True)
class ExampleNames:
    """Names by labelled examples; scores are 1 - distance / 2 to the class mean."""

    shot: SimpleShot

    @property
    def columns(self) -> list[str]:
        """The columns of a prediction."""
        return [LABEL]

    def predict(self, embeddings: Vectors, k: int, min_score: float = 0.0) -> Predictions:
        """Name embeddings, float32 (B, D), as the network gave them."""
        names = pa.table({LABEL: pa.array(self.shot.classes, pa.string())})
        return rows_of(self.shot.predict(embeddings, k), names, min_score)


def text_names(
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
    """What a CLIP model is to choose from.

    Parameters
    ----------
    clip
        The model; its text half encodes labels that are not encoded yet.
    source
        Labels; "a,b,c"; a text file with a label a line; a table of taxa (.csv, .parquet); or TreeOfLife's published
        embeddings on this machine (.npy, its names beside it as .json). Default, without `bins`: those of the hub.
    bins
        A table of labels and the bins they belong to, in place of `source`.
    subset
        The only taxa to choose from: a table of them, or lists of names by rank, {"genus": ["Pica", "Corvus"]}.
    rank
        Taxa are put together at this rank; each by itself without it.
    text_type
        How taxa of a table are written; "taxonomic+common" without it.
    templates
        Texts with one {}, where the label goes.
    progress
        Called with the labels encoded so far and their number.

    Raises
    ------
    ConfigError
        Options that do not go together, or a file that cannot be used.
    UnknownNameError
        A rank or taxon that the labels do not have.
    HubError
        The published embeddings are not in the cache and the hub is out of reach.
    """
    if bins is not None and source is not None:
        raise ConfigError("Give either labels or bins: the table of bins names the labels too.")
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
    lowest = [each for each in RANKS if each in labels.names.column_names][-1]
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
