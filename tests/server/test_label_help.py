from __future__ import annotations

import time
from pathlib import Path

import httpx
import numpy as np
import pytest

from birder.collection.labels import give_label
from birder.collection.storage import Storage
from birder.errors import ConfigError, UnknownNameError
from birder.learning.suggest import suggest
from tests.factory import KINDS, card, collection_of_images, row_of_file
from tests.server.live import serving


def truths(collection: Storage) -> dict[str, str]:
    table = collection.to_arrow()
    names = (uri.rpartition("%20")[2] for uri in table["uri"].to_pylist())
    from urllib.parse import unquote

    return {id_: unquote(name).removesuffix(".jpg") for id_, name in zip(table["id"].to_pylist(), names, strict=True)}


def test_suggestions_give_unlabelled_images_the_label_of_their_cluster_most_certain_first(tmp_path: Path) -> None:
    collection = collection_of_images(tmp_path, 80, labelled=12)
    found = suggest(collection, "label")
    truth = truths(collection)
    assert len(found.rows) == 68
    assert all(row.label == truth[row.id] for row in found.rows)
    scores = [row.score for row in found.rows]
    assert scores == sorted(scores, reverse=True) and 1 / 4 < scores[-1] <= scores[0] <= 1
    assert found.classes == sorted(((kind, 3) for kind in KINDS), key=lambda item: item[0])
    assert "12 labelled images of 4 kinds" in found.note


def test_suggestions_can_be_limited_to_one_label(tmp_path: Path) -> None:
    collection = collection_of_images(tmp_path, 80, labelled=12)
    found = suggest(collection, "label", label="fox", limit=5)
    truth = truths(collection)
    assert [row.label for row in found.rows] == ["fox"] * 5
    assert {truth[row.id] for row in found.rows} == {"fox"}


def test_the_most_useful_suggestions_lie_between_two_classes(tmp_path: Path) -> None:
    collection = Storage.create_or_open(tmp_path / "c", card(2))
    photo = tmp_path / "a.jpg"
    rows = []
    from tests.factory import jpeg

    for number, degrees in enumerate([0, 2, 4, 88, 90, 86, 10, 30, 45, 61, 81]):
        photo = tmp_path / f"{number:02d}.jpg"
        photo.write_bytes(jpeg(number))
        angle = np.radians(degrees)
        label = {0: "a", 1: "a", 2: "a", 3: "b", 4: "b", 5: "b"}.get(number)
        rows.append(row_of_file(photo, 5 * np.array([np.cos(angle), np.sin(angle)]), label=label))
    with collection.writing():
        collection.write(rows)
    names = {row["id"]: row["uri"][-6:-4] for row in collection.to_arrow().to_pylist()}
    useful = [names[row.id] for row in suggest(collection, "label", order="useful").rows]
    certain = [names[row.id] for row in suggest(collection, "label", order="certain").rows]
    assert useful[0] == "08" and set(useful[1:3]) == {"07", "09"}
    assert certain == useful[::-1]
    assert [names[row.id] for row in suggest(collection, "label", label="b").rows] in (["10", "09"], ["10", "09", "08"])


def test_with_one_class_the_unlabelled_rows_are_its_opposite(tmp_path: Path) -> None:
    collection = collection_of_images(tmp_path, 80, labelled=0)
    truth = truths(collection)
    owls = [id_ for id_, name in truth.items() if name == "owl"]
    give_label(collection, owls[:4], "label", "owl")
    found = suggest(collection, "label", label="owl", limit=16)
    assert {truth[row.id] for row in found.rows[:10]} == {"owl"}
    assert "others drawn at random" in found.note
    assert {row.label for row in suggest(collection, "label", order="useful").rows} == {"owl"}


