"""What is known of a network that was trained: its figures before and after, and what its checkpoint records."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from birder.errors import ImageError
from birder.evaluation.compare import compare
from birder.evaluation.evaluate import evaluate_predictions
from birder.evaluation.linear_fit import temperature
from birder.evaluation.predictions import predictions_table
from birder.evaluation.provenance import versions
from birder.inference.classifier import Classifier, prediction_sets, softmax
from birder.learning import conformal
from birder.learning.finetune import FineTuned, Recipe
from birder.learning.rows import LabelledRows
from birder.learning.splits import Groups
from birder.learning.start import Parts
from birder.weights.load import LoadedModel

Floats = npt.NDArray[np.float32]

SCHEMA_VERSION = 1
_METRICS = ("top1", "top3", "top5", "mean_recall", "macro_f1", "log_loss", "brier", "ece")
_SHA256_DIGITS = 16
_OPTIMISTIC = (
    "The epoch, the mix of weights and the temperature were chosen on these validation images, so the figures are a "
    "little too good. Judge the checkpoint on images that it has not seen: embed them with it (birder embed --model), "
    "then run birder evaluate."
)


@dataclass(frozen=True)
class Training:
    """What was trained, on what, and how.

    Attributes
    ----------
    column
        The column of the labels.
    rows, groups, parts
        The labelled rows, what belongs together, and what was held out.
    model
        The network that it began with.
    recipe
        How.
    strength
        Of the classifier that was fitted first; None if it came from a file.
    init
        The name of that file, or None.
    device, processes
        What it ran on.
    """

    column: str
    rows: LabelledRows
    groups: Groups
    parts: Parts
    model: LoadedModel
    recipe: Recipe
    strength: float | None
    init: str | None
    device: str
    processes: int


def judged(training: Training, found: FineTuned) -> tuple[dict[str, Any], pa.Table, Classifier]:
    """Judge a trained network on the validation images.

    Returns
    -------
    evaluation
        As `birder.evaluation.evaluate.evaluate_predictions` gives it, with `comparison`, the network after the training
        and before, and `training`.
    predictions
        One row an image: see `birder.evaluation.predictions`.
    classifier
        The network's classifier, its logits divided by a temperature, with its record.

    Raises
    ------
    ImageError
        No validation image could be read.
    """
    rows = training.rows
    places = training.parts.held_out[found.judged]
    if not len(places):
        raise ImageError("None of the validation images could be read: nothing is known of the trained network.")
    codes = rows.codes[places]
    divisor = temperature(found.after, codes)
    probabilities = softmax(found.after / np.float32(divisor))
    own = conformal.by_class(codes, len(rows.classes))
    true = np.take_along_axis(probabilities, codes[:, None], axis=1)[:, 0]
    quantiles = conformal.quantiles(true, codes, rows.classes, own=own)
    sets = prediction_sets(probabilities, rows.classes, quantiles)

    def table(probabilities: Floats, sets: Sequence[Sequence[str]] | None) -> pa.Table:
        told = rows.table.take(pa.array(places))
        return predictions_table(
            told["id"].to_pylist(),
            told["uri"].to_pylist(),
            [str(group) for group in training.groups.codes[places]],
            None,
            [rows.classes[code] for code in codes],
            probabilities,
            rows.classes,
            uncalibrated=softmax(found.after) if sets is not None else None,
            sets=sets,
        )

    after, before = table(probabilities, sets), table(softmax(found.before), None)
    evaluation = evaluate_predictions(after, classes=rows.classes, seed=training.recipe.seed)
    evaluation["comparison"] = {
        "names": ["after the training", "before"],
        "how": "The same validation images, named by the network after the training and by the classifier before it.",
        **compare(after, before, seed=training.recipe.seed),
    }
    evaluation["training"] = {
        "recipe": asdict(training.recipe),
        "size": list(training.model.net.size),
        "images": len(training.parts.learned),
        "validation": len(places),
        "strength": training.strength,
        "init": training.init,
        "device": training.device,
        "processes": training.processes,
        "history": found.history,
        "best": found.best,
        "mix": found.mix,
        "mixes": [{"share": share, **each} for share, each in found.mixes.items()],
        "seconds": round(found.seconds, 1),
        "failures": found.failures,
    }
    groups = {"kind": training.groups.kind, "count": training.groups.count, "how": list(training.groups.how)}
    notes = [*training.groups.how, *rows.warnings, *_notes(training, found)]
    evaluation |= {
        "groups": {**evaluation.get("groups", {}), **groups},
        "notes": notes,
        "warnings": list(rows.warnings),
        "model": {"name": training.model.name, "sha256": training.model.sha256},
        "seeds": {"seed": training.recipe.seed},
        "versions": versions(),
    }
    record = {
        "schema": SCHEMA_VERSION,
        "column": training.column,
        "counts": rows.counts,
        "temperature": divisor,
        "groups": groups,
        "seed": training.recipe.seed,
        "metrics": {name: evaluation["metrics"][name] for name in _METRICS if name in evaluation["metrics"]},
        "unknown": None,
        "conformal": {"level": conformal.LEVEL, "kind": "by class" if own else "marginal", "quantiles": quantiles},
        "ranks": None,
        "rows_sha256": rows.sha256(),
        "training": sorted({sha256[:_SHA256_DIGITS] for sha256 in rows.table["sha256"].to_pylist()}),
        "backbone": {
            "name": f"{training.model.name}, trained on {training.column}",
            "network": training.model.network,
            "sha256": None,  # that of the trained tensors: saving computes it
            "weights_sha256": None,
            "dimension": training.model.net.embedding_size,
        },
        "trained_from": {"name": training.model.name, "sha256": training.model.sha256},
        "dropped": rows.dropped,
        "warnings": notes,
        "versions": versions(),
    }
    weight, bias = (
        (found.state[f"classifier.{name}"].float() / divisor).numpy().astype(np.float32) for name in ("weight", "bias")
    )
    return evaluation, after, Classifier(rows.classes, weight, bias, record)


def _notes(training: Training, found: FineTuned) -> list[str]:
    notes = [_OPTIMISTIC]
    if training.init is not None:
        notes.append(
            f"{training.init} may have been learned from some of the validation images: then the figures, before and "
            "after, are too good."
        )
    if found.failures:
        count = len(found.failures)
        were = "1 image" if count == 1 else f"{count:,} images"
        notes.append(f"{were} could not be read and took no part.")
    if found.mix == 0.0:
        notes.append("No mix with the trained weights was better on the validation images: the network is as it was.")
    return notes
