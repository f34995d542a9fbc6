"""How soon the page's Teach view has new suggestions after a label, at 20,000 images.

    .venv/bin/python benchmarks/teach.py

The rows are made (seed 0) as benchmarks/learning_adapt.py makes them: 20,000 embeddings of 768 numbers, 40 classes.
Some are labelled over HTTP; then one more label is given and the suggestions are asked for, five times. Written for
each number of labels: the median time of that request, and the processor time that the server took for it, which says
on a busy machine what a quiet one needs.
"""

from __future__ import annotations

import os
import statistics
import time
from pathlib import Path
from typing import Any

import learning_adapt
from fastapi.testclient import TestClient

ROOT = Path(__file__).parents[1]
WORK = Path(os.environ.get("BIRDER_BENCH", ROOT / "demo" / "bench"))
ROWS, SIZE, CLASSES = 20_000, 768, 40
LABELLED = (200, 800, 5_000, 15_000)
REPEATS = 5
COLUMN = "taught"


def main() -> None:
    """Measure, and print a table."""
    from birder.server.app import create_app

    path = WORK / f"teach-{ROWS}-{SIZE}-{CLASSES}.birder"
    WORK.mkdir(parents=True, exist_ok=True)
    learning_adapt.make_collection(path, ROWS, SIZE, CLASSES)
    with TestClient(create_app(path), base_url="http://127.0.0.1/api/v1/") as client:
        truth = _truth(client)
        open_ = sorted(truth, key=lambda id_: (int(id_, 16) * 7919) % ROWS)
        _give(client, open_, None)
        print("| labels | median time | processor time | slowest |\n|---|---|---|---|")
        given = 0
        for labels in LABELLED:
            _give(client, open_[given:labels], truth)
            given = labels
            client.get("suggest", params={"column": COLUMN, "limit": 200}).raise_for_status()
            times, taken = [], []
            for _ in range(REPEATS):
                _give(client, open_[given : given + 1], truth)
                given += 1
                start, used = time.perf_counter(), time.process_time()
                client.get("suggest", params={"column": COLUMN, "limit": 200}).raise_for_status()
                times.append(time.perf_counter() - start)
                taken.append(time.process_time() - used)
            print(
                f"| {labels:,} | {statistics.median(times):.2f} s | {statistics.median(taken):.2f} s | "
                f"{max(times):.2f} s |"
            )


def _truth(client: TestClient) -> dict[str, str]:
    """The class of each row by its id."""
    found: dict[str, str] = {}
    for offset in range(0, ROWS, 1_000):
        photos = client.get("photos", params={"offset": offset, "limit": 1_000}).raise_for_status().json()["photos"]
        found |= {photo["id"]: photo["label"] for photo in photos}
    return found


def _give(client: TestClient, ids: list[str], truth: dict[str, str] | None) -> None:
    """Label rows by their class, or take their labels back."""
    values: dict[str | None, list[str]] = {}
    for id_ in ids:
        values.setdefault(None if truth is None else truth[id_], []).append(id_)
    changes: list[dict[str, Any]] = [
        {"ids": some, "column": COLUMN, "value": value} for value, some in values.items() if some
    ]
    client.post("labels", json={"changes": changes}).raise_for_status()


if __name__ == "__main__":
    main()
