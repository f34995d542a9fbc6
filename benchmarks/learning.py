"""How fast Birder learns and judges, and in how much memory, against the plain way to do the same.

    .venv/bin/python benchmarks/learning.py [--only adapt,knn]

Each part runs in a process of its own, which tells its peak memory, embeddings included; making the embeddings and
importing libraries is not timed. The embeddings are made (seed 0): a direction for each class, and noise. "Plain" is
scikit-learn as its documentation calls it; "published" is code that others have published. The published `birder`
package is run by the interpreter that BIRDER_PEERS names (default: .venv-peers). BioCLIP's few-shot code compares all
rows with all classes in one array: it is run where three times that array fits into the memory that is free.

Writes learning.json into the working folder (BIRDER_BENCH, or demo/bench), and prints the table that
benchmarks/RESULTS.md quotes.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import learning_adapt
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

ROOT = Path(__file__).parents[1]
PEERS = Path(os.environ.get("BIRDER_PEERS", ROOT / ".venv-peers" / "bin" / "python"))
WORK = Path(os.environ.get("BIRDER_BENCH", ROOT / "demo" / "bench"))

Vectors = npt.NDArray[np.float32]
Codes = npt.NDArray[np.int64]
Work = Callable[[], dict[str, Any]]
"""What is timed; the figures that it returns stand in learning.json."""


@dataclass(frozen=True)
class Way:
    """A way to do a part.

    Attributes
    ----------
    prepare
        Makes the data and imports what is needed; returns what is timed.
    peers
        Run by the peers' interpreter.
    needs_gb
        Left out where less memory is free.
    """

    prepare: Callable[[], Work]
    peers: bool = False
    needs_gb: float = 0


@dataclass(frozen=True)
class Part:
    """A part of this benchmark.

    Attributes
    ----------
    what
        What is done, for the table.
    must
        What must be reached.
    ours
        How Birder does it.
    others
        Other ways to do it, by name.
    """

    what: str
    must: str
    ours: Way
    others: Mapping[str, Way] = field(default_factory=dict)


def embeddings(rows: int, size: int, classes: int) -> tuple[Vectors, Codes]:
    """Embeddings (N, D) and the class of each, (N): as many rows of each class."""
    random = np.random.default_rng(0)
    codes = np.arange(rows) % classes
    vectors = random.standard_normal((rows, size), dtype=np.float32)
    vectors += random.standard_normal((classes, size), dtype=np.float32)[codes] / 2
    return vectors, codes


def few_shot_made() -> tuple[Vectors, Codes]:
    """12,000 embeddings of 512 numbers, 400 classes."""
    return embeddings(12_000, 512, 400)


def few_shot_ours() -> Work:
    """As `birder evaluate --protocol few-shot --as bioclip-v2`."""
    from birder.evaluation.few_shot import few_shot

    vectors, codes = few_shot_made()
    return lambda: {str(result.shots): result.accuracies for result in few_shot(vectors, codes, variant="bioclip-v2")}


def few_shot_folds() -> list[tuple[int, Codes, Codes]]:
    """The examples and the rows to name of each fold, as Birder draws them."""
    from birder.evaluation.few_shot import draw_folds

    return list(draw_folds(few_shot_made()[1], variant="bioclip-v2", groups=None))


def few_shot_plain() -> Work:
    """scikit-learn's nearest centroid, after the two scalings and the centring in NumPy."""
    from sklearn.neighbors import NearestCentroid

    vectors, codes = few_shot_made()
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    folds = few_shot_folds()

    def work() -> dict[str, Any]:
        accuracies: dict[str, list[float]] = {}
        for shots, examples, named in folds:
            centre = vectors[examples].mean(axis=0)
            learned, asked = vectors[examples] - centre, vectors[named] - centre
            learned /= np.linalg.norm(learned, axis=1, keepdims=True)
            asked /= np.linalg.norm(asked, axis=1, keepdims=True)
            found = NearestCentroid().fit(learned, codes[examples]).predict(asked)
            accuracies.setdefault(str(shots), []).append(float((found == codes[named]).mean()))
        return dict(accuracies)

    return work


