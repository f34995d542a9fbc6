"""Captures and effort of a collection: what is counted once, what is kept apart, and whose nights are known."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from birder.analysis.activity import Activity, find_activity
from birder.collection.filter import as_filter
from birder.collection.labels import give_label
from birder.collection.storage import Storage
from birder.errors import CollectionError, UnknownNameError
from birder.formats.camtrap import read_images
from tests.factory import collection_of_columns

NOON = datetime(2024, 5, 1, 12)
TYPES = {
    name: pa.string()
    for name in ("category", "predicted_label", "predicted_species", "scientificName", "observationType")
} | {"deploymentStart": pa.timestamp("us"), "deploymentEnd": pa.timestamp("us")}


def seen(deployment: str | None, sequence: str | None, hours: float | None, **columns: Any) -> dict[str, Any]:
    moment = None if hours is None else NOON + timedelta(hours=hours)
    return {"deployment": deployment, "sequence": sequence, "taken_at": moment, **columns}


ROWS = [
    seen("A", "1", 0.01, label="fox"),
    seen("A", "1", 0, label="fox", latitude=50.0, longitude=4.0),
    seen("A", "1", 0, predicted_label="badger"),
    seen("A", "2", 48, label="Human", category="animal"),
    seen("A", "3", 48, category="person", predicted_label="fox"),
    seen("A", "4", 48, label="blank"),
    seen("A", "5", 48, category="animal"),
    seen("B", "1", 5, scientificName="fox | deer", deploymentStart=NOON, deploymentEnd=NOON + timedelta(days=10)),
    seen("B", None, None, label="fox"),
    seen("C", "7", 1, observationType="blank"),
    seen(None, "1", 1, label="fox"),
]


def report(path: Path, rows: list[dict[str, Any]], **options: Any) -> Activity:
    made = collection_of_columns(path, {f"file:///{number}.jpg": row for number, row in enumerate(rows)}, TYPES)
    if "where" in options:
        options["where"] = as_filter(options["where"], made.columns)
    return report_of(made, **options)


def report_of(made: Storage, **options: Any) -> Activity:
    return find_activity(made.snapshot(), made.journal, **options)


def test_a_species_counts_once_in_an_event_and_the_rest_is_kept_apart(tmp_path: Path) -> None:
    found = report(tmp_path / "c", ROWS)
    assert [(each.name, each.captures, each.deployments) for each in found.species] == [
        ("fox", 4, 2), ("badger", 1, 1), ("deer", 1, 1)
    ]  # fmt: skip
    kinds = [(d.name, d.events, d.animals, d.humans, d.vehicles, d.blanks, d.unnamed) for d in found.deployments]
    assert kinds == [("A", 5, 1, 2, 0, 1, 1), ("B", 2, 2, 0, 0, 0, 0), ("C", 1, 0, 0, 0, 1, 0), ("", 1, 1, 0, 0, 0, 0)]
    assert [(d.nights, d.known_by) for d in found.deployments] == [
        (2, "images"),
        (10, "dates"),
        (1, "images"),
        (None, None),
    ]
    assert (found.deployments[0].latitude, found.deployments[0].longitude) == (50, 4)
    assert found.species[0].rate == pytest.approx(100 * 3 / 13)  # without the row that has no deployment
    assert [(row["deployment"], row["species"], row["captures"]) for row in found] == [
        ("A", "fox", 1), ("A", "badger", 1), ("B", "fox", 2), ("B", "deer", 1), ("C", None, 0), (None, "fox", 1)
    ]  # fmt: skip
    assert found.accumulation is not None and found.accumulation.samples[-1] == 3 + 11 + 1
    said = " ".join(found.notes)
    assert "1 of 11 rows have no time" in said and "1 of 11 rows have no deployment" in said and "2 deployments" in said
    assert not found.curves


def test_the_order_of_the_rows_changes_nothing(tmp_path: Path) -> None:
    one, other = report(tmp_path / "a", ROWS * 3), report(tmp_path / "b", (ROWS * 3)[::-1])
    assert (one.species, one.deployments, one.notes) == (other.species, other.deployments, other.notes)
    assert one.table.equals(other.table)


def test_species_limit_captures_and_filters_limit_rows(tmp_path: Path) -> None:
    found = report(tmp_path / "c", ROWS, species=["deer"])
    assert [each.name for each in found.species] == ["deer"] and found.nights == 13
    only = report(tmp_path / "d", ROWS, where="deployment = 'B'")
    assert only.nights == 10 and only.rows == 2
    by_column = report(tmp_path / "e", ROWS, column="predicted_label")
    assert [(each.name, each.captures) for each in by_column.species] == [("badger", 1), ("fox", 1)]
    with pytest.raises(UnknownNameError, match="Did you mean deer"):
        report(tmp_path / "f", ROWS, species=["dear"])
    with pytest.raises(UnknownNameError, match="column"):
        report(tmp_path / "g", ROWS, column="labl")
    with pytest.raises(CollectionError, match="No row matches"):
        report(tmp_path / "h", ROWS, where="deployment = 'Z'")


def test_names_of_folders_are_told_from_those_that_a_person_gave(tmp_path: Path) -> None:
    rows = [seen("A", str(n), n, label="fox", label_source="folder") for n in range(3)]
    made = collection_of_columns(tmp_path / "c", {f"file:///{n}.jpg": row for n, row in enumerate(rows)}, TYPES)
    assert any(note.startswith("3 rows have the name of the folder") for note in report_of(made).notes)
    ids = made.to_arrow()["id"].to_pylist()
    give_label(made, ids[:2], "label", "fox", by="Ada")
    again = report_of(Storage.open(made.path))
    assert any(note.startswith("1 row has the name of the folder") for note in again.notes)


def test_camtrap_dp_tells_the_dates_of_deployments() -> None:
    package = Path(__file__).parents[1] / "data" / "camtrap-dp" / "datapackage.json"
    columns = next(iter(read_images(str(package)))).columns
    assert columns["deploymentStart"] == datetime(2020, 5, 30, 4, 57, 37)
    assert columns["deploymentEnd"] == datetime(2020, 7, 1, 11, 41, 41)


def test_a_curve_has_one_time_an_event_and_clocks_are_doubted(tmp_path: Path) -> None:
    visits = [seen("A", str(day), 24 * day + minute / 60, label="fox") for day in range(12) for minute in (0, 1, 2)]
    found = report(tmp_path / "c", [*visits, seen("A", "x", -24 * 900, label="fox")])
    assert found.curves["fox"].n == 13
    assert int(found.curves["fox"].density.argmax()) == 144  # 12:00
    assert any("was a clock wrong?" in note for note in found.notes)
