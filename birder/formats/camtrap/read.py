"""Camtrap DP data packages (version 1) as sources of images, with what their tables tell about each."""

from __future__ import annotations

import csv
import os
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa

from birder.collection.predictions import AT, BY, LABEL, PREFIX, SCORE
from birder.collection.schema import TIME
from birder.errors import ConfigError
from birder.sources.columns import as_number, without_odd_places
from birder.sources.lines import csv_lines
from birder.sources.manifest import parent, resolve
from birder.sources.read import read_json
from birder.sources.source import Source, TableRow, is_url
from birder.sources.video import VideoShard, is_video
from birder.taxonomy import RANKS, Rank

_MEDIA = ("mediaID", "captureMethod", "fileName")
_DEPLOYMENT = ("locationID", "locationName", "cameraID", "cameraModel", "habitat")
_OBSERVATION = ("eventID", "observationType", "lifeStage", "sex", "behavior")
_FLOATS = ("latitude", "longitude")
_DATES = ("deploymentStart", "deploymentEnd")
_Line = dict[str, str]
DESCRIPTION = "datapackage.json"
"""The file that makes a folder a package."""


def is_package(folder: Path) -> bool:
    """Whether a folder is a Camtrap DP data package: its datapackage.json says so, or lists the three tables of one.

    Raises
    ------
    ConfigError
        It has a datapackage.json that cannot be read, so the kind of the folder cannot be determined.
    """
    path = folder / DESCRIPTION
    if not os.path.lexists(path):
        return False
    try:
        package = read_json(str(path))
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"Cannot read the data package {path}: {error}. Repair it; or move it elsewhere, to embed the images "
            "of the folder without the package's metadata."
        ) from error
    if not isinstance(package, dict):
        return False
    resources = package.get("resources")
    names = (
        {str(each.get("name")) for each in resources if isinstance(each, dict)} if isinstance(resources, list) else {}
    )
    return {"deployments", "media", "observations"} <= set(names) or "camtrap-dp" in str(package.get("profile"))


def read_images(path: str) -> Iterator[Source]:
    """The images of a data package, with columns from its tables.

    Observations of the medium itself count; if it has none, those of the events that it falls into, unless other media
    of the event have some: then what the event tells is told of these. If all of them agree on the scientific name, it
    becomes the label, and the ranks that are known of it are filled; of several names, `scientificName` has all, joined
    by " | ", and the label is null. Other columns have a value if the observations agree on it. What a machine observed
    becomes the prediction. `taken_at`, `deploymentStart` and `deploymentEnd` are local time without a zone, as EXIF has
    it. Frames of a video have what was observed in their second, if any observation of it begins later than it; else,
    what was observed of it.

    Parameters
    ----------
    path
        Of datapackage.json, or its URL.

    Raises
    ------
    ConfigError
        The package or one of its tables cannot be read.
    """
    package = _read_package(path)
    media = _read_resource(package, "media", path)
    deployments = {line.get("deploymentID", ""): line for line in _read_resource(package, "deployments", path)}
    ranks = _known_ranks(package)
    of_media: dict[str, list[_Line]] = defaultdict(list)
    of_events: dict[str, list[_Line]] = defaultdict(list)
    told: set[tuple[str, str]] = set()
    machines = False
    for line in _read_resource(package, "observations", path):
        place = line.get("deploymentID", "")
        machines |= _is_by_machine(line)
        if line.get("mediaID"):
            of_media[line["mediaID"]].append(line)
            if _tells(line) and line.get("eventID"):
                told.add((place, line["eventID"]))
        else:
            of_events[place].append(line)
    for events in of_events.values():
        events.sort(key=lambda line: line.get("eventStart", ""))
    rows: list[dict[str, Any]] = []
    frames: list[dict[str, Any]] = []
    of_frames: dict[int, dict[int, int]] = defaultdict(dict)
    for line in media:
        moment = time_of(line.get("timestamp"))
        place = line.get("deploymentID", "")
        observed = of_media.get(line.get("mediaID", ""), [])
        events = [] if any(map(_tells, observed)) else covering(of_events.get(place, ()), moment)
        whole = [event for event in events if (place, event.get("eventID", "")) not in told]
        deployment = deployments.get(line.get("deploymentID", ""), {})
        row: dict[str, Any] = {name: line.get(name) or None for name in _MEDIA}
        row["deployment"] = line.get("deploymentID") or None
        row |= {name: deployment.get(name) or None for name in _DEPLOYMENT}
        row |= {name: as_number(deployment.get(name)) for name in _FLOATS}
        row |= {name: _local(time_of(deployment.get(name))) for name in _DATES}
        row["taken_at"] = _local(moment)
        row |= {"eventID": _agreed(event.get("eventID", "") for event in events)} if events else {}
        seconds = _by_second(observed, moment) if line.get("fileMediatype", "").startswith("video/") else {}
        for second, lines in seconds.items():
            of_frames[len(rows)][second] = len(frames)
            frames.append(_observed(lines, ranks))
        rows.append(row | ({} if seconds else _observed([*filter(_tells, observed)] or whole or observed, ranks)))
    types = _TYPES | (_PREDICTED if machines else {})
    table = without_odd_places(_table(rows, types), path)
    told = _table(frames, types)
    folder = parent(path)
    for number, line in enumerate(media):
        place, problem = resolve(line.get("filePath", ""), folder, inside=True)
        if not line.get("filePath"):
            raise ConfigError(f"{path}: the medium {line.get('mediaID')} has no filePath. Repair its media table.")
        kind = line.get("fileMediatype", "image/")
        if not kind.startswith("image/") and not (kind.startswith("video/") and is_video(place)):
            problem = problem or f"it is {line['fileMediatype'][:100]}, not an image"
        source = Source(place, columns=TableRow(table, number), problem=problem)
        if number in of_frames and problem is None and not is_url(place):
            of_frame = {second: TableRow(told, row) for second, row in of_frames[number].items()}
            source.members = VideoShard(place, told=of_frame)
        yield source


