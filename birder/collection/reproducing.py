"""Published tables, filled: every benchmark whose folder is there, by every model that was asked for.

What a model has on a benchmark is a file of its own, so that a run that was stopped goes on where it was. One benchmark
is in memory at a time, as in `birder.collection.benchmarking`.
"""

from __future__ import annotations

import datetime
import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from birder.collection.benchmarking import evaluate_benchmark
from birder.collection.progress import Show, StageProgress, stages_shown
from birder.errors import BirderError, ConfigError
from birder.evaluation.benchmarks import Benchmark, benchmark, published_model
from birder.evaluation.few_shot import Variant
from birder.evaluation.published_tables import (
    Cell,
    Judged,
    JudgedModel,
    Paper,
    PublishedTable,
    fill,
    needed_protocols,
    published_tables,
)
from birder.files import replacing
from birder.plots.reproduction import as_html, as_markdown
from birder.registry import list_pretrained_models
from birder.version import __version__
from birder.weights.openclip_files import fetch_files
from birder.weights.resolve import Model, resolve

CELLS, RESULTS, PAGE, TEXT = "cells", "results.json", "tables.html", "tables.md"
SCHEMA = 1
"""Of results.json and of the files in cells/; docs/reproduce.md describes both."""
_FEW_SHOT: Variant = "bioclip-v1"  # what the published one-shot and five-shot figures are by
_SEED = 0


@dataclass(frozen=True)
class Reproduction:
    """What `birder reproduce` made.

    Attributes
    ----------
    folder
        With results.json, tables.html, tables.md and cells/.
    cells
        Every cell of every table.
    run, kept
        How many pairs of benchmark and model were run now, and how many were there already.
    failed
        What could not be done though it was asked for, and why: pairs of name and reason.
    missing
        The benchmarks without a folder, and how to get them.
    """

    folder: Path
    cells: tuple[Cell, ...]
    run: int
    kept: int
    failed: tuple[tuple[str, str], ...]
    missing: tuple[tuple[str, str], ...]

    def __str__(self) -> str:
        filled = [cell for cell in self.cells if cell.value is not None]
        inside = sum(cell.inside is True for cell in filled)
        compared = sum(cell.inside is not None for cell in filled)
        return (
            f"{self.run} run, {self.kept} kept, {len(self.failed)} failed. {len(filled)} of {len(self.cells)} cells "
            f"have a figure; of {compared} published values, {inside} lie inside the interval that was found here."
        )


def reproduce(
    paper: Paper,
    data: str | Path,
    to: str | Path,
    *,
    models: Sequence[str | Path] = (),
    device: str | None = None,
    date: str | None = None,
    progress: StageProgress = "auto",
) -> Reproduction:
    """Fill a paper's published tables with what models have on the benchmarks of this machine.

    Parameters
    ----------
    paper
        "bioclip": the tables of BioCLIP, of Rare Species, and of BioCLIP 2.
    data
        A folder with a folder for each benchmark, by its name: `rare-species`, `meta-album/PLK_Mini`, ...; those that
        are not there are not run, and each of their cells says so.
    to
        A folder for results.json, tables.html and tables.md. What is finished stays in its folder cells/, and is not
        run again.
    models
        As for `evaluate_benchmark` (default: the registered models that the tables have figures of).
    device
        Device to run on: "cpu", "cuda", "mps", ... (default: best available).
    date
        What results.json says as its date, YYYY-MM-DD; none by default.
    progress
        Called with the stage and the share of it that is done; "auto" for a bar in a terminal or notebook.

    Raises
    ------
    ConfigError
        The date is not one, or no folder of a benchmark is there.
    UnknownNameError
        No model has that name.
    """
    tables = published_tables(paper)
    data, to = Path(data), Path(to)
    _check_date(date)
    needed = needed_protocols(tables)
    folders = {name: folder for name in needed if (folder := find_folder(benchmark(name), data)) is not None}
    if not folders:
        raise ConfigError(
            f"{data} has no folder of a benchmark. It needs one or more of: {', '.join(needed)}. docs/reproduce.md "
            "says how to get them."
        )
    asked = list(dict.fromkeys([str(model) for model in models] or default_models(tables)))
    found = {word: resolve(word) for word in asked}
    missing = {name: _how_to_get(benchmark(name), data) for name in needed if name not in folders}
    with stages_shown(progress) as show:
        work = _Work(to / CELLS, needed, folders, missing, device, show or (lambda stage, done: None), len(asked))
        judged = [work.judge(word, model) for word, model in found.items()]
    filled = [(table, fill(table, judged)) for table in tables]
    cells = tuple(cell for _, rows in filled for row in rows for cell in row.cells)
    done = Reproduction(to, cells, work.run, work.kept, tuple(work.failed), tuple(missing.items()))
    _write(to / RESULTS, _results(paper, done, date))
    for path, text in ((to / PAGE, as_html(filled, done.missing)), (to / TEXT, as_markdown(filled, done.missing))):
        with replacing(path) as draft:
            draft.write_text(text, encoding="utf-8")
    return done