def few_shot_one_array() -> Work:
    """All distances by one array (classes, rows, size), as BioCLIP's code makes it; a fold of ten."""
    vectors, codes = few_shot_made()
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    shots, examples, named = few_shot_folds()[0]

    def work() -> dict[str, Any]:
        centre = vectors[examples].mean(axis=0)
        learned, asked = vectors[examples] - centre, vectors[named] - centre
        learned /= np.linalg.norm(learned, axis=1, keepdims=True)
        asked /= np.linalg.norm(asked, axis=1, keepdims=True)
        means = learned.reshape(-1, shots, learned.shape[1]).mean(axis=1)
        distances = np.linalg.norm(means[:, None] - asked, axis=2)
        own = codes[examples][::shots]
        return {str(shots): float((own[distances.argmin(axis=0)] == codes[named]).mean())}

    return work


def few_shot_published() -> Work:
    """`birder.eval.methods.simpleshot` of the published package on unit-length vectors; it draws folds of its own."""
    from birder.eval.methods.simpleshot import (  # the published package's
        evaluate_simpleshot,
        sample_k_shot,
    )

    vectors, codes = few_shot_made()
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)

    def work() -> dict[str, Any]:
        accuracies: dict[str, list[float]] = {}
        for shots in (1, 5):
            for seed in range(5):
                learned, classes = sample_k_shot(vectors, codes, shots, np.random.default_rng(seed))
                found, _ = evaluate_simpleshot(learned, classes, vectors, codes)
                accuracies.setdefault(str(shots), []).append(float((found == codes).mean()))
        return dict(accuracies)

    return work


def knn_made() -> tuple[Vectors, Codes]:
    """100,000 embeddings of 768 numbers, 1,000 classes."""
    return embeddings(100_000, 768, 1_000)


def knn_ours() -> Work:
    """As `birder evaluate --protocol knn`, without the intervals."""
    from birder.evaluation.neighbours import leave_one_out, named_by_neighbours

    vectors, codes = knn_made()
    groups = np.arange(len(codes)) // 2

    def work() -> dict[str, Any]:
        found = leave_one_out(vectors, 24, groups=groups)
        return {str(k): float((named_by_neighbours(found, codes, k) == codes).mean()) for k in (1, 24)}

    return work


def knn_plain() -> Work:
    """scikit-learn's exact neighbours of unit-length vectors; no groups, and no votes."""
    from sklearn.neighbors import NearestNeighbors

    vectors, codes = knn_made()

    def work() -> dict[str, Any]:
        units = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        nearest = NearestNeighbors(n_neighbors=24, algorithm="brute").fit(units).kneighbors(return_distance=False)
        return {"1": float((codes[nearest[:, 0]] == codes).mean())}

    return work


def adapt(rows: int, size: int, classes: int, way: Callable[[Path], dict[str, Any]]) -> Callable[[], Work]:
    """`birder adapt` on a made collection, or another way to learn from it."""

    def prepare() -> Work:
        path = WORK / f"learning-{rows}-{size}-{classes}.birder"
        learning_adapt.make_collection(path, rows, size, classes)
        return lambda: way(path)

    return prepare


def bootstrap(way: Callable[[pa.Table], dict[str, Any]]) -> Callable[[], Work]:
    """Intervals of the predictions of 100,000 images of 1,000 classes."""

    def prepare() -> Work:
        path = WORK / "learning-predictions.parquet"
        if not path.exists():
            pq.write_table(learning_adapt.make_predictions(100_000, 1_000), path)
        predictions = pq.read_table(path)
        return lambda: way(predictions)

    return prepare


