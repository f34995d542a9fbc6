"""`birder serve --model`: a classifier from a file names stored and uploaded images."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from PIL import Image

import birder
from birder.errors import WeightsError, WrongModelError
from birder.server.app import create_app
from birder.weights.head import save_head
from birder.weights.resolve import resolve
from tests.classifiers import adaptation_of, head_of, network_file
from tests.server.live import serving

DATA = Path(__file__).parents[1] / "data"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("home")
    model = resolve(network_file(home / "vit_b16_pn_tiny.pt")).load_image_encoder()
    source = Image.open(DATA / "chelsea.png").convert("RGB")
    (home / "photos" / "cats").mkdir(parents=True)
    for i in range(3):
        source.crop((40 * i, 20 * i, 40 * i + 64, 20 * i + 64)).save(home / "photos" / "cats" / f"{i}.png")
    birder.embed(home / "photos", home / "c.birder", str(home / "vit_b16_pn_tiny.pt"), engine="torch", precision="fp32")
    adaptation = adaptation_of(model) | {"column": "label"}
    adaptation["unknown"]["threshold"] = -1.0  # nothing is known
    head = head_of(model, adaptation=adaptation)
    save_head(home / "owls.safetensors", head, model=model)
    save_head(home / "owls.safetensors", head, model=None)
    return home


@pytest.fixture(scope="module", params=["owls.safetensors", "owls.head.safetensors"])
def client(home: Path, request: pytest.FixtureRequest) -> Iterator[httpx.Client]:
    with serving(home / "c.birder", model=home / request.param) as client:
        yield client


def test_stored_and_uploaded_images_are_named_by_the_classifier(home: Path, client: httpx.Client) -> None:
    named = {
        row["uri"]: row
        for row in birder.open_collection(home / "c.birder").predict(model=home / "owls.safetensors", k=1)
    }
    photos = client.get("photos").raise_for_status().json()["photos"]
    assert len(photos) == 3
    for photo in photos:
        told = client.get(f"photos/{photo['id']}/predictions", params={"k": 2}).raise_for_status().json()
        expected = next(row for uri, row in named.items() if uri.endswith(f"/{Path(photo['name']).name}"))
        assert len(told["predictions"]) == 2
        assert told["predictions"][0]["name"] == expected["label"]
        assert told["predictions"][0]["score"] == pytest.approx(expected["score"], abs=1e-6)
        assert (told["method"], told["column"]) == ("classifier", "label")
        assert told["note"].startswith("Unknown: it is unlike anything")
        assert "cross-validated accuracy 80.0%" in told["note"]
        with Path(photo["name"]).open("rb") as file:
            uploaded = client.post("predict", files={"file": file}, data={"k": "1"}).raise_for_status().json()
        assert uploaded["predictions"][0]["name"] == expected["label"]
        assert uploaded["predictions"][0]["score"] == pytest.approx(expected["score"], abs=1e-3)


def test_a_file_that_does_not_fit_is_refused_at_the_start(home: Path, tmp_path: Path) -> None:
    other = resolve(network_file(tmp_path / "vit_b16_pn_other.pt", seed=9)).load_image_encoder()
    path = save_head(tmp_path / "others.safetensors", head_of(other), model=other)
    with pytest.raises(WrongModelError, match="vit_b16_pn_other"):
        create_app(home / "c.birder", model=path)
    with pytest.raises(WeightsError, match="no class names"):
        create_app(home / "c.birder", model=home / "vit_b16_pn_tiny.pt")
