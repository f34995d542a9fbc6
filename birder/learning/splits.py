"""Groups and folds: what belongs together is never on both sides of a split.

Images of one burst, one animal or one specimen are alike. A classifier that learned from one of them and is judged on
another has seen what it is asked, and its figures are too good. So rows are put into groups first, and folds are made
of whole groups.

N is the number of rows, G of groups, D the embedding dimension.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from birder.analysis.approximate import near_pairs
from birder.analysis.duplicates import similar_components
from birder.analysis.sequences import GAP, find_sequences
from birder.collection.schema import DEPLOYMENT, TIME_OF_IMAGE
from birder.collection.storage import Storage
from birder.errors import ConfigError, unknown_name
from birder.vectors import let_go, room, take_rows, unit
from birder.words import counted

Kind = Literal["columns", "deployment", "sequences", "duplicates", "random"]
Split = Literal["groups", "random"]
Codes = npt.NDArray[np.int64]

NEAR = 0.98
"""The least cosine at which two images are always in one group."""
SECONDS = int(GAP)
"""Images of a sequence follow each other within this time."""
CAMERA = ("camera", "cameraID", "camera_id")
"""Names of the column that says which camera took an image."""

_EXACT = 150_000  # rows up to which all pairs are compared
_AT_ONCE = 4096
_MOST_BYTES = 2**29  # of embeddings in memory
_PAIRS = 16_384  # pairs compared at once
_DOMINANT = 0.5  # the share of rows from which the largest group is worth a sentence


@dataclass(frozen=True)
class Groups:
    """Which rows belong together.

    Attributes
    ----------
    codes
        (N,) int64, 0 to G - 1: the group of each row, in the order of the rows.
    kind
        What they were made by.
    how
        Sentences that say it: the first lines of a report.
    """

    codes: Codes
    kind: Kind
    how: tuple[str, ...]

    @property
    def count(self) -> int:
        """G, the number of groups."""
        return int(self.codes.max()) + 1 if len(self.codes) else 0


@dataclass(frozen=True)
class Folds:
    """Whole groups in folds.

    Attributes
    ----------
    of
        (N,) int64: the fold of each row; -1 for the rows of classes that cannot be judged. Their groups may have other
        rows in a fold: what is fitted without that fold is fitted without the whole group.
    count
        How many folds there are: fewer than asked for where there are fewer groups, 0 where no class can be judged.
        More, where a class could not be judged otherwise.
    unjudged
        The classes that cannot be judged, sorted: those whose rows are all in one group.
    """

    of: Codes
    count: int
    unjudged: tuple[int, ...]


def columns_for_groups(storage: Storage, group_by: Sequence[str]) -> list[str]:
    """The columns that `find_groups` needs of a collection's rows, beside that of the labels.

    Raises
    ------
    UnknownNameError
        There is no such column to group by.
    ConfigError
        Rows cannot be grouped by such a column.
    """
    known = storage.columns
    for name in group_by:
        if name not in known:
            raise unknown_name("column", name, known)
        if pa.types.is_nested(known[name]) or name == "embedding":
            raise ConfigError(f"Images cannot be grouped by {name}: it holds lists. Use a column of single values.")
    own = [name for name in (TIME_OF_IMAGE, *CAMERA, *DEPLOYMENT) if name in known]
    return list(dict.fromkeys(["id", "uri", "sha256", *own, *group_by]))


def find_groups(
    rows: pa.Table,
    embeddings: npt.NDArray[np.float32],
    *,
    column: str,
    group_by: Sequence[str] = (),
    split: Split = "groups",
) -> Groups:
    """Put rows into groups that do not share an animal, a burst or a specimen, as far as the collection can tell.

    By the user's columns; else by deployment; else by sequences: images from the same camera or folder, each taken
    within 60 seconds of the one before. A folder named as the label of all its images says nothing about how they were
    taken: for sequences, the folder above it counts. Groups that share a file's content, or images with a cosine of
    0.98 or more, are joined, whatever they were made by.

    Parameters
    ----------
    rows
        N rows with the columns of `columns_for_groups`, and `column` if it is to be compared with folders' names.
    embeddings
        (N, D) float32, finite, in the same order. Of up to 150,000 rows all pairs are compared, which takes a copy of
        the embeddings and some 700 MB; of more, each is compared with the 16 nearest that a graph of neighbours
        proposes, which takes some 800 bytes a row.
    column
        The column of the labels.
    group_by
        Columns of the user's: rows with the same values in all of them are one group, a row without a value in any of
        them is one of its own.
    split
        "random" makes each row a group of its own, whatever it shares with others.

    Raises
    ------
    ConfigError
        There are columns to group by, and a random split is asked for.
    """
    count = rows.num_rows
    if split == "random":
        if group_by:
            raise ConfigError("A random split does not group images: use --group-by or --split random, not both.")
        return Groups(
            np.arange(count),
            "random",
            (
                f"The split is random, as asked for: each of the {count:,} images is a group of its own. Images of one "
                "burst, one animal or one specimen may lie on both sides, so that figures look better than they are.",
            ),
        )
    codes, kind, sentences = _first_groups(rows, column, group_by)
    before = _number(codes)
    joined, by_graph = _joined(rows, embeddings, codes)
    groups = int(joined.max()) + 1 if count else 0
    how = [sentence.replace("{count}", counted(groups, "group")) for sentence in sentences]
    if kind != "duplicates" and groups < before:
        how.append(
            f"Groups that share identical or nearly identical images (cosine {NEAR} or more) are joined: "
            f"{before:,} became {groups:,}."
        )
    if by_graph:
        how.append("Nearly identical images were proposed by a graph of neighbours, which may miss some.")
    largest = int(np.bincount(joined).max()) if count else 0
    if groups > 1 and largest > _DOMINANT * count:
        how.append(f"One group holds {largest / count:.0%} of the images: {largest:,} of {count:,}.")
    return Groups(joined, kind, tuple(how))


def make_folds(labels: Codes, groups: Codes, folds: int, seed: int) -> Folds:
    """Put whole groups into folds, with each class spread over them as evenly as its groups allow.

    The greedy method of scikit-learn's StratifiedGroupKFold: groups are taken in order of how unevenly they hold the
    classes, the most uneven first, and each is put where the classes' shares of the folds then differ least (the mean
    over classes of the standard deviation over folds). Only the classes of a group are looked at, so that 100,000
    groups of 1,000 classes take seconds.

    Every class with rows in two groups or more is judged. Where all its groups have come into one fold, so that nothing
    would be left to learn it from, one of them is moved: to the fold where fewest classes then have that fate, or to a
    fold of its own where no other helps.

    Parameters
    ----------
    labels
        (N,) int64: the class of each row, 0 or more.
    groups
        (N,) int64: the group of each row, 0 or more.
    folds
        How many, at least 2.
    seed
        Decides between groups that are alike. The same seed gives the same folds.

    Raises
    ------
    ConfigError
        Fewer than two folds, or not a group for each label.
    """
    if folds < 2:
        raise ConfigError(f"Cross-validation needs at least 2 folds, not {folds}.")
    if labels.shape != groups.shape or labels.ndim != 1:
        raise ConfigError(f"There must be a group for each label, not {len(groups)} for {len(labels)}.")
    of = np.full(len(labels), -1, np.int64)
    single = _in_one(labels, groups)
    judged = ~np.isin(labels, single)
    if not judged.any():
        return Folds(of, 0, tuple(single.tolist()))
    _, class_of = np.unique(labels[judged], return_inverse=True)
    _, group_of = np.unique(groups[judged], return_inverse=True)
    folds = min(folds, int(group_of.max()) + 1)
    fold_of_group = _greedy(class_of, group_of, folds, seed)
    used, of[judged] = np.unique(fold_of_group[group_of], return_inverse=True)
    return Folds(of, len(used), tuple(single.tolist()))


def _first_groups(rows: pa.Table, column: str, group_by: Sequence[str]) -> tuple[Codes, Kind, list[str]]:
    """Groups before duplicates join them, and the sentences that say so; {count} stands for the number of groups."""
    count = rows.num_rows
    if group_by:
        codes, missing = _combined(rows, group_by)
        sentences = [f"Images are grouped by {_listed(group_by)}: {{count}}."]
        if missing:
            sentences.append(f"{counted(missing, 'image')} without a value there: each is a group of its own.")
        return codes, "columns", sentences
    sequence, untimed, place = _sequences(rows, column)
    deployment = _first_with_values(rows, DEPLOYMENT)
    if deployment is not None:
        codes, missing = _combined(rows, [deployment])
        sentences = ["Images are grouped by deployment: {count}."]
        if missing:
            known = _values(rows, deployment) >= 0
            codes = np.where(known, codes, sequence + count)
            sentences.append(
                f"{counted(missing, 'image')} without a deployment: grouped by sequences, {SECONDS} seconds apart."
            )
        return _renumbered(codes), "deployment", sentences
    if untimed < count:
        sentences = [
            f"Images are grouped by sequences, from the same {place} and each taken within {SECONDS} seconds of the "
            "one before: {count}."
        ]
        if untimed:
            sentences.append(
                f"{counted(untimed, 'image')} without a time: each is a group of its own, unless it has a duplicate."
            )
        return sequence, "sequences", sentences
    return (
        np.arange(count),
        "duplicates",
        [
            "Nothing but duplicates tells which images belong together: there is no deployment and no time. Images of "
            "one burst, one animal or one specimen count as independent, and may lie on both sides of a split, so that "
            "figures look better than they are. If a column says what belongs together (a site, an individual), use "
            "--group-by COLUMN.",
            f"Identical and nearly identical images (cosine {NEAR} or more) are one group: {{count}} of "
            f"{counted(count, 'image')}.",
        ],
    )


def _sequences(rows: pa.Table, column: str) -> tuple[Codes, int, str]:
    """The sequence of each row, how many rows have no time, and what makes a place."""
    count = rows.num_rows
    codes = np.arange(count)
    if TIME_OF_IMAGE not in rows.column_names or not pa.types.is_timestamp(rows.schema.field(TIME_OF_IMAGE).type):
        return codes, count, "folder"
    moments = rows[TIME_OF_IMAGE].combine_chunks().cast(pa.timestamp("us")).cast(pa.int64())
    timed = pc.is_valid(moments).to_numpy(zero_copy_only=False)
    camera = _first_with_values(rows, CAMERA)
    places = _folders(rows, column)
    if camera is not None:
        cameras = _values(rows, camera)
        places = np.where(cameras >= 0, cameras, places + int(cameras.max()) + 1)
    firsts = find_sequences(places, moments.fill_null(0).to_numpy(), timed, codes, codes, SECONDS)
    return _renumbered(firsts), count - int(timed.sum()), "folder" if camera is None else "camera"


def _folders(rows: pa.Table, column: str) -> Codes:
    """A number for the folder of each row; of a folder named as the label of all its rows, for the one above it."""
    from urllib.parse import unquote

    uris = rows["uri"].to_pylist()
    folders = [uri.rpartition("/")[0] for uri in uris]
    if column in rows.column_names:
        labels = rows[column].to_pylist()
        other = {
            folder
            for folder, label in zip(folders, labels, strict=True)
            if label is None or _plain(unquote(folder.rpartition("/")[2])) != _plain(str(label))
        }
        folders = [folder if folder in other else folder.rpartition("/")[0] for folder in folders]
    return _renumbered(pa.array(folders).dictionary_encode().indices.to_numpy().astype(np.int64))


def _plain(name: str) -> str:
    return " ".join(name.replace("_", " ").split()).casefold()


def _joined(rows: pa.Table, embeddings: npt.NDArray[np.float32], codes: Codes) -> tuple[Codes, bool]:
    """Groups joined where they share a content or near-duplicates; and whether a graph proposed these."""
    content = rows["sha256"].combine_chunks().dictionary_encode().indices.to_numpy(zero_copy_only=False)
    first = np.unique(content, return_index=True)[1]  # of rows with the same content, one is compared

    def stream() -> Iterator[npt.NDArray[np.float32]]:
        for start in range(0, len(first), _AT_ONCE):
            yield unit(take_rows(embeddings, first[start : start + _AT_ONCE]))

    by_graph = len(first) > _EXACT
    if by_graph:
        pairs = near_pairs(stream, len(first), NEAR)
        numbers = _components(len(first), pairs[_near(embeddings, first[pairs])])
    else:
        vectors = room(len(first), embeddings.shape[1], most=_MOST_BYTES)
        done = 0
        for block in stream():
            vectors[done : done + len(block)] = block
            done += len(block)
            let_go(vectors)
        numbers = similar_components(vectors, NEAR)
    alike = numbers[content]
    return _renumbered(_union(codes, alike)), by_graph


def _near(embeddings: npt.NDArray[np.float32], pairs: Codes) -> npt.NDArray[np.bool_]:
    """Which pairs of rows (P, 2) have a cosine of `NEAR` or more, bool (P,)."""
    found = np.zeros(len(pairs), bool)
    for start in range(0, len(pairs), _PAIRS):
        one, other = pairs[start : start + _PAIRS].T
        cosines = np.einsum("nd,nd->n", unit(take_rows(embeddings, one)), unit(take_rows(embeddings, other)))
        found[start : start + _PAIRS] = cosines >= NEAR
    return found


def _union(one: Codes, other: Codes) -> Codes:
    """The finest groups that are whole in both."""
    offset = int(one.max()) + 1 if len(one) else 0
    pairs = np.stack([one, other + offset], axis=1)
    return _components(offset + (int(other.max()) + 1 if len(other) else 0), pairs)[one]


def _components(count: int, pairs: npt.NDArray[np.int64]) -> Codes:
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    graph = coo_matrix((np.ones(len(pairs), np.int8), (pairs[:, 0], pairs[:, 1])), shape=(count, count))
    numbers: Codes = connected_components(graph, directed=False)[1].astype(np.int64)
    return numbers


def _combined(rows: pa.Table, names: Sequence[str]) -> tuple[Codes, int]:
    """A number for the rows' values in these columns, and how many rows have none in any of them."""
    values = np.stack([_values(rows, name) for name in names], axis=1)
    codes = np.unique(values, axis=0, return_inverse=True)[1].reshape(-1).astype(np.int64)
    empty = np.flatnonzero((values < 0).all(axis=1))
    codes[empty] = rows.num_rows + np.arange(len(empty))
    return _renumbered(codes), len(empty)


