from __future__ import annotations

import csv
import json
import shutil
import warnings
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from birder.errors import BirderError, ConfigError
from birder.formats.megadetector import read_boxes
from birder.formats.sources import find_sources
from birder.sources import Box, Source
from birder.sources.find import UnlistedWarning
from birder.sources.manifest import resolve
from birder.sources.table import join_table, read_table

CAMTRAP = Path(__file__).parents[1] / "data" / "camtrap-dp"


def test_a_csv_manifest_names_paths_and_urls_and_describes_them(tmp_path: Path) -> None:
    manifest = tmp_path / "list.csv"
    manifest.write_text("path,sex,age\na/owl.jpg,f,3\n../up.jpg,,\n/abs/x.png,m,4\nhttps://e.org/1.jpg?size=l,f,\n")
    sources = find_sources([manifest])
    assert [source.path for source in sources] == [
        f"{tmp_path}/a/owl.jpg",
        str(tmp_path.parent / "up.jpg"),
        "/abs/x.png",
        "https://e.org/1.jpg?size=l",
    ]
    assert [dict(source.columns) for source in sources] == [
        {"sex": "f", "age": 3},
        {"sex": None, "age": None},
        {"sex": "m", "age": 4},
        {"sex": "f", "age": None},
    ]
    assert {source.problem for source in sources} == {None}


@pytest.mark.parametrize("column", ["sample", "image_path"])
def test_the_published_packages_tables_name_images(tmp_path: Path, column: str) -> None:
    (tmp_path / "a.jpg").write_bytes(b"x")
    table = pa.table({column: [f"{tmp_path}/a.jpg"], "prediction": ["owl"]})
    pq.write_table(table, tmp_path / "results.parquet")
    (source,) = find_sources([tmp_path / "results.parquet"])
    assert (source.path, dict(source.columns)) == (f"{tmp_path}/a.jpg", {"prediction": "owl"})
    named = [Source(f"{tmp_path}/a.jpg")]
    assert join_table(named, read_table(tmp_path / "results.parquet")).matched == 1


def test_the_column_sample_names_paths_only_if_no_other_column_does(tmp_path: Path) -> None:
    (tmp_path / "l.csv").write_text("sample,url\nS-17,https://e.org/1.jpg\n")
    (source,) = find_sources([tmp_path / "l.csv"])
    assert (source.path, dict(source.columns)) == ("https://e.org/1.jpg", {"sample": "S-17"})


def test_a_parquet_manifest_keeps_its_types(tmp_path: Path) -> None:
    moment = datetime(2024, 5, 1, 12)
    table = pa.table({"url": ["https://e.org/1.jpg"], "seen": [moment], "my col": [1.5], "tags": [["a", "b"]]})
    pq.write_table(table, tmp_path / "list.parquet")
    (source,) = find_sources([tmp_path / "list.parquet"])
    assert source.uri == "https://e.org/1.jpg"
    assert dict(source.columns) == {"seen": moment, "my_col": 1.5, "tags": '["a", "b"]'}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("path,x\na.jpg,1\n,2\n", "does not name a file in row 3"),
        ("path,x\na.jpg,1\na.jpg,2\n", "names a.jpg twice"),
        ("x,y\n1,2\n", "no column of file names"),
    ],
)
def test_a_manifest_that_cannot_be_followed_is_refused(tmp_path: Path, text: str, reason: str) -> None:
    (tmp_path / "list.csv").write_text(text)
    with pytest.raises(ConfigError, match=reason):
        find_sources([tmp_path / "list.csv"])


@pytest.mark.parametrize("name", ["/etc/passwd", "file:///etc/passwd", "../../other/x.jpg", "a/../../../x.jpg"])
def test_a_fetched_manifest_may_not_name_files_of_this_machine(name: str) -> None:
    place, problem = resolve(name, "https://e.org/data/set")
    assert problem is not None
    assert place.startswith("https://e.org/")


@given(st.lists(st.sampled_from(["..", ".", "a", "b", "/", "file://"]), max_size=6).map("/".join))
def test_paths_within_the_folder_are_allowed(name: str) -> None:
    place, problem = resolve(name, "/data/set", inside=True)
    assert (problem is None) == (Path(place) == Path("/data/set") or Path("/data/set") in Path(place).parents)
    place, problem = resolve(name, "https://e.org/data/set")
    if problem is None:
        assert urlsplit(place).netloc == "e.org" and f"{place}/".startswith("https://e.org/data/set/")


