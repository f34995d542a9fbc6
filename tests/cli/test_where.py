"""`--where`: the same in every command that reads the rows of a collection."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from typer.testing import CliRunner

import birder
from birder.analysis.projection import MapPoints, matching_points
from birder.cli import app
from birder.collection.filter import parse_filter
from birder.collection.storage import Storage
from birder.errors import CollectionError, FilterError
from tests.cli.running import Session, shared_session
from tests.factory import collection_of_images

DATA = Path(__file__).parents[1] / "data"
WRONG = ["--where", "labl = 'owl'"]
ASKED = {
    "activity": ["c.birder"],
    "adapt": ["c.birder", "--column", "label", "--to", "a.safetensors"],
    "compare": ["c.birder", "c.birder"],
    "detect": ["--in", "c.birder"],
    "duplicates": ["c.birder"],
    "evaluate": ["c.birder", "--protocol", "knn"],
    "export": ["c.birder", "--to", "e.csv"],
    "features": ["--in", "c.birder", "--to", "f.npy"],
    "label": ["c.birder", "--set", "label=owl"],
    "map": ["c.birder", "--to", "map.png"],
    "predict": ["--in", "c.birder", "--like", "c.birder"],
    "predict --hold-out": ["--like", "c.birder", "--hold-out", "0.5"],
    "search": ["c.birder", "--id", "0000 owl.jpg"],
    "shards": ["c.birder", "--to", "shards"],
    "shift-time": ["c.birder", "--by", "+1h"],
    "similar": ["photos/0000 owl.jpg", "--in", "c.birder"],
    "stats": ["c.birder"],
    "stats --column": ["c.birder", "--column", "label"],
    "stats --neighbours": ["c.birder", "--neighbours", "--column", "label"],
    "train": ["c.birder", "--to", "t.pt"],
}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with photos/ and their collection c.birder: 40 rows of four kinds, 20 of them labelled."""
    home = tmp_path_factory.mktemp("where")
    collection_of_images(home)
    return home


