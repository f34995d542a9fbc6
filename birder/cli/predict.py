"""`birder predict`: names for what is in images, by texts, by labelled examples or by a classifier."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from birder.cli import options
from birder.cli.errors import tell_unreadable
from birder.cli.options import Format
from birder.cli.output import note, write_rows
from birder.cli.progress import stage_progress
from birder.naming.method import DEFAULT_METHOD, Method
from birder.taxonomy import Rank
from birder.words import counted

if TYPE_CHECKING:
    from birder.collection.results import Predictions


def predict(
    images: options.Images = None,
    collection: options.MaybeIn = None,
    model: Annotated[
        str | None,
        options.model_option("the collection's, else BioCLIP 2 if it is on this machine"),
    ] = None,
    labels: Annotated[
        str | None,
        typer.Option(
            "--labels",
            metavar="LABELS",
            help="a,b,c; a text file, one label a line; a table of taxa (.csv, .parquet) with columns named by rank; "
            "or text embeddings (.npy beside their .json) (default: TreeOfLife's, from the hub). A model with class "
            "names and no text encoder takes words for its classes.",
        ),
    ] = None,
    bins: Annotated[
        Path | None,
        typer.Option("--bins", metavar="TABLE", help="A table with two columns: labels and their bins."),
    ] = None,
    subset: Annotated[
        Path | None,
        typer.Option(
            "--subset", metavar="TABLE", help="Choose only from these taxa: a table with one column, named by its rank."
        ),
    ] = None,
    rank: Annotated[
        Rank | None,
        typer.Option(
            "--rank", metavar="RANK", help="Name at this rank: the score of a genus is the sum over its species."
        ),
    ] = None,
    text_type: Annotated[
        str | None,
        typer.Option(
            "--text-type",
            metavar="TYPE",
            help="How taxa of a table are written: common, scientific, taxonomic, scientific+common or "
            "taxonomic+common (default: taxonomic+common).",
        ),
    ] = None,
    template: Annotated[
        list[str] | None,
        typer.Option(
            "--template",
            metavar="TEMPLATE",
            help='"a photo of {}.", faster than many; repeatable (default: the 80 of OpenAI).',
        ),
    ] = None,
    like: Annotated[
        Path | None,
        typer.Option(
            "--like", metavar="COLLECTION", help="Name by the labelled images of this collection instead of texts."
        ),
    ] = None,
    column: Annotated[
        str | None, typer.Option("--column", metavar="COLUMN", help="With --like: the column with the labels.")
    ] = None,
    method: Annotated[
        Method,
        typer.Option("--method", metavar="METHOD", help=f"With --like: how examples name images: {', '.join(Method)}."),
    ] = DEFAULT_METHOD,
    hold_out: Annotated[
        float | None,
        typer.Option(
            "--hold-out",
            metavar="SHARE",
            help="With --like alone: hold out this share of the labelled images, name them, and report the accuracy.",
        ),
    ] = None,
    deepest: Annotated[
        float | None,
        typer.Option(
            "--deepest",
            metavar="P",
            help="With a classifier: also name the deepest rank whose probability and precision reach P.",
        ),
    ] = None,
    where: options.Where = None,
    k: options.K = 5,
    min_score: Annotated[
        float, typer.Option("--min-score", min=0.0, max=1.0, metavar="P", help="Leave out names with a lower score.")
    ] = 0.0,
    save: Annotated[
        bool, typer.Option("--save", help="With --in: write the best name of each row into columns predicted_....")
    ] = False,
    by: Annotated[
        Literal["sequence"] | None,
        typer.Option(
            "--by", metavar="UNIT", help="With --in: sequence: one answer for all images and boxes of a sequence."
        ),
    ] = None,
    to: options.ToRows = None,
    format: options.FormatOption = None,
    force: options.Force = False,
    batch_size: options.BatchSize = 16,
    log: Annotated[
        Path | None,
        typer.Option(
            "--log",
            metavar="FILE",
            help="Record the model, the options and the results: a new .json, or a text file to append to.",
        ),
    ] = None,
    device: options.Device = None,
) -> None:
    """Name what is in images: the given ones, or with --in those of a collection, without embedding them again.

    Scores are probabilities over all labels; with --like they are 1 - distance / 2 to the mean of a class, or with
    --method knn shares of the votes of the nearest examples. Where --model is a checkpoint with class names, or a
    detached head, its classes name the images. If birder adapt wrote it, it also says which images are unlike all that
    it learned from ("unknown"), and which classes cannot be ruled out.

    For example:

    birder predict owl.jpg --model imageomics/bioclip --rank genus

    birder predict --in photos.birder --labels owl,fox,badger --save

    birder predict photos/ --like photos.birder --column label --to names.csv

    birder predict --in photos.birder --model owls.safetensors --save

    birder predict --in photos.birder --labels owl,fox,badger --by sequence --where "deployment = 'A4'"
    """
    form = options.format_of(format, to)
    options.check_to(to, force)
    by_text: dict[str, Any] = {"--model": model, "--labels": labels, "--bins": bins, "--subset": subset, "--rank": rank}
    by_text |= {"--text-type": text_type, "--template": template, "--deepest": deepest}
    given = [name for name, value in by_text.items() if value]
    _check_use(images, collection, like, given, column, hold_out, where, save, by, log)

    import birder
    from birder.naming.record import Record

    record = None if log is None else Record(log, ["birder", *sys.argv[1:]])
    show_rows = not save or to is not None or format is not None
    by_example: dict[str, Any] = {"k": k if show_rows else 1, "min_score": min_score, "progress": stage_progress()}
    by_texts = by_example | {
        "deepest": deepest,
        "labels": labels,
        "bins": bins,
        "subset": subset,
        "rank": rank,
        "text_type": text_type,
        "templates": template,
        "model": model,
    }
    found: Predictions
    if hold_out is not None and like is not None:
        found = birder.open_collection(like).hold_out(
            column or "label", hold_out, where=where, method=method, k=k, min_score=min_score
        )
    elif collection is not None:
        opened = birder.open_collection(collection, device=device)
        named = by_texts if like is None else by_example | {"examples": like, "column": column, "method": method}
        found = opened.predict(where=where, save=save, by=by, **named)
    elif like is not None:
        found = birder.open_collection(like, device=device).predict(
            images, column=column or "label", method=method, **by_example
        )
    else:
        found = birder.predict(images or (), device=device, batch_size=batch_size, **by_texts)
    _tell(found)
    if show_rows:
        write_rows(_rows(found, form), form, to, columns=_columns(found, form))
    if found.saved:
        of = "the rows of " if by else ""
        note(f"{collection}: {of}{found.images:,} {'sequences' if by else 'rows'} now have {', '.join(found.saved)}.")
    if record is not None:
        on_rows = {
            "--in": collection,
            "--like": like,
            "--column": column,
            "--where": where,
            "--method": method,
            "--by": by,
        }
        record.write(
            model=found.model,
            sha256=found.sha256,
            device=device,
            settings=by_text | on_rows | {"-k": k, "--min-score": min_score},
            output=to,
            saved=bool(found.saved),
            images=(row["path"] for row in found),
            unreadable=(path for path, _ in found.unreadable),
        )
    _tell_end(found, min_score)


def _check_use(
    images: list[str] | None,
    collection: Path | None,
    like: Path | None,
    by_text: list[str],
    column: str | None,
    hold_out: float | None,
    where: str | None,
    save: bool,
    by: str | None,
    log: Path | None,
) -> None:
    """Refuse options that exclude each other."""
    if like is not None and by_text:
        options.wrong_use(f"--like names by examples, with the model of their collection: leave out {by_text[0]}.")
    if like is None and (column is not None or hold_out is not None):
        options.wrong_use("--column and --hold-out need --like: the collection whose labels are the examples.")
    if collection is None and save:
        options.wrong_use("--save is about the rows of a collection: name it with --in.")
    if hold_out is None:
        options.check_where(where, collection)
    if collection is None and by is not None:
        options.wrong_use("--by sequence is about the rows of a collection: name it with --in.")
    if hold_out is not None and log is not None:
        options.wrong_use("--log records images that are named: leave out --hold-out.")
    if hold_out is not None and (images or collection is not None):
        options.wrong_use("--hold-out names images of --like itself: leave out IMAGE and --in.")
    if hold_out is None and bool(images) == (collection is not None):
        options.wrong_use("Name images, or a collection with --in: one of the two.")


def _tell(found: Predictions) -> None:
    for each in found.notes:
        note(f"birder: {each}")
    note(f"Named {counted(found.images, _unit(found))} with {found.model} among {found.choice}.")


def _unit(found: Predictions) -> str:
    return "sequence" if "sequence" in found.table.column_names else "image"


def _tell_end(found: Predictions, min_score: float) -> None:
    from birder.collection.results import HeldOut

    if found.nameless:
        note(
            f"{found.nameless:,} of {counted(found.images, _unit(found))} have no name with a score of at least "
            f"{min_score}."
        )
    if "unknown" in found.table.column_names:
        unknown = len({row["uri"] for row in found if row["unknown"]})
        note(f"Unknown, which is unlike anything the classifier learned from: {unknown:,} of {found.images:,} images.")
    if isinstance(found, HeldOut):
        among = f"; among the first five: {found.among_five:,} ({found.among_five / found.images:.0%})"
        note(
            f"Right: {found.right:,} of {found.images:,} ({found.right / found.images:.0%})"
            f"{among if found.classes > 5 else ''}."
        )
    tell_unreadable(found.unreadable, found.images + len(found.unreadable))


def _columns(found: Predictions, form: Format) -> list[str]:
    columns = [name for name in found.to_arrow().column_names if name != "uri"]
    if form is Format.table:  # to read: the name itself, not its whole lineage
        above = [name for name in found.columns if name not in (found.name_column, "common_name")]
        columns = [name for name in columns if name not in above]
    return columns


def _rows(found: Predictions, form: Format) -> list[dict[str, Any]]:
    columns = _columns(found, form)
    rows = [{name: row[name] for name in columns} for row in found]
    if "set" in columns and form in (Format.table, Format.csv):
        rows = [row | {"set": "; ".join(row["set"] or ())} for row in rows]
    return rows
