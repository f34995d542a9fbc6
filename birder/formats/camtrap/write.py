"""Labels and predictions as a Camtrap DP 1.0.2 data package.

The package names the standard's profile and table schemas by the addresses that the standard gives them.
"""

from __future__ import annotations

import csv
import functools
import json
import re
import shutil
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, tzinfo
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from birder.collection.predictions import AT
from birder.collection.provenance import source_of
from birder.collection.storage import Storage
from birder.errors import CollectionError, ConfigError
from birder.files import replacing, replacing_folder
from birder.formats.camtrap.deployments import COLUMNS as MEDIA_COLUMNS
from birder.formats.camtrap.deployments import DESCRIBED, CameraDefaults, Deployments, iso
from birder.formats.camtrap.events import COLUMNS as EVENT_COLUMNS
from birder.formats.camtrap.events import Observed, OpenSequences, events_of, observed
from birder.formats.camtrap.kept import Kept
from birder.formats.camtrap.observations import COLUMNS as OBSERVATION_COLUMNS
from birder.formats.camtrap.observations import Classifiers, observations, taxon
from birder.formats.camtrap.original import TABLES, Line, read_original
from birder.formats.camtrap.read import DESCRIPTION
from birder.formats.camtrap.tables import DEPLOYMENTS, MEDIA, OBSERVATIONS
from birder.formats.names import classifier_of
from birder.formats.snapshot import Snapshot
from birder.formats.table import ExportReport
from birder.sources import time_in_video
from birder.words import counted

_STANDARD = "https://raw.githubusercontent.com/tdwg/camtrap-dp/1.0.2"
_NEVER = datetime.min.replace(tzinfo=UTC)
_NEEDED = ("title", "samplingDesign", "captureMethod")


