"""Protocols by name: their figures against scikit-learn's, what they say, and what they refuse."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from sklearn.cluster import KMeans
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import adjusted_mutual_info_score, recall_score
from sklearn.model_selection import LeaveOneGroupOut, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from birder.errors import ConfigError, NoTextEncoderError, UnknownNameError
from birder.evaluation import clusters
from birder.evaluation.neighbours import leave_one_out, named_by_neighbours
from birder.evaluation.protocols import PROTOCOLS, run
from birder.vectors import unit

CLIP = Path(__file__).parents[1] / "data" / "openclip"
CLASSES = ["ant", "bee", "cat", "dog"]


def made(rows: int = 240) -> tuple[npt.NDArray[np.float32], list[str], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Embeddings, labels, groups of one class each, and folds that keep groups together."""
    random = np.random.default_rng(0)
    groups = random.integers(0, 60, rows)
    codes = groups % 4
    x = random.standard_normal((4, 16))[codes] + random.standard_normal((60, 16))[groups]
    x += random.standard_normal((rows, 16))
    return x.astype(np.float32), [CLASSES[code] for code in codes], groups, groups // 4 % 5


@pytest.mark.parametrize("name", [name for name in PROTOCOLS if name != "zero-shot"])
def test_every_figure_has_an_interval_that_holds_it_and_is_the_same_each_time(name: str) -> None:
    x, labels, groups, folds = made()
    result = run(name, x, labels, groups=groups, folds=folds, seed=3)
    assert result == run(name, x, labels, groups=groups, folds=folds, seed=3)
    assert result["protocol"] == name
    assert result["how"].endswith(".")
    assert result["classes"] == 4
    for metric, figure in result["metrics"].items():
        assert 0 <= figure["estimate"] <= 1
        if metric != "ami":
            assert figure["low"] <= figure["estimate"] <= figure["high"], metric
            assert figure["interval"] == "bootstrap over groups"
            assert 0 < figure["n"] <= 240


def test_neighbours_as_scikit_learn_counts_them() -> None:
    x, labels, groups, _ = made()
    codes = np.array([CLASSES.index(label) for label in labels])
    named = named_by_neighbours(leave_one_out(x, 24, groups=groups), codes, 24)
    metrics = run("knn", x, labels, groups=groups)["metrics"]
    assert metrics["top1_k24"]["estimate"] == pytest.approx((named == codes).mean())
    assert metrics["mean_recall_k24"]["estimate"] == pytest.approx(recall_score(codes, named, average="macro"))


@pytest.mark.parametrize("name", ["knn", "retrieval"])
def test_a_class_in_one_group_is_left_out_and_counted(name: str) -> None:
    x, labels, groups, _ = made()
    labels = ["elk" if group == 7 else label for label, group in zip(labels, groups, strict=True)]
    result = run(name, x, labels, groups=groups)
    alone = labels.count("elk")
    assert result["left_out"] == alone > 0
    assert all(figure["n"] == 240 - alone for figure in result["metrics"].values())


def test_without_groups_rows_are_independent_and_the_result_says_so() -> None:
    x, labels, _, _ = made()
    result = run("knn", x, labels, groups=None)
    assert result["metrics"]["top1_k1"]["interval"] == "Wilson"
    assert "independent" in result["how"]


def test_few_shot_says_whether_it_is_as_published_and_on_what() -> None:
    x, labels, groups, _ = made()
    ours = run("few-shot", x, labels, groups=groups)
    assert "share a group with an example are not named" in ours["how"]
    published = run("few-shot", x, labels, groups=groups, as_="bioclip-v1", features=x[:, :8])
    assert "as published (bioclip-v1)" in published["how"]
    assert "on features in the space that the model" in published["how"]
    assert published["folds"] != run("few-shot", x, labels, groups=groups, as_="bioclip-v1")["folds"]
    assert published["folds"] != run("few-shot", x, labels, groups=groups, as_="bioclip-v2", features=x[:, :8])["folds"]
    for shots, accuracies in published["folds"].items():
        assert published["metrics"][f"top1_{shots}_shot"]["estimate"] == pytest.approx(np.mean(accuracies))


def test_clusters_as_scikit_learn_finds_and_judges_them(monkeypatch: pytest.MonkeyPatch) -> None:
    x, labels, _, _ = made()
    found = KMeans(4, n_init=4, random_state=5).fit_predict(unit(x))
    expected = adjusted_mutual_info_score(labels, found)
    assert run("clusters", x, labels, groups=None, seed=5)["metrics"]["ami"]["estimate"] == pytest.approx(expected)
    monkeypatch.setattr(clusters, "_MOST_ROWS", 100)
    in_batches = run("clusters", x, labels, groups=None, seed=5)["metrics"]["ami"]["estimate"]
    assert in_batches == pytest.approx(expected, abs=0.2)


def test_a_linear_probe_is_fitted_on_the_other_folds_as_scikit_learn_fits_it() -> None:
    x, labels, groups, folds = made()
    result = run("linear", x, labels, groups=groups, folds=folds)
    theirs = make_pipeline(StandardScaler(), LogisticRegression(C=result["strength"], max_iter=2000))
    named = cross_val_predict(theirs, x, labels, groups=folds, cv=LeaveOneGroupOut())
    right = np.mean([name == label for name, label in zip(named, labels, strict=True)])
    assert result["metrics"]["top1"]["estimate"] == pytest.approx(right, abs=1 / 240)
    assert result["folds"] == 5
    unjudged = np.where(groups == 3, -1, folds)
    left_out = run("linear", x, labels, groups=groups, folds=unjudged)
    assert left_out["left_out"] == 240 - left_out["metrics"]["top1"]["n"] == (groups == 3).sum()


def test_class_names_as_texts() -> None:
    from birder.naming.by_texts import name_by_texts
    from birder.weights.resolve import resolve

    model = resolve(str(CLIP)).load_clip(device="cpu")
    features = np.random.default_rng(0).standard_normal((40, model.embedding_size)).astype(np.float32)
    labels = [CLASSES[row % 4] for row in range(40)]
    named = name_by_texts(model, source=CLASSES).predict(features, 1)
    right = np.mean([some[0]["label"] == label for some, label in zip(named, labels, strict=True)])
    result = run("zero-shot", features, labels, groups=np.arange(40), features=features, clip=model)
    assert result["metrics"]["top1"]["estimate"] == pytest.approx(right)
    assert result["metrics"]["top5"]["estimate"] == 1  # of four classes


def test_what_cannot_be_judged_is_refused() -> None:
    x, labels, groups, _ = made()
    with pytest.raises(UnknownNameError, match="few-shot"):
        run("fewshot", x, labels, groups=groups)
    with pytest.raises(ConfigError, match="at least two classes"):
        run("knn", x, ["ant"] * 240, groups=groups)
    with pytest.raises(ConfigError, match="do not match"):
        run("knn", x, labels[1:], groups=groups)
    with pytest.raises(ConfigError, match="in one group only"):
        run("retrieval", x, labels, groups=np.array([CLASSES.index(label) for label in labels]))
    with pytest.raises(ConfigError, match="fold of each row"):
        run("linear", x, labels, groups=groups)
    with pytest.raises(NoTextEncoderError, match="text encoder"):
        run("zero-shot", x, labels, groups=groups)
