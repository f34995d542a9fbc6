"""Relocating rows: what follows the files to their new place, what is refused, and what a crash leaves."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from birder.collection import relocate as relocate_module
from birder.collection.labels import give_label
from birder.collection.labels import undo as undo_label
from birder.collection.places import Places, below, moved, place_of, read_places
from birder.collection.relocate import Relocated, relocate, undo
from birder.collection.storage import Storage
from birder.errors import BirderError, CollectionError, ConfigError
from birder.formats.sources import find_sources
from birder.pipeline.embed import plan
from birder.sources import path_to_uri
from tests.pipeline.relocating import draw, embed, rows


def state(storage: Storage) -> tuple[Any, ...]:
    """Everything that a relocation may change."""
    opened = Storage.open(storage.path)
    return rows(storage), opened.failures(), opened.shards(), read_places(storage.path)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    draw(tmp_path / "photos", "a/owl.png", "a/fox.png", "b/Größe 50% #1.png", b"b/\xff.png", "c.png")
    draw(tmp_path / "photos2", "other.png", seed=1)  # a sibling whose name begins alike
    (tmp_path / "photos" / "broken.png").write_bytes(b"no image")
    return tmp_path


@pytest.fixture
def storage(home: Path) -> Storage:
    return embed(home, home / "photos", home / "photos2")


def test_everything_follows_the_files_to_their_new_folder(home: Path, storage: Storage) -> None:
    before = rows(storage)
    owl, fox = (before[path_to_uri(home / "photos/a" / name)]["id"] for name in ("owl.png", "fox.png"))
    give_label(storage, [owl], "label", "Tawny owl", by="Ann")
    storage.see_latest()  # in the row
    give_label(storage, [fox], "label", "Red fox", by="Ann")  # in the journal alone
    shutil.move(home / "photos", home / "disk" / "2024")
    done = relocate(storage, home / "photos", home / "disk" / "2024", check="all")
    assert isinstance(done, Relocated)
    assert (done.rows, done.failures, done.checked) == (5, 1, 5)
    after = rows(storage)
    assert {uri.replace("/disk/2024/", "/photos/") for uri in after} == set(before)
    for uri, row in after.items():
        former = before[uri.replace("/disk/2024/", "/photos/")]
        changed = {name for name in row if row[name] != former[name]} - {"uri"}
        assert changed <= ({"label"} if row["id"] in (owl, fox) else set())
    assert {row["id"]: row["label"] for row in after.values() if row["id"] in (owl, fox)} == {
        owl: "Tawny owl",
        fox: "Red fox",
    }
    opened = Storage.open(storage.path)
    assert [row["uri"] for row in opened.failures()] == [path_to_uri(home / "disk/2024/broken.png")]
    assert opened.journal.word("label", owl) is None  # not read yet
    opened.journal.read()
    word = opened.journal.word("label", owl)
    assert word is not None and word.value == "Tawny owl" and word.by == "Ann"
    places = read_places(storage.path)
    assert places.roots == (path_to_uri(home / "disk/2024"), path_to_uri(home / "photos2"))
    assert places.relative(path_to_uri(home / "disk/2024/a/owl.png")) == (places.roots[0], "a/owl.png")
    assert places.relative("s3://elsewhere/a.png") is None


def test_embedding_the_new_folder_does_nothing_and_the_labels_can_still_be_undone(home: Path, storage: Storage) -> None:
    owl = rows(storage)[path_to_uri(home / "photos/a/owl.png")]["id"]
    act = give_label(storage, [owl], "label", "Tawny owl").act
    shutil.move(home / "photos", home / "moved")
    relocate(storage, home / "photos", home / "moved")
    todo = plan(storage, find_sources([str(home / "moved")]))
    assert (len(todo.pending), todo.done, todo.failed_before) == (0, 5, 1)
    assert undo_label(storage, act).restored == 1
    assert rows(storage)[path_to_uri(home / "moved/a/owl.png")]["label"] == "a"


def test_a_relocation_is_undone_by_its_act(home: Path, storage: Storage) -> None:
    before = state(storage)
    shutil.move(home / "photos", home / "moved")
    done = relocate(storage, home / "photos", home / "moved")
    assert undo(storage, done.act, by="Ann").restored == 5
    assert state(storage)[:3] == before[:3] and read_places(storage.path).roots == before[3].roots
    with pytest.raises(CollectionError, match="already been undone"):
        undo(storage, done.act)
    with pytest.raises(CollectionError, match="no act"):
        undo(storage, "nothing")
    first, second = read_places(storage.path).moves
    assert (first.act, second.undoes, second.by) == (done.act, done.act, "Ann")


def test_undoing_leaves_rows_that_were_in_the_new_place_before(home: Path, storage: Storage) -> None:
    before = rows(storage)
    for name in ("a", "b", "c.png", "broken.png"):
        shutil.move(home / "photos" / name, home / "photos2" / name)
    done = relocate(storage, home / "photos", home / "photos2")
    assert len(rows(storage)) == 6
    undo(storage, done.act)
    assert rows(storage) == before


@pytest.mark.slow
def test_a_label_comes_back_with_a_file_that_could_not_be_read_for_a_while(home: Path, storage: Storage) -> None:
    owl = rows(storage)[path_to_uri(home / "photos/a/owl.png")]["id"]
    give_label(storage, [owl], "label", "Tawny owl")
    shutil.move(home / "photos", home / "moved")
    relocate(storage, home / "photos", home / "moved")
    file = home / "moved/a/owl.png"
    data = file.read_bytes()
    file.write_bytes(b"torn")
    assert path_to_uri(file) not in rows(embed(home, home / "moved"))
    file.write_bytes(data)
    os.utime(file, (1, 1))
    row = rows(embed(home, home / "moved"))[path_to_uri(file)]
    assert (row["id"], row["label"]) == (owl, "Tawny owl")


def test_new_files_in_the_old_place_get_ids_of_their_own_and_changed_ones_keep_theirs(
    home: Path, storage: Storage
) -> None:
    owl = rows(storage)[path_to_uri(home / "photos/a/owl.png")]["id"]
    give_label(storage, [owl], "label", "Tawny owl")
    shutil.move(home / "photos", home / "moved")
    relocate(storage, home / "photos", home / "moved")
    draw(home / "photos", "a/owl.png", "a/new.png", seed=2)
    draw(home / "moved", "a/owl.png", seed=3)
    found = rows(embed(home, home / "photos", home / "moved"))
    assert len({row["id"] for row in found.values()}) == len(found) == 8
    assert found[path_to_uri(home / "moved/a/owl.png")]["id"] == owl
    assert found[path_to_uri(home / "moved/a/owl.png")]["label"] == "Tawny owl"
    assert found[path_to_uri(home / "photos/a/owl.png")]["label"] == "a"
    again = rows(embed(home, home / "photos", home / "moved"))
    assert again == found


def test_a_folder_moves_into_itself(home: Path, storage: Storage) -> None:
    before = set(rows(storage))
    shutil.move(home / "photos", home / "x")
    shutil.move(home / "x", home / "photos" / "photos")
    done = relocate(storage, home / "photos", home / "photos" / "photos", check="all")
    assert {uri.replace("/photos/photos/", "/photos/") for uri in rows(storage)} == before
    undo(storage, done.act)
    assert set(rows(storage)) == before


@pytest.mark.parametrize("check", ["sample", "all"])
def test_a_missing_or_different_file_stops_a_relocation_and_nothing_changes(
    home: Path, storage: Storage, check: Any
) -> None:
    before = state(storage)
    shutil.copytree(home / "photos", home / "moved")
    (home / "moved/a/owl.png").unlink()
    with pytest.raises(CollectionError, match=r"Nothing was changed: 1 of 5 files.*owl\.png"):
        relocate(storage, home / "photos", home / "moved", check=check)
    size = (home / "photos/a/owl.png").stat().st_size
    (home / "moved/a/owl.png").write_bytes(b"x" * size)  # of the same size
    with pytest.raises(CollectionError, match=r"Nothing was changed: 1 of 5 files.*differ from"):
        relocate(storage, home / "photos", home / "moved", check=check)
    assert state(storage) == before


def test_the_compared_sample_is_even_and_has_the_first_and_the_last() -> None:
    rows: Any = list(range(1_000))
    sample: Any = relocate_module._evenly(rows, 50)
    assert len(set(sample)) == 50 and sample[0] == 0 and sample[-1] == 999
    assert max(b - a for a, b in itertools.pairwise(sample)) <= 21
    few: Any = relocate_module._evenly(rows[:3], 50)
    assert few == [0, 1, 2]


def test_all_files_are_compared_on_request_and_progress_is_reported(home: Path, storage: Storage) -> None:
    shutil.move(home / "photos", home / "moved")
    told: list[tuple[int, int]] = []
    relocate(storage, home / "photos", home / "moved", check="all", progress=lambda *each: told.append(each))
    assert told == [(1, 5), (2, 5), (3, 5), (4, 5), (5, 5)]


def test_a_uri_that_another_row_has_is_refused(home: Path, storage: Storage) -> None:
    shutil.copytree(home / "photos", home / "moved")
    embed(home, home / "moved")
    before = state(storage)
    with pytest.raises(CollectionError, match=r"5 of 5 rows would get the uri of another row.*embedded at their new"):
        relocate(storage, home / "photos", home / "moved")
    assert state(storage) == before


def test_a_place_without_rows_and_the_same_place_are_refused(home: Path, storage: Storage) -> None:
    with pytest.raises(CollectionError, match=r"No row .* is in .*/photo; .*Images were embedded from .*/photos, "):
        relocate(storage, home / "photo", home / "moved")
    with pytest.raises(ConfigError, match="the same place"):
        relocate(storage, home / "photos", f"{home}/photos/")


@pytest.mark.slow
def test_a_failure_in_the_new_place_stays_the_only_one_of_its_file(home: Path, storage: Storage) -> None:
    shutil.copytree(home / "photos", home / "moved")
    for name in ("a/owl.png", "a/fox.png", "c.png"):
        (home / "moved" / name).write_bytes(b"still copying")
    embed(home, home / "moved" / "a", home / "moved" / "c.png", home / "moved" / "broken.png")
    shutil.copytree(home / "photos", home / "moved", dirs_exist_ok=True)
    relocate(storage, home / "photos", home / "moved")
    with Storage.open(storage.path).running():  # removes failures that have rows
        pass
    failed = [row["uri"] for row in Storage.open(storage.path).failures()]
    assert failed == [path_to_uri(home / "moved/broken.png")]


def test_parts_of_a_shard_follow_it_and_its_contents_are_compared(tmp_path: Path) -> None:
    draw(tmp_path / "in", "one.png", "two.png")
    (tmp_path / "old").mkdir()
    with tarfile.open(tmp_path / "old" / "a#b.tar", "w") as tar:
        for name in ("one.png", "two.png"):
            tar.add(tmp_path / "in" / name, name)
    storage = embed(tmp_path, tmp_path / "old" / "a#b.tar")
    ids = {row["id"] for row in rows(storage).values()}
    assert all("#" in uri for uri in rows(storage)) and len(storage.shards()) == 1
    shutil.move(tmp_path / "old", tmp_path / "new")
    assert relocate(storage, tmp_path / "old", tmp_path / "new", check="all").checked == 2
    assert {row["id"] for row in rows(storage).values()} == ids
    todo = plan(Storage.open(storage.path), find_sources([str(tmp_path / "new" / "a#b.tar")]))
    assert (len(todo.pending), todo.done) == (0, 2)
    (tmp_path / "new" / "a#b.tar").rename(tmp_path / "new" / "c.tar")
    relocate(storage, tmp_path / "new" / "a#b.tar", tmp_path / "new" / "c.tar")  # the shard itself
    assert all("/new/c.tar#" in uri for uri in rows(storage))
    with tarfile.open(tmp_path / "new" / "d.tar", "w") as tar:
        tar.add(tmp_path / "in" / "one.png", "one.png")
    with pytest.raises(CollectionError, match=r"Nothing was changed: 1 of 2.*#two\.png"):
        relocate(storage, tmp_path / "new" / "c.tar", tmp_path / "new" / "d.tar")


CRASH = """
import sys, os
from birder.collection import moving as module
from birder.collection.relocate import relocate
from birder.collection.storage import Storage
step, path, old, new = sys.argv[1:]
storage = Storage.open(path)
def die(*args, **kwargs):
    os._exit(9)
