"""`birder adapt`: a classifier learned from a collection's labels, and how good it is on images it has not seen."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from birder.cli import options
from birder.cli.output import note, one_line, say
from birder.cli.progress import stage_progress
from birder.words import counted

if TYPE_CHECKING:
    from birder.learning.adapt import Adapted

_ENDINGS = (".pt", ".safetensors")
_DETACHED = ".head.safetensors"
_NAMES_SHOWN = 10
_FIGURES = {
    "top1": "Accuracy",
    "mean_recall": "Mean recall of the classes",
    "macro_f1": "Macro F1",
    "top5": "Right name among the first five",
}


def adapt(
    collection: options.Collection,
    column: Annotated[str, typer.Option("--column", metavar="COLUMN", help="The column with the labels to learn.")],
    to: Annotated[
        Path,
        options.to_option(
            ".safetensors or .pt for a checkpoint of the collection's network with this classifier; "
            f"{_DETACHED} for the classifier alone"
        ),
    ],
    where: options.Where = None,
    group_by: options.GroupBy = None,
    split: Annotated[
        Literal["groups", "random"],
        typer.Option(
            "--split",
            metavar="SPLIT",
            help="groups; or random, which may put images of one burst on both sides and then flatters the classifier.",
        ),
    ] = "groups",
    min_examples: Annotated[
        int, typer.Option("--min-examples", min=2, metavar="N", help="Leave out classes with fewer images.")
    ] = 5,
    folds: Annotated[int, typer.Option("--folds", min=2, metavar="N", help="Parts of the cross-validation.")] = 5,
    seed: Annotated[
        int, typer.Option("--seed", min=0, metavar="N", help="Seed of the folds and of the resampling.")
    ] = 0,
    unknown: Annotated[
        str,
        typer.Option(
            "--unknown",
            metavar="SHARE",
            help='Share of images of known classes that keep their name; what is less like the examples is "unknown". '
            "none: every image gets a name.",
        ),
    ] = "0.95",
    taxonomy: options.Taxonomy = None,
    report: Annotated[
        Path | None,
        typer.Option(
            "--report", metavar="FOLDER", help="Also write report.html, metrics.json and predictions.parquet there."
        ),
    ] = None,
    detached: Annotated[
        bool,
        typer.Option("--detached", help=f"Write the classifier without the network, as NAME{_DETACHED}."),
    ] = False,
    force: options.Force = False,
) -> None:
    """Learn a classifier from labels, on the stored embeddings, and measure it on images that it has not seen.

    The labelled images are divided into parts, and each part is named by a classifier that was fitted to the
    others. Images of one burst, site or specimen are not independent, so they stay in one part: say with --group-by
    which columns tell them apart. The figures that are printed come from this cross-validation; the classifier that is
    written is fitted to all of the images. Labels are never changed.

    For example:

    birder adapt photos.birder --column label --to classes.safetensors

    birder adapt photos.birder --column label --to classes.head.safetensors --report report/ --unknown none
    """
    keep = _share(unknown)
    if to.suffix.lower() not in _ENDINGS:
        options.wrong_use(f"{to} has no known extension: use {', '.join((*_ENDINGS, _DETACHED))}.")
    _check_report(report, force)

    import birder
    from birder.collection.adapting import file_to_write

    file = file_to_write(collection, to, detached=detached)
    options.check_to(file, force)
    alone = file.name.endswith(_DETACHED)
    if alone and file != to and not detached:
        note(f"The weights of the network are out of reach: the classifier will be written alone, as {file}.")
    adapted = birder.open_collection(collection).adapt(
        column,
        where=where,
        group_by=_columns(group_by),
        split=split,
        min_examples=min_examples,
        folds=folds,
        seed=seed,
        unknown=keep,
        taxonomy=taxonomy,
        report=report,
        progress=stage_progress(every_stage=True),
    )
    adapted.save(file, detached=alone)
    for line in (*_summary(adapted), *_written(adapted, file, alone, report), *_next(collection, column, file)):
        say(line)


def _share(text: str) -> float | None:
    """The share of known images that keep their name; None for "none"."""
    if text == "none":
        return None
    try:
        share = float(text)
    except ValueError:
        share = 0.0
    if not 0.0 < share < 1.0:
        options.wrong_use(f"--unknown {text!r} is neither a share between 0 and 1, such as 0.95, nor none.")
    return share


def _columns(text: str | None) -> tuple[str, ...]:
    return () if text is None else tuple(name for part in text.split(",") if (name := part.strip()))


def _check_report(report: Path | None, force: bool) -> None:
    if report is not None:
        for name in ("report.html", "metrics.json", "predictions.parquet", "unknown.parquet"):
            options.check_to(report / name, force)


def _summary(adapted: Adapted) -> Iterator[str]:
    """What was learned and how good it is, in the words of a person who has to decide whether to use it."""
    made = adapted.classifier.adaptation
    yield from made["groups"]["how"]
    counts: Mapping[str, int] = made["counts"]
    yield (
        f"Learned {made['column']}: {counted(len(counts), 'class', 'classes')} from "
        f"{counted(sum(counts.values()), 'image')} in "
        f"{counted(made['groups']['count'], 'group')}."
    )
    yield f"On images that it had not seen ({made['folds']}-fold cross-validation, 95% intervals):"
    for key, name in _FIGURES.items():
        if key in made["metrics"] and (key != "top5" or len(counts) > 5):
            yield f"  {name}: {in_words(made['metrics'][key])}"
    if made["unknown"] is not None:
        yield _unknown(made["unknown"])
    yield from (f"Warning: {one_line(each)}" for each in made["warnings"])


def in_words(figure: Mapping[str, Any]) -> str:
    """An estimate with its interval and n: "81.2 % (78.0 to 84.1 %, n = 2,640)"."""
    known = figure["low"] is not None and figure["high"] is not None
    interval = f"{figure['low']:.1%} to {figure['high']:.1%}, " if known else ""
    return f"{figure['estimate']:.1%} ({interval}n = {figure['n']:,})"


def _unknown(unknown: Mapping[str, Any]) -> str:
    kept = f'"Unknown" is said of images unlike the examples; {unknown["kept"]:.1%} of the known ones keep their name.'
    if unknown.get("auroc") is None:
        return kept
    return (
        f"{kept} Classes left out on purpose were told from known ones with an AUROC of {unknown['auroc']:.3f}; "
        f"{unknown['fpr95']:.0%} of their images would get a name where 95% of the known ones do."
    )


def _written(adapted: Adapted, file: Path, alone: bool, report: Path | None) -> Iterator[str]:
    from birder.weights.head import published_note

    backbone = adapted.classifier.adaptation["backbone"]
    yield f"Wrote {file}: the classifier {'alone' if alone else 'with its network'}, for {backbone['name']}."
    if not alone and (unpublished := published_note(backbone["network"])) is not None:
        yield f"  {unpublished}"
    if report is not None:
        yield f"Wrote {report / 'report.html'}: what it gets wrong, with the images."


def _next(collection: Path, column: str, file: Path) -> Iterator[str]:
    """What to type next."""
    where, model = shlex.quote(str(collection)), shlex.quote(str(file))
    yield "Next:"
    yield f"  birder predict --in {where} --model {model} --save"
    yield f"  birder predict IMAGE --model {model}"
    yield f"  birder evaluate OTHER.birder --column {shlex.quote(column)} --model {model}"
