"""Labels and predictions as a Camtrap DP 1.0.2 data package (TDWG's standard for camera traps).

https://camtrap-dp.tdwg.org: datapackage.json, deployments.csv, media.csv, observations.csv. Its profile and table
schemas are named by the addresses that the standard gives them.
"""

from __future__ import annotations

import csv
import functools
import json
import re
import zipfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, tzinfo
from pathlib import Path

from birder.collection.provenance import source_of
from birder.collection.storage import Storage
from birder.errors import CollectionError, ConfigError
from birder.formats.camtrap_package import Line, read_package
from birder.formats.camtrap_tables import DEPLOYMENTS, MEDIA, OBSERVATIONS
from birder.formats.deployments import COLUMNS as PLACED
from birder.formats.deployments import DESCRIBED, Field, Place
from birder.formats.observed import COLUMNS as OBSERVED
from birder.formats.observed import By, observations, taxon
from birder.formats.snapshot import Snapshot

_STANDARD = "https://raw.githubusercontent.com/tdwg/camtrap-dp/1.0.2"
TABLES = ("deployments", "media", "observations")
_NEEDED = ("title", "samplingDesign", "captureMethod")


@dataclass(frozen=True)
class Project:
    """What a package must tell that photographs do not.

    Attributes
    ----------
    package
        A datapackage.json to take metadata from (contributors, project, licences, ...), with its deployments.csv and
        media.csv beside it, if they are there: those of a collection that was made from this package.
    title
        Of the project.
    sampling_design, capture_method
        The standard's terms: "opportunistic", "activityDetection", ...
    contributors
        Names.
    latitude, longitude
        Of photographs that do not say it, WGS 84.
    zone
        Of the cameras' clocks.
    labelled_by
        Who gave the labels that say no name themselves.
    folder_labels
        Export names of folders as observations, too.
    """

    package: Path | None = None
    title: str | None = None
    sampling_design: str | None = None
    capture_method: str | None = None
    contributors: Sequence[str] = ()
    latitude: float | None = None
    longitude: float | None = None
    zone: tzinfo | None = None
    labelled_by: str | None = None
    folder_labels: bool = False


@dataclass
class Written:
    """How many lines the package's tables have, and scientific names of which it is not known that they are of taxa."""

    deployments: int = 0
    media: int = 0
    observations: int = 0
    doubtful: list[str] = field(default_factory=list)


def write_camtrap(collection: Storage, snapshot: Snapshot, folder: Path, project: Project, classifier: str) -> Written:
    """Write a data package into a folder.

    Deployments are those that the rows name (`deploymentID`), or else the photographs' folders; they begin and end with
    their first and last photograph, unless the package that they came from says better. Paths of media are relative to
    the folder that all photographs are in. Each row gives an observation by people for its label or ranks and one by
    the machine for its prediction, with the box where it has one.

    Raises
    ------
    ConfigError
        Something that the standard demands is not known: the message lists all of it.
    CollectionError
        There are no rows.
    """
    names = snapshot.schema.names
    columns = [name for name in dict.fromkeys((*PLACED, *DESCRIBED, *OBSERVED)) if name in names]
    described, known = read_package(project.package)
    place = Place(project.latitude, project.longitude, project.zone)
    seen_of = Field(place, known["media"], known["deployments"])
    rows = 0
    for table in snapshot.batches([name for name in columns if name in (*PLACED, *DESCRIBED)]):
        rows += table.num_rows
        for row in table.to_pylist():
            seen_of.see(row)
    if not rows:
        raise CollectionError("There are no rows to export.")
    metadata = _metadata(described, project, collection.path.stem, seen_of.methods)
    if missing := [*seen_of.missing(), *_missing(metadata)]:
        raise ConfigError("Camtrap DP demands what is not known yet:\n- " + "\n- ".join(missing))
    done = Written()
    deployments = seen_of.deployments()
    done.deployments = _write_lines(folder / "deployments.csv", DEPLOYMENTS, deployments)
    collection.journal.read()
    source = functools.partial(source_of, collection.journal)
    by = By(project.labelled_by, classifier, source, project.folder_labels)
    taxa: dict[str, Line] = {}
    scientific: set[str] = set()
    seen: set[str] = set()
    with (
        _Table(folder / "media.csv", MEDIA, known["media"].values()) as media,
        _Table(folder / "observations.csv", OBSERVATIONS) as observed,
    ):
        for table in snapshot.batches(columns):
            for row in table.to_pylist():
                medium = seen_of.medium(row)
                if medium["mediaID"] not in seen:
                    seen.add(medium["mediaID"])
                    media.write(medium)
                for line in observations(row, by):
                    name = line.get("scientificName")
                    if name and "taxonRank" not in taxa.get(name, {}):
                        taxa[name] = taxon(row, name)
                        scientific |= {name} & set(str(row.get("scientificName") or "").split(" | "))
                    at = dict.fromkeys(("eventStart", "eventEnd"), medium["timestamp"])
                    observed.write({name: medium[name] for name in ("deploymentID", "mediaID")} | at | line)
        done.media, done.observations = media.lines, observed.lines
    if not done.observations:
        raise CollectionError(
            "No row has a label, a prediction or a box: there is nothing observed to export. Names of folders count "
            "only with --folder-labels."
        )
    listed = {str(taxon.get("scientificName")) for taxon in _lines_of(described.get("taxonomic"))}
    known_names = scientific | listed | {name for name, line in taxa.items() if "taxonRank" in line}
    done.doubtful = sorted(taxa.keys() - known_names)
    package = metadata | _coverage(deployments) | {"taxonomic": _with_known(taxa, described.get("taxonomic"))}
    (folder / "datapackage.json").write_text(json.dumps(package, indent=2, ensure_ascii=False) + "\n", "utf-8")
    return done


