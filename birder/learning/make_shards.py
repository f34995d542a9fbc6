"""`birder shards`: a collection as shards to train CLIP on, as TreeOfLife-10M is published.

    shards/train/shard-000000.tar ...   shards/val/shard-000000.tar ...   and in both sizes.json, which open_clip reads
    shards/manifest.json                what was written, from what, and what was left out

The images are in the order of their keys, which are hashes: as good as shuffled. Each shard is written beside its place
and moved there, and `unfinished.json` then says so: a run that was killed goes on behind the last whole shard, and ends
with the bytes that it would have ended with.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from birder.collection.filter import Filter
from birder.collection.storage import Storage
from birder.errors import BirderError, ConfigError, FileExistsError, ImageError, write_error
from birder.files import DRAFT_ENDING, replacing
from birder.formats.shards import MOST_BYTES, ShardWriter, shard_name, to_jpeg
from birder.images.open import decoded_photo
from birder.learning.shard_rows import NO_TAXON, ShardRows, shard_rows
from birder.pipeline.decode import UNREADABLE, cut, why_unreadable
from birder.sources import Box, is_url, read_source
from birder.sources.row_images import RowImages, place_of
from birder.sources.source import box_of
from birder.words import counted

Progress = Callable[[str, float], None]

MANIFEST = "manifest.json"
SIZES = "sizes.json"
_UNFINISHED = "unfinished.json"
_SCHEMA_VERSION = 1
_SPLITS = ("train", "val")
_MOST_THREADS = 8
_AHEAD = 4  # images that each thread has made before they are written


@dataclass(frozen=True)
class ShardsMade:
    """What was written.

    Attributes
    ----------
    folder
        Where.
    manifest
        What manifest.json says.
    """

    folder: Path
    manifest: dict[str, Any]

    @property
    def failed(self) -> list[tuple[str, str]]:
        """The images that could not be read: uri and reason."""
        return [(each["uri"], each["reason"]) for each in self.manifest["failed"]]

    def records(self, split: str) -> int:
        """How many samples "train" or "val" has."""
        return sum(each["records"] for each in self.manifest["shards"] if each["split"] == split)

    def __str__(self) -> str:
        counts = Counter(each["split"] for each in self.manifest["shards"])
        written = " and ".join(
            f"{counted(self.records(split), 'sample')} for {use} in {counted(counts[split], 'shard')}"
            for split, use in zip(_SPLITS, ("training", "validation"), strict=True)
        )
        left_out = "".join(f" Left out: {count:,} with {why}." for why, count in self.manifest["left_out"].items())
        return f"Wrote {written} to {self.folder}.{left_out}"


def make_shards(
    storage: Storage,
    to: Path,
    *,
    column: str = "label",
    taxonomy: Path | None = None,
    where: str | Filter | None = None,
    group_by: Sequence[str] = (),
    size: int = 224,
    records: int = 100_000,
    share: float = 0.05,
    seed: int = 0,
    force: bool = False,
    progress: Progress | None = None,
) -> ShardsMade:
    """Write the images of a collection that have a taxon as shards; one that cannot be read is left out, and listed.

    Images are squashed to `size` x `size` pixels, bicubic, and encoded as JPEG of quality 100, as those published are.
    In memory are the images being decoded, some finished ones, and what `shard_rows` needs.

    Parameters
    ----------
    storage, column, taxonomy, where, group_by, share, seed
        As for `birder.learning.shard_rows.shard_rows`.
    to
        The folder. One with an unfinished run of the same rows and options is finished.
    size
        Width and height in pixels.
    records
        The most samples of a shard; it is also full at 3 GB.
    force
        Replace the shards that are there from other rows or options.
    progress
        Called with what is being written, and the share that is done.

    Raises
    ------
    FileExistsError
        Birder's own: there are shards of other rows or options, and `force` is false; or some that Birder did not
        write.
    ConfigError, UnknownNameError, FilterError
        As for `shard_rows`; or the size or number of records cannot be used.
    ImageError
        No image can be read.
    WriteError
        The folder cannot be written.
    """
    if size < 1 or records < 1:
        raise ConfigError(f"Images of {size} pixels in shards of {records} records cannot be written: at least 1 each.")
    if progress is not None:
        progress("reading the rows", 0.0)
    rows = shard_rows(storage, column, taxonomy=taxonomy, where=where, group_by=group_by, share=share, seed=seed)
    asked = {"size": size, "records": records, "column": column, "share": share, "seed": seed}
    plan = hashlib.sha256(f"{json.dumps(asked)} {_SCHEMA_VERSION} {rows.sha256()}".encode()).hexdigest()
    state = _begin(to, plan, force)
    if state is None:
        return ShardsMade(to, _read(to / MANIFEST))
    for split in _SPLITS:
        of_split = np.flatnonzero(rows.held_out == (split == "val"))
        _write_split(state, rows, of_split, to, split, size, records, progress)
    if not state["shards"]:
        raise ImageError(f"None of the {len(rows.held_out):,} images can be read: {state['failed'][0]['reason']}, ...")
    manifest: dict[str, Any] = {
        "schema_version": _SCHEMA_VERSION,
        "plan": plan,
        "asked": asked,
        "how": list(rows.how),
        "shards": sorted(state["shards"], key=lambda each: each["file"]),  # "train" comes before "val"
        "left_out": {NO_TAXON: rows.without} if rows.without else {},
        "failed": sorted(state["failed"], key=lambda each: each["shard"]),
    }
    for split in _SPLITS:
        sizes = {Path(each["file"]).name: each["records"] for each in manifest["shards"] if each["split"] == split}
        _write_json(to / split / SIZES, sizes)
    _write_json(to / MANIFEST, manifest)
    (to / _UNFINISHED).unlink(missing_ok=True)
    return ShardsMade(to, manifest)


def _begin(to: Path, plan: str, force: bool) -> dict[str, Any] | None:
    """The state to go on from, which is on the disk too; None if all is there."""
    done, unfinished = _read(to / MANIFEST), _read(to / _UNFINISHED)
    if not unfinished and done.get("plan") == plan and _there(to, done["shards"]) == done["shards"]:
        return None
    ours = unfinished or done
    if not ours and (foreign := [file for split in _SPLITS for file in sorted((to / split).glob("*.tar"))]):
        raise FileExistsError(f"{foreign[0]} exists, and no {MANIFEST} tells of it: name another folder.")
    if ours and ours.get("plan") != plan:
        if not force:
            raise FileExistsError(
                f"{to} has shards of other images, labels or options: name another folder, or use --force to replace "
                "them."
            )
        ours = {}
    state: dict[str, Any] = {
        "plan": plan,
        "shards": _there(to, ours.get("shards", [])),
        "failed": ours.get("failed", []),
    }
    kept = {each["file"] for each in state["shards"]}
    # What a shard that is gone had noted is found again.
    state["failed"] = [each for each in state["failed"] if each["shard"] in kept]
    _write_json(to / _UNFINISHED, state)
    try:
        (to / MANIFEST).unlink(missing_ok=True)
        for split in _SPLITS:
            (to / split).mkdir(exist_ok=True)
            for file in (to / split).glob("shard-*.tar*"):
                if f"{split}/{file.name}" not in kept and file.name.endswith((".tar", DRAFT_ENDING)):
                    file.unlink()
    except OSError as error:
        raise write_error(to, error) from error
    return state


def _there(to: Path, shards: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The shards of each split up to the first that is gone or has another size."""
    found = []
    for split in _SPLITS:
        for each in (shard for shard in shards if shard["split"] == split):
            file = to / each["file"]
            if not file.is_file() or file.stat().st_size != each["bytes"]:
                break
            found.append(each)
    return found


