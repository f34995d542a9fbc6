"""The report of an evaluation: its numbers, the predictions that they come from, and a page for people to read."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from birder.files import replacing_folder
from birder.plots import report_opening as opening
from birder.plots import report_sections as sections
from birder.plots.document import Section, page
from birder.plots.report_pictures import Pictures, Thumbnails
from birder.plots.report_published import published
from birder.plots.report_training import training

METRICS, PREDICTIONS, UNKNOWN, PAGE = "metrics.json", "predictions.parquet", "unknown.parquet", "report.html"
_SECTIONS: tuple[tuple[str, str, Callable[[Mapping[str, Any], pa.Table, Pictures], str]], ...] = (
    ("figures", "The figures", sections.figures),
    ("published", "Beside what was published", published),
    ("training", "How it learned", training),
    ("comparison", "Two models on the same images", sections.comparison),
    ("protocols", "What the embeddings can tell apart", sections.protocols),
    ("groups", "Where it is better and worse", sections.groups),
    ("confusions", "What is taken for what", sections.confusions),
    ("classes", "Class by class", sections.classes),
    ("ranks", "Rank by rank", sections.ranks),
    ("calibration", "Can its probabilities be believed?", sections.calibration),
    ("coverage", "If it names only what it is sure of", sections.coverage),
    ("sets", "Sets of names with a guarantee", sections.sets),
    ("unknown", "Does it know what it does not know?", sections.unknown),
    ("doubtful", "Labels to look at again", sections.doubtful),
    ("made", "How this was made", sections.made),
)


def write_report(
    folder: str | Path,
    evaluation: Mapping[str, Any],
    predictions: pa.Table,
    *,
    thumbnails: Thumbnails,
    unknown: pa.Table | None = None,
) -> Path:
    """Write metrics.json, predictions.parquet and report.html into a folder, and unknown.parquet where it is given.

    The page is one file: pictures, style and script are in it, and it asks no network for anything. What the evaluation
    does not have is not on it.

    Parameters
    ----------
    folder
        New, or one whose files of these names are replaced.
    evaluation
        What `birder.evaluation.evaluate.evaluate_predictions` gives, with what was asked and how it was made
        (docs/evaluate.md lists the keys); without numbers that are not finite.
    predictions
        One row an image; see `birder.evaluation.predictions`.
    thumbnails
        Gives small JPEGs by the uris of images; those that cannot be read are left out. It is asked once, for at most
        `report_pictures.MOST` images, and no more than `report_pictures.BYTES` of them are put on the page.
    unknown
        The scores that the unknown was judged by; see `birder.evaluation.unknown_table`.

    Returns
    -------
    The path of report.html.

    Raises
    ------
    BirderError
        The folder cannot be written.
    """
    pictures = Pictures(evaluation, predictions, thumbnails)
    document = _page(evaluation, predictions, pictures)
    numbers = json.dumps(evaluation, indent=1, allow_nan=False) + "\n"
    with replacing_folder(folder) as draft:
        (draft / METRICS).write_text(numbers, encoding="utf-8")
        pq.write_table(predictions, draft / PREDICTIONS, compression="zstd")
        if unknown is not None:
            pq.write_table(unknown, draft / UNKNOWN, compression="zstd")
        (draft / PAGE).write_text(document, encoding="utf-8")
    if unknown is None:
        (Path(folder) / UNKNOWN).unlink(missing_ok=True)  # that of an earlier report
    return Path(folder) / PAGE


def _page(evaluation: Mapping[str, Any], predictions: pa.Table, pictures: Pictures) -> str:
    made = (Section(name, heading, make(evaluation, predictions, pictures)) for name, heading, make in _SECTIONS)
    there = [each for each in made if each.body]
    mistakes = opening.mistakes(evaluation, pictures)
    return page(opening.title(evaluation), opening.head(evaluation), there, opening=mistakes)
