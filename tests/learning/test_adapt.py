"""A classifier learned from a collection: what it refuses, warns of, records, and that it does the same again."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest
from cleanlab.rank import get_label_quality_scores  # type: ignore[import-untyped]

from birder.collection.storage import Storage
from birder.errors import ConfigError, MissingExtraError, UnknownNameError
from birder.evaluation import linear_fit
from birder.inference.classifier import Classifier, softmax
from birder.learning import adapt as adapt_module
from birder.learning import rows, splits
from birder.learning.adapt import Adapted, adapt
from birder.learning.doubtful import doubtful_labels
from birder.learning.rows import labelled_rows
from birder.vectors import room
from tests.factory import collection_of_vectors

pytest.importorskip("mapie")
KINDS = {"barn owl": "Strigiformes", "tawny owl": "Strigiformes", "red fox": "Carnivora", "wolf": "Carnivora"}
PER_CLASS, DIMENSION = 30, 48
Floats = npt.NDArray[np.float32]


def made_vectors(seed: int = 0) -> tuple[Floats, list[str]]:
    """Vectors of four classes, those of one order close together, none nearly the same."""
    random = np.random.default_rng(seed)
    orders = {order: random.normal(size=DIMENSION) * 3 for order in sorted(set(KINDS.values()))}
    vectors, labels = [], []
    for name, order in KINDS.items():
        centre = orders[order] / 4 + random.normal(size=DIMENSION) / 2
        vectors.append(centre + random.normal(size=(PER_CLASS, DIMENSION)) * 0.9)
        labels += [name] * PER_CLASS
    return np.concatenate(vectors).astype(np.float32), labels


def collection(folder: Path, *, labels: Sequence[str | None] | None = None, **columns: Sequence[Any]) -> Storage:
    vectors, made = made_vectors()
    return collection_of_vectors(folder / "c.birder", vectors, columns={"species": list(labels or made), **columns})


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Storage:
    labels = made_vectors()[1]
    wrong = [*labels[:-1], "barn owl"]  # the last one is a wolf
    sites = [f"S{i // 2 % 9}" for i in range(len(labels))]
    orders = [KINDS[name] for name in wrong]
    return collection(tmp_path_factory.mktemp("adapt"), labels=wrong, site=sites, order=orders)


@pytest.fixture(scope="module")
def adapted(storage: Storage) -> Adapted:
    return adapt(storage, "species", group_by=["site"])


def test_it_names_new_images(adapted: Adapted) -> None:
    random = np.random.default_rng(9)
    vectors, labels = made_vectors()
    new = vectors + random.normal(size=vectors.shape).astype(np.float32) * 0.3
    assert adapted.classes == tuple(sorted(KINDS))
    assert (adapted.predict(new) == np.array(labels, dtype=object)).mean() > 0.85
    np.testing.assert_allclose(adapted.predict_proba(new).sum(axis=1), 1, rtol=1e-5)


def test_the_record_says_how_it_was_made(adapted: Adapted, storage: Storage) -> None:
    made = adapted.classifier.adaptation
    assert json.loads(json.dumps(made, allow_nan=False)) == made
    assert made["counts"] == {"barn owl": 31, "red fox": 30, "tawny owl": 30, "wolf": 29}
    assert made["groups"]["kind"] == "columns" and made["groups"]["count"] == 9
    assert made["folds"] == 5 and made["seed"] == 0 and made["column"] == "species"
    assert made["conformal"]["kind"] == "by class" and set(made["conformal"]["quantiles"]) == set(KINDS)
    assert made["backbone"]["dimension"] == DIMENSION
    assert len(made["training"]) == 120 and made["training"] == sorted(made["training"])
    top1 = adapted.metrics["top1"]
    assert top1["low"] < top1["estimate"] < top1["high"] and top1["n"] == 120
    assert set(adapted.metrics) >= {"top1", "top3", "mean_recall", "macro_f1", "log_loss", "brier", "ece"}


def test_figures_are_of_rows_that_their_fit_had_not_seen(adapted: Adapted) -> None:
    table = adapted.out_of_fold
    assert table.num_rows == 120
    folds = dict(zip(table["site"].to_pylist(), table["fold"].to_pylist(), strict=True))
    pairs = set(zip(table["site"].to_pylist(), table["fold"].to_pylist(), strict=True))
    assert len(folds) == len(pairs) == 9  # no site is in two folds
    right = np.array(table["true"].to_pylist()) == np.array(table["predicted"].to_pylist())
    assert adapted.metrics["top1"]["estimate"] == pytest.approx(right.mean(), abs=1e-6)
    covered = [
        name in (members or ())
        for name, members in zip(table["true"].to_pylist(), table["set"].to_pylist(), strict=True)
    ]
    assert 0.8 < np.mean(covered) < 1
    assert "true_order" in table.column_names


def test_a_wrong_label_is_doubted_and_left_as_it_is(adapted: Adapted, storage: Storage) -> None:
    doubted = adapted.evaluation["doubtful"]
    assert 0 < len(doubted) <= 50
    first = doubted[0]
    assert first["label"] == "barn owl" and first["uri"].endswith("00119.jpg")
    assert KINDS[first["suggested"]] == "Carnivora"
    kept = {row["id"]: row["species"] for row in storage.snapshot().to_table(["id", "species"]).to_pylist()}
    assert kept[first["id"]] == "barn owl"


def test_the_unknown_is_told_and_most_known_images_keep_their_name(adapted: Adapted) -> None:
    made = adapted.classifier.adaptation["unknown"]
    scores = adapted.out_of_fold["unknown_score"].to_numpy()
    assert np.mean(scores <= made["threshold"]) == pytest.approx(0.95, abs=0.01)
    assert 0.4 < made["auroc"] <= 1 and 0 <= made["fpr95"] <= 1 and made["k"] == 5
    elsewhere = -made_vectors()[0]
    assert adapted.classifier.is_unknown(elsewhere).all()
    assert adapted.evaluation["metrics"]["unknown_auroc"]["estimate"] > 0.4


def test_the_deepest_rank_comes_from_the_collections_columns(adapted: Adapted) -> None:
    made = adapted.classifier.adaptation["ranks"]
    assert made["names"] == ["order", "species"]
    assert made["taxa"]["wolf"] == {"order": "Carnivora", "species": "wolf"}
    table = adapted.out_of_fold
    sure = np.array(table["probability"].to_pylist()) >= np.float32(0.7)
    right = np.array(table["true"].to_pylist()) == np.array(table["predicted"].to_pylist())
    measured = made["thresholds"]["species"]["0.7"]
    assert measured == {"precision": pytest.approx(right[sure].mean()), "n": sure.sum()}
    deepest = adapted.classifier.deepest(made_vectors()[0], 0.9)
    assert {answer.rank for answer in deepest if answer} <= {"order", "species"} and any(deepest)


@pytest.mark.slow
def test_same_rows_and_seed_give_the_same_bytes_in_any_order(
    tmp_path: Path, storage: Storage, adapted: Adapted
) -> None:
    again = adapt(storage, "species", group_by=["site"])
    for one, other in zip(_bytes(adapted.classifier), _bytes(again.classifier), strict=True):
        assert one == other
    assert again.out_of_fold.equals(adapted.out_of_fold)
    other_seed = adapt(storage, "species", group_by=["site"], seed=1)
    assert other_seed.out_of_fold["fold"].to_pylist() != adapted.out_of_fold["fold"].to_pylist()
    assert other_seed.classifier.adaptation["rows_sha256"] == adapted.classifier.adaptation["rows_sha256"]


def _bytes(made: Classifier) -> tuple[bytes, ...]:
    assert made.examples is not None
    record = json.dumps(dict(made.adaptation), sort_keys=True).encode()
    return made.weight.tobytes(), made.bias.tobytes(), made.examples.tobytes(), record


def test_it_is_saved_without_the_network_and_read_again(tmp_path: Path, adapted: Adapted) -> None:
    file = adapted.save(tmp_path / "owls.safetensors", detached=True)
    assert _bytes(Classifier.load(file)) == _bytes(adapted.classifier)


def test_the_unknown_may_be_left_out(storage: Storage) -> None:
    stages: list[str] = []
    made = adapt(
        storage,
        "species",
        unknown=None,
        where="order = 'Carnivora'",
        progress=lambda stage, share: stages.append(stage),
    )
    assert made.classifier.examples is None and made.classifier.adaptation["unknown"] is None
    assert made.classes == ("red fox", "wolf")
    assert made.out_of_fold["unknown_score"].null_count == made.out_of_fold.num_rows
    assert list(dict.fromkeys(stages))[-2:] == ["fitting", "measuring"]


def test_a_table_gives_the_ranks(tmp_path: Path, storage: Storage) -> None:
    table = tmp_path / "taxa.csv"
    table.write_text("species,family,class\nwolf,Canidae,Mammalia\nred fox,Canidae,Mammalia\nbarn owl,Tytonidae,Aves\n")
    made = adapt(storage, "species", taxonomy=table).classifier.adaptation
    assert made["ranks"]["names"] == ["class", "family", "species"]
    assert made["ranks"]["taxa"]["tawny owl"] == {"species": "tawny owl"}
    assert any("lacks 1 of 4 classes: tawny owl" in warning for warning in made["warnings"])
    for text, reason in (("species,colour\nwolf,grey\n", "no column of a rank"), ("species,order\ncat,C\n", "none of")):
        table.write_text(text)
        with pytest.raises(ConfigError, match=reason):
            adapt(storage, "species", taxonomy=table)


@pytest.mark.parametrize(
    ("labels", "reason"),
    [
        ([None] * 120, "No image has a label"),
        (["  "] * 120, "No image has a label"),
        (["owl"] * 120, "All labels .* 'owl': .* at least two classes"),
        ([f"kind {i}" for i in range(120)], "Fewer than two classes .* 5 images or more"),
    ],
)
def test_labels_that_cannot_be_learned_from_are_refused(tmp_path: Path, labels: list[Any], reason: str) -> None:
    storage = collection(tmp_path, labels=["x", *labels[1:]] if labels[0] is None else labels)
    if labels[0] is None:
        with pytest.raises(ConfigError, match=reason):
            adapt(storage, "species", where="species IS NULL")
    else:
        with pytest.raises(ConfigError, match=reason):
            adapt(storage, "species")


def test_what_cannot_be_judged_is_refused(tmp_path: Path) -> None:
    storage = collection(tmp_path, station=["A"] * 120, of_class=made_vectors()[1])
    with pytest.raises(ConfigError, match="in one group"):
        adapt(storage, "species", group_by=["station"])
    with pytest.raises(ConfigError, match="No class has images in two groups"):
        adapt(storage, "species", group_by=["of_class"])
    with pytest.raises(ConfigError, match="holds int32, not names"):
        adapt(storage, "width")
    with pytest.raises(UnknownNameError, match="species"):
        adapt(storage, "specis")
    with pytest.raises(UnknownNameError):
        adapt(storage, "embedding")
    for wrong in ({"folds": 1}, {"unknown": 1.5}, {"min_examples": 0}):
        with pytest.raises(ConfigError):
            adapt(storage, "species", **wrong)


def test_embeddings_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    vectors, labels = made_vectors()
    vectors[7, 3] = np.inf
    storage = collection_of_vectors(tmp_path / "c.birder", vectors, columns={"species": labels})
    with pytest.raises(ConfigError, match="1 embedding is not finite"):
        adapt(storage, "species")


def test_labels_to_look_at_are_named(tmp_path: Path) -> None:
    labels = made_vectors()[1]
    labels[:30] = ["Red  Fox"] * 4 + ["red fox"] * 26
    labels[90:100] = ["Barn Owl"] * 5 + ["red fox"] * 5
    labels[30:60] = ["red fox"] * 30
    storage = collection(tmp_path, labels=labels)
    rows = labelled_rows(storage, "species", min_examples=5)
    assert rows.dropped == {"Red  Fox": 4}
    text = " ".join(rows.warnings)
    assert "too few images: Red  Fox (4)" in text
    assert "'Red  Fox', 'red fox'" in text
    assert "of one class, 'red fox'" in text


def test_rows_come_in_the_order_of_their_content_with_their_own_embeddings(storage: Storage) -> None:
    rows = labelled_rows(storage, "species")
    digests = rows.table["sha256"].to_pylist()
    assert digests == sorted(digests)
    vectors = made_vectors()[0]
    places = [int(uri.split("/")[-1].split(".")[0]) for uri in rows.table["uri"].to_pylist()]
    np.testing.assert_array_equal(rows.embeddings, vectors[places])
    assert rows.labels == pa.array(rows.table["species"]).to_pylist()


def test_without_the_extra_it_says_what_to_install(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.util

    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "mapie" else found(name))
    with pytest.raises(MissingExtraError, match=r"birder adapt needs .*\.\[learn\]"):
        adapt(storage, "species")


@pytest.mark.slow
def test_the_same_images_give_the_same_classifier_and_figures_wherever_they_lie(tmp_path: Path) -> None:
    vectors, labels = made_vectors()
    digests = [f"{row * 7919 % len(labels):064x}" for row in range(len(labels))]
    learned: list[Adapted] = []
    for place in ("card", "archive/2026/card copied"):
        names = [f"{place}/{row:05d}.jpg" for row in range(len(labels))]
        at = tmp_path / f"{len(learned)}.birder"
        here = collection_of_vectors(at, vectors, names=names, sha256=digests, columns={"species": labels})
        learned.append(adapt(here, "species"))
    first, second = learned
    np.testing.assert_array_equal(first.predict_proba(vectors), second.predict_proba(vectors))
    assert first.metrics == second.metrics
    assert first.classifier.adaptation["unknown"] == second.classifier.adaptation["unknown"]
    doubted = [[(each["label"], each["suggested"]) for each in found.evaluation["doubtful"]] for found in learned]
    assert doubted[0] == doubted[1]


def test_labelled_rows_keep_their_embeddings_in_the_order_of_their_content(tmp_path: Path) -> None:
    vectors = np.random.default_rng(0).normal(size=(60, 4)).astype(np.float32)
    labels = [(None, "owl", "fox", "rare" if row < 10 else "owl", " ")[row % 5] for row in range(60)]
    collection = collection_of_vectors(tmp_path / "c.birder", vectors, columns={"label": labels})
    found = labelled_rows(collection, "label", min_examples=3, where="uri > 'file:///p/00004.jpg'")
    known = [row for row in collection.to_arrow().sort_by("sha256").to_pylist() if row["label"] in ("owl", "fox")]
    expected = [row for row in known if row["uri"] > "file:///p/00004.jpg"]
    assert found.table["id"].to_pylist() == [row["id"] for row in expected]
    assert found.labels == [row["label"] for row in expected]
    np.testing.assert_array_equal(found.embeddings, np.array([row["embedding"] for row in expected], np.float32))
    assert found.dropped == {"rare": 1}


def test_large_collections_are_learned_from_in_files_with_the_same_result(
    storage: Storage, adapted: Adapted, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[tuple[int, int]] = []

    def watched(*shape: Any, **options: Any) -> Floats:
        array: Floats = room(*shape, **options)
        if isinstance(array, np.memmap):
            made.append(array.shape)
        return array

    for module, limits in (
        (linear_fit, ("_ROWS_IN_MEMORY", "_LOGITS_IN_MEMORY")),
        (rows, ("_MOST_BYTES",)),
        (splits, ("_MOST_BYTES",)),
    ):
        monkeypatch.setattr(module, "room", watched)
        for name in limits:
            monkeypatch.setattr(module, name, 0)
    again = adapt(storage, "species", group_by=["site"])
    # the embeddings, those compared, the logits, five folds, and the fit that is kept
    assert len(made) == 9 and (120, len(KINDS)) in made and made.count((120, DIMENSION)) == 3
    for one, other in zip(_bytes(adapted.classifier), _bytes(again.classifier), strict=True):
        assert one == other
    assert again.out_of_fold.equals(adapted.out_of_fold)
    assert again.evaluation == adapted.evaluation


@pytest.mark.slow
def test_what_is_said_of_held_out_rows_takes_no_copy_of_their_probabilities() -> None:
    classes = tuple(f"kind {n}" for n in range(400))
    peaks = []
    for count in (12_000, 24_000):
        random = np.random.default_rng(0)
        codes = random.integers(0, len(classes), count)
        logits = random.standard_normal((count, len(classes)), np.float32)
        logits[np.arange(count), codes] += 12
        logits[np.arange(60), codes[:60]] -= 24
        folds = np.arange(count) % 3
        told = pa.table({"id": [f"{n:06}" for n in range(count)], "uri": [f"file:///{n}" for n in range(count)]})
        known = rows.LabelledRows(told, np.zeros((count, 1), np.float32), classes, codes, {}, ())
        chosen = linear_fit.Chosen(1.0, {}, count, logits, linear_fit.Layer(np.zeros((400, 1)), np.zeros(400)))
        groups = splits.Groups(np.arange(count), "random", ())
        parts = splits.Folds(folds, 3, ())
        tracemalloc.start()
        held_out = adapt_module._held_out(known, parts, np.arange(count), chosen, 1.0)
        table = adapt_module._table(known, groups, parts, held_out, None, None, ())
        found = doubtful_labels(held_out.probabilities, codes)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert table.num_rows == count and len(found) == 50
    assert peaks[1] - peaks[0] < logits.nbytes / 2  # less than one copy for the rows that are more; there were four


def test_doubted_labels_are_those_of_cleanlab() -> None:
    random = np.random.default_rng(0)
    codes = random.choice([0, 2, 3, 5, 6], 9_000, p=[0.6, 0.2, 0.1, 0.09, 0.01])  # two classes are absent
    logits = random.normal(size=(9_000, 7)).astype(np.float32)
    logits[np.arange(9_000), codes] += random.normal(1.5, 1, 9_000).astype(np.float32)
    probabilities = softmax(logits)
    present, own = np.unique(codes, return_inverse=True)
    among = probabilities[:, present] / probabilities[:, present].sum(axis=1, keepdims=True)
    quality = get_label_quality_scores(own, among.astype(np.float64), method="self_confidence", adjust_pred_probs=True)
    suggested = present[among.argmax(axis=1)]
    expected = [row for row in np.argsort(quality, kind="stable").tolist() if suggested[row] != codes[row]]
    found = doubtful_labels(probabilities, codes, most=9_000)
    np.testing.assert_allclose(quality[[each.row for each in found]], quality[expected], atol=1e-6)
    assert [each.suggested for each in found] == [suggested[each.row] for each in found]
    assert [each.score for each in found] == [float(probabilities[each.row, codes[each.row]]) for each in found]
