from __future__ import annotations

import io
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from birder.collection.storage import Storage
from birder.formats.import_embeddings import import_embeddings
from birder.images.open import open_image
from birder.registry import DEFAULT_WEIGHTS
from birder.sources import path_to_uri
from birder.weights.clip import load_clip
from tests.factory import DIMENSION, KINDS, collection_by_model, collection_of_images
from tests.server.live import serving


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    folder = tmp_path_factory.mktemp("search")
    collection_of_images(folder)
    with serving(folder / "c.birder") as client:
        yield client


@pytest.fixture(scope="module")
def rows(client: httpx.Client, tmp_path_factory: pytest.TempPathFactory) -> tuple[list[str], np.ndarray]:
    told = client.get("photos", params={"limit": 1000}).json()["photos"]
    path = Path(str(told[0]["name"])).parents[1] / "c.birder"
    table = Storage.open(path).to_arrow().sort_by("uri")
    vectors = np.array(table["embedding"].to_pylist())
    return table["id"].to_pylist(), vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def test_neighbours_are_those_of_the_largest_cosines(client: httpx.Client, rows: tuple[list[str], np.ndarray]) -> None:
    ids, vectors = rows
    cosines = vectors @ vectors[5]
    order = [i for i in np.argsort(-cosines) if i != 5][:7]
    found = client.get(f"photos/{ids[5]}/neighbours", params={"k": 7}).json()["photos"]
    assert [photo["id"] for photo in found] == [ids[i] for i in order]
    assert np.allclose([photo["similarity"] for photo in found], cosines[order], atol=1e-6)
    assert set(found[0]) == {"id", "name", "label", "width", "height", "v", "similarity"}


def test_searching_takes_likes_unlikes_embeddings_and_filters(
    client: httpx.Client, rows: tuple[list[str], np.ndarray]
) -> None:
    ids, vectors = rows
    asked = {"ids": [ids[0], ids[1]], "unlike": [ids[2]], "where": "site = 'S0'", "k": 5}
    found = client.post("search", json=asked).json()["photos"]
    scores = vectors @ ((vectors[0] + vectors[1]) / 2 - vectors[2])
    allowed = [i for i in range(40) if i % 3 == 0 and i not in (0, 1, 2)]
    order = sorted(allowed, key=lambda i: -scores[i])[:5]
    assert [photo["id"] for photo in found] == [ids[i] for i in order]
    found = client.post("search", json={"embedding": (3 * vectors[9]).tolist(), "k": 1}).json()["photos"]
    assert found[0]["id"] == ids[9] and found[0]["similarity"] == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize(
    ("asked", "why"),
    [
        ({}, "Nothing to search by"),
        ({"ids": ["nothing"]}, "no row 'nothing'"),
        ({"embedding": [1.0]}, "16-dimensional embeddings"),
        ({"embedding": [0.0] * DIMENSION}, "16-dimensional embeddings"),
        ({"texts": ["a frog"]}, "weights of tiny are not on this machine"),
        ({"unlike": ["a frog"]}, "weights of tiny are not on this machine"),
        ({"where": "labl = 'owl'"}, "Invalid filter: unknown column 'labl'. Did you mean 'label'"),
    ],
)
def test_queries_that_are_impossible_are_refused_with_a_reason(
    client: httpx.Client, asked: dict[str, object], why: str
) -> None:
    answer = client.post("search", json=asked)
    assert answer.status_code == 400 and why in answer.json()["detail"]


def test_a_filter_that_overflows_lancedbs_stack_is_refused_wherever_filters_are_taken(
    client: httpx.Client, rows: tuple[list[str], np.ndarray]
) -> None:
    where = ("1+case when 1=1 and 1=1 then 1 else 0 end" + "+1" * 90 + "+") * 28 + "1 > 0"
    for address in ("photos", "ids", "columns/label/values", f"photos/{rows[0][0]}/neighbours"):
        answer = client.get(address, params={"where": where})
        assert answer.status_code == 400 and "Invalid filter: it has more than" in answer.json()["detail"]
    assert client.post("search", json={"where": where}).status_code == 400
    assert client.get("collection").status_code == 200


