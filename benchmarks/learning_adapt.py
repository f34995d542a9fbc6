"""`adapt` and the bootstrap of `evaluate`, for benchmarks/learning.py: made collections, and what is done with them.

The embeddings are made (seed 0) in the shape of real ones, as benchmarks/search.py explains: a direction that all
share, and around it a class, a group (an animal, a burst) and an image, which share what variance is left. Classes are
long-tailed, the rows of a group are of one class.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

Vectors = npt.NDArray[np.float32]
AT_ONCE = 10_000
GROUP = 4
"""Rows of a group."""
FEWEST = 20
"""Rows of the rarest class."""
CLASS, ANIMAL, IMAGE = 0.30, 0.25, 0.45
"""Shares of the variance."""
RESAMPLES = 1000
PLAIN_RESAMPLES = 10
"""Of the plain loop, whose time is proportional to their number."""


def make_collection(path: Path, rows: int, size: int, classes: int) -> None:
    """A collection with the columns `label` and `animal`, unless it is there."""
    from birder.collection.storage import ModelCard, Storage, exists

    if exists(path):
        return
    import lancedb

    card = ModelCard("synthetic", "synthetic", "0" * 64, {"draft": True}, "import", "fp32", size)
    collection = Storage.create_or_open(path, card)
    with collection.writing():
        collection.add_columns({"animal": pa.string()})
        schema = pa.schema([(name, type_) for name, type_ in collection.columns.items()])
        images = lancedb.connect(path).open_table("images")
        images.add(pa.RecordBatchReader.from_batches(schema, _batches(rows, size, classes, schema)))


def make_labels(rows: int, classes: int, random: np.random.Generator) -> npt.NDArray[np.int64]:
    """A class for each row, int64 (N): long-tailed, groups of `GROUP` neighbouring rows alike."""
    groups = -(-rows // GROUP)
    fewest = FEWEST // GROUP
    weights = 1 / np.arange(1, classes + 1) ** 0.8
    rest = random.choice(classes, groups - fewest * classes, p=weights / weights.sum())
    of_group = random.permutation(np.concatenate([np.repeat(np.arange(classes), fewest), rest]))
    return np.repeat(of_group, GROUP)[:rows]


def _batches(rows: int, size: int, classes: int, schema: pa.Schema) -> Any:
    random = np.random.default_rng(0)
    axis = np.arange(size, dtype=np.float32)
    spread = (axis + 1) ** -0.45 * np.exp(-axis / 130)
    spread = np.sqrt(spread / spread.sum() * (1 - 0.77**2), dtype=np.float32)
    direction = random.standard_normal(size, dtype=np.float32)
    direction *= 0.77 / np.linalg.norm(direction)
    labels = make_labels(rows, classes, random)
    centres = random.standard_normal((classes, size), dtype=np.float32) * spread * CLASS**0.5
    for start in range(0, rows, AT_ONCE):
        numbers = np.arange(start, min(start + AT_ONCE, rows))
        animals = random.standard_normal((len(numbers) // GROUP + 1, size), dtype=np.float32) * spread * ANIMAL**0.5
        vectors = random.standard_normal((len(numbers), size), dtype=np.float32) * spread * IMAGE**0.5
        vectors += direction + centres[labels[numbers]] + animals[(numbers - start) // GROUP]
        columns: dict[str, pa.Array] = {
            "id": pa.array([f"{n:032x}" for n in numbers]),
            "uri": pa.array([f"file:///photos/{n:08}.jpg" for n in numbers]),
            "sha256": pa.array([f"{n:064x}" for n in numbers]),
            "embedding": pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), size),
            "label": pa.array([f"class {labels[n]:04}" for n in numbers]),
            "animal": pa.array([f"animal {n // GROUP}" for n in numbers]),
        }
        arrays = [columns.get(field.name, pa.nulls(len(numbers), field.type)) for field in schema]
        yield pa.RecordBatch.from_arrays([a.cast(f.type) for a, f in zip(arrays, schema, strict=True)], schema=schema)


def adapt_ours(path: Path, column: str = "label", group_by: str = "animal") -> dict[str, Any]:
    """`birder adapt`, all of it but the files."""
    import birder

    adapted = birder.open_collection(path).adapt(column, group_by=group_by, progress=None)
    metrics = adapted.metrics
    return {"top1": metrics["top1"]["estimate"], "log_loss": metrics["log_loss"]["estimate"]}


def adapt_plain(path: Path, iterations: int) -> dict[str, Any]:
    """One of the 46 fits of scikit-learn's `LogisticRegressionCV` with nine strengths and five folds, C = 0.1.

    All of them take longer than there is time for; where even one does, only its first iterations are run.
    """
    import warnings

    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    X, y, _ = _read(path, "label", "animal")
    X = StandardScaler().fit_transform(X)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it has not converged
        model = LogisticRegression(C=0.1, max_iter=iterations).fit(X, y)
    return {"iterations": int(model.n_iter_[0])}


def _read(path: Path, column: str, group_by: str) -> tuple[Vectors, npt.NDArray[np.object_], npt.NDArray[np.object_]]:
    import birder

    parts = [
        (vectors.copy(), table[column].to_pylist(), table[group_by].to_pylist())
        for table, vectors in birder.open_collection(path).embedding_batches(
            [column, group_by], f"{column} IS NOT NULL"
        )
    ]
    embeddings = np.concatenate([vectors for vectors, _, _ in parts])
    labels, groups = ([value for part in parts for value in part[place]] for place in (1, 2))
    return embeddings, np.array(labels, dtype=object), np.array(groups, dtype=object)


def make_predictions(rows: int, classes: int) -> pa.Table:
    """A table of predictions as `evaluate` has it, of a classifier that is right for three images in four."""
    from birder.evaluation.predictions import predictions_table

    random = np.random.default_rng(0)
    names = [f"class {code:04}" for code in range(classes)]
    labels = make_labels(rows, classes, random)
    logits = random.standard_normal((rows, classes), dtype=np.float32)
    logits[np.arange(rows), labels] += np.float32(3.8)
    logits = np.exp(logits, out=logits)
    probabilities = logits / logits.sum(axis=1, keepdims=True)
    numbers = range(rows)
    return predictions_table(
        [f"{n:032x}" for n in numbers],
        [f"file:///photos/{n:08}.jpg" for n in numbers],
        [f"animal {n // GROUP}" for n in numbers],
        [n // GROUP % 5 for n in numbers],
        [names[code] for code in labels],
        probabilities,
        names,
    )


def bootstrap_ours(table: pa.Table) -> dict[str, Any]:
    """All metrics with their intervals."""
    from birder.evaluation.evaluate import evaluate_predictions

    found = evaluate_predictions(table, resamples=RESAMPLES)
    return {name: [figure["low"], figure["high"]] for name, figure in found["metrics"].items()}


def bootstrap_plain(table: pa.Table) -> dict[str, Any]:
    """A loop over resamples of the groups, with scikit-learn's metrics on the rows of each."""
    from sklearn.metrics import accuracy_score, f1_score, recall_score

    true, predicted, groups = (table[name].to_numpy(zero_copy_only=False) for name in ("true", "predicted", "group"))
    probability = table["true_probability"].to_numpy()
    names, codes = np.unique(groups, return_inverse=True)
    order = np.argsort(codes, kind="stable")
    members = np.split(order, np.cumsum(np.bincount(codes))[:-1])
    random = np.random.default_rng(0)
    found = []
    for _ in range(PLAIN_RESAMPLES):
        rows = np.concatenate([members[each] for each in random.integers(0, len(names), len(names))])
        found.append(
            (
                accuracy_score(true[rows], predicted[rows]),
                recall_score(true[rows], predicted[rows], average="macro", zero_division=0),
                f1_score(true[rows], predicted[rows], average="macro", zero_division=0),
                -np.log(probability[rows]).mean(),
            )
        )
    return {"resamples": PLAIN_RESAMPLES, "top1": float(np.mean(found, axis=0)[0])}