def test_suggestions_that_are_impossible_are_refused_with_a_reason(tmp_path: Path) -> None:
    collection = collection_of_images(tmp_path, 8, labelled=0)
    with pytest.raises(ConfigError, match="No row has a value in label yet"):
        suggest(collection, "label")
    with pytest.raises(UnknownNameError, match="Unknown column"):
        suggest(collection, "labl")
    ids = list(truths(collection))
    give_label(collection, ids[:4], "label", "owl")
    with pytest.raises(UnknownNameError, match="Unknown label"):
        suggest(collection, "label", label="fox")
    give_label(collection, ids, "label", "owl")
    assert suggest(collection, "label").rows == []


def test_surplus_examples_are_sampled_evenly_from_the_classes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from birder.learning import suggest as module

    monkeypatch.setattr(module, "MOST_EXAMPLES", 12)
    collection = collection_of_images(tmp_path, 80, labelled=60)
    found = suggest(collection, "label")
    assert "12 labelled images of 4 kinds, drawn from 60" in found.note
    truth = truths(collection)
    assert all(row.label == truth[row.id] for row in found.rows)


def test_the_server_lists_suggestions(tmp_path: Path) -> None:
    collection_of_images(tmp_path, 40, labelled=12)
    with serving(tmp_path / "c.birder") as client:
        told = client.get("suggest", params={"label": "owl", "limit": 3}).json()
        assert [photo["label"] for photo in told["photos"]] == ["owl"] * 3
        assert set(told["photos"][0]) == {"id", "name", "label", "width", "height", "v", "score"}
        assert {each["name"] for each in told["classes"]} == set(KINDS)
        answer: httpx.Response = client.get("suggest", params={"column": "species"})
        assert answer.status_code == 400 and "No row has a value in species yet" in answer.json()["detail"]
        assert client.get("suggest", params={"column": "embedding"}).status_code == 404


def measured(client: httpx.Client, **parameters: str) -> dict[str, object]:
    """The accuracy of label help, once it is measured."""
    for _ in range(600):
        answer = client.get("suggest/accuracy", params=parameters)
        assert answer.status_code == 200
        told: dict[str, object] = answer.json()
        if told["state"] == "ready":
            return told
        time.sleep(0.1)
    raise AssertionError(told)


@pytest.mark.slow  # it is measured by another process
def test_the_server_measures_how_often_suggestions_are_right_and_again_when_there_are_new_labels(
    tmp_path: Path,
) -> None:
    collection = collection_of_images(tmp_path, 80, labelled=40)
    with serving(tmp_path / "c.birder") as client:
        first = client.get("suggest/accuracy").json()
        assert first == {"state": "computing", "accuracy": None, "note": "", "how": ""}
        told = measured(client)
        accuracy = told["accuracy"]
        assert isinstance(accuracy, dict) and accuracy["n"] == 40
        assert accuracy["low"] <= accuracy["estimate"] <= accuracy["high"]
        assert "40 images of 4 classes" in str(told["note"]) and "duplicates" in str(told["how"])

        unlabelled = client.get("ids", params={"where": "label IS NULL"}).json()["ids"]
        truth = truths(collection)

        def give(ids: list[str]) -> None:
            changes = [{"ids": [id_], "column": "label", "value": truth[id_]} for id_ in ids]
            assert client.post("labels", json={"changes": changes, "by": "Ada"}).status_code == 200

        give(unlabelled[:4])  # too few to measure again
        assert measured(client) == told
        give(unlabelled[4:5])
        again = client.get("suggest/accuracy").json()
        assert (again["state"], again["note"]) == ("computing", told["note"])  # the last figure, meanwhile
        assert "45 images of 4 classes" in str(measured(client)["note"])


@pytest.mark.slow  # it is measured by another process
def test_what_cannot_be_measured_says_what_is_needed(tmp_path: Path) -> None:
    collection_of_images(tmp_path, 12, labelled=1)
    with serving(tmp_path / "c.birder") as client:
        told = measured(client)
        assert told["accuracy"] is None and "two classes" in str(told["note"])
        for column in ("specis", "Temp C", "embedding"):
            answer = client.get("suggest/accuracy", params={"column": column})
            assert answer.status_code == 404 and "column of text" in answer.json()["detail"]
