"""The figures of a benchmark as rows, with the published values of the same model beside them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from birder.collection.evaluating import Evaluation

_VERDICTS = {True: "inside", False: "outside", None: ""}


def beside_published(found: Evaluation) -> list[dict[str, Any]]:
    """One row for each figure of a protocol; one for each published value, where there are several of a figure."""
    published: dict[str, list[dict[str, Any]]] = {}
    for each in found.results["published"]:
        if each["here"] is not None:
            published.setdefault(each["metric"], []).append(each)
    rows = []
    for name, figure in found.metrics.items():
        if "." not in name:  # of the table of zero-shot predictions, which says more than the benchmark asks
            continue
        own = {"metric": name, "here": figure["estimate"], "low": figure["low"], "high": figure["high"]}
        own |= {"n": figure["n"]}
        for value in published.get(name, [None]):
            beside: dict[str, Any] = {"published": None, "verdict": "", "as": "", "source": ""}
            if value is not None:
                beside = {
                    "published": round(value["percent"] / 100, 6),
                    "verdict": _VERDICTS[value["inside"]],
                    "as": f"{value['model']}, {value['protocol']}",
                    "source": value["source"],
                }
            rows.append(own | beside)
    return rows
