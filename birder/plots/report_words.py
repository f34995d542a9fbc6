"""What the figures of an evaluation are called and mean, in words for a report and the command line."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from birder.plots.report_charts import percent


class Figure(NamedTuple):
    """A figure: its name, what it means, whether it is a share from 0 to 1, and whether less is better."""

    name: str
    meaning: str
    share: bool = True
    less: bool = False


FIGURES: dict[str, Figure] = {
    "top1": Figure("Right name (top-1 accuracy)", "images whose most probable name is the label"),
    "top3": Figure("Right name among the first three", "images whose label is among the three most probable names"),
    "top5": Figure("Right name among the first five", "images whose label is among the five most probable names"),
    "mean_recall": Figure("Mean over classes (recall)", "each class counts the same, however many images it has"),
    "macro_f1": Figure("Macro F1", "the mean over classes of the harmonic mean of precision and recall"),
    "log_loss": Figure("Log loss", "how surprised the probabilities are by the labels; 0 is perfect", False, True),
    "brier": Figure("Brier score", "mean squared error of all probabilities of an image; 0 to 2", False, True),
    "ece": Figure(
        "Calibration error (ECE)", "mean gap between how sure and how right, in 15 bins of equal mass", less=True
    ),
    "ece_uncalibrated": Figure("Calibration error before temperature", "the same for the raw probabilities", less=True),
    "coverage_at_90": Figure(
        "Named with 90\u00a0% right", "images that can be named so that 90\u00a0% of the names are right"
    ),
    "coverage_at_95": Figure(
        "Named with 95\u00a0% right", "images that can be named so that 95\u00a0% of the names are right"
    ),
    "coverage_at_99": Figure(
        "Named with 99\u00a0% right", "images that can be named so that 99\u00a0% of the names are right"
    ),
    "set_coverage": Figure("Label in the set", "images whose conformal set of names holds the label"),
    "set_size": Figure("Size of the sets", "mean number of names in a conformal set", False, True),
    "unknown_auroc": Figure("Unknown told from known (AUROC)", "0.5 is chance, 1 is perfect", False),
    "unknown_fpr95": Figure(
        "Unknown taken for known (FPR95)", "where 95\u00a0% of known images are accepted", less=True
    ),
    "lca_height": Figure(
        "Height of the lowest common ancestor", "mean ranks to climb until both names meet", False, True
    ),
    "accuracy": Figure("Right name (accuracy)", "images whose name is the label"),
    "coverage": Figure("Images with a name", "the others have no prediction, and count as wrong"),
    "mean_over_tasks": Figure("Mean over tasks", "each task counts the same, however many images it has"),
    "all_traits": Figure("All traits right", "images of which every trait is told right"),
    "mean_accuracy_of_traits": Figure("Traits told right", "of all images and traits together"),
    "macro_f1_as_published": Figure("Macro F1 as published", "the mean over the first two traits alone"),
    "map": Figure("Retrieval mAP", "mean average precision of a search by each image"),
    "ami": Figure("Cluster AMI", "agreement of clusters with labels, corrected for chance; 0 is chance", False),
}


_NUMBERED = (
    (re.compile(r"top1_k(\d+)"), "Right name by the nearest {}", "images named by a vote of their nearest neighbours"),
    (re.compile(r"mean_recall_k(\d+)"), "Mean over classes by the nearest {}", "each class counts the same"),
    (
        re.compile(r"top1_(\d+)_shot"),
        "Right name with {} examples of each class",
        "images named by the nearest class mean",
    ),
    (re.compile(r"recall_at_(\d+)"), "One of the class among the first {}", "searches by an image"),
)


def figure(name: str) -> Figure:
    """A figure by its key in metrics.json; an unknown one has its key as its name."""
    if name in FIGURES:
        return FIGURES[name]
    for pattern, template, meaning in _NUMBERED:
        if found := pattern.fullmatch(name):
            return Figure(template.format(*found.groups()), meaning)
    return Figure(name.replace("_", " "), "", share=False)


def number(name: str, value: float) -> str:
    """A figure's value for people: a share in percent, else with three decimals."""
    return percent(value) if figure(name).share else f"{value:.3f}"


def estimate(name: str, found: Mapping[str, Any]) -> str:
    """A figure with its interval: "86.4 % (83.1 to 89.0 %)"."""
    value = number(name, found["estimate"])
    if found.get("low") is None or found.get("high") is None:
        return value
    if figure(name).share:
        return f"{value} ({100 * found['low']:.1f} to {percent(found['high'])})"
    return f"{value} ({found['low']:.3f} to {found['high']:.3f})"


def compared(found: Mapping[str, Any]) -> str:
    """Which of two models names more images rightly, and whether that may be chance, as a sentence."""
    difference = found["difference"]["top1"]
    sign = 1 if difference["estimate"] >= 0 else -1  # as "the better one names more"
    better, worse = found["names"][::sign]
    said = (
        f"{better} names {100 * abs(difference['estimate']):.1f} percentage points more of the {found['n']:,} images "
        f"rightly than {worse}"
    )
    if difference.get("low") is not None and difference.get("high") is not None:
        low, high = sorted((100 * sign * difference["low"], 100 * sign * difference["high"]))
        chance = ", which includes 0: this may be chance" if low <= 0 <= high else ""
        said += f" ({how(difference)}: {_signed(low)} to {_signed(high)} points{chance})"
    return f"{said}."


def difference(name: str, found: Mapping[str, Any]) -> str:
    """A difference of a figure with its interval, shares in percentage points: "+4.1 (+1.2 to +7.2)"."""
    times = 100.0 if figure(name).share else 1.0
    digits = 1 if figure(name).share else 3
    value, low, high = (None if found[key] is None else times * found[key] for key in ("estimate", "low", "high"))
    said = _signed(value or 0.0, digits)
    return said if low is None or high is None else f"{said} ({_signed(low, digits)} to {_signed(high, digits)})"


def how(found: Mapping[str, Any]) -> str:
    """How an interval was found, in words; empty where there is none."""
    kind = found.get("interval")
    return "" if kind in (None, "none") else f"95\u00a0% interval, {kind}"


def plainly(found: Mapping[str, Any]) -> str:
    """What an interval takes for independent, in words that ask for no statistics."""
    together = found.get("interval") == "bootstrap over groups"
    return "95\u00a0% interval; " + (
        "images that belong together count as one" if together else "each image counts by itself"
    )


def _signed(number: float, digits: int = 1) -> str:
    return f"{number:+.{digits}f}".replace("-", "\u2212")
