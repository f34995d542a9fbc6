"""A power cut takes what was not forced onto the disk; what was reported as done is there after it.

`os.fsync` is recorded: a file that was forced survives as it was then, if its folder was forced after it got its name
there. What the system may have written by itself before the cut, in any order and to any length, is drawn at random.
"""

from __future__ import annotations

import os
import random
import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest

from birder.collection.storage import Storage
from birder.collection.whole import TornCopyWarning
from birder.errors import CollectionError
from tests.factory import CARD, row


class Disk:
    """What has reached the disk below a folder: contents of files, and the names that folders have."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.contents: dict[str, bytes] = {}
        self.names: set[str] = set()

    def fsync(self, handle: int) -> None:
        path = Path(f"/proc/self/fd/{handle}").readlink()
        if not path.is_relative_to(self.root):
            return
        if path.is_dir():
            self.names |= {str(entry.relative_to(self.root)) for entry in path.iterdir()}
        else:
            self.contents[str(path.relative_to(self.root))] = path.read_bytes()

    def after_a_cut(self, to: Path, chance: random.Random | None = None) -> Path:
        """The folder as it is found after a power cut; with `chance`, some of the rest had reached the disk as well."""
        for path in sorted(self.root.rglob("*")):
            name = str(path.relative_to(self.root))
            there = all(str(part) in self.names for part in [Path(name), *Path(name).parents][:-1])
            if path.is_dir() and (there or chance is not None):
                (to / name).mkdir(parents=True, exist_ok=True)
            elif path.is_file() and there and name in self.contents:
                (to / name).write_bytes(self.contents[name])
            elif path.is_file() and chance is not None and chance.random() < 0.5:
                data = path.read_bytes()
                (to / name).write_bytes(data[: chance.choice([0, len(data) // 2, len(data)])])
        return to


@pytest.fixture
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Disk:
    recorded = Disk(tmp_path / "disk")
    recorded.root.mkdir()
    monkeypatch.setattr(os, "fsync", recorded.fsync)
    return recorded


def uris(path: Path) -> set[str]:
    return set(Storage.open(path).to_arrow()["uri"].to_pylist())


def test_committed_rows_survive_a_power_cut(disk: Disk, tmp_path: Path) -> None:
    collection = Storage.create_or_open(disk.root / "c.birder", CARD)
    assert uris(disk.after_a_cut(tmp_path / "empty") / "c.birder") == set()
    for i in range(3):
        with collection.writing():
            collection.write([row(f"{i}", list(np.eye(4)[i]), f"{i:02x}")])
        assert uris(disk.after_a_cut(tmp_path / f"cut-{i}") / "c.birder") == {f"file:///{n}" for n in range(i + 1)}
    with collection.writing():
        collection.write([row("1", [2, 2, 2, 2], "ff", known=True)])
        collection.compact()
    rows = Storage.open(disk.after_a_cut(tmp_path / "replaced") / "c.birder").to_arrow().to_pylist()
    assert {r["uri"][-1]: r["embedding"][0] for r in rows} == {"0": 1, "1": 2, "2": 0}


def test_without_flushing_the_same_cut_loses_it(disk: Disk, tmp_path: Path) -> None:
    """The record above can tell: LanceDB alone forces nothing onto the disk."""
    collection = Storage.create_or_open(disk.root / "c.birder", CARD)
    collection.write([row("0", [1, 0, 0, 0])])  # not within `writing`
    assert uris(disk.after_a_cut(tmp_path / "cut") / "c.birder") == set()


@pytest.mark.parametrize("seed", range(20))
def test_a_power_cut_within_a_commit_keeps_what_was_reported_before(disk: Disk, tmp_path: Path, seed: int) -> None:
    collection = Storage.create_or_open(disk.root / "c.birder", CARD)
    with collection.writing():
        collection.write([row("a", [1, 0, 0, 0], "aa"), row("b", [0, 1, 0, 0], "bb")])
    collection.write([row("c", [0, 0, 1, 0], "cc")])  # committed, and the power fails before it is forced
    collection.write([row("a", [0, 0, 0, 1], "dd", known=True)])
    cut = disk.after_a_cut(tmp_path / "cut", random.Random(seed)) / "c.birder"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TornCopyWarning)
        found = uris(cut)
    assert {"file:///a", "file:///b"} <= found <= {"file:///a", "file:///b", "file:///c"}
    again = Storage.open(cut)  # and it goes on from there
    with again.writing():
        again.write([row("d", [1, 1, 1, 1], "ee")])
    assert "file:///d" in uris(cut)


def test_a_disk_that_refuses_a_flush_is_reported(disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    collection = Storage.create_or_open(disk.root / "c.birder", CARD)

    def refuse(handle: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(CollectionError, match="Input/output error"), collection.writing():
        collection.write([row("a", [1, 0, 0, 0])])
    shutil.rmtree(collection.path)
