"""Packages are validated by frictionless against the standard's own schemas (tests/data/camtrap-dp-1.0.2)."""

from __future__ import annotations

import contextlib
import csv
import json
import shutil
import zipfile
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from typer.testing import CliRunner

from birder.cli import app
from birder.collection.labels import give_label
from birder.collection.storage import Storage
from birder.errors import CollectionError, ConfigError, FileExistsError
from birder.formats.camtrap import Project, read_zone
from birder.formats.export import export
from birder.formats.sources import find_sources
from birder.sources import path_to_uri
from tests.formats.camtrap import BOX, PREDICTED, PROJECT, check, lines
from tests.formats.conftest import DATA, Make


@pytest.fixture
def trap(make: Make, tmp_path: Path) -> Storage:
    """A collection made from the standard's example package, three images of it."""
    sources = [source for source in find_sources([str(DATA / "camtrap-dp")]) if dict(source.columns)["fileName"]]
    chosen = [source for source in sources if source.columns["label"]][:40]
    schema = chosen[0].columns.table.schema  # type: ignore[attr-defined]
    types = dict(zip(schema.names, schema.types, strict=True))
    rows = {source.uri: dict(source.columns) for source in chosen}
    first = next(iter(rows))
    rows[first] |= {"predicted_label": "Vulpes vulpes", "predicted_score": 0.75}
    return make(rows, types | PREDICTED)


@pytest.mark.slow
def test_a_collection_from_a_package_is_exported_with_its_deployments_and_media(trap: Storage, tmp_path: Path) -> None:
    export(
        trap, tmp_path / "out", format="camtrap-dp", project=Project(package=DATA / "camtrap-dp"), classifier="net 1"
    )
    package = check(tmp_path / "out", tmp_path)
    rows = trap.to_arrow().to_pylist()
    for table in ("deployments", "media", "observations"):  # a name by a person stands alone
        assert lines(tmp_path / "out", table) == lines(DATA / "camtrap-dp", table)
    assert rows[0]["predicted_label"] == "Vulpes vulpes"
    export(trap, tmp_path / "some", "camtrap-dp", where="deployment = '00a2c20d'", project=Project(DATA / "camtrap-dp"))
    chosen = {row["mediaID"] for row in rows if row["deployment"] == "00a2c20d"}
    assert [line["deploymentID"] for line in lines(tmp_path / "some", "deployments")] == ["00a2c20d"]
    assert {line["mediaID"] for line in lines(tmp_path / "some", "media")} == chosen
    assert {line["mediaID"] for line in lines(tmp_path / "some", "observations")} == {*chosen, ""}
    check(tmp_path / "some", tmp_path)
    original = json.loads((DATA / "camtrap-dp" / "datapackage.json").read_text())
    assert package["project"]["title"] == original["project"]["title"]
    assert package["contributors"] == original["contributors"]
    assert package["licenses"] == original["licenses"]
    known = {taxon["scientificName"]: taxon for taxon in original["taxonomic"]}
    assert package["taxonomic"][: len(known)] == original["taxonomic"]
    assert (package["spatial"], package["temporal"]) == (original["spatial"], original["temporal"])


