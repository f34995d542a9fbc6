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
        if model is not None and value.model == model:
            row["here"] = 100 * figure["estimate"]
            if figure["low"] is not None:
                row["low"], row["high"] = 100 * figure["low"], 100 * figure["high"]
                row["inside"] = row["low"] - _ROUNDED <= value.percent <= row["high"] + _ROUNDED
        found.append(row)
    return found


def _place(value: Published, protocols: Mapping[str, Mapping[str, Any]]) -> tuple[str, str] | None:
    """The protocol and metric here that a published value is compared with; None if that was not run."""
    if value.protocol.startswith("zero-shot"):
        place = ("zero-shot", "top1")
    elif value.protocol.startswith(("one-shot", "five-shot")):
        shots = 1 if value.protocol.startswith("one-shot") else 5
        if "(v1)" not in value.protocol or protocols.get("few-shot", {}).get("as") != "bioclip-v1":
            return None
        place = ("few-shot", f"top1_{shots}_shot")
    else:
        place = _BEYOND_SPECIES.get(value.benchmark, ("", ""))
    protocol, metric = place
    return place if metric in protocols.get(protocol, {}).get("metrics", {}) else None


_BEYOND_SPECIES = {
    "newt": ("svm", "accuracy"),
    "awa2": ("traits", "macro_f1_as_published"),
    "fishnet": ("traits", "all_traits"),
    "plantdoc": ("one-shot", "top1_1_shot"),
}
"""What the figures "beyond species" of BioCLIP 2, and biobench's, are here."""
