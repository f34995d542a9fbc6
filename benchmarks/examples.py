"""How often names by examples are right, by both methods: the table of docs/names.md.

    .venv/bin/python benchmarks/examples.py [GROCERY]

GROCERY is a collection of the Grocery Store Dataset's folders train and val (`birder embed train val --in GROCERY`);
the other rows are of the BioCLIP 2 embeddings in tests/data. Mean accuracy in percent over ten random draws.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq

import birder
from birder.naming.by_examples import name_by_examples

DATA = Path(__file__).parents[1] / "tests" / "data" / "bioclip2-tol200m-1030.parquet"
DRAWS = 10

Vectors = npt.NDArray[np.float32]
Names = npt.NDArray[np.str_]


def accuracy(x: Vectors, labels: Names, learned: npt.NDArray[np.bool_], method: str) -> float:
    """The share of right names of the rows that are not learned from and whose class is."""
    names = name_by_examples(x[learned], labels[learned].tolist(), method=method)
    asked = ~learned & np.isin(labels, labels[learned])
    found = np.array(names.classifier.classes)[names.classifier.predict(x[asked], 1).indices[:, 0]]
    return float((found == labels[asked]).mean())


def draw(labels: Names, of_each: float, seed: int) -> npt.NDArray[np.bool_]:
    """Rows to learn from: a number of each class, or a share of it below 1; one row of each is always left to name."""
    random = np.random.default_rng(seed)
    learned = np.zeros(len(labels), np.bool_)
    for label in np.unique(labels):
        rows = random.permutation(np.flatnonzero(labels == label))
        count = round(of_each * len(rows)) if of_each < 1 else int(of_each)
        learned[rows[: min(count, len(rows) - 1)]] = True
    return learned


def row(title: str, x: Vectors, labels: Names, of_each: float) -> str:
    """A row of the table."""
    figures = [
        100 * np.mean([accuracy(x, labels, draw(labels, of_each, seed), method) for seed in range(DRAWS)])
        for method in ("simpleshot", "knn")
    ]
    return f"| {title} | {figures[0]:.1f} | {figures[1]:.1f} |"


def main() -> None:
    """Print the table."""
    if len(sys.argv) > 1:
        table = birder.open_collection(sys.argv[1]).to_arrow(["uri", "label", "embedding"])
        x = np.stack(table["embedding"].to_numpy())
        labels = np.array(table["label"].to_pylist())
        learned = np.array(["/train/" in uri for uri in table["uri"].to_pylist()])
        figures = [100 * accuracy(x, labels, learned, method) for method in ("simpleshot", "knn")]
        print(f"| Grocery: the training set, the validation set | {figures[0]:.1f} | {figures[1]:.1f} |", flush=True)
        for title, of_each in (("5 of each class", 5), ("20 of each class", 20), ("three quarters", 0.75)):
            print(row(f"Grocery: {title}, the rest", x, labels, of_each), flush=True)
    known = pq.read_table(DATA)
    vectors = np.stack(known["emb"].to_numpy()).astype(np.float32)
    for rank, of_each in (("order", 5), ("family", 5), ("genus", 1), ("class", 0.75), ("family", 0.75)):
        names = np.array([name or "" for name in known[rank].to_pylist()])
        counts = dict(zip(*np.unique(names, return_counts=True), strict=True))
        kept = np.array([bool(name) and counts[name] > max(1, of_each) for name in names])
        title = f"{of_each:g} of each" if of_each >= 1 else "three quarters"
        print(row(f"TreeOfLife, {rank}: {title}, the rest", vectors[kept], names[kept], of_each), flush=True)


if __name__ == "__main__":
    main()
