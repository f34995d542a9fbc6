"""How boxes got into a collection: the detector that its runs have used, in `detection.json` beside the tables.

One collection has the boxes of one detector: those of two, found at two thresholds, would be two rows for each animal.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from birder.collection.disk import storing
from birder.errors import CollectionError
from birder.files import replacing

FILE = "detection.json"
Empty = Literal["keep", "note"]
"""What becomes of an image without an animal: a row of the whole image, or a line among the failures."""
DETECTIONS = "detections"
"""The column that tells how many boxes of animals were found on a row's image; null in rows that no detector made."""
NO_ANIMAL = "no animal found"
"""What `note` writes as the reason; such a line does not count as a failure."""


@dataclass(frozen=True)
class DetectionRecord:
    """The detector's name, the sha256 of its file, and the minimum confidence of its boxes."""

    detector: str
    sha256: str
    min_conf: float

    def __str__(self) -> str:
        return f"{self.detector} (sha256 {self.sha256[:12]}) with a minimum confidence of {self.min_conf:g}"


def read_detection(path: Path) -> DetectionRecord | None:
    """What a collection's boxes were found by; None if no run has detected.

    Raises
    ------
    CollectionError
        The file is damaged.
    """
    try:
        told = json.loads((path / FILE).read_bytes())
        return DetectionRecord(str(told["detector"]), str(told["sha256"]), float(told["min_conf"]))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CollectionError(f"{path / FILE} is damaged ({error}): restore it from a copy.") from error


def check_detection(path: Path, mine: DetectionRecord | None, record: DetectionRecord) -> None:
    """Refuse (`CollectionError`) boxes that were found in another way than those of a collection, `mine`."""
    if mine not in (None, record):
        raise CollectionError(
            f"The boxes of {path} were found by {mine}, not by {record}: an animal would have a row of each. "
            "Detect as before, or name another collection with --in."
        )


def write_detection(path: Path, record: DetectionRecord) -> None:
    """Keep the record; the caller holds the right to write."""
    with storing(path), replacing(path / FILE) as draft:
        draft.write_text(json.dumps(asdict(record), indent=1) + "\n")
