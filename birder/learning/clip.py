"""Training CLIP on shards of images and texts: one loop, from top to bottom.

Radford et al., "Learning Transferable Visual Models From Natural Language Supervision" (arXiv 2103.00020), as BioCLIP
(Stevens et al., arXiv 2311.18803) and BioCLIP 2 (Gu et al., arXiv 2505.23883) do it with OpenCLIP: AdamW, a cosine with
warm-up, one text of each sample, crops that show nearly all of an image.
"""

from __future__ import annotations

import contextlib
import math
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from birder.errors import ConfigError
from birder.learning.clip_checkpoint import ClipFolder, ClipPosition
from birder.learning.clip_data import ClipBatch, ClipBatches, DataReport, text_of_step
from birder.learning.clip_locked import LockedEncoder
from birder.learning.clip_loss import Pair, add_gradients
from birder.learning.clip_model import Start, model_input
from birder.learning.layers import train_mode
from birder.learning.parallel import Parallel
from birder.learning.schedule import warmed_cosine
from birder.learning.training_checkpoint import Tensors, optimizer_tensors, restore_optimizer
from birder.net.clip import CLIP

Precision = Literal["fp32", "bf16", "fp16"]
Mix = Literal["per-batch", "per-sample"]

TEXTS = ("sci", "com", "taxon", "sci_com", "taxon_com")
"""The texts that BioCLIP is trained with."""
BETAS, EPS, WEIGHT_DECAY = (0.9, 0.98), 1e-6, 0.2
LARGEST_LOG_SCALE = math.log(100)
REPLAYED_TEXT = "text"
SECONDS_BETWEEN_SAVES = 600.0
_MEASURED = 3  # updates, before it is told how long all of them take
_ROLLING = 20  # updates, from which the rate is told


@dataclass(frozen=True)
class ClipRecipe:
    """How CLIP is trained; the defaults are BioCLIP's.

    Attributes
    ----------
    model
        The registered network of the image encoder; None for that of the weights that the training begins with.
    texts
        Names of the texts of a sample of which one is drawn.
    mix
        Whether a text is drawn for each batch, as in BioCLIP's training, or for each sample.
    batch_size
        Images on each device at once.
    accumulate
        Batches on each device that an update is computed from: BioCLIP's 4,096 images need not fit in memory at once.
    lr, warmup
        The peak learning rate, and the number of updates until then.
    epochs
        How often as many samples are seen as the shards have.
    precision
        "fp32"; "bf16" or "fp16", automatic mixed precision; None: bf16 where the device is faster with it.
    resample
        Draw shards with replacement, as BioCLIP does, instead of going through all of them in each epoch.
    lock_image
        Leave the image encoder as it is, but for its projection (LiT: Zhai et al., arXiv 2111.07991).
    replay_batch_size
        Images of the shards that are replayed on each device at once, in addition.
    seed
        Of everything that is drawn.
    """

    model: str | None = None
    texts: tuple[str, ...] = TEXTS
    mix: Mix = "per-batch"
    batch_size: int = 512
    accumulate: int = 8
    lr: float = 1e-4
    warmup: int = 1000
    epochs: int = 100
    precision: Precision | None = None
    resample: bool = True
    lock_image: bool = False
    replay_batch_size: int = 64
    seed: int = 0


RECIPES: dict[str, ClipRecipe] = {
    "bioclip-v1": ClipRecipe(model="vit_b16_pn"),
    "bioclip-v2": ClipRecipe(
        model="vit_l14_pn",
        batch_size=176,
        accumulate=16,
        warmup=1875,
        epochs=30,
        precision="bf16",
        replay_batch_size=20,
    ),
    "small": ClipRecipe(
        batch_size=128,
        accumulate=1,
        lr=1e-3,
        warmup=50,
        epochs=12,
        mix="per-sample",
        resample=False,
        lock_image=True,
    ),
}
"""Recipes by name: BioCLIP's on 8 GPUs, with updates of 32,768 images; BioCLIP 2's on 32, with updates of 90,112 images
and 10,240 that are replayed; and one for some thousand images on a CPU."""


@dataclass(frozen=True)
class ClipData:
    """What CLIP is trained on.

    Attributes
    ----------
    shards
        Of the training (`birder.sources.shard_names.expand_shards`).
    samples
        How many they have.
    replay
        Shards whose captions are trained with a projection of their own; empty for none.
    workers
        Processes that read them for each process of the training.
    """

    shards: Sequence[str]
    samples: int
    replay: Sequence[str] = ()
    workers: int = 1


