"""Comparing two models on the same images: two collections, one embedded by each.

K is the number of images that both collections have.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from birder.collection.filter import as_filter
from birder.collection.nearest_labels import nameable, nearest_labels
from birder.collection.pairing import PAIRED_BY, Pairs, pair_rows
from birder.collection.predictions import LABEL, PREFIX
from birder.collection.progress import StageProgress, stages_shown
from birder.collection.schema import IMPORTED
from birder.collection.storage import Storage
from birder.errors import CollectionError, ConfigError, unknown_name
from birder.taxonomy import RANKS
from birder.words import counted

if TYPE_CHECKING:
    from birder.collection.filter import Filter
    from birder.collection.reading import RowReader
    from birder.learning.splits import Groups, Split

SAMPLE = 20_000
"""The most images whose neighbours are compared; of more, so many are drawn."""
_DIFFERENCES = 50
_DECIMALS = 9

Floats = npt.NDArray[np.float32]
Codes = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Comparison:
    """Two models on the same images.

    Attributes
    ----------
    results
        What was found; docs/evaluate.md explains the keys: `models`, `images`, `neighbours`, `names`, `accuracy`,
        `groups`, `asked`, `made` and `notes`. What cannot be said is absent: `accuracy` without labels, `names` without
        names.
    """

    results: dict[str, Any]

    @property
    def neighbours(self) -> float | None:
        """The mean share of an image's nearest that both models agree on; None for a single image."""
        found = self.results.get("neighbours")
        return None if found is None else float(found["shared"])

    @property
    def agreement(self) -> float | None:
        """The share of images that both models give the same name; None if there are no names."""
        found = self.results.get("names")
        return None if found is None else float(found["agreement"])

    @property
    def difference(self) -> dict[str, dict[str, Any]]:
        """Of each figure, how much larger it is for the first model, with its interval; empty without labels."""
        return dict(self.results.get("accuracy", {}).get("difference", {}))

    def __repr__(self) -> str:
        first, second = (each["name"] for each in self.results["models"])
        return f"<Comparison of {first} and {second}: {self.results['images']['both']:,} images>"


@dataclass(frozen=True)
class _Side:
    """One of the two collections: the rows that were asked for, sorted by id."""

    storage: Storage
    rows: RowReader
    table: pa.Table
    where: Filter | None

    @classmethod
    def of(cls, storage: Storage, columns: Sequence[str], where: str | Filter | None = None) -> _Side:
        rows = storage.snapshot()
        chosen = as_filter(where, rows.columns)
        own = [name for name in dict.fromkeys([*PAIRED_BY, *columns]) if name in rows.columns]
        return cls(storage, rows, rows.to_table(own, chosen).sort_by("id").combine_chunks(), chosen)

    def take(self, places: Codes) -> _Side:
        return _Side(self.storage, self.rows, self.table.take(pa.array(places)), self.where)

    def texts(self, column: str) -> list[str | None]:
        """The values of a column; None where there is none, or no such column."""
        if column not in self.table.column_names:
            return [None] * len(self.table)
        return [
            str(each) if each is not None and str(each).strip() else None for each in self.table[column].to_pylist()
        ]

    def embeddings(self, wanted: Bools) -> Floats:
        """The embeddings of some of the rows, in their order: (wanted.sum(), D) float32, and no others in memory."""
        ids = self.table["id"].filter(pa.array(wanted)).to_pylist()
        place = {id_: i for i, id_ in enumerate(ids)}
        found = np.empty((len(ids), self.storage.model.embedding_size), np.float32)
        for table, vectors in self.rows.embedding_batches(["id"], self.where):
            at = np.array([place.get(id_, -1) for id_ in table["id"].to_pylist()], np.int64)
            found[at[at >= 0]] = vectors[at >= 0]
        return found


