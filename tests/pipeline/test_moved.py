"""Embedding images whose files moved: recognised by content, and not embedded as new ones unasked."""

from __future__ import annotations

import pickle
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from birder.cli.errors import message_of
from birder.collection.labels import give_label
from birder.collection.storage import Storage
from birder.errors import ImagesMovedError, MovedFolder
from birder.formats.sources import find_sources
from birder.pipeline.embed import plan
from birder.pipeline.moved import Moved, find_moved, refuse_moved
from birder.sources import path_to_uri
from tests.cli.running import shared_session
from tests.pipeline.relocating import draw, embed, rows


@pytest.fixture
def home(tmp_path: Path) -> Path:
    draw(tmp_path / "old", "2024/a/owl.png", "2024/a/fox.png", "2024/b/Größe 1.png", "2023/hare.png")
    return tmp_path


def moved(storage: Storage, *paths: Path) -> list[Moved]:
    return find_moved(storage, plan(storage, find_sources([str(path) for path in paths])))


def test_a_moved_folder_is_recognised_with_its_old_and_new_place(home: Path) -> None:
    storage = embed(home, home / "old")
    shutil.move(home / "old" / "2024", home / "disk" / "pictures" / "2024")
    expected = Moved(path_to_uri(home / "old/2024"), path_to_uri(home / "disk/pictures/2024"), 3)
    assert moved(storage, home / "disk") == [expected]
    assert moved(storage, home / "disk", home / "old") == [expected]
    with pytest.raises(ImagesMovedError, match="3 images of (.|\n)* embed again") as error:
        refuse_moved(storage, plan(storage, find_sources([str(home / "disk")])))
    old, new = str(home / "old/2024"), str(home / "disk/pictures/2024")
    assert (error.value.collection, error.value.folders) == (storage.path, (MovedFolder(old, new, 3),))
    assert f"\n  collection.relocate({old!r}, {new!r})\n" in str(error.value)
    assert "as_new=True" in str(error.value) and "--" not in str(error.value)
    command = shlex.join(["birder", "relocate", str(storage.path), "--from", old, "--to", new])
    told = message_of(error.value)
    assert f"\n  {command}\n" in told and "--as-new" in told and "as_new" not in told


def test_the_error_for_moved_images_survives_pickling(home: Path) -> None:
    error = ImagesMovedError(home, [MovedFolder("/old", "/new", 3)])
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), again.folders) == (str(error), error.folders)


def test_a_renamed_folder_and_two_folders_that_parted_are_recognised(home: Path) -> None:
    storage = embed(home, home / "old")
    shutil.move(home / "old" / "2024" / "a", home / "x" / "anna's")
    shutil.move(home / "old" / "2024" / "b", home / "y" / "b")
    assert moved(storage, home / "x", home / "y") == [
        Moved(path_to_uri(home / "old/2024/a"), path_to_uri(home / "x/anna's"), 2),
        Moved(path_to_uri(home / "old/2024/b"), path_to_uri(home / "y/b"), 1),
    ]


def test_copies_and_other_files_of_the_same_name_and_size_are_not_moved(home: Path) -> None:
    storage = embed(home, home / "old")
    shutil.copytree(home / "old", home / "copy")
    assert moved(storage, home / "copy") == []
    shutil.rmtree(home / "old")
    for file in (home / "copy").rglob("*.png"):
        file.write_bytes(b"x" * file.stat().st_size)
    assert moved(storage, home / "copy") == []
    assert moved(embed(home, home / "copy"), home / "copy") == []


def test_a_moved_shard_is_recognised(tmp_path: Path) -> None:
    import tarfile

    draw(tmp_path / "in", "one.png", "two.png")
    (tmp_path / "old").mkdir()
    with tarfile.open(tmp_path / "old" / "a.tar", "w") as tar:
        tar.add(tmp_path / "in" / "one.png", "one.png")
        tar.add(tmp_path / "in" / "two.png", "two.png")
    storage = embed(tmp_path, tmp_path / "old" / "a.tar")
    shutil.move(tmp_path / "old", tmp_path / "new")
    assert moved(storage, tmp_path / "new" / "a.tar") == [
        Moved(path_to_uri(tmp_path / "old"), path_to_uri(tmp_path / "new"), 1)
    ]


def birder(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return shared_session().run(*arguments, code=None)


@pytest.mark.slow
def test_the_command_line_stops_before_it_embeds_and_names_the_command(home: Path) -> None:
    to = home / "c.birder"
    assert birder("embed", home / "old", "--in", to).returncode == 0
    storage = Storage.open(to)
    owl = rows(storage)[path_to_uri(home / "old/2024/a/owl.png")]["id"]
    give_label(storage, [owl], "label", "Tawny owl")
    shutil.move(home / "old", home / "new")
    before = rows(storage)
    run = birder("embed", home / "new", "--in", to)
    assert run.returncode == 2 and "Traceback" not in run.stderr
    assert f"birder relocate {to} --from {home / 'old'} --to {home / 'new'}" in run.stderr
    assert rows(storage) == before
    assert birder("embed", home / "new", "--in", to, "--as-new").returncode == 0
    assert len(rows(storage)) == 2 * len(before)
