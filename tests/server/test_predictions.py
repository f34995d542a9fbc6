"""Names for images on the page: by the same function, method and default as on the command line."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest

from birder.collection.storage import Storage
from birder.naming.by_examples import name_by_examples
from tests.factory import collection_of_images
from tests.server.live import serving


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("predictions")
    collection_of_images(folder, 40, labelled=20)
    return folder / "c.birder"


@pytest.fixture(scope="module")
def client(path: Path) -> Iterator[httpx.Client]:
    with serving(path) as client:
        yield client


@pytest.mark.parametrize("method", [None, "simpleshot", "knn"])
def test_names_are_those_of_name_by_examples_without_the_image_itself(
    client: httpx.Client, path: Path, method: str | None
) -> None:
    rows = Storage.open(path).to_arrow().sort_by("uri").to_pylist()
    vectors = np.array([row["embedding"] for row in rows], np.float32)
    labelled = [row["label"] is not None for row in rows]
    asked: dict[str, str | int] = {"k": 3} if method is None else {"k": 3, "method": method}
    for number in (3, 30):  # one with a label, one without
        examples = [i for i in range(len(rows)) if labelled[i] and i != number]
        names = name_by_examples(vectors[examples], [rows[i]["label"] for i in examples], method=method or "simpleshot")
        told = client.get(f"photos/{rows[number]['id']}/predictions", params=asked).raise_for_status().json()
        expected = names.predict(vectors[number : number + 1], 3)[0]
        assert [each["name"] for each in told["predictions"]] == [each["label"] for each in expected]
        assert [each["score"] for each in told["predictions"]] == pytest.approx(
            [each["score"] for each in expected], abs=1e-6
        )
        assert (told["method"], told["by"], told["column"]) == ("examples", method or "simpleshot", "label")
        assert told["note"] == f"By {names.description}."


def test_an_unknown_method_is_refused(client: httpx.Client) -> None:
    id_ = client.get("photos").json()["photos"][0]["id"]
    assert client.get(f"photos/{id_}/predictions", params={"method": "svm"}).status_code == 422


def test_a_label_that_was_just_given_counts(client: httpx.Client, path: Path) -> None:
    rows = Storage.open(path).to_arrow().sort_by("uri").to_pylist()
    before = client.get(f"photos/{rows[39]['id']}/predictions").json()["note"]
    answer = client.post("labels", json={"ids": [rows[35]["id"]], "value": "a kind of its own"})
    answer.raise_for_status()
    after = client.get(f"photos/{rows[39]['id']}/predictions", params={"k": 10}).json()
    assert "a kind of its own" in [each["name"] for each in after["predictions"]]
    assert before != after["note"]
