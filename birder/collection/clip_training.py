"""From shards of images and texts to a CLIP in a folder, and its report."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from birder.collection.progress import StageProgress, stages_shown
from birder.errors import ConfigError, unknown_name
from birder.extras import need
from birder.learning.clip_shards import count_samples
from birder.sources.shard_names import expand_shards
from birder.words import counted

if TYPE_CHECKING:
    from birder.learning.clip import ClipRecipe, ClipTold
    from birder.learning.clip_judge import Judged
    from birder.learning.clip_model import Start
    from birder.net.clip import CLIP

JUDGED_TEXT = "taxon_com"
"""The text that validation images are compared with, if it is among those that are learned; else the first of them."""


@dataclass(frozen=True)
class ClipTraining:
    """A CLIP that was trained.

    Attributes
    ----------
    path
        The folder: OpenCLIP's layout, the image encoder's checkpoint, metrics.json, report.html.
    image_encoder
        The checkpoint of the image encoder; None if the training was stopped.
    record
        What metrics.json holds; empty if the training was stopped.
    stopped
        Whether it was stopped before its end; the same call with `resume` goes on.
    """

    path: Path
    image_encoder: Path | None = None
    record: dict[str, Any] = field(default_factory=dict)
    stopped: bool = False

    @property
    def failures(self) -> dict[str, str]:
        """Shard, place or sample -> why it could not be read; the first 1,000."""
        return dict(self.record.get("data", {}).get("failed", {}))


def train_clip(
    shards: str | Iterable[str],
    to: str | Path,
    *,
    val: str | Iterable[str] | None = None,
    replay: str | Iterable[str] | None = None,
    recipe: str = "bioclip-v1",
    model: str | None = None,
    init: str | Path | None = None,
    texts: Sequence[str] | None = None,
    mix: Literal["per-batch", "per-sample"] | None = None,
    batch_size: int | None = None,
    accumulate: int | None = None,
    lr: float | None = None,
    warmup: int | None = None,
    epochs: int | None = None,
    precision: Literal["fp32", "bf16", "fp16"] | None = None,
    lock_image: bool | None = None,
    samples: int | None = None,
    judge: str | Path | None = None,
    judge_column: str = "label",
    benchmark: str | None = None,
    data: str | Path | None = None,
    tensorboard: bool = False,
    device: str | None = None,
    workers: int | None = None,
    seed: int | None = None,
    resume: bool = False,
    force: bool = False,
    progress: StageProgress = "auto",
    begun: Callable[[str], None] | None = None,
    estimated: Callable[[float], None] | None = None,
    tell: Callable[[ClipTold], None] | None = None,
    stop: threading.Event | None = None,
) -> ClipTraining:
    """Train a CLIP on shards of images and texts; what `birder train-clip` does.

    Started by torchrun, one process on each device, all of them train together. While the training is under way, its
    last two checkpoints are kept in the folder.

    Parameters
    ----------
    shards
        Tar files of KEY.jpg and texts, as `birder shards` writes and TreeOfLife is published: files, patterns, braces,
        URLs.
    to
        The folder to write: a CLIP in OpenCLIP's layout, its image encoder as a checkpoint, metrics.json, report.html.
    val
        Shards to measure it on after each epoch.
    replay
        Shards of images with captions (KEY.txt) that are learned beside the others with a projection of their own, so
        that they are not forgotten: BioCLIP 2's experience replay.
    recipe
        "bioclip-v1", "bioclip-v2" or "small": the default of everything up to `lock_image`, and of `seed`.
    model
        The registered network of the image encoder (default: that of `init`, else the recipe's).
    init
        What to begin with: a CLIP (a folder or hub repository in OpenCLIP's layout, a file of OpenCLIP's tensors,
        registered weights with a text encoder), or an image encoder alone (other registered weights, a checkpoint).
        Default: new weights.
    texts
        Names of the texts of a sample, of which one is drawn.
    mix
        Draw a text for each batch, the same in all processes, or for each sample.
    batch_size
        Images on each device at once.
    accumulate
        Batches on each device that an update is computed from; exact, at twice the cost of the forward pass.
    lr
        The peak learning rate.
    warmup
        Updates until it is reached.
    epochs
        How often as many samples are seen as the shards have.
    precision
        "fp32", or mixed "bf16" or "fp16" (default: "bf16" on a GPU that has it, unless the recipe says so).
    lock_image
        Leave the image encoder as it is, but for its projection.
    samples
        How many samples the shards have (default: as sizes.json beside them says).
    judge
        A collection with labels: the share of its images that are named right by texts, after each epoch.
    judge_column
        The column of its labels.
    benchmark, data
        In place of `judge`: a benchmark by name and the folder that holds it; its images are named by its own texts.
    tensorboard
        Also write the curves for TensorBoard while it trains, into the folder `tensorboard` there.
    device
        Where to compute (default: a GPU if there is one).
    workers
        Processes that read shards for each device (default: a processor less than there are).
    seed
        Of everything that is drawn.
    resume
        Go on with a training that was stopped; everything else must be the same.
    force
        Begin anew in a folder that has a training, or its result.
    progress
        Called with a stage and the share of it that is done; "auto" for a bar in a terminal or notebook.
    begun
        Called with sentences about what is about to be trained.
    estimated
        Called with the seconds that the training will take, as measured on its first updates.
    tell
        Called after each update with how far it has come.
    stop
        Once set, the state is saved and the training ends.

    Returns
    -------
    What was trained, and what it is worth.

    Raises
    ------
    ConfigError
        The shards, or an option, cannot be used.
    FileExistsError
        Birder's own: the folder is not empty, and neither `force` nor `resume` is set.
    UnknownNameError, WeightsError, HubError
        The recipe, the network or `init` is not known, cannot be loaded, or is out of reach.
    MissingExtraError
        TensorBoard is asked for and not installed.
    """
    import torch

    from birder.learning.clip import ClipData, chosen_precision
    from birder.learning.clip import train_clip as train
    from birder.learning.clip_board import Board
    from birder.learning.clip_checkpoint import ClipFolder
    from birder.learning.clip_data import workers_here
    from birder.learning.clip_judge import ClipJudge
    from birder.learning.clip_locked import LockedEncoder
    from birder.learning.clip_model import start_of
    from birder.learning.clip_result import record_of, write_clip, write_record
    from birder.learning.parallel import Parallel
    from birder.plots.clip_report import write_clip_report

    if tensorboard:
        need("tensorboard", "--tensorboard")
    if (benchmark is None) != (data is None) or (benchmark is not None and judge is not None):
        raise ConfigError("Name a benchmark and its folder together (benchmark, data), and leave out judge.")
    judged = None if judge is None else _judged(judge, judge_column)
    if benchmark is not None and data is not None:
        judged = judged_benchmark(benchmark, data)
    to = Path(to)
    if resume and force:
        raise ConfigError("Go on with a training (--resume) or begin anew (--force), not both.")
    chosen = _recipe(
        recipe,
        texts=None if texts is None else tuple(texts),
        mix=mix,
        batch_size=batch_size,
        accumulate=accumulate,
        lr=lr,
        warmup=warmup,
        epochs=epochs,
        precision=precision,
        lock_image=lock_image,
        seed=seed,
    )
    default = chosen.model or "vit_b16_pn"
    chosen = replace(chosen, model=model)
    names = expand_shards(shards)
    val_names = () if val is None else expand_shards(val)
    replay_names = () if replay is None else expand_shards(replay)
    samples = samples or count_samples(names)
    if samples is None:
        raise ConfigError(
            "How many samples the shards have is not known, as no sizes.json is beside all of them: say it with "
            "--samples."
        )
    folder = ClipFolder(to)
    parallel = Parallel.join(device)
    with stages_shown(progress if parallel.rank == 0 and tell is None else None) as shown, parallel:
        start = start_of(model, init, default=default, seed=chosen.seed)
        if chosen.lock_image and start.name is None:
            raise ConfigError("An image encoder that stays as it is needs weights: name them with --init.")
        precision = chosen.precision or chosen_precision(parallel.device)
        locked = LockedEncoder(start, parallel.device, precision) if chosen.lock_image else None
        if workers is None and resume and folder.checkpoints():
            workers = int(folder.asked()["workers"])
        workers = workers or workers_here(parallel, chosen.batch_size)
        sampled = ClipData(names, samples, replay_names, workers)
        asked = _asked(start, sampled, chosen, parallel.processes) | {"precision": precision}
        if parallel.rank == 0:
            folder.begin(asked, resume=resume, force=force)
        parallel.any(False)  # all processes go on when the folder is as it should be
        in_update = chosen.batch_size * chosen.accumulate * parallel.processes
        judges = None
        if val_names or judged is not None:
            text = JUDGED_TEXT if JUDGED_TEXT in chosen.texts else chosen.texts[0]
            judges = ClipJudge(start, val_names, text, in_update, judged, parallel, locked)
        start.clip.to(parallel.device)
        if begun is not None and parallel.rank == 0:
            for sentence in _sentences(start, sampled, chosen, parallel.processes, in_update):
                begun(sentence)

        board = Board(to / "tensorboard", folder.update) if tensorboard and parallel.rank == 0 else None
        done = 0

        def told(state: ClipTold) -> None:
            nonlocal done
            done = state.update
            if board is not None:
                board.update(state)
            if tell is not None:
                tell(state)
            if shown is not None:
                shown(in_words(state), state.update / state.updates)

        def worth(clip: CLIP) -> dict[str, Any]:
            found = {} if judges is None else judges(clip)
            if board is not None:
                board.judged(found, done)
            return found

        try:
            trained = train(
                start,
                sampled,
                chosen,
                folder,
                parallel,
                locked=locked,
                resumed=resume,
                judge=worth,
                estimated=estimated,
                tell=told,
                stop=stop,
            )
        except torch.OutOfMemoryError as error:
            raise ConfigError(
                f"{chosen.batch_size:,} images at once do not fit into the device's memory: lower --batch-size and "
                "raise --accumulate, which gives the same updates."
            ) from error
        finally:
            if board is not None:
                board.close()
        if trained is None:
            return ClipTraining(to, stopped=True)
        record = record_of(
            start,
            sampled,
            chosen,
            trained,
            precision=precision,
            device=parallel.device.type,
            processes=parallel.processes,
        )
        if parallel.rank:
            return ClipTraining(to, record=record)
        image_encoder = write_clip(to, start)
        write_record(to, record)
        write_clip_report(to, record)
        folder.forget()
        return ClipTraining(to, image_encoder, record)


def in_words(told: ClipTold) -> str:
    """How far a training has come, as a line."""
    return (
        f"epoch {told.epoch:,} of {told.epochs:,}, update {told.update:,} of {told.updates:,}, loss {told.loss:.3f}, "
        f"{told.rate:,.0f} images/s, {told.waited:.0%} waiting for data, {_duration(told.left)} left"
    )


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:,.0f} min"


def _recipe(name: str, **given: Any) -> ClipRecipe:
    """A recipe by name, with what was given in place of its own."""
    from birder.learning.clip import RECIPES

    if name not in RECIPES:
        raise unknown_name("recipe", name, list(RECIPES))
    recipe = replace(RECIPES[name], **{key: value for key, value in given.items() if value is not None})
    if min(recipe.batch_size, recipe.accumulate, recipe.epochs) < 1 or recipe.warmup < 0 or not 0 < recipe.lr < 1:
        raise ConfigError(
            "Batch size, batches of an update and epochs must be at least 1, the warm-up at least 0 updates, and the "
            "learning rate between 0 and 1."
        )
    if not recipe.texts or recipe.batch_size * recipe.accumulate < 2:
        raise ConfigError("CLIP learns from at least one kind of text, and compares at least two samples.")
    return recipe


def _asked(start: Start, data: Any, recipe: ClipRecipe, processes: int) -> dict[str, Any]:
    """All that the final weights depend on."""

    def listed(names: Sequence[str]) -> str:
        return f"{len(names)} shards, sha256 {hashlib.sha256(chr(10).join(names).encode()).hexdigest()[:16]}"

    recipe_of = {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(recipe).items()}
    return recipe_of | {
        "network": start.network,
        "init": start.name,
        "init_sha256": start.sha256,
        "shards": listed(data.shards),
        "replay": listed(data.replay),
        "samples": data.samples,
        "workers": data.workers,
        "processes": processes,
    }


def _judged(collection: str | Path, column: str) -> Judged:
    from birder.collection.storage import Storage
    from birder.learning.clip_judge import Judged
    from birder.learning.rows import labelled_rows
    from birder.learning.training_data import TrainingImages

    rows = labelled_rows(Storage.open(collection), column)
    return Judged(Path(collection).name, TrainingImages(rows.table["uri"].to_pylist(), rows.codes), rows.classes)


def judged_benchmark(name: str, data: str | Path) -> Judged:
    """What a CLIP is judged by while it is trained: the images of a benchmark that others would be judged by.

    Raises
    ------
    UnknownNameError
        There is no such benchmark.
    BenchmarkFolderError
        Its folder is not whole.
    ConfigError
        It has no classes.
    """
    from birder.evaluation.benchmark_folder import read_benchmark
    from birder.evaluation.benchmarks import TEST, benchmark
    from birder.learning.clip_judge import Judged
    from birder.learning.training_data import TrainingImages
    from birder.naming.prompts import BIOCLIP_TEMPLATES
    from birder.sources import path_to_uri

    folder = read_benchmark(benchmark(name), data)
    if folder.benchmark.task != "classes":
        raise ConfigError(f"{name} has no classes that texts could name.")
    places = [place for place, part in enumerate(folder.parts) if part == TEST]
    uris = [path_to_uri(folder.files[place]) for place in places]
    return Judged(name, TrainingImages(uris, folder.codes[places]), folder.texts, BIOCLIP_TEMPLATES, centre_crop=True)


def _sentences(start: Start, data: Any, recipe: ClipRecipe, processes: int, in_update: int) -> list[str]:
    """What is about to be trained, for people."""
    locked = ", which stays as it is but for its projection" * recipe.lock_image
    weights = "new weights" if start.name is None else f"the weights of {start.name}"
    return [
        f"The image encoder is a {start.network}{locked}; the training begins with {weights}.",
        f"{counted(data.samples, 'sample')} in {counted(len(data.shards), 'shard')}, "
        f"{counted(recipe.epochs, 'epoch')}, updates of {in_update:,} images on {counted(processes, 'device')}.",
    ]