@pytest.mark.slow
def test_a_round_trip_keeps_what_machines_observed_and_replaces_only_what_changed(make: Make, tmp_path: Path) -> None:
    source = tmp_path / "original"
    shutil.copytree(DATA / "camtrap-dp", source)
    header, *table = csv.reader((source / "observations.csv").read_text("utf-8").splitlines())
    place = header.index
    media = [line[place("mediaID")] for line in table if line[place("mediaID")]][:3]
    for line in table:  # the first three media were classified by a machine, with a box and more
        if line[place("mediaID")] in media:
            told = {"classificationMethod": "machine", "classifiedBy": "net 1", "classificationProbability": "0.875"}
            told |= {"bboxX": "0.1", "bboxY": "0.2", "bboxWidth": "0.3", "bboxHeight": "0.4", "cameraSetupType": ""}
            told |= {"individualID": "i7", "observationComments": "as it was", "classificationTimestamp": ""}
            for name, value in told.items():
                line[place(name)] = value
    with (source / "observations.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([header, *table])
    given = lines(source, "observations")
    sources = [each for each in find_sources([source]) if each.columns["mediaID"] in media]
    schema = sources[0].columns.table.schema  # type: ignore[attr-defined]
    types = dict(zip(schema.names, schema.types, strict=True))
    collection = make({each.uri: dict(each.columns) for each in sources}, types)
    project = Project(source)
    export(collection, tmp_path / "same", "camtrap-dp", project=project)
    check(tmp_path / "same", tmp_path)
    for name in ("deployments", "media", "observations"):
        assert lines(tmp_path / "same", name) == lines(source, name)

    rows = {row["mediaID"]: row for row in collection.to_arrow().to_pylist()}
    give_label(collection, [rows[media[0]]["id"]], "label", "Vulpes vulpes", by="Ada")
    uri, again = rows[media[1]]["uri"], {"label": "Meles meles", "score": 0.5}
    collection.save_predictions([(uri, again)], ["label"], "net 2", None)
    collection.see_latest()
    export(collection, tmp_path / "changed", "camtrap-dp", project=project)
    check(tmp_path / "changed", tmp_path)
    observed = lines(tmp_path / "changed", "observations")
    assert observed[2:] == given
    said = [(line["mediaID"], line["scientificName"], line["classifiedBy"]) for line in observed[:2]]
    assert sorted(said) == sorted([(media[0], "Vulpes vulpes", "Ada"), (media[1], "Meles meles", "net 2")])

    # the same model again: its word replaces its former one
    collection.save_predictions([(uri, again)], ["label"], "net 1", None)
    export(collection, tmp_path / "again", "camtrap-dp", project=project)
    of_second = [line for line in lines(tmp_path / "again", "observations") if line["mediaID"] == media[1]]
    assert [(line["scientificName"], line["classifiedBy"]) for line in of_second] == [("Meles meles", "net 1")]


def test_without_the_original_package_rows_and_options_provide_what_is_required(trap: Storage, tmp_path: Path) -> None:
    given = Project(sampling_design="targeted", contributors=["Ada"], zone=read_zone("Europe/Brussels"))
    export(trap, tmp_path / "out", format="camtrap-dp", project=given)
    package = check(tmp_path / "out", tmp_path)
    known = {line["deploymentID"]: line for line in lines(DATA / "camtrap-dp", "deployments")}
    for line in lines(tmp_path / "out", "deployments"):
        original = known[line["deploymentID"]]
        assert (float(line["latitude"]), line["cameraID"]) == (float(original["latitude"]), original["cameraID"])
        start, end = (datetime.fromisoformat(original[f"deployment{name}"]) for name in ("Start", "End"))
        assert start <= datetime.fromisoformat(line["deploymentStart"]) <= datetime.fromisoformat(line["deploymentEnd"])
        assert datetime.fromisoformat(line["deploymentEnd"]) <= end
    assert set(package["project"]["captureMethod"]) <= {"activityDetection", "timeLapse"}


def test_plain_images_are_exported_with_boxes_labels_and_predictions(make: Make, tmp_path: Path) -> None:
    box = {"box_x": 0.1, "box_y": 0.2, "box_width": 0.5, "box_height": 0.25}
    other = {"box_x": 0.6, "box_y": 0.0, "box_width": 0.25, "box_height": 0.5}
    a, b = (path_to_uri(f"/photos/{name}.jpg") for name in ("north/a", "south/b c"))
    noon = datetime(2024, 5, 1, 12)
    rows = {
        f"{a}#xywh=percent:10,20,50,25": {**box, "label": "fox", "predicted_label": "fox", "predicted_score": 0.9},
        f"{a}#xywh=percent:60,0,25,50": {**other, "latitude": 50.0, "longitude": 5.0},
        b: {"label": "owl", "genus": "Bubo", "species": "Bubo bubo", "order": "Strigiformes", "taken_at": noon},
        path_to_uri("/photos/south/d.jpg"): {"label": "blank", "predicted_label": "person", "predicted_score": 0.5},
        path_to_uri("/photos/south/e.jpg"): {"predicted_label": "person", "predicted_score": 0.5},
    }
    collection = make(rows, BOX | PREDICTED)
    said = str(export(collection, tmp_path / "out", format="camtrap-dp", project=PROJECT))
    package = check(tmp_path / "out", tmp_path)
    assert said.startswith("5 observations of 4 media in 2 deployments")
    north, south = lines(tmp_path / "out", "deployments")
    assert (north["deploymentID"], north["latitude"], north["longitude"]) == ("north", "50", "5")
    assert (south["deploymentID"], south["latitude"], south["longitude"]) == ("south", "51", "4")
    assert south["deploymentStart"] == "2020-05-01T00:00:00+02:00"
    assert south["deploymentEnd"] == "2024-05-01T12:00:00+02:00"
    media = lines(tmp_path / "out", "media")
    assert [line["filePath"] for line in media] == ["north/a.jpg", "south/b c.jpg", "south/d.jpg", "south/e.jpg"]
    names = ("observationType", "scientificName", "classificationMethod", "classifiedBy", "bboxX", "observationTags")
    told = [tuple(line[name] for name in names) for line in lines(tmp_path / "out", "observations")]
    by = next(
        line["classifiedBy"] for line in lines(tmp_path / "out", "observations") if "Birder" in line["classifiedBy"]
    )
    assert told == [
        ("animal", "fox", "human", "Ada", "0.1", ""),
        ("unclassified", "", "", "", "0.6", ""),
        ("animal", "Bubo bubo", "human", "Ada", "", "label:owl"),
        ("blank", "", "human", "Ada", "", ""),
        ("human", "", "machine", by, "", ""),
    ]
    owl = next(taxon for taxon in package["taxonomic"] if taxon["scientificName"] == "Bubo bubo")
    assert owl == {
        "scientificName": "Bubo bubo",
        "taxonRank": "species",
        "order": "Strigiformes",
        "genus": "Bubo",
    }
    assert package["temporal"] == {"start": "2020-05-01", "end": "2024-05-01"}
    assert package["spatial"]["type"] == "Polygon"


def test_times_of_labels_and_predictions_are_exported_if_known(make: Make, tmp_path: Path) -> None:
    uri = path_to_uri("/photos/a.jpg")
    at = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    row = {
        "label": "owl",
        "predicted_label": "owl",
        "predicted_score": 0.5,
        "predicted_by": "net 2",
        "predicted_at": at,
    }
    types = PREDICTED | {"predicted_by": pa.string(), "predicted_at": pa.timestamp("us", "UTC")}
    collection = make({uri: row, path_to_uri("/photos/b.jpg"): row | {"label": None}}, types)
    id_ = collection.to_arrow()["id"].to_pylist()[0]
    for label, by in (("fox", "Ben"), ("owl", "Eve")):
        given = give_label(collection, [id_], "label", label, by=by)
    collection.see_latest()
    export(collection, tmp_path / "out", format="camtrap-dp", project=PROJECT)
    check(tmp_path / "out", tmp_path)
    human, machine = lines(tmp_path / "out", "observations")
    assert human["classificationTimestamp"] == given.at.strftime("%Y-%m-%dT%H:%M:%SZ")
    assert (human["classificationMethod"], human["classifiedBy"]) == ("human", "Eve")
    assert (machine["classificationTimestamp"], machine["classifiedBy"]) == ("2026-01-02T03:04:05Z", "net 2")


def test_the_name_of_a_folder_is_not_a_determination_by_a_person(make: Make, tmp_path: Path) -> None:
    """As `birder embed` writes it, and in a collection that was made before it was written down."""
    rows: dict[str, dict[str, Any]] = {
        path_to_uri("/photos/trap/a.jpg"): {"label": "trap", "label_source": "folder"},
        path_to_uri("/photos/trap/b.jpg"): {"label": "trap"},
        path_to_uri("/photos/trap/c.jpg"): {"label": "owl", "label_source": "table"},
        path_to_uri("/photos/trap/d.jpg"): {"label": "trap", "label_source": "folder", "species": "Bubo bubo"},
    }
    collection = make(rows)
    export(collection, tmp_path / "out", format="camtrap-dp", project=PROJECT)
    check(tmp_path / "out", tmp_path)
    names = ("scientificName", "classificationMethod", "classifiedBy", "observationTags")
    told = [tuple(line[name] for name in names) for line in lines(tmp_path / "out", "observations")]
    assert told == [("owl", "human", "Ada", ""), ("Bubo bubo", "human", "Ada", "")]
    export(collection, tmp_path / "all", format="camtrap-dp", project=PROJECT, folder_labels=True)
    check(tmp_path / "all", tmp_path)
    told = [tuple(line[name] for name in names) for line in lines(tmp_path / "all", "observations")]
    assert told == [
        ("trap", "", "", ""),
        ("trap", "", "", ""),
        ("owl", "human", "Ada", ""),
        ("Bubo bubo", "human", "Ada", "label:trap"),
    ]
    only = make({path_to_uri("/photos/trap/a.jpg"): rows[path_to_uri("/photos/trap/a.jpg")]}, name="d.birder")
    with pytest.raises(CollectionError, match="--folder-labels"):
        export(only, tmp_path / "none", format="camtrap-dp", project=PROJECT)


@pytest.mark.slow
def test_a_name_that_may_not_be_a_taxon_gives_a_warning(make: Make, tmp_path: Path) -> None:
    rows: dict[str, dict[str, Any]] = {
        path_to_uri("/photos/x/a.jpg"): {"label": "fox", "label_source": "table"},
        path_to_uri("/photos/x/b.jpg"): {"label": "owl", "species": "Bubo bubo"},
        path_to_uri("/photos/x/c.jpg"): {"label": "Bubo bubo", "label_source": "table"},
        path_to_uri("/photos/x/d.jpg"): {"label": "blank", "label_source": "table"},
        path_to_uri("/photos/x/e.jpg"): {"scientificName": "Lynx lynx"},
    }
    collection = make(rows, {"scientificName": pa.string()})
    said = str(export(collection, tmp_path / "out", format="camtrap-dp", project=PROJECT))
    check(tmp_path / "out", tmp_path)
    assert "Warning: 1 scientific names may not be those of taxa (fox)" in said
    package = tmp_path / "datapackage.json"
    package.write_text(json.dumps({"taxonomic": [{"scientificName": "fox", "taxonRank": "species"}]}))
    given = replace(PROJECT, package=package, title="Foxes")
    assert "Warning" not in str(export(collection, tmp_path / "out2", format="camtrap-dp", project=given))


def test_labels_from_folders_are_exported_on_request_at_the_command_line(tmp_path: Path, make: Make) -> None:
    collection = make({path_to_uri("/photos/trap/a.jpg"): {"label": "trap", "label_source": "folder"}})
    options = ["--format", "camtrap-dp", "--time-zone", "+02:00", "--latitude", "1", "--longitude", "2"]
    options += ["--sampling-design", "targeted", "--capture-method", "timeLapse", "--contributor", "Ada"]
    run = CliRunner().invoke(
        app, ["export", str(collection.path), "--to", str(tmp_path / "out"), *options, "--folder-labels"]
    )
    assert run.exit_code == 0, run.output
    assert "Warning: 1 scientific names may not be those of taxa (trap)" in " ".join(run.output.split())
    (line,) = lines(tmp_path / "out", "observations")
    assert (line["scientificName"], line["classificationMethod"]) == ("trap", "")
    assert line["observationID"].endswith("-folder")
    run = CliRunner().invoke(app, ["export", str(collection.path), "--to", str(tmp_path / "a.csv"), "--folder-labels"])
    assert isinstance(run.exception, ConfigError) and "camtrap-dp, camtrapR, xmp" in str(run.exception)


def test_everything_that_is_missing_is_reported_at_once(make: Make, tmp_path: Path) -> None:
    collection = make({path_to_uri("/photos/a.jpg"): {"label": "owl"}})
    with pytest.raises(ConfigError) as caught:
        export(collection, tmp_path / "out", format="camtrap-dp")
    for option in (
        "--time-zone",
        "--latitude",
        "--longitude",
        "--sampling-design",
        "--capture-method",
        "--contributor",
    ):
        assert option in str(caught.value)
    assert not (tmp_path / "out").exists()
    assert [each.name for each in tmp_path.iterdir()] == ["c.birder"]
    nothing = make({path_to_uri("/photos/a.jpg"): {}}, name="d.birder")
    with pytest.raises(CollectionError, match="No row has a label"):
        export(nothing, tmp_path / "out", format="camtrap-dp", project=PROJECT)
    hidden = make({path_to_uri("/photos/x/.a.jpg"): {"label": "a"}}, name="e.birder")
    with pytest.raises(ConfigError, match="Rename it"):
        export(hidden, tmp_path / "out", format="camtrap-dp", project=PROJECT)


def test_images_without_a_time_are_listed(tmp_path: Path, make: Make) -> None:
    collection = make({path_to_uri("/photos/a.jpg"): {"label": "owl"}})
    with collection.writing():
        row = {"uri": [path_to_uri("/photos/a.jpg")], "taken_at": pa.nulls(1, pa.timestamp("us"))}
        collection.update(pa.table(row))
    with pytest.raises(ConfigError, match=r"the time of 1 image, such as file:///photos/a\.jpg"):
        export(collection, tmp_path / "out", format="camtrap-dp", project=PROJECT)


def test_a_package_may_be_a_zip_and_a_folder_keeps_its_other_files(make: Make, tmp_path: Path) -> None:
    collection = make({path_to_uri("/photos/a.jpg"): {"label": "owl"}})
    export(collection, tmp_path / "out.zip", format="camtrap-dp", project=PROJECT)
    with zipfile.ZipFile(tmp_path / "out.zip") as archive:
        assert sorted(archive.namelist()) == ["datapackage.json", "deployments.csv", "media.csv", "observations.csv"]
        archive.extractall(tmp_path / "unpacked")
    check(tmp_path / "unpacked", tmp_path)
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "mine.txt").write_text("mine")
    export(collection, tmp_path / "photos", format="camtrap-dp", project=PROJECT)
    with pytest.raises(FileExistsError, match="--force"):
        export(collection, tmp_path / "photos", format="camtrap-dp", project=PROJECT)
    export(collection, tmp_path / "photos", format="camtrap-dp", project=PROJECT, force=True)
    assert (tmp_path / "photos" / "mine.txt").read_text() == "mine"
    left = {each.name for each in tmp_path.iterdir()}
    assert left == {"out.zip", "unpacked", "checked-unpacked", "photos", "c.birder"}


