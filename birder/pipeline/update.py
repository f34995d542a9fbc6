"""Updates columns of existing rows to what a later run's table says; nothing is embedded again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from birder.collection.schema import LABEL_SOURCE
from birder.collection.storage import Storage
from birder.sources import Source


def update_columns(collection: Storage, sources: Sequence[Source]) -> int:
    """Write the columns of sources into their rows, in one commit; within `writing`, after `add_columns`.

    Values that a source does not have stay as they are in the row, and so do labels given by a person.

    Returns
    -------
    How many rows changed.
    """
    types = collection.columns
    wanted = {source.uri: source.columns for source in sources}
    names = list(dict.fromkeys(name for columns in wanted.values() for name in columns))
    if not names:
        return 0
    if "label" in names:
        names.append(LABEL_SOURCE)
    uris: list[str] = []
    changed: dict[str, list[Any]] = {name: [] for name in names}
    for batch in collection.scan(["id", "uri", *names]):
        found = [row for row in batch.to_pylist() if row["uri"] in wanted]
        words = collection.journal.words([row["id"] for row in found], names)
        for row in found:
            given = {name: value for name, value in wanted[row["uri"]].items() if value is not None}
            said = words.get(row["id"], {})
            given |= {LABEL_SOURCE: "table"} if "label" in given and "label" not in said else {}
            given |= said
            if all(row[name] == value for name, value in given.items()):
                continue
            uris.append(row["uri"])
            for name in names:
                changed[name].append(given.get(name, row[name]))
    if uris:
        arrays = {name: pa.array(values, types[name]) for name, values in changed.items()}
        collection.update(pa.table({"uri": pa.array(uris, pa.string()), **arrays}))
    return len(uris)
