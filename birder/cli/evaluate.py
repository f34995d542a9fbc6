"""`birder evaluate`: how good names, a classifier, or the embeddings are against labels, or a model in a benchmark."""

from __future__ import annotations

import json
import re
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from birder.cli import options
from birder.cli.benchmark_table import beside_published
from birder.cli.errors import FAILED
from birder.cli.options import Format
from birder.cli.output import note, say, write_rows
from birder.cli.progress import stage_progress

if TYPE_CHECKING:
    from birder.collection.evaluating import Evaluation

_FILES = ("report.html", "metrics.json", "predictions.parquet", "unknown.parquet")
_LIMIT = re.compile(r"([\w.@-]+)=([0-9.eE+-]+)")


def evaluate(
    collection: options.MaybeCollection = None,
    column: Annotated[
        str | None, typer.Option("--column", metavar="COLUMN", help="The column with the labels (default: label).")
    ] = None,
    predictions: Annotated[
        str | None,
        typer.Option("--predictions", metavar="COLUMN", help="Judge the names in this column, against the labels."),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            metavar="MODEL",
            help="Model: a registered name, a hub repository, a folder or a checkpoint file; here the file of a "
            "classifier, as birder adapt writes it. Images that it was trained on are left out.",
        ),
    ] = None,
    protocol: Annotated[
        str | None,
        typer.Option(
            "--protocol",
            metavar="NAME[,NAME]",
            help="Judge the embeddings: few-shot, knn, linear, retrieval, clusters, zero-shot. With --benchmark, judge "
            "by these alone (default: as published).",
        ),
    ] = None,
    as_: Annotated[
        Literal["bioclip-v1", "bioclip-v2"] | None,
        typer.Option(
            "--as",
            metavar="VARIANT",
            help="With few-shot: as published, bioclip-v1 or bioclip-v2 (the default with --benchmark).",
        ),
    ] = None,
    benchmark: Annotated[
        str | None,
        typer.Option(
            "--benchmark",
            metavar="NAME",
            help="Judge a model by a published benchmark: rare-species, nabirds, meta-album/PLK_Mini, ... COLLECTION "
            "then keeps the embeddings, and may be left out.",
        ),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option("--data", metavar="FOLDER", help="With --benchmark: the folder that holds it, all of it."),
    ] = None,
    device: options.Device = None,
    against: Annotated[
        Path | None,
        typer.Option(
            "--against",
            metavar="COLLECTION",
            help="Compare with a collection of the same images by another model: by the predictions with "
            "--predictions, else by the embeddings.",
        ),
    ] = None,
    where: options.Where = None,
    group_by: options.GroupBy = None,
    split: options.JudgedSplit = "groups",
    by: Annotated[
        str | None,
        typer.Option(
            "--by",
            metavar="COLUMN[,COLUMN]",
            help="Also tell the accuracy for each value of these columns, the worst first (default: --group-by). "
            "The deployment, and night and day, are told in any case.",
        ),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, metavar="N", help="Seed of folds and intervals.")] = 0,
    taxonomy: options.Taxonomy = None,
    to: Annotated[
        Path | None,
        typer.Option(
            "--to", metavar="FOLDER", help="Write report.html, metrics.json and predictions.parquet to this folder."
        ),
    ] = None,
    format: Annotated[
        Literal["table", "csv", "json"],
        typer.Option(
            "--format",
            metavar="FORMAT",
            help="Format of the output: table, csv, or json, which has everything that metrics.json has.",
        ),
    ] = "table",
    force: options.Force = False,
    fail_under: Annotated[
        list[str] | None,
        typer.Option(
            "--fail-under",
            metavar="METRIC=VALUE",
            help="Exit with 1 if a figure is worse than this: accuracy=0.8, or knn.top1_k1=0.7; repeatable.",
        ),
    ] = None,
) -> None:
    """Say how good names are, or how much the embeddings can tell apart, with an interval for every figure.

    The labels in --column are taken for the truth. Images of one burst, site or specimen are not independent: say with
    --group-by which columns tell them apart, and intervals are as wide as they have to be. Nothing in the collection is
    changed. With --to, a report shows what is taken for what, with the images.

    With --benchmark, a model is judged by a published benchmark, as published, and each published value of the same
    model stands beside the figure here. Run it again after Ctrl-C: what was embedded is kept.

    For example:

    birder evaluate photos.birder --column label --predictions predicted_label --to evaluation/

    birder evaluate photos.birder --column label --protocol clusters --format json

    birder evaluate --benchmark idle-oo/island --data camera-traps/ --model imageomics/bioclip
    """
    limits = [_limit(each) for each in fail_under or ()]
    if to is not None:
        for name in _FILES:
            options.check_to(to / name, force)
    if benchmark is None:
        if data is not None:
            options.wrong_use("--data is the folder of a benchmark: name it, as in --benchmark rare-species.")
        if collection is None:
            options.wrong_use("Name the collection to evaluate; or a benchmark, with --benchmark and --data.")
        if predictions is None and model is None and protocol is None and against is None:
            options.wrong_use("Say what to evaluate: --predictions, --model, --protocol or --against.")
    else:
        if data is None:
            options.wrong_use(f"Name the folder of {benchmark} with --data.")
        others = {"--column": column, "--predictions": predictions, "--against": against, "--where": where}
        others |= {"--group-by": group_by, "--by": by, "--taxonomy": taxonomy}
        if given := [name for name, value in others.items() if value is not None]:
            options.wrong_use(f"--benchmark says what is judged, and by what: leave out {', '.join(given)}.")

    import birder

    found: Evaluation
    if benchmark is not None and data is not None:
        found = birder.evaluate_benchmark(
            benchmark,
            data,
            model,
            collection=collection,
            protocols=options_of(protocol),
            as_=as_ or "bioclip-v2",
            seed=seed,
            device=device,
            progress=stage_progress(every_stage=True),
        )
    elif collection is not None:
        found = birder.open_collection(collection, device=device).evaluate(
            column or "label",
            predictions=predictions,
            model=model,
            protocols=options_of(protocol),
            as_=as_,
            against=against,
            where=where,
            group_by=options_of(group_by),
            split=split,
            by=options_of(by),
            seed=seed,
            taxonomy=taxonomy,
            progress=stage_progress(every_stage=True),
        )
    command = shlex.join(["birder", *sys.argv[1:]])
    if to is not None:
        page = found.save(to, command=command)
        note(f"Wrote {page}.")
    if format == "json":
        results = found.results | {"asked": found.results["asked"] | {"command": command}}
        say(json.dumps(results, indent=1, allow_nan=False))
    else:
        for each in found.results["notes"]:
            note(each)
        write_rows(_rows(found) if benchmark is None else beside_published(found), Format(format))
        if format == "table":
            for line in _told(found):
                say(line)
    if _fails(found, limits) or not found.results.get("benchmark", {}).get("complete", True):
        raise typer.Exit(FAILED)


