"""Runs of the pipeline on Ray, for tests and for the processes that they start."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Any

from birder.collection.model import Encoder, EncoderSpec
from birder.collection.storage import Storage
from birder.pipeline.distributed import embed_on_ray
from birder.pipeline.embed import Summary, embed_images, plan
from birder.sources import Source, find_images

MODEL = EncoderSpec("efficientnet_lite0_in1k", "cpu", precision="fp32")


def run(
    folder: Path, encoder: Encoder, sources: list[Source] | None = None, to: str = "ray.birder", **options: Any
) -> Summary:
    collection = Storage.create_or_open(folder / to, encoder.card)
    retry_failed = options.pop("retry_failed", False)
    todo = plan(collection, sources or find_images([folder / "photos"]), retry_failed=retry_failed)
    options.setdefault("batch_size", 4)
    if to == "ray.birder":
        return embed_on_ray(collection, MODEL, todo, **options)
    return embed_images(collection, encoder.engine, encoder.transform, todo, **options)


def children() -> dict[int, str]:
    """Processes that this one has started, and those that they have: pid -> what Ray calls them."""
    parents, names = {}, {}
    for path in Path("/proc").glob("[0-9]*"):
        try:
            parents[int(path.name)] = int((path / "stat").read_text().rpartition(")")[2].split()[1])
            names[int(path.name)] = (path / "cmdline").read_bytes().split(b"\0")[0].decode()
        except OSError:
            continue

    def is_mine(pid: int) -> bool:
        return pid == os.getpid() or (pid in parents and is_mine(parents[pid]))

    return {pid: name for pid, name in names.items() if is_mine(pid)}


def listening() -> set[str]:
    """Addresses (hexadecimal, as the kernel has them) at which these processes listen."""
    inodes = set()
    for pid in children():
        for descriptor in Path(f"/proc/{pid}/fd").glob("*"):
            with contextlib.suppress(OSError):
                inodes.add(str(descriptor.readlink()).removeprefix("socket:[").removesuffix("]"))
    lines = [line.split() for name in ("tcp", "tcp6") for line in Path("/proc/net", name).read_text().splitlines()[1:]]
    return {line[1].split(":")[0] for line in lines if line[3] == "0A" and line[9] in inodes}
