"""`birder evaluate --benchmark`: what it prints, writes and refuses, and how it ends."""

from __future__ import annotations

import csv
import io
import json
import shutil
from pathlib import Path

import pytest
from PIL import Image

from birder.cli.benchmark_table import beside_published
from birder.collection.evaluating import Evaluation
from birder.evaluation.benchmark_rows import published_rows
from birder.evaluation.predictions import SCHEMA
from tests.cli.running import Session, shared_session

CLIP = Path(__file__).parents[1] / "data" / "openclip"
NAME = "idle-oo/island"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with all images of a benchmark, which are all the same, twice; once, one of them is broken."""
    folder = tmp_path_factory.mktemp("benchmark")
    for place in ("whole", "broken"):
        for row in published_rows(NAME, "taxon_com"):
            path = folder / place / row.path
            path.parent.mkdir(parents=True, exist_ok=True)
            if not (folder / "one.png").exists():
                Image.new("RGB", (40, 30), (90, 120, 30)).save(folder / "one.png")
            shutil.copy(folder / "one.png", path)
    (folder / "broken" / published_rows(NAME, "taxon_com")[7].path).write_bytes(b"no image")
    return folder


@pytest.fixture(scope="module")
def session(folder: Path) -> Session:
    """The interpreter in that folder."""
    return shared_session().at(folder)


@pytest.mark.slow
def test_figures_go_to_each_format_and_the_report_to_a_folder(session: Session, folder: Path) -> None:
    asked = ("evaluate", "--benchmark", NAME, "--data", "whole", "--model", CLIP, "--protocol", "zero-shot")
    done = session.run(*asked, "--to", "report", "--format", "csv")
    rows = {row["metric"]: row for row in csv.DictReader(io.StringIO(done.stdout))}
    assert rows["zero-shot.top1"]["n"] == "310" and rows["zero-shot.top1"]["published"] == ""
    assert float(rows["zero-shot.mean_recall"]["here"]) == pytest.approx(1 / 33)  # every image gets the same name
    metrics = json.loads((folder / "report" / "metrics.json").read_text())
    assert metrics["asked"]["command"].startswith("birder evaluate --benchmark idle-oo/island --data whole")
    assert "IDLE-OO Camera Traps: Island" in (folder / "report" / "report.html").read_text()
    found = json.loads(session.run(*asked, "--format", "json").stdout)
    assert found["protocols"] == metrics["protocols"]
    limits = session.run(*asked, "--fail-under", "zero-shot.top1=0.9", code=1)
    assert "zero-shot.top1 is" in limits.stderr


@pytest.mark.slow
def test_a_broken_image_is_told_and_ends_with_1(session: Session, folder: Path) -> None:
    asked = ("--benchmark", NAME, "--data", "broken", "--model", CLIP, "--protocol", "zero-shot")
    done = session.run("evaluate", "kept.birder", *asked, code=1)
    assert "Incomplete: 1 of 310 images could not be read" in done.stderr
    assert (folder / "kept.birder").is_dir()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--benchmark", NAME], "Name the folder of idle-oo/island with --data."),
        (["--benchmark", "idle-oo/iland", "--data", "whole"], "Did you mean idle-oo/island"),
        (["--benchmark", "rare-species", "--data", "whole", "--model", CLIP], "11,983 of 11,983 images are missing"),
        (["--benchmark", NAME, "--data", "whole", "--by", "x"], "leave out --by"),
        (["--data", "whole"], "--data is the folder of a benchmark"),
        ([], "Name the collection to evaluate"),
    ],
)
def test_wrong_use_is_told_in_a_line(session: Session, arguments: list[str], message: str) -> None:
    done = session.run("evaluate", *arguments, code=2)
    assert message in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr


def test_each_published_value_of_the_model_stands_beside_its_figure() -> None:
    figure = {"estimate": 0.38, "low": 0.37, "high": 0.39, "n": 100, "interval": "Wilson"}
    values = [("BioCLIP", 37.8, True), ("BioCLIP", 41.5, False), ("BioCLIP 2", 76.8, None)]
    published = [
        {"model": model, "protocol": "zero-shot", "percent": percent, "metric": "zero-shot.top1", "inside": inside}
        | {"here": None if inside is None else 38.0, "source": "a page"}
        for model, percent, inside in values
    ]
    results = {"protocols": {"zero-shot": {"metrics": {"top1": figure, "top5": figure}}}, "published": published}
    rows = beside_published(Evaluation(results, SCHEMA.empty_table()))
    assert [(row["metric"], row["published"], row["verdict"]) for row in rows] == [
        ("zero-shot.top1", 0.378, "inside"),
        ("zero-shot.top1", 0.415, "outside"),
        ("zero-shot.top5", None, ""),
    ]
