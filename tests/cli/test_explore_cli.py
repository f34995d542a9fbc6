from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest
import typer
from PIL import Image
from typer.testing import CliRunner, Result

from birder.analysis.stats import stats as stats_of
from birder.analysis.stats import value_counts
from birder.cli.duplicates import duplicates
from birder.cli.map_ import map_
from birder.cli.stats import stats
from birder.cli.tidy import tidy
from birder.collection.storage import Failure, Stamp, Storage
from birder.errors import BirderError, CollectionError, ConfigError, UnknownNameError
from tests.factory import clusters, collection_of_vectors

app = typer.Typer()
app.command("map")(map_)
for command in (duplicates, stats, tidy):
    app.command()(command)


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(each) for each in arguments], catch_exceptions=True)


@pytest.fixture
def collection(tmp_path: Path) -> Storage:
    vectors, labels = clusters(3, 10)
    vectors[1] = vectors[0]
    genera = ["Strix" if i < 10 else None for i in range(30)]
    made = collection_of_vectors(
        tmp_path / "c.birder", vectors, columns={"label": labels, "genus": genera, "latitude": [1.5] * 30}
    )
    with made.writing():
        made.write([], [Failure("file:///broken.jpg", "truncated", Stamp(3, 5))])
    return made


@pytest.mark.slow
def test_map_reports_computes_draws_and_recomputes(collection: Storage, tmp_path: Path) -> None:
    assert "has no map yet" in run("map", collection.path).stderr
    first = run("map", collection.path, "--to", tmp_path / "a.png", "--colour", "label")
    assert first.exit_code == 0, first.output
    assert first.stdout == ""
    for stage in ("reading", "neighbours", "graph", "layout", "storing"):
        assert f"{stage} ..." in first.stderr
    assert "a map of 30 images (UMAP" in first.stderr
    assert Image.open(tmp_path / "a.png").size == (1300, 975)
    collection_of_vectors(collection.path, np.ones((2, 16), np.float32), names=["x", "y"])
    second = run("map", collection.path, "--to", tmp_path / "b.html")
    assert "layout" not in second.stderr
    assert "2 images added or changed since are not on it" in second.stderr
    assert "30 images" in (tmp_path / "b.html").read_text()
    assert "a map of 32 images" in run("map", collection.path, "--recompute").stderr


def test_map_refuses_before_computing(collection: Storage, tmp_path: Path) -> None:
    wrong = run("map", collection.path, "--to", tmp_path / "a.png", "--colour", "labl")
    assert isinstance(wrong.exception, UnknownNameError)
    assert "reading" not in wrong.stderr
    assert run("map", collection.path, "--colour", "label").exit_code == 2
    assert isinstance(run("map", tmp_path / "none").exception, CollectionError)


def test_duplicates_are_listed_for_people_and_programs(collection: Storage, tmp_path: Path) -> None:
    shown = run("duplicates", collection.path, "--threshold", "0.9999")
    assert shown.exit_code == 0
    assert "p/00000.jpg" in shown.stdout
    assert "1 group with a cosine of 0.9999 or more" in shown.stderr
    rows = json.loads(run("duplicates", collection.path, "--threshold", "0.9999", "--format", "json").stdout)
    assert [(row["group"], row["kind"], row["path"]) for row in rows] == [
        (1, "similar", "/p/00000.jpg"),
        (1, "similar", "/p/00001.jpg"),
    ]
    limited = run("duplicates", collection.path, "--where", "label = 'group 1'", "--threshold", "1", "--format", "csv")
    assert limited.stdout == "group,kind,path,width,height,similarity\n"
    assert isinstance(run("duplicates", collection.path, "--threshold", "2").exception, ConfigError)


