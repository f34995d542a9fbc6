"""How fast a large collection is searched, beside faiss-cpu, usearch and LanceDB's own index on the same vectors.

    .venv/bin/python benchmarks/search.py [--rows 1000000] [--queries 200] [--only index,exact,lancedb,hnsw,ivf,usearch]

The vectors are made (seed 0) in the shape of real ones: 1,030 embeddings of BioCLIP 2 point 0.77 of their length in one
direction, and what is left has variances that fall as (i + 1)^-0.45 exp(-i / 130) over its principal axes. Here each
row is that direction, a species (one row in a hundred; 0.6 of the variance left) and an individual (0.4), with a
length of its own. Queries are further individuals, not among the rows. What is right is told by exact cosines of all
rows in NumPy.

With `--real FILE`, the rows are real embeddings instead, blown up: `FILE` is Parquet with one column of lists of
floats, or a .npy of (N, D). Each row and each query is one of them and noise of `--noise` of its length (0.3), seed 0.

Every contestant builds in one process and answers in another; the first five queries of a process are not timed.
Resident memory is what `smaps_rollup` says after the queries: pages of files, which the system may drop, and the rest.
Writes search.json into the working folder (BIRDER_BENCH, or demo/bench), which also holds the vectors and the
collection: about 9 GB for a million rows of 768 numbers, and 4 GB more while a peer's index is there. faiss and usearch
are run by the interpreter that BIRDER_PEERS names; usearch, which builds for long, only if it is asked for.
benchmarks/RESULTS.md quotes the table.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import lancedb
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

import birder

ROOT = Path(__file__).parents[1]
PEERS = Path(os.environ.get("BIRDER_PEERS", ROOT / ".venv-peers" / "bin" / "python"))
WORK = Path(os.environ.get("BIRDER_BENCH", ROOT / "demo" / "bench"))
NAMES = {"hnsw": "faiss HNSW, float32", "ivf": "faiss IVF, float32", "usearch": "usearch HNSW, float16"}
WHERE = "label IN ('label 7', 'label 8')"
K = 10
GROWN = 10_000
WARM = 5
AT_ONCE = 20_000
Figures = dict[str, Any]
Vectors = npt.NDArray[np.float32]


def batches(rows: int, queries: int, size: int) -> Iterator[Vectors]:
    """The rows, `AT_ONCE` at a time, and at last the queries."""
    random = np.random.default_rng(0)
    axis = np.arange(size, dtype=np.float32)
    spread = (axis + 1) ** -0.45 * np.exp(-axis / 130)
    spread = np.sqrt(spread / spread.sum() * (1 - 0.77**2), dtype=np.float32)
    direction = random.standard_normal(size, dtype=np.float32)
    direction *= 0.77 / np.linalg.norm(direction)
    species = random.standard_normal((max(1, rows // 100), size), dtype=np.float32) * spread * 0.6**0.5
    for count in [*([AT_ONCE] * (rows // AT_ONCE)), rows % AT_ONCE, queries]:
        vectors = random.standard_normal((count, size), dtype=np.float32) * spread * 0.4**0.5
        vectors += direction + species[random.integers(0, len(species), count)]
        if count:
            yield vectors * random.lognormal(3.8, 0.1, (count, 1)).astype(np.float32)


def blown_up(file: Path, rows: int, queries: int, noise: float) -> Iterator[Vectors]:
    """Real vectors and noise, `AT_ONCE` at a time, and at last the queries."""
    random = np.random.default_rng(0)
    known = real(file)
    share = noise / known.shape[1] ** 0.5
    for count in [*([AT_ONCE] * (rows // AT_ONCE)), rows % AT_ONCE, queries]:
        if count:
            vectors = known[random.integers(0, len(known), count)]
            lengths = np.linalg.norm(vectors, axis=1, keepdims=True) * share
            yield vectors + lengths * random.standard_normal(vectors.shape, dtype=np.float32)


def real(file: Path) -> Vectors:
    """The embeddings (N, D) of a file."""
    if file.suffix == ".npy":
        return np.asarray(np.load(file), np.float32)
    lists = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
    names = [
        field.name
        for field in pq.read_schema(file)
        if any(is_list(field.type) for is_list in lists) and pa.types.is_floating(field.type.value_type)
    ]
    if len(names) != 1:
        raise SystemExit(f"{file} must have one column of lists of floats, and has {', '.join(names) or 'none'}.")
    column = pq.read_table(file, columns=names)[names[0]].combine_chunks()
    vectors: Vectors = column.flatten().to_numpy().reshape(len(column), -1).astype(np.float32)
    return vectors


def make(folder: Path, rows: int, queries: int, size: int, blocks: Iterator[Vectors]) -> None:
    """Vectors and queries as .npy, the ten rows that are right for each query, and a collection of the rows."""
    if (folder / "truth.npy").exists():
        return
    from birder.collection.storage import ModelCard, Storage

    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    kept = np.lib.format.open_memmap(folder / "vectors.npy", "w+", np.float32, (rows, size))
    start = 0
    for vectors in blocks:
        if start < rows:
            kept[start : start + len(vectors)] = vectors
        else:
            np.save(folder / "queries.npy", vectors)
        start += len(vectors)
    kept.flush()
    card = ModelCard("synthetic", "synthetic", "0" * 64, {"draft": True}, "torch", "fp32", size)
    collection = Storage.create_or_open(folder / "c.birder", card)
    schema = pa.schema([(name, type_) for name, type_ in collection.columns.items()])
    with collection.writing():
        images = lancedb.connect(collection.path).open_table("images")
        images.add(pa.RecordBatchReader.from_batches(schema, arrow(kept, schema)))
    asked = unit(np.load(folder / "queries.npy"))
    best = np.full((queries, K), -2, np.float32)
    truth = np.zeros((queries, K), np.int64)
    for start in range(0, rows, AT_ONCE):
        cosines = np.hstack([best, asked @ unit(kept[start : start + AT_ONCE]).T])
        block = np.broadcast_to(np.arange(start, min(rows, start + AT_ONCE)), (queries, cosines.shape[1] - K))
        numbers = np.hstack([truth, block])
        order = np.argsort(-cosines, axis=1)[:, :K]
        best, truth = np.take_along_axis(cosines, order, 1), np.take_along_axis(numbers, order, 1)
    np.save(folder / "truth.npy", truth)


def arrow(vectors: Vectors, schema: pa.Schema, first: int = 0) -> Iterator[pa.RecordBatch]:
    """The rows of a collection, in bulk; `width` is the number of the row, by which an answer is told."""
    for start in range(0, len(vectors), AT_ONCE):
        part = np.array(vectors[start : start + AT_ONCE])
        numbers = range(first + start, first + start + len(part))
        columns: dict[str, pa.Array] = {
            "id": pa.array([f"{n:032x}" for n in numbers]),
            "uri": pa.array([f"file:///photos/{n:08}.jpg" for n in numbers]),
            "sha256": pa.array([f"{n:064x}" for n in numbers]),
            "embedding": pa.FixedSizeListArray.from_arrays(pa.array(part.ravel()), vectors.shape[1]),
            "width": pa.array(numbers, pa.int32()),
            "label": pa.array([f"label {n % 500}" for n in numbers]),
        }
        arrays = [columns.get(field.name, pa.nulls(len(part), field.type)) for field in schema]
        yield pa.RecordBatch.from_arrays([a.cast(f.type) for a, f in zip(arrays, schema, strict=True)], schema=schema)


def unit(vectors: Vectors) -> Vectors:
    """Each row with length 1."""
    result: Vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return result


def build(folder: Path) -> Figures:
    """Make the index."""
    from birder.collection.index import make_index
    from birder.collection.storage import Storage

    with PeakMemory() as peak:
        report = make_index(Storage.open(folder / "c.birder"), columns=("label",))
    files = sum(file.stat().st_size for file in (folder / "c.birder" / "vectors").iterdir())
    return {"build_seconds": report.seconds, "build_peak_mb": peak.mb, "files_mb": files / 1e6}


def ask(folder: Path, exact: bool = False, where: str | None = None, columns: tuple[str, ...] = ()) -> Figures:
    """`Collection.search(vectors=...)`, from the query vector to the rows with all columns, or these."""
    collection = birder.open_collection(folder / "c.birder")
    queries, truth = np.load(folder / "queries.npy"), np.load(folder / "truth.npy")
    if where is not None:
        truth = right_of(folder, queries)
    if exact:
        queries, truth = queries[: WARM + 15], truth[: WARM + 15]
    times, cpu, right, ways = [], [], 0, set()
    for number, (query, wanted) in enumerate(zip(queries, truth, strict=True)):
        begun, used = time.perf_counter(), time.process_time()
        found = collection.search(vectors=[query], k=K, exact=exact, where=where, columns=columns)
        if number >= WARM:
            times.append(time.perf_counter() - begun)
            cpu.append(time.process_time() - used)
        right += len(set(found.to_arrow()["width"].to_pylist()) & set(wanted.tolist()))
        ways.add("exact" if found.exact else "graph")
    return figures_of(times, cpu, right / truth.size) | {"way": "/".join(sorted(ways))}


def right_of(folder: Path, queries: Vectors) -> npt.NDArray[np.int64]:
    """The nearest rows among those of two labels, which `WHERE` names: one in 250."""
    vectors = np.load(folder / "vectors.npy", mmap_mode="r")
    numbers = np.arange(len(vectors))
    numbers = numbers[np.isin(numbers % 500, (7, 8))]
    cosines = unit(queries) @ unit(vectors[numbers]).T
    return numbers[np.argsort(-cosines, axis=1)[:, :K]]


def ask_in_threads(folder: Path) -> Figures:
    """Queries a second by one thread and by two, of one collection."""
    collection = birder.open_collection(folder / "c.birder")
    queries = np.load(folder / "queries.npy")

    def run() -> None:
        for query in queries:
            collection.search(vectors=[query], k=K, columns=["uri"])

    run()
    rates = []
    for count in (1, 2):
        threads = [threading.Thread(target=run) for _ in range(count)]
        begun = time.perf_counter()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        rates.append(count * len(queries) / (time.perf_counter() - begun))
    return {"one_thread_a_second": rates[0], "two_threads_a_second": rates[1], "times": rates[1] / rates[0]}


def grow(folder: Path) -> Figures:
    """Add 10,000 rows, bring the files up to them, and find each of some of them; then remove them again."""
    from birder.collection.index import ensure_index
    from birder.collection.storage import Storage

    kept = np.load(folder / "vectors.npy", mmap_mode="r")
    random = np.random.default_rng(3)
    vectors = kept[np.sort(random.integers(0, len(kept), GROWN))]
    vectors = vectors + random.standard_normal(vectors.shape, dtype=np.float32) * vectors.std() * np.float32(0.5)
    collection = Storage.open(folder / "c.birder")
    birder.open_collection(folder / "c.birder").search(vectors=[vectors[0]], k=K)
    begun = time.perf_counter()
    with collection.writing():
        images = lancedb.connect(collection.path).open_table("images")
        schema = pa.schema([(name, type_) for name, type_ in collection.columns.items()])
        images.add(pa.RecordBatchReader.from_batches(schema, arrow(vectors, schema, len(kept))))
    written = time.perf_counter()
    with collection.writing():
        ensure_index(collection)
    indexed = time.perf_counter()
    opened = birder.open_collection(folder / "c.birder")
    found = [opened.search(vectors=[vectors[n]], k=1, columns=["width"]) for n in range(0, GROWN, GROWN // 50)]
    right = [f.to_list()[0]["width"] == len(kept) + n for f, n in zip(found, range(0, GROWN, GROWN // 50), strict=True)]
    done = time.perf_counter()
    with collection.writing():
        images = lancedb.connect(collection.path).open_table("images")
        images.delete(f"width >= {len(kept)}")
    return {
        "write_seconds": written - begun,
        "index_seconds": indexed - written,
        "search_seconds": done - indexed,
        "total_seconds": done - begun,
        "found": float(np.mean(right)),
    }


def lancedb_build(folder: Path) -> Figures:
    """LanceDB's own index, IVF-RQ, with its defaults."""
    from lancedb.index import IvfRq

    images: Any = lancedb.connect(folder / "c.birder").open_table("images")
    with PeakMemory() as peak:
        begun = time.perf_counter()
        images.create_index("embedding", config=IvfRq(distance_type="cosine"), replace=True)
        seconds = time.perf_counter() - begun
    return {"build_seconds": seconds, "build_peak_mb": peak.mb}