@pytest.mark.parametrize("text", ["Mars/Base", "+25:99", "", "../../etc/passwd", "two"])
def test_time_zones_that_do_not_exist_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="Unknown time zone"):
        read_zone(text)
    assert datetime(2024, 7, 1, tzinfo=read_zone("Europe/Berlin")).isoformat().endswith("+02:00")
    assert datetime(2024, 7, 1, tzinfo=read_zone("-03:30")).isoformat().endswith("-03:30")


HOSTILE = [
    7,
    "x",
    None,
    [],
    [7],
    [None, "x"],
    {},
    {"a": 7},
    {"title": [7]},
    [{"scientificName": [7]}],
    10**400,
    "\ud800",
    "a\0b",
    True,
]


@pytest.mark.slow
def test_a_package_whose_description_lies_is_an_error_or_an_export(trap: Storage, tmp_path: Path) -> None:
    described = json.loads((DATA / "camtrap-dp" / "datapackage.json").read_text())
    source = tmp_path / "given"
    shutil.copytree(DATA / "camtrap-dp", source, ignore=shutil.ignore_patterns("media"))
    lies = [{**described, key: value} for key in described for value in HOSTILE]
    lies += [{**described, "project": {**described["project"], key: 7}} for key in described["project"]]
    for number, lie in enumerate([*lies, *HOSTILE]):
        (source / "datapackage.json").write_text(json.dumps(lie))
        try:
            export(trap, tmp_path / f"{number}", format="camtrap-dp", project=replace(PROJECT, package=source))
        except ConfigError as error:
            assert len(str(error)) < 2000
        else:
            json.loads((tmp_path / f"{number}" / "datapackage.json").read_text())


