"""`birder reproduce` on two small benchmarks, a broken one, and a model that cannot be had."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

import birder
from birder.cli import app
from birder.collection.reproducing import default_models, find_folder
from birder.errors import ConfigError
from birder.evaluation.benchmark_rows import published_rows
from birder.evaluation.benchmarks import benchmark
from birder.evaluation.published_tables import Judged, JudgedModel, fill, needed_protocols, published_tables

CLIP = Path(__file__).parents[1] / "data" / "openclip"
ISLAND = "idle-oo/island"


def draw(path: Path, code: int) -> None:
    """An image of a colour that the class has alone, wider than high."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(code).integers(0, 256, (6, 8, 3), np.uint8)
    Image.fromarray(pixels).save(path, format="PNG")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two whole benchmarks, in the layouts of published rows and of class folders, and one whose labels are absent."""
    folder = tmp_path_factory.mktemp("benchmarks")
    rows = published_rows(ISLAND, benchmark(ISLAND).text_type)
    texts = list(dict.fromkeys(row.text for row in rows))
    for row in rows:
        draw(folder / "idle-oo" / row.path, texts.index(row.text))
    for part in ("train", "test"):
        for code, name in enumerate(("Apple leaf", "Corn rust", "Grape leaf")):
            for number in range(2):
                draw(folder / "plantdoc" / part / name / f"{number}.png", code)
    (folder / "newt" / "newt2021_images").mkdir(parents=True)
    return folder


@pytest.fixture(scope="module")
def first(data: Path, tmp_path_factory: pytest.TempPathFactory) -> birder.Reproduction:
    """The first run. The model someone/model is asked for too, and no hub is in reach."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
        to = tmp_path_factory.mktemp("reproduced") / "tables"
        return birder.reproduce("bioclip", data, to, models=[CLIP, "someone/model"], device="cpu", date="2026-01-31")


def own_cells(results: dict[str, Any], model: str) -> dict[tuple[str, str], dict[str, Any]]:
    return {(cell["table"], cell["benchmark"]): cell for cell in results["results"] if cell["model"] == model}


@pytest.mark.slow
def test_cells_have_the_figures_of_evaluate_benchmark(data: Path, first: birder.Reproduction) -> None:
    results = json.loads((first.folder / "results.json").read_text("utf-8"))
    assert (results["schema"], results["date"], results["birder"]) == (1, "2026-01-31", birder.__version__)
    cells = own_cells(results, str(CLIP))
    found = birder.evaluate_benchmark("plantdoc", data / "plantdoc", CLIP, protocols=["one-shot"], device="cpu")
    figure = found.results["protocols"]["one-shot"]["metrics"]["top1_1_shot"]
    cell = cells["beyond-species-v2", "plantdoc"]
    assert (cell["value"], cell["low"], cell["high"], cell["n"]) == pytest.approx(
        (100 * figure["estimate"], 100 * figure["low"], 100 * figure["high"], figure["n"])
    )
    assert (cell["metric"], cell["sha256"]) == ("one-shot.top1_1_shot", found.results["model"]["sha256"])
    assert (cell["published"], cell["inside"], cell["why"]) == (None, None, None)
    kept = json.loads(next((first.folder / "cells").rglob("idle-oo_island.json")).read_text("utf-8"))
    assert kept["results"]["benchmark"]["images"] == 310
    assert kept["results"]["protocols"]["zero-shot"]["templates"] == 81


@pytest.mark.slow
def test_what_was_not_run_says_why(data: Path, first: birder.Reproduction) -> None:
    results = json.loads((first.folder / "results.json").read_text("utf-8"))
    assert all((cell["value"] is None) <= bool(cell["why"]) for cell in results["results"])
    assert {(cell["table"], cell["published_model"], cell["benchmark"], cell["protocol"], cell["published"])
            for cell in results["results"] if cell["published"] is not None} >= {
        (table.name, value.model, value.benchmark, value.protocol, value.percent)
        for table in published_tables() for value in table.values.values()
    }  # fmt: skip
    cells = own_cells(results, str(CLIP))
    assert "no folder rare-species" in cells["zero-shot-v1", "rare-species"]["why"]
    assert benchmark("rare-species").page in cells["zero-shot-v1", "rare-species"]["why"]
    assert "newt2021_labels.csv" in cells["beyond-species-v2", "newt"]["why"]
    assert "does not have the benchmark herbarium19" in cells["beyond-species-v2", "herbarium19"]["why"]
    assert "lacks" in cells["zero-shot-v2", "idle-oo"]["why"]
    assert "lacks fishnet, newt, awa2 and 1 more" in cells["beyond-species-v2", "mean"]["why"]
    assert {cell["sha256"] for cell in own_cells(results, "someone/model").values()} == {None}
    # The four other sets of IDLE-OO are looked for in its folder, and are not there.
    names = [f"{name} by {CLIP}" for name in needed_protocols(published_tables()) if find_folder(benchmark(name), data)]
    there = {f"{name} by {CLIP}" for name in ("plantdoc", ISLAND)}
    assert [what for what, _ in first.failed] == [*(name for name in names if name not in there), "someone/model"]
    assert (first.run, first.kept) == (2, 0)