@dataclass(frozen=True)
class ClipTold:
    """How far a training has come.

    Attributes
    ----------
    update, updates
        How many updates were made, of how many.
    epoch, epochs
        The epoch that is under way, from 1, of how many.
    loss
        Of the last update, over all processes' images; of this process's share where only that is known.
    scale
        What cosine similarities are multiplied by.
    lr
        The learning rate.
    rate
        Images a second, of all processes together, replayed ones not counted.
    waited
        The share of the time that was spent on waiting for data.
    left
        Seconds until the end.
    """

    update: int
    updates: int
    epoch: int
    epochs: int
    loss: float
    scale: float
    lr: float
    rate: float
    waited: float
    left: float


@dataclass(frozen=True)
class TrainedClip:
    """What a training gave.

    Attributes
    ----------
    state
        Parameters and buffers of the CLIP.
    history
        One entry an epoch: `epoch`, `loss`, `lr`, `scale`, and what the judge gave.
    report
        What was not as it should be in the shards.
    seconds, waited
        What the training took, all runs together, and what of it was spent on waiting for data.
    """

    state: Tensors
    history: list[dict[str, Any]]
    report: DataReport
    seconds: float
    waited: float


class Trainee(nn.Module):
    """A CLIP, and a second projection of the image encoder where captions are replayed, which the result leaves out.

    As in BioCLIP 2, images of the two kinds share the image encoder, and texts the text encoder; the scale is the same.
    """

    def __init__(self, clip: CLIP, *, replay: bool) -> None:
        super().__init__()
        self.clip = clip
        self.replay: nn.Linear | None = None
        if replay:
            projection = clip.image.classifier
            assert isinstance(projection, nn.Linear)
            self.replay = nn.Linear(projection.in_features, projection.out_features, bias=False)
            with torch.no_grad():
                self.replay.weight.copy_(projection.weight)  # what its captions were learned with

    def forward(self, images: torch.Tensor, tokens: torch.Tensor, count: int) -> list[Pair]:
        """Features of length 1, float32, of the first `count` samples, and of the replayed ones that follow them.

        Parameters
        ----------
        images
            float (B, 3, H, W), or embeddings, (B, D).
        tokens
            int64 (B, L).
        count
            How many are not replayed.
        """
        embedding = images if images.ndim == 2 else self.clip.image.embedding(images)
        texts = F.normalize(self.clip.text(tokens).float(), dim=-1)
        pairs = [(F.normalize(self.clip.project(embedding[:count]).float(), dim=-1), texts[:count])]
        if self.replay is not None:
            pairs.append((F.normalize(self.replay(embedding[count:]).float(), dim=-1), texts[count:]))
        return pairs


