from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from birder.collection.storage import Storage
from birder.errors import CollectionError, ConfigError, UnknownNameError, WriteError
from birder.formats.export import export
from birder.formats.folders import folder_name, sort_into
from birder.formats.snapshot import Snapshot
from birder.sources import path_to_uri
from tests.formats.conftest import Make

PREDICTED = {"predicted_genus": pa.string(), "predicted_score": pa.float32()}


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture
def trap(make: Make, tmp_path: Path) -> Storage:
    """Two cameras that give the same names; an image with two boxes, one without a label, one that is gone."""
    rows = {}
    for camera, name, label in [("a", "1", "owl"), ("b", "1", "owl"), ("a", "2", "roe/deer"), ("a", "3", None)]:
        path = tmp_path / camera / f"IMG_{name}.jpg"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(f"{camera}{name}".encode())
        rows[path_to_uri(path)] = {"label": label, "predicted_genus": "Strix", "predicted_score": 0.5}
    both = path_to_uri(tmp_path / "a" / "IMG_2.jpg")
    rows |= {f"{both}#xywh=percent:0,0,50,50": {"label": "owl"}, f"{both}#xywh=percent:5,0,50,50": {"label": "owl"}}
    return make(
        rows | {path_to_uri(tmp_path / "gone.jpg"): {"label": "owl"}, "https://x/y.jpg": {"label": "owl"}}, PREDICTED
    )


def test_sorting_images_overwrites_nothing(trap: Storage, tmp_path: Path) -> None:
    out = tmp_path / "sorted"
    (out / "owl").mkdir(parents=True)
    (out / "owl" / "IMG_2.jpg").write_bytes(b"mine")
    done = sort_into(Snapshot(trap), out)
    expected = {
        "owl/IMG_1 (2).jpg": b"b1",
        "owl/IMG_1.jpg": b"a1",
        "owl/IMG_2 (2).jpg": b"a2",
        "owl/IMG_2.jpg": b"mine",
        "roe_deer/IMG_2.jpg": b"a2",
    }
    assert files(out) == expected
    assert (done.written, done.unchanged, done.left_out) == (4, 0, 1)
    assert {uri.rpartition("/")[2] for uri, _ in done.failures} == {"gone.jpg", "y.jpg"}
    again = sort_into(Snapshot(trap), out)
    assert (again.written, again.unchanged) == (0, 4)
    assert files(out) == expected


def test_images_are_sorted_by_prediction_as_links(trap: Storage, tmp_path: Path) -> None:
    done = sort_into(Snapshot(trap, "label IS NULL"), tmp_path / "out", by="prediction", link=True)
    assert (done.written, done.left_out) == (1, 0)
    assert (tmp_path / "out" / "Strix" / "IMG_3.jpg").samefile(tmp_path / "a" / "IMG_3.jpg")
    by_column = sort_into(Snapshot(trap), tmp_path / "columns", by="predicted_genus")
    assert min(files(tmp_path / "columns")) == "Strix/IMG_1 (2).jpg" and by_column.written == 4


def test_names_of_rows_never_lead_out_of_the_folder(make: Make, tmp_path: Path) -> None:
    names = ["..", "../../evil", "/etc/passwd", "a\\b", "con", "CON.txt", ".hidden", "x" * 500, "\u00e4" * 300]
    names += ["a.", "\0", "owl", "OWL", "\udce4", "a\u202eb", "C:", "end "]
    rows = {}
    for number, name in enumerate(names):
        path = tmp_path / "in" / f"{number}.jpg"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(bytes([number]))
        rows[path_to_uri(path)] = {"label": name.encode("utf-8", "replace").decode()}
    out = tmp_path / "out"
    done = sort_into(Snapshot(make(rows)), out)
    assert (done.written, done.failures) == (len(names), [])
    assert sorted(files(out).values()) == sorted(bytes([number]) for number in range(len(names)))
    assert {each.name for each in tmp_path.iterdir()} == {"in", "out", "c.birder"}
    folders = [each.name for each in out.iterdir()]
    assert len({each.casefold() for each in folders}) == len(names)  # also where case does not count
    for each in folders:
        assert (
            folder_name(each.removesuffix(" (2)")) and not set(each) & set('<>:"/\\|?*\0') and len(each.encode()) < 130
        )
        assert not each.startswith(".") and not each.endswith((".", " ")) and each.lower() not in ("con", "con.txt")


def test_sorting_does_not_follow_a_link_in_the_folder(make: Make, tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"a")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "owl").symlink_to(tmp_path / "elsewhere")
    done = sort_into(Snapshot(make({path_to_uri(tmp_path / "a.jpg"): {"label": "owl"}})), tmp_path / "out")
    assert len(done.failures) == 1 and "link" in done.failures[0][1]
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_images_that_cannot_be_sorted_are_reported(trap: Storage, tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="'lable'"):
        sort_into(Snapshot(trap), tmp_path / "out", by="lable")
    with pytest.raises(ConfigError, match="Choose a text column"):
        sort_into(Snapshot(trap), tmp_path / "out", by="width")
    with pytest.raises(CollectionError, match="No rows match the filter"):
        export(trap, tmp_path / "out", "folders", where="label = 'x'")
    (tmp_path / "file").write_text("")
    with pytest.raises(WriteError, match="Cannot write"):
        sort_into(Snapshot(trap), tmp_path / "file")
