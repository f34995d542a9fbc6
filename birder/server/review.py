"""The review of predictions: which rows await a person's decision, in which order, and how often people agree so far.

A decision is a label, or the note in the column `rejected` that an image does not show what was predicted: names, which
" | " separates. That is said of the image and not of a model, so it holds for whatever predicts the same name again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from birder.collection.journal import Journal
from birder.collection.predictions import LABEL, PREFIX, SCORE
from birder.collection.schema import LABEL_SOURCE
from birder.errors import CollectionError
from birder.server.catalogue import Snapshot
from birder.server.column_reader import combined
from birder.server.encoded import Positions, decoded
from birder.server.site import listed
from birder.server.stacks import SEQUENCE
from birder.taxonomy import RANKS

Bools = npt.NDArray[np.bool_]
Order = Literal["doubtful", "certain", "class", "sequence", "random"]

REJECTED = "rejected"
"""The column of text for the names that a person said an image does not show."""
SEPARATOR = " | "
UNKNOWN = "unknown"
"""The label by which a person says that they cannot tell: neither agreement nor disagreement."""
MOST_IN_STACK = 1000
_FIRST_RANKS = tuple(PREFIX + rank for rank in reversed(RANKS))


@dataclass(frozen=True)
class Named:
    """Rows with a name that somebody can accept or reject.

    Attributes
    ----------
    positions
        (N,): rows of the snapshot, ascending.
    names, scores
        (N,): the name of each and its probability.
    """

    positions: Positions
    names: pa.Array
    scores: npt.NDArray[np.float64]

    def take(self, places: npt.NDArray[Any]) -> Named:
        """Some of them, by a mask or by their places."""
        chosen = np.flatnonzero(places) if places.dtype == np.bool_ else places
        return Named(self.positions[chosen], self.names.take(pa.array(chosen)), self.scores[chosen])


def labels_of(snapshot: Snapshot, column: str) -> dict[str, Any]:
    """The label of each row by its id; None without one. Boxes that a person said are wrong are left out."""
    shown = snapshot.select(snapshot.filter(None))
    ids = snapshot.ids.ids.take(pa.array(shown)).to_pylist()
    return dict(zip(ids, snapshot.column(column, shown).to_pylist(), strict=True))


def predicted(snapshot: Snapshot, positions: Positions) -> Named:
    """The rows of some that have a prediction: its label, or its lowest rank.

    Raises
    ------
    CollectionError
        The collection has no predictions.
    """
    if SCORE not in snapshot.types:
        raise CollectionError("The collection has no predictions yet. Make them with: birder predict --in DIR --save")
    names = predicted_names(snapshot, positions)
    scores = snapshot.column(SCORE, positions).cast(pa.float64()).to_numpy(zero_copy_only=False)
    there = names.is_valid().to_numpy(zero_copy_only=False) & np.isfinite(scores)
    return Named(positions, names, scores).take(there)


def predicted_names(snapshot: Snapshot, positions: Positions) -> pa.Array:
    """The predicted name of each row, null where there is none."""
    columns = [name for name in (LABEL, *_FIRST_RANKS) if snapshot.types.get(name) == "text"]
    if not columns:
        return pa.nulls(len(positions), pa.string())
    return combined(pa.chunked_array([pc.coalesce(*(_texts(snapshot, name, positions) for name in columns))]))


def open_ones(snapshot: Snapshot, named: Named, column: str) -> Bools:
    """Which rows (N,) nobody has decided: without a label, and without a note that rejects this name."""
    return ~(_filled(_texts(snapshot, column, named.positions)) | rejects(snapshot, named))


def rejects(snapshot: Snapshot, named: Named) -> Bools:
    """Which rows (N,) have a note that rejects their name."""
    notes = _texts(snapshot, REJECTED, named.positions)
    found = np.zeros(len(named.positions), np.bool_)
    for place in np.flatnonzero(notes.is_valid().to_numpy(zero_copy_only=False)):
        found[place] = named.names[place].as_py() in notes[place].as_py().split(SEPARATOR)
    return found


def judgements(snapshot: Snapshot, named: Named, journal: Journal) -> tuple[Bools, npt.NDArray[np.int64] | None]:
    """What people have said of predictions so far: (M,) whether each was right, and the codes of their sequences.

    The sequences are None where no row has one. Labels taken from the names of folders, unless the journal has one by a
    person, and those by which somebody says that they cannot tell, are left out.
    """
    labels = _texts(snapshot, "label", named.positions)
    labelled = _filled(labels) & ~_equal(labels, UNKNOWN)
    if LABEL_SOURCE in snapshot.table.schema.names:
        source = decoded(combined(snapshot.table[LABEL_SOURCE])).take(pa.array(named.positions))
        folders = np.flatnonzero(labelled & _equal(source, "folder"))
        ids = snapshot.ids.ids.take(pa.array(named.positions[folders])).to_pylist()
        said = journal.words(ids, ["label"])
        labelled[folders] = [id_ in said for id_ in ids]
    right = labelled & pc.fill_null(pc.equal(labels, named.names), False).to_numpy(zero_copy_only=False)
    wrong = (labelled & ~right) | (rejects(snapshot, named) & ~right)
    decided = right | wrong
    rows = named.positions[decided]
    sequences = _sequences(snapshot, rows)
    return right[decided], sequences


def in_order(snapshot: Snapshot, named: Named, order: Order) -> Named:
    """Rows in the order in which they are looked at.

    doubtful: the lowest probability first. certain: the highest. class: by name, then certain. sequence: by time, with
    the rows of a sequence together. random: by id, which a hash makes, so that the first are a sample of all.
    """
    if order == "random":
        return named.take(pc.sort_indices(snapshot.ids.ids.take(pa.array(named.positions))).to_numpy())
    if order == "sequence":
        return stacked(snapshot, named.take(np.argsort(_by_time(snapshot)[named.positions], kind="stable")))
    scores = named.scores if order == "doubtful" else -named.scores
    if order == "class":
        ranks = pc.rank(named.names, sort_keys="ascending", tiebreaker="dense").to_numpy()
        return named.take(np.lexsort((scores, ranks)))
    return named.take(np.argsort(scores, kind="stable"))


def stacked(snapshot: Snapshot, named: Named) -> Named:
    """Rows with those of a sequence together, by time, where the first of them is."""
    sequences = _sequences(snapshot, named.positions)
    if sequences is None:
        return named
    first = np.full(int(sequences.max()) + 1, len(sequences))
    np.minimum.at(first, sequences, np.arange(len(sequences)))
    return named.take(np.lexsort((_by_time(snapshot)[named.positions], first[sequences])))


def _by_time(snapshot: Snapshot) -> Positions:
    """The place of each row of the snapshot in the order of time; in that of uris where there are no times."""
    places = np.arange(len(snapshot))
    if "taken_at" in snapshot.types:
        places[snapshot.select(None, "taken_at")] = np.arange(len(snapshot))
    return places


def whole_stacks(sequences: list[str | None], limit: int) -> int:
    """How many of the first rows to give: `limit`, and the rest of the stack that this would cut."""
    end = min(limit, len(sequences))
    if not end:
        return 0
    while end < min(len(sequences), limit + MOST_IN_STACK):
        if sequences[end] is None or sequences[end] != sequences[end - 1]:
            break
        end += 1
    return end


def has_sequences(snapshot: Snapshot) -> bool:
    """Whether any row has a sequence."""
    return snapshot.types.get(SEQUENCE) == "text" and snapshot.encoded(SEQUENCE).null_count < len(snapshot)


def sequence_names(snapshot: Snapshot, positions: Positions) -> list[str | None]:
    """The sequence of each row."""
    found: list[str | None] = _texts(snapshot, SEQUENCE, positions).to_pylist()
    return found


def _sequences(snapshot: Snapshot, positions: Positions) -> npt.NDArray[np.int64] | None:
    codes = _codes(snapshot, positions)
    if not (codes >= 0).any():
        return None
    alone = codes < 0
    codes[alone] = codes.max() + 1 + np.arange(alone.sum())
    return codes


def _codes(snapshot: Snapshot, positions: Positions) -> npt.NDArray[np.int64]:
    """A number for each row's sequence, -1 without one."""
    texts = _texts(snapshot, SEQUENCE, positions).dictionary_encode()
    return np.asarray(texts.indices.fill_null(-1).to_numpy(zero_copy_only=False), np.int64)