def zipped(folder: Path, file: Path) -> None:
    """Put the files of a folder into a .zip."""
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for each in sorted(folder.iterdir()):
            archive.write(each, each.name)


class _Table:
    """A CSV file that lines are written to one by one."""

    def __init__(self, file: Path, columns: Sequence[str], known: Iterable[Line] = ()) -> None:
        more = (name for line in known for name in line)
        self._file = file.open("w", encoding="utf-8", newline="")
        self._writer = csv.DictWriter(self._file, dict.fromkeys((*columns, *more)), lineterminator="\n")
        self._writer.writeheader()
        self.lines = 0

    def write(self, line: Line) -> None:
        self._writer.writerow({name: _cell(value) for name, value in line.items()})
        self.lines += 1

    def __enter__(self) -> _Table:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()


def _cell(value: object) -> object:
    if isinstance(value, bool):
        return "true" if value else "false"
    return f"{value:.15g}" if isinstance(value, float) else value


def _write_lines(file: Path, columns: Sequence[str], lines: Sequence[Line]) -> int:
    with _Table(file, columns, lines) as table:
        for line in lines:
            table.write(line)
    return len(lines)


def _metadata(described: Line, project: Project, name: str, methods: set[str]) -> Line:
    """The package's metadata, without what comes from its tables."""
    given = described.get("project")
    about = dict(given) if isinstance(given, dict) else {"title": name, "individualAnimals": False}
    method = [project.capture_method] if project.capture_method else about.get("captureMethod") or sorted(methods)
    own = {"title": project.title, "samplingDesign": project.sampling_design, "captureMethod": method}
    about |= {key: value for key, value in own.items() if value}
    about["observationLevel"] = ["media"]
    kept = {key: value for key, value in described.items() if key not in ("id", "resources", "profile", "created")}
    people = [{"title": person} for person in project.contributors] or kept.get("contributors")
    resources = [
        {
            "name": table,
            "path": f"{table}.csv",
            "profile": "tabular-data-resource",
            "format": "csv",
            "mediatype": "text/csv",
            "encoding": "utf-8",
            "schema": f"{_STANDARD}/{table}-table-schema.json",
        }
        for table in TABLES
    ]
    return {
        "resources": resources,
        "profile": f"{_STANDARD}/camtrap-dp-profile.json",
        "name": re.sub(r"[^a-z0-9._-]+", "-", name.lower()).strip("-") or "collection",
        "created": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        **{key: value for key, value in kept.items() if key != "name"},
        "contributors": people,
        "project": about,
    }


def _missing(metadata: Line) -> list[str]:
    options = {"title": "--title", "samplingDesign": "--sampling-design", "captureMethod": "--capture-method"}
    missing = [f"the project's {name} ({options[name]})" for name in _NEEDED if not metadata["project"].get(name)]
    if not metadata["contributors"]:
        missing.append("contributors (--contributor NAME)")
    return missing


def _coverage(deployments: Sequence[Line]) -> Line:
    """`spatial` and `temporal`: the box around all deployments, and the days from the first to the last."""
    longitudes = [float(line["longitude"]) for line in deployments]
    latitudes = [float(line["latitude"]) for line in deployments]
    west, south, east, north = min(longitudes), min(latitudes), max(longitudes), max(latitudes)
    ring = [[west, south], [east, south], [east, north], [west, north], [west, south]]
    flat = west == east or south == north
    spatial: Line = {"type": "Point", "coordinates": [west, south]}
    if (west, south) != (east, north):
        spatial = (
            {"type": "LineString", "coordinates": [[west, south], [east, north]]}
            if flat
            else {"type": "Polygon", "coordinates": [ring]}
        )
    start = min(_day(line["deploymentStart"]) for line in deployments)
    end = max(_day(line["deploymentEnd"]) for line in deployments)
    return {"spatial": spatial, "temporal": {"start": start.isoformat(), "end": end.isoformat()}}


def _day(text: str) -> date:
    return datetime.fromisoformat(text).date()


def _lines_of(known: object) -> list[Line]:
    return [line for line in known if isinstance(line, dict)] if isinstance(known, list) else []


def _with_known(taxa: dict[str, Line], known: object) -> list[Line]:
    """Taxa, as another package describes them where it does."""
    described = {
        line["scientificName"]: line for line in _lines_of(known) if isinstance(line.get("scientificName"), str)
    }
    return [described.get(name, taxa[name]) for name in sorted(taxa)]
