"""What a process and all that it has started hold in memory."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path


def tree_memory(root: int | None = None) -> int:
    """Bytes of a process (this one by default) and its descendants; pages that they share are counted once."""
    parents: dict[int, int] = {}
    for folder in Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError, IndexError):
            parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
    tree = {root or os.getpid()}
    while more := {pid for pid, parent in parents.items() if parent in tree} - tree:
        tree |= more
    return sum(_memory(pid) for pid in tree)


def _memory(pid: int) -> int:
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) << 10
    return 0
