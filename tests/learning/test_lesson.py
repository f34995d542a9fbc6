"""What Teach tells of a classifier, against scikit-learn's on the same folds and counts made here; naming the rest."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from birder.collection.storage import Storage
from birder.errors import ConfigError
from birder.evaluation.predictions import predictions_table
from birder.learning import lesson as module
from birder.learning.adapt import adapt
from birder.learning.lesson import Lesson, learn, lesson, probability_for
from birder.learning.name_rest import name_rest
from birder.learning.wanted_labels import FEWEST_LABELS, can_learn, wants
from tests.factory import collection_of_vectors

SIZE = 12
LABELLED, REST, STRANGE = 180, 60, 6
WRONG = 7
"""The row whose label is not that of its class."""
Vectors = npt.NDArray[np.float32]


def made(folder: Path, noise: float = 0.8) -> tuple[Storage, Vectors, list[str]]:
    """Rows of three classes in pairs of near-duplicates, the first labelled, the last unlike all others."""
    random = np.random.default_rng(3)
    rows = LABELLED + REST
    names = [f"kind {number // 2 % 3}" for number in range(rows)]
    centres = {name: random.normal(size=SIZE) for name in sorted(set(names))}
    pairs = np.repeat(random.normal(size=(rows // 2, SIZE)), 2, axis=0)
    vectors = np.array([centres[name] for name in names]) + noise * pairs + 0.001 * random.normal(size=(rows, SIZE))
    vectors[-STRANGE:] = -3 * sum(centres.values()) + 0.1 * random.normal(size=(STRANGE, SIZE))
    labels: list[str | None] = [*names[:LABELLED], *[None] * REST]
    labels[WRONG] = "kind 2"
    assert names[WRONG] == "kind 0"
    storage = collection_of_vectors(folder / "c.birder", vectors, columns={"kind": labels})
    return storage, vectors.astype(np.float32), names


@pytest.fixture(scope="module")
def taught(tmp_path_factory: pytest.TempPathFactory) -> tuple[Storage, Vectors, list[str], Lesson]:
    storage, vectors, names = made(tmp_path_factory.mktemp("taught"))
    return storage, vectors, names, lesson(storage, "kind")


def test_the_accuracy_is_that_of_adapt_and_of_scikit_learn(
    taught: tuple[Storage, Vectors, list[str], Lesson],
) -> None:
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GroupKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    storage, vectors, names, found = taught
    own = adapt(storage, "kind")
    assert found.accuracy == own.metrics["top1"]
    assert found.how == " ".join(own.evaluation["notes"]) and "duplicates" in found.how
    given_labels = [*names[:WRONG], "kind 2", *names[WRONG + 1 : LABELLED]]
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1))
    pairs = np.arange(LABELLED) // 2
    expected = cross_val_predict(model, vectors[:LABELLED], given_labels, groups=pairs, cv=GroupKFold(5))
    accuracy = (expected == np.array(given_labels)).mean()
    assert (found.classes, found.groups, found.accuracy["n"]) == (3, 90, LABELLED)
    assert abs(found.accuracy["estimate"] - accuracy) < 0.05
    percent = f"{found.accuracy['estimate']:.0%} ({found.accuracy['low']:.0%} to {found.accuracy['high']:.0%})"
    assert f"right for {percent}: 180 images of 3 classes, in 90 groups" in found.note


def test_confusions_doubts_and_what_could_be_named_are_counted(
    taught: tuple[Storage, Vectors, list[str], Lesson],
) -> None:
    storage, vectors, _, found = taught
    own = learn(storage, "kind")
    ids = dict(zip(storage.to_arrow()["uri"].to_pylist(), storage.to_arrow()["id"].to_pylist(), strict=True))
    table = own.out_of_fold
    wrong = [
        (true, predicted)
        for true, predicted in zip(table["true"].to_pylist(), table["predicted"].to_pylist(), strict=True)
        if true != predicted
    ]
    assert {(each.true, each.predicted): each.count for each in found.confusions} == {
        pair: wrong.count(pair) for pair in set(wrong)
    }
    assert all(1 <= len(each.ids) <= min(4, each.count) for each in found.confusions)
    first = found.doubtful[0]
    assert (first.id, first.label, first.suggested) == (ids[f"file:///p/{WRONG:05d}.jpg"], "kind 2", "kind 0")
    unlabelled = vectors[LABELLED:]
    strange = own.classifier.is_unknown(unlabelled)
    assert strange[-STRANGE:].all()
    assert (found.rest, found.unknown) == (REST, strange.sum())
    chances = own.predict_proba(unlabelled).max(axis=1)
    right = np.array(table["true"].to_pylist()) == np.array(table["predicted"].to_pylist())
    held_out = table["probability"].to_numpy()
    assert [each.precision for each in found.nameable] == [0.9, 0.95, 0.99]
    for each in found.nameable:
        assert each.probability is not None
        assert right[held_out >= np.float32(each.probability)].mean() >= each.precision
        assert each.share["estimate"] == pytest.approx((held_out >= np.float32(each.probability)).mean())
        assert each.images == ((chances >= np.float32(each.probability)) & ~strange).sum()


@settings(max_examples=60, deadline=None)
@given(
    some.lists(some.tuples(some.sampled_from([0.5, 0.6, 0.75, 0.875, 1.0]), some.booleans()), min_size=1, max_size=25),
    some.sampled_from([0.5, 0.75, 0.9, 0.95]),
)
def test_the_probability_for_a_precision_is_the_lowest_that_reaches_it(
    images: list[tuple[float, bool]], precision: float
) -> None:
    sure = np.array([chance for chance, _ in images], np.float32)
    right = np.array([is_right for _, is_right in images])
    table = predictions_table(
        [f"{number:03d}" for number in range(len(images))],
        ["u"] * len(images),
        None,
        None,
        ["a" if is_right else "b" for is_right in right],
        np.stack([sure, 1 - sure], axis=1),
        ("a", "b"),
    )
    reaching = [chance for chance in sorted(set(sure.tolist())) if right[sure >= chance].mean() >= precision]
    assert probability_for(table, precision) == (reaching[0] if reaching else None)


def test_of_very_many_labels_a_sample_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_ROWS", 60)
    monkeypatch.setattr(module, "MOST_OF_REST", 30)
    storage, _, _ = made(tmp_path, 0.3)
    found = lesson(storage, "kind")
    assert found.accuracy["n"] <= 60
    assert found.rest == REST and found.unknown % 2 == 0  # 30 stand for 60
    told: list[tuple[str, float]] = []
    assert len(learn(storage, "kind", progress=lambda *each: told.append(each)).out_of_fold) == LABELLED
    shares = [share for _, share in told]
    assert shares == sorted(shares) and shares[0] == 0 and shares[-1] == 1


@pytest.mark.slow
def test_the_rest_is_named_and_no_label_is_changed(tmp_path: Path) -> None:
    storage, _, names = made(tmp_path)
    before = {row["id"]: row for row in storage.to_arrow().to_pylist()}
    told: list[float] = []
    found = name_rest(storage, "kind", progress=lambda _, share: told.append(share))
    assert told == sorted(told) and told[-1] == 1
    rows = Storage.open(storage.path).to_arrow().to_pylist()
    assert [(row["id"], row["kind"]) for row in rows] == [(id_, row["kind"]) for id_, row in before.items()]
    rest = [row for row in rows if row["kind"] is None]
    assert all(row["predicted_label"] is None and row["predicted_at"] is None for row in rows if row["kind"])
    named = [row for row in rest if row["predicted_label"] is not None]
    unknown = [row for row in rest if row["predicted_unknown"]]
    assert (found.images, found.named, found.unknown) == (REST, len(named), len(unknown))
    assert found.probability is not None and min(row["predicted_score"] for row in named) >= found.probability
    assert all(row["predicted_label"] is None and row["predicted_score"] is None for row in unknown)
    assert {row["uri"] for row in rest[-STRANGE:]} <= {row["uri"] for row in unknown}
    truth = {f"file:///p/{number:05d}.jpg": name for number, name in enumerate(names)}
    assert np.mean([row["predicted_label"] == truth[row["uri"]] for row in named]) > 0.85
    assert "taught by 180 labels" in named[0]["predicted_by"]
    assert f"{len(named)} of 60 images without a label named" in found.note

    some_uri = rest[0]["uri"]
    one = name_rest(storage, "kind", precision=None, unknown=False, where=f"uri = '{some_uri}'")
    assert (one.images, one.named, one.unknown, one.probability) == (1, 1, 0, None)
    every = name_rest(storage, "kind", precision=None, unknown=False)
    assert (every.images, every.named) == (REST, REST)


def test_too_few_labels_are_asked_for_in_words(tmp_path: Path) -> None:
    assert "two classes" in str(wants({}))
    assert wants({"owl": FEWEST_LABELS, "fox": 9}) is None and can_learn({"owl": FEWEST_LABELS, "fox": 9})
    assert "another class" in str(wants({"owl": 40})) and not can_learn({"owl": 40})
    said = wants({"owl": 5, "fox": 3, "bat": 1, "cat": 1, "dog": 1, "elk": 1})
    assert said == (
        "It wants 5 labels of each class. Still missing: fox (2 more), elk (4 more), dog (4 more), cat (4 more) and 1 "
        "other class."
    )
    storage = collection_of_vectors(
        tmp_path / "c.birder", np.eye(12), columns={"kind": ["owl"] * 3 + ["fox"] * 3 + [None] * 6}
    )
    with pytest.raises(ConfigError, match="have 5 images or more"):
        lesson(storage, "kind")