def test_embeddings_that_are_not_finite_numbers_are_refused(client: httpx.Client) -> None:
    for number in ("NaN", "Infinity", "1e400", '"x"'):
        body = f'{{"embedding": [{", ".join([number] * DIMENSION)}]}}'
        answer = client.post("search", content=body, headers={"Content-Type": "application/json"})
        assert answer.status_code == 422, number


def test_an_unlabelled_image_gets_the_name_of_its_labelled_neighbours(
    client: httpx.Client, rows: tuple[list[str], np.ndarray]
) -> None:
    for number in range(20, 40):
        told = client.get(f"photos/{rows[0][number]}/predictions", params={"k": 2}).json()
        assert (told["method"], told["column"]) == ("examples", "label")
        assert told["predictions"][0]["name"] == KINDS[number % 4]
        assert 0.5 < told["predictions"][0]["score"] <= 1
    told = client.get(f"photos/{rows[0][0]}/predictions", params={"column": "species"}).json()
    assert (told["method"], told["predictions"]) == ("none", []) and "label some" in told["note"]
    assert client.get(f"photos/{rows[0][0]}/predictions", params={"column": "night"}).status_code == 404


def duplicates(client: httpx.Client, **asked: object) -> dict[str, Any]:
    """The groups, once they are found."""
    end = time.monotonic() + 60
    while time.monotonic() < end:
        told: dict[str, Any] = client.get("duplicates", params=asked).raise_for_status().json()  # type: ignore[arg-type]
        if told["state"] == "ready":
            return told
        time.sleep(0.05)
    raise AssertionError(told)


@pytest.mark.slow
def test_duplicates_are_grouped(tmp_path: Path) -> None:
    from tests.factory import card, jpeg, row_of_file

    collection = Storage.create_or_open(tmp_path / "c", card(DIMENSION))
    made = []
    rng = np.random.default_rng(0)
    for number in range(6):
        path = tmp_path / f"{number}.jpg"
        path.write_bytes(jpeg(0 if number in (0, 1) else number))
        vector = np.eye(DIMENSION)[0 if number < 2 else number] + (0 if number < 2 else 1e-3) * rng.normal(
            size=DIMENSION
        )
        made.append(row_of_file(path, np.eye(DIMENSION)[2] + 1e-3 if number == 3 else vector))
    with collection.writing():
        collection.write(made)
    with serving(tmp_path / "c") as client:
        first = client.get("duplicates").json()
        assert (first["state"], first["groups"]) == ("computing", []) and 0 <= first["progress"] <= 1
        told = duplicates(client)
        kinds = [(group["kind"], sorted(photo["name"][-5] for photo in group["photos"])) for group in told["groups"]]
        assert kinds == [("same content", ["0", "1"]), ("similar", ["2", "3"])] and told["total"] == 2
        assert all(0.97 <= photo["similarity"] <= 1 for group in told["groups"] for photo in group["photos"])
        assert client.get("duplicates", params={"limit": 1}).json()["total"] == 2
        assert client.get("duplicates", params={"threshold": 0.1}).status_code == 422
        ids = client.get("ids").json()["ids"]
        client.post("labels", json={"ids": ids[:1], "value": "owl"})
        assert client.get("duplicates").json()["state"] == "ready"  # a label makes no copy