def _texts(snapshot: Snapshot, name: str, positions: Positions) -> pa.Array:
    """A column of text in some rows; null where there is no such column."""
    if snapshot.types.get(name) != "text":
        return pa.nulls(len(positions), pa.string())
    found = snapshot.column(name, positions)
    return found if pa.types.is_string(found.type) else found.cast(pa.string())


def _filled(texts: pa.Array) -> Bools:
    return np.asarray(pc.fill_null(pc.not_equal(texts, ""), False).to_numpy(zero_copy_only=False), np.bool_)


def _equal(texts: pa.Array, text: str) -> Bools:
    return np.asarray(pc.fill_null(pc.equal(texts, text), False).to_numpy(zero_copy_only=False), np.bool_)


def with_predictions(snapshot: Snapshot, positions: Positions) -> list[dict[str, Any]]:
    """Images as a list shows them, with what a model named them, what a person rejected, and their sequences."""
    photos = listed(snapshot, positions)
    if SCORE in snapshot.types:
        scores = snapshot.column(SCORE, positions).to_pylist()
        for photo, name, score in zip(photos, predicted_names(snapshot, positions).to_pylist(), scores, strict=True):
            photo |= {"predicted": name, "predicted_score": score}
    if REJECTED in snapshot.types:
        for photo, note in zip(photos, _texts(snapshot, REJECTED, positions).to_pylist(), strict=True):
            photo["rejected"] = note
    if has_sequences(snapshot):
        for photo, sequence in zip(photos, sequence_names(snapshot, positions), strict=True):
            photo["sequence"] = sequence
    return photos
