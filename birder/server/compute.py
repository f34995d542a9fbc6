"""`python -m birder.server.compute '["WHAT", "DIR", ...]'`: run long computations in a separate process.

UMAP's loops are compiled code that lets no other thread of its process run, and comparing all images with each other
takes memory: in the server's own process the page would freeze. Progress goes to standard output, a JSON object a line;
the last has `error` if it failed, or `result`.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Callable
from typing import Any

from birder.collection.storage import Storage
from birder.errors import BirderError


def main(what: str, folder: str, *arguments: str) -> int:
    """Compute what `_COMPUTED` names, with its arguments; returns the exit code."""
    try:
        _COMPUTED[what](Storage.open(folder), *arguments)
    except BirderError as error:
        _report(error=str(error))
        return 1
    return 0


def _report(**what: Any) -> None:
    print(json.dumps(what), flush=True)


def _stage(stage: str, done: float) -> None:
    _report(stage=stage, progress=done)


def _map(collection: Storage) -> None:
    from birder.analysis.projection import compute_map

    compute_map(collection, progress=_stage)


def _duplicates(collection: Storage, threshold: str, where: str) -> None:
    from birder.analysis.duplicates import find_duplicates

    def report(done: float) -> None:
        _stage("comparing the images with each other", done)

    groups, by_graph = find_duplicates(collection, threshold=float(threshold), where=where or None, progress=report)
    reported = [[group.kind, [[photo.id, photo.similarity] for photo in group.photos]] for group in groups]
    _report(result={"groups": reported, "by_graph": by_graph})


def _lesson(collection: Storage, column: str) -> None:
    from birder.learning.lesson import lesson

    found = lesson(collection, column, progress=_stage)
    _report(result={**dataclasses.asdict(found), "note": found.note})


def _classifier(collection: Storage, column: str, file: str, network: str) -> None:
    from birder.learning.lesson import learn

    adapted = learn(collection, column, progress=lambda stage, done: _stage(stage, 0.9 * done))
    _stage("writing the file", 0.9)
    written = adapted.save(file, detached=network == "no")
    top1 = adapted.metrics["top1"]
    note = f"{len(adapted.classes):,} classes, right for {top1['estimate']:.0%} of {top1['n']:,} held-out images."
    _report(result={"file": written.name, "bytes": written.stat().st_size, "note": note})


def _names(collection: Storage, column: str, precision: str, unknown: str, where: str) -> None:
    from birder.learning.name_rest import name_rest

    found = name_rest(
        collection,
        column,
        precision=float(precision) if precision else None,
        unknown=unknown == "yes",
        where=where or None,
        progress=_stage,
    )
    _report(result={"note": found.note})


_COMPUTED: dict[str, Callable[..., None]] = {
    "map": _map,
    "duplicates": _duplicates,
    "lesson": _lesson,
    "classifier": _classifier,
    "names": _names,
}
"""What there is to compute. After the collection: duplicates THRESHOLD WHERE; lesson COLUMN; classifier COLUMN FILE
NETWORK; names COLUMN PRECISION UNKNOWN WHERE. "" is none, and NETWORK and UNKNOWN are yes or no."""


if __name__ == "__main__":
    sys.exit(main(*json.loads(sys.argv[1])))
