"""SpeciesNet's predictions.json, read: the ensemble's name for each image, with its taxonomy.

From github.com/google/cameratrapai (README, "Output format", read in 2026): `predictions` lists objects with
`filepath`, `prediction` and `prediction_score`, `model_version`, and `failures` where a component failed. A prediction
is seven parts separated by semicolons: an identifier, class, order, family, genus, epithet, common name; the ranks are
in lower case, and empty below that of the name, or if it is not an animal (blank, vehicle).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from birder.errors import ConfigError
from birder.formats.foreign_predictions import ForeignPrediction
from birder.formats.json_file import read_object
from birder.sources.columns import as_number

_RANKS = ("class", "order", "family", "genus")
_BEGINNING = 65_536  # bytes
_FIRST_KEY = re.compile(rb'"(predictions|embeddings)"\s*:')


def recognizes(file: Path) -> bool:
    """Whether a JSON file begins with predictions, rather than with the embeddings of `bioclip embed`."""
    if not file.is_file():
        return False
    with file.open("rb") as opened:
        key = _FIRST_KEY.search(opened.read(_BEGINNING))
    return key is not None and key[1] == b"predictions"


def read_predictions(file: Path) -> Iterator[ForeignPrediction]:
    """The predictions; an image without one (a component failed) has no names.

    Raises
    ------
    ConfigError
        The file cannot be read, or an entry is not as SpeciesNet writes them.
    """
    entries = read_object(file, "predictions.json of SpeciesNet").get("predictions")
    if not isinstance(entries, list):
        raise ConfigError(f'{file}: "predictions" is not a list, so it is not a file of SpeciesNet.')
    for number, entry in enumerate(entries):
        where = f"{file}: predictions[{number}]"
        if not isinstance(entry, dict) or not isinstance(entry.get("filepath"), str):
            raise ConfigError(f'{where} has no "filepath", so it is not a file of SpeciesNet.')
        prediction = entry.get("prediction")
        if prediction is None:
            yield ForeignPrediction(entry["filepath"], {}, 0.0, "SpeciesNet")
            continue
        score = as_number(entry.get("prediction_score"))
        if not isinstance(prediction, str) or prediction.count(";") != 6:
            raise ConfigError(f"{where}: the prediction {str(prediction)[:100]!r} does not have seven parts.")
        if score is None:
            raise ConfigError(f"{where}: the score is not a number.")
        version = entry.get("model_version")
        model = f"SpeciesNet {version}" if isinstance(version, str) else None
        yield ForeignPrediction(entry["filepath"], _names(prediction), score, "SpeciesNet", model)


def _names(prediction: str) -> dict[str, str]:
    _, *ranks, epithet, common = (part.strip() for part in prediction.split(";"))
    names = {rank: value.capitalize() for rank, value in zip(_RANKS, ranks, strict=True) if value}
    if not names:
        return {"label": common} if common else {}
    if epithet and "genus" in names:
        names["species"] = f"{names['genus']} {epithet}"
    return {"kingdom": "Animalia", **names, **({"common_name": common} if common else {})}
