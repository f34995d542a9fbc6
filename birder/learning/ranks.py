"""The ranks above a classifier's classes, and how precise its answers were at each of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from birder.errors import ConfigError
from birder.evaluation.held_out import Probabilities, blocks_of
from birder.inference.classifier import FLOORS, roll_up
from birder.taxonomy import COMMON_NAME, RANKS, ranks_in, species_name

Taxa = dict[str, dict[str, str]]


@dataclass(frozen=True)
class Taxonomy:
    """What is above the classes of a column.

    Attributes
    ----------
    names
        Ranks, the highest first; last the column of the classes.
    taxa
        Class -> rank -> taxon, where it is known; the class itself in its own column.
    warnings
        Classes with more than one taxon at a rank, which is left open.
    common_names
        Class -> common name, where a table tells it: the first, if it tells several.
    """

    names: tuple[str, ...]
    taxa: Taxa
    warnings: tuple[str, ...]
    common_names: dict[str, str] = field(default_factory=dict)


def rank_columns(column: str, known: Sequence[str]) -> list[str]:
    """The ranks above a column, among the columns that are known, the highest first: all of them, if it is no rank."""
    above = RANKS[: RANKS.index(column)] if column in RANKS else RANKS
    return [rank for rank in ranks_in(known) if rank in above]


def taxonomy_of_rows(rows: pa.Table, column: str) -> Taxonomy | None:
    """What rows say about the ranks above their labels; None if they say nothing.

    Parameters
    ----------
    rows
        With `column` and those of `rank_columns` that there are.
    """
    columns = [column, *rank_columns(column, rows.column_names)]
    return _taxonomy(column, columns[1:], zip(*(rows[name].to_pylist() for name in columns), strict=True))


def taxonomy_of_file(path: Path, column: str, classes: Sequence[str]) -> Taxonomy:
    """The ranks above classes, from a table.

    Parameters
    ----------
    path
        A CSV or Parquet file with columns of ranks. The classes stand in a column named as `column`, or label, or in
        that of a rank or common names: the one with most of them.
    column, classes
        The labels' column, and the classes.

    Raises
    ------
    ConfigError
        It cannot be read, has no columns of ranks, or none of the classes.
    """
    from birder.sources.text_table import read_text_table

    table = read_text_table(path, missing=True)
    values = {name: table[name].to_pylist() for name in table.column_names}
    if "genus" in values and "species" in values:
        pairs = zip(values["genus"], values["species"], strict=True)
        values["species"] = [species_name(genus, species) for genus, species in pairs]
    above = rank_columns(column, list(values))
    if not above:
        raise ConfigError(f"{path} has no column of a rank above {column}: it needs some of {', '.join(RANKS)}.")
    keys = [name for name in dict.fromkeys([column, "label", *reversed(RANKS), COMMON_NAME]) if name in values]
    wanted = set(classes)
    found, key = max(((len(wanted & set(values[name])), -i) for i, name in enumerate(keys)), default=(0, 0))
    if not found:
        raise ConfigError(
            f"{path} has none of the classes of {column} ({', '.join(sorted(wanted)[:3])}, ...): it needs them in a "
            f"column named {column}, label, species or {COMMON_NAME}."
        )
    rows = zip(values[keys[-key]], *(values[rank] for rank in above), strict=True)
    taxonomy = _taxonomy(column, above, [row for row in rows if row[0] in wanted])
    if taxonomy is None:
        raise ConfigError(f"{path} has no taxa for the classes of {column}: its columns of ranks are empty there.")
    if COMMON_NAME in values:
        pairs = zip(values[keys[-key]], values[COMMON_NAME], strict=True)
        common = {name: said for name, said in reversed(list(pairs)) if said and name in wanted}
        taxonomy = replace(taxonomy, common_names=common)
    missing = sorted(wanted - set(taxonomy.taxa))
    if not missing:
        return taxonomy
    taxa = taxonomy.taxa | {name: {column: name} for name in missing}
    warning = f"{path.name} lacks {len(missing)} of {len(classes)} classes: {', '.join(missing[:5])}."
    return replace(taxonomy, taxa=taxa, warnings=(*taxonomy.warnings, warning))


def _taxonomy(column: str, above: Sequence[str], rows: Any) -> Taxonomy | None:
    seen: dict[str, dict[str, set[str]]] = {}
    for name, *taxa in rows:
        of_class = seen.setdefault(name, {rank: set() for rank in above})
        for rank, taxon in zip(above, taxa, strict=True):
            if taxon:
                of_class[rank].add(taxon)
    warnings = []
    known: Taxa = {}
    for name in sorted(seen):
        known[name] = {rank: next(iter(taxa)) for rank, taxa in seen[name].items() if len(taxa) == 1}
        for rank, taxa in seen[name].items():
            if len(taxa) > 1:
                warnings.append(f"{name} has more than one {rank} ({', '.join(sorted(taxa)[:3])}): it is left open.")
    used = tuple(rank for rank in above if any(rank in taxa for taxa in known.values()))
    if not used:
        return None
    return Taxonomy((*used, column), {name: {**taxa, column: name} for name, taxa in known.items()}, tuple(warnings))


def measured_precision(
    probabilities: Probabilities | npt.NDArray[np.float32],
    codes: npt.NDArray[np.int64],
    classes: Sequence[str],
    taxonomy: Taxonomy,
) -> dict[str, dict[str, dict[str, float]]]:
    """How often the most probable taxon was right, for each rank, above each probability of `FLOORS`.

    Parameters
    ----------
    probabilities
        float32 (N, C), of held-out rows; read in blocks.
    codes
        int64 (N,): their true classes.

    Returns
    -------
    Rank -> the probability as text -> precision and n; thresholds that no row reaches are absent.
    """
    told: dict[str, list[tuple[npt.NDArray[np.bool_], npt.NDArray[np.float32]]]] = {rank: [] for rank in taxonomy.names}
    for block in blocks_of(len(codes)):
        some = probabilities[block]
        for rank in taxonomy.names:
            taxa, summed = roll_up(some, classes, taxonomy.taxa, rank)
            position = {taxon: i for i, taxon in enumerate(taxa)}
            of_class = np.array([position.get(_at(taxonomy.taxa, name, rank), -1) for name in classes], np.int64)
            truth = of_class[codes[block]]
            asked = truth >= 0
            best = summed[asked].argmax(axis=1)
            told[rank].append((best == truth[asked], np.take_along_axis(summed[asked], best[:, None], axis=1)[:, 0]))
    found: dict[str, dict[str, dict[str, float]]] = {}
    for rank, parts in told.items():
        right, reached = (np.concatenate(each) for each in zip(*parts, strict=True))
        found[rank] = {}
        for floor in FLOORS:
            above = reached >= np.float32(floor)
            if above.any():
                found[rank][str(floor)] = {"precision": float(right[above].mean()), "n": int(above.sum())}
    return found


def _at(taxa: Mapping[str, Mapping[str, str]], name: str, rank: str) -> str:
    return taxa.get(name, {}).get(rank, "")
