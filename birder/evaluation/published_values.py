"""Figures of a benchmark beside the published ones, and whether those lie inside the intervals that were found here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from birder.evaluation.benchmarks import Benchmark, Published, published_values

_ROUNDED = 0.05
"""Half of the last digit that most published values have, in percent."""


def beside_published(
    benchmark: Benchmark, protocols: Mapping[str, Mapping[str, Any]], model: str | None
) -> list[dict[str, Any]]:
    """What was published of a benchmark by the protocols that were run, each value beside the figure here.

    Parameters
    ----------
    benchmark
        Which one.
    protocols
        What `birder.evaluation.benchmark_protocols.judge` gave, by the protocol's name.
    model
        What the published tables call the model that was judged; None if they do not have it.

    Returns
    -------
    For each published value: model, protocol, percent and source as published; metric, the figure here that it is
    compared with; and, where the model is the same, here, low, high (percent) and inside: whether the value, which is
    rounded, lies in the interval. Without an interval, or for another model, inside is None.
    """
    found = []
    for value in published_values():
        if value.benchmark != benchmark.name or (place := _place(value, protocols)) is None:
            continue
        protocol, metric = place
        figure = protocols[protocol]["metrics"][metric]
        row: dict[str, Any] = {
            "model": value.model,
            "protocol": value.protocol,
            "percent": value.percent,
            "metric": f"{protocol}.{metric}",
            "here": None,
            "low": None,
            "high": None,
            "inside": None,
            "source": value.source,
        }
        if model is not None and model_of(value) == model:
            row["here"] = 100 * figure["estimate"]
            if figure["low"] is not None:
                row["low"], row["high"] = 100 * figure["low"], 100 * figure["high"]
                row["inside"] = lies_inside(value.percent, row["low"], row["high"])
        found.append(row)
    return found


def compared_with(value: Published) -> tuple[str, str] | None:
    """The protocol and metric here that a published value is compared with; None if there is none.

    One-shot and five-shot are those of `as_="bioclip-v1"`.
    """
    if value.protocol.startswith("zero-shot"):
        return "zero-shot", "top1"
    if value.protocol.startswith(("one-shot", "five-shot")):
        return ("few-shot", f"top1_{1 if value.protocol.startswith('one-shot') else 5}_shot")
    return _BEYOND_SPECIES.get(value.benchmark)


def lies_inside(percent: float, low: float, high: float) -> bool:
    """Whether a published value, which is rounded, lies in an interval; all in percent."""
    return low - _ROUNDED <= percent <= high + _ROUNDED


def model_of(value: Published) -> str:
    """The model that a published value is of: some have several versions of their figures, "BioCLIP (older card)"."""
    return value.model.partition(" (")[0]


def _place(value: Published, protocols: Mapping[str, Mapping[str, Any]]) -> tuple[str, str] | None:
    """`compared_with`, or None if that was not run."""
    place = compared_with(value)
    if place is None or place[1] not in protocols.get(place[0], {}).get("metrics", {}):
        return None
    if place[0] == "few-shot" and protocols["few-shot"].get("as") != "bioclip-v1":
        return None
    return place


_BEYOND_SPECIES = {
    "newt": ("svm", "accuracy"),
    "awa2": ("traits", "macro_f1_as_published"),
    "fishnet": ("traits", "all_traits"),
    "plantdoc": ("one-shot", "top1_1_shot"),
}
"""What the figures "beyond species" of BioCLIP 2, and biobench's, are here."""
