"""`birder compare`: two models on the same images."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from birder.cli import options
from birder.cli.options import Format
from birder.cli.output import note, say, write_rows, write_value
from birder.cli.progress import stage_progress
from birder.words import counted

_LISTED = 20


def compare(
    collection: options.Collection,
    other: Annotated[
        Path,
        typer.Argument(metavar="OTHER", help="A collection of the same images, embedded by another model."),
    ],
    column: Annotated[str, typer.Option("--column", metavar="COLUMN", help="The column with the labels.")] = "label",
    predictions: Annotated[
        str | None,
        typer.Option(
            "--predictions",
            metavar="COLUMN",
            help="Compare the names in this column (default: predicted_label, or the lowest predicted rank, if both "
            "have it; else the label of the nearest labelled image).",
        ),
    ] = None,
    where: options.Where = None,
    group_by: options.GroupBy = None,
    split: options.JudgedSplit = "groups",
    neighbours: Annotated[
        int, typer.Option("--neighbours", min=1, metavar="N", help="Nearest images of each image to compare.")
    ] = 10,
    seed: Annotated[
        int, typer.Option("--seed", min=0, metavar="N", help="Seed of what is drawn, and of intervals.")
    ] = 0,
    to: options.ToRows = None,
    format: options.FormatOption = None,
    force: options.Force = False,
) -> None:
    """Compare two models on the same images: two collections of them, each embedded by one model.

    It tells which images both have, how many of an image's nearest are the same in both, how often both give it the
    same name, and, where images are labelled, which model is right more often, over all and for each class, with
    paired intervals. --where chooses rows of COLLECTION.

    For example:

    birder compare photos.birder photos-bioclip2.birder

    birder compare photos.birder photos-bioclip2.birder --column species --where "deployment = 'A4'" --format json
    """
    form = options.format_of(format, to)
    options.check_to(to, force)

    import birder

    found = (
        birder.open_collection(collection)
        .compare(
            other,
            column,
            predictions=predictions,
            where=where,
            group_by=options.names_in(group_by),
            split=split,
            k=neighbours,
            seed=seed,
            progress=stage_progress(every_stage=True),
        )
        .results
    )
    for each in found["notes"]:
        note(each)
    if form is Format.json:
        write_value(found, to)
    elif form is Format.table and to is None:
        _tell(found)
    else:
        write_rows(list(_rows(found)), form, to)


def _tell(found: Mapping[str, Any]) -> None:
    """Print a comparison as sentences and tables."""
    names = _names(found)
    images = found["images"]
    only = [f"{images[key]:,} only in {path}" for key, path in _only(found) if key in images]
    say(f"{counted(images['both'], 'image')} in both collections, {', '.join(only)}.")
    if differ := images.get("content_differs"):
        say(f"Of these, {differ:,} {'has' if differ == 1 else 'have'} the same id or uri in both, and another content.")
    if near := found.get("neighbours"):
        among = f" of {near['of']:,}" if near["n"] < near["of"] else ""
        say(
            f"Of the {near['k']} nearest images of an image, {near['shared']:.1%} are the same by both models "
            f"(by chance {near['chance']:.1%}; mean of {near['n']:,}{among} images)."
        )
    if told := found.get("names"):
        kappa = "" if told["kappa"] is None else f"; Cohen's kappa {told['kappa']:.2f}"
        same = f"{told['same']:,} of {counted(told['n'], 'image')} the same name ({told['agreement']:.1%}{kappa})"
        say(f"Both give {same}. {told['how']}")
        _tell_differences(told, names)
    if accuracy := found.get("accuracy"):
        _tell_accuracy(accuracy, names)


def _names(found: Mapping[str, Any]) -> tuple[str, str]:
    """What the two models are called; if that is the same, their collections."""
    first, second = found["models"]
    for key in ("name", "collection"):
        if first[key] != second[key]:
            return first[key], second[key]
    return "first", "second"


def _only(found: Mapping[str, Any]) -> list[tuple[str, str]]:
    first, second = found["models"]
    return [("only_in_first", first["collection"]), ("only_in_second", second["collection"])]


def _tell_differences(told: Mapping[str, Any], names: tuple[str, str]) -> None:
    if not told["differences"]:
        return
    say("\nWhere they differ most often:")
    rows = [{names[0]: each["first"], names[1]: each["second"], "images": each["n"]} for each in told["differences"]]
    write_rows(rows[:_LISTED], Format.table)


def _tell_accuracy(accuracy: Mapping[str, Any], names: tuple[str, str]) -> None:
    from birder.plots.report_words import compared

    say(f"\n{compared({**accuracy, 'names': names})}")
    say(
        f"Only {names[0]} is right: {counted(accuracy['only_first_right'], 'image')}; only {names[1]}: "
        f"{accuracy['only_second_right']:,}; both: {accuracy['both_right']:,}; neither: "
        f"{accuracy['neither_right']:,}. McNemar's exact test, which takes images for independent: p = "
        f"{accuracy['mcnemar_p']:.2g}."
    )
    if accuracy["labels_differ"]:
        say(f"{counted(accuracy['labels_differ'], 'image')} with different labels in the two collections left out.")
    write_rows(
        [
            {"figure": name, names[0]: accuracy["first"][name], names[1]: accuracy["second"][name], **_interval(each)}
            for name, each in accuracy["difference"].items()
        ],
        Format.table,
    )
    classes = sorted(accuracy["classes"], key=lambda each: (-abs(each["difference"]["estimate"]), each["name"]))
    some = f" ({_LISTED} of {len(classes):,})" if len(classes) > _LISTED else ""
    say(f"\nRecall of each class, the largest difference first{some}:")
    write_rows(
        [
            {
                "class": each["name"],
                "images": each["n"],
                names[0]: each["first"],
                names[1]: each["second"],
                **_interval(each["difference"]),
            }
            for each in classes[:_LISTED]
        ],
        Format.table,
    )


def _interval(difference: Mapping[str, Any]) -> dict[str, Any]:
    return {"difference": difference["estimate"], "low": difference["low"], "high": difference["high"]}


def _rows(found: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Every figure of a comparison as a row: what it is, of how many images, for either model, and the difference."""
    if near := found.get("neighbours"):
        yield _row("shared neighbours", f"k = {near['k']}", near["n"], both=near["shared"])
    if told := found.get("names"):
        yield _row("same name", told["column"], told["n"], both=told["agreement"])
        for each in told["classes"]:
            yield _row(
                "images with the name", each["name"], told["n"], each["first"], each["second"], both=each["both"]
            )
    if accuracy := found.get("accuracy"):
        for name, difference in accuracy["difference"].items():
            values = accuracy["first"][name], accuracy["second"][name]
            yield _row("figure", name, accuracy["n"], *values, difference=difference)
        for each in accuracy["classes"]:
            yield _row("recall", each["name"], each["n"], each["first"], each["second"], difference=each["difference"])


def _row(
    what: str,
    name: str | None,
    n: int,
    first: float | None = None,
    second: float | None = None,
    *,
    both: float | None = None,
    difference: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    told = {"difference": None, "low": None, "high": None} if difference is None else _interval(difference)
    return {"what": what, "name": name, "n": n, "first": first, "second": second, "both": both, **told}
