"""Label suggestions: from a few labels, those that fit the other images, by a classifier on the embeddings.

Multinomial logistic regression on standardised embeddings, as `adapt` fits it; `lesson` says how good it is. The most
certain come first, to be confirmed many at a time; or the most useful, where the two likeliest classes are closest
(smallest margin: Scheffer, Decomain and Wrobel, Active Hidden Markov Models for Information Extraction, 2001), for each
of which a label teaches most.

B is the number of rows in a batch, D the embedding dimension, C the number of classes. Memory holds the examples and
one batch of rows at a time.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from birder.collection.storage import Storage
from birder.collection.wrong_boxes import without_wrong_boxes
from birder.errors import ConfigError, unknown_name
from birder.evaluation.linear_fit import Layer, fit
from birder.inference.classifier import softmax

Vectors = npt.NDArray[np.float32]
Batches = Callable[[], Iterable[tuple[list[str], Vectors]]]
"""Gives the ids and embeddings (B, D) of all rows, a batch at a time, whenever it is called."""
Order = Literal["certain", "useful"]

MOST_EXAMPLES = 5_000
"""The most labelled rows to fit to, balanced over the classes; fewer where there are many classes."""
_MOST_PRODUCTS = 500_000  # examples x classes: what fitting takes grows with it
_OTHERS = 1_000  # unlabelled rows that stand for "something else" where there is one class only
_STRENGTH = 0.1  # of the fit against the regularisation; what cross-validation finds for most embeddings


class Suggestion(NamedTuple):
    """An unlabelled row, the label that fits it best, and its probability."""

    id: str
    label: str
    score: float


@dataclass(frozen=True)
class Suggestions:
    """What a classifier makes of the rows without a label.

    Attributes
    ----------
    classes
        The labels that there are, and how many rows have each; the most frequent first.
    rows
        Unlabelled rows, the most certain or most useful first.
    note
        What the classifier was made of.
    """

    classes: list[tuple[str, int]]
    rows: list[Suggestion]
    note: str


def suggest(
    collection: Storage,
    column: str = "label",
    *,
    label: str | None = None,
    order: Order = "certain",
    limit: int = 100,
    seed: int = 0,
    labels: Mapping[str, object] | None = None,
    among: AbstractSet[str] | None = None,
    batches: Batches | None = None,
) -> Suggestions:
    """Rank the rows without a label by a classifier that was fitted to those with one.

    Parameters
    ----------
    collection
        The collection.
    column
        The column of labels.
    label
        Only rows that this label fits best; of those with "useful", where it is closest to another.
    order
        "certain" or "useful" first.
    limit
        How many rows.
    seed
        For drawing examples where there are very many.
    labels
        The label of each row by its id; rows that are not among these are neither learned from nor suggested. Default:
        what the rows of the collection have, without boxes that a person said are wrong.
    among
        The ids of the rows that may be suggested; default: all. The classifier learns from all labels.
    batches
        The embeddings of all rows; default: they are read from the collection, twice.

    Raises
    ------
    UnknownNameError
        There is no such column or label.
    ConfigError
        No row has a label yet, or all have one class and nothing else is there.
    """
    if column not in collection.columns:
        raise unknown_name("column", column, collection.columns)
    names = (
        read_labels(collection, column) if labels is None else {id_: name_of(value) for id_, value in labels.items()}
    )
    counts = Counter(name for name in names.values() if name is not None)
    if not counts:
        raise ConfigError(f"No row has a value in {column} yet. Label some images first.")
    if label is not None and label not in counts:
        raise unknown_name("label", label, counts)
    classes = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    unlabelled = [id_ for id_, name in names.items() if name is None]
    if not unlabelled:
        return Suggestions(classes, [], f"Every image has a {column} already.")
    examples = _examples(names, counts, unlabelled, seed)
    embeddings = batches or (lambda: _stored(collection))
    model = _fit(embeddings, examples)
    if among is not None:
        names = {id_: name for id_, name in names.items() if name is not None or id_ in among}
    rows = _ranked(embeddings, names, model, label, order, limit)
    return Suggestions(classes, rows, _note(column, counts, examples))


def name_of(value: object) -> str | None:
    """A label; None for an empty one."""
    return None if value is None or str(value).strip() == "" else str(value)


def read_labels(collection: Storage, column: str) -> dict[str, str | None]:
    """The label of each row by its id; None for an empty one. Boxes that a person said are wrong are left out."""
    found: dict[str, str | None] = {}
    for batch in collection.scan(["id", column], without_wrong_boxes(None, collection.columns)):
        for id_, value in zip(batch["id"].to_pylist(), batch[column].to_pylist(), strict=True):
            found[id_] = name_of(value)
    return found


def _examples(
    names: dict[str, str | None], counts: Counter[str], unlabelled: list[str], seed: int
) -> dict[str, str | None]:
    """Ids and labels of the rows to fit to; None stands for something else."""
    rng = np.random.default_rng(seed)
    if len(counts) == 1:
        some = rng.choice(len(unlabelled), min(_OTHERS, len(unlabelled)), replace=False)
        others = dict.fromkeys((unlabelled[i] for i in some), None)
        mine = _drawn([id_ for id_, name in names.items() if name is not None], MOST_EXAMPLES, rng)
        return {id_: names[id_] for id_ in mine} | others
    room = min(MOST_EXAMPLES, max(_MOST_PRODUCTS // len(counts), len(counts)))
    if sum(counts.values()) <= room:
        return {id_: name for id_, name in names.items() if name is not None}
    of_each: dict[str, list[str]] = {}
    for id_, name in names.items():
        if name is not None:
            of_each.setdefault(name, []).append(id_)
    chosen: dict[str, str | None] = {}
    left = room
    # The small classes first: what they leave goes to the large ones.
    for number, name in enumerate(sorted(of_each, key=lambda each: (len(of_each[each]), each))):
        drawn = _drawn(of_each[name], max(1, left // (len(of_each) - number)), rng)
        chosen |= dict.fromkeys(drawn, name)
        left -= len(drawn)
    return chosen


def _drawn(ids: list[str], most: int, rng: np.random.Generator) -> list[str]:
    return ids if len(ids) <= most else [ids[i] for i in rng.choice(len(ids), most, replace=False)]


class _Model(NamedTuple):
    """A fitted classifier: its classes, "" for something else, and its layer."""

    classes: list[str]
    layer: Layer


def _stored(collection: Storage) -> Iterator[tuple[list[str], Vectors]]:
    for table, embeddings in collection.embedding_batches(("id",)):
        yield table["id"].to_pylist(), embeddings


def _fit(batches: Batches, examples: dict[str, str | None]) -> _Model:
    vectors: list[Vectors] = []
    labels: list[str] = []
    for ids, embeddings in batches():
        wanted = [number for number, id_ in enumerate(ids) if id_ in examples]
        vectors.append(embeddings[wanted])
        labels += [examples[ids[number]] or "" for number in wanted]
    classes, codes = np.unique(np.array(labels, dtype=object), return_inverse=True)
    if len(classes) < 2:
        raise ConfigError("All images have the same label. Give some images another label first.")
    layer = fit(np.concatenate(vectors), codes.astype(np.int64), _STRENGTH, exact=False)
    if classes[0] == "":
        # What stands for something else was drawn by us: how much of it there is says nothing about the images.
        layer = layer._replace(bias=layer.bias - np.log(np.bincount(codes)))
    return _Model(classes.tolist(), layer)


def _ranked(
    batches: Batches,
    names: Mapping[str, str | None],
    model: _Model,
    label: str | None,
    order: Order,
    limit: int,
) -> list[Suggestion]:
    """The first rows without a label in an order; only they are kept while all go by."""
    classes = np.array(model.classes, dtype=object)
    real = next(number for number, name in enumerate(model.classes) if name)
    best: list[tuple[float, str, str, float]] = []
    for ids, embeddings in batches():
        open_ = np.array([number for number, id_ in enumerate(ids) if names.get(id_, "") is None], np.int64)
        if not len(open_):
            continue
        chances = softmax(model.layer.logits(embeddings[open_]))
        every = np.arange(len(chances))
        top = chances.argmax(axis=1)
        certain = chances[every, top]
        others = chances.copy()
        others[every, top] = -1
        second = others.argmax(axis=1)
        keys = certain if order == "certain" else others[every, second] - certain
        kept = classes[top] != "" if order == "certain" else np.ones(len(top), np.bool_)
        if label is not None:
            fits = classes[top] == label
            kept &= fits if order == "certain" else fits | (classes[second] == label)
        chosen = np.flatnonzero(kept)
        if len(chosen) > limit:
            chosen = chosen[keys[chosen] >= np.partition(keys[chosen], -limit)[-limit]]
        shown = np.where(classes[top] == "", real, top)
        best += [
            (-float(keys[row]), ids[open_[row]], model.classes[shown[row]], float(chances[row, shown[row]]))
            for row in chosen.tolist()
        ]
        best = sorted(best)[:limit]
    return [Suggestion(id_, name, score) for _, id_, name, score in best]


def _note(column: str, counts: Counter[str], examples: dict[str, str | None]) -> str:
    used = sum(name is not None for name in examples.values())
    if len(counts) == 1:
        return (
            f"Fitted to {used:,} images with one {column} against others drawn at random. "
            "Label images of other classes to improve it."
        )
    drawn = "" if used == sum(counts.values()) else f", drawn from {sum(counts.values()):,}"
    return f"Fitted to {used:,} labelled images of {len(counts):,} kinds{drawn}."
