"""What a sequence shows: one observation for each species, from those of its images and boxes.

Camtrap DP's event-based observations exclude one another, so that their counts can be summed; those of media do not.
A record table (camtrapR) is made of the same.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from birder.collection.predictions import SEQUENCE, Prediction, prediction_of
from birder.collection.schema import whole_number
from birder.formats.camtrap.observations import Line, by_machine
from birder.sources import box_of, image_of

COLUMNS = ("category", "count")
"""Columns of a collection that counts are made of, where it has them."""
_AGREED = ("lifeStage", "sex", "behavior", "observationTags")
_SHOWN = ("animal", "human", "vehicle")


class Observed(NamedTuple):
    """A row and its observations.

    Attributes
    ----------
    row
        Its columns.
    image
        What its boxes share.
    lines
        Its observations; of people first.
    """

    row: Mapping[str, Any]
    image: str
    lines: Sequence[Line]

    @property
    def said(self) -> list[Line]:
        """What a person said is there, or else the name of the folder."""
        return [line for line in self.lines if not _guessed(line) and line["observationType"] != "unclassified"]

    @property
    def guessed(self) -> list[Line]:
        """What a model predicted."""
        return [line for line in self.lines if _guessed(line)]

    @property
    def is_box(self) -> bool:
        """Whether it is of a box on an image."""
        return box_of(self.row["uri"].partition("#")[2]) is not None


class Event(NamedTuple):
    """A species in a sequence, or that there is none.

    Attributes
    ----------
    line
        The observation, without its IDs and times.
    rows
        Those that show it, in the order in which they were written.
    """

    line: Line
    rows: list[Observed]


def observed(row: Mapping[str, Any], lines: Iterable[Line]) -> Observed:
    """A row with its observations, as `events_of` takes them."""
    return Observed(row, image_of(row["uri"]), list(lines))


def events_of(rows: Sequence[Observed], model: str) -> list[Event]:
    """The observations of a sequence: one for each species, by type and name.

    A label counts before a prediction. Where a person has named something in a sequence, predictions count only for the
    other boxes of the images on which that was done: elsewhere, they are of what was named. A prediction for the
    sequence counts before those of its rows. A sequence is blank if each of its rows is.

    Parameters
    ----------
    rows
        All rows of the sequence.
    model
        What made the predictions that name no model.
    """
    groups = _groups(rows, model)
    animals = [key for key in groups if key[0] == "animal"]
    events = []
    for (kind, name), found in sorted(groups.items(), key=lambda item: (item[0][0], item[0][1] or "")):
        shown = [rows[number] for number in sorted({number for number, _ in found})]
        line = {"observationType": kind, "scientificName": name, **_classified([line for _, line in found])}
        if kind == "animal":
            line["count"] = _count(rows if len(animals) == 1 else shown, name)
        events.append(Event(line, shown))
    return events


@dataclass
class OpenSequences:
    """Rows of sequences that have begun; each is given back as soon as all its rows are there.

    Takes some 300 bytes a sequence, and some 2 kB for each row of those that have begun and lack rows: the images of
    a visit are mostly written one after the other.
    """

    _left: Counter[Hashable] = field(default_factory=Counter)
    _rows: dict[Hashable, list[Observed]] = field(default_factory=dict)

    def expect(self, key: Hashable) -> None:
        """Note that there is a row of this sequence."""
        self._left[key] += 1

    def add(self, key: Hashable, row: Observed) -> list[Observed]:
        """Take a row; gives all rows of its sequence if this is the last one."""
        self._rows.setdefault(key, []).append(row)
        self._left[key] -= 1
        if self._left[key] > 0:
            return []
        del self._left[key]
        return self._rows.pop(key)


_Key = tuple[str, str | None]


def _groups(rows: Sequence[Observed], model: str) -> dict[_Key, list[tuple[int, Line]]]:
    """The observations that count, each with the number of its row, by type and name."""
    named = {row.image for row in rows for line in row.said if line["observationType"] in _SHOWN}
    answer = None if named else _answer(rows)
    groups: dict[_Key, list[tuple[int, Line]]] = defaultdict(list)
    for number, row in enumerate(rows):
        lines = row.said
        if not lines and (not named or row.image in named):
            lines = row.guessed if answer is None else [by_machine(answer, model)]
        for line in lines:
            groups[line["observationType"], line.get("scientificName")].append((number, line))
    kinds = {kind for kind, _ in groups}
    if any(name for kind, name in groups if kind == "animal"):
        groups.pop(("animal", None), None)
    if kinds & set(_SHOWN):
        groups.pop(("unknown", None), None)
    if kinds - {"blank"} or not all(row.said or row.guessed for row in rows):
        groups.pop(("blank", None), None)
    return groups


def _answer(rows: Sequence[Observed]) -> Prediction | None:
    """The prediction for the sequence: none if its rows, which may come from other sequences by now, disagree."""
    found = [each for row in rows if (each := prediction_of(row.row, SEQUENCE)) is not None]
    return found[0] if len({each.name for each in found}) == 1 else None


def _classified(lines: Sequence[Line]) -> Line:
    """Who or what classified it, when, and with what probability: the latest label, else the most probable prediction.

    Also the columns on which all labels agree.
    """
    people = [line for line in lines if not _guessed(line)]
    if people:
        latest = max(
            people, key=lambda line: ("classificationMethod" in line, line.get("classificationTimestamp") or "")
        )
    else:
        latest = max(lines, key=lambda line: float(line["classificationProbability"] or 0))
    kept = ("classificationMethod", "classifiedBy", "classificationTimestamp", "classificationProbability")
    found = {name: latest[name] for name in (*kept, "observationComments") if latest.get(name) is not None}
    for name in _AGREED:
        if len(values := {line[name] for line in people if line.get(name) is not None}) == 1:
            found[name] = values.pop()
    return found


def _count(rows: Sequence[Observed], name: str | None) -> int | None:
    """The largest number of animals on one image: as a person said, else of boxes; None if neither is known."""
    said = [number for row in rows if _one_animal(row) and (number := whole_number(row.row.get("count")))]
    if said:
        return max(said)
    boxes = Counter(row.image for row in rows if row.is_box and _may_be(row, name))
    return max(boxes.values(), default=None)


def _one_animal(row: Observed) -> bool:
    """Whether a number that a row has can be that of one species."""
    return len(row.said) <= 1 and all(line["observationType"] == "animal" for line in row.said)


def _may_be(row: Observed, name: str | None) -> bool:
    """Whether a box is an animal that may be of this name."""
    animals = [line.get("scientificName") for line in row.said or row.guessed if line["observationType"] == "animal"]
    if row.said:
        return name in animals or None in animals
    category = row.row.get("category")
    return bool(animals) if category is None else bool(category == "animal")


def _guessed(line: Line) -> bool:
    return line.get("classificationMethod") == "machine"
