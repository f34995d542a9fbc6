from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.model_selection import StratifiedGroupKFold

from birder.analysis.duplicates import similar_components
from birder.collection.storage import Storage
from birder.errors import ConfigError, UnknownNameError
from birder.learning import splits
from birder.learning.splits import Groups, columns_for_groups, find_groups, make_folds
from tests.factory import clusters, collection_of_vectors

NOON = datetime(2024, 5, 1, 12)
Codes = npt.NDArray[np.int64]
Rows = Mapping[str, Mapping[str, Any]]


def at(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


def read(collection: Storage, *columns: str) -> tuple[pa.Table, npt.NDArray[np.float32]]:
    """Rows in the order in which they were written, and their embeddings."""
    batches = [(table, vectors.copy()) for table, vectors in collection.embedding_batches(columns)]
    return pa.concat_tables([table for table, _ in batches]), np.concatenate([vectors for _, vectors in batches])


def groups_of(collection: Storage, *, group_by: Sequence[str] = (), **options: Any) -> Groups:
    columns = columns_for_groups(collection, group_by)
    rows, embeddings = read(collection, *columns, "label")
    return find_groups(rows, embeddings, column="label", group_by=group_by, **options)


def of_rows(path: Path, rows: Rows) -> Storage:
    """A collection of files with these columns, none of which looks like another."""
    columns = {name: [row.get(name) for row in rows.values()] for row in rows.values() for name in row}
    return collection_of_vectors(path, np.eye(len(rows)), names=list(rows), columns=columns)


def together(groups: Groups) -> list[list[int]]:
    return [np.flatnonzero(groups.codes == code).tolist() for code in range(groups.count)]


def test_users_columns_make_one_group_of_each_combination(tmp_path: Path) -> None:
    values = [("a", 1), ("a", 2), ("a", 1), ("b", 1), (None, None), (None, None), (None, 1), ("", None)]
    rows = {f"{n}.jpg": {"site": site, "night": night} for n, (site, night) in enumerate(values)}
    collection = of_rows(tmp_path / "c.birder", rows)
    groups = groups_of(collection, group_by=["site", "night"])
    assert groups.kind == "columns"
    assert together(groups) == [[0, 2], [1], [3], [4], [5], [6], [7]]
    assert groups.how == (
        "Images are grouped by site and night: 7 groups.",
        "3 images without a value there: each is a group of its own.",
    )


def test_a_deployment_is_a_group_and_images_without_one_are_grouped_by_time(tmp_path: Path) -> None:
    rows: Rows = {
        "x/0.jpg": {"deploymentID": "d1", "taken_at": at(0)},
        "y/1.jpg": {"deploymentID": "d1", "taken_at": at(9999)},
        "y/2.jpg": {"deploymentID": "d2", "taken_at": at(0)},
        "z/3.jpg": {"taken_at": at(0)},
        "z/4.jpg": {"taken_at": at(30)},
        "z/5.jpg": {"taken_at": at(100)},
    }
    groups = groups_of(of_rows(tmp_path / "c.birder", rows))
    assert groups.kind == "deployment"
    assert together(groups) == [[0, 1], [2], [3, 4], [5]]
    assert groups.how[0] == "Images are grouped by deployment: 4 groups."
    assert groups.how[1].startswith("3 images without a deployment")


def test_a_sequence_ends_where_more_than_a_minute_passes_or_the_folder_changes(tmp_path: Path) -> None:
    rows: Rows = {
        "x/0.jpg": {"taken_at": at(120)},  # not in the order of time
        "x/1.jpg": {"taken_at": at(0)},
        "x/2.jpg": {"taken_at": at(60)},  # exactly a minute after the one before
        "x/3.jpg": {"taken_at": at(180.5)},
        "y/4.jpg": {"taken_at": at(0)},
        "y/5.jpg": {"taken_at": None},
        "y/6.jpg": {"taken_at": None},
    }
    groups = groups_of(of_rows(tmp_path / "c.birder", rows))
    assert groups.kind == "sequences"
    assert together(groups) == [[0, 1, 2], [3], [4], [5], [6]]
    assert "the same folder" in groups.how[0] and groups.how[0].endswith("60 seconds of the one before: 5 groups.")
    assert groups.how[1].startswith("2 images without a time")


def test_a_camera_counts_more_than_the_folder(tmp_path: Path) -> None:
    rows: Rows = {
        "x/0.jpg": {"taken_at": at(0), "cameraID": "k1"},
        "y/1.jpg": {"taken_at": at(5), "cameraID": "k1"},
        "y/2.jpg": {"taken_at": at(5), "cameraID": "k2"},
        "y/3.jpg": {"taken_at": at(5), "cameraID": None},
        "y/4.jpg": {"taken_at": at(5), "cameraID": None},
    }
    groups = groups_of(of_rows(tmp_path / "c.birder", rows))
    assert together(groups) == [[0, 1], [2], [3, 4]]
    assert "the same camera" in groups.how[0]


def test_a_folder_named_as_its_label_is_not_a_place(tmp_path: Path) -> None:
    rows: Rows = {
        "site1/Vulpes_vulpes/0.jpg": {"label": "Vulpes vulpes", "taken_at": at(0)},
        "site1/empty/1.jpg": {"label": "empty", "taken_at": at(3)},  # of the same burst
        "site2/empty/2.jpg": {"label": "empty", "taken_at": at(3)},
        "site1/empty/3.jpg": {"label": "empty", "taken_at": at(500)},
    }
    assert together(groups_of(of_rows(tmp_path / "c.birder", rows))) == [[0, 1], [2], [3]]
    mixed: Rows = {**rows, "site1/empty/4.jpg": {"label": "fox", "taken_at": at(900)}}
    assert together(groups_of(of_rows(tmp_path / "d.birder", mixed))) == [[0], [1], [2], [3], [4]]


def test_where_nothing_but_duplicates_tells_groups_apart_it_is_said(tmp_path: Path) -> None:
    rows = {f"fox/{n}.jpg": {"label": "fox", "taken_at": None} for n in range(5)}
    groups = groups_of(of_rows(tmp_path / "c.birder", rows))
    assert groups.kind == "duplicates" and groups.count == 5, "the label's folder is not a group"
    assert (
        "Images of one burst, one animal or one specimen count as independent, and may lie on both sides"
        in groups.how[0]
    )
    assert "--group-by COLUMN" in groups.how[0]
    assert groups.how[1].endswith("are one group: 5 groups of 5 images.")


def test_duplicates_join_groups_whatever_they_were_made_by(tmp_path: Path) -> None:
    # 0 ~ 1 ~ 2 is a chain of near-duplicates: 0 and 2 are further apart than the threshold.
    angles = np.deg2rad([0, 10, 20, 60, 90, 120, 150])
    vectors = np.stack([np.cos(angles), np.sin(angles)], axis=1) * 3.5
    assert np.cos(angles[1]) > 0.98 > np.cos(angles[2])
    contents = ["a", "b", "c", "d", "e", "d", "f"]
    sites = ["s0", "s1", "s2", "s3", "s4", "s5", "s4"]
    collection = collection_of_vectors(tmp_path / "c.birder", vectors, sha256=contents, columns={"site": sites})
    groups = groups_of(collection, group_by=["site"])
    assert together(groups) == [[0, 1, 2], [3, 5], [4, 6]]
    assert groups.how == (
        "Images are grouped by site: 3 groups.",
        "Groups that share identical or nearly identical images (cosine 0.98 or more) are joined: 6 became 3.",
    )
    assert groups_of(collection).kind == "duplicates"
    assert together(groups_of(collection)) == [[0, 1, 2], [3, 5], [4], [6]]


def test_a_group_that_holds_most_images_is_named(tmp_path: Path) -> None:
    rows = {f"{n}.jpg": {"site": "a" if n < 7 else f"b{n}"} for n in range(10)}
    groups = groups_of(of_rows(tmp_path / "c.birder", rows), group_by=["site"])
    assert groups.how[-1] == "One group holds 70% of the images: 7 of 10."


def test_a_random_split_is_said_to_be_one(tmp_path: Path) -> None:
    collection = collection_of_vectors(tmp_path / "c.birder", np.ones((4, 3)), sha256=["a"] * 4)
    groups = groups_of(collection, split="random")
    assert groups.kind == "random" and groups.count == 4
    assert "Images of one burst, one animal or one specimen may lie on both sides" in groups.how[0]
    with pytest.raises(ConfigError, match="not both"):
        groups_of(collection, group_by=["label"], split="random")


def test_columns_that_cannot_group_are_refused(tmp_path: Path) -> None:
    collection = of_rows(tmp_path / "c.birder", {"0.jpg": {"tags": ["a"], "site": "b"}})
    with pytest.raises(UnknownNameError, match="Did you mean site"):
        columns_for_groups(collection, ["sites"])
    with pytest.raises(ConfigError, match="cannot be grouped by tags"):
        columns_for_groups(collection, ["tags"])
    assert columns_for_groups(collection, ["site"]) == ["id", "uri", "sha256", "taken_at", "deployment", "site"]


def test_of_many_rows_a_graph_proposes_the_pairs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    vectors, _ = clusters(12, 25, size=16, spread=0.6)
    vectors = np.concatenate([vectors, vectors[:30] * 2])  # the same directions, other contents
    collection = collection_of_vectors(tmp_path / "c.birder", vectors)
    exact = groups_of(collection)
    assert 12 < exact.count <= 300
    monkeypatch.setattr(splits, "_EXACT", 100)
    monkeypatch.setattr(splits, "_PAIRS", 7)
    found = groups_of(collection)
    assert "by a graph of neighbours" in found.how[-1]
    assert found.codes.tolist() == exact.codes.tolist()


def test_thousands_of_images_that_look_the_same_are_one_group(tmp_path: Path) -> None:
    vectors = np.random.default_rng(0).normal(size=(1500, 160)).astype(np.float32)
    vectors[500:1400] = vectors[0] + 0.01 * vectors[500:1400]
    numbers = similar_components(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), 0.98)
    assert len(np.unique(numbers)) == 1500 - 900
    assert len(np.unique(numbers[500:1400])) == 1


