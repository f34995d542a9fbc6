"""The record table of camtrapR: against camtrapR's own sample, and facts worked out by hand; read by pandas."""

from __future__ import annotations

from collections import defaultdict
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from birder.cli import app
from birder.errors import CollectionError, ConfigError
from birder.formats.camtrapr import COLUMNS, Record, table_lines
from birder.formats.export import export
from birder.sources import path_to_uri
from tests.formats.camtrap import BOX, PREDICTED
from tests.formats.conftest import Make

NOON = datetime(2024, 5, 1, 12)
TYPES = BOX | PREDICTED | {"category": pa.string()}
SAMPLE = [
    ("StationA", "PBE", "2009-04-21 00:40:00", 0, 0, 0, 0),
    ("StationA", "PBE", "2009-04-22 20:19:00", 157140, 2619, 43.6, 1.8),
    ("StationB", "PBE", "2009-04-05 00:11:00", 0, 0, 0, 0),
    ("StationB", "PBE", "2009-04-05 23:13:00", 82920, 1382, 23.0, 1.0),
    ("StationB", "PBE", "2009-04-07 00:23:00", 90600, 1510, 25.2, 1.0),
    ("StationB", "PBE", "2009-04-10 04:07:00", 272640, 4544, 75.7, 3.2),
    ("StationC", "EGY", "2009-04-06 03:49:00", 0, 0, 0, 0),
    ("StationC", "EGY", "2009-04-12 20:26:00", 578220, 9637, 160.6, 6.7),
    ("StationC", "EGY", "2009-04-23 02:25:00", 885540, 14759, 246.0, 10.2),
]
"""Lines of `recordTableSample` of camtrapR 3.0.3: those between which it left no record out."""


def read(file: Path) -> pd.DataFrame:
    return pd.read_csv(file, parse_dates=["DateTimeOriginal"], keep_default_na=False, na_values=[""])


def test_differences_in_time_are_those_of_camtrapr(make: Make, tmp_path: Path) -> None:
    rows = {
        path_to_uri(f"/card/{station}/{number}.JPG"): {
            "deployment": station,
            "label": species,
            "label_source": "table",
            "taken_at": datetime.fromisoformat(moment),
        }
        for number, (station, species, moment, *_) in enumerate(reversed(SAMPLE))
    }
    said = str(export(make(rows), tmp_path / "records.csv", "camtrapR"))
    assert said == f"9 records of 2 species at 3 stations in {tmp_path / 'records.csv'}."
    table = read(tmp_path / "records.csv")
    assert list(table.columns) == list(COLUMNS)
    told = table[["Station", "Species", "DateTimeOriginal", *COLUMNS[5:9]]].astype({"DateTimeOriginal": str})
    assert [tuple(line) for line in told.itertuples(index=False)] == SAMPLE
    assert (table["Date"] + " " + table["Time"]).tolist() == [line[2] for line in SAMPLE]
    assert set(table["n_images"]) == {1} and table["n"].isna().all()
    assert (table["Directory"] + "/" + table["FileName"]).tolist() == [
        f"/card/{station}/{8 - number}.JPG" for number, (station, *_) in enumerate(SAMPLE)
    ]