def train_clip(
    start: Start,
    data: ClipData,
    recipe: ClipRecipe,
    folder: ClipFolder,
    parallel: Parallel,
    *,
    locked: LockedEncoder | None = None,
    resumed: bool = False,
    judge: Callable[[CLIP], dict[str, Any]] | None = None,
    estimated: Callable[[float], None] | None = None,
    tell: Callable[[ClipTold], None] | None = None,
    stop: threading.Event | None = None,
) -> TrainedClip | None:
    """Train a CLIP.

    Parameters
    ----------
    start
        What it begins with. What is left in it afterwards is the result.
    data
        The shards.
    recipe
        How.
    folder
        Where the state is saved every ten minutes and after each epoch. After a stop or a crash, `resumed` goes on from
        there: on one device, to the same final weights bit for bit.
    parallel
        The processes that train together.
    locked
        What embeds the images; exactly where the recipe leaves the image encoder as it is.
    resumed
        Whether to go on from the folder's last checkpoint.
    judge
        Called by every process after each epoch, with the CLIP in evaluation mode; what it gives is kept.
    estimated
        Called once, after a few updates, with the seconds that the training will still take.
    tell
        Called after each update, in the first process.
    stop
        When it is set, the state is saved and the training ends after the current update.

    Returns
    -------
    The result; None if the training was stopped.
    """
    device = parallel.device
    precision = recipe.precision or chosen_precision(device)
    trainee = Trainee(start.clip, replay=bool(data.replay)).to(device)
    if recipe.lock_image:
        lock_image(start.clip)
    parallel.share_from_first(trainee.state_dict().values())
    optimizer = torch.optim.AdamW(parameter_groups(trainee), lr=recipe.lr, betas=BETAS, eps=EPS)
    scaler = torch.amp.GradScaler(device.type, enabled=precision == "fp16")
    learning = [each for group in optimizer.param_groups for each in group["params"]]
    statistics = [each for each in trainee.buffers() if each.is_floating_point()]
    log_scale = start.clip.log_logit_scale

    in_update = recipe.batch_size * recipe.accumulate * parallel.processes
    in_epoch = math.ceil(data.samples / in_update)
    updates = in_epoch * recipe.epochs

    at = ClipPosition()
    if resumed:
        at, saved = folder.read()
        trainee.load_state_dict(saved["net"])
        restore_optimizer(optimizer, saved.get("optimizer", {}))
        scaler.load_state_dict(at.scaler)

    def texts_of(batch: int) -> Sequence[str]:
        per_batch = recipe.mix == "per-batch"
        return [text_of_step(recipe.texts, batch // recipe.accumulate)] if per_batch else recipe.texts

    def input_of(pixels: torch.Tensor) -> torch.Tensor:
        return model_input(pixels, start.rgb_stats, device) if locked is None else locked(pixels)

    def encode(numbered: tuple[int, ClipBatch, ClipBatch | None]) -> list[Pair]:
        number, batch, replayed = numbered
        both = [batch] if replayed is None else [batch, replayed]
        tokens = torch.cat([each.tokens for each in both]).to(device, non_blocking=True)
        torch.manual_seed(seed_of(recipe.seed, number, parallel.rank))  # of what the network drops
        held = contextlib.nullcontext() if torch.is_grad_enabled() else statistics_held(trainee)
        with held, torch.autocast(device.type, _DTYPES[precision], enabled=precision != "fp32"):
            images = torch.cat([input_of(each.pixels) for each in both])
            return trainee(images, tokens, len(batch.keys))  # type: ignore[no-any-return]

    def backward(loss: torch.Tensor) -> None:
        scaler.scale(loss).backward()  # type: ignore[no-untyped-call]

    def save() -> None:
        done = at.update * recipe.accumulate - 1
        at.streams = [each for some in parallel.gathered(batches.states_after(done)) for each in some]
        if replay is not None:
            at.replayed = [each for some in parallel.gathered(replay.states_after(done)) for each in some]
        at.scaler = scaler.state_dict()
        at.seconds, at.waited = watch.seconds, watch.waited
        if parallel.rank == 0:
            folder.write(at, {"net": trainee.state_dict(), "optimizer": optimizer_tensors(optimizer)})
        watch.saved()

    with contextlib.ExitStack() as closed:
        reading: dict[str, Any] = {
            "transform": start.card,
            "tokenizer": start.tokenizer,
            "parallel": parallel,
            "seed": recipe.seed,
            "resample": recipe.resample,
            "first": at.update * recipe.accumulate,
            "pinned": device.type == "cuda",
        }
        batches = closed.enter_context(
            ClipBatches(
                data.shards,
                batch_size=recipe.batch_size,
                texts=texts_of,
                workers=data.workers,
                states=at.streams,
                **reading,
            )
        )
        replay = None
        if data.replay:
            replay = closed.enter_context(
                ClipBatches(
                    data.replay,
                    batch_size=recipe.replay_batch_size,
                    texts=lambda _: [REPLAYED_TEXT],
                    workers=min(data.workers, recipe.replay_batch_size),
                    states=at.replayed,
                    **reading,
                )
            )
        coming = iter(batches)
        captions = iter(replay) if replay is not None else None
        watch = _Watch(at, updates)
        training_mode(trainee, locked=recipe.lock_image)
        while at.update < updates:
            lr = recipe.lr * warmed_cosine(at.update, recipe.warmup, updates)
            for group in optimizer.param_groups:
                group["lr"] = lr
            taken = []
            for part in range(recipe.accumulate):
                with watch.waiting():
                    batch = next(coming)
                    taken.append(
                        (
                            at.update * recipe.accumulate + part,
                            batch,
                            None if captions is None else next(captions),
                        )
                    )
            losses = add_gradients(taken, encode, log_scale, parallel, backward)
            parallel.average([_gradient(each) for each in learning])
            scaler.step(optimizer)
            scaler.update()
            optimizer.zero_grad()
            with torch.no_grad():
                log_scale.clamp_(0.0, LARGEST_LOG_SCALE)
            parallel.average(statistics)
            loss = float(losses[0])
            if not math.isfinite(loss):
                raise ConfigError(
                    f"The loss of update {at.update + 1:,} is {loss}: go on from the last checkpoint with --resume in "
                    "another --precision, or begin anew with a lower --lr."
                )
            at.update, at.losses, at.updates = at.update + 1, at.losses + loss, at.updates + 1
            watch.updated()
            epoch = (at.update - 1) // in_epoch
            if parallel.rank == 0 and tell is not None:
                told = watch.told(in_update)
                scale = float(log_scale.detach().exp())
                tell(ClipTold(at.update, updates, epoch + 1, recipe.epochs, loss, scale, lr, *told))
            if watch.made == _MEASURED and estimated is not None and parallel.rank == 0:
                estimated(watch.told(in_update)[2])
            if at.update == (epoch + 1) * in_epoch:
                found = {
                    "epoch": epoch + 1,
                    "update": at.update,
                    "loss": parallel.mean(at.losses / at.updates),
                    "lr": lr,
                    "scale": float(log_scale.detach().exp()),
                }
                if judge is not None:
                    found |= judge(start.clip.eval())
                    training_mode(trainee, locked=recipe.lock_image)
                at.history.append(found)
                at.losses, at.updates = 0.0, 0
                save()
            elif parallel.any(parallel.rank == 0 and watch.since_saved > SECONDS_BETWEEN_SAVES):
                save()
            if parallel.any(stop is not None and stop.is_set()) and at.update < updates:
                if watch.unsaved:
                    save()
                return None
        return TrainedClip(
            {key: value.detach().cpu() for key, value in start.clip.state_dict().items()},
            at.history,
            DataReport.of([*(at.streams or []), *(at.replayed or [])]),
            watch.seconds,
            watch.waited,
        )


_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def chosen_precision(device: torch.device) -> Precision:
    """The precision that a device trains fastest in without losing accuracy."""
    return "bf16" if device.type == "cuda" and torch.cuda.is_bf16_supported() else "fp32"


def parameter_groups(trainee: nn.Module) -> list[dict[str, Any]]:
    """The parameters that learn, as an optimizer takes them: those that do not decay, then the others.

    As OpenCLIP does it: biases, norms, the class token and the scale do not decay, all of which are a single number or
    a row of numbers, whatever their shape.
    """
    learning = [each for each in trainee.parameters() if each.requires_grad]
    rows = [sum(length > 1 for length in each.shape) < 2 for each in learning]
    return [
        {"params": [each for each, row in zip(learning, rows, strict=True) if row], "weight_decay": 0.0},
        {"params": [each for each, row in zip(learning, rows, strict=True) if not row], "weight_decay": WEIGHT_DECAY},
    ]


def lock_image(clip: CLIP) -> None:
    """Let the image encoder stay as it is, but for its projection."""
    for name, parameter in clip.image.named_parameters():
        if not name.startswith("classifier."):
            parameter.requires_grad_(False)


def training_mode(trainee: Trainee, *, locked: bool) -> None:
    """Put a CLIP into training mode, but a locked image encoder and batch norms that do not learn."""
    train_mode(trainee)
    if locked:
        trainee.clip.image.eval()


@contextlib.contextmanager
def statistics_held(net: nn.Module) -> Iterator[None]:
    """Let no batch norm update its statistics: the same batch comes once more."""
    norms = [each for each in net.modules() if isinstance(each, _BatchNorm) and each.training]
    momenta = [each.momentum for each in norms]
    for each in norms:
        each.momentum = 0.0
    try:
        yield
    finally:
        for each, momentum in zip(norms, momenta, strict=True):
            each.momentum = momentum


def seed_of(seed: int, batch: int, rank: int) -> int:
    """The seed of what the network drops while it sees a batch."""
    return random.Random(f"{seed} {batch} {rank}").getrandbits(63)


def _gradient(parameter: nn.Parameter) -> torch.Tensor:
    """A parameter's gradient; zeros where it has none, so that all processes average the same."""
    if parameter.grad is None:
        parameter.grad = torch.zeros_like(parameter)
    return parameter.grad


class _Watch:
    """Measures how fast a training goes."""

    def __init__(self, at: ClipPosition, updates: int) -> None:
        self._before, self._waited_before = at.seconds, at.waited
        self._first, self._updates = at.update, updates
        self._began = self._saved = time.perf_counter()
        self._last: deque[float] = deque([self._began], maxlen=_ROLLING + 1)
        self._waited = 0.0
        self.made = 0
        self.unsaved = False

    @property
    def seconds(self) -> float:
        """What the training took so far, all runs together."""
        return self._before + time.perf_counter() - self._began

    @property
    def waited(self) -> float:
        """What of it was spent on waiting for data."""
        return self._waited_before + self._waited

    @property
    def since_saved(self) -> float:
        """Seconds since the state was saved, or the run began."""
        return time.perf_counter() - self._saved

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        """While data is waited for."""
        began = time.perf_counter()
        yield
        self._waited += time.perf_counter() - began

    def saved(self) -> None:
        """The state was saved."""
        self._saved, self.unsaved = time.perf_counter(), False

    def updated(self) -> None:
        """An update was made."""
        self.made, self.unsaved = self.made + 1, True
        self._last.append(time.perf_counter())

    def told(self, in_update: int) -> tuple[float, float, float]:
        """Images a second, the share of the time spent on waiting for data, and the seconds that are left."""
        an_update = (self._last[-1] - self._last[0]) / (len(self._last) - 1)
        left = an_update * (self._updates - self._first - self.made)
        return in_update / an_update, self._waited / (time.perf_counter() - self._began), left
