"""faiss' and usearch's half of benchmarks/search.py, run by the interpreter that BIRDER_PEERS names.

    python search_theirs.py hnsw|ivf|usearch FOLDER build|ask

faiss holds the vectors themselves (float32, length 1, inner product): HNSW with 32 neighbours and 40 candidates while
building; IVF with the square root of the number of rows as lists. usearch holds them as float16, memory-mapped, with
its defaults (16 neighbours, 128 candidates while building). The search parameter is the smallest power of two that
reaches a recall of 0.98 on the first half of the queries. Prints one line of JSON. The numbers of what is found are all
that they give: no row is read, no filter applied.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

K = 10
WARM = 5
AT_ONCE = 20_000


def unit(vectors: Any) -> Any:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def build(which: str, folder: Path) -> dict[str, Any]:
    vectors = np.load(folder / "vectors.npy", mmap_mode="r")
    rows, size = vectors.shape
    file = str(folder / f"{which}.index")
    begun = time.perf_counter()
    if which == "usearch":
        from usearch.index import Index

        index = Index(ndim=size, metric="ip", dtype="f16", connectivity=16, expansion_add=128)
        for start in range(0, rows, AT_ONCE):
            block = unit(vectors[start : start + AT_ONCE])
            index.add(np.arange(start, start + len(block)), block)
        seconds = time.perf_counter() - begun
        index.save(file)
        return {"build_seconds": seconds, "build_peak_mb": not_files_mb()}
    import faiss

    if which == "hnsw":
        index = faiss.IndexHNSWFlat(size, 32, faiss.METRIC_INNER_PRODUCT)
        index.hnsw.efConstruction = 40
    else:
        lists = int(rows**0.5)
        index = faiss.IndexIVFFlat(faiss.IndexFlatIP(size), size, lists, faiss.METRIC_INNER_PRODUCT)
        sample = np.random.default_rng(1).permutation(rows)[: 64 * lists]
        index.train(unit(vectors[np.sort(sample)]))
    for start in range(0, rows, AT_ONCE):
        index.add(unit(vectors[start : start + AT_ONCE]))
    seconds = time.perf_counter() - begun
    memory = not_files_mb()
    faiss.write_index(index, file)
    return {"build_seconds": seconds, "build_peak_mb": memory}


def searcher(which: str, folder: Path) -> Callable[[Any, int], Any]:
    """What gives the numbers of the nearest rows of a query, with an effort."""
    file = str(folder / f"{which}.index")
    if which == "usearch":
        from usearch.index import Index

        opened = Index.restore(file, view=True)

        def by_usearch(query: Any, effort: int) -> Any:
            opened.expansion_search = effort
            return opened.search(query, K).keys

        return by_usearch
    import faiss

    index = faiss.read_index(file)

    def by_faiss(query: Any, effort: int) -> Any:
        if which == "hnsw":
            index.hnsw.efSearch = effort
        else:
            index.nprobe = effort
        return index.search(query[None], K)[1][0]

    return by_faiss


def ask(which: str, folder: Path) -> dict[str, Any]:
    find = searcher(which, folder)
    queries = unit(np.load(folder / "queries.npy"))
    truth = np.load(folder / "truth.npy")

    def run(effort: int, count: int) -> tuple[list[float], list[float], float]:
        times, cpu, right = [], [], 0
        for number in range(count):
            begun, used = time.perf_counter(), time.process_time()
            found = find(queries[number], effort)
            if number >= WARM:
                times.append(time.perf_counter() - begun)
                cpu.append(time.process_time() - used)
            right += len(set(found.tolist()) & set(truth[number].tolist()))
        return times, cpu, right / (count * K)

    effort = 8
    while run(effort, len(queries) // 2)[2] < 0.98 and effort < 4096:
        effort *= 2
    times, cpu, recall = run(effort, len(queries))
    return {
        "effort": effort,
        "median_ms": 1e3 * statistics.median(times),
        "p95_ms": 1e3 * float(np.quantile(times, 0.95)),
        "cpu_ms": 1e3 * statistics.mean(cpu),
        "recall": recall,
        "resident_mb": status_mb("VmRSS"),
        "not_files_mb": not_files_mb(),
    }


def not_files_mb() -> float:
    return status_mb("RssAnon")


def status_mb(name: str) -> float:
    status = Path("/proc/self/status").read_text()
    return int(status.split(name + ":")[1].split()[0]) / 1024


def main() -> None:
    which, folder, stage = sys.argv[1:]
    print(json.dumps({"build": build, "ask": ask}[stage](which, Path(folder))))


main()