def _values(rows: pa.Table, name: str) -> Codes:
    """A number for the rows' values in a column, -1 for none."""
    values = rows[name].combine_chunks()
    if pa.types.is_string(values.type) or pa.types.is_large_string(values.type):
        values = pc.if_else(pc.equal(pc.utf8_trim_whitespace(values), ""), None, values)
    encoded = values.dictionary_encode()
    indices: Codes = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
    return indices


def _first_with_values(rows: pa.Table, names: Sequence[str]) -> str | None:
    return next((name for name in names if name in rows.column_names and (_values(rows, name) >= 0).any()), None)


def _renumbered(codes: Codes) -> Codes:
    """The same groups, numbered in the order in which they first come."""
    _, first, inverse = np.unique(codes, return_index=True, return_inverse=True)
    places = np.empty(len(first), np.int64)
    places[np.argsort(first, kind="stable")] = np.arange(len(first))
    again: Codes = places[inverse]
    return again


def _in_one(of: Codes, other: Codes) -> Codes:
    """Which numbers of the first go with one number of the second only."""
    pairs = np.unique(np.stack([of, other], axis=1), axis=0)
    numbers, counts = np.unique(pairs[:, 0], return_counts=True)
    alone: Codes = numbers[counts == 1].astype(np.int64)
    return alone


