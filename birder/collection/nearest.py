"""The rows nearest to a vector, by the files beside the table: which way is planned, and what it finds.

Few rows, or few that match a filter, are compared one by one; else the graph gives candidates, which are compared
again. D is the embedding dimension, P the number of places in the files.
"""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from birder.collection.disk import images_folder
from birder.collection.manifest import column_files, fragments
from birder.collection.probe import BREADTH, COMPARED
from birder.collection.row_files import FittingRows
from birder.collection.vector_files import (
    GONE,
    Addresses,
    Half,
    VectorFiles,
    embeddings_at,
    half,
    live_addresses,
    open_files,
    row_addresses,
    stamp,
)

if TYPE_CHECKING:
    from lancedb.table import Table

Places = npt.NDArray[np.int64]
Single = npt.NDArray[np.float32]

_FEW = 20_000
"""Rows that are compared one by one rather than by the graph: gathering and comparing them takes 20 ms at most."""
_SHARE = 0.1
"""The share of the rows that must match a filter for the graph to be asked: with fewer, it gets lost."""
_COMPARED_FOR_EACH = 4
_READ_AT_ONCE = 20_000
"""Rows that the files lack and that a search reads from the table; with more, LanceDB compares all."""
_BLOCK = 4_096  # rows copied at once; they fit into a core's cache
_SCANNED = 1 << 16  # rows between which Ctrl-C is looked at
_MANY = 0.05
"""The share of the rows from which they are compared in the mapped file: skipping the others costs less than copies."""
_LARGE = 50_000  # rows from which two threads compare
_PLACES_OF_FILTERS = 4_000_000  # of the last filters, 8 bytes each
MARGIN = 16
"""Rows by which the order of float16 may differ from that of float32 at the end of what is wanted."""