@pytest.mark.slow
def test_a_second_run_does_only_what_is_missing(
    data: Path, first: birder.Reproduction, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    to = Path(shutil.copytree(first.folder, tmp_path / "tables"))
    before = {name: (to / name).read_bytes() for name in ("results.json", "tables.html", "tables.md")}
    command = ["reproduce", "bioclip", "--data", str(data), "--to", str(to), "--date", "2026-01-31"]
    done = CliRunner().invoke(app, [*command, "--model", str(CLIP), "--model", "someone/model", "--device", "cpu"])
    assert done.exit_code == 1
    assert "0 run, 2 kept" in done.output
    assert {name: (to / name).read_bytes() for name in before} == before
    cell = next((to / "cells").rglob("plantdoc.json"))
    kept = cell.read_bytes()
    cell.write_bytes(kept[:100])  # as a full disk may leave it elsewhere: it is run again, and nothing else is
    again = birder.reproduce("bioclip", data, to, models=[CLIP], device="cpu")
    assert (again.run, again.kept, cell.read_bytes()) == (1, 1, kept)


def test_a_benchmark_with_a_broken_image_is_not_compared_and_is_run_again(data: Path, tmp_path: Path) -> None:
    shutil.copytree(data / "plantdoc", tmp_path / "data" / "plantdoc")
    (tmp_path / "data" / "plantdoc" / "test" / "Corn rust" / "0.png").write_bytes(b"\x89PNG")
    done = birder.reproduce("bioclip", tmp_path / "data", tmp_path / "to", models=[CLIP], device="cpu")
    cell = next(cell for cell in done.cells if cell.benchmark == "plantdoc" and cell.model == str(CLIP))
    assert (cell.n, cell.inside) == (5, None)
    assert cell.why is not None
    assert cell.why.startswith("not compared: 1 of 12 images could not be read")
    assert (done.run, done.kept, [what for what, _ in done.failed]) == (1, 0, [f"plantdoc by {CLIP}"])
    assert not (tmp_path / "to" / "cells").exists()


def test_pages_show_every_published_value(first: birder.Reproduction) -> None:
    page, text = ((first.folder / name).read_text("utf-8") for name in ("tables.html", "tables.md"))
    for table in published_tables():
        assert table.title in page
        assert f"## {table.title}" in text
        for value in table.values.values():
            shown = f"{value.percent:.1f}" if round(value.percent, 1) == value.percent else f"{value.percent:.2f}"
            line = next(line for line in text.splitlines() if line.startswith(f"| {value.model} |") and shown in line)
            assert f" {shown} |" in line
    assert "&lt;" not in text
    assert "someone/model, here" in page


def test_wrong_use_is_refused_before_anything_is_read(data: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no folder of a benchmark"):
        birder.reproduce("bioclip", tmp_path, tmp_path / "to")
    with pytest.raises(ConfigError, match="YYYY-MM-DD"):
        birder.reproduce("bioclip", data, tmp_path / "to", date="yesterday")
    assert not (tmp_path / "to").exists()


def test_default_models_are_the_registered_ones_of_the_tables() -> None:
    assert default_models(published_tables()) == ["vit_b16_pn_bioclip-v1", "vit_l14_pn_bioclip-v2"]


def test_both_versions_of_published_figures_are_compared() -> None:
    table = published_tables()[0]
    figure = {"estimate": 0.381, "low": 0.372, "high": 0.39, "n": 11983, "interval": "Wilson"}
    judged = JudgedModel("own", "BioCLIP", "00", {"rare-species": Judged({"zero-shot": {"metrics": {"top1": figure}}})})
    cells = {
        row.model: next(cell for cell in row.cells if cell.benchmark == "rare-species") for row in fill(table, [judged])
    }
    assert (cells["BioCLIP"].published, cells["BioCLIP"].inside) == (37.8, True)
    assert (cells["BioCLIP (older card)"].published, cells["BioCLIP (older card)"].inside) == (39.2, False)
    assert cells["CLIP ViT-B/16"].value is None


@pytest.mark.parametrize("table", published_tables(), ids=lambda table: table.name)
def test_means_are_of_the_same_columns_as_the_published_ones(table: Any) -> None:
    """Each model is given its own published values: the mean that comes out is the published one, to its rounding."""
    compared = 0
    for model in table.models:
        own = [value for value in table.values.values() if value.model == model]
        mean = [value.percent for value in own if value.benchmark == "mean"]
        others = [value.percent for value in own if value.benchmark != "mean"]
        if mean:
            assert sum(others) / len(others) == pytest.approx(mean[0], abs=0.11), model
            compared += 1
    assert compared == (0 if table.name == "rare-species-card" else len(table.models))


def test_interval_of_a_mean_is_that_of_independent_figures() -> None:
    table = published_tables()[2]
    figure = {"estimate": 0.5, "low": 0.47, "high": 0.53, "n": 100, "interval": "Wilson"}
    of = {name: Judged({"zero-shot": {"metrics": {"top1": figure}}}) for name in needed_protocols([table])}
    row = next(row for row in fill(table, [JudgedModel("own", None, "00", of)]) if row.judged is not None)
    mean = row.cells[-1]
    group = next(cell for cell in row.cells if cell.benchmark == "idle-oo")
    assert (group.value, group.low, group.high) == pytest.approx((50, 50 - 3 / 5**0.5, 50 + 3 / 5**0.5))
    half = (9 * 9 + 9 / 5) ** 0.5 / 10
    assert (mean.value, mean.low, mean.high, mean.n) == pytest.approx((50, 50 - half, 50 + half, 1400))