@pytest.mark.parametrize(
    "name", ["local:///etc/passwd", "dir:///etc/passwd", "zip://x::file:///etc/x.zip", "memory://x"]
)
def test_protocols_that_lead_back_to_this_machine_are_refused_in_foreign_lists(name: str) -> None:
    for folder, inside in (("https://e.org/data", False), ("/data/set", True)):
        place, problem = resolve(name, folder, inside=inside)
        assert problem is not None or place.startswith(folder)


def test_a_table_describes_what_a_folder_named_before(tmp_path: Path) -> None:
    (tmp_path / "owl.jpg").write_bytes(b"x")
    (tmp_path / "list.csv").write_text("path,n\nowl.jpg,1\n")
    (source,) = find_sources([tmp_path, tmp_path / "list.csv"])
    assert dict(source.columns) == {"n": 1}


def test_a_table_joins_all_boxes_of_an_image(tmp_path: Path) -> None:
    path = results(tmp_path / "r.json", [{"file": "a.jpg", "detections": [detection([0, 0, w, 1]) for w in (0.5, 1)]}])
    sources = read_boxes(path, tmp_path)
    (tmp_path / "t.csv").write_text("file_name,n\na.jpg,1\n")
    assert join_table(sources, read_table(tmp_path / "t.csv")).matched == 2
    assert [(source.columns["n"], source.columns["box_width"]) for source in sources] == [(1, 0.5), (1, 1.0)]


def test_tables_in_a_folder_of_images_are_left_alone(tmp_path: Path) -> None:
    for name in ("owl.jpg", "photos.csv", "x.tar", "x.parquet"):
        (tmp_path / name).write_bytes(b"x")
    assert [source.path for source in find_sources([tmp_path])] == [f"{tmp_path}/owl.jpg"]


def test_a_pattern_may_match_shards_and_images(tmp_path: Path) -> None:
    for name in ("1.tar", "2.tar", "3.jpg"):
        (tmp_path / name).write_bytes(b"x")
    sources = find_sources([f"{tmp_path}/*"])
    assert [Path(source.path).name for source in sources] == ["1.tar", "2.tar", "3.jpg"]
    assert [source.members is not None for source in sources] == [True, True, False]


def test_a_camtrap_package_is_its_media_with_deployments_and_observations() -> None:
    sources = find_sources([CAMTRAP])
    with (CAMTRAP / "media.csv").open(newline="") as file:
        media = list(csv.DictReader(file))
    assert len(sources) == len(media) == 423
    assert sum(source.path.startswith("https://multimedia.agouti.eu/") for source in sources) == 413
    by_id = {source.columns["mediaID"]: source for source in sources}
    # what the package's tables say of these three, looked up by hand
    duck = by_id["07840dcc"]
    assert duck.path == "https://multimedia.agouti.eu/assets/07840dcc-0d99-4ab4-973b-7e4a8e20b56d/file"
    known = {name: value for name, value in duck.columns.items() if value is not None}
    assert known == {
        "label": "Anas platyrhynchos",
        "scientificName": "Anas platyrhynchos",
        "genus": "Anas",
        "species": "Anas platyrhynchos",
        "mediaID": "07840dcc",
        "deployment": "00a2c20d",
        "captureMethod": "activityDetection",
        "fileName": "20200709093328-RCNX0001.JPG",
        "locationID": "e254a13c",
        "locationName": "B_HS_val 2_processiepark",
        "cameraID": "320",
        "cameraModel": "Reconyx-HF2X",
        "habitat": "Campine area with a number of river valleys with valuable grasslands",
        "latitude": 51.496,
        "longitude": 4.774,
        "taken_at": datetime(2020, 5, 30, 4, 57, 37),
        "deploymentStart": datetime(2020, 5, 30, 4, 57, 37),
        "deploymentEnd": datetime(2020, 7, 1, 11, 41, 41),
        "eventID": "4bb69c45",
        "observationType": "animal",
        "lifeStage": "adult",
        "sex": "female",
        "count": 1,
    }
    heron = by_id["0e98b93e"]  # a machine saw it: it is a prediction
    known = {name: value for name, value in heron.columns.items() if value is not None and name.startswith("predicted")}
    assert known == {
        "predicted_label": "Ardea",
        "predicted_genus": "Ardea",
        "predicted_score": pytest.approx(0.9),
        "predicted_by": "Western Europe species model Version 1",
        "predicted_at": datetime(2021, 7, 5, 11, 43, 57, tzinfo=UTC),
    }
    assert [heron.columns[name] for name in ("label", "genus", "scientificName")] == [None] * 3
    assert heron.columns["eventID"] == "4dcacd8f"
    blank = next(source for source in sources if source.columns["observationType"] == "blank")
    assert blank.columns["label"] is None
    local = [source for source in sources if source.path.startswith(str(CAMTRAP))]
    assert len(local) == 10 and Path(local[0].path).name == "20210531082538-RCNX0031.JPG"