class Rows:
    """The rows of one version of the table, as the files have them; several threads may ask."""

    def __init__(self, files: VectorFiles, addresses: Addresses, more: Half, columns: FittingRows) -> None:
        self.files = files
        self.columns = columns
        self._more = more
        self.addresses = addresses  # of the places, and then of `more`
        self.live: Places = np.flatnonzero(addresses != GONE)
        self._all = len(self.live) == len(addresses)
        self._live_bits = np.packbits(addresses != GONE, bitorder="little")
        self._order = np.argsort(addresses, kind="stable")
        self._ungraphed = self.live[np.searchsorted(self.live, files.graphed) :]
        self._filters: dict[str, Places] = {}
        self._kept_parameters: dict[int, tuple[Any, Any]] = {}  # by breadth
        self._lock = threading.Lock()

    @property
    def up_to_date(self) -> bool:
        """Whether no row had to be read from the table, and no column has to be."""
        return not len(self._more) and self.columns.complete

    def places(self, key: str, images: Table) -> Places:
        """The places of the rows that match a filter, given as SQL; the last ones asked for are kept."""
        known = self._filters.get(key)
        if known is None:
            found = images.search().where(key).select(["_rowid"]).to_arrow()["_rowid"].to_numpy()
            known = np.sort(self._order[np.searchsorted(self.addresses, found, sorter=self._order)])
            with self._lock:
                self._filters[key] = known
                while len(self._filters) > 1 and sum(map(len, self._filters.values())) > _PLACES_OF_FILTERS:
                    self._filters.pop(next(iter(self._filters)))
        return known

    def vectors(self, addresses: Addresses) -> Half | None:
        """The vectors (N, D), of length 1, of rows as the files have them; None if they lack one."""
        ascending, row_of = np.unique(addresses, return_inverse=True)
        places = self._order[np.searchsorted(self.addresses, ascending, sorter=self._order) % len(self._order)]
        if (self.addresses[places] != ascending).any():
            return None
        order = np.argsort(places)
        return self._at(places[order])[np.argsort(order)][row_of]

    def has_graph_for(self, k: int, chosen: Places | None) -> bool:
        """Whether the graph is asked for so many rows, out of those at some places, or out of all."""
        count = len(self.live if chosen is None else chosen)
        share = count / max(1, len(self.live))
        return self.files.graph is not None and share >= _SHARE and count > max(_FEW, 20 * k)

    def nearest(
        self, vector: Single, k: int, chosen: Places | None, *, exact: bool
    ) -> tuple[Addresses, npt.NDArray[np.float32], bool]:
        """The nearest rows: their addresses, their cosines by float16, and whether all were compared.

        If all were compared, there are `MARGIN` rows more, from which float32 is to choose.

        Parameters
        ----------
        vector
            (D,), of length 1.
        k
            How many rows; fewer are found if fewer match.
        chosen
            The places to choose from; default: all.
        exact
            Compare all.
        """
        rows = self.live if chosen is None else chosen
        if not exact and self.has_graph_for(k, chosen):
            places, scores = self._by_graph(vector, k, chosen, len(rows) / len(self.live))
            if len(places) >= k:
                return self.addresses[places], scores, False
        everything = chosen is None and self._all
        places, scores = self._compare(vector, k + MARGIN, None if everything else rows)
        return self.addresses[places], scores, True

    def _by_graph(self, vector: Single, k: int, chosen: Places | None, share: float) -> tuple[Places, Single]:
        files = self.files
        wanted = int(files.times * max(COMPARED, _COMPARED_FOR_EACH * k))
        breadth = int(max(files.times * BREADTH, wanted) / share)
        asked = ((vector - files.mean) @ files.axes)[None]
        parameters, _selector = self._parameters(breadth, chosen)
        found = files.graph.search(asked, wanted, params=parameters)[1][0]
        candidates = np.sort(found[found >= 0])
        with _Best(vector, k, None) as best:
            best.compare(files.at(candidates), candidates)
        places, scores = best.places, best.scores
        later = self._ungraphed if chosen is None else chosen[np.searchsorted(chosen, files.graphed) :]
        if len(later):
            more, theirs = self._compare(vector, k, later)
            places, scores = np.concatenate([places, more]), np.concatenate([scores, theirs])
        order = np.lexsort((places, -scores))
        order = order[places[order] >= 0][:k]
        return places[order], scores[order]

    def _parameters(self, breadth: int, chosen: Places | None) -> tuple[Any, Any]:
        """How faiss searches the graph, and the selector in it, which must stay as long; those for all rows stay."""
        import faiss

        if chosen is None and breadth in self._kept_parameters:
            return self._kept_parameters[breadth]
        selector = None
        if chosen is not None or not self._all:
            selector = faiss.IDSelectorBitmap(self._live_bits if chosen is None else self._bits(chosen))
        parameters = faiss.SearchParametersHNSW(efSearch=breadth)
        if selector is not None:
            parameters.sel = selector
        if chosen is None:
            self._kept_parameters[breadth] = parameters, selector
        return parameters, selector

    def _at(self, places: Places) -> Half:
        count = len(self.files.vectors)
        if not len(self._more) or not len(places) or places[-1] < count:  # they ascend
            return self.files.at(places)
        first = places[places < count]
        return np.concatenate([self.files.at(first), self._more[places[len(first) :] - count]])

    def _compare(self, vector: Single, k: int, chosen: Places | None) -> tuple[Places, Single]:
        """The nearest of some places, which ascend, or of all: each is compared.

        Many of them are compared where they are, in the mapped file; few are copied out of it, a block at a time.
        """
        count = len(self.addresses) if chosen is None else len(chosen)
        mapped = len(self.files.vectors)
        in_place = chosen is None or count > _MANY * len(self.addresses)
        bits = self._bits(chosen) if in_place and chosen is not None else None
        wanted = np.arange(mapped, len(self.addresses)) if in_place or chosen is None else chosen
        parts: list[range | Places] = []
        if in_place:
            parts += [range(start, min(start + _SCANNED, mapped)) for start in range(0, mapped, _SCANNED)]
        parts += [wanted[start : start + _BLOCK] for start in range(0, len(wanted), _BLOCK)]

        def work(own: list[range | Places]) -> tuple[Places, Single]:
            with _Best(vector, k, bits) as best:
                for part in own:
                    if isinstance(part, range):
                        best.compare(self.files.vectors[part.start : part.stop], np.arange(part.start, part.stop))
                    else:
                        best.compare(self._at(part), part)
            return best.places, best.scores

        threads = 2 if count > _LARGE and (os.cpu_count() or 1) > 1 else 1
        if threads == 1:
            found = [work(parts)]
        else:
            with ThreadPoolExecutor(threads) as pool:
                found = list(pool.map(work, (parts[n::threads] for n in range(threads))))
        if in_place:
            self.files.forget()
        places = np.concatenate([each for each, _ in found])
        scores = np.concatenate([each for _, each in found])[places >= 0]
        places = places[places >= 0]
        order = np.lexsort((places, -scores))[:k]
        return places[order], scores[order]

    def _bits(self, chosen: Places) -> npt.NDArray[np.uint8]:
        """A bit for each place: whether it is chosen."""
        inside = np.zeros(len(self.addresses), bool)
        inside[chosen] = True
        return np.packbits(inside, bitorder="little")