def options_of(text: str | None) -> tuple[str, ...]:
    """The names in an option that takes several, separated by commas."""
    return () if text is None else tuple(name for part in text.split(",") if (name := part.strip()))


def _limit(text: str) -> tuple[str, float]:
    found = _LIMIT.fullmatch(text)
    try:
        if found is not None:
            return found[1], float(found[2])
    except ValueError:
        pass
    options.wrong_use(f"--fail-under {text!r} is not METRIC=VALUE, as in accuracy=0.8.")


def _rows(found: Evaluation) -> list[dict[str, Any]]:
    """Each figure as a row."""
    return [
        {"metric": name, "value": each["estimate"], "low": each["low"], "high": each["high"], "n": each["n"]}
        | {"interval": each["interval"]}
        for name, each in found.metrics.items()
    ]


def _told(found: Evaluation) -> list[str]:
    """What a table of figures does not say: the most frequent confusions, and which of two models is better."""
    lines = []
    confusions = found.results.get("top_confusions", ())[:3]
    if confusions:
        shown = [f"{each['true']} as {each['predicted']} ({each['n']:,})" for each in confusions]
        lines.append(f"Most often taken for something else: {'; '.join(shown)}.")
    if comparison := found.results.get("comparison"):
        from birder.plots.report_words import compared

        lines.append(compared(comparison))
    return lines


def _fails(found: Evaluation, limits: list[tuple[str, float]]) -> bool:
    """Say which figures are worse than their limits; whether there are any."""
    from birder.plots.report_words import figure

    failed = False
    for name, limit in limits:
        value = found[name]
        about = figure(name.rpartition(".")[2])
        if about.share and not 0 <= limit <= 1:
            options.wrong_use(f"--fail-under {name}={limit:g}: {name} is a share from 0 to 1, as in {name}=0.8.")
        less = about.less
        if value > limit if less else value < limit:
            note(f"birder: {name} is {value:.4f}, {'above' if less else 'under'} {limit:g}.")
            failed = True
    return failed