PARTS: dict[str, Part] = {
    "adapt": Part(
        "`adapt`, 2,936 x 1,280, 81 classes",
        "60 s",
        Way(adapt(2_936, 1_280, 81, learning_adapt.adapt_ours)),
        {
            "plain, one fit of 46": Way(
                adapt(2_936, 1_280, 81, functools.partial(learning_adapt.adapt_plain, iterations=1_000))
            )
        },
    ),
    "adapt-large": Part(
        "`adapt`, 100,000 x 768, 1,000 classes",
        "600 s, 3 GB",
        Way(adapt(100_000, 768, 1_000, learning_adapt.adapt_ours)),
        {
            "plain, ten iterations of one fit of 46": Way(
                adapt(100_000, 768, 1_000, functools.partial(learning_adapt.adapt_plain, iterations=10))
            )
        },
    ),
    "adapt-million": Part(
        "`adapt`, 1,000,000 x 768, 100 classes", "3 GB", Way(adapt(1_000_000, 768, 100, learning_adapt.adapt_ours)), {}
    ),
    "bootstrap": Part(
        "bootstrap, 100,000 rows, 1,000 resamples, all metrics",
        "10 s",
        Way(bootstrap(learning_adapt.bootstrap_ours)),
        {"plain, 10 resamples, four metrics": Way(bootstrap(learning_adapt.bootstrap_plain))},
    ),
    "few-shot": Part(
        "few-shot protocol, 12,000 x 512, 400 classes, k = 1 and 5, five folds",
        "5 s, 500 MB",
        Way(few_shot_ours),
        {
            "plain": Way(few_shot_plain),
            "published (birder.eval)": Way(few_shot_published, peers=True),
            "published (BioCLIP), one fold of ten": Way(few_shot_one_array, needs_gb=30),
        },
    ),
    "knn": Part(
        "exact leave-one-out neighbours, 100,000 x 768",
        "180 s, 2 GB",
        Way(knn_ours),
        {"plain": Way(knn_plain)},
    ),
}
"""All parts by name."""


def peak_mb() -> float:
    """The most memory that this process has had."""
    # getrusage would also count what the parent had before it started this process.
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def free_gb() -> float:
    """Memory that a process can have now."""
    status = Path("/proc/meminfo").read_text()
    return int(status.split("MemAvailable:")[1].split()[0]) / 2**20


def child(part: str, way: str, peers: bool) -> dict[str, Any]:
    """Do a part one way in a process of its own."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH" or not peers}
    command = [PEERS if peers else sys.executable, Path(__file__), "--stage", part, way]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        raise SystemExit(f"{part}, {way} failed:\n{done.stderr[-3000:]}")
    result: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    print(
        f"{part}, {way}: {result['seconds']:.1f} s, {result['peak_mb']:.0f} MB"
        f" ({result['processor_seconds']:.1f} s of processor time)",
        file=sys.stderr,
        flush=True,
    )
    return result


def stage(part: str, way: str) -> dict[str, Any]:
    """What a child does."""
    work = (PARTS[part].ours if way == "birder" else PARTS[part].others[way]).prepare()
    begun, used = time.perf_counter(), time.process_time()
    found = work()
    seconds, processor = time.perf_counter() - begun, time.process_time() - used
    return {"seconds": seconds, "processor_seconds": processor, "peak_mb": peak_mb(), "found": found}


def table(figures: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> str:
    """The figures as RESULTS.md has them."""
    lines = ["| | must reach | | time | peak memory | times Birder's |", "|---|---|---|---|---|---|"]
    for name, ways in figures.items():
        for way, found in ways.items():
            ours = way == "birder"
            ratio = "" if ours else f"{found['seconds'] / ways['birder']['seconds']:.1f}"
            lines.append(
                f"| {PARTS[name].what if ours else ''} | {PARTS[name].must if ours else ''} | {way} | "
                f"{found['seconds']:.1f} s | {found['peak_mb']:,.0f} MB | {ratio} |"
            )
    return "\n".join(lines)


def main() -> None:
    """Run what was asked for, keep and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(PARTS), help="parts, comma-separated (default: all)")
    parser.add_argument("--stage", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.stage:
        print(json.dumps(stage(*options.stage)))
        return
    WORK.mkdir(parents=True, exist_ok=True)
    kept = WORK / "learning.json"
    figures: dict[str, dict[str, Any]] = json.loads(kept.read_text()) if kept.exists() else {}
    for name in options.only.split(","):
        part = PARTS[name]
        figures[name] = {"birder": child(name, "birder", peers=False)}
        for way, how in part.others.items():
            if how.peers and not PEERS.exists():
                print(f"{name}, {way}: left out, {PEERS} does not exist (make peers)", file=sys.stderr)
            elif how.needs_gb > free_gb():
                print(f"{name}, {way}: left out, it needs {how.needs_gb} GB of memory", file=sys.stderr)
            else:
                figures[name][way] = child(name, way, how.peers)
        kept.write_text(json.dumps(figures, indent=1))
    print(table(figures))


if __name__ == "__main__":
    main()