_TYPES: dict[str, pa.DataType] = (
    dict.fromkeys(("label", "deployment", *_MEDIA, *_DEPLOYMENT, *_OBSERVATION, "scientificName", *RANKS), pa.string())
    | dict.fromkeys(_FLOATS, pa.float64())
    | dict.fromkeys(("taken_at", *_DATES), pa.timestamp("us"))
    | {"count": pa.int64()}
)


_PREDICTED: dict[str, pa.DataType] = dict.fromkeys((LABEL, *(PREFIX + rank for rank in RANKS), BY), pa.string()) | {
    SCORE: pa.float32(),
    AT: TIME,
}


def _table(rows: list[dict[str, Any]], types: dict[str, pa.DataType]) -> pa.Table:
    return pa.table({name: pa.array([row.get(name) for row in rows], type_) for name, type_ in types.items()})


def _read_package(path: str) -> dict[str, Any]:
    try:
        package = read_json(path)
    except (OSError, ValueError) as error:
        raise ConfigError(f"Cannot read the data package {path}: {error}") from error
    if not isinstance(package, dict) or not isinstance(package.get("resources"), list):
        raise ConfigError(f"{path} is not a data package: it lists no resources.")
    return package


def _read_resource(package: dict[str, Any], name: str, path: str) -> list[_Line]:
    """The lines of a table, each as a dictionary of texts."""
    resource = next((r for r in package["resources"] if isinstance(r, dict) and r.get("name") == name), {})
    files = resource.get("path")
    if not files:
        raise ConfigError(f"{path} names no table {name}: it is not a Camtrap DP package.")
    files = [files] if isinstance(files, str) else files
    if not isinstance(files, list) or not all(isinstance(file, str) for file in files):
        raise ConfigError(f"{path}: the path of the table {name} is neither a file nor a list of files.")
    lines: list[_Line] = []
    for file in files:
        place, problem = resolve(file, parent(path), inside=True)
        try:
            if problem is not None:
                raise OSError(problem)
            table = csv_lines(place)
            header = next(table, [])
            # a line may be shorter than the header, or longer
            lines += (dict.fromkeys(header, "") | dict(zip(header, line, strict=False)) for line in table)
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            raise ConfigError(f"Cannot read the table {name} of the data package, {place}: {error}") from error
    return lines


