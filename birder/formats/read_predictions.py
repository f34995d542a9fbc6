"""Import: predictions that others made, into the rows of a collection that has the photographs."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from birder.collection.predictions import COLUMNS, PREFIX
from birder.collection.storage import Storage
from birder.errors import ConfigError
from birder.formats.json_file import read_object
from birder.formats.matching import match_paths
from birder.formats.predictions import Given
from birder.formats.pybioclip import is_predictions, read_predictions
from birder.formats.speciesnet import read_speciesnet

_BEGINNING = 65_536  # bytes
_FIRST_KEY = re.compile(rb'"(predictions|embeddings)"\s*:')


@dataclass
class Predicted:
    """What an import did: rows that have a prediction now, photographs without one, and those that no row has."""

    rows: int = 0
    nameless: int = 0
    unknown: int = 0


def holds_predictions(file: Path) -> bool:
    """Whether a file is one of predictions: any CSV, and JSON that begins with them rather than with embeddings."""
    if file.suffix.lower() == ".csv":
        return True
    if file.suffix.lower() != ".json" or not file.is_file():
        return False
    with file.open("rb") as opened:
        key = _FIRST_KEY.search(opened.read(_BEGINNING))
    return key is not None and key[1] == b"predictions"


def import_predictions(file: Path, collection: Storage, *, model: str | None = None) -> Predicted:
    """Write the predictions of SpeciesNet (predictions.json) or `bioclip predict` (CSV) into columns `predicted_...`.

    All rows of a photograph get its prediction, boxes too. Labels are not touched.

    Parameters
    ----------
    file
        The predictions.
    collection
        Its rows are found by the paths of the photographs, see `match_paths`.
    model
        What predicted, where the file does not say it.

    Raises
    ------
    ConfigError
        The file cannot be read or is of another kind, or none of its photographs is in the collection.
    CollectionError
        Another process is writing.
    """
    given = {each.path: each for each in _given(file)}
    uris = match_paths(collection, list(given), file)
    done = Predicted(unknown=len(given) - len(uris))
    best: list[tuple[str, dict[str, object] | None]] = []
    makers = []
    for path, rows in uris.items():
        prediction = given[path]
        done.nameless += not prediction.names
        found = {**prediction.names, "score": prediction.score} if prediction.names else None
        best += [(uri, found) for uri in rows]
        makers += [prediction.by or model or "pybioclip"] * len(rows)
    there = {name for each in given.values() for name in each.names}
    columns = [name for name in (each.removeprefix(PREFIX) for each in COLUMNS) if name in there]
    collection.save_predictions(best, columns, makers, None)
    done.rows = sum(found is not None for _, found in best)
    return done


def _given(file: Path) -> Iterable[Given]:
    if file.suffix.lower() == ".json":
        return read_speciesnet(read_object(file, "predictions.json of SpeciesNet"), file)
    if not is_predictions(file):
        raise ConfigError(
            f"{file} has no columns file_name, score, and classification or ranks, as `bioclip predict` writes them. "
            "Columns of your own come in with: birder embed IMAGES --in COLLECTION --table FILE.csv"
        )
    return read_predictions(file)
