"""Training the network itself, from a classifier that was learned on its embeddings: one loop, from top to bottom.

A linear classifier first, then the whole network (Kumar et al., arXiv 2202.10054): AdamW, a cosine with warm-up,
layer-wise learning rate decay, random crops, label smoothing, averaged weights (EMA), an early stop on validation
images; at the end the weights between those before and after, the mix chosen on the same images (WiSE-FT: Wortsman et
al., arXiv 2109.01903).

C is the number of classes, N of images to learn from, V of validation images.
"""

from __future__ import annotations

import copy
import math
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

from birder.errors import ImageError
from birder.evaluation.linear_fit import temperature
from birder.learning.augment import coloured
from birder.learning.layers import depthwise_in_single_precision, parameter_groups, train_mode, unfreeze_last
from birder.learning.parallel import Parallel
from birder.learning.schedule import warmed_cosine
from birder.learning.training_checkpoint import (
    Position,
    Tensors,
    TrainingFolder,
    optimizer_tensors,
    restore_optimizer,
)
from birder.learning.training_data import Batch, Codes, TrainingImages, Views, epoch_order
from birder.net.base import Backbone

Floats = npt.NDArray[np.float32]

LAYER_DECAY = 0.9
SMOOTHING = 0.1
AVERAGE = 0.99
"""The share of the averaged weights that an update keeps."""
WARM_UP = 0.05
"""The share of the updates until the peak of the learning rate."""
PATIENCE = 0.4
"""The share of the epochs that may pass without a better one before the training stops."""
MIXES = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
"""Shares of the trained weights that are tried at the end."""
SECONDS_BETWEEN_SAVES = 300.0
_MEASURED = 3  # batches


@dataclass(frozen=True)
class Recipe:
    """How a network is trained.

    Attributes
    ----------
    epochs
        The most epochs.
    lr
        The peak learning rate of the classifier; that of the layers before it falls by `LAYER_DECAY` with each.
    batch_size
        Images on a device at once.
    accumulate
        Batches that an update is computed from.
    unfreeze_last
        Blocks that learn, counted from the output; "all": the whole network; None: four fifths of its blocks.
    balance
        Whether every class is seen equally often.
    seed
        Of everything that is drawn.
    """

    epochs: int = 20
    lr: float = 5e-4
    batch_size: int = 32
    accumulate: int = 1
    unfreeze_last: int | Literal["all"] | None = None
    balance: bool = False
    seed: int = 0


@dataclass(frozen=True)
class Told:
    """How far a training has come.

    Attributes
    ----------
    epoch, epochs
        The epoch that is under way, from 1, and how many there are at most.
    images, of
        How many images of it were learned, and how many there are.
    loss
        The mean of its batches so far; None before the first.
    accuracy, best
        Of the averaged weights on the validation images, after the last epoch and after the best one.
    rate
        Images a second.
    left
        Seconds until the end, if it does not stop early.
    done
        The share of the updates that were made.
    failed
        Images that could not be read.
    """

    epoch: int
    epochs: int
    images: int
    of: int
    loss: float | None
    accuracy: float
    best: float
    rate: float
    left: float
    done: float
    failed: int


@dataclass(frozen=True)
class FineTuned:
    """What a training gave.

    Attributes
    ----------
    state
        The network's parameters and buffers: the mix.
    mix
        The share of the trained weights in it.
    mixes
        For each share: accuracy and log loss on the validation images.
    history
        One entry an epoch: `epoch`, `loss`, `accuracy`, `log_loss`, `lr`; epoch 0 is the start, without a loss.
    best
        The epoch whose weights were mixed in.
    judged
        int64 (J,): the validation images that could be read, by position.
    before, after
        float32 (J, C): their logits, of the network at the start and of the mix.
    failures
        uri -> why an image could not be read.
    seconds
        What the training took, all runs together.
    """

    state: Tensors
    mix: float
    mixes: dict[float, dict[str, float]]
    history: list[dict[str, Any]]
    best: int
    judged: Codes
    before: Floats
    after: Floats
    failures: dict[str, str]
    seconds: float


