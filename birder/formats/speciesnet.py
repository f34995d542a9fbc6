"""SpeciesNet's predictions.json: the ensemble's name for each photograph, with its taxonomy.

From github.com/google/cameratrapai (README, "Output format", read in 2026): `predictions` lists objects with
`filepath`, `prediction` and `prediction_score`, `model_version`, and `failures` where a component failed. A prediction
is seven parts between semicolons: an identifier, class, order, family, genus, epithet, common name; the ranks are in
lower case, and empty where the name is of a higher rank or of no animal (blank, vehicle).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from birder.errors import ConfigError
from birder.formats.predictions import Given
from birder.sources.columns import as_number

_RANKS = ("class", "order", "family", "genus")


def read_speciesnet(found: dict[str, Any], file: Path) -> Iterator[Given]:
    """The predictions; an image without one (a component failed) comes without names.

    Raises
    ------
    ConfigError
        An entry is not as SpeciesNet writes them.
    """
    entries = found["predictions"]
    if not isinstance(entries, list):
        raise ConfigError(f'{file}: "predictions" is no list, so it is not of SpeciesNet.')
    for number, entry in enumerate(entries):
        where = f"{file}: predictions[{number}]"
        if not isinstance(entry, dict) or not isinstance(entry.get("filepath"), str):
            raise ConfigError(f'{where} has no "filepath", so it is not of SpeciesNet.')
        prediction = entry.get("prediction")
        if prediction is None:
            yield Given(entry["filepath"], {}, 0.0)
            continue
        score = as_number(entry.get("prediction_score"))
        if not isinstance(prediction, str) or prediction.count(";") != 6:
            raise ConfigError(f"{where}: the prediction {str(prediction)[:100]!r} does not have seven parts.")
        if score is None:
            raise ConfigError(f"{where}: the score is no number.")
        version = entry.get("model_version")
        by = f"SpeciesNet {version}" if isinstance(version, str) else "SpeciesNet"
        yield Given(entry["filepath"], _names(prediction), score, by)


def _names(prediction: str) -> dict[str, str]:
    _, *ranks, epithet, common = (part.strip() for part in prediction.split(";"))
    names = {rank: value.capitalize() for rank, value in zip(_RANKS, ranks, strict=True) if value}
    if not names:
        return {"label": common} if common else {}
    if epithet and "genus" in names:
        names["species"] = f"{names['genus']} {epithet}"
    return {"kingdom": "Animalia", **names, **({"common_name": common} if common else {})}
