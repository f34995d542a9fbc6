"""A classifier learned from the labels of a collection, with what cross-validation says of it.

N is the number of labelled rows, C of classes, D the embedding dimension.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from birder.collection.backbone import describe_backbone, load_backbone
from birder.collection.filter import Filter
from birder.collection.storage import Storage
from birder.errors import ConfigError
from birder.evaluation.evaluate import evaluate_predictions
from birder.evaluation.held_out import Probabilities, blocks_of
from birder.evaluation.linear_fit import Chosen, Layer, choose, fit, temperature
from birder.evaluation.predictions import predictions_table
from birder.evaluation.provenance import versions
from birder.evaluation.unknown_table import scores_of, unknown_table
from birder.extras import need
from birder.inference.classifier import Classifier, prediction_sets
from birder.learning import conformal, ranks
from birder.learning.doubtful import Doubtful, doubtful_labels
from birder.learning.rows import LabelledRows, labelled_rows
from birder.learning.splits import Folds, Groups, Split, columns_for_groups, find_groups, make_folds
from birder.learning.unknown import NEAREST, Unknown, learn_unknown

Floats = npt.NDArray[np.float32]
Codes = npt.NDArray[np.int64]
Progress = Callable[[str, float], None]

SCHEMA_VERSION = 1
_METRICS = ("top1", "top3", "top5", "mean_recall", "macro_f1", "log_loss", "brier", "ece", "set_coverage", "set_size")
_SHA256_DIGITS = 16


@dataclass(frozen=True)
class Adapted:
    """A classifier that was learned, and what is known of it.

    Attributes
    ----------
    classifier
        What names embeddings.
    out_of_fold
        One row an image judged, each by a fit that had not seen its group: see `birder.evaluation.predictions`.
    evaluation
        All figures computed from them, as `metrics.json` holds them, and the doubtful labels.
    unknown
        The scores that the unknown was judged by: see `birder.evaluation.unknown_table`; None where it was not.
    """

    classifier: Classifier
    out_of_fold: pa.Table
    evaluation: dict[str, Any]
    _storage: Storage
    unknown: pa.Table | None = None

    @property
    def classes(self) -> tuple[str, ...]:
        """C names, sorted."""
        return self.classifier.classes

    @property
    def metrics(self) -> dict[str, Any]:
        """What cross-validation measured: name -> estimate, low, high, n, interval."""
        return self.classifier.metrics

    def predict(self, X: npt.ArrayLike) -> npt.NDArray[np.object_]:
        """The most probable class of each embedding (N, D), an array (N,) of str."""
        return self.classifier.predict(X)

    def predict_proba(self, X: npt.ArrayLike) -> Floats:
        """Calibrated probabilities of embeddings (N, D), float32 (N, C)."""
        return self.classifier.predict_proba(X)

    def save(self, path: str | Path, *, detached: bool = False) -> Path:
        """Write the classifier: a checkpoint with the collection's network, or a detached head.

        Parameters
        ----------
        path
            Ends in .pt or .safetensors; a detached head is named NAME.head.safetensors.
        detached
            Leave the network out.

        Returns
        -------
        The file that was written.

        Raises
        ------
        CollectionError
            The network is out of reach, as of imported embeddings: then only a detached head can be saved.
        """
        return self.classifier.save(path, model=None if detached else load_backbone(self._storage))


@dataclass(frozen=True)
class _HeldOut:
    """What fits that had not seen the rows say of the J rows judged.

    Each fold's temperature and conformal quantiles come from the other folds, so that no figure is measured on what it
    was set by.
    """

    rows: Codes  # their positions among the labelled rows
    uncalibrated: Probabilities  # (J, C)
    probabilities: Probabilities  # (J, C)
    sets: pa.ChunkedArray  # lists of names


def adapt(
    storage: Storage,
    column: str,
    *,
    where: str | Filter | None = None,
    group_by: Sequence[str] = (),
    split: Split = "groups",
    min_examples: int = 5,
    folds: int = 5,
    seed: int = 0,
    unknown: float | None = 0.95,
    taxonomy: Path | None = None,
    progress: Progress | None = None,
) -> Adapted:
    """Learn a classifier on the embeddings of a collection from one of its columns; writes nothing.

    Multinomial logistic regression on standardised embeddings, its strength chosen by cross-validation over whole
    groups, its probabilities calibrated by one temperature. The same rows and seed give the same classifier to the last
    bit, on the same machine.

    Parameters
    ----------
    storage
        The collection.
    column
        A column of text: the labels.
    where
        Only these rows.
    group_by
        Columns: rows with the same values are one group; default: see `find_groups`.
    split
        "random" for folds that do not respect groups.
    min_examples
        Classes with fewer rows are left out.
    folds
        How many, at least 2.
    seed
        Of everything that is drawn.
    unknown
        The share of known images that shall keep their name; None: the classifier never says "unknown".
    taxonomy
        A table of the ranks above the classes; default: the collection's own columns.
    progress
        Called with the name of a stage and the share of it that is done.

    Raises
    ------
    UnknownNameError
        There is no such column.
    ConfigError
        The labels cannot be learned from, or an argument is out of range; the message says why.
    MissingExtraError
        The extra "learn" is not installed.
    """
    need("learn", "birder adapt")
    if folds < 2:
        raise ConfigError(f"At least two folds are needed, not {folds}.")
    if unknown is not None and not 0.0 < unknown < 1.0:
        raise ConfigError(f"The share of known images to keep must be between 0 and 1, not {unknown}.")
    told = progress or (lambda stage, share: None)
    told("reading labels", 0.0)
    above = ranks.rank_columns(column, list(storage.columns))
    wanted = [*columns_for_groups(storage, group_by), *above]
    rows = labelled_rows(storage, column, wanted, where=where, min_examples=min_examples)
    known = (
        ranks.taxonomy_of_file(taxonomy, column, rows.classes)
        if taxonomy is not None
        else ranks.taxonomy_of_rows(rows.table, column)
    )
    told("finding groups", 0.0)
    groups = find_groups(rows.table, rows.embeddings, column=column, group_by=tuple(group_by), split=split)
    parts = _folds(rows, groups, folds, seed)
    apart = _apart(groups, parts)
    told("choosing the strength", 0.0)
    chosen = choose(
        rows.embeddings,
        rows.codes,
        parts.of,
        apart=apart,
        classes=len(rows.classes),
        seed=seed,
        progress=lambda share: told("choosing the strength", share),
    )
    judged = np.flatnonzero(parts.of >= 0)
    divisor = temperature(chosen.out_of_fold_logits, rows.codes, judged)
    held_out = _held_out(rows, parts, judged, chosen, divisor)
    told("learning the unknown", 0.0)
    novelty = (
        None
        if unknown is None
        else learn_unknown(rows.embeddings, rows.codes, parts.of, apart, kept=unknown, seed=seed)
    )
    told("fitting", 0.0)
    layer = fit(rows.embeddings, rows.codes, chosen.strength, classes=len(rows.classes), start=chosen.start)
    told("measuring", 0.0)
    table = _table(rows, groups, parts, held_out, novelty, known, group_by)
    strangers = _strangers(rows, groups, novelty)
    scores, of = (None, None) if strangers is None else scores_of(strangers)
    evaluation = evaluate_predictions(
        table,
        classes=rows.classes,
        seed=seed,
        by=[name for name in group_by if name in table.column_names],
        unknown=scores,
        unknown_groups=of,
    )
    evaluation["doubtful"] = _doubtful(rows, judged, doubtful_labels(held_out.probabilities, rows.codes[judged]))
    adaptation: dict[str, Any] = {
        "schema": SCHEMA_VERSION,
        "column": column,
        "counts": rows.counts,
        "strength": chosen.strength,
        "strengths": {str(strength): loss for strength, loss in chosen.losses.items()},
        "strength_rows": chosen.rows,
        "temperature": divisor,
        "groups": {"kind": groups.kind, "count": groups.count, "how": list(groups.how)},
        "folds": parts.count,
        "seed": seed,
        "min_examples": min_examples,
        "metrics": {name: evaluation["metrics"][name] for name in _METRICS if name in evaluation["metrics"]},
        "unknown": None
        if novelty is None or unknown is None
        else _told_of_unknown(novelty, unknown, evaluation["metrics"]),
        "conformal": _conformal(rows, judged, chosen, divisor),
        "ranks": None if known is None else _ranks(rows, held_out, known),
        "rows_sha256": rows.sha256(),
        "training": sorted({sha256[:_SHA256_DIGITS] for sha256 in rows.table["sha256"].to_pylist()}),
        "backbone": describe_backbone(storage),
        "dropped": rows.dropped,
        "warnings": [*rows.warnings, *_unjudged(rows, parts), *(known.warnings if known is not None else ())],
        "versions": versions(),
    }
    evaluation |= {
        "groups": {**evaluation.get("groups", {}), **adaptation["groups"]},
        "asked": {
            "column": column,
            "where": None if where is None else str(getattr(where, "sql", where)),
            "group_by": list(group_by),
            "split": split,
            "min_examples": min_examples,
            "folds": folds,
            "unknown": unknown,
            "taxonomy": None if taxonomy is None else taxonomy.name,
        },
        "notes": [*groups.how, *adaptation["warnings"]],
        "model": {"name": storage.model.name, "sha256": storage.model.sha256},
        "transform": storage.model.transform,
        "engine": storage.model.engine,
        "seeds": {"seed": seed},
        "versions": adaptation["versions"],
    }
    classifier = Classifier(
        rows.classes,
        *_cast(layer, divisor),
        adaptation,
        None if novelty is None else novelty.examples,
    )
    told("measuring", 1.0)
    return Adapted(classifier, table, evaluation, storage, strangers)


def _folds(rows: LabelledRows, groups: Groups, folds: int, seed: int) -> Folds:
    if groups.count < 2:
        raise ConfigError(
            "All labelled images are in one group, so nothing would be left to judge with: "
            f"{' '.join(groups.how)} Label images of other places or days, name other columns with --group-by, or ask "
            "for --split random, whose figures say little about new images."
        )
    parts = make_folds(rows.codes, groups.codes, folds, seed)
    judged = len(np.unique(rows.codes[parts.of >= 0]))
    if parts.count < 2 or judged < 2:
        raise ConfigError(
            f"{'Only one class has' if judged == 1 else 'No class has'} images in two groups or more, so it cannot be "
            f"measured how good a classifier would be. {' '.join(groups.how)} Label images of other places or days, or "
            "name other columns with --group-by."
        )
    return parts


def _apart(groups: Groups, parts: Folds) -> Codes:
    """The fold that must not learn from each row: that of its group, also for rows that are not judged themselves."""
    of_group = np.full(groups.count, -1, np.int64)
    np.maximum.at(of_group, groups.codes, parts.of)
    return of_group[groups.codes]


def _cast(layer: Layer, divisor: float) -> tuple[Floats, Floats]:
    return (layer.weight / divisor).astype(np.float32), (layer.bias / divisor).astype(np.float32)


def _held_out(rows: LabelledRows, parts: Folds, judged: Codes, chosen: Chosen, divisor: float) -> _HeldOut:
    logits, codes, folds = chosen.out_of_fold_logits, rows.codes[judged], parts.of[judged]
    divisors = np.empty(len(judged), np.float32)
    for fold in range(parts.count):
        here = folds == fold
        divisors[here] = temperature(logits, rows.codes, judged[~here], start=divisor)
    probabilities = Probabilities(logits, judged, divisors)
    true = probabilities.of(codes)
    own = conformal.by_class(codes, len(rows.classes))
    limits = []
    for fold in range(parts.count):
        others = folds != fold
        limits.append(conformal.quantiles(true[others], codes[others], rows.classes, own=own))
    sets = []
    for block in blocks_of(len(judged)):
        some, of = probabilities[block], folds[block]
        found: list[tuple[str, ...]] = [()] * len(some)
        for fold in np.unique(of).tolist():
            here = np.flatnonzero(of == fold)
            for row, members in zip(here, prediction_sets(some[here], rows.classes, limits[fold]), strict=True):
                found[row] = members
        sets.append(pa.array(found, pa.list_(pa.string())))
    plain = Probabilities(logits, judged, np.ones(len(judged), np.float32))
    return _HeldOut(judged, plain, probabilities, pa.chunked_array(sets))


def _conformal(rows: LabelledRows, judged: Codes, chosen: Chosen, divisor: float) -> dict[str, Any]:
    codes = rows.codes[judged]
    true = Probabilities(chosen.out_of_fold_logits, judged, np.full(len(judged), divisor, np.float32)).of(codes)
    own = conformal.by_class(codes, len(rows.classes))
    return {
        "level": conformal.LEVEL,
        "kind": "by class" if own else "marginal",
        "quantiles": conformal.quantiles(true, codes, rows.classes, own=own),
    }


def _table(
    rows: LabelledRows,
    groups: Groups,
    parts: Folds,
    held_out: _HeldOut,
    novelty: Unknown | None,
    known: ranks.Taxonomy | None,
    group_by: Sequence[str],
) -> pa.Table:
    judged = held_out.rows
    told = rows.table.take(pa.array(judged))
    return predictions_table(
        told["id"],
        told["uri"],
        pa.array(groups.codes[judged]).cast(pa.string()),
        parts.of[judged],
        [rows.classes[code] for code in rows.codes[judged]],
        held_out.probabilities,
        rows.classes,
        uncalibrated=held_out.uncalibrated,
        unknown_scores=None if novelty is None else novelty.scores[judged],
        sets=held_out.sets,
        taxa=None if known is None else known.taxa,
        extra=told.select(list(dict.fromkeys(group_by))) if group_by else None,
    )


def _strangers(rows: LabelledRows, groups: Groups, novelty: Unknown | None) -> pa.Table | None:
    """The scores that the unknown is judged by; None where no class was left out."""
    if novelty is None or not len(novelty.asked):
        return None
    ids = rows.table["id"].take(pa.array(novelty.asked)).to_pylist()
    names = [str(code) for code in groups.codes[novelty.asked]]
    return unknown_table(ids, names, novelty.known, novelty.found, novelty.rounds)


def _told_of_unknown(novelty: Unknown, kept: float, metrics: dict[str, Any]) -> dict[str, Any]:
    how = (
        f"Mean cosine distance to the {NEAREST} nearest of {len(novelty.examples):,} training images; the threshold "
        f"keeps {kept:.1%} of the held-out images of known classes."
    )
    area, rate = metrics.get("unknown_auroc"), metrics.get("unknown_fpr95")
    if area is not None:
        how += " AUROC and FPR at 95 % TPR are of five runs together, each without a random fifth of the classes."
    return {
        "k": NEAREST,
        "threshold": novelty.threshold,
        "kept": kept,
        "auroc": None if area is None else area["estimate"],
        "fpr95": None if rate is None else rate["estimate"],
        "how": how,
    }


def _ranks(rows: LabelledRows, held_out: _HeldOut, known: ranks.Taxonomy) -> dict[str, Any]:
    codes = rows.codes[held_out.rows]
    return {
        "names": list(known.names),
        "taxa": known.taxa,
        "thresholds": ranks.measured_precision(held_out.probabilities, codes, rows.classes, known),
    }


def _doubtful(rows: LabelledRows, judged: Codes, found: Sequence[Doubtful]) -> list[dict[str, Any]]:
    ids, uris = rows.table["id"], rows.table["uri"]
    return [
        {
            "id": ids[int(judged[each.row])].as_py(),
            "uri": uris[int(judged[each.row])].as_py(),
            "label": rows.classes[rows.codes[judged[each.row]]],
            "suggested": rows.classes[each.suggested],
            "score": each.score,
        }
        for each in found
    ]


def _unjudged(rows: LabelledRows, parts: Folds) -> list[str]:
    if not parts.unjudged:
        return []
    names = ", ".join(rows.classes[code] for code in parts.unjudged[:5])
    more = f" and {len(parts.unjudged) - 5} more" if len(parts.unjudged) > 5 else ""
    return [f"Learned but not judged, because all their images are in one group: {names}{more}."]
