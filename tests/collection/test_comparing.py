"""Two models on the same images: what is compared, against scikit-learn and scipy, and what is refused."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import binomtest
from sklearn.metrics import accuracy_score, cohen_kappa_score, recall_score
from sklearn.neighbors import NearestNeighbors
from typer.testing import CliRunner, Result

import birder
from birder.cli import app
from birder.collection import comparing
from birder.collection.storage import Storage
from birder.errors import CollectionError, ConfigError, UnknownNameError
from tests.factory import clusters, collection_of_vectors

ROWS = 90
KINDS = ["fox", "owl", "wren"]
Made = tuple[Storage, Storage, dict[str, list[Any]]]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Two collections of the same 90 images by two models, the second with five more and without the first ten."""
    folder = tmp_path_factory.mktemp("two")
    vectors, _ = clusters(3, ROWS // 3, spread=0.6)
    random = np.random.default_rng(1)
    labels = [KINDS[i // (ROWS // 3)] for i in range(ROWS)]
    names = [f"p/{i:03}.jpg" for i in range(ROWS + 5)]

    def named(wrong: float) -> list[str | None]:
        return [str(random.choice(KINDS)) if random.random() < wrong else label for label in labels]

    first: dict[str, list[Any]] = {
        "label": [None if i % 9 == 0 else label for i, label in enumerate(labels)],
        "site": [f"S{i // 3}" for i in range(ROWS)],
        "predicted_label": named(0.2),
    }
    second: dict[str, list[Any]] = {"predicted_label": [*named(0.5), *["fox"] * 5]}
    first["predicted_label"][20] = None
    other = np.concatenate([vectors, vectors[:5]]) @ random.normal(size=(vectors.shape[1], 6))
    other += random.normal(size=other.shape)
    one = collection_of_vectors(folder / "one.birder", vectors, names=names[:ROWS], columns=first)
    two = collection_of_vectors(
        folder / "two.birder", other[10:], names=names[10:], columns={k: v[10:] for k, v in second.items()}
    )
    return one, two, {**first, "second": second["predicted_label"]}


@pytest.fixture(scope="module")
def results(made: Made) -> dict[str, Any]:
    return birder.open_collection(made[0].path).compare(made[1].path, progress=None).results


def run(*arguments: object) -> Result:
    done = CliRunner().invoke(app, ["compare", *map(str, arguments)])
    assert done.exit_code == 0, done.output
    return done


def test_images_in_both_are_counted_and_content_that_differs(results: dict[str, Any]) -> None:
    assert results["images"] == {"both": 80, "only_in_first": 10, "only_in_second": 5, "content_differs": 80}
    assert [each["embedding_size"] for each in results["models"]] == [16, 6]


def test_common_neighbours_are_those_of_scikit_learn(made: Made, results: dict[str, Any]) -> None:
    near = []
    for storage in made[:2]:
        rows = {
            uri: vector
            for table, vectors in storage.embedding_batches(["uri"])
            for uri, vector in zip(table["uri"].to_pylist(), vectors, strict=True)
        }
        matrix = np.stack([rows[f"file:///p/{i:03}.jpg"] for i in range(10, ROWS)])
        found = NearestNeighbors(n_neighbors=10, metric="cosine").fit(matrix).kneighbors(return_distance=False)
        near.append([set(row) for row in found.tolist()])
    share = np.mean([len(a & b) / 10 for a, b in zip(*near, strict=True)])
    told = results["neighbours"]
    assert told["shared"] == pytest.approx(share) and (told["k"], told["n"], told["of"]) == (10, 80, 80)
    assert 2 * told["chance"] < told["shared"] < 1 and told["chance"] == pytest.approx(10 / 79)


def test_names_agree_as_often_as_scikit_learn_says(made: Made, results: dict[str, Any]) -> None:
    values = made[2]
    pairs = [(a, b) for a, b in zip(values["predicted_label"][10:], values["second"][10:ROWS], strict=True) if a]
    told = results["names"]
    assert told["column"] == "predicted_label" and told["n"] == len(pairs) == 79 and told["only_second_named"] == 1
    ones, others = zip(*pairs, strict=True)
    assert told["agreement"] == pytest.approx(accuracy_score(ones, others))
    assert told["kappa"] == pytest.approx(cohen_kappa_score(ones, others))
    assert [each["first"] for each in told["classes"]] == [ones.count(kind) for kind in KINDS]
    assert sum(each["n"] for each in told["differences"]) == told["n"] - told["same"]
    assert [each["n"] for each in told["differences"]] == sorted((e["n"] for e in told["differences"]), reverse=True)


def test_the_better_model_is_told_over_all_and_by_class(made: Made, results: dict[str, Any]) -> None:
    values = made[2]
    rows = [i for i in range(10, ROWS) if values["label"][i]]
    true = [values["label"][i] for i in rows]
    named = [[values[column][i] or "" for i in rows] for column in ("predicted_label", "second")]
    told = results["accuracy"]
    assert told["n"] == len(rows)
    for side, names in zip(("first", "second"), named, strict=True):
        assert told[side]["top1"] == pytest.approx(accuracy_score(true, names))
        recalls = recall_score(true, names, labels=KINDS, average=None, zero_division=0)
        assert [each[side] for each in told["classes"]] == pytest.approx(recalls.tolist())
    right = [np.array(names) == np.array(true) for names in named]
    only = [int((right[0] & ~right[1]).sum()), int((right[1] & ~right[0]).sum())]
    assert told["mcnemar_p"] == pytest.approx(binomtest(only[0], sum(only)).pvalue)
    assert [told["only_first_right"], told["only_second_right"]] == only
    assert told["difference"]["top1"]["low"] > 0  # the first was made better
    for each in told["classes"]:
        assert each["difference"]["estimate"] == pytest.approx(each["first"] - each["second"])
        assert each["difference"]["low"] <= each["difference"]["estimate"] <= each["difference"]["high"]
    assert sum(each["only_first_right"] for each in told["classes"]) == only[0]


def test_groups_and_filters_are_those_of_the_first(made: Made) -> None:
    collection = birder.open_collection(made[0].path)
    found = collection.compare(made[1].path, group_by="site", where="label IN ('owl', 'wren')", progress=None)
    assert found.results["groups"]["kind"] == "columns" and "only_in_second" not in found.results["images"]
    assert found.difference["top1"]["interval"] == "bootstrap over groups"
    assert {each["name"] for each in found.results["accuracy"]["classes"]} == {"owl", "wren"}
    assert found.agreement == found.results["names"]["agreement"]


def test_without_predictions_the_nearest_labelled_image_names(tmp_path: Path, made: Made) -> None:
    vectors, _ = clusters(3, ROWS // 3, spread=0.6)
    labels = [KINDS[i // (ROWS // 3)] for i in range(ROWS)]
    good = collection_of_vectors(tmp_path / "good.birder", vectors, columns={"label": labels})
    noise = np.random.default_rng(3).normal(size=vectors.shape)
    bad = collection_of_vectors(tmp_path / "bad.birder", noise)
    found = birder.open_collection(good.path).compare(bad.path, split="random", progress=None)
    assert found.difference["top1"]["low"] > 0.3 and found.results["names"]["column"] is None
    again = birder.open_collection(bad.path).compare(good.path, split="random", progress=None)  # labels of the other
    assert again.difference["top1"]["estimate"] == pytest.approx(-found.difference["top1"]["estimate"])
    assert again.neighbours == found.neighbours


def test_a_label_that_differs_leaves_its_image_out(tmp_path: Path) -> None:
    vectors, _ = clusters(2, 10)
    labels = ["fox"] * 10 + ["owl"] * 10
    paths = [
        collection_of_vectors(
            tmp_path / f"{i}.birder", vectors, columns={"label": each, "predicted_label": labels}
        ).path
        for i, each in enumerate([labels, ["wren", *labels[1:]]])
    ]
    found = birder.open_collection(paths[0]).compare(paths[1], progress=None).results
    assert (found["accuracy"]["n"], found["accuracy"]["labels_differ"]) == (19, 1)


def test_unlabelled_images_are_compared_all_the_same(tmp_path: Path) -> None:
    vectors, _ = clusters(2, 10)
    paths = [collection_of_vectors(tmp_path / f"{i}.birder", vectors[:, : 16 - i]).path for i in range(2)]
    found = birder.open_collection(paths[0]).compare(paths[1], progress=None)
    assert found.difference == {} and found.agreement is None and found.neighbours is not None
    assert any("which model is right is not known" in each for each in found.results["notes"])
    assert "nearest images of an image" in run(*paths).stdout


def test_of_many_images_some_are_drawn(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comparing, "SAMPLE", 30)
    collection = birder.open_collection(made[0].path)
    one, again, other = (
        collection.compare(made[1].path, seed=seed, progress=None).results["neighbours"] for seed in (0, 0, 1)
    )
    assert (one["n"], one["of"]) == (30, 80) and one == again != other


def test_what_cannot_be_compared_is_refused(made: Made, tmp_path: Path) -> None:
    collection = birder.open_collection(made[0].path)
    stranger = collection_of_vectors(tmp_path / "s.birder", np.eye(3, 4), names=["x", "y", "z"])
    with pytest.raises(CollectionError, match="none of the images"):
        collection.compare(stranger.path, progress=None)
    with pytest.raises(UnknownNameError, match="predicted_genus"):
        collection.compare(made[1].path, predictions="predicted_genus", progress=None)
    with pytest.raises(ConfigError, match="not text"):
        collection.compare(made[1].path, "width", progress=None)
    with pytest.raises(ConfigError, match="neighbour"):
        collection.compare(made[1].path, k=0, progress=None)


@pytest.mark.slow
def test_the_command_tells_programs_and_people_the_same(made: Made, results: dict[str, Any], tmp_path: Path) -> None:
    told = json.loads(run(*(each.path for each in made[:2]), "--format", "json").stdout)
    assert told == json.loads(json.dumps(results))
    rows = list(csv.DictReader(io.StringIO(run(*(each.path for each in made[:2]), "--format", "csv").stdout)))
    (top1,) = [each for each in rows if (each["what"], each["name"]) == ("figure", "top1")]
    assert float(top1["difference"]) == pytest.approx(results["accuracy"]["difference"]["top1"]["estimate"])
    assert [each["name"] for each in rows if each["what"] == "recall"] == KINDS
    said = run(*(each.path for each in made[:2])).stdout
    assert "80 images in both collections, 10 only in" in said
    assert f"{results['neighbours']['shared']:.1%} are the same by both models" in said
    assert "McNemar's exact test" in said and "percentage points more of the" in said
    run(made[0].path, made[0].path)  # one collection beside itself