def lancedb_ask(folder: Path) -> Figures:
    """LanceDB's answers, of uris: 60 partitions, forty rows compared exactly."""
    from lancedb.background_loop import LOOP

    queries, truth = np.load(folder / "queries.npy"), np.load(folder / "truth.npy")
    opened: Any = lancedb.connect(folder / "c.birder").open_table("images")
    table = opened._table
    times, cpu, right = [], [], 0
    for number, (query, wanted) in enumerate(zip(queries, truth, strict=True)):

        async def find(query: Vectors = query) -> Any:
            nearest = table.query().nearest_to(query).column("embedding").distance_type("cosine").limit(K)
            return await nearest.nprobes(60).refine_factor(4).select(["uri", "width", "_distance"]).to_arrow()

        begun, used = time.perf_counter(), time.process_time()
        found = LOOP.run(find())  # type: ignore[no-untyped-call]
        if number >= WARM:
            times.append(time.perf_counter() - begun)
            cpu.append(time.process_time() - used)
        right += len(set(found["width"].to_pylist()) & set(wanted.tolist()))
    opened.drop_index("embedding_idx")
    return figures_of(times, cpu, right / truth.size)


def figures_of(times: list[float], cpu: list[float], recall: float) -> Figures:
    """What is told of queries: milliseconds of each, and the memory of this process."""
    return {
        "median_ms": 1e3 * statistics.median(times),
        "p95_ms": 1e3 * float(np.quantile(times, 0.95)),
        "cpu_ms": 1e3 * statistics.mean(cpu),
        "recall": recall,
    } | resident()


