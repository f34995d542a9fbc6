"""How good label help is: the figure beside the suggestions, against scikit-learn's on the same folds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from birder.learning.label_accuracy import measure

from birder.collection.storage import Storage
from birder.errors import ConfigError
from birder.learning import label_accuracy
from tests.factory import collection_of_vectors

SIZE = 12
Vectors = npt.NDArray[np.float32]


def made(folder: Path, rows: int, noise: float, labels: list[str | None] | None = None) -> tuple[Vectors, list[str]]:
    """A collection of three classes in pairs of near-duplicates; its vectors and labels."""
    random = np.random.default_rng(3)
    names = [f"kind {number // 2 % 3}" for number in range(rows)]
    centres = {name: random.normal(size=SIZE) for name in sorted(set(names))}
    pairs = np.repeat(random.normal(size=(rows // 2, SIZE)), 2, axis=0)
    vectors = np.array([centres[name] for name in names]) + noise * pairs + 0.001 * random.normal(size=(rows, SIZE))
    collection_of_vectors(folder, vectors, columns={"kind": labels or names})
    return vectors.astype(np.float32), names


def test_it_is_the_accuracy_on_held_out_groups(tmp_path: Path) -> None:
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GroupKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    vectors, names = made(tmp_path / "c", 180, 1.0)
    found = measure(Storage.open(tmp_path / "c"), "kind")
    pairs = np.arange(len(names)) // 2
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1))
    expected = cross_val_predict(model, vectors, names, groups=pairs, cv=GroupKFold(5)) == np.array(names)
    assert (found.classes, found.groups, found.accuracy.n) == (3, 90, 180)
    assert abs(found.accuracy.value - expected.mean()) < 0.04
    assert found.accuracy.low is not None and found.accuracy.high is not None
    assert found.accuracy.low < found.accuracy.value < found.accuracy.high < 1
    # A pair is one piece of evidence, so the interval is wider than that of 180 independent images.
    assert found.accuracy.high - found.accuracy.low > 2 * 1.96 * np.sqrt(expected.mean() * (1 - expected.mean()) / 180)
    percent = f"{found.accuracy.value:.0%} ({found.accuracy.low:.0%} to {found.accuracy.high:.0%})"
    assert percent in found.note and "180 images of 3 classes, in 90 groups" in found.note


def test_it_is_the_same_each_time(tmp_path: Path) -> None:
    made(tmp_path / "c", 60, 0.6)
    assert measure(Storage.open(tmp_path / "c"), "kind") == measure(Storage.open(tmp_path / "c"), "kind")


def test_no_more_rows_are_read_than_are_quick(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(label_accuracy, "MOST_ROWS", 50)
    made(tmp_path / "c", 180, 0.3)
    assert measure(Storage.open(tmp_path / "c"), "kind").accuracy.n <= 50


@pytest.mark.parametrize(
    "labels",
    [
        [None] * 12,
        ["owl"] * 12,
        ["owl"] * 2 + [None] * 10,
        ["owl", "owl", "fox", "fox", *[None] * 8],  # each class is one pair of near-duplicates
    ],
)
def test_with_too_few_labels_it_says_what_is_needed(tmp_path: Path, labels: list[str | None]) -> None:
    made(tmp_path / "c", 12, 0.3, labels=labels)
    with pytest.raises(ConfigError, match="two classes"):
        measure(Storage.open(tmp_path / "c"), "kind")