if step == "before the rows":
    module.finish = die
elif step == "after the rows":
    Storage.rename_failures = die
elif step == "after the failures":
    Storage.forget_shards = die
elif step == "before the end":
    write = module.write_places
    module.write_places = lambda path, places: write(path, places) if places.pending else die()
relocate(storage, old, new)
"""


@pytest.mark.slow
@pytest.mark.parametrize("step", ["before the rows", "after the rows", "after the failures", "before the end"])
@pytest.mark.parametrize("new", ["moved", "photos/photos"])
def test_a_crash_leaves_old_uris_or_new_ones_and_the_next_writer_finishes(
    home: Path, storage: Storage, step: str, new: str
) -> None:
    before = rows(storage)
    shutil.move(home / "photos", home / "x")
    shutil.move(home / "x", home / new)
    arguments = [step, str(storage.path), str(home / "photos"), str(home / new)]
    assert subprocess.run([sys.executable, "-c", CRASH, *arguments]).returncode == 9
    old, future = path_to_uri(home / "photos"), path_to_uri(home / new)
    wanted = {uri: moved(uri, old, future) if below(uri, old) is not None else uri for uri in before}
    assert set(rows(storage)) == (set(before) if step == "before the rows" else set(wanted.values()))
    assert read_places(storage.path).pending is not None
    opened = Storage.open(storage.path)
    with opened.writing():
        pass
    assert {row["id"]: uri for uri, row in rows(storage).items()} == {
        row["id"]: wanted[uri] for uri, row in before.items()
    }
    opened.see_latest()
    assert [row["uri"] for row in opened.failures()] == [f"{future}/broken.png"]
    places = read_places(storage.path)
    assert places.pending is None and len(places.moves) == 1 and places.roots[0] == future
    undo(opened, places.moves[0].act)
    assert rows(storage) == before


def test_a_damaged_file_of_places_is_reported_and_collections_without_one_open(home: Path, storage: Storage) -> None:
    (storage.path / "places.json").write_text("{")
    with pytest.raises(CollectionError, match=r"places\.json cannot be read.*Restore it"):
        relocate(storage, home / "photos", home / "moved")
    (storage.path / "places.json").unlink()
    assert read_places(storage.path) == Places()
    assert len(rows(storage)) == 6
    shutil.move(home / "photos", home / "moved")
    assert relocate(storage, home / "photos", home / "moved").rows == 5


@pytest.mark.parametrize(
    ("path", "place"),
    [
        ("D:\\Photos\\2024 a", "file:///D:/Photos/2024%20a"),
        ("D:/Photos/", "file:///D:/Photos"),
        ("d:", "file:///d:"),
        ("E:\\", "file:///E:"),
        ("\\\\server\\share\\x", "file://server/share/x"),
        ("/data/a b", "file:///data/a%20b"),
        ("/data/", "file:///data"),
        ("file:///data/", "file:///data"),
        ("s3://bucket/a/", "s3://bucket/a"),
    ],
)
def test_places_of_paths_and_urls(path: str, place: str) -> None:
    assert place_of(path) == place


@pytest.mark.parametrize(
    ("uri", "old", "new", "result"),
    [
        ("file:///D:/Photos/a/x.jpg", "d:\\photos", "E:\\Bilder", "file:///E:/Bilder/a/x.jpg"),
        ("file://D%3A%5CPhotos%5Ca%5Cx.jpg", "D:\\Photos", "E:\\", "file:///E:/a/x.jpg"),
        ("file:///d:/GR%C3%96SSE/x.jpg", "D:\\größe", "/mnt/g", "file:///mnt/g/x.jpg"),
        ("file://server/Share/x.jpg", "\\\\SERVER\\share", "D:\\", "file:///D:/x.jpg"),
        ("file:///data/%7Eann/x.jpg", "/data/~ann", "/b", "file:///b/x.jpg"),
        ("file:///data/%FF/x.jpg", b"/data/\xff", "/b", "file:///b/x.jpg"),
        ("file:///data/a.tar#one%20two.jpg", "/data/a.tar", "/b.tar", "file:///b.tar#one%20two.jpg"),
        ("file:///data/a.jpg#xywh=percent:0,0,50,50", "/data", "s3://b/c", "s3://b/c/a.jpg#xywh=percent:0,0,50,50"),
        ("s3://b/c/x.jpg", "s3://b/c", "/data", "file:///data/x.jpg"),
        ("file:///data/x.jpg", "/data/x.jpg", "/data/y.jpg", "file:///data/y.jpg"),
        ("file:///data2/x.jpg", "/data", "/b", None),
        ("file:///Data/x.jpg", "/data", "/b", None),  # where case counts
        ("file:///data%2Fx.jpg", "/data", "/b", None),
        ("file:///D:/Photos2/x.jpg", "D:\\Photos", "/b", None),
        ("s3://b/cc/x.jpg", "s3://b/c", "/b", None),
        ("urn:uuid:1", "/data", "/b", None),
        ("file:///data/#x/y", "/data/x", "/b", None),
    ],
)
def test_uris_under_a_place_get_the_new_one(uri: str, old: str | bytes, new: str, result: str | None) -> None:
    place = place_of(os.fsdecode(old))
    if result is None:
        assert below(uri, place) is None
    else:
        assert moved(uri, place, place_of(new)) == result


@given(st.lists(st.binary(min_size=1, max_size=6).filter(lambda b: b"/" not in b and b"\0" not in b), min_size=1))
def test_any_path_of_bytes_moves_and_comes_back(parts: list[bytes]) -> None:
    parts = [part for part in parts if part not in (b".", b"..")] or [b"x"]
    uri = path_to_uri(os.fsdecode(b"/old/" + b"/".join(parts)))
    there = moved(uri, "file:///old", "file:///new%20place")
    assert there == path_to_uri(os.fsdecode(b"/new place/" + b"/".join(parts)))
    assert moved(there, "file:///new%20place", "file:///old") == uri


@pytest.mark.slow
def test_irregular_uris_are_restored_as_they_were(home: Path, storage: Storage) -> None:
    with storage.writing():
        table = storage.to_arrow().select(["id", "uri"]).to_pylist()
        spelled = {row["id"]: row["uri"].replace("/photos/", "/phot%6Fs/") for row in table}
        changed = pa.table({"id": list(spelled), "uri": list(spelled.values())})
        storage.update_uris(changed)
    shutil.move(home / "photos", home / "moved")
    done = relocate(storage, home / "photos", home / "moved", check="all")
    assert sum("/moved/" in uri for uri in rows(storage)) == 5
    undo(storage, done.act)
    assert {row["id"]: uri for uri, row in rows(storage).items()} == spelled


def test_the_places_are_plain_json(home: Path, storage: Storage) -> None:
    shutil.move(home / "photos", home / "moved")
    relocate(storage, home / "photos", home / "moved")
    stored = json.loads((storage.path / "places.json").read_bytes())
    assert set(stored) == {"roots", "moves", "pending"} and stored["moves"][0]["rows"] == 5
    with pytest.raises(BirderError):
        undo(storage, "x")