def finetune(
    net: Backbone,
    transform: Mapping[str, Any],
    training: TrainingImages,
    validation: TrainingImages,
    recipe: Recipe,
    folder: TrainingFolder,
    parallel: Parallel,
    *,
    resumed: bool,
    estimated: Callable[[float], None],
    tell: Callable[[Told], None],
    stop: threading.Event,
) -> FineTuned | None:
    """Train a network whose classifier was fitted before.

    Parameters
    ----------
    net
        On the device, with a linear classifier of C classes; what is left in it afterwards is of no use.
    transform
        How a collection prepares images for it: size, mean, std, center_crop, simple_crop.
    training, validation
        The images.
    recipe
        How.
    folder
        Where the state is saved every five minutes and after each epoch. After a stop or a crash, `resumed` goes on
        from there: on one device, to the same final weights bit for bit.
    parallel
        The processes that train together.
    resumed
        Whether the folder has a saved state.
    estimated
        Called before the first update with the seconds that the training will take here; raises to prevent it.
    tell
        Called after each update.
    stop
        When it is set, the state is saved and the training ends after the current update.

    Returns
    -------
    The trained network; None if it was stopped.

    Raises
    ------
    ImageError
        No image to validate on can be read.
    """
    device = parallel.device
    compute = _Compute(device, transform, bf16=has_bf16(device))
    unfreeze_last(net, recipe.unfreeze_last)
    net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    parallel.share_from_first(net.state_dict().values())
    average = copy.deepcopy(net).eval().requires_grad_(False)  # the averaged weights; it is also what is judged
    if device.type == "cpu" and compute.bf16:
        depthwise_in_single_precision(net)
    optimizer = torch.optim.AdamW(parameter_groups(net, recipe.lr, LAYER_DECAY))
    learning = [each for group in optimizer.param_groups for each in group["params"]]
    statistics = [each for each in net.buffers() if each.is_floating_point()]

    in_update = recipe.batch_size * recipe.accumulate * parallel.processes
    updates = max(len(training) // in_update, 1)  # in an epoch; the images left over differ from epoch to epoch
    all_updates = updates * recipe.epochs
    warm_up = max(round(WARM_UP * all_updates), 1)

    at = Position()
    start = best = _copied(net)
    if resumed:
        at, saved = folder.read_state()
        net.load_state_dict(saved["net"])
        average.load_state_dict(saved["average"])
        restore_optimizer(optimizer, saved["optimizer"])
        start = folder.read_start()
        best = folder.read_best() if at.best else start
    elif parallel.rank == 0:
        folder.write_start(start)

    with (
        Views(training, transform, recipe.seed, share=parallel.on_machine) as views,
        Views(validation, transform, recipe.seed, share=parallel.on_machine) as judged_views,
    ):
        watch = _Watch(at, recipe, in_update)

        def judge(state: Tensors) -> tuple[Codes, Floats]:
            average.load_state_dict(state)
            return _judge(average, judged_views, validation, recipe.batch_size, compute, parallel)

        def save() -> None:
            at.seconds, at.failures = watch.seconds, {**at.failures, **views.failures, **judged_views.failures}
            if parallel.rank == 0:
                sets = {
                    "net": net.state_dict(),
                    "average": average.state_dict(),
                    "optimizer": optimizer_tensors(optimizer),
                }
                folder.write_state(at, sets)
            watch.saved()

        if parallel.rank == 0:
            an_update, a_judgement = _measure(net, average, views, training, recipe, compute)
            judgements = (recipe.epochs - at.epoch + len(MIXES)) * len(validation)
            left = an_update * (all_updates - updates * at.epoch - at.update) + a_judgement * judgements
            estimated(left)
            watch.expect(an_update, a_judgement * len(validation))
        if not at.history:
            rows, logits_before = judge(start)
            if not len(rows):
                uri, reason = next(iter(judged_views.failures.items()), (validation.uris[0], "it cannot be read"))
                raise ImageError(
                    f"None of the {len(validation):,} images to validate on can be read, such as {uri}: {reason}. "
                    "If they have moved: birder relocate"
                )
            at.history.append({"epoch": 0, **_figures(rows, logits_before, validation)})

        for epoch in range(at.epoch, recipe.epochs):
            if _is_over(at, recipe):
                break
            order = epoch_order(training.codes, recipe.seed, epoch, balance=recipe.balance)
            own = _own_batches(order, updates, in_update, recipe, parallel)
            batches = views.random(epoch, [rows for update in own[at.update :] for rows in update])
            train_mode(net)
            for update in range(at.update, updates):
                number = epoch * updates + update
                torch.manual_seed(_seed(recipe.seed, number, parallel.rank))  # of what the network drops
                for group in optimizer.param_groups:
                    group["lr"] = group["peak"] * warmed_cosine(number, warm_up, all_updates)
                for _ in own[update]:
                    batch = next(batches)
                    if len(batch.rows) < 2:  # batch norms need two
                        continue
                    codes = torch.from_numpy(training.codes[batch.rows]).to(device)
                    loss = F.cross_entropy(compute.logits(net, batch), codes, label_smoothing=SMOOTHING)
                    (loss / len(own[update])).backward()  # type: ignore[no-untyped-call]
                    at.loss += float(loss.detach())
                    at.counted += 1
                parallel.average([_gradient(each) for each in learning])
                optimizer.step()
                optimizer.zero_grad()
                parallel.average(statistics)
                _follow(average, net, min(AVERAGE, (1 + number) / (10 + number)))
                at.update = update + 1
                watch.updated()
                if parallel.rank == 0:
                    tell(watch.told(at, len(training), updates, len({**at.failures, **views.failures})))
                if parallel.any(stop.is_set()):
                    save()
                    return None
                if watch.since_saved > SECONDS_BETWEEN_SAVES:
                    save()
            averaged = _copied(average)
            loss_of_epoch = parallel.mean(at.loss / max(at.counted, 1))
            found = {"epoch": epoch + 1, "loss": loss_of_epoch, **_figures(*judge(averaged), validation)}
            at.history.append(found)
            if not at.best or found["log_loss"] < at.history[at.best]["log_loss"]:
                at.best, best = epoch + 1, averaged
                if parallel.rank == 0:
                    folder.write_best(best)
            at.epoch, at.update, at.loss, at.counted = epoch + 1, 0, 0.0, 0
            save()

        # WiSE-FT: how far to go from the weights at the start to the trained ones.
        mixes, logits = {}, {}
        for share in MIXES:
            rows, logits[share] = judge(_mixed(start, best, share))
            mixes[share] = _figures(rows, logits[share], validation)
        share = chosen_mix({share: _losses(each, validation.codes[rows]) for share, each in logits.items()})
        return FineTuned(
            state=_mixed(start, best, share),
            mix=share,
            mixes=mixes,
            history=at.history,
            best=at.best,
            judged=rows,
            before=logits[0.0],
            after=logits[share],
            failures=parallel.together({**at.failures, **views.failures, **judged_views.failures}),
            seconds=watch.seconds,
        )


def has_bf16(device: torch.device) -> bool:
    """Whether a device computes in bf16 faster than in float32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    return device.type == "cpu" and bool(torch.cpu._is_avx512_bf16_supported())


@dataclass(frozen=True)
class _Compute:
    """How logits are computed on a device, for training and for judging."""

    device: torch.device
    transform: Mapping[str, Any]
    bf16: bool

    def logits(self, net: Backbone, batch: Batch) -> torch.Tensor:
        """float32 (B, C)."""
        images = torch.from_numpy(batch.pixels).to(self.device).permute(0, 3, 1, 2).float().div_(255.0)
        if (batch.colour != 1.0).any():
            images = coloured(images, torch.from_numpy(batch.colour).to(self.device))
        mean, std = (images.new_tensor(self.transform[name]).view(1, 3, 1, 1) for name in ("mean", "std"))
        x = ((images - mean) / std).contiguous(memory_format=torch.channels_last)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            logits: torch.Tensor = net(x)
        return logits.float()


@torch.no_grad()
def _judge(
    net: Backbone, views: Views, images: TrainingImages, batch_size: int, compute: _Compute, parallel: Parallel
) -> tuple[Codes, Floats]:
    """The positions of the images that could be read, and their logits, float32 (J, C), from all processes."""
    found = torch.zeros(len(images), net.num_classes + 1)  # the last column says which could be read
    own = np.arange(parallel.rank, len(images), parallel.processes)
    for batch in views.whole(_in_batches(own, batch_size)):
        if len(batch.rows):
            rows = torch.from_numpy(batch.rows)
            found[rows, :-1] = compute.logits(net, batch).cpu()
            found[rows, -1] = 1.0
    together = parallel.add(found).cpu().numpy()
    rows_read = np.flatnonzero(together[:, -1] > 0)
    return rows_read, together[rows_read, :-1]


def _figures(rows: Codes, logits: Floats, images: TrainingImages) -> dict[str, float]:
    """Accuracy, and log loss after the best temperature: what is written gets one. If nothing could be read, guesses'.

    Epochs and mixes are chosen by the loss, which tells more of few images than how many names are right.
    """
    codes = images.codes[rows]
    if not len(codes):
        return {"accuracy": 1.0 / logits.shape[1], "log_loss": math.log(logits.shape[1])}
    loss = float(_losses(logits, codes).mean())
    return {"accuracy": float((logits.argmax(axis=1) == codes).mean()), "log_loss": loss}


def _losses(logits: Floats, codes: Codes) -> npt.NDArray[np.float64]:
    """The log loss of each image, float64 (J,), after the best temperature of all."""
    if not len(codes):
        return np.empty(0)
    scaled = torch.from_numpy(logits).double() / temperature(logits, codes)
    return F.cross_entropy(scaled, torch.from_numpy(codes), reduction="none").numpy()


def chosen_mix(losses: Mapping[float, npt.NDArray[np.float64]]) -> float:
    """The share of the trained weights with the lowest mean loss, or a larger one that is not clearly worse.

    Clearly worse: by more than the standard error of the mean difference, image by image. Few images cannot tell such
    shares apart, and held-out images that resemble the training images favour the weights before: on images of other
    shops, groceries lose 2 points of accuracy by a mix of 80 % (docs/train.md).

    Parameters
    ----------
    losses
        share -> the loss of each held-out image, float64 (J,).
    """
    if not all(map(len, losses.values())):
        return max(losses)
    best = min(losses, key=lambda share: float(losses[share].mean()))

    def is_as_good(share: float) -> bool:
        worse = losses[share] - losses[best]
        return bool(worse.mean() <= worse.std() / math.sqrt(len(worse)))

    return max(share for share in losses if is_as_good(share))


def _is_over(at: Position, recipe: Recipe) -> bool:
    """Whether so many epochs have passed since the best one that the rest is not worth its time."""
    return at.epoch - at.best >= max(round(PATIENCE * recipe.epochs), 3)


def _in_batches(rows: Codes, size: int) -> list[Codes]:
    return [rows[first : first + size] for first in range(0, len(rows), size)]


def _own_batches(order: Codes, updates: int, in_update: int, recipe: Recipe, parallel: Parallel) -> list[list[Codes]]:
    """For each update of an epoch, the images of this process, in batches."""
    own = [order[update * in_update : (update + 1) * in_update] for update in range(updates)]
    return [_in_batches(rows[parallel.rank :: parallel.processes], recipe.batch_size) for rows in own]


def _gradient(parameter: torch.Tensor) -> torch.Tensor:
    """The gradient of a parameter: 0 where none of this process's images could be read."""
    if parameter.grad is None:
        parameter.grad = torch.zeros_like(parameter)
    return parameter.grad


@torch.no_grad()
def _follow(average: Backbone, net: Backbone, keep: float) -> None:
    """Move the averaged weights and statistics towards the network's: an exponential moving average."""
    for mine, other in zip(average.state_dict().values(), net.state_dict().values(), strict=True):
        if mine.is_floating_point():
            mine.lerp_(other, 1.0 - keep)
        else:
            mine.copy_(other)


def _mixed(start: Tensors, end: Tensors, share: float) -> Tensors:
    """Weights between two networks, `share` of the way; counters are those of the second."""
    return {
        name: torch.lerp(start[name], end[name], share) if end[name].is_floating_point() else end[name] for name in end
    }


def _copied(net: Backbone) -> Tensors:
    return {name: value.detach().to("cpu", copy=True) for name, value in net.state_dict().items()}


def _seed(*numbers: int) -> int:
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])


