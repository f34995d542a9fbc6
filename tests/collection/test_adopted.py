"""New images in collections of imported embeddings: by the model that made them, and by no other."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import birder
from birder.collection.model import load_encoder
from birder.collection.storage import Storage
from birder.errors import ConfigError, WrongModelError
from birder.images.open import open_image

DATA = Path(__file__).parents[1] / "data"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve images, a small model, and CSVs of nine images' embeddings: by it, and by the small CLIP."""
    home = tmp_path_factory.mktemp("home")
    (home / "photos").mkdir()
    shutil.copy(DATA / "birder" / "vit_tiny_p16_pn_test.pt", home / "vit_b16_pn_tiny.pt")
    source = Image.open(DATA / "chelsea.png").convert("RGB")
    paths = [home / "photos" / f"{i:02}.png" for i in range(12)]
    for i, path in enumerate(paths):
        source.crop((15 * i, 8 * i, 15 * i + 220, 8 * i + 180)).save(path)
    encoder = load_encoder(home / "vit_b16_pn_tiny.pt", "cpu", draft=False, engine="torch", precision="fp32")
    clip = birder.load_clip(str(DATA / "openclip"))
    features = [clip.encode_image(clip.transform(open_image(path))[None]).numpy()[0] for path in paths[:9]]
    whole = [clip.encode_image(clip.whole_image_transform(open_image(path))[None]).numpy()[0] for path in paths[:9]]
    images = [encoder.embed_one(path) for path in paths[:9]]
    for name, vectors in (("image", images), ("clip", features), ("whole", whole)):
        frame = pd.DataFrame(np.stack(vectors).astype(float), columns=[f"emb_{i}" for i in range(len(vectors[0]))])
        frame.insert(0, "path", [f"photos/{path.name}" for path in paths[:9]])
        frame.insert(1, "label", ["cat"] * 9)
        frame.to_csv(home / f"{name}.csv", index=False)
    return home


def embeddings(path: Path) -> dict[str, list[float]]:
    return {row["uri"]: row["embedding"] for row in Storage.open(path).to_arrow().to_pylist()}


@pytest.mark.slow
@pytest.mark.parametrize("form", ["image", "clip", "whole"])
def test_new_images_go_into_imported_embeddings_by_the_model_that_made_them(
    home: Path, tmp_path: Path, form: str
) -> None:
    model = home / "vit_b16_pn_tiny.pt" if form == "image" else DATA / "openclip"
    done = birder.import_file(home / f"{form}.csv", tmp_path / "c.birder", model=str(model), progress=None)
    assert done.new == 9 and "8 images embedded again: 8 as stored" in done.notes[0]
    before = embeddings(tmp_path / "c.birder")
    new = [home / "photos" / f"{i:02}.png" for i in (9, 10, 11)]
    collection, report = birder.embed(new, tmp_path / "c.birder", progress=None, folder_labels=False)
    assert report.embedded == 3 and "8 as stored" in report.notes[0]
    after = embeddings(collection.path)
    assert {uri: after[uri] for uri in before} == before
    assert len(after) == 12 and len({len(vector) for vector in after.values()}) == 1
    again = birder.embed(new, tmp_path / "c.birder", progress=None, folder_labels=False)[1]
    assert (again.embedded, again.already) == (0, 3)
    Image.open(home / "photos" / "10.png").save(tmp_path / "query.bmp")
    found = birder.open_collection(tmp_path / "c.birder").search(images=tmp_path / "query.bmp", k=1, exact=True)
    assert form == "whole" or (found[0]["uri"].endswith("/10.png") and found[0]["similarity"] > 0.999)
    everything, report = birder.embed(home / "photos", tmp_path / "c.birder", progress=None, folder_labels=False)
    assert report.embedded == 9  # they have sizes now, and keep their labels
    assert everything.count("label = 'cat' AND width = 220") == 9 and len(everything) == 12
    assert birder.embed(home / "photos", tmp_path / "c.birder", progress=None)[1].already == 12


@pytest.mark.slow
def test_another_model_than_the_one_that_made_the_embeddings_is_told_by_the_images(home: Path, tmp_path: Path) -> None:
    frame = pd.read_csv(home / "image.csv")
    columns = [name for name in frame.columns if name.startswith("emb_")]
    model = str(home / "vit_b16_pn_tiny.pt")
    turned = frame.copy()
    turned[columns] = frame[columns].to_numpy()[:, ::-1]
    turned.to_csv(home / "turned.csv", index=False)
    done = birder.import_file(home / "turned.csv", tmp_path / "a.birder", model=model, progress=None)
    assert "gives other embeddings (8 images embedded again: 0 as stored" in done.notes[0]
    with pytest.raises(WrongModelError, match="gives other embeddings than those imported"):
        birder.embed(home / "photos" / "10.png", tmp_path / "a.birder", progress=None)
    assert len(birder.open_collection(tmp_path / "a.birder")) == 9
    shorter = frame.drop(columns=columns[-1])
    shorter.to_csv(home / "shorter.csv", index=False)
    done = birder.import_file(home / "shorter.csv", tmp_path / "b.birder", model=model, progress=None)
    assert f"holds {len(columns) - 1}-dimensional embeddings" in done.notes[0]
    with pytest.raises(WrongModelError, match="name the model that they were made with"):
        birder.embed(home / "photos" / "10.png", tmp_path / "b.birder", progress=None)
    frame["path"] = [f"https://example.org/{i}.png" for i in range(9)]
    frame.to_csv(home / "web.csv", index=False)
    done = birder.import_file(home / "web.csv", tmp_path / "d.birder", model=model, progress=None)
    assert done.notes == ()
    _, report = birder.embed(home / "photos" / "10.png", tmp_path / "d.birder", progress=None)
    assert report.embedded == 1 and "were made elsewhere" in report.notes[0]
    with pytest.raises(WrongModelError, match="cannot be compared"):
        birder.embed(home / "photos" / "11.png", tmp_path / "d.birder", "efficientnet_lite0_in1k", progress=None)
    with pytest.raises(ConfigError, match="in fp32"):
        birder.embed(home / "photos" / "11.png", tmp_path / "d.birder", precision="bf16", progress=None)
