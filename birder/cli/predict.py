"""`birder predict`: names for what is in photographs, by texts or by labelled examples."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from birder.cli import options
from birder.cli.output import note, one_line, write_rows

if TYPE_CHECKING:
    from birder.collection.storage import Storage
    from birder.errors import ImageError
    from birder.naming.naming import ExampleNames, TextNames
    from birder.naming.record import Record
    from birder.naming.vectors import Batches, OnUnreadable
    from birder.weights.clip import LoadedClip


def predict(
    images: options.Images = None,
    collection: options.MaybeIn = None,
    model: Annotated[
        str | None, options.model_option("the collection's, else BioCLIP 2 if it is on this machine")
    ] = None,
    labels: Annotated[
        str | None,
        typer.Option(
            "--labels",
            metavar="LABELS",
            help="a,b,c; a text file, one label a line; a table of taxa (.csv, .parquet) with columns named by rank; or "
            "text embeddings (.npy beside their .json) (default: TreeOfLife's, from the hub).",
        ),
    ] = None,
    bins: Annotated[
        Path | None,
        typer.Option("--bins", metavar="TABLE", help="Two columns: labels, and the bin that each counts for."),
    ] = None,
    subset: Annotated[
        Path | None,
        typer.Option("--subset", metavar="TABLE", help="Only these taxa: one column, named by its rank."),
    ] = None,
    rank: Annotated[
        options.Rank | None,
        typer.Option("--rank", help="Name at this rank: the score of a genus is the sum over its species."),
    ] = None,
    text_type: Annotated[
        str | None,
        typer.Option(
            "--text-type",
            metavar="TYPE",
            help="How taxa of a table are written: common, scientific, taxonomic, scientific+common or taxonomic+common "
            "(default: taxonomic+common).",
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
    hold_out: Annotated[
        float | None,
        typer.Option(
            "--hold-out",
            metavar="SHARE",
            help="With --like alone: leave out this share of the labelled images, name them, and report how often that "
            "was right.",
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
    to: options.ToRows = None,
    format: options.FormatOption = None,
    force: options.Force = False,
    batch_size: options.BatchSize = 16,
    log: Annotated[
        Path | None,
        typer.Option(
            "--log", metavar="FILE", help="Record what named what, and how: a new .json, or a text file to append to."
        ),
    ] = None,
    device: options.Device = None,
) -> None:
    """Name what is in images: the given ones, or with --in those of a collection, without embedding them again.

    Scores are probabilities over all labels; with --like they are 1 - distance / 2 to the mean of a class.

    For example:

    birder predict owl.jpg --model imageomics/bioclip --rank genus

    birder predict --in photos.birder --labels owl,fox,badger --save

    birder predict photos/ --like photos.birder --column label --to names.csv
    """
    form = _form(format, to)
    by_text: dict[str, Any] = {"--model": model, "--labels": labels, "--bins": bins, "--subset": subset, "--rank": rank}
    by_text |= {"--text-type": text_type, "--template": template}
    if like is not None and (given := [name for name, value in by_text.items() if value]):
        raise typer.BadParameter(f"--like names by examples, with their collection's model: leave out {given[0]}.")
    if like is None and (column is not None or hold_out is not None):
        raise typer.BadParameter("--column and --hold-out need --like: the collection whose labels are the examples.")
    if save and collection is None:
        raise typer.BadParameter("--save writes into the collection of --in: name one.")
    if log is not None and hold_out is not None:
        raise typer.BadParameter("--log is of photographs that are named: leave out --hold-out.")
    if like is not None and hold_out is not None:
        if images or collection is not None:
            raise typer.BadParameter("--hold-out names photographs of --like itself: leave out IMAGE and --in.")
        _check_on_held_out(like, column or "label", hold_out, k, min_score, form, to)
        return
    if bool(images) == (collection is not None):
        raise typer.BadParameter("name photographs, or a collection with --in (one of the two).")

    from birder.collection.storage import Storage
    from birder.naming.vectors import photograph_features, stored_features
    from birder.sources import readable

    record = _begin_record(log) if log is not None else None
    opened = Storage.open(collection) if collection is not None else None
    unreadable: list[str] = []

    def on_unreadable(path: str, error: ImageError) -> None:
        note(f"birder: {one_line(readable(path))}: {one_line(str(error))}")
        unreadable.append(path)

    names: TextNames | ExampleNames
    if like is not None:
        examples = Storage.open(like)
        names, batches = _by_examples(examples, column or "label", images, opened, on_unreadable, device)
        by = f"examples of {column or 'label'}, {examples.model.name}"
        sha256 = examples.model.sha256
    else:
        clip = load_clip_for(model, opened, device)
        by = clip.name
        sha256 = clip.sha256
        names = _text_names(clip, labels, bins, subset, rank, text_type, template)
        if opened is not None:
            batches = stored_features(opened, clip)
        else:
            batches = photograph_features(images or [], clip, on_unreadable, batch_size)
    to_show = not save or to is not None or format is not None
    rows, best, nameless = [], [], 0
    for keys, vectors in batches:
        for key, found in zip(keys, names.predict(vectors, k if to_show else 1, min_score), strict=True):
            rows += [{"image": shown(key)} | each for each in found if to_show]
            best.append((key, found[0] if found else None))
            nameless += not found
    if save and opened is not None:
        _save(opened, best, names.columns, by)
    if to_show:
        _write(rows, names.columns, form, to)
    if record is not None:
        by_text |= {"--in": collection, "--like": like, "--column": column, "-k": k, "--min-score": min_score}
        record.write(
            {
                "model": by,
                "sha256": sha256,
                "device": device,
                "settings": {name: _told(value) for name, value in by_text.items() if value is not None},
                "output": None if to is None else str(to),
                "saved": save,
                "images": [shown(key) for key, _ in best],
                "unreadable": [readable(path) for path in unreadable],
            }
        )
    if nameless:
        note(f"{nameless:,} of {len(best):,} photographs have no name with a score of at least {min_score}.")
    if unreadable:
        note(f"{len(unreadable):,} of {len(best) + len(unreadable):,} could not be read.")
        raise typer.Exit(1)


def _form(format: Format | None, to: Path | None) -> Format:
    ending = to.suffix.lower().lstrip(".") if to is not None else ""
    form = format or (Format(ending) if ending in ("csv", "json", "parquet") else Format.table)
    if form == Format.parquet and to is None:
        raise typer.BadParameter("--format parquet needs a file: --to names.parquet")
    return form


def load_clip_for(model: str | None, opened: Storage | None, device: str | None) -> LoadedClip:
    """The model whose texts fit: the one named, or the collection's, or the default."""
    from birder.collection.model import made_elsewhere
    from birder.collection.schema import IMPORTED
    from birder.collection.text_encoder import load_text_half
    from birder.errors import WeightsError
    from birder.inference.engine_torch import find_device
    from birder.naming.default_model import default_clip
    from birder.weights.clip import load_clip

    if opened is not None:
        if opened.model.engine == IMPORTED:
            note(f"birder: {made_elsewhere(opened)}")
        return load_text_half(opened, model, device)
    try:
        return load_clip(model or default_clip(), device=find_device(device))
    except WeightsError as error:
        if "no text half" in str(error):
            more = "Without texts, labelled photographs do: birder predict --like COLLECTION"
            raise WeightsError(f"{error} {more}") from error
        raise


