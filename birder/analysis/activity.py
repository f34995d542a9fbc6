"""What an ecologist reports first: effort and captures, activity over the day, accumulation of species, stations."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from birder.analysis.accumulation import Accumulation, accumulate
from birder.analysis.captures import DAY, Captures, Deployment, read_captures
from birder.analysis.circular import Curve, Overlap, activity_curve, count_minutes, overlap
from birder.collection.filter import Filter
from birder.collection.journal import Journal
from birder.collection.reading import RowReader
from birder.errors import CollectionError, unknown_name
from birder.words import counted

LEAST = 10
"""Events with a time from which a species gets a curve."""
CURVES = 12
"""The most frequent species that get one, unless species are named."""

Codes = npt.NDArray[np.int64]

_COMPARED = 5  # species whose curves are compared by pairs
_BOOTSTRAPPED = 5  # deployments from which a rate has an interval
_REPLICATES = 1000
_LONG = 2 * 365  # nights of a deployment, told by its images, from which its clock is doubted


class Species(NamedTuple):
    """A species' captures.

    Attributes
    ----------
    name
        As the rows have it.
    captures
        Events in which it is.
    deployments
        How many deployments captured it.
    rate, low, high
        Captures per 100 trap nights at deployments whose nights are known, with the 2.5 and 97.5 percentiles of a
        bootstrap over deployments; None where no nights are known, or with fewer than 5 deployments.
    """

    name: str
    captures: int
    deployments: int
    rate: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True, eq=False)
class Activity:
    """Effort and captures, and what follows from them. Iterating gives the rows of `table`.

    Attributes
    ----------
    table
        A row for each deployment and species that it captured (a species of null, and 0 captures, where there are
        none): `deployment`, `species`, `captures`, `per_100_nights`, `nights`, `start`, `end`, and `nights_from`
        ("dates" of the deployment, or its "images").
    deployments
        By name; the last, with an empty name, is of the rows without one, if there are such rows.
    species
        By captures; only those that were asked for.
    counts
        (D, S) int64: captures by deployment and species.
    curves
        When in the day a species is active, by name: of those with at least 10 events with a time.
    overlaps
        How much the curves of two species overlap.
    accumulation
        The expected number of species, of all there are, in so many days at a deployment; None without a day.
    rows
        How many rows were read.
    notes
        What must be read with the figures.
    """

    table: pa.Table
    deployments: tuple[Deployment, ...]
    species: tuple[Species, ...]
    counts: Codes
    curves: dict[str, Curve]
    overlaps: dict[tuple[str, str], Overlap]
    accumulation: Accumulation | None
    rows: int
    notes: tuple[str, ...]

    def __iter__(self) -> Iterator[dict[str, Any]]:
        yield from self.table.to_pylist()

    def __len__(self) -> int:
        return int(self.table.num_rows)

    @property
    def nights(self) -> float:
        """Trap nights of all deployments."""
        return sum(each.nights or 0.0 for each in self.deployments)

    @property
    def events(self) -> int:
        """Sequences, and images without one."""
        return sum(each.events for each in self.deployments)

    @property
    def summary(self) -> str:
        """The main figures in one line."""
        named = sum(bool(each.name) for each in self.deployments)
        captures = sum(each.captures for each in self.species)
        return (
            f"{counted(self.events, 'event')}, {counted(captures, 'capture')} of {len(self.species):,} species, "
            f"{counted(named, 'deployment')}, {self.nights:,.1f} trap nights"
        )


def find_activity(
    rows: RowReader,
    journal: Journal,
    *,
    species: Sequence[str] = (),
    column: str | None = None,
    where: Filter | None = None,
    seed: int = 0,
) -> Activity:
    """Effort, captures, activity over the day, and accumulation of species; see `Collection.activity`.

    Raises
    ------
    UnknownNameError
        There is no such column, or nothing has one of these names.
    CollectionError
        No row matches the filter.
    """
    found = read_captures(rows, journal, column=column, where=where)
    if not found.rows:
        raise CollectionError(
            "No row matches: there is nothing to report. Check the filter, and that the collection has rows."
        )
    for name in species:
        if name not in found.species:
            raise unknown_name("species", name, found.species)
    chosen = [code for code, name in enumerate(found.species) if not species or name in species]
    counts = np.zeros((len(found.deployments), len(found.species)), np.int64)
    np.add.at(counts, (found.deployment, found.name), 1)
    accumulation, outside = _accumulated(found)
    minutes = _minutes(found, chosen if species else chosen[:CURVES])
    compared = list(minutes)[:_COMPARED]
    return Activity(
        _table(found, counts, chosen),
        found.deployments,
        tuple(_rates(found, counts, chosen, seed)),
        counts[:, chosen],
        {name: activity_curve(each, name, seed=seed) for name, each in minutes.items()},
        {
            (first, second): overlap(minutes[first], minutes[second], (first, second), seed=seed)
            for first, second in combinations(compared, 2)
        },
        accumulation,
        found.rows,
        tuple(_notes(found, outside)),
    )


def _minutes(found: Captures, chosen: Sequence[int]) -> dict[str, Codes]:
    """The times of each species that has enough of them, counted by minute."""
    timed = found.timed
    counted = {found.species[code]: count_minutes(found.moment[timed & (found.name == code)]) for code in chosen}
    return {name: counts for name, counts in counted.items() if counts.sum() >= LEAST}


def _table(found: Captures, counts: Codes, chosen: Sequence[int]) -> pa.Table:
    lines: list[dict[str, Any]] = []
    for code, each in enumerate(found.deployments):
        captured: list[int | None] = [one for one in chosen if counts[code, one]]
        for one in captured or [None]:
            number = 0 if one is None else int(counts[code, one])
            line: dict[str, Any] = {
                "deployment": each.name or None,
                "species": None if one is None else found.species[one],
            }
            rate = 100 * number / each.nights if each.nights else None
            line |= {"captures": number, "per_100_nights": rate, "nights": each.nights}
            lines.append(line | {"start": each.start, "end": each.end, "nights_from": each.known_by})
    return pa.Table.from_pylist(lines, _TABLE)


_TABLE = pa.schema(
    [
        ("deployment", pa.string()),
        ("species", pa.string()),
        ("captures", pa.int64()),
        ("per_100_nights", pa.float64()),
        ("nights", pa.float64()),
        ("start", pa.timestamp("us")),
        ("end", pa.timestamp("us")),
        ("nights_from", pa.string()),
    ]
)


def _rates(found: Captures, counts: Codes, chosen: Sequence[int], seed: int) -> Iterator[Species]:
    nights = np.array([each.nights or 0.0 for each in found.deployments])
    known = nights > 0
    low: list[float | None] = [None] * len(chosen)
    high = list(low)
    if known.sum() >= _BOOTSTRAPPED and chosen:
        random = np.random.default_rng(seed)
        number = int(known.sum())
        drawn = random.multinomial(number, np.full(number, 1 / number), _REPLICATES).astype(np.float64)
        rates = 100 * (drawn @ counts[known][:, chosen]) / (drawn @ nights[known])[:, None]
        low, high = np.percentile(rates, (2.5, 97.5), axis=0).tolist()
    total = float(nights.sum())
    named = np.array([bool(each.name) for each in found.deployments])
    for place, code in enumerate(chosen):
        rate = 100 * int(counts[known, code].sum()) / total if total else None
        there = int((counts[named, code] > 0).sum())
        yield Species(found.species[code], int(counts[:, code].sum()), there, rate, low[place], high[place])


def _accumulated(found: Captures) -> tuple[Accumulation | None, int]:
    """The accumulation of species over days at a deployment, and how many captures lie outside of its dates."""
    named = np.array([bool(each.name) and each.known_by is not None for each in found.deployments])
    use = found.timed & named[found.deployment]
    deployment, name, day = found.deployment[use], found.name[use], found.moment[use] // DAY
    first, last = (
        np.array([0 if each is None else _day(each) for each in ends])
        for ends in zip(*((each.start, each.end) for each in found.deployments), strict=True)
    )
    outside = (day < first[deployment]) | (day > last[deployment])
    total = int((last - first + 1)[named].sum())
    if not total or not len(name):
        return None, 0
    span = int(day.max() - day.min()) + 1
    sample = deployment * span + day - day.min()
    total += len(np.unique(sample[outside]))
    number = len(found.deployments) * span
    incidences = np.bincount(np.unique(name * number + sample) // number)
    return accumulate(incidences[incidences > 0], total), int(outside.sum())


def _day(moment: datetime) -> int:
    return (moment - datetime(1970, 1, 1)) // timedelta(days=1)


def _notes(found: Captures, outside: int) -> Iterator[str]:
    """What must be read with the figures, in sentences."""
    if found.untimed:
        yield f"{found.untimed:,} of {found.rows:,} rows have no time: their captures count, but without hour and day."
    if found.undeployed:
        yield (
            f"{found.undeployed:,} of {found.rows:,} rows have no deployment: their captures count, but in no rate. "
            "Give them one with birder embed --deployment-from or birder label."
        )
    by_images = [each for each in found.deployments if each.known_by == "images"]
    if by_images:
        yield (
            f"The dates of {len(by_images):,} deployments are not known. Their nights are counted from the first image "
            "to the last, at least 1, so their rates are too high if cameras stood longer. The columns deploymentStart "
            "and deploymentEnd tell the dates."
        )
    if long := [each.name for each in by_images if (each.nights or 0) > _LONG]:
        more = ", ..." if len(long) > 3 else ""
        yield (
            f"{len(long):,} deployments last more than two years by their images ({', '.join(long[:3])}{more}): was a "
            "clock wrong? birder shift-time sets it right."
        )
    if outside:
        yield f"{outside:,} captures lie outside of the dates of their deployments."
    if found.by_folder:
        yield (
            f"{counted(found.by_folder, 'row has', 'rows have')} the name of the folder as label: nobody has named "
            f"{'it' if found.by_folder == 1 else 'them one by one'}."
        )