class _Best:
    """The k best of the vectors that were compared so far; -1 where there are fewer.

    faiss compares them where they are in memory, with the interpreter's lock released.
    """

    def __init__(self, vector: Single, k: int, bits: npt.NDArray[np.uint8] | None) -> None:
        import faiss

        self.places = np.full(k, -1, np.int64)
        self.scores = np.full(k, -np.inf, np.float32)
        self._quantizer: Any = faiss.ScalarQuantizer(len(vector), faiss.ScalarQuantizer.QT_fp16)
        self._bits = bits  # faiss does not copy them
        self._selector = None if bits is None else faiss.IDSelectorBitmap(bits)
        self._scanner = self._quantizer.select_InvertedListScanner(
            faiss.METRIC_INNER_PRODUCT, None, False, self._selector, False
        )
        self._scanner.set_query(faiss.swig_ptr(vector))
        self._scanner.set_list(0, 0.0)

    def __enter__(self) -> _Best:
        return self

    def __exit__(self, *_: object) -> None:
        """Free what faiss has handed over; as Python's own, it damages faiss's classes (faiss-cpu 1.15)."""
        self._scanner.__swig_destroy__(self._scanner)

    def compare(self, vectors: Half, places: Places) -> None:
        """Compare vectors (N, D), whose rows lie side by side; they are at these places (N,)."""
        import faiss

        codes = vectors.view(np.uint8)
        pointers = map(faiss.swig_ptr, (codes, np.ascontiguousarray(places), self.scores, self.places))
        self._scanner.scan_codes(len(vectors), *pointers, len(self.places))


class Nearest:
    """The rows of a collection, kept open for queries, of the version that was asked for last.

    Parameters
    ----------
    path
        The collection's folder.
    dimension
        D.
    """

    def __init__(self, path: Path, dimension: int) -> None:
        self._path = path
        self._dimension = dimension
        self._lock = threading.Lock()
        self._rows: Rows | None = None
        self._known: tuple[Path, int] | None = None
        self._stamp: tuple[int, int] | None = None

    def at(self, images: Table, version: int) -> Rows | None:
        """The rows of a version; None if the files do not fit it, so that LanceDB must compare.

        Parameters
        ----------
        images
            The table, at that version.
        version
            Its number.
        """
        wanted = images_folder(self._path), version
        with self._lock:
            if self._known == wanted and self._rows is not None and self._rows.up_to_date:
                return self._rows
            now = stamp(self._path)
            if self._known != wanted or self._stamp != now:
                self._rows = None if now is None else _rows_of(self._path, images, version, self._dimension)
                self._known, self._stamp = wanted, now
            return self._rows


def _rows_of(path: Path, images: Table, version: int, dimension: int) -> Rows | None:
    files = open_files(path, dimension)
    parts = fragments(images_folder(path) / "images.lance", version, "embedding")
    held = column_files(images_folder(path) / "images.lance", version)
    if files is None or parts is None or held is None:
        return None
    columns = files.rows.fitting(held)
    if parts == files.fragments:
        return Rows(files, files.addresses, np.zeros((0, dimension), np.float16), columns)
    living = row_addresses(images)
    addresses = live_addresses(files, parts, living)
    missing = np.setdiff1d(living, addresses)
    if len(missing) > _READ_AT_ONCE:
        return None
    found = list(embeddings_at(images, missing))
    more = [half(vectors) for _, vectors in found] or [np.zeros((0, dimension), np.float16)]
    return Rows(files, np.concatenate([addresses, *(each for each, _ in found)]), np.concatenate(more), columns)