def _begin_record(log: Path) -> Record:
    import shlex
    import sys

    from birder.naming.record import Record

    return Record(log, shlex.join(["birder", *sys.argv[1:]]))


def _told(value: Any) -> Any:
    return list(value) if isinstance(value, list) else value if isinstance(value, int | float) else str(value)


def _text_names(
    clip: LoadedClip,
    labels: str | None,
    bins: Path | None,
    subset: Path | None,
    rank: Rank | None,
    text_type: str | None,
    template: list[str] | None,
) -> TextNames:
    from birder.errors import unknown_name
    from birder.naming.naming import text_names
    from birder.naming.prompts import OPENAI_TEMPLATES, TextType

    if text_type is not None and text_type not in list(TextType):
        raise unknown_name("text type", text_type, TextType)
    names = text_names(
        clip,
        source=labels,
        bins=bins,
        subset=subset,
        rank=rank.value if rank else None,
        text_type=TextType(text_type) if text_type else None,
        templates=template or OPENAI_TEMPLATES,
        progress=_progress(),
    )
    groups = f" in {names.groups.names.num_rows:,} groups" if names.groups else ""
    note(f"Naming with {clip.name} among {names.labels.names.num_rows:,} labels{groups}.")
    return names


def _by_examples(
    examples: Storage,
    column: str,
    images: list[str] | None,
    opened: Storage | None,
    on_unreadable: OnUnreadable,
    device: str | None,
) -> tuple[ExampleNames, Batches]:
    """Names by the labelled rows of a collection, and the embeddings of what they are for."""
    from birder.collection.model import load_encoder_of, made_elsewhere
    from birder.collection.schema import IMPORTED
    from birder.errors import CollectionError
    from birder.naming.examples import fit_simpleshot
    from birder.naming.naming import ExampleNames
    from birder.naming.vectors import labelled_embeddings, photograph_embeddings, stored_embeddings

    if opened is not None:
        examples.check_model(opened.model)
    uris, vectors, labels = labelled_embeddings(examples, column)
    names = ExampleNames(fit_simpleshot(vectors, labels))
    note(f"Naming with {len(labels):,} examples of {len(names.shot.classes):,} classes, {examples.model.name}.")
    if opened is None:
        if examples.model.engine == IMPORTED:
            note(f"birder: {made_elsewhere(examples)}")
        encoder = load_encoder_of(examples, device)
        return names, photograph_embeddings(images or [], encoder.embed_one, on_unreadable)
    if opened.path.resolve() == examples.path.resolve():
        if len(uris) == opened.count():
            raise CollectionError(
                f"Every row of {opened.path} has its {column} already. To see how well the examples do, leave some "
                f"out: birder predict --like {examples.path} --column {column} --hold-out 0.25"
            )
        note(f"The rows that have no {column} are named; the others are the examples.")
        return names, stored_embeddings(opened, leave_out=set(uris))
    return names, stored_embeddings(opened)