def test_a_page_shows_duplicates_side_by_side(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        Image.new("RGB", (60, 40), "teal").save(tmp_path / name)
    names = [str(tmp_path / name)[1:] for name in ("a.png", "b.png", "gone.png")]
    made = collection_of_vectors(tmp_path / "c.birder", np.ones((3, 4)), names=names, sha256=["1", "1", "2"])
    done = run("duplicates", made.path, "--to", tmp_path / "d.html")
    assert done.exit_code == 0, done.output
    page = (tmp_path / "d.html").read_text()
    assert "1. same content" in page
    assert "2. similar" in page
    assert page.count("data:image/jpeg") == 3
    assert "1 image is missing" in done.stderr


def test_stats_agree_with_the_collection(collection: Storage, tmp_path: Path) -> None:
    found = stats_of(collection)
    assert (found.rows, found.failures, found.contents, found.embedding_size) == (30, 1, 30, 16)
    by_name = {each.column: each for each in found.columns}
    assert (by_name["genus"].filled, by_name["genus"].distinct) == (10, 1)
    assert (by_name["latitude"].least, by_name["latitude"].most) == (1.5, 1.5)
    assert (by_name["taken_at"].filled, by_name["taken_at"].least) == (0, None)
    assert "embedding" not in by_name
    counts = value_counts(collection, "genus")
    assert [(each.value, each.count) for each in counts] == [("Strix", 10), (None, 20)]
    assert [each.share for each in counts] == pytest.approx([1 / 3, 2 / 3])
    overview = run("stats", collection.path)
    assert overview.exit_code == 0, overview.output
    assert "30 rows with 30 different contents, 1 failure" in overview.stdout
    assert "Empty:" in overview.stdout and overview.stderr == ""
    whole = json.loads(run("stats", collection.path, "--format", "json").stdout)
    assert (whole["rows"], whole["contents"], whole["failures"], whole["model"]) == (30, 30, 1, found.model)
    assert [each["column"] for each in whole["columns"]] == [each.column for each in found.columns]
    assert "Strix" in overview.stdout
    rows = list(csv.DictReader(io.StringIO(run("stats", collection.path, "--format", "csv").stdout)))
    assert {row["column"]: row["filled"] for row in rows}["genus"] == "10"
    values = json.loads(run("stats", collection.path, "--column", "label", "--format", "json").stdout)
    assert [(row["value"], row["count"]) for row in values] == [(f"group {i}", 10) for i in range(3)]


@pytest.mark.parametrize("more", [[], ["--column", "label"], ["--neighbours"], ["--neighbours", "--column", "label"]])
def test_stats_draws_a_chart(collection: Storage, tmp_path: Path, more: list[str]) -> None:
    done = run("stats", collection.path, *more, "--to", tmp_path / "s.png")
    assert done.exit_code == 0, done.output
    assert np.asarray(Image.open(tmp_path / "s.png").convert("L")).std() > 5


def test_stats_reports_the_agreement_of_neighbours(collection: Storage, tmp_path: Path) -> None:
    (row,) = json.loads(run("stats", collection.path, "--neighbours", "--column", "label", "--format", "json").stdout)
    assert row == {
        "rank": "label",
        "n": 30,
        "taxa": 3,
        "agreement": 1.0,
        "chance": pytest.approx(9 / 29),
        "possible": 1.0,
    }
    bare = collection_of_vectors(tmp_path / "bare.birder", np.eye(3, dtype=np.float32))
    assert isinstance(run("stats", bare.path, "--neighbours").exception, BirderError)
    assert isinstance(run("stats", bare.path, "--to", tmp_path / "x.png").exception, BirderError)
    assert isinstance(run("stats", bare.path, "--column", "embedding").exception, UnknownNameError)


def test_commands_work_on_an_empty_collection(tmp_path: Path) -> None:
    made = collection_of_vectors(tmp_path / "c.birder", np.zeros((0, 4), np.float32))
    for arguments in (["stats"], ["duplicates"], ["tidy"], ["map"]):
        done = run(*arguments, made.path)
        assert done.exit_code == 0, (arguments, done.output, done.exception)


def test_tidy_says_what_it_saved(collection: Storage) -> None:
    done = run("tidy", collection.path)
    assert done.exit_code == 0
    assert "--now removes them too" in done.stderr
    done = run("tidy", collection.path, "--now")
    assert "saved" in done.stderr
    assert "0 former versions" not in done.stderr
