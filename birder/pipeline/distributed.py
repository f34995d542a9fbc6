"""The same pipeline on many machines: Ray Data reads, embeds and writes Lance fragments; this process commits them.

    todo -> chunks -> read (tasks) -> encode (one actor a node or GPU) -> write (tasks) -> commit (here)

Photographs and new vectors never pass through this process: a writing task turns a group of rows into a fragment, a
file in the collection's folder that belongs to nothing until it is committed. So a worker that dies leaves at most a
file without an owner, and Ray does its part again. What an append cannot say goes through `Storage.write` here: rows
that replace others, rows that take an embedding the collection has, failures.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import pickle
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from birder.collection.flush import flush
from birder.collection.model import EncoderSpec
from birder.collection.schema import ModelCard, check_model
from birder.collection.storage import Content, Failure, Row, Storage
from birder.extras import need
from birder.images.transform import ClassificationTransform
from birder.inference.engine import is_usable
from birder.pipeline.cluster import explain, lay_out, running_ray
from birder.pipeline.decode import Decoded, Pending, read_group
from birder.pipeline.embed import LONG, NOT_USABLE, Plan, Summary, begin, columns_of, embed_pixels
from birder.sources import drop_off_earth

_WAVE = 1_000_000
"""Photographs given to Ray at once; their names, some 130 bytes each, and columns lie in its object store."""
_FRAGMENT_ROWS = 4096


def embed_on_ray(
    collection: Storage,
    encoder: EncoderSpec,
    todo: Plan,
    *,
    address: str | None = None,
    batch_size: int = 32,
    commit_seconds: float = 60.0,
    on_progress: Callable[[Summary], None] | None = None,
    stop: threading.Event | None = None,
) -> Summary:
    """Embed the files of a plan into a collection, on a Ray cluster; the same rows as `embed_images` gives.

    The collection's folder and the photographs must have the same paths on all nodes. Contents that the collection has
    are not embedded again; of contents that are twice in the plan, those are embedded once that come in one chunk of
    `batch_size` (finding the others would take a shuffle of all). Each file has its own row in any case.

    Parameters
    ----------
    todo
        From `plan`, on this collection.
    address
        Of a running cluster ("auto": the one that this machine belongs to). Without it, Ray is started on this machine
        alone, listening to nobody else, and ended again; a Ray that this process has already is used as it is.
    batch_size
        Photographs that are read and embedded at once.
    commit_seconds
        What has been written is committed that often, and at the end.
    on_progress
        Called whenever a fragment has come back, with what was done so far.
    stop
        Once set, what has come back is committed, and the run ends.

    Raises
    ------
    ConfigError
        The extra `cluster` is not installed, or there is no Ray at the address.
    CollectionError
        Another process is adding images, or columns do not fit.
    BirderError
        What a worker says that stops the run, such as a model that its node does not have.
    """
    from birder.collection.index import (
        ensure_index,  # LanceDB comes with it: see `birder.collection.disk.connect`
    )

    need("cluster", "birder embed --ray")
    summary = Summary()
    begun = time.perf_counter()
    stop = stop or threading.Event()
    types = todo.column_types()
    with collection.running():
        summary.updated = begin(collection, todo, types)
        pending = iter(todo.pending)
        with running_ray(address), contextlib.closing(_Committer(collection, summary, commit_seconds)) as committer:
            known = _share(np.array(sorted(todo.contents), dtype="S32"))
            while not stop.is_set() and (wave := list(itertools.islice(pending, _WAVE))):
                left = {item.uri: item for item in wave}
                stream = _run(wave, collection, encoder, types, known, batch_size, len(todo.pending))
                with contextlib.closing(stream):
                    for written in stream:
                        committer.take(written, left)
                        if on_progress is not None:
                            on_progress(summary)
                        if stop.is_set():
                            break
        with collection.writing(patience=LONG):
            if committer.fragments > 20:
                collection.compact()
            ensure_index(collection)
    summary.stopped = summary.finished < len(todo.pending)
    summary.seconds = time.perf_counter() - begun
    if on_progress is not None:
        on_progress(summary)
    return summary


class _Outcome(NamedTuple):
    """What became of a photograph so far: pixels, then its content, or the reason why there is none.

    Neither of them: a photograph with the same sha256 has it, in the same chunk or in the collection.
    """

    item: Pending
    sha256: str | None
    columns: dict[str, Any] = {}  # noqa: RUF012 - never changed
    reason: str | None = None
    pixels: npt.NDArray[np.uint8] | None = None
    about: tuple[Any, ...] = ()
    content: Content | None = None
    off_earth: bool = False


@dataclass(slots=True)
class _Written:
    """What a writing task sends here: names of fragments with the uris in them, and what is to be written here."""

    fragments: list[str] = field(default_factory=list)
    uris: list[str] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    reused: int = 0
    off_earth: int = 0


def _run(
    wave: Sequence[Pending],
    collection: Storage,
    encoder: EncoderSpec,
    types: dict[str, pa.DataType],
    known: Any,
    batch_size: int,
    total: int,
) -> Generator[_Written]:
    """Let Ray Data stream a wave through its tasks and actors; what the writing tasks send, as it comes."""
    import ray
    from ray.data import ActorPoolStrategy, DataContext

    chunks = list(_chunks(wave, batch_size))
    # Few and large fragments, yet some fifty of them: each is a step of the progress.
    rows = max(batch_size, min(_FRAGMENT_ROWS, total // 50))
    layout = lay_out(ray.nodes(), encoder.device)  # type: ignore[no-untyped-call]
    path = str(collection.path.resolve())
    card = collection.model.transform
    transform = ClassificationTransform.from_card(card)
    reader = _Reader(transform, card["draft"], types, known)
    context = DataContext.get_current().copy()
    context.enable_progress_bars = False
    context.target_max_block_size = 1  # a block is a chunk: it goes on as soon as it is read
    with DataContext.current(context):
        data = (
            ray.data.from_items([{"chunk": chunk} for chunk in chunks], override_num_blocks=min(len(chunks), 4000))
            .map(reader, num_cpus=0.5)
            .map(
                _EncodeActor,  # type: ignore[arg-type] # Ray makes an instance of it in each actor
                fn_constructor_kwargs={
                    "spec": encoder,
                    "path": collection.path,
                    "card": collection.model,
                    "batch_size": batch_size,
                },
                compute=ActorPoolStrategy(size=layout.actors),
                num_cpus=layout.cpus,
                num_gpus=layout.gpus,
            )
            .map_batches(_Writer(path), batch_size=max(1, rows // batch_size), num_cpus=0)
        )
        try:
            for row in data.iter_rows():
                yield _unpack(row["chunk"])
        except Exception as error:  # Ray's, or whatever a worker raised
            raise explain(error) from error


def _chunks(items: Iterable[Pending], size: int) -> Iterator[bytes]:
    """Runs of about `size` photographs, packed; the boxes of one photograph stay together."""
    chunk: list[Pending] = []
    for item in items:
        if len(chunk) >= size and (item.source.box is None or item.source.path != chunk[-1].source.path):
            yield _pack(chunk)
            chunk = []
        # A row of a table would take the whole table along.
        chunk.append(replace(item, source=replace(item.source, columns=dict(item.source.columns))))
    if chunk:
        yield _pack(chunk)


class _Reader:
    """Reads and decodes a chunk, in a task of its own."""

    def __init__(
        self, transform: ClassificationTransform, draft: bool, types: dict[str, pa.DataType], known: Any
    ) -> None:
        self._transform = transform
        self._draft = draft
        self._types = types
        self._known = known

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        import ray

        known: npt.NDArray[np.bytes_] = ray.get(self._known)  # in memory that all readers of a node share
        claimed: set[str] = set()

        def claim(sha256: str) -> bool:
            digest = np.array(bytes.fromhex(sha256), dtype="S32")
            place = int(np.searchsorted(known, digest))
            if sha256 in claimed or (place < len(known) and known[place] == digest):
                return False
            claimed.add(sha256)
            return True

        items: list[Pending] = _unpack(row["chunk"])
        outcomes = []
        for _, group in itertools.groupby(
            items, lambda item: item.uri if item.source.box is None else item.source.path
        ):
            for read in read_group(list(group), self._transform, self._draft, claim):
                item = read.item
                if isinstance(read, Decoded):
                    columns = columns_of(read, self._types)
                    off = drop_off_earth(columns)
                    about = tuple(read[4:])
                    outcomes.append(_Outcome(item, read.sha256, columns, None, read.pixels, about, off_earth=off))
                else:
                    outcomes.append(_Outcome(item, read.sha256, reason=read.reason))
        return {"chunk": _pack(outcomes)}


class _EncodeActor:
    """An engine, in a process that has it for the whole run."""

    def __init__(self, spec: EncoderSpec, path: Path, card: ModelCard, batch_size: int) -> None:
        encoder = spec.load(card.transform["draft"])
        check_model(path, card, encoder.card)
        if encoder.engine.name == "torch":
            import torch

            torch.set_num_threads(os.cpu_count() or 1)  # Ray allows it as many as the actor asked for
        self._engine = encoder.engine
        self._batch_size = batch_size

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        outcomes: list[_Outcome] = _unpack(row["chunk"])
        fresh = [i for i, outcome in enumerate(outcomes) if outcome.pixels is not None]
        for start in range(0, len(fresh), self._batch_size):
            batch = fresh[start : start + self._batch_size]
            vectors = embed_pixels(self._engine, [outcomes[i].pixels for i in batch])  # type: ignore[misc]
            for i, (vector, patches) in zip(batch, vectors, strict=True):
                outcome = outcomes[i]._replace(pixels=None)
                if is_usable(vector):
                    outcomes[i] = outcome._replace(content=Content(vector, *outcome.about)._replace(patches=patches))
                else:
                    outcomes[i] = outcome._replace(reason=NOT_USABLE)
        return {"chunk": _pack(outcomes)}


class _Writer:
    """Writes the new rows of several chunks as one fragment, and sends on what only the driver can write."""

    def __init__(self, path: str) -> None:
        self._path = path

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        written = _Written()
        outcomes: list[_Outcome] = [outcome for chunk in batch["chunk"] for outcome in _unpack(chunk)]
        contents = {o.sha256: o.content for o in outcomes if o.content is not None}
        broken = {o.sha256: o.reason for o in outcomes if o.reason is not None and o.sha256 is not None}
        rows: list[Row] = []
        for outcome in outcomes:
            item, sha256 = outcome.item, outcome.sha256
            reason = outcome.reason or broken.get(sha256 or "")
            if reason is not None or sha256 is None:
                # A row is given up only for bytes that were read: a share that is away for a minute costs none.
                known = item.known and sha256 is not None
                written.failures.append(Failure(item.uri, reason or "", item.stamp, known=known))
                continue
            assert item.stamp is not None
            content = contents.get(sha256)
            row = Row(item.uri, sha256, item.stamp, content, outcome.columns, item.known, item.failed)
            written.reused += outcome.content is None
            written.off_earth += outcome.off_earth
            # An append can do no more than add.
            (written.rows if content is None or row.known or row.failed else rows).append(row)
        if rows:
            written.fragments = self._write(rows)
            written.uris = [row.uri for row in rows]
        return {"chunk": [_pack(written)]}

    def _write(self, rows: list[Row]) -> list[str]:
        from lance.fragment import write_fragments

        collection = Storage.open(self._path, labels=False)
        table = collection.table_of(rows, {row.sha256: row.content for row in rows if row.content is not None})
        fragments = write_fragments(table, _images(collection), schema=table.schema, mode="append")
        # By who wrote it: where the folder is on a server, only this process holds what has not reached it.
        flush(f"{_images(collection)}/data/{file.path}" for fragment in fragments for file in fragment.files)
        return [json.dumps(fragment.to_json()) for fragment in fragments]


class _Committer:
    """Collects what comes back and commits it now and then, and what is left when it is closed."""

    def __init__(self, collection: Storage, summary: Summary, seconds: float) -> None:
        self.fragments = 0
        self._collection = collection
        self._summary = summary
        self._seconds = seconds
        self._due = time.monotonic() + seconds
        self._waiting: list[str] = []
        self._rows: list[Row] = []
        self._failures: list[Failure] = []

    def take(self, written: _Written, left: dict[str, Pending]) -> None:
        """Take what a writing task sent; its photographs leave `left`."""
        for uri in itertools.chain(written.uris, (row.uri for row in written.rows)):
            del left[uri]  # a KeyError would be a row written twice: Ray promises to give each result once
        for failure in written.failures:
            self._summary.failed.append((left.pop(failure.uri).source.name, failure.reason))
        self._summary.embedded += len(written.uris) + len(written.rows)
        self._summary.reused += written.reused
        self._summary.off_earth += written.off_earth
        self._waiting += written.fragments
        self._rows += written.rows
        self._failures += written.failures
        if time.monotonic() >= self._due:
            self.close()

    def close(self) -> None:
        """Commit what waits."""
        if self._waiting or self._rows or self._failures:
            with self._collection.writing(patience=LONG):
                if self._waiting:
                    self._append()
                for start in range(0, len(self._rows), 512):
                    self._collection.write(self._rows[start : start + 512])
                if self._failures:
                    self._collection.write([], self._failures)
        self._rows, self._failures = [], []
        self._due = time.monotonic() + self._seconds

    def _append(self) -> None:
        import lance

        table = lance.dataset(_images(self._collection))
        fragments = [lance.FragmentMetadata.from_json(text) for text in self._waiting]
        lance.LanceDataset.commit(table, lance.LanceOperation.Append(fragments), read_version=table.version)
        self._collection.see_latest()
        self.fragments += len(fragments)
        self._waiting = []


def _images(collection: Storage) -> str:
    return str(collection.path.resolve() / "images.lance")


def _pack(value: object) -> bytes:
    return pickle.dumps(value, protocol=5)


def _unpack(data: bytes) -> Any:
    return pickle.loads(data)  # only between the processes of one run, as Ray itself does; never from a file


def _share(value: object) -> Any:
    import ray

    return ray.put(value)
