"""The executor for many machines: Ray Data reads, embeds and writes fragments; this process commits them.

    plan -> chunks -> read (tasks) -> embed (one actor a node or GPU) -> write (tasks) -> commit (here)

Images and new embeddings never pass through this process: a writing task turns a group of rows into a fragment, a file
in the collection's folder that belongs to nothing until it is committed. So a worker that dies leaves at most a file
without an owner, and Ray does its part again. What an append cannot express goes through `Storage.write` here: rows
that replace others, rows that take an embedding the collection has, failures.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import pickle
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from birder.collection.fragments import append_fragments, write_fragments
from birder.collection.model import EncoderSpec
from birder.collection.schema import Failure, Former, ModelCard, Row, check_model
from birder.collection.storage import Storage
from birder.extras import need
from birder.images.transform import ClassificationTransform
from birder.pipeline.boxes import Detecting
from birder.pipeline.cluster import explain, lay_out, running_ray
from birder.pipeline.decode import Unreadable, read_group
from birder.pipeline.embed import COMMIT_PATIENCE, running
from birder.pipeline.known import Pending
from birder.pipeline.outcomes import Commit, Embedded, Summary, commit_of, described, embedded
from birder.pipeline.plan import Plan
from birder.sources import is_of_same_image

_WAVE = 1_000_000
"""Sources given to Ray at once; their names, some 130 bytes each, and columns lie in its object store."""
_FRAGMENT_ROWS = 4096
_ROWS_AT_ONCE = 512


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
    """Embed the sources of a plan into a collection, on a Ray cluster; the same rows as `embed_images` gives.

    The collection's folder and the images must have the same paths on all nodes. Contents that the collection has are
    not embedded again; contents that occur several times in the plan are embedded once only within a chunk of
    `batch_size` (finding the others would take a shuffle of all). Each file has its own row in any case.

    Parameters
    ----------
    todo
        From `plan`, on this collection.
    address
        Of a running cluster ("auto": the one that this machine belongs to). Default: Ray is started on this machine
        alone, out of reach of others, and ended again; a Ray that this process already runs is used as it is.
    batch_size
        Images that are read and embedded at once.
    commit_seconds
        How often written rows are committed; the rest is committed at the end.
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
        A worker's error that stops the run, such as a model that its node does not have.
    """
    need("cluster", "birder embed --ray")
    stop = stop or threading.Event()
    types = todo.column_types()
    with running(collection, todo, on_progress) as summary:
        pending = iter(todo.pending)
        with running_ray(address), contextlib.closing(_Committer(collection, summary, commit_seconds)) as committer:
            known = _share(np.array(sorted(todo.contents), dtype="S32"))
            while not stop.is_set() and (wave := list(itertools.islice(pending, _WAVE))):
                seen: set[str] = set()
                stream = _run(wave, collection, encoder, todo.detecting, types, known, batch_size, len(todo.pending))
                with contextlib.closing(stream):
                    for written in stream:
                        committer.take(written, seen)
                        if on_progress is not None:
                            on_progress(summary)
                        if stop.is_set():
                            break
    return summary


@dataclass(slots=True)
class _Written:
    """What a writing task sends: fragments with the uris of their rows, and what is to be committed as it is."""

    fragments: list[str]
    uris: list[str]
    commit: Commit


def _run(
    wave: Sequence[Pending],
    collection: Storage,
    encoder: EncoderSpec,
    detecting: Detecting | None,
    types: dict[str, pa.DataType],
    known: Any,
    batch_size: int,
    total: int,
) -> Generator[_Written]:
    """Let Ray Data stream a wave through its tasks and actors; yield what the writing tasks send, as it comes."""
    import ray
    from ray.data import ActorPoolStrategy, DataContext, TaskPoolStrategy

    chunks = list(_chunks(wave, batch_size))
    # Few and large fragments, yet some fifty of them: each is a step of the progress.
    rows = max(batch_size, min(_FRAGMENT_ROWS, total // 50))
    layout = lay_out(ray.nodes(), encoder.device)  # type: ignore[no-untyped-call]
    path = str(collection.path.resolve())
    card = collection.model.transform
    transform = ClassificationTransform.from_card(card)
    reader = _Reader(transform, card["draft"], types, known, detecting)
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
            .map_batches(
                _Writer(path),
                batch_size=max(1, rows // batch_size),
                compute=TaskPoolStrategy(size=layout.actors),  # or each small fragment starts a process of its own
                num_cpus=0,
            )
        )
        try:
            for row in data.iter_rows():
                yield _unpack(row["chunk"])
        except Exception as error:  # Ray's, or whatever a worker raised
            raise explain(error) from error


def _chunks(items: Iterable[Pending], size: int) -> Iterator[bytes]:
    """Runs of about `size` sources, packed; the boxes of one image stay together."""
    chunk: list[Pending] = []
    for item in items:
        if len(chunk) >= size and not is_of_same_image(item.source, chunk[-1].source):
            yield _pack(chunk)
            chunk = []
        # A row of a table would take the whole table along.
        chunk.append(replace(item, source=replace(item.source, columns=dict(item.source.columns))))
    if chunk:
        yield _pack(chunk)


class _Reader:
    """Reads and decodes a chunk, in a task of its own."""

    def __init__(
        self,
        transform: ClassificationTransform,
        draft: bool,
        types: dict[str, pa.DataType],
        known: Any,
        detecting: Detecting | None,
    ) -> None:
        self._transform = transform
        self._draft = draft
        self._types = types
        self._known = known
        self._detecting = detecting

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
        for _, group in itertools.groupby(items, lambda item: item.source.image):
            for read in read_group(list(group), self._transform, self._draft, claim, self._detecting):
                outcomes.append(described(read, self._types))
        return {"chunk": _pack(outcomes)}


class _EncodeActor:
    """Embeds chunks, in a process that keeps its engine for the whole run."""

    def __init__(self, spec: EncoderSpec, path: Path, card: ModelCard, batch_size: int) -> None:
        encoder = spec.load(card.transform["draft"])
        check_model(path, card, encoder.card)
        if encoder.engine.name == "torch":
            import torch

            torch.set_num_threads(os.cpu_count() or 1)  # Ray allows it as many as the actor asked for
        self._engine = encoder.engine
        self._batch_size = batch_size

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        return {"chunk": _pack(embedded(self._engine, _unpack(row["chunk"]), self._batch_size))}


class _Writer:
    """Writes the new rows of several chunks as one fragment, and passes on what only the driver can write."""

    def __init__(self, path: str) -> None:
        self._path = path

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        outcomes: list[Embedded | Unreadable] = [outcome for chunk in batch["chunk"] for outcome in _unpack(chunk)]
        commit = commit_of(outcomes, {})
        contents = {row.sha256: row.content for row in commit.rows if row.content is not None}
        appended: list[Row] = []
        others: list[Row] = []
        for row in commit.rows:
            row.content = contents.get(row.sha256)
            is_new = row.content is not None and not row.known and not row.failed  # an append can only add
            (appended if is_new else others).append(row)
        commit.rows = others
        fragments = write_fragments(self._path, appended) if appended else []
        return {"chunk": [_pack(_Written(fragments, [row.uri for row in appended], commit))]}


class _Committer:
    """Collects what comes back and commits it at intervals, and the rest when it is closed."""

    def __init__(self, collection: Storage, summary: Summary, seconds: float) -> None:
        self._collection = collection
        self._summary = summary
        self._seconds = seconds
        self._due = time.monotonic() + seconds
        self._waiting: list[str] = []
        self._rows: list[Row] = []
        self._failures: list[Failure] = []
        self._gone: list[str] = []
        self._overcome: list[str] = []

    def take(self, written: _Written, seen: set[str]) -> None:
        """Take what a writing task sent, and add its uris to those `seen`."""
        commit = written.commit
        for uri in itertools.chain(
            written.uris, (row.uri for row in commit.rows), (failure.uri for failure in commit.failures)
        ):
            if uri in seen:  # Ray promises to give each result once
                raise RuntimeError(f"Ray gave {uri} twice.")
            seen.add(uri)
        self._summary.add(commit)
        self._summary.embedded += len(written.uris)
        self._waiting += written.fragments
        self._rows += commit.rows
        self._failures += commit.failures
        self._gone += commit.former.rows
        self._overcome += commit.former.failures
        if time.monotonic() >= self._due:
            self.close()

    def close(self) -> None:
        """Commit what is waiting."""
        if self._waiting or self._rows or self._failures:
            with self._collection.writing(patience=COMMIT_PATIENCE):
                if self._gone:
                    self._collection.write([], [], Former(self._gone))
                if self._waiting:
                    append_fragments(self._collection, self._waiting)
                    self._summary.commits += len(self._waiting)
                    self._waiting = []
                for start in range(0, len(self._rows), _ROWS_AT_ONCE):
                    self._collection.write(self._rows[start : start + _ROWS_AT_ONCE])
                if self._failures or self._overcome:
                    self._collection.write([], self._failures, Former((), self._overcome))
        self._rows, self._failures, self._gone, self._overcome = [], [], [], []
        self._due = time.monotonic() + self._seconds


def _pack(value: object) -> bytes:
    return pickle.dumps(value, protocol=5)


def _unpack(data: bytes) -> Any:
    return pickle.loads(data)  # only between the processes of one run, as Ray itself does; never from a file


def _share(value: object) -> Any:
    import ray

    return ray.put(value)
