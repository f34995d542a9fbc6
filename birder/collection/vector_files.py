"""Files beside the table that make its embeddings fast to compare: derived from it, disposable, never the truth.

In the folder `vectors` of a collection, `state.json` names the others and the version of the table that they were made
of: the embeddings as float16 vectors of length 1, one after the other in numbered places (memory-mapped, only appended
to); the address in the table of each place's row; if there are many rows, a graph of the places, an HNSW of faiss over
8-bit codes (Malkov and Yashunin 2016, arXiv:1603.09320) in fewer dimensions where that finds as much; and the columns
that a search shows (`birder.collection.row_files`).

`state.json` is replaced last, by a writer that holds the collection's lock. So a process that dies in between leaves
the former files, which are brought up to date again, or none. A reader never writes: rows that the files lack it reads
from the table, and rows whose address the table no longer has it leaves out. A row's address alone says little, since
columns are written anew in place: a place counts for a row only while the table names the same data file for it.
"""

from __future__ import annotations

import contextlib
import functools
import json
import mmap
import os
import secrets
import sys
import weakref
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from birder.collection.disk import images_folder
from birder.collection.manifest import Fragment, column_files
from birder.collection.probe import COMPARED, ENOUGH, Probe, nothing
from birder.collection.reading import ROWS_IN_MEMORY
from birder.collection.row_files import RowFiles, rows_at, write_row_files
from birder.faiss_threads import apart
from birder.files import flush, replacing
from birder.vectors import let_go, take_rows, unit

if TYPE_CHECKING:
    from lancedb.table import Table

FOLDER = "vectors"
"""The folder of the files; backups leave it out."""
GONE = np.uint64(2**64 - 1)
"""The address of a place whose row was deleted or replaced."""
GRAPH_FROM = 20_000
"""Rows from which there is a graph: comparing so many takes 2 ms, and the graph a third of one."""
_STATE = "state.json"
_FORMAT = 3
_UNGRAPHED = 5_000  # places that every search compares one by one before they are added to the graph
_GROWN = 4  # times the places that the graph's axes were fitted to, until it is rebuilt
_NEIGHBOURS, _BREADTH = 16, 60  # of the graph; twice the breadth took twice as long to build and found as much
_REDUCED = 256  # axes that the graph compares by, if they suffice
_SAMPLE = 20_000
_ROWS_AT_ONCE = 16_384
_BYTES_AT_ONCE = 2**24  # of embeddings that LanceDB reads
_SAMPLED_AT_ONCE = 1_024  # rows here and there in a mapped file, each of which maps 64 kB
_READ_SINGLY = 1_024  # vectors, up to which they are read one by one
_STAYS_MAPPED = 2**27  # bytes of vectors of which all may stay mapped once they were read

Half = npt.NDArray[np.float16]
Addresses = npt.NDArray[np.uint64]
Single = npt.NDArray[np.float32]


@dataclass(frozen=True)
class _State:
    """What `state.json` says."""

    version: int
    dimension: int
    places: int
    graphed: int
    trained_on: int
    vectors: str
    addresses: str
    graph: str | None
    axes: str | None
    rows: list[str]
    sizes: dict[str, int]
    fragments: list[Fragment]