# Folds

labelled = st.integers(2, 60).flatmap(
    lambda rows: st.tuples(
        st.lists(st.integers(0, 5), min_size=rows, max_size=rows),
        st.lists(st.integers(0, 12), min_size=rows, max_size=rows),
        st.integers(2, 6),
        st.integers(0, 3),
    )
)


@pytest.mark.slow
@given(labelled)
@settings(max_examples=200, deadline=None)
def test_folds_hold_whole_groups_and_every_judged_class_has_two(case: tuple[list[int], list[int], int, int]) -> None:
    labels, groups = np.array(case[0], np.int64), np.array(case[1], np.int64)
    folds = make_folds(labels, groups, case[2], case[3])
    judged = folds.of >= 0
    for group in np.unique(groups):
        assert len(np.unique(folds.of[judged & (groups == group)])) <= 1, "a group is on both sides"
    assert sorted(np.unique(folds.of[judged])) == list(range(folds.count))
    assert folds.count <= max(case[2], len(np.unique(labels)))
    assert set(labels[~judged].tolist()) == set(folds.unjudged)
    assert not set(labels[judged].tolist()) & set(folds.unjudged)
    for class_ in np.unique(labels):
        if len(np.unique(groups[labels == class_])) == 1:
            assert class_ in folds.unjudged
        else:
            assert class_ not in folds.unjudged
            assert len(np.unique(folds.of[labels == class_])) > 1, "nothing is left to learn the class from"
    again = make_folds(labels, groups, case[2], case[3])
    assert np.array_equal(folds.of, again.of) and folds.unjudged == again.unjudged


