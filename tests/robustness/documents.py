"""Documents with a part that is not what it should be."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterator
from typing import Any


def changed(document: Any, values: tuple[Any, ...]) -> Iterator[Any]:
    """A document with each of its parts replaced by each of these values, one at a time."""

    def places(part: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
        yield path
        items = part.items() if isinstance(part, dict) else enumerate(part) if isinstance(part, list) else ()
        for key, value in items:
            yield from places(value, (*path, key))

    for path, value in itertools.product(places(document), values):
        if not path:
            yield value
            continue
        whole = copy.deepcopy(document)
        part = whole
        for key in path[:-1]:
            part = part[key]
        part[path[-1]] = value
        yield whole
