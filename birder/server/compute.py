"""`python -m birder.server.compute WHAT DIR ...`: run long computations in a separate process.

UMAP's loops are compiled code that lets no other thread of its process run, and comparing all images with each other
takes memory: in the server's own process the page would freeze. Progress goes to standard output, a JSON object a line;
the last has `error` if it failed, or `result`.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from birder.collection.storage import Storage
from birder.errors import BirderError


def main(what: str, folder: str, *arguments: str) -> int:
    """Compute a map, duplicates with a threshold, or the accuracy of label help; returns the exit code."""
    try:
        if what == "map":
            _map(Storage.open(folder))
        elif what == "accuracy":
            _accuracy(Storage.open(folder), arguments[0])
        else:
            _duplicates(Storage.open(folder), float(arguments[0]), arguments[1] or None)
    except BirderError as error:
        _report(error=str(error))
        return 1
    return 0


def _report(**what: Any) -> None:
    print(json.dumps(what), flush=True)


def _map(collection: Storage) -> None:
    from birder.analysis.projection import compute_map

    compute_map(collection, progress=lambda stage, done: _report(stage=stage, progress=done))


def _duplicates(collection: Storage, threshold: float, where: str | None) -> None:
    from birder.analysis.duplicates import find_duplicates

    def report(done: float) -> None:
        _report(stage="comparing the images with each other", progress=done)

    groups, by_graph = find_duplicates(collection, threshold=threshold, where=where, progress=report)
    reported = [[group.kind, [[photo.id, photo.similarity] for photo in group.photos]] for group in groups]
    _report(result={"groups": reported, "by_graph": by_graph})


def _accuracy(collection: Storage, column: str) -> None:
    from birder.learning.label_accuracy import measure

    measured = measure(collection, column)
    _report(result={"accuracy": measured.accuracy.as_dict(), "note": measured.note, "how": " ".join(measured.how)})


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
