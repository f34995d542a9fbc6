"""`birder train-detector`: a detector for one's own animals, learned from boxes."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from birder.cli import options
from birder.cli.errors import FAILED, INTERRUPTED
from birder.cli.outcomes import tell_failures
from birder.cli.output import note, one_line, say
from birder.cli.progress import stage_progress
from birder.cli.stopping import stopping

if TYPE_CHECKING:
    from birder.collection.detector_training import TrainedDetector


def train_detector(
    to: Annotated[Path, options.to_option(".pt, a checkpoint")],
    coco: Annotated[
        Path | None, typer.Option("--coco", metavar="FILE", help="Images and boxes to learn from: COCO's JSON.")
    ] = None,
    voc: Annotated[
        Path | None,
        typer.Option("--voc", metavar="FOLDER", help="Images and boxes to learn from: XML files of Pascal VOC."),
    ] = None,
    images: Annotated[
        Path | None,
        typer.Option("--images", metavar="FOLDER", help="Where the images of --coco are (default: beside the file)."),
    ] = None,
    val: Annotated[
        Path | None,
        typer.Option(
            "--val",
            metavar="PATH",
            help="Images to judge the detector on: a COCO file, a VOC folder, or a text file that lists which images "
            "to take out of training, one name a line.",
        ),
    ] = None,
    backbone: Annotated[
        str | None,
        typer.Option("--backbone", metavar="MODEL", help="Model that it stands on (default: the one installed)."),
    ] = None,
    report: Annotated[
        Path | None,
        typer.Option(
            "--report", metavar="FOLDER", help="Also write report.html, metrics.json and detections.parquet there."
        ),
    ] = None,
    size: Annotated[
        int, typer.Option("--size", min=32, metavar="N", help="Height and width of the input in pixels.")
    ] = 448,
    width: Annotated[
        int, typer.Option("--width", min=64, metavar="N", help="Channels of the new layers, a multiple of 32.")
    ] = 64,
    unfreeze_last: Annotated[
        int,
        typer.Option("--unfreeze-last", min=0, metavar="N", help="Blocks of the backbone that learn too; far slower."),
    ] = 0,
    epochs: Annotated[int, typer.Option("--epochs", min=1, metavar="N", help="How often each image is seen.")] = 20,
    lr: Annotated[float, typer.Option("--lr", metavar="RATE", help="Peak learning rate.")] = 1e-3,
    batch_size: Annotated[
        int, typer.Option("--batch-size", min=1, metavar="N", help="Number of images that the network takes at once.")
    ] = 8,
    device: options.Device = None,
    seed: Annotated[int, typer.Option("--seed", min=0, metavar="N", help="Seed of everything that is drawn.")] = 0,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a training that was stopped.")] = False,
    force: options.Force = False,
) -> None:
    """Train a detector for your own classes from images with boxes, and measure it on images that it has not seen.

    It is FCOS on the maps of a backbone, which stays as it is, so that a few hundred images and a laptop are enough.
    After Ctrl-C or a crash, the same command with --resume goes on. The checkpoint runs in birder detect --model.

    For example:

    birder train-detector --voc raccoon/ --val judged.txt --to raccoon.pt --report raccoons/
    """
    import birder
    from birder.registry import DEFAULT_WEIGHTS

    with stopping() as (stop, listen):
        listen()
        trained = birder.train_detector(
            to,
            coco=coco,
            voc=voc,
            images=images,
            val=val,
            backbone=backbone or DEFAULT_WEIGHTS,
            report=report,
            size=size,
            width=width,
            unfreeze_last=unfreeze_last,
            epochs=epochs,
            lr=lr,
            batch_size=batch_size,
            device=device,
            seed=seed,
            resume=resume,
            force=force,
            progress=stage_progress(),
            expect=lambda seconds: note(f"The training will take about {_duration(seconds)} here."),
            stop=stop,
        )
    for line in trained.notes:
        note(one_line(line))
    if trained.stopped:
        note("Stopped. To continue, run the same command with --resume.")
        raise typer.Exit(INTERRUPTED)
    for line in (*_summary(trained), *_next(trained)):
        say(line)
    tell_failures(sorted(trained.failures.items()), "they were left out")
    if trained.failures:
        raise typer.Exit(FAILED)


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


def _summary(trained: TrainedDetector) -> Iterator[str]:
    yield (
        f"Trained on {trained.images:,} images with {trained.boxes:,} boxes of {len(trained.classes):,} "
        f"class{'es' if len(trained.classes) > 1 else ''} in {_duration(trained.seconds)}."
    )
    if trained.figures:
        judged, beside = trained.figures["judged"], trained.figures["beside"]
        yield f"On {judged['images']:,} images with {judged['boxes']:,} boxes that it had not seen:"
        for name in ("AP50", "AP75", "AP"):
            yield f"  {name} {_in_words(judged['metrics'][name])}"
        others = beside["installed"]["metrics"]["AP50"]
        yield (
            f"  AP50 by category {_in_words(beside['trained']['metrics']['AP50'])}; of the installed detector "
            f"({beside['name']}) {_in_words(others)}"
        )
        best = judged["best_score"]
        if best is not None:
            yield (
                f"  With --min-conf {best['score']:.2f}, {best['precision']:.0%} of its boxes are right, and it finds "
                f"{best['recall']:.0%} of what is there."
            )
    yield f"Wrote {trained.path}."
    if trained.report is not None:
        yield f"Wrote {trained.report}: what it misses and what it finds where nothing is, with the images."


def _in_words(figure: dict[str, Any]) -> str:
    interval = f" ({figure['low']:.3f} to {figure['high']:.3f})" if figure.get("low") is not None else ""
    return f"{figure['estimate']:.3f}{interval}"


def _next(trained: TrainedDetector) -> Iterator[str]:
    yield "Next:"
    yield f"  birder detect IMAGES --model {shlex.quote(str(trained.path))} --to boxes.json"
