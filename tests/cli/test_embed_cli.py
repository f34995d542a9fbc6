from __future__ import annotations

import csv
import io
import json
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.cli.running import Session, run_birder, shared_session
from tests.hub import Hub

pytestmark = pytest.mark.slow  # every test runs whole commands

DATA = Path(__file__).parents[1] / "data"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small model, images of which two are broken, a table, and the collection of them."""
    home = tmp_path_factory.mktemp("home")
    shutil.copy(DATA / "birder" / "vit_tiny_p16_pn_test.pt", home / "vit_b16_pn_tiny.pt")
    source = Image.open(DATA / "chelsea.png").convert("RGB")
    for i in range(6):
        folder = home / "photos" / ("cats" if i % 2 else "dogs")
        folder.mkdir(parents=True, exist_ok=True)
        source.crop((20 * i, 10 * i, 20 * i + 200, 10 * i + 200)).save(folder / f"{i}.jpg")
    (home / "photos" / "cats" / "empty.jpg").touch()
    (home / "photos" / "cats" / "text.jpg").write_text("no image")
    (home / "photos.csv").write_text("file_name,trap\ncats/1.jpg,7\n2.jpg,8\nnobody.jpg,9\n")
    done = shared_session().run(
        "embed",
        home / "photos",
        "--in",
        home / "c",
        "--model",
        home / "vit_b16_pn_tiny.pt",
        "--table",
        home / "photos.csv",
        "--engine",
        "torch",
        "--precision",
        "fp32",
        code=1,
    )
    assert "Embedded 6, already there 0, failed 2." in done.stderr
    assert "1 x the file is empty" in done.stderr
    assert "columns for 2 of 8 images" in done.stderr
    assert "1 names match no file: nobody.jpg" in done.stderr
    assert "vit_b16_pn_tiny" in done.stderr and "engine torch fp32" in done.stderr and "images/s" in done.stderr
    return home


@pytest.fixture(scope="module")
def session(home: Path) -> Session:
    return shared_session().at(home)


def test_second_run_has_nothing_to_do(session: Session, home: Path) -> None:
    done = session.run("embed", home / "photos", "--in", home / "c")
    assert "Nothing to do (6 rows" in done.stderr
    done = session.run("embed", home / "photos", "--in", home / "c", "--no-labels")
    assert "the name of the folder as label. To take a name away: birder label" in done.stderr
    assert "2 failed before" in done.stderr


def test_collection_refuses_another_model(session: Session, home: Path, hub: Hub) -> None:
    shutil.copytree(home / "photos" / "cats", home / "more")
    done = session.run("embed", home / "more", "--in", home / "c", "--model", "efficientnet_lite0_in1k", code=2)
    assert "belongs to the model vit_b16_pn_tiny" in done.stderr
    asked = len(hub.requests)
    done = run_birder(
        "embed", home / "more", "--in", home / "c", "--model", "vit_b16_pn_bioclip-v1", code=2, env=hub.env
    )
    assert "belongs to the model vit_b16_pn_tiny" in done.stderr and "not vit_b16_pn_bioclip-v1" in done.stderr
    assert len(hub.requests) == asked  # nothing is fetched for a run that is refused
    done = session.run("embed", home / "more", "--in", home / "c", "--exact", code=2)
    assert "Run it without --exact" in done.stderr
    shutil.rmtree(home / "more")


def test_similar_orders_by_cosine_and_leaves_out_the_image_itself(session: Session, home: Path) -> None:
    from birder.collection.storage import Storage

    rows = Storage.open(home / "c").to_arrow().to_pylist()
    vectors = np.array([row["embedding"] for row in rows])
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    names = [row["uri"].rsplit("/", 1)[1] for row in rows]
    cosines = vectors @ vectors[names.index("2.jpg")]
    expected = [names[i] for i in np.argsort(-cosines) if names[i] != "2.jpg"][:3]
    out = session.run("similar", home / "photos/dogs/2.jpg", "--in", home / "c", "-k", "3", "--format", "json").stdout
    found = json.loads(out)
    assert [Path(row["path"]).name for row in found] == expected
    assert found[0]["similarity"] == pytest.approx(sorted(cosines)[-2], abs=1e-5)
    assert found[0]["label"] in ("cats", "dogs")
    copy = home / "copy.jpg"
    shutil.copy(home / "photos/dogs/2.jpg", copy)
    text = session.run("similar", copy, "--in", home / "c", "-k", "1", "--format", "csv").stdout
    (nearest,) = csv.DictReader(io.StringIO(text))
    assert Path(nearest["path"]).name == "2.jpg"
    assert float(nearest["similarity"]) == pytest.approx(1.0, abs=1e-5)
    assert nearest["trap"] == "8"


def test_failures_are_listed_and_retried(session: Session, home: Path) -> None:
    listed = json.loads(session.run("failures", home / "c", "--format", "json").stdout)
    assert [(Path(row["path"]).name, row["reason"]) for row in listed] == [
        ("empty.jpg", "the file is empty"),
        ("text.jpg", "unknown file format"),
    ]
    done = session.run("embed", "--in", home / "c", "--retry-failed", code=1)
    assert "Embedded 0, already there 0, failed 2." in done.stderr


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["embed", "nowhere", "--in", "new"], "nowhere"),
        (["similar", "x.jpg", "--in", "nowhere"], "nowhere"),
        (["failures", "nowhere"], "nowhere"),
    ],
)
def test_wrong_paths_are_reported_in_one_message(session: Session, arguments: list[str], reason: str) -> None:
    (line,) = session.run(*arguments, code=2).stderr.splitlines()
    assert line.startswith("birder: ") and reason in line


def test_what_becomes_of_empty_images_needs_a_detector(session: Session, tmp_path: Path) -> None:
    assert "add --detect" in session.run("embed", tmp_path, "--in", tmp_path / "c", "--empty", "note", code=2).stderr
    assert not (tmp_path / "c").exists()


def test_a_folder_without_images_and_a_missing_argument_are_reported(session: Session, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert "no images in" in session.run("embed", tmp_path / "empty", "--in", tmp_path / "c", code=2).stderr
    assert "Name the image files or folders" in session.run("embed", "--in", tmp_path / "c", code=2).stderr
    assert not (tmp_path / "c").exists()


def test_ctrl_c_commits_and_says_how_to_continue(session: Session, home: Path, tmp_path: Path) -> None:
    source = np.array(Image.open(DATA / "chelsea.png").convert("RGB"))
    (tmp_path / "photos").mkdir()
    for i in range(120):
        source[i, 0] = 255 - source[i, 0]
        Image.fromarray(source).save(tmp_path / "photos" / f"{i}.png", compress_level=0)
    command = [sys.executable, "-m", "birder", "embed", tmp_path / "photos", "--in", tmp_path / "c"]
    command += ["--model", home / "vit_b16_pn_tiny.pt", "--batch-size", "1", "--threads", "1"]
    process = subprocess.Popen(list(map(str, command)), stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    said = ""
    while "ready after" not in said:
        said = process.stderr.readline()
        assert said
    time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    _, rest = process.communicate(timeout=60)
    assert process.returncode == 130, rest
    assert "To continue, run the same command again." in rest
    done = session.run("embed", tmp_path / "photos", "--in", tmp_path / "c")
    already = re.search(r"^(\d+) already in ", done.stderr, re.MULTILINE)
    assert already is not None and int(already[1]) > 0
    from birder.collection.storage import Storage

    uris = Storage.open(tmp_path / "c").to_arrow()["uri"].to_pylist()
    assert len(uris) == len(set(uris)) == 120


def test_a_later_table_updates_rows_without_embedding(session: Session, home: Path) -> None:
    shutil.copytree(home / "c", home / "described")
    (home / "later.csv").write_text("file_name,trap,site\ncats/1.jpg,70,north\n2.jpg,8,\n0.jpg,,south\n")
    command = ["embed", home / "photos", "--in", home / "described", "--table", home / "later.csv"]
    done = session.run(*command)
    assert "Updated the columns of 2 existing rows." in done.stderr
    assert "Nothing to do" in done.stderr and "Model" not in done.stderr
    assert "Updated" not in session.run(*command).stderr
    from birder.collection.storage import Storage

    rows = {row["uri"].rsplit("/", 1)[1]: row for row in Storage.open(home / "described").to_arrow().to_pylist()}
    assert [(rows[name]["trap"], rows[name]["site"]) for name in ("0.jpg", "1.jpg", "2.jpg")] == [
        (None, "south"),
        (70, "north"),
        (8, None),
    ]


def test_crops_manifests_and_shards_go_into_one_collection(session: Session, home: Path, tmp_path: Path) -> None:
    from birder.collection.storage import Storage

    box = {"category": "1", "conf": 0.8, "bbox": [0.1, 0.1, 0.5, 0.5]}
    images = [
        {"file": "cats/1.jpg", "detections": [box, box | {"conf": 0.1}]},
        {"file": "cats/3.jpg", "failure": "gone"},
    ]
    (tmp_path / "md.json").write_text(json.dumps({"detection_categories": {"1": "animal"}, "images": images}))
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        archive.add(home / "photos/dogs/4.jpg", "4.jpg")
    (tmp_path / "list.csv").write_text(f"path,n\n{home}/photos/dogs/0.jpg,1\n{home}/photos/nobody.jpg,2\n")
    to = tmp_path / "c"
    model = ["--model", home / "vit_b16_pn_tiny.pt"]
    crops = ("--crops", tmp_path / "md.json", "--min-conf", "0.2")
    done = session.run("embed", home / "photos", "--in", to, *crops, *model, code=1)
    assert f"0 already in {to}, 2 to do" in done.stderr and "Embedded 1, already there 0, failed 1." in done.stderr
    assert "1 x MegaDetector failed on it: gone" in done.stderr
    done = session.run("embed", tmp_path / "x.tar", tmp_path / "list.csv", "--in", to, code=1)
    assert f"0 already in {to}, 3 to do" in done.stderr and "Embedded 2, already there 0, failed 1." in done.stderr
    assert "Nothing to do (3 rows" in session.run("embed", tmp_path / "x.tar", tmp_path / "list.csv", "--in", to).stderr
    uris = set(Storage.open(to).to_arrow()["uri"].to_pylist())
    assert uris == {
        f"file://{home}/photos/cats/1.jpg#xywh=percent:10,10,50,50",
        f"file://{tmp_path}/x.tar#4.jpg",
        f"file://{home}/photos/dogs/0.jpg",
    }
    listed = json.loads(session.run("failures", to, "--format", "json").stdout)
    assert [Path(row["path"]).name for row in listed] == ["3.jpg", "nobody.jpg"]
    out = session.run("similar", home / "photos/dogs/4.jpg", "--in", to, "-k", "1", "--format", "json").stdout
    assert json.loads(out)[0]["path"] == f"{tmp_path}/x.tar#4.jpg"


def test_crops_need_the_folder_that_their_files_are_in(session: Session, home: Path, tmp_path: Path) -> None:
    (tmp_path / "md.json").write_text(json.dumps({"detection_categories": {"1": "animal"}, "images": []}))
    arguments = ["--in", tmp_path / "c", "--crops", tmp_path / "md.json"]
    assert "name the one folder" in session.run("embed", home / "photos/cats/1.jpg", *arguments, code=2).stderr
    assert "lower the minimum" in session.run("embed", home / "photos", *arguments, code=2).stderr