@pytest.mark.slow
def test_one_threshold_waits_for_another_and_a_failure_is_reported_once(tmp_path: Path) -> None:
    collection_of_images(tmp_path, 60)
    with serving(tmp_path / "c.birder") as client:
        assert client.get("duplicates", params={"threshold": 0.9}).json()["state"] == "computing"
        waiting = client.get("duplicates", params={"threshold": 0.8}).json()
        assert (waiting["state"], waiting["progress"]) == ("computing", 0) and "waiting" in waiting["stage"]
        loose, strict = duplicates(client, threshold=0.8), duplicates(client, threshold=0.9)
        assert loose["total"] >= 1 and len(loose["groups"][0]["photos"]) >= len(strict["groups"][0]["photos"])
        (tmp_path / "c.birder").rename(tmp_path / "moved.birder")
        answer = client.get("duplicates", params={"threshold": 0.95})
        end = time.monotonic() + 60
        while answer.status_code == 200 and time.monotonic() < end:
            time.sleep(0.1)
            answer = client.get("duplicates", params={"threshold": 0.95})
        assert answer.status_code == 400 and "is not a collection" in answer.json()["detail"]
        (tmp_path / "moved.birder").rename(tmp_path / "c.birder")
        assert duplicates(client, threshold=0.95)["state"] == "ready"


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory, photos: Path) -> Iterator[tuple[httpx.Client, Path]]:
    """A collection of eight images with the model that is installed."""
    folder = tmp_path_factory.mktemp("real")
    chosen = sorted((photos / "birds").glob("*.jpg"))[:4] + sorted((photos / "fish").glob("*.jpg"))[:4]
    with serving(collection_by_model(folder, chosen)) as client:
        yield client, chosen[0]


def upload(path: Path) -> dict[str, tuple[str, bytes]]:
    return {"file": (path.name, path.read_bytes())}


def test_an_uploaded_image_has_the_embedding_of_the_collection(real: tuple[httpx.Client, Path]) -> None:
    client, path = real
    assert client.get("collection").json()["can"]["search_image"] is True
    answer = client.post("embed", files=upload(path))
    assert answer.status_code == 200, answer.text
    told = answer.json()
    with Image.open(path) as image:
        assert (told["width"], told["height"]) == image.size
    found = client.post("search", json={"embedding": told["embedding"], "k": 2}).json()["photos"]
    assert found[0]["name"].endswith(path.name) and found[0]["similarity"] == pytest.approx(1, abs=1e-3)
    found = client.post("search/image", files=upload(path), data={"k": "2"}).json()
    assert found["photos"][0]["name"].endswith(path.name)
    assert found["query"]["files"] == [path.name]


def test_an_uploaded_image_is_named(real: tuple[httpx.Client, Path]) -> None:
    client, path = real
    told = client.post("predict", files=upload(path), data={"k": "1"}).json()
    assert (told["method"], told["predictions"][0]["name"]) == ("examples", "birds")
    told = client.post("predict", files=upload(path), data={"column": "species", "k": "3"}).json()
    assert told["method"] == "classes" and len(told["predictions"]) == 3
    assert 0 < told["predictions"][-1]["score"] <= told["predictions"][0]["score"] <= 1
    id_ = client.get("photos").json()["photos"][0]["id"]
    same = client.get(f"photos/{id_}/predictions", params={"column": "species", "k": 3}).json()
    assert [each["name"] for each in same["predictions"]] == [each["name"] for each in told["predictions"]]


def test_several_uploaded_images_are_searched_for_at_once(real: tuple[httpx.Client, Path]) -> None:
    client, path = real
    files = [("file", (path.name, path.read_bytes()))] * 2
    assert client.post("search/image", files=files).json()["photos"][0]["name"].endswith(path.name)
    assert client.post("search/image", files=files * 5).status_code == 422
    answer = client.post("search/image", files=files[:1], data={"where": "nothing = 1"})
    assert answer.status_code == 400 and "Invalid filter" in answer.json()["detail"]