def _measure(
    net: Backbone, average: Backbone, views: Views, training: TrainingImages, recipe: Recipe, compute: _Compute
) -> tuple[float, float]:
    """Seconds that an update takes here, and judging an image, by three batches; nothing is changed by them."""
    statistics = {name: value.clone() for name, value in net.named_buffers()}
    rows = np.resize(np.arange(len(training)), (1 + _MEASURED) * min(recipe.batch_size, len(training)))
    learned = judged = 0.0
    images = 0
    train_mode(net)
    begun = time.perf_counter()
    for number, batch in enumerate(views.random(0, np.split(rows, 1 + _MEASURED))):
        if len(batch.rows) > 1:
            compute.logits(net, batch).logsumexp(1).mean().backward()  # type: ignore[no-untyped-call]
            net.zero_grad()
            _synchronise(compute.device)
        middle = time.perf_counter()
        with torch.no_grad():
            if len(batch.rows):
                compute.logits(average, batch)
                _synchronise(compute.device)
        end = time.perf_counter()
        if number:  # the first one also starts everything
            learned, judged, images = learned + middle - begun, judged + end - middle, images + len(batch.rows)
        begun = end
    for name, value in net.named_buffers():
        value.copy_(statistics[name])
    size = min(recipe.batch_size * recipe.accumulate, len(training))
    return learned / max(images, 1) * size, judged / max(images, 1)


