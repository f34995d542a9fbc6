"""What commands write where there is nothing to list."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from birder.cli import app
from birder.collection.backbone import describe_backbone
from birder.collection.storage import Storage
from birder.inference.classifier import Classifier
from tests.factory import collection_of, row


@pytest.fixture(scope="module")
def collection(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One row, without failures or duplicates."""
    return collection_of(tmp_path_factory.mktemp("one") / "c", [row("p/a.jpg", [1, 0, 0, 0])]).path


COMMANDS = {
    "failures": (["failures"], "path,reason,failed_at,uri"),
    "duplicates": (["duplicates"], "group,kind,path,width,height,similarity"),
    "search": (["search", "--where", "width > 100"], "path,id,uri,"),
}


@pytest.mark.parametrize("command", COMMANDS)
def test_csv_without_rows_is_its_header(collection: Path, command: str) -> None:
    (name, *options), header = COMMANDS[command]
    done = CliRunner().invoke(app, [name, str(collection), *options, "--format", "csv"])
    assert done.exit_code == 0, done.output
    (line,) = done.stdout.splitlines()
    assert line.startswith(header)


def test_csv_of_images_that_cannot_be_read_is_its_header(tmp_path: Path) -> None:
    (tmp_path / "bad.jpg").write_text("no image")
    done = CliRunner().invoke(app, ["classify", str(tmp_path / "bad.jpg"), "--format", "csv"])
    assert done.exit_code == 1
    assert done.stdout == "path,rank,class,probability\n"


def test_csv_of_names_for_no_rows_is_its_header(collection: Path, tmp_path: Path) -> None:
    made = {"backbone": describe_backbone(Storage.open(collection))}
    head = Classifier(("a", "b"), np.eye(2, 4, dtype=np.float32), np.zeros(2, np.float32), made)
    names = ["--in", str(collection), "--model", str(head.save(tmp_path / "ab.head.safetensors"))]
    done = CliRunner().invoke(app, ["predict", *names, "--where", "width > 100", "--format", "csv"])
    assert done.exit_code == 0, done.output
    assert done.stdout == "path,label,score\n"


def test_parquet_without_rows_has_the_columns(collection: Path, tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["failures", str(collection), "--to", str(tmp_path / "failures.parquet")])
    assert done.exit_code == 0, done.output
    table = pq.read_table(tmp_path / "failures.parquet")
    assert (table.num_rows, table.column_names) == (0, ["path", "reason", "failed_at", "uri"])


def test_json_without_rows_is_an_empty_list(collection: Path) -> None:
    done = CliRunner().invoke(app, ["failures", str(collection), "--format", "json"])
    assert json.loads(done.stdout) == []


@pytest.mark.parametrize("form", ["table", "csv"])
def test_info_leaves_out_what_a_model_does_not_have(form: str) -> None:
    done = CliRunner().invoke(app, ["info", "efficientnet_lite0_in1k", "--format", form])
    assert done.exit_code == 0, done.output
    assert "licence" in done.stdout and "whole CLIP model" not in done.stdout