def resident() -> Figures:
    """Megabytes that this process holds now, of which files (in the system's cache) and the rest."""
    lines = (line.split() for line in Path("/proc/self/smaps_rollup").read_text().splitlines()[1:])
    sizes = {line[0]: int(line[1]) / 1024 for line in lines}
    return {"resident_mb": sizes["Rss:"], "not_files_mb": sizes["Anonymous:"]}


class PeakMemory:
    """The most memory besides pages of files that this process has within the block; looked at 20 times a second."""

    def __enter__(self) -> PeakMemory:
        self.mb = 0.0
        self._done = threading.Event()
        self._watch = threading.Thread(target=self._look, daemon=True)
        self._watch.start()
        return self

    def _look(self) -> None:
        while not self._done.wait(0.05):
            status = Path("/proc/self/status").read_text()
            self.mb = max(self.mb, int(status.split("RssAnon:")[1].split()[0]) / 1024)

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._watch.join()


def child(command: list[str | Path]) -> Figures:
    """Run a part of this in a process of its own; what it prints at last."""
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    if command[0] != PEERS:
        environment["PYTHONPATH"] = str(ROOT)
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        raise SystemExit(f"{' '.join(map(str, command))} failed:\n{done.stderr[-3000:]}")
    result: Figures = json.loads(done.stdout.strip().splitlines()[-1])
    print(command[2:4], result, file=sys.stderr, flush=True)
    return result