def compare_collections(
    storage: Storage,
    other: Storage,
    column: str,
    *,
    predictions: str | None,
    where: str | Filter | None,
    group_by: Sequence[str],
    split: Split,
    k: int,
    seed: int,
    progress: StageProgress,
) -> Comparison:
    """Compare two collections; parameters as for `Collection.compare`.

    In memory are the rows' ids, addresses and names, and the embeddings of the labelled images and of `SAMPLE` others.
    """
    from birder.evaluation.provenance import versions
    from birder.learning.splits import columns_for_groups

    if k < 1:
        raise ConfigError(f"At least one neighbour is compared, not {k}.")
    _check_columns(storage, other, column, predictions)
    with stages_shown(progress) as given:
        show = given or (lambda stage, done: None)
        show("reading the rows", 0.0)
        named = [predictions] if predictions is not None else _predicted(storage, other)
        first = _Side.of(storage, [*columns_for_groups(storage, group_by), column, *named], where)
        second = _Side.of(other, [column, *named])
        pairs = pair_rows(first.table, second.table)
        results: dict[str, Any] = {
            "models": [_model(each) for each in (storage, other)],
            "images": _images(first, second, pairs),
        }
        if not len(pairs.first):
            which = "" if where is None else " that match the filter"
            raise CollectionError(
                f"{other.path} has none of the images of {storage.path}{which}, by id, content (sha256) or uri. Embed "
                "the same files into both."
            )
        first, second = first.take(pairs.first), second.take(pairs.second)
        predicted = _filled(named, first, second)
        if predictions is not None and predicted is None:
            raise CollectionError(f"No image that both collections have was named by both in {predictions}.")
        labels = [a or b for a, b in zip(first.texts(column), second.texts(column), strict=True)]
        labelled = np.array([each is not None for each in labels], bool)
        sampled = _sample(len(labels), seed)
        show("reading the embeddings", 0.0)
        wanted = sampled | labelled
        also = wanted if predicted is None else sampled  # of the other model those that name images, too
        one, other_ones = first.embeddings(wanted), second.embeddings(also)
        show("comparing neighbours", 0.0)
        if sampled.sum() > 1:
            results["neighbours"] = _neighbours(first, sampled, one[sampled[wanted]], other_ones[sampled[also]], k)
        show("comparing names", 0.0)
        notes: list[str] = []
        groups = _groups(first, labelled, one[labelled[wanted]], column, group_by, split)
        if predicted is not None:
            names = first.texts(predicted), second.texts(predicted)
            how = f"The names in {predicted} of either collection."
            asked = np.ones(len(labels), bool)
        else:
            vectors = one[labelled[wanted]], other_ones[labelled[also]]
            names, asked = _by_nearest(labels, vectors, groups, notes)
            how = "Each labelled image is named by the nearest labelled image of another group, by either's embeddings."
        if asked.any():
            results["names"] = {"column": predicted, "how": how, **_agreement(names, asked)}
        if groups is not None and (asked & labelled).any():
            found = _accuracy(first, second, labels, names, asked & labelled, groups, column, seed)
            results["accuracy"] = {"column": column, "how": how, **found}
            results["groups"] = {"kind": groups.kind, "count": groups.count, "how": list(groups.how)}
            notes = [*groups.how, *notes]
        elif not labelled.any():
            notes.append(f"No image that both have has a label in {column}: which model is right is not known.")
    asked_for = {
        "column": column,
        "predictions": predictions,
        "where": None if where is None else str(where),
        "group_by": list(group_by),
        "split": split,
    }
    results["asked"] = {name: value for name, value in asked_for.items() if value not in (None, [])}
    results["made"] = {"seed": seed, "versions": versions()}
    results["notes"] = notes
    return Comparison(results)


def _check_columns(storage: Storage, other: Storage, column: str, predictions: str | None) -> None:
    if column not in storage.columns:
        raise unknown_name("column", column, storage.columns)
    type_ = storage.columns[column]
    if not (pa.types.is_string(type_) or pa.types.is_large_string(type_)):
        raise ConfigError(f"The column {column} holds {type_}, not text: labels are names.")
    if predictions == column:
        raise ConfigError(f"The labels and the predictions are the same column, {column}.")
    for each in (storage, other):
        if predictions is not None and predictions not in each.columns:
            found = unknown_name("column", predictions, each.columns)
            raise type(found)(f"{each.path}: {found}")


def _predicted(storage: Storage, other: Storage) -> list[str]:
    """The columns with predicted names that both collections have, the most exact first."""
    names = [LABEL, *(PREFIX + rank for rank in reversed(RANKS))]
    return [name for name in names if name in storage.columns and name in other.columns]


def _filled(columns: Sequence[str], first: _Side, second: _Side) -> str | None:
    """The first of these columns in which both collections name one of their images."""
    for name in columns:
        if any(a and b for a, b in zip(first.texts(name), second.texts(name), strict=True)):
            return name
    return None


def _model(storage: Storage) -> dict[str, Any]:
    card = storage.model
    return {
        "name": card.name,
        "sha256": card.sha256,
        "embedding_size": card.embedding_size,
        "collection": str(storage.path),
    }


def _images(first: _Side, second: _Side, pairs: Pairs) -> dict[str, int]:
    known = IMPORTED not in (first.storage.model.engine, second.storage.model.engine)
    both = len(pairs.first)
    found = {"both": both, "only_in_first": len(first.table) - both}
    if first.where is None:  # else rows of the second were never asked for
        found["only_in_second"] = len(second.table) - both
    return found | ({"content_differs": pairs.differ} if known else {})


def _sample(count: int, seed: int) -> Bools:
    """Which of the rows have their neighbours compared: all, or `SAMPLE` drawn at random."""
    if count <= SAMPLE:
        return np.ones(count, bool)
    found = np.zeros(count, bool)
    found[np.random.default_rng(seed).choice(count, SAMPLE, replace=False)] = True
    return found


