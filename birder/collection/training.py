"""Training a network on the images and labels of a collection: from its rows to a checkpoint and a report."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from birder.collection.backbone import load_backbone
from birder.collection.progress import StageProgress, stages_shown
from birder.collection.storage import Storage
from birder.errors import ConfigError, file_exists
from birder.extras import need
from birder.registry import HEAD_ENDING

if TYPE_CHECKING:
    from birder.collection.filter import Filter
    from birder.learning.finetune import FineTuned, Recipe, Told
    from birder.learning.training_checkpoint import TrainingFolder
    from birder.learning.training_result import Training
    from birder.weights.load import LoadedModel

Estimated = Callable[[float, str], None]
"""Called before the first update with the seconds that the training will take and the type of its device ("cpu")."""

MIN_EXAMPLES = 5
"""Classes with fewer labelled images are left out."""


@dataclass(frozen=True)
class Trained:
    """A network that was trained; or a training that was stopped before its end.

    Attributes
    ----------
    path
        The checkpoint.
    report
        The folder with report.html, metrics.json and predictions.parquet.
    classes
        C names, sorted.
    evaluation
        What metrics.json holds: the figures on the validation images, `comparison` with those before the training, and
        `training`, how it went.
    network
        The registered network.
    stopped
        Whether it was stopped: then there is no file but its state, from which it can go on.
    """

    path: Path
    report: Path
    classes: tuple[str, ...]
    network: str
    evaluation: dict[str, Any] = field(default_factory=dict)
    stopped: bool = False

    @property
    def metrics(self) -> dict[str, Any]:
        """What was measured on the validation images: name -> estimate, low, high, n, interval."""
        return dict(self.evaluation.get("metrics", {}))

    @property
    def failures(self) -> dict[str, str]:
        """Uri -> why the image could not be read."""
        return dict(self.evaluation.get("training", {}).get("failures", {}))


def report_folder(to: Path) -> Path:
    """Where the report is written: NAME.report beside the checkpoint."""
    return to.with_name(f"{to.stem}.report")


def state_folder(to: Path) -> Path:
    """Where the state of a training is kept until its end: NAME.training beside the checkpoint."""
    return to.with_name(f"{to.stem}.training")


def check_destination(to: Path, *, resume: bool, force: bool) -> None:
    """Refuse a destination before any work is done for it.

    Raises
    ------
    ConfigError
        It is not the name of a checkpoint; `resume` and `force` are both set; or there is nothing to resume.
    FileExistsError
        It exists, or a training for it has not ended; and neither `resume` nor `force` is set.
    """
    from birder.learning.training_checkpoint import TrainingFolder

    if to.suffix not in (".pt", ".safetensors") or to.name.endswith(HEAD_ENDING):
        raise ConfigError(f"{to} is not the name of a checkpoint: end it in .pt or .safetensors.")
    if resume and force:
        raise ConfigError("Go on with a training (--resume) or begin anew (--force), not both.")
    folder = TrainingFolder(state_folder(to))
    folder.check(resume=resume, force=force)
    if not resume and not force:
        for file in (to, report_folder(to) / "report.html"):
            if file.exists():
                raise file_exists(file)


def train_collection(
    storage: Storage,
    column: str,
    to: Path,
    *,
    init: Path | None,
    where: str | Filter | None,
    group_by: Sequence[str],
    size: int | None,
    recipe: Recipe,
    device: str | None,
    resume: bool,
    force: bool,
    command: str | None,
    estimated: Estimated | None,
    progress: StageProgress,
    stop: threading.Event | None,
) -> Trained:
    """Train the network of a collection; parameters as for `Collection.train`, with the command that a report tells."""
    need("learn", "birder train")
    _check(recipe, size)

    from birder.learning.parallel import is_first

    if is_first():  # the others may come when it has begun
        check_destination(to, resume=resume, force=force)

    from birder.learning.finetune import finetune
    from birder.learning.parallel import Parallel
    from birder.learning.rows import labelled_rows
    from birder.learning.splits import columns_for_groups, find_groups
    from birder.learning.start import fitted_head, head_of_classes, in_parts
    from birder.learning.training_checkpoint import TrainingFolder
    from birder.learning.training_data import TrainingImages
    from birder.learning.training_result import Training
    from birder.weights.head import with_head
    from birder.weights.resolve import resolve

    parallel = Parallel.join(device)
    with stages_shown(progress if parallel.rank == 0 else None) as shown, parallel:
        show = shown or (lambda stage, done: None)
        show("reading labels", 0.0)
        wanted = columns_for_groups(storage, group_by)
        rows = labelled_rows(storage, column, wanted, where=where, min_examples=MIN_EXAMPLES)
        show("finding groups", 0.0)
        groups = find_groups(rows.table, rows.embeddings, column=column, group_by=tuple(group_by))
        parts = in_parts(rows, groups, recipe.seed)
        strength = None
        if init is not None:
            model = resolve(init).load_image_encoder()
            head = head_of_classes(resolve(init).load_head(), rows.classes, init)
        else:
            model = load_backbone(storage)
            show("fitting the classifier", 0.0)
            head, strength = fitted_head(rows, parts, recipe.seed, lambda done: show("fitting the classifier", done))
        model = with_head(model, head, model.name, model.sha256)
        if size is not None:
            model.net.adjust_size((size, size))
        model.net.to(parallel.device)
        training = Training(
            column, rows, groups, parts, model, recipe, strength, None if init is None else init.name,
            parallel.device.type, parallel.processes,
        )  # fmt: skip

        folder = TrainingFolder(state_folder(to))
        resumed = parallel.rank == 0 and folder.begin(_asked(training, group_by), resume=resume)
        images = TrainingImages(rows.table["uri"].to_pylist(), rows.codes)
        show("measuring the time", 0.0)
        try:
            found = finetune(
                model.net,
                _transform(model),
                images.take(parts.learned),
                images.take(parts.held_out),
                recipe,
                folder,
                parallel,
                resumed=parallel.any(resumed),
                estimated=lambda seconds: None if estimated is None else estimated(seconds, parallel.device.type),
                tell=lambda told: show(in_words(told), told.done),
                stop=stop or threading.Event(),
            )
        except BaseException:
            if parallel.rank == 0 and not folder.begun:  # such as when the user does not want to wait so long
                folder.forget()
            raise
        trained = Trained(to, report_folder(to), rows.classes, model.network, stopped=found is None)
        if found is None or parallel.rank:
            return trained
        show("writing the report", 0.0)
        asked = {"collection": str(storage.path), "column": column, "classifier": to.name, "group_by": list(group_by)}
        asked |= {} if where is None else {"where": str(where)}
        asked |= {} if command is None else {"command": command}
        return replace(trained, evaluation=_written(trained, training, found, asked, folder))


def in_words(told: Told) -> str:
    """How far a training has come, as a line: loss, validation metric, rate, time left."""
    loss = "" if told.loss is None else f", loss {told.loss:.3f}"
    failed = f", {told.failed:,} failed" if told.failed else ""
    return (
        f"epoch {told.epoch} of {told.epochs}{loss}, {told.accuracy:.1%} of the validation images right (best "
        f"{told.best:.1%}), {told.rate:.1f} images/s, {duration(told.left)} left{failed}"
    )


def duration(seconds: float) -> str:
    """A time as people say it: "40 s", "25 min", "3.5 h"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _check(recipe: Recipe, size: int | None) -> None:
    if min(recipe.epochs, recipe.batch_size, recipe.accumulate, 1 if size is None else size) < 1:
        raise ConfigError("Epochs, batch size, accumulated batches and size must be at least 1.")
    if not 0.0 < recipe.lr <= 1.0:
        raise ConfigError(f"The learning rate must be above 0 and at most 1, not {recipe.lr}.")