def _write_split(
    state: dict[str, Any],
    rows: ShardRows,
    of_split: npt.NDArray[np.int64],
    to: Path,
    split: str,
    size: int,
    records: int,
    progress: Progress | None,
) -> None:
    """Write the shards of a split that are missing, and note each in the state."""
    finished = [each for each in state["shards"] if each["split"] == split]
    start, number = sum(each["rows"] for each in finished), len(finished)
    before = 0 if split == "train" else int((~rows.held_out).sum())
    with contextlib.closing(_images(rows, of_split[start:], size)) as images:
        coming = _Coming(rows, images)
        while True:
            name = f"{split}/{shard_name(number)}"
            coming.begin(name)
            if coming.image is None:
                break
            with replacing(to / name, durable=True) as draft, draft.open("wb") as file:
                shard = ShardWriter(file)
                while coming.image is not None and shard.records < records and shard.size < MOST_BYTES:
                    shard.add(rows.key(coming.row), coming.image, rows.texts(coming.row))
                    coming.advance()
                    if progress is not None:
                        progress(f"writing {name}", (before + start + coming.used) / len(rows.held_out))
                length, sha256 = shard.close()
            written = {"records": shard.records, "rows": coming.used, "bytes": length, "sha256": sha256}
            state["shards"].append({"split": split, "file": name, **written})
            state["failed"] += coming.failed
            _write_json(to / _UNFINISHED, state)
            start, number = start + coming.used, number + 1
        state["failed"] += coming.failed


