"""faiss' half of benchmarks/search.py, run by the interpreter that BIRDER_PEERS names.

    python search_theirs.py hnsw|ivf FOLDER build|ask

Both hold the vectors themselves (float32, length 1, inner product): HNSW with 32 neighbours and 40 candidates while
building; IVF with the square root of the number of rows as lists. The search parameter is the smallest power of two
that reaches a recall of 0.95 on the first half of the queries. Prints one line of JSON. The ids of what is found are
all it gives: no row is read, no condition applied.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import faiss
import numpy as np

K = 10
WARM = 5


def unit(vectors: Any) -> Any:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def build(which: str, folder: Path) -> dict[str, Any]:
    vectors = np.load(folder / "vectors.npy", mmap_mode="r")
    rows, size = vectors.shape
    begun = time.perf_counter()
    if which == "hnsw":
        index = faiss.IndexHNSWFlat(size, 32, faiss.METRIC_INNER_PRODUCT)
        index.hnsw.efConstruction = 40
    else:
        lists = int(rows**0.5)
        index = faiss.IndexIVFFlat(faiss.IndexFlatIP(size), size, lists, faiss.METRIC_INNER_PRODUCT)
        sample = np.random.default_rng(1).permutation(rows)[: 64 * lists]
        index.train(unit(vectors[np.sort(sample)]))
    for start in range(0, rows, 20_000):
        index.add(unit(vectors[start : start + 20_000]))
    seconds = time.perf_counter() - begun
    faiss.write_index(index, str(folder / f"faiss-{which}.index"))
    return {"build_seconds": seconds, "build_peak_mb": peak_mb()}


def ask(which: str, folder: Path) -> dict[str, Any]:
    index = faiss.read_index(str(folder / f"faiss-{which}.index"))
    queries = unit(np.load(folder / "queries.npy"))
    truth = np.load(folder / "truth.npy")

    def run(effort: int, count: int) -> tuple[list[float], float]:
        if which == "hnsw":
            index.hnsw.efSearch = effort
        else:
            index.nprobe = effort
        times, right = [], 0
        for number in range(count):
            begun = time.perf_counter()
            _, found = index.search(queries[number : number + 1], K)
            times += [time.perf_counter() - begun] if number >= WARM else []
            right += len(set(found[0].tolist()) & set(truth[number].tolist()))
        return times, right / (count * K)

    effort = 8
    while run(effort, len(queries) // 2)[1] < 0.95 and effort < 4096:
        effort *= 2
    times, recall = run(effort, len(queries))
    return {
        "effort": effort,
        "median_ms": 1e3 * statistics.median(times),
        "p95_ms": 1e3 * float(np.quantile(times, 0.95)),
        "recall": recall,
        "peak_mb": peak_mb(),
    }


def peak_mb() -> float:
    # getrusage would also count what the parent had before it started this process.
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def main() -> None:
    which, folder, stage = sys.argv[1:]
    print(json.dumps({"build": build, "ask": ask}[stage](which, Path(folder))))


main()
