"""Files and folders that appear whole or not at all."""

from __future__ import annotations

import builtins
import errno
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from birder.errors import BirderError, ConfigError, FileExistsError, WriteError
from birder.files import DRAFT_ENDING, replacing, replacing_folder

ROOT = hasattr(os, "geteuid") and os.geteuid() == 0


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def test_a_file_appears_at_the_end_of_the_block_and_its_folders_with_it(tmp_path: Path) -> None:
    file = tmp_path / "new" / "deeper" / "a.txt"
    with replacing(file) as draft:
        draft.write_text("whole")
        assert names(file.parent) == [draft.name]
        assert draft.name.endswith(DRAFT_ENDING)
    assert names(file.parent) == ["a.txt"]
    assert file.read_text() == "whole"


@pytest.mark.parametrize("durable", [False, True])
def test_an_error_in_the_block_leaves_the_file_as_it_was(tmp_path: Path, durable: bool) -> None:
    file = tmp_path / "a.txt"
    file.write_text("before")
    with pytest.raises(ZeroDivisionError), replacing(file, durable=durable) as draft:
        draft.write_text("half")
        _ = 1 / 0
    assert file.read_text() == "before"
    assert names(tmp_path) == ["a.txt"]


def test_a_process_killed_in_the_block_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_text("before")
    script = f"""
import os
from birder.files import replacing
with replacing({str(file)!r}) as draft:
    draft.write_text("half")
    os._exit(9)
"""
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 9
    assert file.read_text() == "before"


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no permission bits")
def test_a_replaced_file_passes_its_permissions_on_and_a_new_one_has_the_usual(tmp_path: Path) -> None:
    private, new = tmp_path / "private", tmp_path / "new"
    private.write_text("before")
    private.chmod(0o600)
    (tmp_path / "plain").write_text("")
    for file in (private, new):
        with replacing(file, durable=True) as draft:
            draft.write_text("after")
    assert stat.S_IMODE(private.stat().st_mode) == 0o600
    assert new.stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_without_force_an_existing_file_is_refused_before_the_block(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_text("mine")
    with pytest.raises(FileExistsError, match="already exists") as caught, replacing(file, force=False):
        pytest.fail("the block ran")
    assert isinstance(caught.value, builtins.FileExistsError | BirderError)
    assert file.read_text() == "mine"


@pytest.mark.parametrize("links", [True, False])
def test_without_force_a_file_created_meanwhile_is_not_replaced(
    tmp_path: Path, links: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not links:  # as on exFAT

        def no_link(*_: object) -> None:
            raise OSError(errno.EPERM, "Operation not permitted")

        monkeypatch.setattr(os, "link", no_link)
    file = tmp_path / "a.txt"
    with pytest.raises(FileExistsError), replacing(file, force=False) as draft:
        draft.write_text("mine")
        file.write_text("theirs")
    assert file.read_text() == "theirs"
    assert names(tmp_path) == ["a.txt"]
    with replacing(tmp_path / "b.txt", force=False) as draft:
        draft.write_text("free")
    assert (tmp_path / "b.txt").read_text() == "free"
    assert names(tmp_path) == ["a.txt", "b.txt"]


def test_what_cannot_be_a_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is a folder: name a file"), replacing(tmp_path):
        pytest.fail("the block ran")
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe")
        with pytest.raises(ConfigError, match="not a regular file"), replacing(tmp_path / "pipe"):
            pytest.fail("the block ran")
        assert names(tmp_path) == ["pipe"]


def test_a_place_that_cannot_be_written_is_a_write_error_that_names_the_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    said = r"Cannot write .*a\.txt: Not a directory\. Free some space"
    with pytest.raises(WriteError, match=said) as caught, replacing(tmp_path / "file" / "a.txt") as draft:
        draft.write_text("")
    assert caught.value.errno == errno.ENOTDIR
    assert DRAFT_ENDING not in str(caught.value)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_a_write_error(tmp_path: Path) -> None:
    with pytest.raises(WriteError, match="No space left"), replacing(tmp_path / "a.txt") as draft:
        draft.symlink_to("/dev/full")
        draft.write_text("much")
    assert names(tmp_path) == []


def test_an_error_about_another_file_is_passed_on_as_it_is(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="source"), replacing(tmp_path / "a.txt") as draft:
        draft.write_bytes((tmp_path / "source").read_bytes())
    assert names(tmp_path) == []


def test_a_name_of_the_greatest_length_can_be_written(tmp_path: Path) -> None:
    file = tmp_path / ("ü" * 125 + ".txt")  # 254 bytes
    with replacing(file) as draft:
        draft.write_text("x")
    assert names(tmp_path) == [file.name]


def test_a_folder_appears_whole(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "folder"
    with replacing_folder(folder) as draft:
        (draft / "b").write_text("b")
        (draft / "a").write_text("a")
        assert not folder.exists()
    assert names(folder) == ["a", "b"]
    assert names(folder.parent) == ["folder"]


def test_a_folder_that_exists_keeps_its_other_files(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "mine").write_text("mine")
    (folder / "a").write_text("before")
    with pytest.raises(FileExistsError, match="a already exists"), replacing_folder(folder, force=False) as draft:
        (draft / "a").write_text("after")
        (draft / "b").write_text("after")
    assert names(folder) == ["a", "mine"]
    with replacing_folder(folder) as draft:
        (draft / "a").write_text("after")
        (draft / "b").write_text("after")
    assert [(folder / name).read_text() for name in names(folder)] == ["after", "after", "mine"]
    assert names(tmp_path) == ["folder"]


def test_an_error_in_the_block_leaves_the_folder_as_it_was(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), replacing_folder(tmp_path / "folder") as draft:
        (draft / "a").write_text("")
        _ = 1 / 0
    assert names(tmp_path) == []


def test_a_file_in_the_place_of_a_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ConfigError, match="is a file: name a folder"), replacing_folder(tmp_path / "file"):
        pytest.fail("the block ran")
    with pytest.raises(WriteError, match="Not a directory"), replacing_folder(tmp_path / "file" / "folder"):
        pytest.fail("the block ran")
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.skipif(ROOT or sys.platform == "win32", reason="root may write anywhere")
def test_a_folder_without_permission_is_a_write_error(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(WriteError, match="Permission denied"), replacing(tmp_path / "a") as draft:
            draft.write_text("")
    finally:
        tmp_path.chmod(0o700)


def test_only_the_one_module_writes_drafts() -> None:
    """ "Write beside and move" has one home: nobody else renames a file over another."""
    package = Path(__file__).parent.parent / "birder"
    sources = {file.relative_to(package).as_posix(): file.read_text("utf-8") for file in package.rglob("*.py")}
    assert "draft.replace(path)" in sources.pop("files.py")
    for name, source in sources.items():
        assert '.part"' not in source, name
        assert "os.replace(" not in source and "mkstemp(" not in source, name
