"""Benchmarks by name: how their folders are laid out, what they hold, and what was published about them.

The benchmarks themselves are data: `benchmarks.toml` beside this file; `published.csv` has the published values, and
where each one was published.
"""

from __future__ import annotations

import csv
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cache
from pathlib import Path
from typing import Any, Literal

from birder.errors import unknown_name

Layout = Literal["published rows", "image lists", "class folders", "path lists", "table"]
Task = Literal["classes", "binary tasks", "traits"]
TextType = Literal["asis", "taxon_com"]
TRAIN, TEST = "train", "test"
"""The parts of a benchmark: what may be learned from, and what is judged."""


@dataclass(frozen=True)
class Benchmark:
    """A benchmark; one table of `benchmarks.toml`.

    Attributes
    ----------
    name, title
        What a user calls it, and what people call it.
    layout
        How its folder is laid out (`birder.evaluation.benchmark_folder`). "published rows": the rows are in Birder, and
        images are found by their names. "image lists": images.txt, classes.txt and image_class_labels.txt. "class
        folders": a folder for each class. "path lists": files of lines "path, class". "table": CSV files.
    get, page
        How to get it: a sentence, and the page of the dataset.
    task
        What is told: the class of an image; the answers of many questions of two classes; or several traits at once.
    text_type
        "asis": the name of a class is its text. "taxon_com": its taxon is written out, with the common name.
    rows, rows_of_all
        Numbers of images by part, or of all parts together; what is absent is not checked.
    classes, tasks
        Numbers of classes, and of binary tasks; None is not checked.
    sha256
        Of the lines "path TAB class" of all rows in their published order, joined by newlines.
    group
        The published average that it is a part of.
    protocols
        Those that it is judged by if no others are asked for (`birder.evaluation.benchmark_protocols`).
    learning_rate
        Of the published classifier of traits.
    note
        What must be known: what could not be verified, and where the published protocol is odd.
    split
        "image lists": the file that says which images are for training; without one, all are judged.
    folders, class_lists, class_traits
        "class folders": the folder of each part; files that say which classes a part has; and the files of the classes,
        of their traits and of the traits' names.
    lists, names
        "path lists": the file of each part, and the table of the classes' names.
    tables, image, label, part, task_column, traits, positive
        "table": the file of each part ("" where `part` is the column that says it); where an image is, with columns
        in braces; the columns of its label, its task and its traits; and the word that means that a trait is there.
    remove, replace
        What makes a text of the name of a class: a regular expression to remove, and what replaces what.
    """

    name: str
    title: str
    layout: Layout
    get: str
    page: str
    task: Task = "classes"
    text_type: TextType = "asis"
    rows: Mapping[str, int] = field(default_factory=dict)
    rows_of_all: int | None = None
    classes: int | None = None
    tasks: int | None = None
    sha256: str | None = None
    group: str | None = None
    protocols: tuple[str, ...] = ("zero-shot", "few-shot")
    learning_rate: float | None = None
    note: str | None = None
    split: str | None = None
    folders: Mapping[str, str] = field(default_factory=dict)
    class_lists: Mapping[str, str] = field(default_factory=dict)
    class_traits: Mapping[str, str] | None = None
    lists: Mapping[str, str] = field(default_factory=dict)
    names: str | None = None
    tables: Mapping[str, str] = field(default_factory=dict)
    image: str = ""
    label: str | None = None
    part: str | None = None
    task_column: str | None = None
    traits: tuple[str, ...] = ()
    positive: str | None = None
    remove: str | None = None
    replace: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Published:
    """A published value: in percent, of a model as its authors call it, by a protocol and version, and its source."""

    model: str
    benchmark: str
    protocol: str
    percent: float
    source: str


@cache
def benchmarks() -> dict[str, Benchmark]:
    """All benchmarks by name, in the order of the table."""
    known = {each.name for each in fields(Benchmark)}
    found = {}
    for name, entry in _table()["benchmark"].items():
        given: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in entry.items()
        }
        if strange := set(given) - known:
            raise ValueError(f"benchmarks.toml: {name} has {', '.join(sorted(strange))}.")
        found[name] = Benchmark(name=name, **given)
    return found


def benchmark(name: str) -> Benchmark:
    """The benchmark of a name.

    Raises
    ------
    UnknownNameError
        There is none; the message names those that are close.
    """
    known = benchmarks()
    if name not in known:
        raise unknown_name("benchmark", name, known)
    return known[name]


@cache
def published_values() -> tuple[Published, ...]:
    """All published values, in the order of the table; some are of benchmarks and averages that have no entry."""
    text = Path(__file__).with_name("published.csv").read_text("utf-8")
    return tuple(
        Published(row["model"], row["benchmark"], row["protocol"], float(row["percent"]), row["source"])
        for row in csv.DictReader(text.splitlines())
    )


def published_model(name: str) -> str | None:
    """What `published_values` calls a model of the hub, or its weights in the Birder format; None for other models."""
    models: dict[str, str] = _table()["models"]
    return models.get(name)


@cache
def _table() -> dict[str, Any]:
    return tomllib.loads(Path(__file__).with_name("benchmarks.toml").read_text("utf-8"))