def _known_ranks(package: dict[str, Any]) -> dict[str, dict[str, str]]:
    """Scientific name -> rank -> name, as far as the package's `taxonomic` has it."""
    known: dict[str, dict[str, str]] = {}
    taxa = package.get("taxonomic")
    for taxon in taxa if isinstance(taxa, list) else ():
        name = taxon.get("scientificName") if isinstance(taxon, dict) else None
        if not isinstance(name, str):
            continue
        known[name] = {rank: taxon[rank] for rank in RANKS if isinstance(taxon.get(rank), str)}
        if taxon.get("taxonRank") in RANKS:
            known[name][taxon["taxonRank"]] = name
        if taxon.get("taxonRank") == Rank.species and " " in name:
            known[name].setdefault("genus", name.split()[0])
    return known


def _by_second(observations: list[_Line], begun: datetime | None) -> dict[int, list[_Line]]:
    """The observations of a video by the second of it that they are of; none if they are of all of it."""
    found: dict[int, list[_Line]] = defaultdict(list)
    for line in filter(_tells, observations):
        start, end = time_of(line.get("eventStart")), time_of(line.get("eventEnd"))
        if begun is None or start is None or start != end:
            return {}
        found[int((_utc(start) - _utc(begun)).total_seconds())].append(line)
    return found if any(found) else {}


def covering(events: Iterable[_Line], moment: datetime | None) -> list[_Line]:
    """The observations of events that a moment falls into."""
    if moment is None:
        return []
    found = []
    for line in events:
        start, end = time_of(line.get("eventStart")), time_of(line.get("eventEnd"))
        if start is not None and end is not None and _utc(start) <= _utc(moment) <= _utc(end):
            found.append(line)
    return found


def _tells(line: _Line) -> bool:
    """Whether an observation says more than that there is something."""
    return line.get("observationType") != "unclassified"


def _is_by_machine(line: _Line) -> bool:
    return line.get("classificationMethod") == "machine"


def _observed(observations: list[_Line], ranks: dict[str, dict[str, str]]) -> dict[str, Any]:
    """The columns that the observations of one medium give together."""
    by_machine = [line for line in observations if _is_by_machine(line)]
    observations = [line for line in observations if not _is_by_machine(line)]
    predicted = _predicted(by_machine, ranks) if by_machine else {}
    if by_machine and not observations:
        return {"eventID": _agreed(line.get("eventID", "") for line in by_machine), **predicted}
    names = sorted({line["scientificName"] for line in observations if line.get("scientificName")})
    row: dict[str, Any] = {name: _agreed(line.get(name, "") for line in observations) for name in _OBSERVATION}
    row["scientificName"] = " | ".join(names) or None
    counts = [int(line["count"]) for line in observations if re.fullmatch(r"\d{1,9}", line.get("count", ""))]
    row["count"] = sum(counts) if counts else None
    if len(names) == 1:
        row |= {"label": names[0], **ranks.get(names[0], {})}
    return row | predicted


def _predicted(observations: list[_Line], ranks: dict[str, dict[str, str]]) -> dict[str, Any]:
    """The prediction from a medium's machine observations: the most confident of those that agree on the name."""
    names = {line.get("scientificName") or line.get("observationType", "") for line in observations}
    name, *others = names
    if others or not name:
        return {}
    line = max(observations, key=_probability)
    at = time_of(line.get("classificationTimestamp"))
    return {
        LABEL: name,
        SCORE: _probability(line),
        BY: line.get("classifiedBy") or None,
        AT: at and _utc(at),
        **{PREFIX + rank: value for rank, value in ranks.get(name, {}).items()},
    }


def _probability(line: _Line) -> float:
    return as_number(line.get("classificationProbability")) or 0.0


def _agreed(values: Iterable[str]) -> str | None:
    distinct = set(values)
    return (distinct.pop() or None) if len(distinct) == 1 else None


def time_of(text: str | None) -> datetime | None:
    """A time as tables write it; None where it is not one."""
    try:
        return datetime.fromisoformat(text) if text else None
    except ValueError:
        return None


def _local(moment: datetime | None) -> datetime | None:
    """A time as the camera's clock showed it, without a zone."""
    return moment.replace(tzinfo=None) if moment else None


def _utc(moment: datetime) -> datetime:
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