def test_a_model_of_another_width_than_imported_embeddings_is_refused(tmp_path: Path, photos: Path) -> None:
    from tests.factory import card, jpeg, row_of_file

    (tmp_path / "a.jpg").write_bytes(jpeg())
    imported = card(DIMENSION, engine="import", source=DEFAULT_WEIGHTS, transform={})
    collection = Storage.create_or_open(tmp_path / "c", imported)
    with collection.writing():
        collection.write([row_of_file(tmp_path / "a.jpg", np.ones(DIMENSION))])
    with serving(tmp_path / "c") as client:
        answer = client.post("embed", files={"file": ("a.jpg", jpeg())})
        assert answer.status_code == 400 and "gives 1280-dimensional ones" in answer.json()["detail"]


def test_an_uploaded_image_is_refused_without_the_model(client: httpx.Client) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (9, 9)).save(buffer, "PNG")
    for address in ("embed", "predict", "search/image"):
        answer = client.post(address, files={"file": ("a.png", buffer.getvalue())})
        assert answer.status_code == 400 and "birder fetch" in answer.json()["detail"]


def test_words_find_what_the_text_encoder_finds(tmp_path: Path, photos: Path) -> None:
    model = Path(__file__).parents[1] / "data" / "openclip"
    clip = load_clip(model)
    files = sorted((photos / "birds").glob("*.jpg"))[:6]
    with torch.inference_mode():
        features = clip.encode_image(torch.stack([clip.transform(open_image(file)) for file in files])).numpy()
    table = pa.table({"uri": [path_to_uri(file) for file in files], "emb": list(features)})
    pq.write_table(table, tmp_path / "theirs.parquet")
    import_embeddings(tmp_path / "theirs.parquet", tmp_path / "c.birder", model=str(model))
    words = clip.encode_text(["a gull"]).numpy()[0]
    cosines = features @ words / np.linalg.norm(features, axis=1) / np.linalg.norm(words)
    with serving(tmp_path / "c.birder") as client:
        assert client.get("collection").json()["can"]["search_text"]
        found = client.post("search", json={"texts": ["a gull"], "k": 6}).json()["photos"]
        can = client.get("collection").json()["can"]
        assert can["search_image"] and "were made elsewhere" in can["why"]  # the model that the import named is here
        like = client.post("search/image", files={"file": ("a.jpg", files[2].read_bytes())}).json()["photos"]
        assert like[0]["name"] == str(files[2]) and like[0]["similarity"] > 0.999
        assert client.post("embed", files={"file": ("a.jpg", files[2].read_bytes())}).json()["embedding"] == (
            pytest.approx(features[2].tolist(), abs=1e-3)
        )
    assert [photo["name"] for photo in found] == [str(files[i]) for i in np.argsort(-cosines)]
    np.testing.assert_allclose([photo["similarity"] for photo in found], np.sort(cosines)[::-1], atol=1e-5)


def test_words_are_searched_by_class_names_and_completed(tmp_path: Path, photos: Path) -> None:
    files = [photos / "birds" / "hen.jpg", photos / "mammals" / "cats" / "tiger-sumatran.jpg"]
    with serving(collection_by_model(tmp_path, files)) as client:
        can = client.get("collection").json()["can"]
        assert (can["search_text"], can["text_by"]) == (True, "class names")
        told = client.post("search", json={"texts": ["feline"], "k": 2}).json()
        assert [Path(photo["name"]).name for photo in told["photos"]] == ["tiger-sumatran.jpg", "hen.jpg"]
        assert told["note"].startswith("Found by the class names of efficientnet_lite0_in1k (feline: 13 classes)")
        unlike = client.post("search", json={"unlike": ["feline"], "k": 1}).json()
        assert Path(unlike["photos"][0]["name"]).name == "hen.jpg"
        known = client.get("words", params={"text": "bird -ow"}).json()
        assert known["words"][0] == {"text": "bird -owl", "classes": 1}
        assert "'ow'" in known["problem"]
        unknown = client.post("search", json={"texts": ["zebra finch"]})
        assert unknown.status_code == 404 and "nearest: finch" in unknown.json()["detail"]
