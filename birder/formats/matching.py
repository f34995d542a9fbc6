"""Which rows of a collection a file by others speaks of: its paths may begin elsewhere than those on this machine."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from itertools import takewhile
from pathlib import Path

from birder.collection.storage import Storage
from birder.errors import BirderError, ConfigError
from birder.formats.snapshot import Snapshot
from birder.sources import uri_to_path

_COMPARED = 1000  # paths, to find out where they begin
_Parts = tuple[str, ...]


def match_paths(collection: Storage, paths: Sequence[str], file: Path) -> dict[str, list[str]]:
    """The uris of the rows of each path; a path that no row has is left out.

    A path fits as it is, or from the folder of the file that names it. Else all paths are taken to begin at one other
    place: that at which most of the first thousand fit, by their last parts.

    Parameters
    ----------
    paths
        As `file` has them, with slashes of either kind.

    Raises
    ------
    ConfigError
        None fits, or there are two places at which equally many do.
    """
    rows: dict[_Parts, list[str]] = defaultdict(list)
    for table in Snapshot(collection).batches(["uri"]):
        for uri in table["uri"].to_pylist():
            rows[_parts(_place(uri))].append(uri)
    given = {path: _parts(path) for path in paths}
    here = _parts(str(file.absolute().parent))
    places = [((), here), ((), ())]
    fitting = [place for place in places if any(_moved(parts, place) in rows for parts in given.values())]
    place = fitting[0] if fitting else _common_place(list(given.values()), list(rows), file)
    found = {path: rows.get(_moved(parts, place)) for path, parts in given.items()}
    return {path: uris for path, uris in found.items() if uris is not None}


def _parts(path: str) -> _Parts:
    return tuple(part for part in path.replace("\\", "/").split("/") if part not in ("", "."))


def _place(uri: str) -> str:
    try:
        return uri_to_path(uri)
    except BirderError:
        return uri.partition("#")[0]


def _moved(parts: _Parts, place: tuple[_Parts, _Parts]) -> _Parts:
    begin, instead = place
    return (*instead, *parts[len(begin) :]) if parts[: len(begin)] == begin else ()


def _common_place(given: list[_Parts], rows: list[_Parts], file: Path) -> tuple[_Parts, _Parts]:
    """What paths begin with there, and here."""
    by_name: dict[str, list[_Parts]] = defaultdict(list)
    for row in rows:
        if row:
            by_name[row[-1]].append(row)
    places: Counter[tuple[_Parts, _Parts]] = Counter()
    compared = 0
    for parts in given:
        here = by_name.get(parts[-1], []) if parts else []
        compared += bool(here)
        for row in here:
            same = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(parts[::-1], row[::-1], strict=False)))
            places[parts[: len(parts) - same], row[: len(row) - same]] += 1
        if compared >= _COMPARED:
            break
    best = places.most_common(2)
    if not best:
        raise ConfigError(
            f"None of the photographs in {file} is in the collection: name the collection that they are in."
        )
    if len(best) == 2 and best[0][1] == best[1][1]:
        folders = " or ".join("/" + "/".join(here) for (_, here), _ in best)
        raise ConfigError(f"The photographs in {file} could be those in {folders}: put the file into their folder.")
    return best[0][0]
