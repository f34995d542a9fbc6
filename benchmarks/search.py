"""How fast a large collection is searched, against faiss-cpu on the same vectors.

    .venv/bin/python benchmarks/search.py [--rows 1000000] [--queries 200] [--only index,flat,hnsw,ivf]

The vectors are made (seed 0) in the shape of real ones: 1,030 embeddings of BioCLIP 2 point 0.77 of their length in one
direction, and what is left has variances that fall as (i + 1)^-0.45 exp(-i / 130) over its principal axes. Here each
row is that direction, a species (one row in a hundred; 0.6 of the variance left) and an individual (0.4), with a
length of its own. Queries are further individuals, not among the rows. What is right is told by exact cosines of all
rows in NumPy.

Every contestant builds in one process and answers in another, which tells its peak memory; the first five queries of a
process are not timed. Writes search.json into the working folder (BIRDER_BENCH, or demo/bench), which also holds the
vectors and the collection: about 7 GB for a million rows of 768 numbers. faiss is run by the interpreter that
BIRDER_PEERS names; benchmarks/RESULTS.md quotes it.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lancedb
import numpy as np
import numpy.typing as npt
import pyarrow as pa

ROOT = Path(__file__).parents[1]
PEERS = Path(os.environ.get("BIRDER_PEERS", ROOT / ".venv-peers" / "bin" / "python"))
WORK = Path(os.environ.get("BIRDER_BENCH", ROOT / "demo" / "bench"))
K = 10
WARM = 5
AT_ONCE = 20_000
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


def make(folder: Path, rows: int, queries: int, size: int) -> None:
    """Vectors and queries as .npy, the ten rows that are right for each query, and a collection of the rows."""
    if (folder / "truth.npy").exists():
        return
    from birder.collection.storage import ModelCard, Storage

    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    kept = np.lib.format.open_memmap(folder / "vectors.npy", "w+", np.float32, (rows, size))
    start = 0
    for vectors in batches(rows, queries, size):
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


def arrow(vectors: Vectors, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    """The rows of a collection, in bulk; `width` is the number of the row, by which an answer is told."""
    for start in range(0, len(vectors), AT_ONCE):
        part = np.array(vectors[start : start + AT_ONCE])
        numbers = range(start, start + len(part))
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


def build(folder: Path) -> dict[str, float]:
    """Make the index."""
    from birder.collection.index import make_index
    from birder.collection.storage import Storage

    report = make_index(Storage.open(folder / "c.birder"), columns=("label",))
    return {"build_seconds": report.seconds, "build_peak_mb": peak_mb()}


def ask(folder: Path, exact: bool, where: str | None = None, columns: tuple[str, ...] = ()) -> dict[str, float]:
    """Search as `Collection.search(vectors=...)` does, from the query vector to the rows with all columns, or these."""
    from birder.collection.search import search
    from birder.collection.storage import Storage

    collection = Storage.open(folder / "c.birder")
    queries = np.load(folder / "queries.npy")
    truth = np.load(folder / "truth.npy")
    if exact:
        queries, truth = queries[: WARM + 15], truth[: WARM + 15]
    times, right = [], 0
    for number, (query, wanted) in enumerate(zip(queries, truth, strict=True)):
        begun = time.perf_counter()
        found = search(collection, vectors=[query], k=K, exact=exact, where=where, columns=columns)
        times += [time.perf_counter() - begun] if number >= WARM else []
        right += len(set(found.to_arrow()["width"].to_pylist()) & set(wanted.tolist()))
    result = {"median_ms": 1e3 * statistics.median(times), "p95_ms": 1e3 * float(np.quantile(times, 0.95))}
    if where is None:
        result["recall"] = right / truth.size
    return result | {"peak_mb": peak_mb()}


def peak_mb() -> float:
    """The most memory that this process has had."""
    # getrusage would also count what the parent had before it started this process.
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def child(command: list[str | Path]) -> dict[str, Any]:
    """Run a part of this in a process of its own; what it prints at last."""
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        raise SystemExit(f"{' '.join(map(str, command))} failed:\n{done.stderr[-3000:]}")
    result: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    print(command[2:4], result, file=sys.stderr, flush=True)
    return result


def table(figures: dict[str, dict[str, Any]]) -> str:
    """The figures as RESULTS.md has them."""
    lines = [
        "| | recall@10 | median | 95th percentile | build | peak memory, queries | peak memory, build |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, f in figures.items():
        recall = f"{f['recall']:.3f}" if "recall" in f else ""
        built = f"{f['build_seconds']:.0f} s" if "build_seconds" in f else ""
        build_peak = f"{f['build_peak_mb'] / 1000:.2f} GB" if "build_peak_mb" in f else ""
        peak = f"{f['peak_mb'] / 1000:.2f} GB"
        lines.append(
            f"| {name} | {recall} | {f['median_ms']:.1f} ms | {f['p95_ms']:.1f} ms | {built} | {peak} | {build_peak} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Make what is not there, run what was asked for, keep and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--size", type=int, default=768)
    parser.add_argument("--only", default="index,flat,hnsw,ivf", help="comma-separated; flat is Birder without index")
    parser.add_argument("--stage", choices=["build", "ask", "names", "flat", "where"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    folder = WORK / f"search-{options.rows}-{options.size}"
    if options.stage:
        stages = {
            "build": lambda: build(folder),
            "ask": lambda: ask(folder, exact=False),
            "names": lambda: ask(folder, exact=False, columns=("uri", "width")),
            "flat": lambda: ask(folder, exact=True),
            "where": lambda: ask(folder, exact=False, where="label IN ('label 7', 'label 8')"),
        }
        print(json.dumps(stages[options.stage]()))
        return
    make(folder, options.rows, options.queries + WARM, options.size)
    kept = folder / "search.json"
    figures: dict[str, dict[str, Any]] = json.loads(kept.read_text()) if kept.exists() else {}
    own: list[str | Path] = [sys.executable, Path(__file__), "--rows", str(options.rows), "--size", str(options.size)]
    for name in options.only.split(","):
        if name == "index":
            built = child([*own, "--stage", "build"])
            figures["birder index, uris"] = built | child([*own, "--stage", "names"])
            figures["birder index, all columns"] = child([*own, "--stage", "ask"])
            figures["birder index, 1 row in 250 by --where"] = child([*own, "--stage", "where"])
        elif name == "flat":
            figures["birder, exact"] = child([*own, "--stage", "flat"])
        else:
            peer: list[str | Path] = [PEERS, ROOT / "benchmarks" / "search_theirs.py", name, folder]
            figures[f"faiss {name}"] = child([*peer, "build"]) | child([*peer, "ask"])
        kept.write_text(json.dumps(figures, indent=1))
    print(table(figures))


if __name__ == "__main__":
    main()