def table(figures: dict[str, Figures]) -> str:
    """The figures as RESULTS.md has them."""
    lines = [
        "| | recall@10 | median | 95th percentile | processor | resident, not files | build | not files, build |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, f in figures.items():
        if "median_ms" not in f:
            continue
        way = f" ({f['way']})" if "way" in f else ""
        memory = f"{f['resident_mb'] / 1000:.2f} GB, {f['not_files_mb'] / 1000:.2f} GB"
        built = f"{f['build_seconds']:.0f} s | {f['build_peak_mb'] / 1000:.2f} GB" if "build_seconds" in f else " | "
        lines.append(
            f"| {name}{way} | {f['recall']:.3f} | {f['median_ms']:.2f} ms | {f['p95_ms']:.2f} ms | "
            f"{f['cpu_ms']:.2f} ms | {memory} | {built} |"
        )
    if threads := figures.get("birder, threads"):
        lines += ["", f"Two threads answer {threads['two_threads_a_second']:.0f} queries a second, one"]
        lines[-1] += f" {threads['one_thread_a_second']:.0f}: {threads['times']:.2f} times as many."
    if grown := figures.get("birder, grown"):
        lines += ["", f"10,000 rows added: written in {grown['write_seconds']:.1f} s, the files brought up to them in"]
        lines[-1] += f" {grown['index_seconds']:.1f} s, then {100 * grown['found']:.0f} % of 50 of them found;"
        lines[-1] += f" {grown['total_seconds']:.1f} s in all."
    return "\n".join(lines)


def main() -> None:
    """Make what is not there, run what was asked for, keep and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--size", type=int, default=768)
    parser.add_argument("--real", type=Path, help="embeddings to blow up, Parquet or .npy")
    parser.add_argument("--noise", type=float, default=0.3, help="with --real: of the length of each")
    parser.add_argument("--only", default="index,exact,lancedb,hnsw,ivf", help="comma-separated; also usearch")
    parser.add_argument("--stage", nargs=2, metavar=("STAGE", "FOLDER"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.stage:
        folder = Path(options.stage[1])
        stages: dict[str, Callable[[], Figures]] = {
            "build": lambda: build(folder),
            "ask": lambda: ask(folder),
            "names": lambda: ask(folder, columns=("uri", "width")),
            "exact": lambda: ask(folder, exact=True, columns=("uri", "width")),
            "where": lambda: ask(folder, where=WHERE, columns=("uri", "width")),
            "threads": lambda: ask_in_threads(folder),
            "grow": lambda: grow(folder),
            "lancedb_build": lambda: lancedb_build(folder),
            "lancedb_ask": lambda: lancedb_ask(folder),
        }
        print(json.dumps(stages[options.stage[0]]()))
        return
    size = options.size if options.real is None else real(options.real).shape[1]
    folder = WORK / f"search-{options.rows}-{size if options.real is None else options.real.stem}"
    count = options.queries + WARM
    if options.real is None:
        blocks = batches(options.rows, count, size)
    else:
        blocks = blown_up(options.real, options.rows, count, options.noise)
    make(folder, options.rows, count, size, blocks)
    kept = folder / "search.json"
    figures: dict[str, Figures] = json.loads(kept.read_text()) if kept.exists() else {}

    def own(stage: str) -> Figures:
        return child([sys.executable, Path(__file__), "--stage", stage, folder])

    for name in options.only.split(","):
        if name == "index":
            figures["birder, uris"] = own("build") | own("names")
            figures["birder, all columns"] = own("ask")
            figures["birder, 1 row in 250 by --where"] = own("where")
            figures["birder, threads"] = own("threads")
            figures["birder, grown"] = own("grow")
        elif name == "exact":
            figures["birder, exact"] = own("exact")
        elif name == "lancedb":
            figures["LanceDB IVF-RQ, uris"] = own("lancedb_build") | own("lancedb_ask")
        else:
            peer: list[str | Path] = [PEERS, ROOT / "benchmarks" / "search_theirs.py", name, folder]
            figures[NAMES[name]] = child([*peer, "build"]) | child([*peer, "ask"])
            (folder / f"{name}.index").unlink()
        kept.write_text(json.dumps(figures, indent=1))
    print(table(figures))


if __name__ == "__main__":
    main()
