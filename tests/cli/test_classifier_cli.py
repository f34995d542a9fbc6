"""Classifiers from files on the command line: predict, classify and serve take a checkpoint and a detached head."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from typer.testing import CliRunner

import birder
from birder.cli import app
from birder.cli.errors import exit_code
from birder.errors import BirderError
from birder.weights.head import save_head
from birder.weights.resolve import resolve
from tests.classifiers import CLASSES, head_of, network_file

DATA = Path(__file__).parents[1] / "data"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("home")
    model = resolve(network_file(home / "vit_b16_pn_tiny.pt")).load_image_encoder()
    source = Image.open(DATA / "chelsea.png").convert("RGB")
    (home / "photos").mkdir()
    for i in range(4):
        source.crop((40 * i, 20 * i, 40 * i + 64, 20 * i + 64)).save(home / "photos" / f"{i}.png")
    birder.embed(home / "photos", home / "c.birder", str(home / "vit_b16_pn_tiny.pt"), engine="torch", precision="fp32")
    save_head(home / "owls.safetensors", head_of(model), model=model)
    save_head(home / "owls.safetensors", head_of(model), model=None)
    return home


def run(*arguments: str | Path, code: int = 0) -> tuple[str, str]:
    """What a command writes to standard output and standard error; an error is told as `birder` would tell it."""
    result = CliRunner().invoke(app, [str(each) for each in arguments])
    if isinstance(result.exception, BirderError):
        assert exit_code(result.exception) == code, result.exception
        return result.stdout, str(result.exception)
    assert result.exit_code == code, result.output
    return result.stdout, result.stderr


@pytest.mark.parametrize("name", ["owls.safetensors", "owls.head.safetensors"])
def test_rows_of_a_collection(home: Path, tmp_path: Path, name: str) -> None:
    collection = shutil.copytree(home / "c.birder", tmp_path / "c.birder")
    out, said = run(
        "predict", "--in", collection, "--model", home / name, "--deepest", "0.95", "-k", "1", "--save",
        "--format", "json", "--log", tmp_path / "log.json",
    )  # fmt: skip
    rows: list[dict[str, Any]] = json.loads(out)
    assert len(rows) == 4
    assert set(rows[0]) == {
        "path", "label", "score", "unknown", "unknown_score", "set", "deepest", "deepest_rank", "deepest_score",
    }  # fmt: skip
    assert {row["deepest"] for row in rows} == {"Strigiformes"}
    unknown = sum(row["unknown"] for row in rows)
    assert f"Named 4 images with {name} among 3 classes (cross-validated accuracy 80.0%)." in said
    assert f"Unknown, which is unlike anything the classifier learned from: {unknown:,} of 4 images." in said
    assert "4 rows now have predicted_label" in said
    log = json.loads((tmp_path / "log.json").read_text())
    assert (log["model"], log["settings"]["--deepest"]) == (name, 0.95)
    assert len(log["sha256"]) == 64
    saved = birder.open_collection(collection).to_arrow(["predicted_label", "predicted_sha256"]).to_pylist()
    assert {row["predicted_sha256"] for row in saved} == {log["sha256"]}
    assert {row["predicted_label"] for row in saved} <= set(CLASSES)


def test_a_table_has_sets_as_text(home: Path, tmp_path: Path) -> None:
    run("predict", home / "photos" / "1.png", "--model", home / "owls.safetensors", "--to", tmp_path / "names.csv")
    with (tmp_path / "names.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 3
    assert all(set(row["set"]) & set("[]") == set() for row in rows)
    assert {row["unknown"] for row in rows} <= {"True", "False"}
    out, _ = run("predict", home / "photos" / "1.png", "--model", home / "owls.safetensors")
    assert "unknown_score" in out


def test_classify_gives_the_same_classes(home: Path) -> None:
    image = home / "photos" / "1.png"
    named = json.loads(run("predict", image, "--model", home / "owls.safetensors", "--format", "json")[0])
    classified = json.loads(run("classify", image, "--model", home / "owls.safetensors", "--format", "json")[0])
    assert [row["class"] for row in classified] == [row["label"] for row in named]
    assert [row["probability"] for row in classified] == pytest.approx([row["score"] for row in named], abs=1e-5)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (
            ["--in", "c.birder", "--model", "owls.safetensors", "--labels", "owl", "--rank", "genus"],
            2,
            "leave out labels",
        ),
        (["--in", "c.birder", "--model", "owls.safetensors", "--deepest", "2"], 2, "between 0.5 and 0.999"),
        (["--in", "c.birder", "--deepest", "0.9", "--labels", "owl"], 2, "name its file as the model"),
        (["--in", "c.birder", "--like", "c.birder", "--deepest", "0.9"], 2, "leave out --deepest"),
        (["photos", "--model", "owls.head.safetensors"], 1, "birder predict --in COLLECTION"),
    ],
)
def test_uses_that_are_refused(
    home: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], code: int, message: str
) -> None:
    monkeypatch.chdir(home)
    _, said = run("predict", *arguments, code=code)
    assert message in " ".join(said.replace("\u2502", " ").split())


def test_serve_refuses_a_classifier_of_another_model_before_it_listens(home: Path, tmp_path: Path) -> None:
    other = resolve(network_file(tmp_path / "vit_b16_pn_other.pt", seed=9)).load_image_encoder()
    path = save_head(tmp_path / "others.safetensors", head_of(other), model=other)
    _, said = run("serve", home / "c.birder", "--model", path, code=2)
    assert "vit_b16_pn_other" in said
    assert "vit_b16_pn_tiny" in said
