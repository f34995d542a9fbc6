"""Evaluating what is in collections: what is counted, what is left out, and what is said of it."""

from __future__ import annotations

import hashlib
import json
import re
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import birder
from birder.collection.evaluating import _left_out
from birder.collection.judged_rows import read_rows
from birder.collection.storage import Storage
from birder.errors import CollectionError, ConfigError, FilterError, UnknownNameError, WrongModelError
from birder.inference.classifier import Classifier, as_examples
from tests.factory import clusters, collection_of_columns, collection_of_images, collection_of_vectors

ROWS, KINDS_OF = 120, 4
SPECIES = ["Bubo bubo", "Strix aluco", "Pica pica", "Corvus corax"]
FAMILY = dict(zip(SPECIES, ["Strigidae", "Strigidae", "Corvidae", "Corvidae"], strict=True))
Vectors = np.ndarray[Any, np.dtype[np.float32]]


def columns(seed: int = 0) -> tuple[Vectors, dict[str, list[Any]]]:
    """Vectors in four clusters, each site with five images of a species; every fourth prediction is wrong."""
    vectors, _ = clusters(KINDS_OF, ROWS // KINDS_OF, spread=0.6)
    species = [SPECIES[i // (ROWS // KINDS_OF)] for i in range(ROWS)]
    random = np.random.default_rng(seed)
    wrong = random.random(ROWS) < 0.25
    named = [SPECIES[(SPECIES.index(each) + 1) % 4] if bad else each for each, bad in zip(species, wrong, strict=True)]
    return vectors, {
        "species": species,
        "family": [FAMILY[each] for each in species],
        "site": [f"site {i // 5}" for i in range(ROWS)],
        "night": [i % 2 == 0 for i in range(ROWS)],
        "predicted_species": [None if i < 3 else each for i, each in enumerate(named)],
        "predicted_family": [None if i < 3 else FAMILY[each] for i, each in enumerate(named)],
        "predicted_score": [None if i < 3 else 0.9 if good else 0.4 for i, good in enumerate(~wrong)],
    }


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Storage:
    vectors, values = columns()
    return collection_of_vectors(tmp_path_factory.mktemp("c") / "c.birder", vectors, columns=values)


@pytest.fixture(scope="module")
def collection(storage: Storage) -> birder.Collection:
    return birder.open_collection(storage.path)


@pytest.fixture(scope="module")
def judged(collection: birder.Collection) -> birder.Evaluation:
    return collection.evaluate(
        "species", predictions="predicted_species", group_by="site", by=["night", "site"], progress=None
    )


def test_predictions_are_counted_against_the_labels(judged: birder.Evaluation) -> None:
    from sklearn.metrics import accuracy_score, f1_score

    _, values = columns()
    named = [each or "" for each in values["predicted_species"]]
    assert judged["accuracy"] == judged["top1"] == pytest.approx(accuracy_score(values["species"], named))
    given = [(true, name) for true, name in zip(values["species"], named, strict=True)]
    wanted = f1_score(*zip(*given, strict=True), average="macro", labels=SPECIES)
    assert judged["macro_f1"] == pytest.approx(float(wanted))
    assert judged.results["n"] == len(judged.predictions) == ROWS
    top1 = judged.metrics["top1"]
    assert top1["low"] < top1["estimate"] < top1["high"]
    assert top1["interval"] == "bootstrap over groups"
    assert judged.results["groups"]["kind"] == "columns" and judged.results["groups"]["count"] == ROWS // 5


def test_ranks_are_rolled_up_and_groups_are_told_the_worst_first(judged: birder.Evaluation) -> None:
    _, values = columns()
    ranks = {each["rank"]: each["accuracy"]["estimate"] for each in judged.results["ranks"]}
    right = [a == b for a, b in zip(values["family"], values["predicted_family"], strict=True)]
    assert ranks["family"] == pytest.approx(np.mean(right))
    assert ranks["species"] == judged["top1"]
    worst = judged.results["by_group"]
    assert {each["column"] for each in worst} == {"night", "site"}
    assert [each["accuracy"]["estimate"] for each in worst] == sorted(each["accuracy"]["estimate"] for each in worst)


def test_what_has_no_prediction_counts_as_wrong_and_is_said(judged: birder.Evaluation) -> None:
    assert any(
        note.startswith("3 of 120 images have no prediction and count as wrong") for note in judged.results["notes"]
    )
    assert judged.metrics["coverage"]["estimate"] == pytest.approx(117 / 120)


def digests(storage: Storage) -> dict[str, str]:
    """The digest of each row's file by the row's id: rows are in its order."""
    table = storage.to_arrow()
    return dict(zip(table["id"].to_pylist(), table["sha256"].to_pylist(), strict=True))


def test_it_is_written_and_says_how_it_was_made(judged: birder.Evaluation, storage: Storage, tmp_path: Path) -> None:
    page = judged.save(tmp_path / "report", command="birder evaluate c.birder")
    assert "How good are the names in predicted_species?" in page.read_text()
    found = json.loads((page.parent / "metrics.json").read_text())
    assert found["model"]["sha256"] == storage.model.sha256
    assert found["asked"]["command"] == "birder evaluate c.birder"
    assert {"transform", "engine", "seeds", "versions", "schema"} <= found.keys()
    assert pq.read_table(page.parent / "predictions.parquet").equals(judged.predictions)
    ids = judged.predictions["id"].to_pylist()
    assert ids == sorted(ids, key=digests(storage).__getitem__)


def test_the_same_rows_and_seed_give_the_same_figures(collection: birder.Collection) -> None:
    first, second = (
        collection.evaluate("species", predictions="predicted_species", protocols=["clusters", "linear"], progress=None)
        for _ in range(2)
    )
    assert first.results == second.results


def test_the_filter_and_rows_without_a_label(tmp_path: Path) -> None:
    collection_of_images(tmp_path, 40, labelled=20)
    collection = birder.open_collection(tmp_path / "c.birder")
    found = collection.evaluate("label", protocols=["retrieval"], where="night = true", split="random", progress=None)
    assert found.results["n"] == 10
    assert "10 images without a label in label were not judged." in found.results["notes"]
    assert "retrieval.map" in found.metrics
    assert len(found.predictions) == 0
    assert found.metrics["retrieval.map"]["n"] == 10


@pytest.mark.parametrize(
    ("asked", "error", "said"),
    [
        ({}, ConfigError, "Say what to evaluate"),
        ({"predictions": "predicted_specis"}, UnknownNameError, "predicted_species"),
        ({"predictions": "species"}, ConfigError, "the same column"),
        ({"predictions": "predicted_species", "model": "x.pt"}, ConfigError, "one at a time"),
        ({"protocols": ["knnn"]}, UnknownNameError, "knn"),
        ({"protocols": ["knn"], "as_": "bioclip-v1"}, ConfigError, "few-shot"),
        ({"protocols": ["knn"], "group_by": "sight"}, UnknownNameError, "site"),
        ({"protocols": ["knn"], "by": "sight"}, UnknownNameError, "site"),
        ({"protocols": ["knn"], "where": "specis = 1"}, FilterError, "species"),
        ({"protocols": ["knn"], "where": "site = 'nowhere'"}, CollectionError, "No row of .* that matches the filter"),
        ({"column": "night", "protocols": ["knn"]}, ConfigError, "not text"),
        ({"column": "specis", "protocols": ["knn"]}, UnknownNameError, "species"),
        ({"protocols": ["knn"], "where": "site = 'site 0'"}, ConfigError, "two classes"),
    ],
)
def test_what_cannot_be_judged_is_refused_in_words(
    collection: birder.Collection, asked: dict[str, Any], error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said):
        collection.evaluate(**{"column": "species", "progress": None, **asked})


def test_a_metric_that_is_not_there_is_named(judged: birder.Evaluation) -> None:
    with pytest.raises(UnknownNameError, match="top1"):
        judged["top_1"]


def classifier_for(storage: Storage, training: list[int], directory: Path, classes: list[str]) -> Path:
    """A classifier by class means, detached, that knows which rows it was trained on."""
    vectors, values = columns()
    means = np.stack([vectors[[s == name for s in values["species"]]].mean(axis=0) for name in classes])
    sha256 = [row["sha256"] for row in storage.snapshot().to_table(["uri", "sha256"]).sort_by("uri").to_pylist()]
    adaptation = {
        "schema": 1,
        "column": "species",
        "temperature": 2.0,
        "training": sorted(sha256[i][:16] for i in training),
        "unknown": {"k": 1, "threshold": 0.3, "kept": 0.95, "how": "made up"},
        "conformal": {"level": 0.9, "kind": "marginal", "quantiles": 0.9},
        "ranks": None,
        "metrics": {},
        "backbone": {
            "name": storage.model.name,
            "network": None,
            "sha256": None,
            "weights_sha256": storage.model.sha256,
            "dimension": vectors.shape[1],
        },
    }
    made = Classifier(
        tuple(classes), means.astype(np.float32) * 4, np.zeros(len(classes), np.float32), adaptation,
        as_examples(vectors[training]),
    )  # fmt: skip
    return made.save(directory / "means.head.safetensors")


def test_what_a_classifier_was_trained_on_is_left_out(
    storage: Storage, collection: birder.Collection, tmp_path: Path
) -> None:
    training = [*range(0, 10), *range(40, 50), *range(70, 80), *range(100, 110)]
    file = classifier_for(storage, training, tmp_path, sorted(SPECIES))
    found = collection.evaluate("species", model=file, progress=None)
    assert found.results["n"] == ROWS - len(training)
    assert any(note.startswith("40 images were left out") for note in found.results["notes"])
    vectors, values = columns()
    logits = Classifier.load(file).decision_function(vectors)
    rest = np.setdiff1d(np.arange(ROWS), training)
    named = np.array(sorted(SPECIES), object)[logits[rest].argmax(axis=1)]
    assert found["accuracy"] == pytest.approx(np.mean(named == np.array(values["species"], object)[rest]))
    assert {"top3", "log_loss", "brier", "ece", "ece_uncalibrated", "set_coverage", "set_size"} <= found.metrics.keys()
    assert found.results["asked"]["classifier"] == "means.head.safetensors"


def test_every_figure_can_be_computed_again_from_the_files(
    storage: Storage, collection: birder.Collection, tmp_path: Path
) -> None:
    from birder.evaluation.evaluate import evaluate_predictions
    from birder.evaluation.unknown_table import scores_of

    file = classifier_for(storage, [*range(0, 10), *range(40, 50)], tmp_path, ["Bubo bubo", "Strix aluco"])
    collection.evaluate("species", model=file, group_by="site", report=tmp_path / "r", progress=None)
    written = json.loads((tmp_path / "r" / "metrics.json").read_text())
    scores, of = scores_of(pq.read_table(tmp_path / "r" / "unknown.parquet"))
    again = evaluate_predictions(
        pq.read_table(tmp_path / "r" / "predictions.parquet"),
        classes=["Bubo bubo", "Strix aluco"],
        by=written["asked"]["by"],
        unknown=scores,
        unknown_groups=of,
    )
    assert {"unknown_auroc", "unknown_fpr95", "set_size", "ece", "lca_height"} <= again["metrics"].keys()
    assert written["metrics"]["unknown_auroc"]["interval"] == "bootstrap over groups"
    for key in set(again) - {"groups"}:
        assert json.loads(json.dumps(again[key])) == written[key], key
    assert again["groups"]["count"] == len(
        {*pq.read_table(tmp_path / "r" / "predictions.parquet")["group"].to_pylist()}
    )

    # An earlier report's scores do not stay beside one that has none.
    collection.evaluate("species", protocols="clusters", report=tmp_path / "r", progress=None)
    assert not (tmp_path / "r" / "unknown.parquet").exists()


def test_night_and_day_are_told_apart_where_enough_images_have_a_time(tmp_path: Path) -> None:
    rows = {}
    for i in range(60):
        by_night = i % 3 == 0
        moment = datetime(2024, 6, 20, 23 if by_night else 11, i, 5)
        right = not by_night or i % 2 == 0
        place = {"deployment": f"d{i % 4}"} | ({"latitude": 50.0, "longitude": 8.0} if i < 30 else {})
        label = "ab"[i // 2 % 2]
        rows[f"file:///{i:03}.jpg"] = (
            place | {"taken_at": moment, "label": label} | {"predicted_label": label if right else "c"}
        )
    types = {"label": pa.string(), "predicted_label": pa.string(), "deployment": pa.string()}
    collection_of_columns(tmp_path / "c.birder", rows, types)
    collection = birder.open_collection(tmp_path / "c.birder")
    found = collection.evaluate("label", predictions="predicted_label", progress=None)
    told = {(each["column"], each["value"]): each["accuracy"] for each in found.results["by_group"]}
    assert {column for column, _ in told} == {"deployment", "night_or_day"}
    assert told["night_or_day", "night"]["n"] == 20 and told["night_or_day", "night"]["estimate"] == 0.5
    assert told["night_or_day", "day"]["n"] == 40 and told["night_or_day", "day"]["estimate"] == 1
    assert found.predictions["night_or_day"].to_pylist().count("night") == 20
    fewer = collection.evaluate("label", predictions="predicted_label", where="uri <> 'file:///000.jpg'", progress=None)
    assert "night_or_day" not in fewer.predictions.column_names


def test_near_duplicates_of_training_images_are_left_out(tmp_path: Path) -> None:
    vectors, values = columns()
    first = collection_of_vectors(tmp_path / "first.birder", vectors, columns=values)
    file = classifier_for(first, list(range(ROWS)), tmp_path, sorted(SPECIES))
    mixed = vectors.copy()
    mixed[:60] *= 3.0  # the same directions: cosine 1
    mixed[60:] = np.random.default_rng(5).normal(size=mixed[60:].shape)
    sha256 = [hashlib.sha256(f"other {i}".encode()).hexdigest() for i in range(ROWS)]
    collection_of_vectors(tmp_path / "other.birder", mixed, columns=values, sha256=sha256)
    found = birder.open_collection(tmp_path / "other.birder").evaluate("species", model=file, progress=None)
    assert found.results["n"] == 60
    with pytest.raises(CollectionError, match="was trained on all 120 labelled images"):
        birder.open_collection(first.path).evaluate("species", model=file, progress=None)


@pytest.mark.parametrize(
    ("training", "examples", "seen", "said"),
    [
        (
            ["a"],
            0,
            1,
            "1 image was left out because the classifier was trained on .* not looked",
        ),
        (["a"], 0, 0, "No image was left out because the classifier was trained on them. Near-duplicates"),
        (["a", "b"], 1, 0, r"No image, and no near-duplicate of one, .* looked for among 1 of the 2 training images\."),
        (["a", "b"], 2, 2, r"2 images were left out, .* \(cosine >= 0.98\)\.$"),
        ([], 0, 0, "does not say which images"),
    ],
)
def test_what_could_not_be_looked_for_is_said(training: list[str], examples: int, seen: int, said: str) -> None:
    kept = as_examples(np.eye(2, dtype=np.float32)[:examples]) if examples else None
    weight, bias = np.eye(2, dtype=np.float32), np.zeros(2, np.float32)
    classifier = Classifier(("a", "b"), weight, bias, {"training": training}, kept)
    (note,) = _left_out(np.arange(3) < seen, classifier)
    assert re.search(said, note), note


def test_labels_that_a_classifier_does_not_know_measure_the_unknown(
    storage: Storage, collection: birder.Collection, tmp_path: Path
) -> None:
    file = classifier_for(storage, [*range(0, 10), *range(40, 50)], tmp_path, ["Bubo bubo", "Strix aluco"])
    found = collection.evaluate("species", model=file, progress=None)
    assert found.results["n"] == 40
    assert any("60 images have a label that the classifier does not know" in note for note in found.results["notes"])
    assert found["unknown_auroc"] > 0.6
    with pytest.raises(ConfigError, match="None of the labels is a class"):
        collection.evaluate("species", model=file, where="species LIKE 'P%'", progress=None)


def test_a_classifier_of_another_model_is_refused(storage: Storage, tmp_path: Path) -> None:
    file = classifier_for(storage, [0], tmp_path, sorted(SPECIES))
    other = collection_of_vectors(
        tmp_path / "o.birder", np.random.default_rng(0).normal(size=(9, 8)), columns={"species": ["a", "b", "c"] * 3}
    )
    with pytest.raises(WrongModelError, match=r"means\.head"):
        birder.open_collection(other.path).evaluate("species", model=file, progress=None)


def test_two_models_are_compared_on_the_images_that_both_have(storage: Storage, tmp_path: Path) -> None:
    vectors, values = columns()
    better = {key: each[:100] for key, each in values.items()}
    better["predicted_species"] = better["species"]
    noise = np.random.default_rng(3).normal(size=(ROWS, vectors.shape[1]))
    names = [f"p/{i:05d}.jpg" for i in range(100)]
    other = collection_of_vectors(tmp_path / "better.birder", noise[:100], names=names, columns=better)
    collection = birder.open_collection(storage.path)
    found = collection.evaluate(
        "species", predictions="predicted_species", against=other.path, group_by="site", progress=None
    ).results["comparison"]
    assert found["n"] == 100
    assert found["neither_right"] == found["only_first_right"] == 0
    assert found["difference"]["top1"]["estimate"] == pytest.approx(-found["only_second_right"] / 100)
    assert found["difference"]["top1"]["high"] < 0 and found["mcnemar_p"] < 0.001
    assert found["names"] == [str(storage.path), str(other.path)]  # the models have the same name

    embeddings = collection.evaluate("species", against=birder.open_collection(other.path), progress=None)
    assert embeddings.results["comparison"]["difference"]["top1"]["low"] > 0  # noise says nothing
    assert "nearest image" in embeddings.results["comparison"]["how"]
    with pytest.raises(CollectionError, match="none of the labelled images"):
        stranger = collection_of_vectors(tmp_path / "s.birder", vectors[:2], names=["x.jpg", "y.jpg"])
        collection.evaluate("species", against=stranger.path, progress=None)


def test_images_that_no_other_group_can_name_are_not_compared(tmp_path: Path) -> None:
    vectors, values = columns()
    other = collection_of_vectors(tmp_path / "o.birder", np.roll(vectors, 1, axis=1), columns=values)
    alike = collection_of_vectors(
        tmp_path / "alike.birder",
        np.ones_like(vectors) + 0.001 * vectors,
        columns=values,
        sha256=[row["sha256"] for row in other.snapshot().to_table(["uri", "sha256"]).sort_by("uri").to_pylist()],
    )
    with pytest.raises(CollectionError, match="all images of a label belong together"):
        birder.open_collection(alike.path).evaluate("species", against=other.path, progress=None)
    one_site = {
        **values,
        "site": ["site 0" if each == "Pica pica" else f"{i}" for i, each in enumerate(values["species"])],
    }
    first = collection_of_vectors(tmp_path / "f.birder", vectors, columns=one_site)
    found = birder.open_collection(first.path).evaluate("species", against=other.path, group_by="site", progress=None)
    assert found.results["n"] == 90
    assert any(
        note.startswith("30 images were left out: their label is in one group") for note in found.results["notes"]
    )
    assert found.results["comparison"]["n"] == 90


def test_rows_can_be_put_back_into_the_order_they_were_written_in(storage: Storage) -> None:
    rows = read_rows(storage, "species", [], None)
    written = [each.as_py() for batch in storage.scan(["id"]) for each in batch["id"]]
    ids = rows.values["id"].to_pylist()
    assert ids == sorted(ids, key=digests(storage).__getitem__)
    assert [ids[place] for place in rows.as_written] == written
    some = np.array([i % 3 == 0 for i in range(ROWS)])
    kept = rows.keep(some)
    left = kept.values["id"].to_pylist()
    assert [left[place] for place in kept.as_written] == [each for each in written if each in set(left)]
    np.testing.assert_array_equal(kept.embeddings, rows.embeddings[some])


def test_a_taxonomy_gives_ranks_to_labels_that_have_none(tmp_path: Path) -> None:
    vectors, values = columns()
    bare = {"label": values["species"], "predicted_label": values["predicted_species"]}
    collection_of_vectors(tmp_path / "c.birder", vectors, columns=bare)
    collection = birder.open_collection(tmp_path / "c.birder")
    assert "ranks" not in collection.evaluate("label", predictions="predicted_label", progress=None).results
    table = tmp_path / "taxa.csv"
    table.write_text("label,family\n" + "".join(f"{name},{family}\n" for name, family in FAMILY.items()))
    found = collection.evaluate("label", predictions="predicted_label", taxonomy=table, progress=None)
    assert [each["rank"] for each in found.results["ranks"]] == ["family"]
    table.write_text("name,family\na,b\n")
    with pytest.raises(ConfigError, match="has none of the classes of label"):
        collection.evaluate("label", predictions="predicted_label", taxonomy=table, progress=None)