def _greedy(class_of: Codes, group_of: Codes, folds: int, seed: int) -> Codes:
    """The fold of each group; classes and groups are numbered from 0, and each class has two groups or more."""
    classes = int(class_of.max()) + 1
    pairs, counts = np.unique(np.stack([group_of, class_of], axis=1), axis=0, return_counts=True)
    starts = np.flatnonzero(np.r_[True, np.diff(pairs[:, 0]) > 0])
    ends = np.r_[starts[1:], len(pairs)]
    # How unevenly a group holds the classes: the variance of its counts, times classes squared, in whole numbers.
    uneven = classes * np.add.reduceat(counts**2, starts) - np.add.reduceat(counts, starts) ** 2
    shuffled = np.random.default_rng(seed).permutation(len(starts))
    order = shuffled[np.argsort(-uneven[shuffled], kind="stable")]
    rows_of_class = np.bincount(class_of).astype(np.float64)
    held = np.zeros((classes, folds))  # shares of each class
    rows = np.zeros(folds, np.int64)
    fold_of = np.empty(len(starts), np.int64)
    for group in order.tolist():
        some = slice(starts[group], ends[group])
        inside = pairs[some, 1]
        size = int(counts[some].sum())
        if len(inside) == 1:  # its standard deviation is least where the class is rarest
            shares = held[inside[0]]
        else:
            added = counts[some] / rows_of_class[inside]
            now = held[inside]
            # Adding a to the share h of a fold changes the sum of squares by a (2 h + a), whatever the fold is.
            squares = (now**2).sum(axis=1, keepdims=True) + added[:, None] * (2 * now + added[:, None])
            middle = (now.sum(axis=1) + added) / folds
            shares = np.sqrt(np.maximum(squares / folds - middle[:, None] ** 2, 0)).sum(axis=0)
        best = np.flatnonzero(shares <= shares.min() + 1e-9)
        fold = int(best[rows[best].argmin()])
        held[inside, fold] += counts[some] / rows_of_class[inside]
        rows[fold] += size
        fold_of[group] = fold
    return _parted(fold_of, pairs)


def _parted(fold_of: Codes, pairs: npt.NDArray[np.int64]) -> Codes:
    """Folds in which no class is in one fold only: each pass moves a group of such a class, and leaves fewer of them.

    A group in a fold of its own parts all its classes, and confines none: so there always is such a move.
    """
    while len(confined := _in_one(pairs[:, 1], fold_of[pairs[:, 0]])):
        new = int(fold_of.max()) + 1
        moves = []
        for group in pairs[pairs[:, 1] == confined[0], 0].tolist():
            for fold in range(new + 1):
                moved = fold_of.copy()
                moved[group] = fold
                left = len(_in_one(pairs[:, 1], moved[pairs[:, 0]]))
                if left < len(confined):
                    moves.append((fold == new, left, fold, group))
        _, _, fold, group = min(moves)
        fold_of[group] = fold
    return fold_of


def _number(codes: Codes) -> int:
    return int(codes.max()) + 1 if len(codes) else 0


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
