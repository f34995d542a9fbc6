"""`birder train-clip`: a CLIP, trained on shards of images and texts."""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from birder.cli import options
from birder.cli.errors import FAILED, INTERRUPTED
from birder.cli.outcomes import tell_failures
from birder.cli.output import note, one_line, say
from birder.cli.progress import SECONDS_BETWEEN_LINES
from birder.cli.stopping import stopping

if TYPE_CHECKING:
    from birder.collection.clip_training import ClipTraining
    from birder.learning.clip import ClipTold


def train_clip(
    shards: Annotated[
        list[str],
        typer.Option("--shards", metavar="SHARDS", help="Shards to learn from: 'train/shard-{000000..000159}.tar'."),
    ],
    to: Annotated[Path, typer.Option("--to", metavar="FOLDER", help="Write the model and a report into this folder.")],
    val: Annotated[
        list[str] | None, typer.Option("--val", metavar="SHARDS", help="Shards to measure it on after each epoch.")
    ] = None,
    replay: Annotated[
        list[str] | None,
        typer.Option(
            "--replay",
            metavar="SHARDS",
            help="Shards of images with captions (KEY.txt) to learn beside the others, so that they are not forgotten.",
        ),
    ] = None,
    recipe: Annotated[
        Literal["bioclip-v1", "bioclip-v2", "small"],
        typer.Option("--recipe", help="Whose settings to use where no option says otherwise."),
    ] = "bioclip-v1",
    model: Annotated[
        str | None,
        typer.Option("--model", metavar="NETWORK", help="Image encoder (default: that of --init or the recipe)."),
    ] = None,
    init: Annotated[
        str | None,
        typer.Option(
            "--init",
            metavar="MODEL|FILE|none",
            help="Weights to begin with: a CLIP (FOLDER, OWNER/NAME, openai.safetensors), or an image encoder alone.",
        ),
    ] = None,
    texts: Annotated[
        str | None,
        typer.Option(
            "--texts", metavar="NAME[,NAME]", help="Texts to learn (BioCLIP: sci, com, taxon, sci_com, taxon_com)."
        ),
    ] = None,
    mix: Annotated[
        Literal["per-batch", "per-sample"] | None,
        typer.Option("--mix", help="Draw one of the texts for each batch (BioCLIP), or for each sample."),
    ] = None,
    batch_size: Annotated[
        int | None,
        typer.Option("--batch-size", min=1, metavar="N", help="Number of images that the network takes at once."),
    ] = None,
    accumulate: Annotated[
        int | None,
        typer.Option("--accumulate", min=1, metavar="N", help="Compute each update from N batches on each device."),
    ] = None,
    lr: Annotated[
        float | None,
        typer.Option("--lr", min=1e-8, max=1.0, metavar="RATE", help="Peak learning rate (BioCLIP: 1e-4)."),
    ] = None,
    warmup: Annotated[
        int | None, typer.Option("--warmup", min=0, metavar="N", help="Updates until the peak (BioCLIP: 1000).")
    ] = None,
    epochs: Annotated[
        int | None,
        typer.Option(
            "--epochs", min=1, metavar="N", help="How often as many samples are seen as there are (BioCLIP: 100)."
        ),
    ] = None,
    precision: Annotated[
        Literal["fp32", "bf16", "fp16", "auto"] | None,
        typer.Option("--precision", help="Mixed precision (default: the recipe's, or bf16 on a GPU that has it)."),
    ] = None,
    lock_image: Annotated[
        bool | None,
        typer.Option("--lock-image/--no-lock-image", help="Leave the image encoder as it is, but for its projection."),
    ] = None,
    samples: Annotated[
        int | None,
        typer.Option("--samples", min=1, metavar="N", help="Samples of the shards (default: as sizes.json says)."),
    ] = None,
    judge: Annotated[
        Path | None,
        typer.Option(
            "--judge", metavar="COLLECTION", help="Name the labelled images of this collection after each epoch."
        ),
    ] = None,
    judge_column: Annotated[
        str, typer.Option("--judge-column", metavar="COLUMN", help="The column with its labels.")
    ] = "label",
    benchmark: Annotated[
        str | None,
        typer.Option(
            "--benchmark",
            metavar="NAME",
            help="Name the images of a published benchmark after each epoch: rare-species, nabirds, ...",
        ),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option("--data", metavar="FOLDER", help="With --benchmark: the folder that holds it, all of it."),
    ] = None,
    tensorboard: Annotated[
        bool, typer.Option("--tensorboard", help="Also write the curves for TensorBoard while it trains.")
    ] = False,
    device: options.Device = None,
    workers: Annotated[
        int | None,
        typer.Option(
            "--workers",
            min=1,
            metavar="N",
            help="Processes that read shards for each device (default: a processor less than there are).",
        ),
    ] = None,
    seed: Annotated[
        int | None, typer.Option("--seed", min=0, metavar="N", help="Seed of everything that is drawn (default: 0).")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a training that was stopped or killed.")] = False,
    force: options.Force = False,
) -> None:
    """Train a CLIP on shards of images and texts, as BioCLIP was trained on TreeOfLife.

    The folder is then a model: birder predict --labels, birder embed, birder search and OpenCLIP load it. After Ctrl-C
    or a crash, the same command with --resume goes on; on one device, to the same weights. On several GPUs, run it
    with torchrun.

    For example:

    birder train-clip --shards 'shards/train/*.tar' --to trees/ --recipe small --init vit_b16_pn_bioclip-v1
    """
    if (benchmark is None) != (data is None):
        options.wrong_use("A benchmark has a name and a folder: --benchmark NAME --data FOLDER.")
    if benchmark is not None and judge is not None:
        options.wrong_use("One set of images is named after each epoch: leave out --judge or --benchmark.")

    import birder
    from birder.collection.clip_training import in_words
    from birder.learning.parallel import is_first

    last = time.perf_counter()

    def tell(told: ClipTold) -> None:
        nonlocal last
        if told.update == told.updates or time.perf_counter() - last >= SECONDS_BETWEEN_LINES:
            note(in_words(told))
            last = time.perf_counter()

    with stopping() as (stop, listen):
        listen()
        trained = birder.train_clip(
            shards,
            to,
            val=val,
            replay=replay,
            recipe=recipe,
            model=model,
            init=init,
            texts=None if texts is None else options.names_in(texts),
            mix=mix,
            batch_size=batch_size,
            accumulate=accumulate,
            lr=lr,
            warmup=warmup,
            epochs=epochs,
            precision=None if precision == "auto" else precision,
            lock_image=lock_image,
            samples=samples,
            judge=judge,
            judge_column=judge_column,
            benchmark=benchmark,
            data=data,
            tensorboard=tensorboard,
            device=device,
            workers=workers,
            seed=seed,
            resume=resume,
            force=force,
            begun=lambda sentence: note(one_line(sentence)),
            estimated=lambda seconds: note(f"The training will take about {_duration(seconds)} here."),
            tell=None if sys.stderr.isatty() else tell,
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
        tell_failures(sorted(trained.failures.items()), f"see {trained.path / 'metrics.json'}")
        if trained.record["processes"] == 1:  # torchrun would take the training for lost
            raise typer.Exit(FAILED)


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:,.0f} min" if seconds < 7200 else f"{seconds / 3600:,.1f} h"


def _summary(trained: ClipTraining) -> Iterator[str]:
    record = trained.record
    last = record["history"][-1]
    yield (
        f"Trained in {_duration(record['seconds'])}: {record['updates']:,} updates, "
        f"{record['images_per_second']:,.0f} images/s, loss {last['loss']:.3f}."
    )
    for each in record["data"]["replaced"]:
        yield f"{each['samples']:,} samples have no text {each['text']}: {each['taken']} was taken."
    if "val" in last:
        val = last["val"]
        yield (
            f"On {val['n']:,} validation samples: loss {val['loss']:.3f}; of {val['texts']:,} texts the right one is "
            f"first for {val['image_to_text_r1']:.1%} of the images, among the first five for "
            f"{val['image_to_text_r5']:.1%}."
        )
    if "zero_shot" in last:
        found = last["zero_shot"]
        yield f"Named right by texts in {found['images_of']}: {found['top1']:.1%} of {found['n']:,} images."
    assert trained.image_encoder is not None
    yield f"Wrote {trained.path}: the model, {trained.image_encoder.name}, report.html and metrics.json."
    model = shlex.quote(str(trained.path))
    yield "Next:"
    yield f"  birder predict IMAGE --model {model} --labels LABELS.txt"
    yield f"  birder embed IMAGES --in OTHER.birder --model {model}"