@dataclass
class _Work:
    """Every model on every benchmark, as far as it can be done; what failed is kept and does not stop the others."""

    cells: Path
    needed: Mapping[str, tuple[str, ...]]
    folders: Mapping[str, Path]
    missing: Mapping[str, str]
    device: str | None
    show: Show
    models: int
    run: int = 0
    kept: int = 0
    begun: int = 0
    failed: list[tuple[str, str]] = field(default_factory=list)

    def judge(self, word: str, model: Model) -> JudgedModel:
        """A model on all benchmarks; where its weights cannot be had, on none, and each says why."""
        self.show(f"fetching {word}", 0.0)
        try:
            sha256 = model.fetch().sha256
            if model.openclip is not None:
                fetch_files(model.openclip)  # now, and not after many images
        except BirderError as error:
            self.failed.append((word, _said(error)))
            self.begun += len(self.folders)
            why = Judged(why=f"not run: {_said(error)}")
            return JudgedModel(word, _published(model), None, dict.fromkeys(self.needed, why))
        found = {name: Judged(why=f"not run: {how}") for name, how in self.missing.items()}
        found |= {name: self._on(name, folder, word, model, sha256) for name, folder in self.folders.items()}
        return JudgedModel(word, _published(model), sha256, found)

    def _on(self, name: str, folder: Path, word: str, model: Model, sha256: str) -> Judged:
        """A model on one benchmark: as it was found before, else found now and kept if it is complete."""
        self.begun += 1
        before = f"{self.begun} of {self.models * len(self.folders)}, {name} by {word}"
        protocols = [each for each in self.needed[name] if each != "zero-shot" or model.has_text_encoder]
        if not protocols:
            return Judged(why=f"not run: {word} has no text encoder, which zero-shot needs")
        question = {
            "model": word, "sha256": sha256, "benchmark": name, "data": os.fspath(folder.absolute()),
            "protocols": protocols, "as": _FEW_SHOT, "seed": _SEED, "birder": __version__,
        }  # fmt: skip
        file = self.cells / _file_name(word) / f"{_file_name(name)}.json"
        if (there := _read(file, question)) is not None:
            self.kept += 1
            return there
        try:
            results = evaluate_benchmark(
                name,
                folder,
                word,
                protocols=protocols,
                as_=_FEW_SHOT,
                seed=_SEED,
                device=self.device,
                progress=lambda stage, done: self.show(f"{before}: {stage}", done),
            ).results
        except BirderError as error:
            self.failed.append((f"{name} by {word}", _said(error)))
            return Judged(why=f"not run: {_said(error)}")
        self.run += 1
        if results["benchmark"]["complete"]:
            _write(file, {"schema": SCHEMA, "asked": question, "results": _kept(results)})
            return Judged(results["protocols"])
        lost = results["benchmark"]["failed"]
        why = (
            f"not compared: {len(lost):,} of {results['benchmark']['images']:,} images could not be read, such as "
            f"{lost[0][0]}"
        )
        self.failed.append((f"{name} by {word}", why))
        return Judged(results["protocols"], why)


def default_models(tables: Sequence[PublishedTable]) -> list[str]:
    """The registered models that the tables have figures of, in the order of the registry."""
    there = {model for table in tables for model in table.models}
    return [name for name in list_pretrained_models() if _published(resolve(name)) in there]


def find_folder(entry: Benchmark, data: Path) -> Path | None:
    """The folder of a benchmark: its own, or that of the group it is a part of; None if neither is there."""
    names = [entry.name] if entry.group is None else [entry.name, entry.group]
    return next((data / name for name in names if (data / name).is_dir()), None)


def _how_to_get(entry: Benchmark, data: Path) -> str:
    return f"no folder {entry.name} in {data}. {entry.get} Its page: {entry.page}"


def _said(error: BirderError) -> str:
    """The message of an error in one line."""
    return " ".join(str(error).split())


def _published(model: Model) -> str | None:
    return published_model(model.name if model.openclip is None else model.openclip)


def _check_date(date: str | None) -> None:
    try:
        if date is not None:
            datetime.date.fromisoformat(date)
    except ValueError:
        raise ConfigError(f"{date!r} is not a date: give it as YYYY-MM-DD.") from None


def _file_name(word: str) -> str:
    """A word for a model or benchmark as a file's name."""
    return re.sub(r"[^\w.-]+", "_", word).strip("_.") or "_"


def _kept(results: Mapping[str, Any]) -> dict[str, Any]:
    """What of an evaluation is kept: enough to fill the tables again, and to do it again."""
    names = ("benchmark", "protocols", "published", "model", "transform", "engine", "seeds", "versions", "notes")
    return {name: results[name] for name in names}


def _read(file: Path, question: Mapping[str, Any]) -> Judged | None:
    """What was found before, if it answers the same question."""
    try:
        there = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if not isinstance(there, dict) or there.get("schema") != SCHEMA or there.get("asked") != question:
        return None
    return Judged(there["results"]["protocols"])


def _write(path: Path, content: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as draft:
        draft.write_text(json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")


def _results(paper: str, done: Reproduction, date: str | None) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "paper": paper,
        "birder": __version__,
        "date": date,
        "unit": "percent",
        "interval": 0.95,
        "results": [cell.as_dict() for cell in done.cells],
        "failed": [{"what": what, "why": why} for what, why in done.failed],
        "missing": [{"benchmark": name, "why": why} for name, why in done.missing],
    }