@dataclass(frozen=True)
class Project:
    """Metadata that a package needs and images do not have.

    Attributes
    ----------
    package
        A datapackage.json to take metadata from (contributors, project, licences, ...), and its deployments.csv and
        media.csv, if they are beside it: for a collection that was made from this package.
    title
        Of the project.
    sampling_design, capture_method
        The standard's terms: "opportunistic", "activityDetection", ...
    contributors
        Names.
    latitude, longitude
        Of images without a position, in degrees (WGS 84).
    zone
        Of the cameras' clocks; see `read_zone`.
    labelled_by
        Who gave the labels that have no author.
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


@dataclass
class _Written:
    """How many lines the tables have, how many are of events, and scientific names not known to be those of taxa."""

    deployments: int = 0
    media: int = 0
    observations: int = 0
    events: int = 0
    doubtful: list[str] = field(default_factory=list)


def export(
    collection: Storage,
    rows: Snapshot,
    to: Path,
    *,
    force: bool,
    project: Project | None = None,
    classifier: str | None = None,
    folder_labels: bool = False,
) -> ExportReport:
    """Write a data package into a folder or a .zip.

    Deployments are those that the rows name (`deploymentID`), or else the folders of the images; they begin and end
    with their first and last image, unless the original package says otherwise. Paths of media are relative to the
    folder that all images are in. A row gives an observation by people for its label or ranks, and one by a machine for
    its prediction, with the box if it has one. The rows of a sequence, if any has a name, also give event-based
    observations, one for each species: these exclude one another. All frames of a video are one medium. `created` is
    the latest time of what is exported: of a file, label, prediction or the original package, so that the same rows
    give the same bytes.

    Parameters
    ----------
    collection, rows
        The collection, and which of its rows.
    to
        The folder, or the file that ends in .zip.
    force
        Replace files that exist.
    project
        Metadata that the images do not have.
    classifier
        What made the predictions (default: the model).
    folder_labels
        Names of folders count as observations, too.

    Raises
    ------
    ConfigError
        Something that the standard requires is not known: the message lists everything.
    CollectionError
        Nothing was observed.
    """
    project = project or Project()
    by = Classifiers(
        project.labelled_by,
        classifier or classifier_of(collection),
        functools.partial(source_of, collection.journal),
        folder_labels,
        None if collection.detection is None else collection.detection.detector,
    )
    if to.suffix.lower() == ".zip":
        with replacing(to, force=force) as draft, TemporaryDirectory(dir=to.parent, prefix=".birder-") as folder:
            written = _write(collection, rows, Path(folder), project, by)
            _zip(Path(folder), draft)
    else:
        with replacing_folder(to, force=force) as draft:
            written = _write(collection, rows, draft, project, by)
    events = f" ({written.events:,} of events)" if written.events else ""
    return ExportReport(
        f"{counted(written.observations, 'observation')}{events} of {written.media:,} media in {written.deployments:,} "
        f"deployments in {to}.{_doubts(written.doubtful)}"
    )


def _doubts(names: list[str]) -> str:
    if not names:
        return ""
    shown = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
    return (
        f"\nWarning: {len(names):,} scientific names may not be those of taxa ({shown}): nothing tells that they are. "
        "Add their ranks with birder embed --table, or list them in the taxonomic of --package."
    )


def _write(collection: Storage, rows: Snapshot, folder: Path, project: Project, by: Classifiers) -> _Written:
    wanted = dict.fromkeys((*MEDIA_COLUMNS, *DESCRIBED, "sequence", "modified", *OBSERVATION_COLUMNS, *EVENT_COLUMNS))
    columns = [name for name in wanted if name in rows.schema.names]
    original = read_original(project.package)
    described = original.described
    kept = Kept(original.file, original.media, original.observations, by.label_source)
    defaults = CameraDefaults(project.latitude, project.longitude, project.zone)
    deployed = Deployments(defaults, original.media, original.deployments)
    sequences = OpenSequences()
    collection.journal.read()
    news: set[tuple[str, str]] = set()
    latest = _created(described)
    for table in rows.batches(columns):
        for row in table.to_pylist():
            deployed.add(row)
            latest = max(latest, _latest(row, by))
            is_new = any(kept.add(row))
            if row.get("sequence"):
                key = (deployed.place(row), row["sequence"])
                sequences.expect(key)
                news |= {key} if is_new else set()
    metadata = _metadata(described, project, collection.path.stem, deployed.methods)
    if missing := [*deployed.missing(), *_missing(metadata)]:
        raise ConfigError("Camtrap DP requires information that is missing:\n- " + "\n- ".join(missing))
    done = _Written()
    deployments = deployed.lines(whole=rows.is_whole)
    done.deployments = _write_lines(folder / "deployments.csv", DEPLOYMENTS, deployments)
    taxa: dict[str, Line] = {}
    scientific: set[str] = set()
    seen: set[str] = set()
    levels: set[str] = set()
    with (
        _Table(folder / "media.csv", MEDIA, original.media.values()) as media,
        _Table(folder / "observations.csv", OBSERVATIONS, original.observations[:1]) as written,
    ):
        if rows.is_whole:
            for medium in original.media.values():
                media.write(medium)
            seen |= original.media.keys()
        for table in rows.batches(columns):
            for row in table.to_pylist():
                medium = deployed.medium(row)
                if medium["mediaID"] not in seen:
                    seen.add(medium["mediaID"])
                    media.write(medium)
                lines = list(observations(row, by))
                renamed, predicted = kept.add(row)
                found = [
                    (row, line | _of_medium(row, medium, deployed))
                    for line in lines
                    if (predicted if line.get("classificationMethod") == "machine" else renamed)
                ]
                if row.get("sequence"):
                    key = (deployed.place(row), row["sequence"])
                    complete = sequences.add(key, observed(row, lines))
                    events = _events(complete, medium["deploymentID"], deployed, by.model) if key in news else []
                    done.events += len(events)
                    found += events
                for source, line in found:
                    name = line.get("scientificName")
                    if name and "taxonRank" not in taxa.get(name, {}):
                        taxa[name] = taxon(source, name)
                        scientific |= {name} & set(str(source.get("scientificName") or "").split(" | "))
                    levels.add(line["observationLevel"])
                    written.write(line)
        for line in kept.lines(whole=rows.is_whole):
            if name := line.get("scientificName"):
                taxa.setdefault(name, {"scientificName": name})
            levels.add(line["observationLevel"])
            done.events += line["observationLevel"] == "event"
            written.write(line)
        done.media, done.observations = media.lines, written.lines
    if not done.observations:
        raise CollectionError(
            "No row has a label, a prediction or a box: there are no observations to export. Names of folders count "
            "only with --folder-labels."
        )
    listed = {str(taxon.get("scientificName")) for taxon in _lines_of(described.get("taxonomic"))}
    known_names = scientific | listed | {name for name, line in taxa.items() if "taxonRank" in line}
    done.doubtful = sorted(taxa.keys() - known_names)
    metadata["project"]["observationLevel"] = sorted(levels, reverse=True)
    coverage = _coverage(deployments)
    if rows.is_whole and all(line["deploymentID"] in original.deployments for line in deployments):
        coverage |= {name: described[name] for name in coverage if name in described}
    listed_taxa = _with_known(taxa, described.get("taxonomic"), whole=rows.is_whole)
    if latest == _NEVER:
        latest = max(_moment(line["deploymentEnd"]) for line in deployments)
    package = metadata | {"created": latest.strftime("%Y-%m-%dT%H:%M:%SZ")} | coverage | {"taxonomic": listed_taxa}
    (folder / DESCRIPTION).write_text(json.dumps(package, indent=2, ensure_ascii=False) + "\n", "utf-8")
    return done


def _latest(row: Mapping[str, Any], by: Classifiers) -> datetime:
    """When a row became what it is: its file, its label or its prediction, whichever was last."""
    labelled = by.label_source(row).at if row.get("label") else None
    times = [each for each in (row.get("modified"), labelled, row.get(AT)) if each is not None]
    return max((_in_utc(each) for each in times), default=_NEVER)


def _created(described: Line) -> datetime:
    """When the original package was created; `_NEVER` if it does not say so."""
    try:
        return _moment(described["created"])
    except (KeyError, TypeError, ValueError):
        return _NEVER


def _moment(text: str) -> datetime:
    return _in_utc(datetime.fromisoformat(text))


def _in_utc(moment: datetime) -> datetime:
    return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)


def _of_medium(row: Mapping[str, Any], medium: Line, deployed: Deployments) -> Line:
    """What the observations of a row say of their medium, event and time: of a frame, its own."""
    moment = medium["timestamp"] if time_in_video(row["uri"]) is None else iso(deployed.moment(row))
    event = {"eventID": row["sequence"]} if row.get("sequence") else {}
    ids = {name: medium[name] for name in ("deploymentID", "mediaID")}
    return ids | event | dict.fromkeys(("eventStart", "eventEnd"), moment)


def _events(
    rows: Sequence[Observed], deployment: str, deployed: Deployments, model: str
) -> list[tuple[Mapping[str, Any], Line]]:
    """The event-based observations of a whole sequence, each with a row that has its name.

    The event begins with its first medium, which may be a video whose first frames are not exported, and ends with its
    last image: that is how programs find the media of an event, which has no mediaID.
    """
    if not rows:
        return []
    ends = [moment for each in rows for moment in (deployed.began(each.row), deployed.moment(each.row))]
    shared = {
        "deploymentID": deployment,
        "eventID": rows[0].row["sequence"],
        "eventStart": iso(min(ends)),
        "eventEnd": iso(max(ends)),
        "observationLevel": "event",
    }
    return [
        (event.rows[0].row, {"observationID": f"{rows[0].row['id']}-event-{number}"} | shared | event.line)
        for number, event in enumerate(events_of(rows, model), 1)
    ]


def _zip(folder: Path, file: Path) -> None:
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for each in sorted(folder.iterdir()):
            entry = zipfile.ZipInfo(each.name)  # with a fixed time: of the same rows the same bytes
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = 0o644 << 16
            with each.open("rb") as source, archive.open(entry, "w", force_zip64=True) as target:
                shutil.copyfileobj(source, target)


class _Table:
    """A CSV file, written line by line."""

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
    original = described.get("project")
    about = dict(original) if isinstance(original, dict) else {"title": name, "individualAnimals": False}
    method = [project.capture_method] if project.capture_method else about.get("captureMethod") or sorted(methods)
    new = {"title": project.title, "samplingDesign": project.sampling_design, "captureMethod": method}
    about |= {key: value for key, value in new.items() if value}
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
        "created": None,
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


def _with_known(taxa: dict[str, Line], known: object, *, whole: bool) -> list[Line]:
    """Taxa, as another package describes them where it does; of the `whole` package, all that it describes."""
    described = {
        line["scientificName"]: line for line in _lines_of(known) if isinstance(line.get("scientificName"), str)
    }
    first = list(described) if whole else []
    return [described.get(name) or taxa[name] for name in dict.fromkeys([*first, *sorted(taxa)])]
