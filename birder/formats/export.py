"""Export: a collection into a file or folder of any format that can be written."""

from __future__ import annotations

from pathlib import Path
from typing import TypedDict, Unpack

from birder.collection.filter import Filter
from birder.collection.storage import Storage
from birder.errors import CollectionError, ConfigError
from birder.formats.camtrap import Project
from birder.formats.embedding_atlas import Points
from birder.formats.snapshot import Snapshot
from birder.formats.table import FORMATS, ExportFormat, ExportReport, Format, export_formats, format_to_write


class ExportOptions(TypedDict, total=False):
    """Options that only some formats take; see `Format.options`.

    Attributes
    ----------
    by
        Images are named by the "label" (the default), the "prediction", or a column of text.
    link
        Make hard links rather than copies.
    folder_labels
        Labels that are the name of a folder count, too.
    results
        MegaDetector's results (JSON), into which the predictions are merged.
    classifier
        The name of what made the predictions (default: the model).
    images_at
        The address of a `birder serve` of this collection, from which the other tool fetches images.
    project
        Metadata that Camtrap DP requires and images do not have.
    points
        The points of the map by id.
    """

    by: str | None
    link: bool
    folder_labels: bool
    results: str | Path | None
    classifier: str | None
    images_at: str | None
    project: Project | None
    points: Points | None


def export(
    collection: Storage,
    to: str | Path,
    format: ExportFormat | None = None,
    *,
    where: str | Filter | None = None,
    force: bool = False,
    **options: Unpack[ExportOptions],
) -> ExportReport:
    """Write a collection, as it is now, into a file or folder; the collection itself is not changed.

    Parameters
    ----------
    collection
        What to write.
    to
        The file or folder.
    format
        The name of a format (default: determined by the extension of `to`: .parquet, .csv or .npz).
    where
        A filter (default: all rows).
    force
        Replace what exists.
    options
        See `ExportOptions`. One that is None or False counts as not given.

    Returns
    -------
    What was written, and what failed.

    Raises
    ------
    FileExistsError
        Birder's own: the file exists, and `force` is not given.
    UnknownNameError
        The format is unknown.
    ConfigError
        The extension determines no format or another one, or an option is missing or belongs to another format.
    FilterError
        The filter is not valid.
    CollectionError
        There is nothing to export.
    WriteError
        The file cannot be written.
    """
    to = Path(to)
    format_ = _by_ending(to) if format is None else format_to_write(format)
    if not format_.fits(to):
        expected = " or ".join(each for each in format_.endings if each)
        raise ConfigError(
            f"{to} does not end in {expected}. For {format_.name}, name it {to.with_suffix(format_.endings[0]).name}."
        )
    given = {name: value for name, value in options.items() if value is not None and value is not False}
    for name in given.keys() - set(format_.options):
        others = ", ".join(each.name for each in FORMATS.values() if name in each.options)
        raise ConfigError(f"The format {format_.name} has no option {name}; it is one of: {others or 'no format'}.")
    rows = Snapshot(collection, where)
    if rows.count() == 0:
        raise CollectionError("No rows match the filter." if where else f"{collection.path} has no rows to export.")
    report: ExportReport = format_.load().export(collection, rows, to, force=force, **given)
    return report


_USUAL = ("parquet", "csv", "npz")
"""Formats that the extension alone determines."""


def _by_ending(to: Path) -> Format:
    for name in _USUAL:
        if FORMATS[name].fits(to):
            return FORMATS[name]
    endings = ", ".join(FORMATS[name].endings[0] for name in _USUAL)
    raise ConfigError(
        f"The extension of {to} does not determine a format. Use {endings}, "
        f"or name one of: {', '.join(export_formats())}."
    )
