"""The report of a trained detector: its figures, the boxes that they come from, and a page with what it gets wrong."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, Literal, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from birder.files import replacing_folder
from birder.plots.report_charts import percent, precision_recall, text

METRICS, BOXES, PAGE = "metrics.json", "detections.parquet", "report.html"
MOST = 12
"""Images that are shown with what was missed, and with what is not there."""
_CURVES = 5
_METRICS = {
    "AP": "AP: the mean over overlaps of 50 to 95 %",
    "AP50": "AP50: at an overlap of 50 %",
    "AP75": "AP75: at an overlap of 75 %",
    "AP_small": "AP of boxes smaller than 32 x 32 pixels",
    "AP_medium": "AP of boxes up to 96 x 96 pixels",
    "AP_large": "AP of larger boxes",
}


class DrawnBox(NamedTuple):
    """A box on a picture: left, top, right, bottom as fractions of it, and what became of it."""

    corners: tuple[float, float, float, float]
    kind: Literal["missed", "false", "right"]
    title: str


class BoxPicture(NamedTuple):
    """A small JPEG of (width, height) pixels, the image's name, its boxes, and what is said of it."""

    name: str
    jpeg: bytes
    size: tuple[int, int]
    boxes: Sequence[DrawnBox]
    caption: str


def write_detector_report(
    folder: str | Path,
    report: Mapping[str, Any],
    boxes: pa.Table,
    *,
    missed: Sequence[BoxPicture],
    false: Sequence[BoxPicture],
) -> Path:
    """Write metrics.json, detections.parquet and report.html into a folder; the page is one file and needs no network.

    Parameters
    ----------
    folder
        New, or one whose files of these names are replaced.
    report
        What `birder.evaluation.detection.judge_detections` gives as "judged", the same by categories as "beside"
        ("trained" and "installed"), with "training", "history" and "made" (docs/train-detector.md).
    boxes
        A row for each true and each found box.
    missed, false
        Images with boxes that were not found, and with detections where there is nothing.

    Returns
    -------
    The path of report.html.

    Raises
    ------
    BirderError
        The folder cannot be written.
    """
    page = _page(report, missed, false)
    with replacing_folder(folder) as draft:
        (draft / METRICS).write_text(json.dumps(report, indent=1, allow_nan=False) + "\n", encoding="utf-8")
        pq.write_table(boxes, draft / BOXES, compression="zstd")
        (draft / PAGE).write_text(page, encoding="utf-8")
    return Path(folder) / PAGE


def _page(report: Mapping[str, Any], missed: Sequence[BoxPicture], false: Sequence[BoxPicture]) -> str:
    sections = [
        ("figures", "The figures", _figures(report)),
        ("beside", "Beside the detector that is installed with Birder", _beside(report)),
        ("curves", "If only the surest boxes are believed", _curves(report)),
        ("missed", "What it misses", _pictures(missed)),
        ("false", "What it finds where nothing is", _pictures(false)),
        ("classes", "Class by class", _classes(report)),
        ("training", "How it was trained", _training(report)),
    ]
    there = [each for each in sections if each[2]]
    parts = {
        "title": "How good is this detector?",
        "head": _head(report),
        "mistakes": "",
        "links": "".join(f'<li><a href="#{name}">{text(heading)}</a></li>' for name, heading, _ in there),
        "sections": "".join(
            f'<section id="{name}" aria-labelledby="{name}-heading"><h2 id="{name}-heading">{text(heading)}</h2>'
            f"{body}</section>"
            for name, heading, body in there
        ),
        "style": _file("report.css") + _file("detector_report.css"),
        "script": "",
    }
    return re.sub(r"\{\{(\w+)\}\}", lambda found: parts[found[1]], _file("report.html"))


def _file(name: str) -> str:
    return (resources.files("birder") / "plots" / name).read_text(encoding="utf-8")


def _head(report: Mapping[str, Any]) -> str:
    judged = report["judged"]
    figure = judged["metrics"]["AP50"]
    span = ""
    if figure.get("low") is not None:
        span = (
            f'<p class="span">On more images like these, expect between <b>{percent(figure["low"])}</b> and '
            f"<b>{percent(figure['high'])}</b> <span>(95 % interval, by a bootstrap over the images).</span></p>"
        )
    best = judged["best_score"]
    point = ""
    if best is not None:
        point = (
            f"<p>Of the boxes with a confidence of {best['score']:.2f} or more, {percent(best['precision'], 0)} are "
            f"right, and {percent(best['recall'], 0)} of what is there is found.</p>"
        )
    notes = "".join(f"<li>{text(each)}</li>" for each in report["notes"])
    aside = f'<aside aria-label="Notes"><h2>Before you use this figure</h2><ul>{notes}</ul></aside>'
    return (
        "<header><h1>How good is this detector?</h1>"
        f'<p class="asked">Judged on {judged["images"]:,} images with {judged["boxes"]:,} boxes that it was not '
        f'trained on.</p><div class="opening"><div class="answer"><p class="big"><b>{percent(figure["estimate"])}</b> '
        f"AP50</p>{point}{span}</div>{aside if notes else ''}</div></header>"
    )