class VectorFiles:
    """The files of one state, open for reading.

    Attributes
    ----------
    vectors
        (P, D) float16, of length 1 each; one place a row.
    addresses
        (P,) uint64, of the rows in the table; `GONE` where there is none any more.
    version, fragments
        What they were made of.
    graphed
        The first places of which the graph exists; 0 without a graph.
    graph
        faiss's index over (N, d) float32; None without one.
    mean, axes
        (D,) and (D, d) float32: the graph compares (vector - mean) @ axes.
    times
        How many times `birder.collection.probe.BREADTH` the graph is searched to find enough.
    trained_on
        The number of places when the graph was built.
    rows
        The columns that a search shows.
    """

    def __init__(self, folder: Path, state: _State) -> None:
        self._state = state
        self.version, self.fragments = state.version, state.fragments
        self.graphed, self.trained_on = state.graphed, state.trained_on
        shape = (state.places, state.dimension)
        self._file = os.open(folder / state.vectors, os.O_RDONLY | getattr(os, "O_BINARY", 0))
        weakref.finalize(self, os.close, self._file)
        self._mapped = mmap.mmap(self._file, 2 * state.places * state.dimension, access=mmap.ACCESS_READ)
        self.vectors: Half = np.frombuffer(self._mapped, np.float16).reshape(shape)
        self.addresses: Addresses = np.load(folder / state.addresses)
        self.rows = RowFiles(folder, state.rows)
        self.graph: Any = None
        if state.graph is not None and state.axes is not None:
            import faiss  # some of the start of every command

            self.graph = faiss.read_index(str(folder / state.graph), faiss.IO_FLAG_MMAP_IFC)
            with np.load(folder / state.axes) as fitted:
                self.mean: Single = fitted["mean"]
                self.axes: Single = fitted["axes"]
                self.times = float(fitted["times"])

    def at(self, places: npt.NDArray[np.int64]) -> Half:
        """The vectors (N, D) of some places, copied.

        Few are read from a large file: each that is touched in the mapped one may map 2 MB of the system's cache around
        it, which takes four times as long as reading it. After many, its pages are given back.
        """
        if self.vectors.nbytes <= _STAYS_MAPPED:
            return np.take(self.vectors, places, axis=0)
        if len(places) <= _READ_SINGLY and sys.platform != "win32":
            file, size = self._file, 2 * self.vectors.shape[1]
            read = b"".join([os.pread(file, size, size * place) for place in places.tolist()])
            return np.frombuffer(read, np.float16).reshape(-1, self.vectors.shape[1])
        found: Half = np.take(self.vectors, places, axis=0)
        self.forget()
        return found

    def forget(self) -> None:
        """Give back the pages of the vectors that were read; they stay in the system's cache as long as it has room."""
        if sys.platform != "win32":
            self._mapped.madvise(mmap.MADV_DONTNEED)


def stamp(collection: Path) -> tuple[int, int] | None:
    """What changes when the files get another state; None without files."""
    try:
        status = (collection / FOLDER / _STATE).stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_ino


def open_files(collection: Path, dimension: int) -> VectorFiles | None:
    """The files of a collection, given by its folder; None if there are none, or if they are damaged or cut short."""
    folder = collection / FOLDER
    state = _state(folder)
    if state is None or state.dimension != dimension:
        return None
    try:
        # Reading behind the end of a mapped file ends the process.
        if any((folder / name).stat().st_size < size for name, size in state.sizes.items()):
            return None
        return VectorFiles(folder, state)
    except (OSError, ValueError, TypeError, KeyError, RuntimeError):  # faiss's is a RuntimeError
        return None


