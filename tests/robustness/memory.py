"""What a process and all that it has started hold in memory."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path


def tree_memory(root: int | None = None) -> int:
    """Bytes of a process (this one by default) and its descendants; pages that they share are counted once."""
    assert Path("/proc/thread-self/children").exists(), "this kernel does not list a process's children"
    tree = [root or os.getpid()]
    for pid in tree:
        tree += _children(pid)
    return sum(_memory(pid) for pid in tree)


def _children(pid: int) -> list[int]:
    found: list[int] = []
    with contextlib.suppress(OSError):  # it has ended
        for thread in Path(f"/proc/{pid}/task").iterdir():
            with contextlib.suppress(OSError):
                found += map(int, (thread / "children").read_text().split())
    return found


def _memory(pid: int) -> int:
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) << 10
    return 0