def uneven(labels: Codes, folds: Codes, count: int) -> float:
    """The mean over classes of the standard deviation of their shares of the folds."""
    table = np.zeros((count, labels.max() + 1))
    np.add.at(table, (folds, labels), 1)
    return float((table / table.sum(axis=0)).std(axis=0).mean())


@pytest.mark.parametrize(("rows", "groups"), [(300, 40), (2000, 100), (2000, 700)])
def test_classes_are_spread_as_evenly_as_by_scikit_learn(rows: int, groups: int) -> None:
    ours, theirs = [], []
    for seed in range(5):
        random = np.random.default_rng(seed)
        labels = np.minimum(random.geometric(0.3, rows) - 1, 8)
        group = random.integers(0, groups, rows)
        folds = make_folds(labels, group, 5, seed)
        assert folds.count == 5 and not folds.unjudged
        ours.append(uneven(labels, folds.of, 5))
        reference = np.empty(rows, np.int64)
        splitter = StratifiedGroupKFold(5, shuffle=True, random_state=seed)
        for fold, (_, test) in enumerate(splitter.split(labels, labels, group)):
            reference[test] = fold
        theirs.append(uneven(labels, reference, 5))
    assert np.mean(ours) < 1.05 * np.mean(theirs)


def test_independent_rows_are_stratified_exactly() -> None:
    labels = np.repeat(np.arange(4), [50, 25, 10, 5])
    folds = make_folds(labels, np.arange(90), 5, 0)
    for class_, each in enumerate([10, 5, 2, 1]):
        assert np.bincount(folds.of[labels == class_]).tolist() == [each] * 5
    assert not np.array_equal(folds.of, make_folds(labels, np.arange(90), 5, 1).of), "the seed matters"


