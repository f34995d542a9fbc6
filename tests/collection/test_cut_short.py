"""A process that dies while it makes a table leaves a folder that the next one makes whole, at each of its steps."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from birder.analysis.projection import compute_map, read_map
from birder.collection.storage import Storage, exists
from tests.factory import CARD, row

MAKE_COLLECTION = """
import sys
from pathlib import Path
from birder.collection.creation import create_tables
from birder.collection.schema import ModelCard
card = ModelCard("tiny", "tiny", "ab" * 32, {"size": [8, 8], "draft": True}, "torch", "fp32", 4)
create_tables(Path(sys.argv[1]), card)
"""
MAKE_MAP = """
import sys
from pathlib import Path
import pyarrow as pa
from birder.analysis import projection
from birder.collection.storage import Storage
columns = {"id": ["0"], "x": pa.array([0.0], pa.float32()), "y": pa.array([0.0], pa.float32()), "sha256": ["0"]}
schema = projection._SCHEMA.with_metadata({b"birder": b"{}"})
Storage.open(sys.argv[1]).write_side_table("map", pa.table(columns, schema=schema))
"""
STEPS = "mkdir,openat,write,pwrite64,rename,renameat2,linkat,unlink"
CHOSEN = 4


def filled(path: Path) -> Storage:
    collection = Storage.create_or_open(path, CARD)
    vectors = np.random.default_rng(0).normal(size=(6, 4))
    with collection.writing():
        collection.write([row(f"{i}", v.tolist(), f"{i:064x}") for i, v in enumerate(vectors)])
    return collection


def check(path: Path) -> None:
    """What a user does next works: a collection with rows, and a map."""
    collection = Storage.create_or_open(path, CARD)
    if collection.count() == 0:
        collection = filled(path)
    assert collection.count() == 6 and exists(path)
    assert collection.failures() == []
    read_map(collection)
    assert len(compute_map(collection).ids) == 6


def steps(table: Path, to: Path) -> Iterator[None]:
    """Make a copy of a table file by file in LanceDB's order, and stop after each of its system calls."""
    (log,) = (table / "_transactions").iterdir()
    (manifest,) = (table / "_versions").glob("*.manifest")
    for folder in ("_transactions", *(name for name in ("data",) if (table / name).is_dir())):
        (to / folder).mkdir(parents=True)
        yield
    for file in (*(table / "data").glob("*"), log):
        draft = to / file.parent.name / ".tmpAbC123"
        for length in (0, file.stat().st_size // 2, file.stat().st_size):
            draft.write_bytes(file.read_bytes()[:length])
            yield
        draft.rename(to / file.relative_to(table))
        yield
    (to / "_versions").mkdir()
    yield
    draft = to / "_versions" / f"{manifest.name}#1"
    for length in (0, manifest.stat().st_size // 2, manifest.stat().st_size):
        draft.write_bytes(manifest.read_bytes()[:length])
        yield
    (to / "_versions" / manifest.name).hardlink_to(draft)
    yield
    draft.unlink()
    yield


@pytest.mark.slow
@pytest.mark.parametrize("name", ["images", "failures", "map"])
def test_an_incomplete_table_is_recreated(tmp_path: Path, name: str) -> None:
    whole = filled(tmp_path / "whole.birder") if name == "map" else Storage.create_or_open(tmp_path / "whole", CARD)
    if name == "map":
        compute_map(whole)
    made = tmp_path / "made"
    for number, _ in enumerate(steps(whole.path / f"{name}.lance", made)):
        path = tmp_path / f"{number}.birder"
        others = shutil.ignore_patterns(f"{name}.lance", *(["images.lance"] if name == "failures" else []))
        shutil.copytree(whole.path, path, ignore=others)  # the images are made after the failures
        shutil.copytree(made, path / f"{name}.lance")
        check(path)
    assert number >= 9


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed: no system call can be chosen")
@pytest.mark.parametrize("code", [MAKE_COLLECTION, MAKE_MAP], ids=["collection", "map"])
def test_a_table_whose_creation_was_killed_at_any_system_call_is_recreated(tmp_path: Path, code: str) -> None:
    def child(name: str, *trace: str) -> int:
        path = tmp_path / f"{name}.birder"
        if code == MAKE_MAP:
            filled(path)
        command = ["strace", "-f", "-qq", "-o", str(tmp_path / "log"), *trace, sys.executable, "-c", code, str(path)]
        return subprocess.run(command, capture_output=True, text=True, timeout=120).returncode

    assert child("whole", "-e", f"trace={STEPS}") == 0
    calls = [line.split(maxsplit=1) for line in (tmp_path / "log").read_text("utf-8", "replace").splitlines()]
    table = "map.lance/" if code == MAKE_MAP else ".lance/"
    chosen: list[tuple[str, int]] = []  # a system call's name, and its number among its thread's
    for at, (thread, call) in enumerate(calls):
        name = call.partition("(")[0]
        if table in call and " = -1 " not in call and "O_RDONLY" not in call and name != "write":
            before = [other for of, other in calls[: at + 1] if of == thread and other.startswith(f"{name}(")]
            chosen.append((name, len(before)))
    assert len(chosen) >= CHOSEN
    killed = 0
    for number, (name, when) in enumerate(chosen[:: len(chosen) // CHOSEN]):
        # Which thread makes the call differs from run to run: now and then there is nobody to kill.
        ended = child(str(number), "-e", f"inject={name}:signal=KILL:when={when}")
        assert ended in (-9, 0)
        killed += ended == -9
        check(tmp_path / f"{number}.birder")
    assert killed >= CHOSEN // 2