def _asked(training: Training, group_by: Sequence[str]) -> dict[str, Any]:
    """Everything that the final weights depend on, for a training that goes on later."""
    return {
        **asdict(training.recipe),
        "column": training.column,
        "group_by": list(group_by),
        "size": list(training.model.net.size),
        "weights": training.model.sha256,
        "labels": training.rows.sha256(),
        "init": training.init,
        "device": training.device,
        "processes": training.processes,
    }


def _transform(model: LoadedModel) -> dict[str, Any]:
    """How images are prepared for the network: as `birder embed` prepares them for its checkpoint."""
    mean, std = ([float(each) for each in model.info.rgb_stats[name]] for name in ("mean", "std"))
    return {"size": list(model.net.size), "mean": mean, "std": std, "center_crop": 1.0, "simple_crop": False}


def _written(
    trained: Trained, training: Training, found: FineTuned, asked: dict[str, Any], folder: TrainingFolder
) -> dict[str, Any]:
    """Write the checkpoint and its report, remove the state, and return what metrics.json holds."""
    from birder.collection.evaluating import thumbnails_of
    from birder.learning.training_result import judged
    from birder.plots.report import write_report
    from birder.weights.checkpoint import get_channels_from_signature, make_signature

    model = training.model
    evaluation, predictions, classifier = judged(training, found)
    evaluation |= {"asked": {key: value for key, value in asked.items() if value}, "transform": _transform(model)}
    model.net.load_state_dict(found.state)
    channels = get_channels_from_signature(model.info.signature)
    signature = make_signature(model.net.size, len(trained.classes), channels)
    classifier.save(trained.path, model=replace(model, info=model.info._replace(signature=signature)))
    write_report(trained.report, evaluation, predictions, thumbnails=thumbnails_of)
    folder.remove()
    return evaluation
