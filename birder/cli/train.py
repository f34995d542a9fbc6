"""`birder train`: the network itself, trained on a collection's images and labels."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from birder.cli import options
from birder.cli.adapt import in_words
from birder.cli.errors import FAILED, INTERRUPTED
from birder.cli.outcomes import tell_failures
from birder.cli.output import note, one_line, say
from birder.cli.progress import stage_progress
from birder.cli.stopping import stopping
from birder.words import counted

if TYPE_CHECKING:
    from birder.collection.training import Trained

_LONG = 3600.0
_FIGURES = {"top1": "Accuracy", "mean_recall": "Mean recall of the classes", "macro_f1": "Macro F1"}


def train(
    to: Annotated[Path, options.to_option(".pt or .safetensors, a checkpoint of the trained network")],
    collection: Annotated[
        Path | None, typer.Argument(metavar="COLLECTION", help="The collection, a folder.", show_default=False)
    ] = None,
    column: Annotated[
        str, typer.Option("--column", metavar="COLUMN", help="The column with the labels to learn.")
    ] = "label",
    data: Annotated[
        Path | None,
        typer.Option(
            "--data",
            metavar="FOLDER|TABLE",
            help="Instead of a collection: a folder whose folders are the labels, or a table that names images.",
        ),
    ] = None,
    init: Annotated[
        Path | None,
        typer.Option(
            "--init",
            metavar="FILE",
            help="Begin with the network and the classifier of this file (default: a classifier is fitted first).",
        ),
    ] = None,
    where: options.Where = None,
    group_by: options.GroupBy = None,
    unfreeze_last: Annotated[
        str | None,
        typer.Option(
            "--unfreeze-last",
            metavar="N|all",
            help="Blocks of the network that learn, counted from its output, or all of it (default: four fifths of the "
            "blocks).",
        ),
    ] = None,
    epochs: Annotated[int, typer.Option("--epochs", min=1, metavar="N", help="The most epochs.")] = 20,
    lr: Annotated[
        float,
        typer.Option(
            "--lr",
            min=1e-8,
            max=1.0,
            metavar="RATE",
            help="Peak learning rate of the classifier; layers before it learn more slowly.",
        ),
    ] = 5e-4,
    batch_size: options.BatchSize = 32,
    accumulate: Annotated[
        int, typer.Option("--accumulate", min=1, metavar="N", help="Compute each update from N batches.")
    ] = 1,
    size: Annotated[
        int | None,
        typer.Option(
            "--size", min=1, metavar="PIXELS", help="Height and width of the input (default: the network's own)."
        ),
    ] = None,
    balance: Annotated[bool, typer.Option("--balance", help="Show images of every class equally often.")] = False,
    device: options.Device = None,
    seed: Annotated[int, typer.Option("--seed", min=0, metavar="N", help="Seed of everything that is drawn.")] = 0,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with a training for this file that was stopped or killed.")
    ] = False,
    yes: Annotated[
        bool, typer.Option("--yes", help="Do not ask where the training takes more than an hour on a CPU.")
    ] = False,
    force: options.Force = False,
) -> None:
    """Train the network itself on a collection's images and labels, and compare it with a classifier alone.

    First a classifier is fitted to the embeddings, as birder adapt does; then the network learns too. A part of the
    labelled images is held out, and decides when to stop. The time that it will take is measured first. After Ctrl-C or
    a crash, --resume goes on; on one device, the result is the same as without the stop. Labels are never changed.

    For example:

    birder train photos.birder --column label --to groups.pt --epochs 2 --unfreeze-last 1
    """
    if (collection is None) == (data is None):
        options.wrong_use("Name a collection, or --data with a folder or table of images: one of them.")
    blocks = _blocks(unfreeze_last)
    if sys.stderr.isatty():
        note("Ctrl-C stops the training; --resume goes on with it.")

    import birder
    from birder.collection.labelled_data import collection_of_data
    from birder.collection.training import duration
    from birder.learning.parallel import is_first

    if data is not None:
        note(f"Embedding the images of {data}.")
        collection = collection_of_data(data, to, init=init, device=device, resume=resume, force=force)
    assert collection is not None

    def estimated(seconds: float, kind: str) -> None:
        note(f"The training will take about {duration(seconds)} here, measured on three batches.")
        if seconds > _LONG and kind == "cpu" and not yes:
            if not sys.stdin.isatty():
                options.wrong_use("That is more than an hour on a CPU: add --yes, fewer --epochs or --unfreeze-last N.")
            typer.confirm("That is more than an hour on a CPU. Begin?", abort=True, err=True)

    with stopping() as (stop, listen):
        listen()
        trained = birder.open_collection(collection).train(
            column,
            to,
            init=init,
            where=where,
            group_by=() if group_by is None else [name for part in group_by.split(",") if (name := part.strip())],
            unfreeze_last=blocks,
            epochs=epochs,
            lr=lr,
            batch_size=batch_size,
            accumulate=accumulate,
            size=size,
            balance=balance,
            device=device,
            seed=seed,
            resume=resume,
            force=force,
            command=shlex.join(["birder", *sys.argv[1:]]),
            estimated=estimated,
            progress=stage_progress(),
            stop=stop,
        )
    if trained.stopped:
        note("Stopped. To go on, run the same command with --resume.")
        raise typer.Exit(INTERRUPTED)
    if not is_first():
        return
    for line in _summary(trained):
        say(line)
    if trained.failures:
        note(f"{counted(len(trained.failures), 'image')} could not be read and took no part.")
        tell_failures(trained.failures.items(), f"see the failures in {trained.report / 'metrics.json'}")
        raise typer.Exit(FAILED)


def _blocks(text: str | None) -> int | Literal["all"] | None:
    if text is None or text == "all":
        return None if text is None else "all"
    if not text.isascii() or not text.isdigit():
        options.wrong_use(f"--unfreeze-last {text!r} is neither a number of blocks nor all.")
    return int(text)


def _summary(trained: Trained) -> Iterator[str]:
    """Say what the training gained over the classifier that it began with."""
    from birder.collection.training import duration
    from birder.weights.head import published_note

    told, compared = trained.evaluation["training"], trained.evaluation["comparison"]
    epochs = told["history"][-1]["epoch"]
    yield (
        f"Trained on {told['images']:,} images of {len(trained.classes):,} classes in {duration(told['seconds'])}, "
        f"{epochs} epochs. The weights are {told['mix']:.0%} of the way from those before to those of epoch "
        f"{told['best']}."
    )
    yield f"On {told['validation']:,} validation images, which decided when to stop (95% intervals):"
    for key, name in _FIGURES.items():
        if key in trained.metrics:
            yield f"  {name}: {in_words(trained.metrics[key])}; before: {compared['second'][key]:.1%}"
    yield from (f"Warning: {one_line(each)}" for each in trained.evaluation["warnings"])
    yield f"Wrote {trained.path}: the network with its classifier."
    if (unpublished := published_note(trained.network)) is not None:
        yield f"  {unpublished}"
    yield f"Wrote {trained.report / 'report.html'}: before and after, and what it gets wrong, with the images."
    model, column = shlex.quote(str(trained.path)), shlex.quote(trained.evaluation["asked"]["column"])
    yield "Next:"
    yield f"  birder predict IMAGE --model {model}"
    yield f"  birder embed IMAGES --in OTHER.birder --model {model}"
    yield f"  birder evaluate OTHER.birder --column {column} --model {model}"