def _synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


class _Watch:
    """The time that a training has taken, and how far it has come."""

    def __init__(self, at: Position, recipe: Recipe, in_update: int) -> None:
        self._before, self._begun = at.seconds, time.perf_counter()
        self._recipe, self._in_update = recipe, in_update
        self._an_update = self._a_judgement = 0.0
        self._last = self._saved = self._begun

    @property
    def seconds(self) -> float:
        """What the training has taken, all runs together."""
        return self._before + time.perf_counter() - self._begun

    @property
    def since_saved(self) -> float:
        """Seconds since the state was saved."""
        return time.perf_counter() - self._saved

    def saved(self) -> None:
        """The state was saved."""
        self._saved = self._last = time.perf_counter()

    def expect(self, an_update: float, a_judgement: float) -> None:
        """What an update, and judging the validation images, were measured to take."""
        self._an_update, self._a_judgement = an_update, a_judgement
        self._last = time.perf_counter()

    def updated(self) -> None:
        """An update was made: the rate follows."""
        now = time.perf_counter()
        self._an_update += 0.1 * (now - self._last - self._an_update)
        self._last = now

    def told(self, at: Position, images: int, updates: int, failed: int) -> Told:
        """How far it has come."""
        to_come = self._recipe.epochs - at.epoch
        left = self._an_update * (updates * to_come - at.update) + self._a_judgement * (to_come + len(MIXES))
        return Told(
            epoch=at.epoch + 1,
            epochs=self._recipe.epochs,
            images=min(at.update * self._in_update, images),
            of=images,
            loss=at.loss / at.counted if at.counted else None,
            accuracy=at.history[-1]["accuracy"],
            best=max(each["accuracy"] for each in at.history),
            rate=min(self._in_update, images) / self._an_update if self._an_update else 0.0,
            left=left,
            done=(at.epoch + at.update / updates) / self._recipe.epochs,
            failed=failed,
        )
