"""What tests of Camtrap DP share: columns, a project, and the check of a package against the standard."""

from __future__ import annotations

import csv
import json
import shutil
from datetime import timedelta, timezone
from pathlib import Path
from typing import Any

import frictionless
import jsonschema
import pyarrow as pa

from birder.formats.camtrap import Project
from tests.formats.conftest import DATA

SCHEMAS = DATA / "camtrap-dp-1.0.2"
BASE = "https://raw.githubusercontent.com/tdwg/camtrap-dp/1.0.2/"
PREDICTED = {"predicted_label": pa.string(), "predicted_score": pa.float32()}
BOX = {f"box_{name}": pa.float64() for name in ("x", "y", "width", "height")}
PROJECT = Project(
    sampling_design="opportunistic",
    capture_method="activityDetection",
    contributors=["Ada"],
    latitude=51.0,
    longitude=4.0,
    zone=timezone(timedelta(hours=2)),
    labelled_by="Ada",
)
Lines = list[dict[str, str]]


def check(folder: Path, work: Path) -> dict[str, Any]:
    """Validate a package; without network, so from local copies of the schemas that it names."""
    package: dict[str, Any] = json.loads((folder / "datapackage.json").read_text())
    copy = work / f"checked-{folder.name}"
    shutil.copytree(folder, copy)
    local = json.loads(json.dumps(package))
    assert local.pop("profile") == BASE + "camtrap-dp-profile.json"
    for resource in local["resources"]:
        name = resource["schema"].removeprefix(BASE)
        shutil.copyfile(SCHEMAS / name, copy / name)
        resource["schema"] = name
    (copy / "datapackage.json").write_text(json.dumps(local))
    report = frictionless.validate(copy / "datapackage.json")
    assert report.valid, report.flatten(["title", "type", "rowNumber", "fieldName", "note"])[:5]
    # the standard's part of the profile; its other parts are schemas of others, on the network
    profile = json.loads((SCHEMAS / "camtrap-dp-profile.json").read_text())
    own = {"$defs": profile["$defs"], **profile["allOf"][1]}
    own["properties"]["spatial"].pop("$ref")
    jsonschema.Draft4Validator(own).validate(package)
    return package


def lines(folder: Path, table: str) -> Lines:
    with (folder / f"{table}.csv").open(encoding="utf-8", newline="") as text:
        return list(csv.DictReader(text))
