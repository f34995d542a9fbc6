"""The record table of camtrapR, the R package for analyses of camera traps: when each species was at which station.

As `recordTable` of camtrapR 3.0.3 returns it with `minDeltaTime = 0` (its help pages `recordTable` and
`recordTableSample`, and its source, github.com/jniedballa/camtrapR at e31f2da), and with the column `n` that
`get_record_table` of camtraptor adds (inbo.github.io/camtraptor).
"""

from __future__ import annotations

import csv
import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from birder.collection.provenance import source_of
from birder.collection.schema import DEPLOYMENT, TIME_OF_IMAGE
from birder.collection.storage import Storage
from birder.errors import CollectionError, ConfigError
from birder.files import replacing
from birder.formats.camtrap.events import COLUMNS as EVENT_COLUMNS
from birder.formats.camtrap.events import OpenSequences, events_of, observed
from birder.formats.camtrap.observations import COLUMNS as OBSERVATION_COLUMNS
from birder.formats.camtrap.observations import Classifiers, observations
from birder.formats.names import classifier_of
from birder.formats.snapshot import Snapshot
from birder.formats.table import ExportReport
from birder.sources import image_of, readable, uri_to_path
from birder.words import counted

_DELTAS = ("delta.time.secs", "delta.time.mins", "delta.time.hours", "delta.time.days")
COLUMNS = (
    "Station",
    "Species",
    "DateTimeOriginal",
    "Date",
    "Time",
    *_DELTAS,
    "Directory",
    "FileName",
    "n_images",
    "n",
)
"""The table's columns in their order."""


@dataclass(frozen=True)
class Record:
    """A species at a station at a time.

    Attributes
    ----------
    station
        The deployment.
    kind
        "animal", "human", "vehicle" or "unknown", as in Camtrap DP: only those of animals are of a species.
    species
        The scientific name, else the label or prediction; "human" and "vehicle", too.
    moment
        When the first of its images was taken, in whole seconds.
    directory, file
        Of that image.
    images
        How many images of the sequence show it.
    animals
        How many animals there were; None if that is not known.
    """

    station: str
    kind: str
    species: str
    moment: datetime
    directory: str
    file: str
    images: int
    animals: int | None