def copy_package(tmp_path: Path) -> Path:
    package = tmp_path / "package"
    shutil.copytree(CAMTRAP, package)
    return package


def test_observations_that_disagree_give_all_names_and_no_label(tmp_path: Path) -> None:
    package = copy_package(tmp_path)
    lines = (package / "observations.csv").read_text().splitlines()
    first = next(line for line in lines if line.startswith("07840dcc_1,"))
    other = first.replace("07840dcc_1", "extra").replace("Anas platyrhynchos,1,", "Ardea cinerea,2,")
    (package / "observations.csv").write_text("\n".join([*lines, other]) + "\n")
    source = next(s for s in find_sources([package / "datapackage.json"]) if s.columns["mediaID"] == "07840dcc")
    assert source.columns["scientificName"] == "Anas platyrhynchos | Ardea cinerea"
    assert [source.columns[name] for name in ("label", "species", "count", "sex")] == [None, None, 3, "female"]


def test_media_without_observations_of_their_own_have_those_of_their_event(tmp_path: Path) -> None:
    package = copy_package(tmp_path)
    lines = (package / "observations.csv").read_text().splitlines()
    (package / "observations.csv").write_text("\n".join(line for line in lines if ",media," not in line) + "\n")
    by_id = {source.columns["mediaID"]: source for source in find_sources([package])}
    # the event 4bb69c45 goes from 02:57:37Z to 02:57:44Z
    assert by_id["07840dcc"].columns["label"] == "Anas platyrhynchos"
    assert by_id["07840dcc"].columns["behavior"] == "foraging"


def test_a_package_may_not_lead_out_of_its_folder_and_videos_are_reported(tmp_path: Path) -> None:
    package = copy_package(tmp_path)
    text = (package / "media.csv").read_text()
    text = text.replace("media/20210531082538-RCNX0031.JPG", "../../secret.jpg")
    first = text.splitlines()[1]
    (package / "media.csv").write_text(text.replace(first, first.replace("image/jpeg", "video/mp4")))
    problems = [source.problem for source in find_sources([package]) if source.problem]
    assert len(problems) == 2
    assert "video/mp4" in problems[0] and "leads out" in problems[1]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda p: (p / "media.csv").unlink(), "Cannot read the table media"),
        (lambda p: (p / "datapackage.json").write_text("{"), "Cannot read the data package"),
        (lambda p: (p / "datapackage.json").write_text("{}"), "lists no resources"),
        (lambda p: (p / "datapackage.json").write_text('{"resources": []}'), "no table media"),
    ],
)
def test_a_broken_package_is_reported(tmp_path: Path, change: object, reason: str) -> None:
    package = copy_package(tmp_path)
    change(package)  # type: ignore[operator]
    with pytest.raises(ConfigError, match=reason):
        find_sources([package / "datapackage.json"])


def results(path: Path, images: object, categories: object = None) -> Path:
    categories = {"1": "animal", "2": "person"} if categories is None else categories
    path.write_text(
        json.dumps({"info": {"format_version": "1.3"}, "detection_categories": categories, "images": images})
    )
    return path


def detection(bbox: object, conf: float = 0.9, category: str = "1") -> dict[str, object]:
    return {"category": category, "conf": conf, "bbox": bbox}