def test_a_visit_is_one_record_a_species(make: Make, tmp_path: Path) -> None:
    def row(second: float, **columns: Any) -> dict[str, Any]:
        moment = NOON + timedelta(seconds=second)
        return {"taken_at": moment, "deployment": "A4", "label_source": "table", **columns}

    boxed = {"box_x": 0.0, "box_y": 0.0, "box_width": 0.1, "box_height": 0.5, "category": "animal"}
    one, two = (path_to_uri(f"/card/A4/{name}.jpg") for name in ("1", "2"))
    rows = {
        f"{two}#xywh=percent:0,0,10,50": row(9, sequence="a", label="fox", **boxed),
        f"{two}#xywh=percent:20,0,10,50": row(9, sequence="a", label="fox", **boxed),
        f"{one}#xywh=percent:0,0,10,50": row(0.5, sequence="a", label="fox", **boxed),
        path_to_uri("/card/A4/3.jpg"): row(100, sequence="b", predicted_label="fox", predicted_score=0.5),
        path_to_uri("/card/A4/4.jpg"): row(100, sequence="b", predicted_label="person", predicted_score=0.5),
        path_to_uri("/card/A4/5.jpg"): row(200, sequence="c", label="blank"),
        path_to_uri("/card/A4/6.jpg"): row(300, label="owl"),
        path_to_uri("/card/A4/7.jpg"): row(300.25, label="owl"),  # the same second: one record
        path_to_uri("/card/A4/8.jpg"): row(400, label="owl") | {"taken_at": None},
        path_to_uri("/card/A4/9.jpg"): row(500),
    }
    collection = make(rows, TYPES)
    with collection.writing():
        uri = path_to_uri("/card/A4/8.jpg")
        collection.update(pa.table({"uri": [uri], "taken_at": pa.nulls(1, pa.timestamp("us"))}))
    said = str(export(collection, tmp_path / "records.csv", "camtrapR"))
    assert said.splitlines() == [
        f"4 records of 2 species at 1 station in {tmp_path / 'records.csv'}.",
        "Among the records, 1 of human: camtrapR leaves them out with exclude.",
        "1 blank sequence or image was left out.",
        "1 image with a name but without a time was left out.",
    ]
    table = read(tmp_path / "records.csv")
    facts = table[["Species", "Time", "delta.time.secs", "FileName", "n_images"]]
    assert [tuple(line) for line in facts.itertuples(index=False)] == [
        ("fox", "12:00:00", 0, "1.jpg", 2),
        ("fox", "12:01:40", 100, "3.jpg", 1),
        ("human", "12:01:40", 0, "4.jpg", 1),
        ("owl", "12:05:00", 0, "6.jpg", 2),
    ]
    assert table["n"].tolist()[0] == 2 and table["n"].isna().tolist()[1:] == [True] * 3
    # the command, and what it refuses
    run = CliRunner().invoke(
        app, ["export", str(collection.path), "--to", str(tmp_path / "r.csv"), "--format", "camtrapR"]
    )
    assert run.exit_code == 0 and (tmp_path / "r.csv").read_bytes() == (tmp_path / "records.csv").read_bytes()
    nowhere = make({path_to_uri("/card/a.jpg"): {"label": "fox", "label_source": "table"}}, name="d.birder")
    with pytest.raises(ConfigError, match=r"1 record has no deployment.*--deployment-from"):
        export(nowhere, tmp_path / "none.csv", "camtrapR")
    folder = make(
        {path_to_uri("/card/fox/a.jpg"): {"label": "fox", "label_source": "folder", "deployment": "A4"}}, name="e"
    )
    with pytest.raises(CollectionError, match="--folder-labels"):
        export(folder, tmp_path / "none.csv", "camtrapR")
    assert not (tmp_path / "none.csv").exists()
    assert str(export(folder, tmp_path / "folder.csv", "camtrapR", folder_labels=True)).startswith(
        "1 record of 1 species at 1 station in"
    )


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from("AB"), st.sampled_from("xy"), st.integers(0, 10**7)), unique=True, max_size=20)
)
def test_differences_add_up_to_the_time_between_first_and_last(drawn: list[tuple[str, str, int]]) -> None:
    records = [
        Record(place, "animal", name, NOON + timedelta(seconds=at), "", "", 1, None)
        for place, name, at in sorted(drawn)
    ]
    total: dict[tuple[str, str], int] = defaultdict(int)
    for line in table_lines(iter(records)):
        total[str(line[0]), str(line[1])] += int(str(line[5]))
    for key, seconds in total.items():
        times = [at for place, name, at in drawn if (place, name) == key]
        assert seconds == max(times) - min(times)