def test_a_class_in_one_group_is_named_and_left_out() -> None:
    labels = np.array([0, 0, 0, 1, 1, 7, 7, 7])
    groups = np.array([0, 1, 2, 1, 2, 2, 2, 2])
    folds = make_folds(labels, groups, 5, 0)
    assert folds.unjudged == (7,)
    assert (folds.of[5:] == -1).all() and (folds.of[:5] >= 0).all()
    assert folds.count == 3, "not more folds than groups"


def test_classes_whose_groups_would_share_a_fold_are_parted() -> None:
    # With two folds, evenness alone would put both small groups opposite the large one.
    labels = np.array([0] * 20 + [1] * 4 + [0] * 4)
    groups = np.array([0] * 20 + [1] * 2 + [2] * 2 + [1] * 2 + [2] * 2)
    folds = make_folds(labels, groups, 2, 0)
    assert folds.unjudged == ()
    assert len(np.unique(folds.of[labels == 1])) == 2


def test_a_further_fold_is_made_where_a_class_could_not_be_judged_otherwise() -> None:
    # Each class has two of three groups: in two folds, the groups of one class are always together.
    labels = np.repeat([0, 1, 2], 6)
    groups = np.array([0, 0, 0, 1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2, 0, 0, 0])
    for seed in range(5):
        folds = make_folds(labels, groups, 2, seed)
        assert folds.count == 3 and folds.unjudged == ()
        assert all(len(np.unique(folds.of[labels == class_])) == 2 for class_ in range(3))


def test_all_in_one_group_leaves_nothing_to_judge() -> None:
    folds = make_folds(np.array([0, 1, 1]), np.zeros(3, np.int64), 5, 0)
    assert folds.count == 0 and folds.unjudged == (0, 1) and (folds.of == -1).all()


def test_folds_that_cannot_be_made_are_refused() -> None:
    with pytest.raises(ConfigError, match="at least 2 folds, not 1"):
        make_folds(np.zeros(3, np.int64), np.arange(3), 1, 0)
    with pytest.raises(ConfigError, match="a group for each label"):
        make_folds(np.zeros(3, np.int64), np.arange(2), 2, 0)
