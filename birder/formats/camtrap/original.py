"""The Camtrap DP package that images came from: its description, and the lines of its deployments and media."""

from __future__ import annotations

import csv
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from birder.errors import ConfigError
from birder.sources import as_number, read_json
from birder.sources.lines import csv_lines

Line = dict[str, Any]

TABLES = ("deployments", "media", "observations")
_TIMES = {"deployments": ("deploymentStart", "deploymentEnd"), "media": ("timestamp",), "observations": ()}
_NEEDED = {
    "deployments": ("deploymentID", "latitude", "longitude", *_TIMES["deployments"]),
    "media": ("mediaID", "deploymentID", *_TIMES["media"], "filePath"),
    "observations": ("observationID", "deploymentID", "observationLevel", "observationType"),
}


class Original(NamedTuple):
    """A package: its description, the lines of deployments and media by their IDs, and those of observations."""

    file: Path | None
    described: Line
    deployments: dict[str, Line]
    media: dict[str, Line]
    observations: list[Line]


def read_original(package: Path | None) -> Original:
    """The package that images came from.

    Parameters
    ----------
    package
        Its folder or datapackage.json; tables that are missing beside it have no lines. None if there is no package.

    Raises
    ------
    ConfigError
        A part of it cannot be read, or lacks what the standard requires.
    """
    if package is None:
        return Original(None, {}, {}, {}, [])
    file = package / "datapackage.json" if package.is_dir() else package
    try:
        described = read_json(str(file))
        if not isinstance(described, dict):
            raise ValueError("it is not a JSON object")
        deployments, media, observations = (file.with_name(f"{name}.csv") for name in TABLES)
        return Original(
            file,
            described,
            {line["deploymentID"]: line for line in _lines(deployments)},
            {line["mediaID"]: line for line in _lines(media)},
            _lines(observations),
        )
    except (OSError, ValueError, csv.Error) as error:
        raise ConfigError(f"Cannot read the data package {package}: {error}") from error


def _lines(table: Path) -> list[Line]:
    if not table.exists():
        return []
    lines = csv_lines(str(table))
    header = next(lines, [])
    if missing := [name for name in _NEEDED[table.stem] if name not in header]:
        raise ValueError(f"{table.name} has no column {', '.join(missing)}")
    found: list[Line] = []
    for number, values in enumerate(lines, 2):
        if len(values) != len(header):
            raise ValueError(f"line {number} of {table.name} has {len(values)} values, not {len(header)}")
        line: Line = dict(zip(header, values, strict=True))
        for name in _TIMES[table.stem]:
            try:
                datetime.fromisoformat(line[name])
            except ValueError:
                raise ValueError(f"{name} in line {number} of {table.name} is not a time: {line[name]!r:.60}") from None
        for name, most in (("latitude", 90.0), ("longitude", 180.0)):
            if name not in _NEEDED[table.stem]:
                continue
            degrees = as_number(line[name])
            if degrees is None or abs(degrees) > most:
                raise ValueError(f"{name} in line {number} of {table.name} is not on the earth: {line[name]!r:.60}")
        found.append(line)
    return found
