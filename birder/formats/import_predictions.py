"""Import: predictions by other tools, into the rows of a collection that has the images."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from birder.collection.predictions import COLUMNS
from birder.collection.storage import Storage
from birder.errors import ConfigError
from birder.formats.foreign_predictions import ForeignPrediction
from birder.formats.matching import Parts, find_prefix, path_parts, uri_parts
from birder.formats.snapshot import Snapshot
from birder.formats.table import format_to_import, formats_that_read


@dataclass
class PredictionsReport:
    """What an import did.

    Attributes
    ----------
    rows
        Rows that have a prediction now.
    unnamed
        Images in the file without a prediction.
    unmatched
        Images in the file that are not in the collection.
    """

    rows: int = 0
    unnamed: int = 0
    unmatched: int = 0


def has_predictions(file: Path) -> bool:
    """Whether a file to import has predictions rather than embeddings."""
    return "predictions" in format_to_import(file).reads


def import_predictions(file: str | Path, collection: Storage, *, model: str | None = None) -> PredictionsReport:
    """Write the predictions in a file into the columns `predicted_...` of the rows of their images.

    All rows of an image get its prediction, its boxes too. Labels are not touched.

    Parameters
    ----------
    file
        The predictions: SpeciesNet's predictions.json, or the CSV of `bioclip predict`.
    collection
        Its rows are found by the paths of their images, see `find_prefix`.
    model
        What made the predictions, if the file does not say.

    Raises
    ------
    ConfigError
        The file cannot be read or is in another format, or none of its images is in the collection.
    CollectionBusyError
        Another process is writing.
    """
    file = Path(file)
    format_ = format_to_import(file)
    if "predictions" not in format_.reads:
        known = " or ".join(each.title for each in formats_that_read("predictions"))
        raise ConfigError(f"{file} has no predictions: it must be {known}.")
    predictions: Iterable[ForeignPrediction] = format_.load().read_predictions(file)
    by_path = {each.path: each for each in predictions}
    uris = _uris_of(list(by_path), collection, file)
    report = PredictionsReport(unmatched=len(by_path) - len(uris))
    best: list[tuple[str, dict[str, object] | None]] = []
    makers = []
    for path, rows in uris.items():
        prediction = by_path[path]
        report.unnamed += not prediction.names
        found = {**prediction.names, "score": prediction.score} if prediction.names else None
        best += [(uri, found) for uri in rows]
        makers += [prediction.model or model or prediction.tool] * len(rows)
    given = {name for each in by_path.values() for name in each.names}
    columns = [name for name in (each.removeprefix("predicted_") for each in COLUMNS) if name in given]
    collection.save_predictions(best, columns, makers, None)
    report.rows = sum(found is not None for _, found in best)
    return report


def _uris_of(paths: list[str], collection: Storage, file: Path) -> dict[str, list[str]]:
    """The uris of the rows of each path; a path that no row has is left out."""
    rows: dict[Parts, list[str]] = defaultdict(list)
    for table in Snapshot(collection).batches(["uri"]):
        for uri in table["uri"].to_pylist():
            rows[uri_parts(uri)].append(uri)
    given = {path: path_parts(path) for path in paths}
    prefix = find_prefix(given.values(), rows, file)
    return {path: rows[moved] for path, parts in given.items() if (moved := prefix.moved(parts)) in rows}
