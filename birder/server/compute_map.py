"""`python -m birder.server.compute_map DIR`: compute a collection's map in a process of its own.

UMAP's loops are compiled code that lets no other thread of its process run: in the server's own process the page would
stand still for minutes. Progress goes to standard output, a JSON object a line; the last has `error` if it failed.
"""

from __future__ import annotations

import json
import sys

from birder.collection.store import Collection
from birder.errors import BirderError


def main(folder: str) -> int:
    """Compute the map of a collection and tell how far that is; the exit code."""
    from birder.explore.projection import compute_map

    def tell(stage: str, done: float) -> None:
        print(json.dumps({"stage": stage, "progress": done}), flush=True)

    try:
        compute_map(Collection.open(folder), progress=tell)
    except BirderError as error:
        print(json.dumps({"error": str(error)}), flush=True)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