def _figures(report: Mapping[str, Any]) -> str:
    rows = []
    for key, name in _METRICS.items():
        value = report["judged"]["metrics"][key]
        if isinstance(value, Mapping):
            rows.append((name, percent(value["estimate"]), _interval(value)))
        elif value is not None:
            rows.append((name, percent(value), ""))
    return _table(("Average precision", "", "95 % interval"), rows) + (
        "<p>Average precision is the area under the curve of precision against recall, as COCO defines it. The overlap "
        "of two boxes is the share of their union that both cover.</p>"
    )


def _beside(report: Mapping[str, Any]) -> str:
    beside = report.get("beside")
    if beside is None:
        return ""
    rows = []
    for key in ("AP50", "AP", "AP75"):
        one, other = (beside[name]["metrics"][key] for name in ("trained", "installed"))
        rows.append((key, *(f"{percent(each['estimate'])} ({_interval(each)})" for each in (one, other))))
    categories = " and ".join(f"“{each['name']}”" for each in beside["trained"]["classes"])
    return _table(("", "This detector", text(beside["name"])), rows) + (
        f"<p>The installed detector was not trained on these images and does not know their classes. Both are judged "
        f"by category here: each box counts as {categories}.</p>"
    )


def _curves(report: Mapping[str, Any]) -> str:
    classes = sorted((each for each in report["judged"]["classes"] if each["curve"]), key=lambda each: -each["n"])
    charts = [
        f"<figure>{precision_recall(each['curve'], each['name'])}<figcaption>{text(each['name'])}, "
        f"{each['n']:,} boxes</figcaption></figure>"
        for each in classes[:_CURVES]
    ]
    return f'<div class="charts">{"".join(charts)}</div>'


def _pictures(pictures: Sequence[BoxPicture]) -> str:
    items = []
    for each in pictures[:MOST]:
        width, height = each.size
        data = base64.b64encode(each.jpeg).decode()
        drawn = "".join(_rectangle(box, width, height) for box in each.boxes)
        items.append(
            f'<li><figure><svg viewBox="0 0 {width} {height}" role="img" aria-label="{text(each.caption)}">'
            f'<image href="data:image/jpeg;base64,{data}" width="{width}" height="{height}"/>{drawn}</svg>'
            f"<figcaption>{text(each.name)}: {text(each.caption)}</figcaption></figure></li>"
        )
    if not items:
        return ""
    return (
        f'<ol class="boxed">{"".join(items)}</ol><p>Green boxes are right, red ones are on nothing that is labelled, '
        "dashed yellow ones are labelled and were not found.</p>"
    )


def _rectangle(box: DrawnBox, width: int, height: int) -> str:
    left, top, right, bottom = box.corners
    return (
        f'<rect class="{box.kind}" x="{left * width:.1f}" y="{top * height:.1f}" '
        f'width="{(right - left) * width:.1f}" height="{(bottom - top) * height:.1f}">'
        f"<title>{text(box.title)}</title></rect>"
    )


def _classes(report: Mapping[str, Any]) -> str:
    classes = [each for each in report["judged"]["classes"] if each["n"]]
    rows = [
        (text(each["name"]), f"{each['n']:,}", percent(each["AP50"]), percent(each["AP"]))
        for each in sorted(classes, key=lambda each: each["AP50"])
    ]
    return _table(("Class", "Boxes", "AP50", "AP"), rows) if len(rows) > 1 else ""


def _training(report: Mapping[str, Any]) -> str:
    training, made = report["training"], report["made"]
    facts = {
        "Backbone": f"{training['backbone']} ({training['network']})",
        "Images and boxes": f"{training['images']:,} and {training['boxes']:,}",
        "Input": " x ".join(f"{each:,}" for each in training["size"]) + " pixels",
        "Epochs": f"{training['epochs']:,}",
        "Blocks of the backbone that learned": f"{training['unfreeze_last']:,}",
        "Loss, first and last epoch": " and ".join(
            f"{each['loss']:.3f}" for each in (report["history"][0], report["history"][-1])
        ),
        "Time": f"{made['seconds'] / 60:.1f} minutes",
        "Versions": ", ".join(f"{name} {version}" for name, version in made["versions"].items()),
    }
    rows = [(text(name), text(value)) for name, value in facts.items()]
    judged = [
        (f"{each['epoch']:,}", f"{each['loss']:.3f}", percent(each["AP50"]))
        for each in report["history"]
        if "AP50" in each
    ]
    return _table((), rows) + (_table(("Epoch", "Loss", "AP50"), judged) if judged else "")


def _interval(figure: Mapping[str, Any]) -> str:
    return f"{percent(figure['low'])} to {percent(figure['high'])}" if figure.get("low") is not None else ""


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    top = "".join(f'<th scope="col">{each}</th>' for each in head)
    top = f"<thead><tr>{top}</tr></thead>" if head else ""
    body = "".join(
        f'<tr><th scope="row">{row[0]}</th>{"".join(f"<td>{each}</td>" for each in row[1:])}</tr>' for row in rows
    )
    return f'<div class="scroll whole"><table>{top}<tbody>{body}</tbody></table></div>'
