"""The rows of a collection to learn from: those with a label, checked, in an order that their content decides."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from birder.collection.filter import Filter
from birder.collection.schema import VECTORS
from birder.collection.storage import Storage
from birder.collection.wrong_boxes import without_wrong_boxes
from birder.errors import ConfigError, unknown_name
from birder.vectors import let_go, put_rows, room

_NAMED = 5  # examples in a message
_BYTES_AT_ONCE = 2**24
_MOST_BYTES = 2**29  # of embeddings in memory
_OF_CONTENT = ("id", "uri", "sha256")  # the columns that `by_content` looks at


@dataclass(frozen=True)
class LabelledRows:
    """Rows with a label, in the order of `by_content`.

    Attributes
    ----------
    table
        N rows with the columns asked for, and the label's.
    embeddings
        float32 (N, D), as the network gave them; large ones are in a temporary file (`birder.vectors.room`).
    classes
        C names, sorted.
    codes
        int64 (N,): the class of each row.
    dropped
        Classes with too few examples -> how many they had; their rows are not among these.
    warnings
        What a person should look at before they trust the result.
    """

    table: pa.Table
    embeddings: npt.NDArray[np.float32]
    classes: tuple[str, ...]
    codes: npt.NDArray[np.int64]
    dropped: dict[str, int]
    warnings: tuple[str, ...]

    @property
    def counts(self) -> dict[str, int]:
        """Class -> rows."""
        counts = np.bincount(self.codes, minlength=len(self.classes))
        return dict(zip(self.classes, counts.tolist(), strict=True))

    @property
    def labels(self) -> list[str]:
        """The N labels."""
        return [self.classes[code] for code in self.codes]

    def sha256(self) -> str:
        """A digest of the ids, labels and embeddings: the same rows have the same."""
        digest, read = hashlib.sha256(), 0
        for id_, code, embedding in zip(self.table["id"].to_pylist(), self.codes, self.embeddings, strict=True):
            digest.update(f"{id_}\0{self.classes[code]}\0".encode())
            digest.update(embedding.tobytes())
            read += embedding.nbytes
            if read >= _BYTES_AT_ONCE:
                let_go(self.embeddings)
                read = 0
        return digest.hexdigest()


def by_content(rows: pa.Table) -> npt.NDArray[np.int64]:
    """Positions (N,) that sort rows by what they show: the file's digest, then the place in the file.

    An id comes from where a file lies. Folds and draws that went by it would differ between two folders with the same
    images. Rows of one content in several files, and rows without a digest, follow each other by id.

    Parameters
    ----------
    rows
        N rows with "id", "uri" and "sha256".
    """
    place = pc.replace_substring_regex(rows["uri"], "^[^#]*", "")  # a box, a frame or a member
    keys = pa.table({"sha256": rows["sha256"], "place": place, "id": rows["id"]})
    order = pc.sort_indices(keys, sort_keys=[(name, "ascending") for name in keys.column_names])
    found: npt.NDArray[np.int64] = order.to_numpy(zero_copy_only=False).astype(np.int64)
    return found


def labelled_rows(
    storage: Storage,
    column: str,
    columns: Sequence[str] = (),
    *,
    where: str | Filter | None = None,
    min_examples: int = 1,
) -> LabelledRows:
    """Read the rows that have a label: their columns, and then their embeddings, each to its place.

    Parameters
    ----------
    storage
        The collection.
    column
        A column of text; empty values are no labels.
    columns
        Further columns; "id", "uri" and "sha256" are always among them.
    where
        Only these rows.
    min_examples
        Classes with fewer rows are dropped, and named.

    Raises
    ------
    UnknownNameError
        There is no such column.
    ConfigError
        The column does not hold text; or no row has a label, or fewer than two classes have enough of them; or an
        embedding is not finite.
    """
    reader = storage.snapshot()
    _check_column(storage, column, reader.columns)
    if min_examples < 1:
        raise ConfigError(f"At least one example of each class is needed, not {min_examples}.")
    chosen = without_wrong_boxes(where, reader.columns)
    wanted = list(dict.fromkeys([*_OF_CONTENT, *columns, column]))
    parts, labels, places = [], [], []
    for table in reader.tables(wanted, chosen):
        has = np.array([bool(value and value.strip()) for value in table[column].to_pylist()], dtype=np.bool_)
        kept = table.filter(pa.array(has))
        labels += kept[column].to_pylist()
        parts.append(kept)
        places.append(has)
    filled = len(labels)
    if not filled:
        asked = " among the rows of the filter" if where is not None else ""
        raise ConfigError(
            f"No image has a label in the column {column!r}{asked}. Label some on the page (birder serve) or with "
            "birder label, or name another column."
        )
    counts = Counter(labels)
    classes = tuple(sorted(name for name, count in counts.items() if count >= min_examples))
    dropped = {name: counts[name] for name in sorted(counts) if counts[name] < min_examples}
    if len(classes) < 2:
        raise ConfigError(_too_few(column, counts, min_examples))
    position = {name: code for code, name in enumerate(classes)}
    codes = np.array([position.get(label, -1) for label in labels], dtype=np.int64)
    rows = pa.concat_tables(parts).combine_chunks()
    order = by_content(rows)
    order = order[codes[order] >= 0]
    codes = codes[order]
    embeddings = room(len(order), storage.model.embedding_size, most=_MOST_BYTES)
    place = np.full(sum(map(len, places)), -1, np.int64)  # of each row that was read among those that are kept
    place[np.flatnonzero(np.concatenate(places))[order]] = np.arange(len(order))
    read = 0
    for table, vectors in reader.embedding_batches(["id"], chosen):
        at = place[read : read + table.num_rows]
        put_rows(embeddings, at[at >= 0], vectors[at >= 0])
        read += table.num_rows
    _check_finite(embeddings)
    return LabelledRows(
        rows.take(pa.array(order)), embeddings, classes, codes, dropped, tuple(_warnings(counts, classes, dropped))
    )


def _check_column(storage: Storage, column: str, known: dict[str, pa.DataType]) -> None:
    if column not in known or column in VECTORS:
        raise unknown_name("column", column, [name for name in known if name not in VECTORS])
    type_ = known[column]
    if not (pa.types.is_string(type_) or pa.types.is_large_string(type_)):
        raise ConfigError(
            f"The column {column!r} of {storage.path} holds {type_}, not names: a classifier learns names. Name a "
            "column of text."
        )


def _too_few(column: str, counts: Counter[str], min_examples: int) -> str:
    if len(counts) == 1:
        return (
            f"All labels in the column {column!r} are {next(iter(counts))!r}: a classifier needs at least two classes. "
            "Label images of another class as well."
        )
    largest = ", ".join(f"{name} ({count})" for name, count in counts.most_common(_NAMED))
    return (
        f"Fewer than two classes in the column {column!r} have {min_examples} images or more; the largest: {largest}. "
        "Label more images, or set a lower --min-examples."
    )


def _check_finite(embeddings: npt.NDArray[np.float32]) -> None:
    wrong = 0
    for start in range(0, len(embeddings), 4096):
        wrong += int((~np.isfinite(embeddings[start : start + 4096]).all(axis=1)).sum())
        let_go(embeddings)
    if wrong:
        raise ConfigError(
            f"{wrong:,} embedding{' is' if wrong == 1 else 's are'} not finite: embed those images again, or leave "
            "them out with a filter."
        )


def _warnings(counts: Counter[str], classes: Sequence[str], dropped: dict[str, int]) -> list[str]:
    found = []
    if dropped:
        names = ", ".join(f"{name} ({count})" for name, count in list(dropped.items())[:_NAMED])
        more = f" and {len(dropped) - _NAMED} more" if len(dropped) > _NAMED else ""
        found.append(f"Left out, because they have too few images: {names}{more}.")
    alike: dict[str, list[str]] = {}
    for name in sorted(counts):
        alike.setdefault("".join(name.split()).casefold(), []).append(name)
    for same in alike.values():
        if len(same) > 1:
            found.append(
                f"These labels differ only in case or spaces: {', '.join(map(repr, same))}. Are they the same?"
            )
    largest = max(classes, key=lambda name: (counts[name], name))
    total = sum(counts[name] for name in classes)
    if counts[largest] * 2 > total:
        found.append(
            f"{counts[largest] / total:.0%} of the images are of one class, {largest!r}: accuracy alone says little; "
            "look at the mean recall."
        )
    return found
