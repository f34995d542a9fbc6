"""Predictions that SpeciesNet and pybioclip made, in rows that are there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from birder.cli.import_ import import_
from birder.collection.storage import Storage
from birder.errors import BirderError, ConfigError
from birder.formats.import_predictions import import_predictions
from tests.formats.conftest import Make

app = typer.Typer()
app.command()(import_)

# As SpeciesNet 4.0.1a writes them.
LION = "ddf59264-185a-4d35-b647-2785792bdf54;mammalia;carnivora;felidae;panthera;leo;lion"
DOGS = "3184697f-51ad-4608-9a28-9edb5500159c;mammalia;carnivora;canidae;;;canidae family"
BLANK = "f1856211-cfb7-4a5b-9158-c0f72fd09ee6;;;;;;blank"


def speciesnet(file: Path, *entries: dict[str, Any]) -> Path:
    file.write_text(json.dumps({"predictions": list(entries)}))
    return file


def entry(path: str, prediction: str | None = None, score: Any = 0.9) -> dict[str, Any]:
    found = {"filepath": path, "model_version": "4.0.1a", "detections": []}
    return found | (
        {"prediction": prediction, "prediction_score": score} if prediction else {"failures": ["CLASSIFIER"]}
    )


def rows_of(collection: Storage) -> dict[str, dict[str, Any]]:
    return {row["uri"]: row for row in Storage.open(collection.path).to_arrow().to_pylist()}


def test_speciesnet_predictions_are_imported_with_their_taxonomy(make: Make, tmp_path: Path) -> None:
    uris = [f"file:///home/ada/trap/cam{c}/IMG_{n}.JPG" for c in "AB" for n in (1, 2)]
    box = f"{uris[0]}#xywh=percent:0,0,50,50"
    collection = make({uris[0]: {"label": "my lion"}, **{uri: {} for uri in uris[1:]}, box: {}})
    given = [entry("C:\\data\\trap\\camA\\IMG_1.JPG", LION), entry("C:\\data\\trap\\camB\\IMG_1.JPG", DOGS, 0.5)]
    given += [entry("C:\\data\\trap\\camA\\IMG_2.JPG", BLANK, 1), entry("C:\\data\\trap\\camB\\IMG_2.JPG")]
    given += [entry("C:\\data\\trap\\camC\\IMG_1.JPG", LION)]  # whose folder is not here: none of the others
    result = CliRunner().invoke(app, [str(collection.path), str(speciesnet(tmp_path / "p.json", *given))])
    for said in ("4 rows of", "1 image has no prediction", "1 image in"):
        assert said in result.output, result.output
    rows = rows_of(collection)
    lion = rows[uris[0]]
    assert [lion[f"predicted_{rank}"] for rank in ("kingdom", "class", "genus", "species", "common_name")] == [
        "Animalia", "Mammalia", "Panthera", "Panthera leo", "lion"
    ]  # fmt: skip
    assert (lion["predicted_by"], lion["predicted_at"], lion["label"]) == ("SpeciesNet 4.0.1a", None, "my lion")
    assert lion["predicted_score"] == pytest.approx(0.9) and rows[box]["predicted_species"] == "Panthera leo"
    dogs, blank, failed = rows[uris[2]], rows[uris[1]], rows[uris[3]]
    assert (dogs["predicted_family"], dogs["predicted_genus"], dogs["predicted_species"]) == ("Canidae", None, None)
    assert (blank["predicted_label"], blank["predicted_kingdom"]) == ("blank", None)
    assert failed["predicted_score"] is None and failed["predicted_by"] is None


def test_output_of_bioclip_predict_is_imported(make: Make, tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / f"{name}.jpg").write_bytes(b"")
    collection = make({(tmp_path / f"{name}.jpg").as_uri(): {} for name in ("a", "b")})
    ranks = "kingdom,phylum,class,order,family,genus,species_epithet,species,common_name"
    bird = "Animalia,Chordata,Aves,Strigiformes,Strigidae"
    lines = [f"a.jpg,{bird},Strix,aluco,Strix aluco,,0.2", f"a.jpg,{bird},Bubo,bubo,Bubo bubo,owl,0.7"]
    (tmp_path / "species.csv").write_text("\n".join([f"file_name,{ranks},score", *lines]))
    arguments = [str(collection.path), str(tmp_path / "species.csv"), "--model", "bioclip"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0 and "1 row of" in result.output, result.output
    row = rows_of(collection)[(tmp_path / "a.jpg").as_uri()]
    assert (row["predicted_species"], row["predicted_common_name"], row["predicted_by"]) == (
        "Bubo bubo",
        "owl",
        "bioclip",
    )
    (tmp_path / "classes.csv").write_text("file_name,classification,score\na.jpg,cat,0.9\nb.jpg,dog,0.8\n")
    import_predictions(tmp_path / "classes.csv", Storage.open(collection.path))
    rows = rows_of(collection)
    assert [row["predicted_label"] for row in rows.values()] == ["cat", "dog"]
    assert [row["predicted_species"] for row in rows.values()] == [None, None]  # no longer what was predicted


@pytest.mark.parametrize(
    "text",
    [
        '{"predictions": 7}',
        '{"predictions": [7]}',
        '{"predictions": [{"filepath": 7}]}',
        '{"predictions": [{"filepath": "a.jpg", "prediction": "lion"}]}',
        '{"predictions": [{"filepath": "a.jpg", "prediction": ";;;;;;x", "prediction_score": null}]}',
        '{"predictions": [{"filepath": "a.jpg", "prediction": ";;;;;;x", "prediction_score": %s}]}' % ("9" * 400),
        '{"predictions": [{"filepath": "\\u0000", "prediction": ";;;;;;x", "prediction_score": 1}]}',
        '{"predictions": []}',
    ],
)
def test_predictions_in_another_format_are_refused(make: Make, tmp_path: Path, text: str) -> None:
    collection = make({"file:///a.jpg": {}})
    (tmp_path / "p.json").write_text(text)
    with pytest.raises(BirderError, match=r"p\.json"):
        import_predictions(tmp_path / "p.json", collection)
    assert "predicted_score" not in Storage.open(collection.path).columns


def test_ambiguous_paths_are_refused_and_not_guessed(make: Make, tmp_path: Path) -> None:
    collection = make({"file:///x/a/1.jpg": {}, "file:///x/b/1.jpg": {}})
    with pytest.raises(ConfigError, match="could be those in /x/a or /x/b"):
        import_predictions(speciesnet(tmp_path / "p.json", entry("1.jpg", LION)), collection)
    with pytest.raises(ConfigError, match="No image in .*p.json matches a row"):
        import_predictions(speciesnet(tmp_path / "p.json", entry("7.jpg", LION)), collection)
    (tmp_path / "t.csv").write_text("a,b\n1,2\n")
    with pytest.raises(ConfigError, match="as `bioclip predict` writes them"):
        import_predictions(tmp_path / "t.csv", collection)