def export(collection: Storage, rows: Snapshot, to: Path, *, force: bool, folder_labels: bool = False) -> ExportReport:
    """Write a record table: a line for each species of each sequence, or of each image that is in none.

    Takes some 500 bytes a record, and what `OpenSequences` says; an image in no sequence counts as one there.

    Raises
    ------
    ConfigError
        Rows with a name have no deployment.
    CollectionError
        No row with a time has a name.
    """
    wanted = dict.fromkeys(("id", "uri", *DEPLOYMENT, TIME_OF_IMAGE, "sequence", *OBSERVATION_COLUMNS, *EVENT_COLUMNS))
    columns = [name for name in wanted if name in rows.schema.names]
    model = classifier_of(collection)
    by = Classifiers(None, model, functools.partial(source_of, collection.journal), folder_labels)
    collection.journal.read()
    sequences = OpenSequences()
    for row in _rows(rows, [name for name in ("uri", *DEPLOYMENT, TIME_OF_IMAGE, "sequence") if name in columns]):
        if row.get(TIME_OF_IMAGE) is not None:
            sequences.expect(_sequence(row))
    records: dict[tuple[str, str, datetime], Record] = {}
    untimed: set[str] = set()
    blank = homeless = 0
    for row in _rows(rows, columns):
        lines = list(observations(row, by))
        if row.get(TIME_OF_IMAGE) is None:
            if any(line["observationType"] not in ("blank", "unclassified") for line in lines):
                untimed.add(image_of(row["uri"]))
            continue
        found = sequences.add(_sequence(row), observed(row, lines))
        for event in events_of(found, model) if found else ():
            line = event.line
            if line["observationType"] == "blank":
                blank += 1
                continue
            first = min((each.row for each in event.rows), key=lambda each: (each[TIME_OF_IMAGE], each["uri"]))
            station = _station(first)
            if station is None:
                homeless += 1
                continue
            record = Record(
                station,
                line["observationType"],
                line.get("scientificName") or line["observationType"],
                first[TIME_OF_IMAGE].replace(microsecond=0),
                *_place(first["uri"]),
                len({each.image for each in event.rows}),
                line.get("count"),
            )
            key = (record.station, record.species, record.moment)
            records[key] = _joined(records[key], record) if key in records else record
    if homeless:
        raise ConfigError(
            f"{counted(homeless, 'record has', 'records have')} no deployment, so that the station is not known. "
            "Embed with "
            "--deployment-from, give it with birder label --set deployment=NAME, or leave these rows out with --where "
            "'deployment IS NOT NULL'."
        )
    if not records:
        raise CollectionError(
            "No row with a time has a label or a prediction: there are no records to export. Names of folders count "
            "only with --folder-labels."
        )
    with replacing(to, force=force) as draft, draft.open("w", encoding="utf-8", newline="") as text:
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows(table_lines(records[key] for key in sorted(records)))
    written = list(records.values())
    others = {kind: sum(each.kind == kind for each in written) for kind in ("human", "vehicle", "unknown")}
    said = (
        f"{counted(len(written), 'record')} of {len({each.species for each in written if each.kind == 'animal'}):,} "
        "species "
    )
    said += f"at {counted(len({each.station for each in written}), 'station')} in {to}."
    if any(others.values()):
        kinds = ", ".join(f"{count:,} of {kind}" for kind, count in others.items() if count)
        said += f"\nAmong the records, {kinds}: camtrapR leaves them out with exclude."
    said += (
        f"\n{counted(blank, 'blank sequence or image was', 'blank sequences or images were')} left out."
        if blank
        else ""
    )
    named = counted(
        len(untimed), "image with a name but without a time was", "images with a name but without a time were"
    )
    said += f"\n{named} left out." if untimed else ""
    return ExportReport(said)


def table_lines(records: Iterator[Record]) -> Iterator[list[str | int | None]]:
    """The lines of the table, from records in the order of station, species and time.

    A difference in time is that to the species' previous record at the station, 0 for its first; minutes, hours and
    days are rounded to tenths.
    """
    before: Record | None = None
    for record in records:
        same = before is not None and (before.station, before.species) == (record.station, record.species)
        seconds = (record.moment - before.moment).total_seconds() if same and before is not None else 0.0
        deltas = (seconds, seconds / 60, seconds / 3600, seconds / 86400)
        yield [
            record.station,
            record.species,
            f"{record.moment:%Y-%m-%d %H:%M:%S}",
            f"{record.moment:%Y-%m-%d}",
            f"{record.moment:%H:%M:%S}",
            *(f"{delta:.1f}".removesuffix(".0") for delta in deltas),
            record.directory,
            record.file,
            record.images,
            record.animals,
        ]
        before = record


def _rows(rows: Snapshot, columns: list[str]) -> Iterator[dict[str, Any]]:
    for table in rows.batches(columns):
        yield from table.to_pylist()


def _station(row: Mapping[str, Any]) -> str | None:
    return next((str(row[name]).strip() for name in DEPLOYMENT if str(row.get(name) or "").strip()), None)


def _sequence(row: Mapping[str, Any]) -> tuple[str | None, str, str]:
    """What the rows of a sequence share; those of an image that is in none."""
    return _station(row), *(("sequence", row["sequence"]) if row.get("sequence") else ("image", image_of(row["uri"])))


def _joined(record: Record, other: Record) -> Record:
    """Two records of one second: camtrapR keeps one of them (`removeDuplicateRecords = TRUE`)."""
    known = [each.animals for each in (record, other) if each.animals is not None]
    return replace(record, images=record.images + other.images, animals=max(known, default=None))


def _place(uri: str) -> tuple[str, str]:
    """The directory and the name of the file that a row is of."""
    file = uri.partition("#")[0]
    if file.startswith("file://"):
        path = Path(readable(uri_to_path(file)))
        return path.parent.as_posix(), path.name
    directory, _, name = file.rpartition("/")
    return directory, name
