from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from birder.collection.labels import give_label
from birder.collection.storage import Storage
from birder.errors import ConfigError, UnknownNameError
from birder.inference.classifier import Classifier
from birder.learning.adapt import adapt
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


def until(client: httpx.Client, address: str, ready: Callable[[dict[str, Any]], bool], **parameters: str) -> Any:
    """What an address answers once that is ready."""
    for _ in range(900):
        answer = client.get(address, params=parameters)
        assert answer.status_code == 200, answer.text
        if ready(told := answer.json()):
            return told
        time.sleep(0.1)
    raise AssertionError(told)


def measured(client: httpx.Client, **parameters: str) -> dict[str, Any]:
    told: dict[str, Any] = until(client, "teach", lambda told: told["state"] == "ready", **parameters)
    return told


def test_it_says_what_it_wants_before_it_measures(tmp_path: Path) -> None:
    collection_of_images(tmp_path, 12, labelled=9)
    with serving(tmp_path / "c.birder") as client:
        told = client.get("teach").json()
        assert (told["state"], told["wanted"], told["lesson"]) == ("waiting", 5, None)
        assert {each["name"]: each["missing"] for each in told["classes"]} == dict(
            zip(KINDS, [2, 3, 3, 3], strict=True)
        )
        assert told["wants"].startswith("It wants 5 labels of each class. Still missing: ")
        assert (
            "give 5 images or more of each class a label"
            in client.get("teach", params={"column": "genus"}).json()["wants"]
        )
        for column in ("specis", "Temp C", "embedding"):
            answer = client.get("teach", params={"column": column})
            assert answer.status_code == 404 and "column of text" in answer.json()["detail"]
            for job in ("save", "name"):
                assert client.post(f"teach/{job}", json={"column": column}).status_code == 404
        assert client.post("teach/name", json={"where": "label ="}).status_code == 400
        assert client.post("teach/name", json={"where": "label = 'a\0b'"}).status_code in (202, 400)
        assert client.post("teach/cancel", json={"job": "name"}).status_code == 200
        assert client.post("teach/name", json={"precision": 1}).status_code == 422
        assert client.get("teach/classifier").status_code == 404
        assert client.get("teach/jobs").json()["save"]["state"] == "none"


@pytest.mark.slow  # it is measured by another process
def test_it_is_measured_and_again_when_labels_have_changed(tmp_path: Path) -> None:
    collection = collection_of_images(tmp_path, 80, labelled=40)
    truth = truths(collection)
    with serving(tmp_path / "c.birder") as client:
        ids = client.get("ids", params={"where": "label IS NOT NULL"}).json()["ids"]
        unlabelled = client.get("ids", params={"where": "label IS NULL"}).json()["ids"]

        def give(labels: dict[str, str]) -> None:
            changes = [{"ids": [id_], "column": "label", "value": value} for id_, value in labels.items()]
            assert client.post("labels", json={"changes": changes, "by": "Ada"}).status_code == 200

        wrong = next(id_ for id_ in ids if truth[id_] == "owl")
        give({wrong: "fox"})
        first = client.get("teach").json()
        assert (first["state"], first["lesson"]) == ("computing", None)
        told = measured(client)
        lesson = told["lesson"]
        assert told["wants"] == "" and lesson["accuracy"]["n"] == 40 and "40 images of 4 classes" in lesson["note"]
        assert lesson["accuracy"]["low"] <= lesson["accuracy"]["estimate"] <= lesson["accuracy"]["high"]
        assert lesson["confusions"] == [{"true": "fox", "predicted": "owl", "count": 1, "ids": [wrong]}]
        doubtful = lesson["doubtful"][0]
        assert (doubtful["id"], doubtful["label"], doubtful["suggested"]) == (wrong, "fox", "owl")
        assert lesson["rest"] == 40 and lesson["nameable"][1]["images"] > 25

        client.post("labels", json={"ids": [wrong], "column": "rejected", "value": "owl"})  # the person is right
        assert wrong not in [each["id"] for each in measured(client)["lesson"]["doubtful"]]
        client.post("labels", json={"ids": [wrong], "column": "rejected", "value": None})
        assert wrong in [each["id"] for each in measured(client)["lesson"]["doubtful"]]
        give({wrong: "owl"} | {id_: truth[id_] for id_ in unlabelled[:3]})  # too few to measure again
        again = measured(client)
        assert again["lesson"]["note"] == lesson["note"]
        assert wrong not in [each["id"] for each in again["lesson"]["doubtful"]]  # it was labelled anew
        give({unlabelled[3]: truth[unlabelled[3]]})
        again = client.get("teach").json()
        assert (again["state"], again["lesson"]["note"]) == ("computing", lesson["note"])  # the last figures, meanwhile
        final = measured(client)["lesson"]
        assert "44 images of 4 classes" in final["note"] and final["confusions"] == []


@pytest.mark.slow  # another process learns
def test_the_rest_is_named_and_the_classifier_saved_by_jobs_that_can_be_cancelled(tmp_path: Path) -> None:
    collection = collection_of_images(tmp_path, 80, labelled=40)
    truth = truths(collection)

    def ended(told: dict[str, Any]) -> bool:
        return all(job["state"] != "running" for job in told.values())

    with serving(tmp_path / "c.birder") as client:
        assert client.post("teach/name", json={}).json()["name"]["state"] == "running"
        assert client.post("teach/name", json={}).status_code == 409
        assert client.post("teach/cancel", json={"job": "name"}).json()["name"]["state"] == "cancelled"
        assert client.post("teach/cancel", json={"job": "save"}).json()["save"]["state"] == "none"
        assert "predicted_label" not in client.get("photos").json()["photos"][0]

        assert client.post("teach/save", json={"column": "label"}).status_code == 202
        asked = client.post("teach/name", json={"column": "label", "precision": None, "where": "site != 'S0'"})
        assert asked.json()["name"]["state"] == "running"  # at once after it was cancelled
        jobs = until(client, "teach/jobs", ended)
        assert jobs["name"]["state"] == "done", jobs
        rows = Storage.open(collection.path).to_arrow().to_pylist()
        assert sum(row["label"] is not None for row in rows) == 40
        named = {row["id"]: row["predicted_label"] for row in rows if row["predicted_label"]}
        assert named == {
            row["id"]: truth[row["id"]]
            for row in rows
            if row["label"] is None and row["site"] != "S0" and not row["predicted_unknown"]
        }
        assert f"{len(named)} of 27 images without a label named" in jobs["name"]["note"]

        assert jobs["save"]["state"] == "done" and jobs["save"]["file"] == "c-label.head.safetensors"
        answer = client.get("teach/classifier")
        assert len(answer.content) == jobs["save"]["bytes"]
        assert 'filename="c-label.head.safetensors"' in answer.headers["content-disposition"]
        (tmp_path / "c-label.head.safetensors").write_bytes(answer.content)
        saved = Classifier.load(tmp_path / "c-label.head.safetensors")
        own = adapt(collection, "label").classifier
        assert saved.classes == own.classes and np.array_equal(saved.weight, own.weight)

        assert client.post("teach/save", json={"network": True}).status_code == 202
        told = until(client, "teach/jobs", ended)["save"]
        assert told["state"] == "failed" and "not on this machine" in told["note"]
        assert client.get("teach/classifier").status_code == 404