def write_files(
    collection: Path, images: Table, version: int, fragments: list[Fragment], dimension: int, *, anew: bool = False
) -> VectorFiles:
    """Make the files of a version of the rows, or bring them up to it; by the one process that may write.

    Memory: blocks of `_ROWS_AT_ONCE` rows, some 80 bytes a row, a sample of `_SAMPLE` embeddings, and the graph.

    Parameters
    ----------
    collection
        Its folder.
    images
        The table, at that version.
    version, fragments
        The version, and its parts by `birder.collection.manifest.fragments` of the column `embedding`.
    dimension
        D.
    anew
        Make them anew even if existing ones could be brought up to date.
    """
    folder = collection / FOLDER
    folder.mkdir(exist_ok=True)
    former = None if anew else open_files(collection, dimension)
    addresses = np.zeros(0, np.uint64)
    living = row_addresses(images)
    if former is not None:
        addresses = live_addresses(former, fragments, living)
    name = f"f16-{secrets.token_hex(4)}" if former is None else former._state.vectors
    missing = np.setdiff1d(living, addresses)
    with (folder / name).open("r+b" if former is not None else "w+b") as file:
        file.truncate(2 * dimension * len(addresses))
        file.seek(0, 2)
        addresses = _fill(file, former, addresses, missing, images, dimension)
        file.flush()
    if former is not None and int((addresses == GONE).sum()) > max(_UNGRAPHED, len(addresses) // 3):
        return write_files(collection, images, version, fragments, dimension, anew=True)
    flush(folder / name)
    vectors: Half = np.memmap(folder / name, np.float16, "r", shape=(len(addresses), dimension))
    graph = _graph_files(folder, former, vectors, addresses)
    addresses_name = f"addresses-{secrets.token_hex(4)}.npy"
    with replacing(folder / addresses_name, durable=True) as draft, draft.open("wb") as file:
        np.save(file, addresses)
    held = column_files(images_folder(collection) / "images.lance", version)
    former_rows = None if former is None else former.rows
    rows = [] if held is None else write_row_files(folder, former_rows, images, held, living)
    named = [each for each in (addresses_name, graph[0], graph[1], *rows) if each is not None]
    sizes = {each: (folder / each).stat().st_size for each in named}
    sizes[name] = 2 * dimension * len(addresses)
    state = _State(
        version,
        dimension,
        len(addresses),
        graph[2],
        graph[3],
        name,
        addresses_name,
        graph[0],
        graph[1],
        rows,
        sizes,
        fragments,
    )
    _replace_state(folder, state)
    return VectorFiles(folder, state)


def refresh_columns(collection: Path, images: Table, version: int) -> None:
    """Bring the columns in the files up to a version of the rows, as after labels; by the one process that may write.

    Columns that were written anew are copied into a file of their own, in blocks of rows; embeddings are not looked at.
    Without files, or where they are damaged, nothing is done: the next run makes them.

    Parameters
    ----------
    collection
        Its folder.
    images
        The table, at that version.
    version
        Its number.
    """
    folder = collection / FOLDER
    state = _state(folder)
    held = column_files(images_folder(collection) / "images.lance", version)
    if state is None or held is None:
        return
    try:
        if any((folder / name).stat().st_size < state.sizes[name] for name in state.rows):
            return
        former = RowFiles(folder, state.rows)
    except (OSError, ValueError, KeyError):
        return
    if former.fitting(held).complete:
        return
    rows = write_row_files(folder, former, images, held, row_addresses(images))
    sizes = {name: size for name, size in state.sizes.items() if name not in state.rows}
    sizes |= {name: (folder / name).stat().st_size for name in rows}
    _replace_state(folder, replace(state, rows=rows, sizes=sizes))


def _state(folder: Path) -> _State | None:
    """What `state.json` says; None if there is none, or none that this version of Birder understands."""
    try:
        told = json.loads((folder / _STATE).read_bytes())
        if told.pop("format") != _FORMAT:
            return None
        return _State(**(told | {"fragments": [Fragment(**each) for each in told["fragments"]]}))
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None


def _replace_state(folder: Path, state: _State) -> None:
    """Let other files be those of the collection, and remove the former ones."""
    with replacing(folder / _STATE, durable=True) as draft:
        draft.write_text(json.dumps({"format": _FORMAT} | asdict(state)))
    for other in folder.iterdir():
        if other.name not in state.sizes and other.name != _STATE:
            with contextlib.suppress(OSError):  # on Windows, while another process has it open
                other.unlink()


def row_addresses(images: Table) -> Addresses:
    """The addresses (N,) of all rows of a version of the table, ascending."""
    rows = images.search().select(["_rowid"]).to_batches(ROWS_IN_MEMORY).read_all()
    found: Addresses = np.sort(rows["_rowid"].to_numpy())
    return found


def live_addresses(files: VectorFiles, fragments: list[Fragment], living: Addresses | None) -> Addresses:
    """The address (P,) of each place in a version of the table; `GONE` where the place's row is not in it.

    `living` has the addresses of the rows; it may be None if no row of the same fragments was deleted since.
    """
    now = {each.number: each for each in fragments}
    same = {
        each.number
        for each in files.fragments
        if each.number in now and (each.rows, each.file) == (now[each.number].rows, now[each.number].file)
    }
    stays = np.isin(files.addresses >> np.uint64(32), np.array(sorted(same), np.uint64))
    if living is not None:
        stays &= np.isin(files.addresses, living)
    return np.where(stays & (files.addresses != GONE), files.addresses, GONE)


def half(embeddings: Single) -> Half:
    """Embeddings (N, D) as float16 vectors of length 1."""
    return unit(embeddings).astype(np.float16)


def embeddings_at(images: Table, addresses: Addresses) -> Iterator[tuple[Addresses, Single]]:
    """The addresses and embeddings (N, D) of rows, whose addresses ascend; a block at a time, as `rows_at` has them."""
    dimension = images.schema.field("embedding").type.list_size
    at_once = min(_ROWS_AT_ONCE, max(1, _BYTES_AT_ONCE // (4 * dimension)))
    for block in rows_at(images, addresses, ["embedding"], at_once):
        column = block["embedding"].combine_chunks()
        yield block["_rowid"].to_numpy(), column.flatten().to_numpy().reshape(-1, column.type.list_size)


def _fill(
    file: Any, former: VectorFiles | None, addresses: Addresses, missing: Addresses, images: Table, dimension: int
) -> Addresses:
    """Give the missing rows places: those that have their vector already, as after rows were moved, else new ones."""
    free = _Free(former, np.flatnonzero(addresses == GONE)) if former is not None and len(missing) else None
    parts = [addresses.copy()]
    for found, embeddings in embeddings_at(images, missing):
        vectors = half(embeddings)
        new = np.ones(len(found), bool)
        if free is not None:
            known, places = free.take(vectors)
            parts[0][places] = found[known]
            new[known] = False
        file.write(np.ascontiguousarray(vectors[new]).data)
        parts.append(found[new])
    return np.concatenate(parts)


class _Free:
    """Places whose rows are gone, to be found by the vectors that they have, and each taken once.

    Parameters
    ----------
    files
        The files; of the vectors in them, a block at a time is in memory.
    places
        Which places.
    """

    def __init__(self, files: VectorFiles, places: npt.NDArray[np.int64]) -> None:
        self._files = files
        marks = np.empty(len(places), np.int64)
        for start in range(0, len(places), _SAMPLED_AT_ONCE):
            marks[start : start + _SAMPLED_AT_ONCE] = _marks(files.vectors[places[start : start + _SAMPLED_AT_ONCE]])
            files.forget()
        order = np.argsort(marks, kind="stable")
        self._marks, self._places = marks[order], places[order]
        self._tried = np.zeros(len(places), np.int64)  # of the places with a mark, at the first of them

    def take(self, vectors: Half) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Which of some vectors (N, D) are in a place that is free, and in which; it is free no longer."""
        marks = _marks(vectors)
        first, end = (np.searchsorted(self._marks, marks, side) for side in ("left", "right"))
        order = np.argsort(marks, kind="stable")
        before = np.empty(len(marks), np.int64)  # vectors with the same mark that come earlier
        before[order] = np.arange(len(marks)) - np.searchsorted(marks[order], marks[order])
        known = np.flatnonzero(first < end)
        at = first[known] + self._tried[first[known]] + before[known]
        known, at = known[at < end[known]], at[at < end[known]]
        np.add.at(self._tried, first[known], 1)
        places = self._places[at]
        same = np.zeros(len(known), bool)
        for start in range(0, len(known), _SAMPLED_AT_ONCE):
            some = slice(start, start + _SAMPLED_AT_ONCE)
            same[some] = (self._files.vectors[places[some]] == vectors[known[some]]).all(axis=1)
            self._files.forget()
        return known[same], places[same]


def _marks(vectors: Half) -> npt.NDArray[np.int64]:
    """A number for each vector (N, D), the same for the same bytes in this process."""
    return np.fromiter((hash(vector.tobytes()) for vector in vectors), np.int64, len(vectors))


def _graph_files(
    folder: Path, former: VectorFiles | None, vectors: Half, addresses: Addresses
) -> tuple[str | None, str | None, int, int]:
    """The graph of the places: the names of its file and of its axes, its number of places, what it was built for."""
    places = len(vectors)
    if int((addresses != GONE).sum()) < GRAPH_FROM:
        return None, None, 0, 0
    kept = former is not None and former.graph is not None and places < _GROWN * former.trained_on
    if kept and former is not None and places - former.graphed <= _UNGRAPHED:
        return former._state.graph, former._state.axes, former.graphed, former.trained_on
    return _built(folder, former if kept else None, vectors)


def _built(folder: Path, former: VectorFiles | None, vectors: Half) -> tuple[str, str, int, int]:
    """A graph that has grown, or a new one; as `_graph_files` says."""
    import faiss

    places = len(vectors)
    if former is not None:
        graph = faiss.read_index(str(folder / str(former._state.graph)))  # not mapped: it grows
        mean, axes, begin, trained_on = former.mean, former.axes, former.graphed, former.trained_on
        probe = Probe.read(folder / str(former._state.axes))
    else:
        sample = np.sort(np.random.default_rng(0).permutation(places)[:_SAMPLE])
        known = take_rows(vectors, sample).astype(np.float32)
        mean, axes, probe = _axes(known, vectors, Probe.of(known, sample))
        graph = faiss.IndexHNSWSQ(axes.shape[1], faiss.ScalarQuantizer.QT_8bit, _NEIGHBOURS, faiss.METRIC_L2)
        graph.hnsw.efConstruction = _BREADTH
        learned = np.ascontiguousarray((known - mean) @ axes)
        apart(lambda: graph.train(learned))
        begin, trained_on = 0, places
    for start in range(begin, places, _ROWS_AT_ONCE):
        block = vectors[start : start + _ROWS_AT_ONCE].astype(np.float32)
        let_go(vectors)
        if former is not None:
            probe = probe.seen(start, block)
        apart(functools.partial(graph.add, np.ascontiguousarray((block - mean) @ axes)))
    times = probe.breadth(graph, np.ascontiguousarray((probe.asked - mean) @ axes, np.float32))
    token = secrets.token_hex(4)
    names = f"graph-{token}.faiss", f"axes-{token}.npz"
    with replacing(folder / names[0], durable=True) as draft:
        faiss.write_index(graph, str(draft))
    with replacing(folder / names[1], durable=True) as draft, draft.open("wb") as file:
        np.savez(file, mean=mean, axes=axes, times=times, **probe.arrays())
    return *names, places, trained_on


def _axes(known: Single, vectors: Half, probe: Probe) -> tuple[Single, Single, Probe]:
    """Mean (D,) and axes (D, d): the principal ones of a sample, if they find the nearest as well as all axes do.

    The nearest of each vector of the probe must be among the `COMPARED` nearest by these axes. A sample would not tell:
    it has fewer near ones. So they are compared with all vectors, a block at a time; the probe that has seen them is
    given back.
    """
    dimension = known.shape[1]
    mean = known.mean(axis=0)
    axes = np.eye(dimension, dtype=np.float32)
    if dimension > _REDUCED:
        centred = known - mean
        _, directions = np.linalg.eigh((centred.T @ centred).astype(np.float64))
        axes = np.ascontiguousarray(directions[:, ::-1][:, :_REDUCED], np.float32)
    turned = (probe.asked - mean) @ axes
    near = nothing(len(turned))
    for start in range(0, len(vectors), _ROWS_AT_ONCE):
        block = vectors[start : start + _ROWS_AT_ONCE].astype(np.float32)
        let_go(vectors)
        probe = probe.seen(start, block)
        reduced = (block - mean) @ axes
        near = near.with_more(start, 2 * turned @ reduced.T - (reduced**2).sum(axis=1), COMPARED)
    if probe.share(near.places) < ENOUGH:
        axes = np.eye(dimension, dtype=np.float32)
    return mean, axes, probe