@pytest.mark.slow
@pytest.mark.parametrize(
    "damage",
    [
        lambda text: "",
        lambda text: "mediaID\nx\n",
        lambda text: "deploymentID\nx\n",
        lambda text: text.replace("deploymentID", "deployment"),
        lambda text: text.replace("mediaID", "media"),
        lambda text: text.replace("timestamp", "time"),
        lambda text: text.replace("2020", "20200000000000000000"),
        lambda text: text.replace(",", "\0"),
        lambda text: text.replace('"', "").replace("\n", '"', 3),
        lambda text: text[: len(text) // 2],
        lambda text: "\n".join(line.partition(",")[0] for line in text.splitlines()),
    ],
)
@pytest.mark.parametrize("table", ["media", "deployments"])
def test_a_package_whose_tables_lie_is_an_error_or_an_export(
    trap: Storage, tmp_path: Path, table: str, damage: Callable[[str], str]
) -> None:
    source = tmp_path / "given"
    shutil.copytree(DATA / "camtrap-dp", source, ignore=shutil.ignore_patterns("media"))
    file = source / f"{table}.csv"
    file.write_text(damage(file.read_text("utf-8")), "utf-8")
    with contextlib.suppress(ConfigError):
        export(trap, tmp_path / "to", format="camtrap-dp", project=replace(PROJECT, package=source))