@pytest.fixture
def in_home(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(home)
    return home


@pytest.mark.parametrize("asked", ASKED)
def test_a_wrong_filter_is_refused_before_any_work(in_home: Path, asked: str) -> None:
    done = CliRunner().invoke(app, [asked.partition(" ")[0], *ASKED[asked], *WRONG])
    assert isinstance(done.exception, FilterError), (done.output, done.exception)
    assert "labl" in str(done.exception) and "label" in str(done.exception)


def test_stats_are_those_of_the_rows_that_match(in_home: Path) -> None:
    collection = birder.open_collection("c.birder")
    where = "label = 'owl' AND site = 'S0'"
    rows = collection.count(where)
    found = collection.stats(where=where)
    assert found.rows == rows == 2 and found.failures == collection.stats().failures == 1
    assert {each.column: each.distinct for each in found.columns}["site"] == 1
    counts = collection.value_counts("site", where="label = 'owl'")
    assert sum(each.count for each in counts) == 5 and sum(each.share for each in counts) == pytest.approx(1)
    (agreement,) = collection.agreement(["label"], where="label IN ('owl', 'fox')")
    assert (agreement.n, agreement.taxa) == (10, 2)

    def said(*more: str) -> str:
        done = CliRunner().invoke(app, ["stats", "c.birder", *more])
        assert done.exit_code == 0, done.output
        return done.stdout

    assert "2 rows match the filter, with 2 different contents, 1 failure" in said("--where", where)
    assert json.loads(said("--where", where, "--format", "json"))["rows"] == 2
    told = list(csv.DictReader(io.StringIO(said("--where", "label = 'owl'", "--column", "site", "--format", "csv"))))
    assert [int(each["count"]) for each in told] == [each.count for each in counts]
    (row,) = json.loads(said("--where", "label = 'owl'", "--neighbours", "--column", "label", "--format", "json"))
    assert row["n"] == 5


def test_a_map_shows_the_rows_that_match_at_their_places(home: Path) -> None:
    storage = Storage.open(home / "c.birder")
    rows = storage.snapshot().to_table(["id", "label"])
    ids = rows["id"].to_pylist()[::-1][3:]
    points = MapPoints(ids, np.arange(2 * len(ids), dtype=np.float32).reshape(-1, 2), 3, {"seed": 0})
    owls = parse_filter("label = 'owl'", storage.columns)
    found = matching_points(storage, points, owls)
    labelled = set(storage.snapshot().to_table(["id"], owls)["id"].to_pylist())
    assert set(found.ids) == labelled & set(ids) and found.missing == len(labelled - set(ids))
    assert found.xy.tolist() == [points.xy[ids.index(each)].tolist() for each in found.ids]
    with pytest.raises(CollectionError, match="No image on the map"):
        matching_points(storage, points, parse_filter("width > 1000", storage.columns))


def test_held_out_images_and_examples_are_those_that_match(home: Path) -> None:
    collection = birder.open_collection(home / "c.birder")
    found = collection.hold_out("label", 0.4, where="label IN ('owl', 'fox')")
    assert (found.images, found.classes, found.examples) == (4, 2, 6)
    assert {row["is"] for row in found} == {"owl", "fox"}


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Session:
    """An interpreter in a folder with six images, embedded by a tiny CLIP model into c.birder."""
    folder = tmp_path_factory.mktemp("cats and dogs")
    source = Image.open(DATA / "chelsea.png").convert("RGB")
    for i in range(6):
        to = folder / "photos" / ("cats" if i % 2 else "dogs") / f"{i}.png"
        to.parent.mkdir(parents=True, exist_ok=True)
        source.crop((30 * i, 20 * i, 30 * i + 90, 20 * i + 90)).save(to)
    session = shared_session().at(folder)
    session.run("embed", "photos", "--in", "c.birder", "--model", DATA / "openclip", "--engine", "torch")
    return session


CATS = ["--in", "c.birder", "--where", "label = 'cats'"]


@pytest.mark.slow
def test_commands_that_run_a_network_take_a_filter(session: Session, tmp_path: Path) -> None:
    def images(*arguments: Any) -> list[str]:
        rows = json.loads(session.run(*arguments, *CATS, "--format", "json").stdout)
        return [each["path"] for each in rows]

    similar = images("similar", "photos/dogs/0.png")
    named = images("predict", "--labels", "cat,dog", "-k", "1")
    assert len(similar) == len(named) == 3 and all("/cats/" in each for each in similar + named)
    session.run("features", *CATS, "--to", tmp_path / "f.parquet")
    assert sorted(pq.read_table(tmp_path / "f.parquet")["path"].to_pylist()) == sorted(named)
    session.run("detect", *CATS, "--to", tmp_path / "boxes.json")
    assert sorted(each["file"] for each in json.loads((tmp_path / "boxes.json").read_text())["images"]) == [
        "1.png",
        "3.png",
        "5.png",
    ]
    told = json.loads(session.run("search", "c.birder", "--where", "category IS NOT NULL", "--format", "json").stdout)
    assert sorted(each["path"] for each in told) == sorted(named)


@pytest.mark.slow
@pytest.mark.parametrize("command", ["similar photos/dogs/0.png", "features --to f.npy", "predict --labels a,b"])
def test_a_filter_without_a_match_is_told(session: Session, command: str) -> None:
    done = session.run(*command.split(), "--in", "c.birder", "--where", "width > 10000", code=None)
    assert done.returncode == (1 if command.startswith("features") else 0)


@pytest.mark.parametrize("command", ["predict", "features --to f.npy", "detect --to b.json"])
def test_a_filter_needs_a_collection(in_home: Path, command: str) -> None:
    name, *more = command.split()
    done = CliRunner().invoke(app, [name, "photos", *more, "--where", "true"])
    assert done.exit_code == 2 and "name it with --in" in done.output
