"""Clusters of a map and their names, against a count of every value by hand."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from birder.server.map_clusters import Cluster, clusters_of, folders_of
from tests.factory import KINDS, collection_of_images, lay_out
from tests.server.live import serving


def made(seed: int, each: list[int]) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """Points around places on a circle, and the place of each."""
    rng = np.random.default_rng(seed)
    group = np.repeat(np.arange(len(each)), each)
    angle = 2 * np.pi * group / len(each)
    middle = np.stack([np.cos(angle), np.sin(angle)], axis=1) * 8
    return (middle + rng.normal(scale=0.3, size=(len(group), 2))).astype(np.float32), group


def by_hand(xy: npt.NDArray[np.float32], clusters: list[Cluster]) -> npt.NDArray[np.int64]:
    """The cluster of each point: the one whose point is nearest."""
    anchors = xy[[each.point for each in clusters]].astype(np.float64)
    nearest: npt.NDArray[np.int64] = np.linalg.norm(xy[:, None].astype(np.float64) - anchors, axis=2).argmin(axis=1)
    return nearest


def test_a_cluster_is_named_by_what_is_there_and_hardly_elsewhere() -> None:
    xy, group = made(0, [300, 200, 100])
    rng = np.random.default_rng(1)
    species = np.array(["Vulpes vulpes", "Strix aluco", "Capreolus capreolus"])[group].astype(object)
    species[rng.random(600) < 0.3] = None
    label = np.array([None] * 600, object)
    label[:12] = "red fox"  # a few labels of many images
    columns = {
        "label": pa.array(label, pa.string()).dictionary_encode(),
        "species": pa.array(species, pa.string()).dictionary_encode(),
        "genus": pa.array([each and each.split()[0] for each in species], pa.string()).dictionary_encode(),
        "habitat": pa.array(["forest"] * 600).dictionary_encode(),  # tells nothing apart
        "blank": pa.array([" "] * 300 + ["x"] * 300).dictionary_encode(),
        "own": pa.array([f"{n}.jpg" for n in range(600)]),  # texts that do not repeat
        "empty": pa.array([None] * 600, pa.string()).dictionary_encode(),
    }
    found = clusters_of(xy, columns)
    assert [each.size for each in found] == [300, 200, 100]
    # Of what tells the same, the first column; a second name is about other images, and not in the first.
    assert [each.name for each in found] == ["Vulpes vulpes, red fox", "Strix aluco", "Capreolus capreolus"]
    assert [group[each.point] for each in found] == [0, 1, 2]
    assert [each.name for each in clusters_of(xy, {})] == ["", "", ""]
    assert clusters_of(xy[:0], columns) == []
    assert [each.size for each in clusters_of(np.zeros((40, 2), np.float32), {})] == [40]


@settings(max_examples=30, deadline=None)
@given(
    st.integers(0, 10**6),
    st.lists(st.integers(1, 60), min_size=1, max_size=9),
    st.integers(1, 6),
    st.floats(0, 1),
    st.sampled_from([0.25, 1024.0]),
)
def test_names_are_the_most_telling_values(seed: int, each: list[int], values: int, mixed: float, scale: float) -> None:
    xy, group = made(seed, each)
    rng = np.random.default_rng(seed)
    drawn = np.where(rng.random(len(group)) < mixed, rng.integers(0, values, len(group)), group % values)
    texts = np.array([f"value {code}" for code in drawn], object)
    texts[rng.random(len(group)) < 0.2] = None
    columns = {"c": pa.array(texts, pa.string()).dictionary_encode()}
    found = clusters_of(xy, columns)
    assert 1 <= len(found) <= 60
    assert [one.size for one in found] == np.bincount(by_hand(xy, found), minlength=len(found)).tolist()
    everywhere = Counter(text for text in texts if text)
    for number, one in enumerate(found):
        inside = texts[by_hand(xy, found) == number]
        here = Counter(text for text in inside if text)
        scores = {
            text: count / len(inside) * math.log(count / len(inside) / (everywhere[text] / len(texts)))
            for text, count in here.items()
            if count >= 5
            and count >= 0.02 * len(inside)
            and count >= 0.25 * sum(here.values())
            and count * len(texts) >= 1.5 * everywhere[text] * len(inside)
        }
        best = max(scores.values(), default=0)
        names = one.name.split(", ") if one.name else []
        assert bool(names) == bool(scores) and len(names) <= 2
        assert all(name in scores for name in names)
        assert not names or scores[names[0]] >= best - 1e-9
    # Neither the order of the points nor the unit of the map matters.
    order = rng.permutation(len(xy))
    shuffled = clusters_of(xy[order] * np.float32(scale), {"c": columns["c"].take(pa.array(order))})
    key = [(one.size, one.name, *(xy[one.point] * np.float32(scale)).tolist()) for one in found]
    again = [(one.size, one.name, *(xy[order[one.point]] * np.float32(scale)).tolist()) for one in shuffled]
    assert sorted(key) == sorted(again)


def test_folders_are_names_too() -> None:
    uris = [f"file:///my%20photos/card%20{n % 3}/{n}.jpg" for n in range(40)]
    uris += ["https://x.org/a/b.jpg", "file:///s.tar#in/a.jpg", "urn:x:1", "file:///a/v.mp4#t=npt:1"] * 10
    found = folders_of(pa.array(uris))
    assert found.to_pylist()[:3] == ["card 0", "card 1", "card 2"]
    assert found.to_pylist()[-4:] == ["a", None, None, "a"]
    assert pa.types.is_string(folders_of(pa.array([f"file:///{n}/a.jpg" for n in range(9)])).type)


def test_clusters_are_served_and_follow_labels(tmp_path: Path) -> None:
    collection = collection_of_images(tmp_path, labelled=40)
    rows = collection.stored_rows().to_table(["id", "label"])
    xy = np.array([[10.0 * KINDS.index(label), 0.1 * n] for n, label in enumerate(rows["label"].to_pylist())])
    with serving(collection.path) as client:
        answer = client.get("map/clusters")
        assert answer.status_code == 404 and "POST" in answer.json()["detail"]
        lay_out(collection, xy)
        found = client.get("map/clusters").json()["clusters"]
        assert sorted(each["name"].split(", ")[0] for each in found) == sorted(KINDS)
        assert [each["count"] for each in found] == [10] * 4
        ids = client.get("map/ids").json()["ids"]
        labels = dict(zip(rows["id"].to_pylist(), rows["label"].to_pylist(), strict=True))
        assert all(labels[ids[each["point"]]] == each["name"].split(", ")[0] for each in found)
        foxes = [id_ for id_, label in labels.items() if label == "fox"]
        client.post("labels", json={"ids": foxes, "value": "red fox", "by": "Ada"}).raise_for_status()
        names = [each["name"].split(", ")[0] for each in client.get("map/clusters").json()["clusters"]]
        assert sorted(names) == sorted({*KINDS, "red fox"} - {"fox"})