def _check_on_held_out(
    like: Path, column: str, share: float, k: int, min_score: float, form: Format, to: Path | None
) -> None:
    """Name labelled photographs that were left out of the examples, and tell how often it was right."""
    from birder.collection.storage import Storage
    from birder.errors import ConfigError
    from birder.naming.examples import fit_simpleshot, hold_out
    from birder.naming.naming import ExampleNames
    from birder.naming.vectors import labelled_embeddings

    examples = Storage.open(like)
    uris, vectors, labels = labelled_embeddings(examples, column)
    out = hold_out(labels, share)
    if not out.any():
        raise ConfigError(f"No class of {column} is large enough to leave {share} of it out. Label more, or raise it.")
    kept = [label for label, left in zip(labels, out, strict=True) if not left]
    truths = [(uri, label) for uri, label, left in zip(uris, labels, out, strict=True) if left]
    names = ExampleNames(fit_simpleshot(vectors[~out], kept))
    by = f"{len(kept):,} examples of {len(names.shot.classes):,} classes, {examples.model.name}"
    note(f"Naming {len(truths):,} photographs that were left out, by {by}.")
    rows, first, among = [], 0, 0
    for (uri, truth), found in zip(truths, names.predict(vectors[out], max(k, 5)), strict=True):
        guesses = [each["label"] for each in found[:5]]
        first += guesses[0] == truth
        among += truth in guesses
        kept_names = [each for each in found[:k] if each["score"] >= min_score]
        row = {"image": shown(uri), "is": truth}
        rows += [row | {"label": each["label"], "score": each["score"]} for each in kept_names]
    write_rows(rows, form, to=to)
    total = len(truths)
    more = f"; among the first five: {among:,} ({among / total:.0%})" if len(names.shot.classes) > 5 else ""
    note(f"Right: {first:,} of {total:,} ({first / total:.0%}){more}.")


def _save(opened: Storage, best: list[tuple[str, dict[str, Any] | None]], columns: list[str], by: str) -> None:
    from datetime import UTC, datetime

    from birder.formats.predictions import save_predictions

    written = save_predictions(opened, best, columns, by, datetime.now(UTC))
    note(f"{opened.path}: {len(best):,} rows have {', '.join(written)} now.")


def _write(rows: list[dict[str, Any]], columns: list[str], form: Format, to: Path | None) -> None:
    if form == Format.table:  # for eyes: the name itself, not its whole lineage
        own = [name for name in columns if name != "common_name"][-1]
        visible = ["image", own, *(["common_name"] if "common_name" in columns else []), "score"]
        rows = [{name: row[name] for name in visible} for row in rows]
    write_rows(rows, form, to=to)


def shown(key: str) -> str:
    """A uri or path for people."""
    from birder.sources import readable, uri_to_path

    # What is behind # is a part of a file: then the uri itself is the name.
    return readable(uri_to_path(key) if key.startswith("file://") and "#" not in key else key)


def _progress() -> Callable[[int, int], None]:
    last = time.perf_counter()

    def show(done: int, total: int) -> None:
        nonlocal last
        if time.perf_counter() - last >= 10.0 and done < total:
            last = time.perf_counter()
            note(f"Encoded {done:,} of {total:,} labels.")

    return show