def _neighbours(side: _Side, sampled: Bools, one: Floats, other: Floats, k: int) -> dict[str, Any]:
    """The share of common neighbours, as published, except that copies of a file are not each other's neighbours."""
    from birder.evaluation.alignment import shared_neighbours

    k = min(k, len(one) - 1)
    contents = side.table["sha256"].filter(pa.array(sampled)).combine_chunks().dictionary_encode().indices
    shared = shared_neighbours(one, other, k, apart=contents.to_numpy().astype(np.int64))
    there = np.isfinite(shared)
    found: dict[str, Any] = {"k": k, "n": int(there.sum()), "of": len(sampled)}
    found |= {"shared": round(float(shared[there].mean()), _DECIMALS) if there.any() else 0.0}
    found["chance"] = round(k / (len(one) - 1), _DECIMALS)
    found["how"] = (
        f"The mean share of an image's {k} nearest by one model that are among its {k} nearest by the other "
        "(mutual k-NN, Huh et al. 2024, arXiv 2405.07987); copies of one file are not counted as neighbours."
    )
    return found


def _groups(
    side: _Side, labelled: Bools, embeddings: Floats, column: str, group_by: Sequence[str], split: Split
) -> Groups | None:
    """The groups of the labelled rows; None where there are none."""
    from birder.learning.splits import find_groups

    if not labelled.any():
        return None
    table = side.table.filter(pa.array(labelled))
    return find_groups(table, embeddings, column=column, group_by=tuple(group_by), split=split)


def _by_nearest(
    labels: Sequence[str | None], vectors: tuple[Floats, Floats], groups: Groups | None, notes: list[str]
) -> tuple[tuple[list[str | None], list[str | None]], Bools]:
    """Names by the nearest labelled image of another group, by each model; and which images can be named rightly so.

    `vectors` are those of the labelled images, and `notes` gets what must be said.
    """
    names: tuple[list[str | None], list[str | None]] = ([None] * len(labels), [None] * len(labels))
    asked = np.zeros(len(labels), bool)
    if groups is None:
        return names, asked
    places = [place for place, label in enumerate(labels) if label is not None]
    told = [label for label in labels if label is not None]
    can = nameable(told, groups.codes)
    if len(set(told)) < 2 or not can.any():
        notes.append(
            "Which model is right cannot be told by the embeddings: that needs two labels, and each in two groups. Say "
            "what belongs together (--group-by), or take all images for independent (--split random)."
        )
        return names, asked
    for of, each in zip(names, vectors, strict=True):
        for place, name in zip(places, nearest_labels(told, each, groups.codes), strict=True):
            of[place] = name
    asked[places] = can
    if alone := int((~can).sum()):
        left = counted(alone, "labelled image is", "labelled images are")
        notes.append(f"{left} left out: the label is in one group only, so no other group can name them.")
    return names, asked


def _agreement(names: tuple[Sequence[str | None], Sequence[str | None]], asked: Bools) -> dict[str, Any]:
    """How often both models give the same name, by how much more than by chance, and where they differ."""
    pairs = [(names[0][row], names[1][row]) for row in np.flatnonzero(asked).tolist()]
    both = [(a, b) for a, b in pairs if a is not None and b is not None]
    ones, others = Counter(a for a, _ in both), Counter(b for _, b in both)
    same = Counter(a for a, b in both if a == b)
    right = sum(same.values())
    n = len(both)
    chance = sum(ones[name] * others[name] for name in ones) / n**2 if n else 0.0
    unlike = Counter((a, b) for a, b in both if a != b)
    return {
        "n": n,
        "only_first_named": sum(b is None for a, b in pairs if a is not None),
        "only_second_named": sum(a is None for a, b in pairs if b is not None),
        "same": right,
        "agreement": round(right / n, _DECIMALS) if n else 0.0,
        "kappa": None if chance == 1 or not n else round((right / n - chance) / (1 - chance), _DECIMALS),
        "classes": [
            {"name": name, "first": ones[name], "second": others[name], "both": same[name]}
            for name in sorted({*ones, *others})
        ],
        "differences": [
            {"first": a, "second": b, "n": count}
            for (a, b), count in sorted(unlike.items(), key=lambda pair: (-pair[1], pair[0]))[:_DIFFERENCES]
        ],
    }


def _accuracy(
    first: _Side,
    second: _Side,
    labels: Sequence[str | None],
    names: tuple[Sequence[str | None], Sequence[str | None]],
    judged: Bools,
    groups: Groups,
    column: str,
    seed: int,
) -> dict[str, Any]:
    """Which model is right more often; a label of the second collection that differs leaves its image out."""
    from birder.evaluation.compare import compare
    from birder.evaluation.predictions import from_columns

    rows = np.flatnonzero(judged).tolist()
    of_group = dict(zip((i for i, label in enumerate(labels) if label is not None), groups.codes.tolist(), strict=True))
    independent = groups.kind == "random" or groups.count == len(of_group)
    table = first.table.take(pa.array(rows, pa.int64()))
    ids, uris = table["id"].to_pylist(), table["uri"].to_pylist()
    theirs = second.texts(column)
    tables = [
        from_columns(
            ids,
            uris,
            None if independent else [str(of_group[row]) for row in rows],
            [str(own[row] or labels[row]) for row in rows],
            [each[row] for row in rows],
        )
        for each, own in zip(names, (labels, theirs), strict=True)
    ]
    return compare(tables[0], tables[1], seed=seed)
