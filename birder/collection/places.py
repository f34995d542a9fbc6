"""Where the images of a collection are: the folders that were embedded (roots), and how rows were moved between places.

Both are in `places.json` beside the tables. A place is the beginning of a uri: `file:///data/photos`, `s3://bucket/2024`.
The id of a row stays what it was when its file was first embedded, wherever its file goes, so that everything keyed by
ids (labels, the map, links) stays valid; `original_id` finds it again for a row that comes back.
"""

from __future__ import annotations

import json
import os
import re
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote_from_bytes, unquote_to_bytes

from birder.errors import CollectionError
from birder.files import replacing
from birder.sources import path_to_uri, windows_path_to_uri

FILE = "places.json"
_WINDOWS_PATH = re.compile(r"[A-Za-z]:[\\/]|[A-Za-z]:$|\\\\")
_DRIVE = re.compile(rb"/?[A-Za-z]:")


@dataclass(frozen=True)
class Move:
    """Rows that got other uris.

    Attributes
    ----------
    act, at, by
        Its id, the time (ISO 8601, UTC), and the name of its author, if given.
    old, new
        The places: beginnings of uris.
    rows
        How many rows.
    undoes
        The act that this one undid; None for a relocation.
    version, failures_version
        Versions of the tables of rows and failures before the move; later versions include it.
    there, stays
        Uris under `new` that rows had before, and under `old` of rows that do not take part.
    irregular
        New uri -> old uri, of those that `old` and `new` alone do not lead to, such as D:/A for d:/a.
    failures
        Old uri -> new uri of failures, until it is finished.
    """

    act: str
    at: str
    by: str | None
    old: str
    new: str
    rows: int
    version: int
    failures_version: int
    undoes: str | None = None
    there: frozenset[str] = frozenset()
    stays: frozenset[str] = frozenset()
    irregular: dict[str, str] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Places:
    """The roots, the moves in the order in which they were made, and one that is not finished."""

    roots: tuple[str, ...] = ()
    moves: tuple[Move, ...] = ()
    pending: Move | None = None

    def relative(self, uri: str) -> tuple[str, str] | None:
        """The root of a row, the deepest that it is under, and its path below that; None if it is under none."""
        found = [(root, rest) for root in self.roots if (rest := below(uri, root)) is not None]
        return min(found, key=lambda pair: len(pair[1])) if found else None

    def original_id(self, uri: str) -> str:
        """The id of a row of this uri: derived from the uri under which its file was first embedded."""
        for number in range(len(self.moves), 0, -1):
            move = self.moves[number - 1]
            if uri in move.there or uri in move.stays:
                continue
            if below(uri, move.new) is not None:
                uri = move.irregular.get(uri) or moved(uri, move.new, move.old)
            elif below(uri, move.old) is not None:
                return str(uuid.uuid5(uuid.NAMESPACE_URL, f"{uri}\n{number}"))  # this id moved away
        return str(uuid.uuid5(uuid.NAMESPACE_URL, uri))


def read_places(path: Path) -> Places:
    """The places of the collection in a folder; empty for one without any.

    Raises
    ------
    CollectionError
        The file is damaged.
    """
    try:
        stored = json.loads((path / FILE).read_bytes())
        pending = stored["pending"]
        moves = tuple(map(_move, stored["moves"]))
        return Places(tuple(stored["roots"]), moves, None if pending is None else _move(pending))
    except FileNotFoundError:
        return Places()
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CollectionError(
            f"{path / FILE} cannot be read ({error}). Restore it from a copy; without it, ids of moved rows are lost."
        ) from error


def write_places(path: Path, places: Places) -> None:
    """Replace the places of a collection, atomically and durably; within `writing` only."""
    with replacing(path / FILE, durable=True) as draft:
        draft.write_text(json.dumps(asdict(places), default=sorted), encoding="utf-8")


def with_roots(places: Places, paths: Iterable[str | Path]) -> Places:
    """Places with the folders among some paths as roots."""
    folders = [place_of(path) for path in paths if Path(path).is_dir()]
    return replace(places, roots=tuple(dict.fromkeys([*places.roots, *folders])))


def place_of(path: str | Path) -> str:
    r"""The place that a path, file:// uri or URL names; Windows paths are understood on any system.

    `D:\photos` is `file:///D:/photos`, `\\server\share` is `file://server/share`.
    """
    text = os.fspath(path)
    if "://" in text:
        return text.rstrip("/")
    if _WINDOWS_PATH.match(text):
        return windows_path_to_uri(f"{text}\\").rstrip("/")
    return path_to_uri(text).rstrip("/")


def below(uri: str, place: str) -> str | None:
    """The part of a uri below a place, without a leading /; None if it is not under the place.

    A fragment (`#`, of a shard's part or a box) stays behind it. Drive letters and what follows them are compared
    without regard to upper and lower case, and percent-encoded characters by what they encode.
    """
    whole, separator, fragment = uri.partition("#")
    if whole.startswith(f"{place}/"):  # for nearly all
        return whole[len(place) + 1 :] + separator + fragment
    kind, parts = _parts(whole)
    place_kind, place_parts = _parts(place)
    if kind != place_kind or [_key(part, kind) for part in parts[: len(place_parts)]] != [
        _key(part, kind) for part in place_parts
    ]:
        return None
    return "/".join(parts[len(place_parts) :]) + separator + fragment


def moved(uri: str, old: str, new: str) -> str:
    """The uri that a row has after its file went from one place to another; the row is under `old`."""
    rest = below(uri, old)
    assert rest is not None
    return new + rest if not rest or rest.startswith("#") else f"{new}/{rest}"


def _move(stored: dict[str, Any]) -> Move:
    return Move(**stored | {name: frozenset(stored[name]) for name in ("there", "stays")})


def _parts(uri: str) -> tuple[str, Sequence[str]]:
    """What kind of uri it is (a URL's scheme, "posix" or "windows"), and its parts, percent-encoded."""
    scheme, _, rest = uri.partition("://")
    if scheme != "file":
        return scheme, rest.split("/")
    if (raw := unquote_to_bytes(rest[:12])) and _DRIVE.match(raw):
        path = unquote_to_bytes(rest).lstrip(b"/").replace(b"\\", b"/")
        return "windows", [quote_from_bytes(part, safe=":") for part in path.split(b"/")]
    return ("posix", rest[1:].split("/")) if rest.startswith("/") else ("windows", rest.split("/"))


def _key(part: str, kind: str) -> Any:
    raw = unquote_to_bytes(part)
    return raw.decode("utf-8", "surrogateescape").casefold() if kind == "windows" else raw
