"""Filters that people keep under a name, for all who use the collection: `filters.json` beside the tables.

A filter is the SQL text that `where` takes everywhere, and the form in which the page shows it, which is not looked at
here. The file is replaced as a whole; of two processes that write at the same moment, the later one wins.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from birder.errors import CollectionError
from birder.files import replacing

FILE = "filters.json"
MOST = 200
"""How many filters a collection keeps."""


@dataclass(frozen=True)
class SavedFilter:
    """A filter with a name.

    Attributes
    ----------
    name
        As somebody called it.
    where
        The filter as SQL.
    shown
        The filter as the page shows it.
    """

    name: str
    where: str
    shown: tuple[dict[str, Any], ...] = ()


def read_filters(path: Path) -> list[SavedFilter]:
    """The filters of a collection's folder, by name.

    Raises
    ------
    CollectionError
        The file is damaged.
    """
    try:
        text = (path / FILE).read_text(encoding="utf-8")
    except FileNotFoundError:
        return []
    try:
        given = [SavedFilter(str(e["name"]), str(e["where"]), tuple(e["shown"])) for e in json.loads(text)["filters"]]
    except (ValueError, KeyError, TypeError) as error:
        raise CollectionError(f"{path / FILE} is damaged ({error}). Delete it; its filters are lost.") from error
    return sorted(given, key=lambda each: each.name)


def save_filter(path: Path, new: SavedFilter) -> list[SavedFilter]:
    """Keep a filter in place of one that has its name; gives all.

    Raises
    ------
    CollectionError
        There are too many, or the file is damaged.
    WriteError
        The file cannot be written.
    """
    others = [each for each in read_filters(path) if each.name != new.name]
    if len(others) >= MOST:
        raise CollectionError(f"A collection keeps {MOST} filters: remove one first.")
    return _write(path, [*others, new])


def remove_filter(path: Path, name: str) -> list[SavedFilter]:
    """Remove a filter, if it is there; gives those that remain.

    Raises
    ------
    CollectionError
        The file is damaged.
    WriteError
        The file cannot be written.
    """
    return _write(path, [each for each in read_filters(path) if each.name != name])


def _write(path: Path, filters: list[SavedFilter]) -> list[SavedFilter]:
    filters = sorted(filters, key=lambda each: each.name)
    text = json.dumps({"filters": [asdict(each) for each in filters]}, ensure_ascii=False, indent=1)
    with replacing(path / FILE) as draft:
        draft.write_text(text + "\n", encoding="utf-8")
    return filters
