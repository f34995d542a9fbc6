"""What an export keeps of the package that its images came from: all observations that nobody has changed in Birder.

What the rows of a medium say is compared with what reading the package gives for it (`read_images`, by which the rows
were made). Where both are the same, the package's own lines are written again, every field of them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from birder.collection.predictions import BY
from birder.collection.predictions import COLUMNS as PREDICTED
from birder.collection.provenance import Source as Origin
from birder.formats.camtrap.original import Line
from birder.formats.camtrap.read import covering, read_images, time_of
from birder.taxonomy import RANKS

_SAID = ("label", *RANKS, "scientificName", "observationType", "lifeStage", "sex", "behavior", "count")


class Kept:
    """The observations of a package, and which of them rows have replaced; collected by `add`, row by row.

    Parameters
    ----------
    package
        Its datapackage.json; None without a package.
    media, observed
        The lines of its media by their IDs, and of its observations.
    origin
        Tells where the label of a row comes from.
    """

    def __init__(
        self,
        package: Path | None,
        media: Mapping[str, Line],
        observed: Sequence[Line],
        origin: Callable[[Mapping[str, Any]], Origin],
    ) -> None:
        self._media = media
        self._observed = observed
        self._origin = origin
        self._told: dict[str, Mapping[str, Any]] = {}
        if package is not None and observed:
            for source in read_images(str(package.absolute())):
                if source.members is None:  # the frames of a video are told apart by what was observed in each
                    self._told[str(source.columns["mediaID"])] = source.columns
        self._has_lines = {line.get("mediaID") for line in observed}
        self._of_events: dict[str, list[Line]] = defaultdict(list)
        for line in observed:
            if not line.get("mediaID"):
                self._of_events[line.get("deploymentID", "")].append(line)
        self._renamed: set[str] = set()
        self._predicted: dict[str, str | None] = {}
        self._seen: set[str] = set()
        self._replaced_events: set[int] = set()
        self._seen_events: set[int] = set()

    def add(self, row: Mapping[str, Any]) -> tuple[bool, bool]:
        """Whether a row says something else than the package: of what people named, and of what models predicted."""
        medium = str(row.get("mediaID") or "")
        told = self._told.get(medium)
        if told is None:
            return True, True
        self._seen.add(medium)
        events = self._events_of(medium)
        self._seen_events.update(map(id, events))
        renamed = any(row.get(name) != told.get(name) for name in _SAID)
        if row.get("label") is not None and self._origin(row).kind == "person":
            renamed = True
        predicted = any(row.get(name) != told.get(name) for name in PREDICTED)
        if medium not in self._has_lines and not events:
            renamed = predicted = True  # nothing was observed: what Birder found is new
        if renamed:
            self._renamed.add(medium)
            if row.get("sequence"):
                self._replaced_events.update(map(id, events))
        if predicted:
            self._predicted[medium] = row.get(BY)
        return renamed, predicted

    def lines(self, *, whole: bool) -> Iterator[Line]:
        """The package's observations that still hold, in their order; not `whole`: those of media that rows are of."""
        for line in self._observed:
            medium = line.get("mediaID")
            if not medium:
                if id(line) not in self._replaced_events and (whole or id(line) in self._seen_events):
                    yield line
            elif medium not in self._told:
                if whole and medium in self._media and medium not in self._seen:
                    yield line
            elif (whole or medium in self._seen) and self._holds(line, medium):
                yield line

    def _holds(self, line: Line, medium: str) -> bool:
        if line.get("classificationMethod") != "machine":
            return medium not in self._renamed
        # another model's word is not taken back by this one
        return medium not in self._predicted or line.get("classifiedBy") not in (self._predicted[medium], None, "")

    def _events_of(self, medium: str) -> list[Line]:
        line = self._media.get(medium, {})
        moment = time_of(line.get("timestamp"))
        return covering(self._of_events.get(line.get("deploymentID", ""), ()), moment)