def test_animal_boxes_above_the_confidence_are_sources(tmp_path: Path) -> None:
    boxes = [
        detection([0.1, 0.2, 0.3, 0.4]),
        detection([0, 0, 1, 1], 0.19),
        detection([0, 0, 1, 1], 0.9, "2"),
        detection([-0.1, 0.5, 0.3, 0.7], 0.2),
        detection([0.1, 0.2, 0.3, 0.4], 0.5),
    ]
    path = results(tmp_path / "r.json", [{"file": "trap 1/a.jpg", "detections": boxes}, {"file": "b.jpg"}])
    sources = read_boxes(path, tmp_path)
    assert [source.uri for source in sources] == [
        f"file://{tmp_path}/trap%201/a.jpg#xywh=percent:10,20,30,40",
        f"file://{tmp_path}/trap%201/a.jpg#xywh=percent:0,50,20,50",
    ]
    assert sources[0].label == "trap 1"
    assert sources[1].columns == {
        "confidence": 0.2,
        "category": "animal",
        "box_x": 0.0,
        "box_y": 0.5,
        "box_width": 0.2,
        "box_height": 0.5,
    }


@pytest.mark.parametrize(
    ("image", "reason"),
    [
        ({"file": "a.jpg", "failure": "image access failure"}, "failed on it: image access failure"),
        ({"file": "a.jpg", "detections": [detection([0.5, 0.5, 0, 0.2])]}, "no area"),
        ({"file": "a.jpg", "detections": [detection([1.2, 0.5, 0.3, 0.2])]}, "no area"),
        ({"file": "a.jpg", "detections": [detection([0.5, 0.5, float("nan"), 1])]}, "not a rectangle"),
        ({"file": "a.jpg", "detections": [detection("all")]}, "not a rectangle"),
        ({"file": "../a.jpg", "detections": []}, "leads out of"),
        ({"file": "/etc/passwd", "detections": []}, "leads out of"),
    ],
)
def test_an_invalid_image_or_box_is_a_problem_of_its_own(tmp_path: Path, image: dict[str, object], reason: str) -> None:
    (source,) = read_boxes(results(tmp_path / "r.json", [image]), tmp_path)
    assert reason in str(source.problem)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[]", "MegaDetector's results"),
        ("{", "MegaDetector's results"),
        ('{"detection_categories": {"1": "person"}, "images": []}', "no category animal"),
        ('{"detection_categories": {"1": "animal"}, "images": [{}]}', "has no file"),
    ],
)
def test_files_that_are_not_megadetector_results_are_refused(tmp_path: Path, text: str, reason: str) -> None:
    (tmp_path / "r.json").write_text(text)
    with pytest.raises(BirderError, match=reason):
        read_boxes(tmp_path / "r.json", tmp_path)


@given(st.tuples(*[st.floats(-1, 2)] * 4))
def test_a_box_in_a_uri_is_a_media_fragment_within_the_image(bbox: tuple[float, ...]) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = results(Path(folder) / "r.json", [{"file": "a.jpg", "detections": [detection(list(bbox))]}])
        (source,) = read_boxes(path, folder)
    unit, _, numbers = urlsplit(source.uri).fragment.removeprefix("xywh=").partition(":")
    x, y, width, height = map(float, numbers.split(","))
    assert unit == "percent"
    assert 0 <= x <= x + width <= 100.001 and 0 <= y <= y + height <= 100.001
    assert (source.problem is not None) == (source.box is not None and min(source.box[2:]) <= 0)


def test_a_source_takes_little_memory() -> None:
    assert not hasattr(Source("/x"), "__dict__")
    assert Source("/x").columns is Source("/y").columns
    assert Source("/x", box=Box(0, 0.125, 1 / 3, 1)).uri == "file:///x#xywh=percent:0,12.5,33.3333,100"


def test_a_folder_that_has_a_list_and_other_images_gives_both_and_says_so(tmp_path: Path) -> None:
    package = tmp_path / "photos"
    shutil.copytree(CAMTRAP, package)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        listed = find_sources([package])
    (package / "new").mkdir()
    for name in ("later.jpg", "new/owl.jpg"):
        (package / name).write_bytes(b"")
    with pytest.warns(UnlistedWarning, match=r"lists 423 files, and 2 images that it does not list: both are taken"):
        sources = find_sources([package])
    assert [source.path for source in sources[: len(listed)]] == [source.path for source in listed]
    assert [(source.path, source.label) for source in sources[len(listed) :]] == [
        (str(package / "later.jpg"), "photos"),
        (str(package / "new" / "owl.jpg"), "new"),
    ]