class _Coming:
    """The image that is written next; those before it that could not be read are noted.

    Attributes
    ----------
    row, image
        Which row it is of, and its JPEG; None at the end.
    used
        How many rows the shard has used, with those of its failures.
    failed
        The failures among them, as the manifest lists them.
    """

    def __init__(self, rows: ShardRows, images: Iterator[tuple[int, bytes | str]]) -> None:
        self._rows, self._images = rows, images
        self._shard = ""
        self.row = -1
        self.image: bytes | None = None
        self.used = 0
        self.failed: list[dict[str, str]] = []

    def begin(self, shard: str) -> None:
        """Go on with the next shard."""
        self._shard, self.used, self.failed = shard, 0, []
        if self.image is None:
            self._find()

    def advance(self) -> None:
        """Go on with the next image, behind the failures, which belong to this shard."""
        self.used += 1
        self._find()

    def _find(self) -> None:
        self.image = None
        for row, found in self._images:
            if isinstance(found, bytes):
                self.row, self.image = row, found
                return
            self.failed.append({"uri": self._rows.uri(row), "reason": found, "shard": self._shard})
            self.used += 1


def _images(
    rows: ShardRows, wanted: npt.NDArray[np.int64], size: int
) -> Generator[tuple[int, bytes | str], None, None]:
    """The JPEG of each row, or why there is none, in order; decoded in threads, a few images ahead."""
    opened = RowImages()
    threads = max(1, min(_MOST_THREADS, os.cpu_count() or 1))
    waiting: deque[tuple[int, Future[bytes | str]]] = deque()
    pool = ThreadPoolExecutor(threads, thread_name_prefix="birder-shards")
    try:
        for row in wanted.tolist():
            waiting.append((row, pool.submit(_image, rows.uri(row), size, opened)))
            if len(waiting) >= _AHEAD * threads:
                first, future = waiting.popleft()
                yield first, future.result()
        while waiting:
            first, future = waiting.popleft()
            yield first, future.result()
    finally:
        pool.shutdown(cancel_futures=True)


def _image(uri: str, size: int, opened: RowImages) -> bytes | str:
    """An image, or the box of one, squashed and encoded; or the reason why it cannot be read."""
    try:
        place = place_of(uri)
        if place is not None:
            data = opened.read(place)
        elif is_url(uri):
            data = read_source(uri.partition("#")[0], images=True)
        else:
            return "its name is neither that of a file here nor a URL"
        with decoded_photo(data) as photo:
            image = cut(photo, box_of(uri.partition("#")[2]) or Box(0, 0, 1, 1))[0]
            return to_jpeg(np.asarray(image.resize((size, size), Image.Resampling.BICUBIC)))
    except UNREADABLE as error:
        return why_unreadable(error)


def _read(file: Path) -> dict[str, Any]:
    """What a JSON file of ours says; empty if there is none."""
    try:
        found = json.loads(file.read_bytes())
        if not isinstance(found, dict) or not isinstance(found["plan"], str):
            raise ValueError("it lacks a plan")
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError) as error:
        raise BirderError(f"Cannot read {file}: {error}. Remove the folder, or name another one.") from error
    return found


def _write_json(file: Path, what: dict[str, Any]) -> None:
    with replacing(file, durable=True) as draft:
        draft.write_text(json.dumps(what, indent=1) + "\n", "utf-8")
