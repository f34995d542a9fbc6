"""Agreement with the published `birder.eval` on a Parquet that we export: neighbours, SimpleShot, retrieval, linear.

It runs in its own interpreter (BIRDER_PEERS, from `make peers`), on real embeddings of BioCLIP 2. Half of the rows of
each order are learned from; to our leave-one-out functions each half is a group.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq
import pytest

from birder.evaluation.linear_fit import fit
from birder.evaluation.neighbours import leave_one_out, named_by_neighbours
from birder.evaluation.retrieval import retrieve
from birder.formats.export import export
from birder.formats.import_embeddings import import_embeddings
from birder.naming.by_examples import name_by_examples

THEIRS = Path(__file__).with_name("evaluation_theirs.py")
DATA = Path(__file__).parents[1] / "data" / "bioclip2-tol200m-1030.parquet"
LEAST = 10


class Both(NamedTuple):
    """The rows that are compared, ours; which of them are learned from; a layer fitted on these; their figures."""

    embeddings: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int64]
    train: npt.NDArray[np.bool_]
    layer: tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]
    theirs: dict[str, Any]

    @property
    def halves(self) -> npt.NDArray[np.int64]:
        return self.train.astype(np.int64)


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Both:
    folder = tmp_path_factory.mktemp("birder-eval")
    collection = import_embeddings(DATA, folder / "c.birder", model="bioclip-2").collection
    export(collection, folder / "e.parquet", "birder-eval", by="order")
    table = pq.read_table(folder / "e.parquet")
    x = np.stack(table["embedding"].to_numpy()).astype(np.float32)
    labels = table["label"].to_numpy()
    random = np.random.default_rng(0)
    train, test = np.zeros(len(x), np.bool_), np.zeros(len(x), np.bool_)
    for label in range(labels.max() + 1):
        rows = random.permutation(np.flatnonzero(labels == label))
        if len(rows) >= LEAST:
            train[rows[::2]] = test[rows[1::2]] = True
    some = train | test
    layer = fit(x[train], labels[train], 0.01, classes=int(labels.max()) + 1)
    np.savez(
        folder / "split.npz",
        train=train,
        test=test,
        weight=layer.weight.astype(np.float32),
        bias=layer.bias.astype(np.float32),
    )
    job = {"parquet": str(folder / "e.parquet"), "split": str(folder / "split.npz")}
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [Path(os.environ["BIRDER_PEERS"]).absolute(), THEIRS],
        input=json.dumps(job),
        env=environment,
        cwd=folder,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    theirs = json.loads(done.stdout)
    assert theirs["ids"] == [PurePosixPath(sample).stem for sample in table["sample"].to_pylist()]
    return Both(x[some], labels[some], train[some], (layer.weight, layer.bias), theirs)


@pytest.mark.parametrize("k", [1, 24])
def test_neighbours_name_the_same(both: Both, k: int) -> None:
    named = named_by_neighbours(leave_one_out(both.embeddings, k, groups=both.halves), both.labels, k)
    assert named[~both.train].tolist() == both.theirs[f"knn {k}"]


def test_simpleshot_names_the_same_on_vectors_of_length_1(both: Both) -> None:
    labels = [f"{label:03}" for label in both.labels[both.train]]
    classifier = name_by_examples(both.embeddings[both.train], labels).classifier
    top = classifier.predict(both.embeddings[~both.train], 1)
    assert [int(classifier.classes[index]) for index in top.indices[:, 0]] == both.theirs["simpleshot"]


def test_retrieval_has_the_same_figures(both: Both) -> None:
    found = retrieve(both.embeddings, both.labels, groups=both.halves)
    queries = ~both.train
    assert found.judged.all()
    assert found.average_precision[queries].mean() == pytest.approx(both.theirs["map"], abs=1e-6)
    recall = [(found.first[queries] <= k).mean() for k in (1, 5, 10)]
    assert recall == pytest.approx(both.theirs["recall"])


def test_their_probe_reads_our_layer_and_ours_is_at_least_as_good_as_what_they_train(both: Both) -> None:
    weight, bias = both.layer
    named = (both.embeddings[~both.train] @ weight.T + bias).argmax(axis=1)
    assert named.tolist() == both.theirs["our layer"]
    right = both.labels[~both.train]
    assert (named == right).mean() >= (np.array(both.theirs["their layer"]) == right).mean() - 0.02
