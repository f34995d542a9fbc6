"""Training a detector on a backbone: one loop, from top to bottom.

FCOS on a pyramid over the backbone's maps: AdamW, a cosine with warm-up, averaged weights (EMA). The backbone is
frozen, so that its maps of each image, and of the mirrored image, are computed once; or its last blocks learn as well,
at a tenth of the rate, and images are opened anew each time, mirrored by chance and at a smaller scale by chance.

What is judged while it trains decides nothing: the weights at the end are the ones that are kept, so that the figures
on validation images are those of images that had no say.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from birder.errors import ConfigError, ImageError
from birder.evaluation.detection import FoundBoxes, TrueBoxes, judge_detections
from birder.learning.detector_data import BoxData, BoxedImage
from birder.learning.detector_inputs import SCALES, Geometry, KeptMaps, Maps, normalised, open_all, open_boxed
from birder.learning.layers import WEIGHT_DECAY, layer_groups
from birder.learning.schedule import warmed_cosine
from birder.learning.training_checkpoint import (
    Position,
    Tensors,
    TrainingFolder,
    optimizer_tensors,
    restore_optimizer,
)
from birder.net.base import Backbone
from birder.net.fcos import Outputs, Points, Target
from birder.weights.detector import DetectorNetwork

AVERAGE = 0.998
"""The share of the averaged weights that an update keeps."""
WARM_UP = 0.03
"""The share of the updates until the peak of the learning rate."""
BACKBONE = 0.1
"""The learning rate of the backbone's blocks, as a share of that of the new layers."""
LONGEST_GRADIENT = 10.0
LEAST_SCORE = 0.05
JUDGEMENTS = 10
"""How often the validation images are judged while it trains."""
SECONDS_BETWEEN_SAVES = 300.0
_MEASURED = 3  # batches

Batch = tuple[Maps, list[Target]]
Codes = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Recipe:
    """How a detector is trained.

    Attributes
    ----------
    epochs
        How often each image is seen, mirrored or not.
    lr
        The peak learning rate of the new layers.
    batch_size
        Images an update is computed from.
    unfreeze_last
        Blocks of the backbone that learn, counted from its output.
    seed
        Of everything that is drawn.
    """

    epochs: int = 40
    lr: float = 1e-3
    batch_size: int = 8
    unfreeze_last: int = 0
    seed: int = 0


@dataclass(frozen=True)
class Told:
    """How far a training has come.

    Attributes
    ----------
    stage
        "maps" while the backbone's maps are computed, else "training".
    epoch, epochs
        The epoch that is under way, from 1, and how many there are.
    images, of
        How many images of it are done, and how many there are.
    loss
        The mean of its batches so far; None before the first.
    ap50
        On the validation images, when they were last judged; None before.
    rate
        Images a second.
    left
        Seconds that the rest will take; None while that is not known.
    """

    stage: str
    epoch: int
    epochs: int
    images: int
    of: int
    loss: float | None = None
    ap50: float | None = None
    rate: float = 0.0
    left: float | None = None


@dataclass(frozen=True)
class Trained:
    """A detector at the end of its training.

    Attributes
    ----------
    state
        The averaged parameters, and the backbone's.
    history
        One entry an epoch: its number from 1, mean loss and losses, and AP50 where the validation images were judged.
    judged, found
        The validation images that could be read, and the boxes on each, in pixels of the image.
    failures
        Name -> why an image could not be read.
    seconds
        What it took, all runs together.
    """

    state: Tensors
    history: list[dict[str, Any]]
    judged: tuple[BoxedImage, ...]
    found: list[FoundBoxes]
    failures: dict[str, str]
    seconds: float


def train(
    detector: DetectorNetwork,
    training: BoxData,
    validation: BoxData | None,
    recipe: Recipe,
    folder: TrainingFolder,
    *,
    asked: Mapping[str, Any],
    resumed: bool,
    device: torch.device,
    tell: Callable[[Told], None],
    expect: Callable[[float], None],
    stop: threading.Event,
) -> Trained | None:
    """Train a detector.

    Parameters
    ----------
    detector
        Untrained, on a trained backbone, after `unfreeze`; its parameters change.
    training, validation
        What it learns from, and what it is judged on, if anything.
    recipe
        How.
    folder
        Where the state is kept, and the maps.
    asked
        What `what_is_asked` gives.
    resumed
        Go on from the state in it.
    device
        Where to compute.
    tell
        Called after each update.
    expect
        Called before the first one with the seconds that the training will take, as measured on three batches.
    stop
        Once set, the state is saved and the training ends.

    Returns
    -------
    The detector at its end; None if it was stopped.
    """
    net = detector.net.to(device).eval()  # for good: the backbone's norms keep their statistics, and FCOS has no others
    blocks = [each for each in net.backbone.parameters() if each.requires_grad]
    new = [each for name, each in net.named_parameters() if not name.startswith("backbone.")]
    learning = dict(_learning(net))
    groups = [
        {"params": [each for each in some if (each.ndim > 1) == decayed], "peak": lr, "weight_decay": decay}
        for some, lr in ((new, recipe.lr), (blocks, recipe.lr * BACKBONE))
        for decayed, decay in ((True, WEIGHT_DECAY), (False, 0.0))
    ]
    optimizer = torch.optim.AdamW([each for each in groups if each["params"]], lr=recipe.lr)

    began = time.perf_counter()
    average = {name: each.detach().clone() for name, each in learning.items()}
    if not resumed:  # what is stopped while the maps are computed can go on, too
        folder.write_state(Position(), {"net": dict(average), "average": average})
    inputs: _Kept | _Opened
    if blocks:
        inputs = _Opened(detector, training, validation, recipe, device)
    else:
        inputs = _Kept(detector, training, validation, folder.path, device, stop, tell, recipe, asked)
    if inputs.count == 0 and not stop.is_set():
        name, reason = next(iter(inputs.failures.items()))
        raise ImageError(f"No image to train on can be read; {name}: {reason}.")

    updates = -(-inputs.count // recipe.batch_size)  # in an epoch
    all_updates = updates * recipe.epochs
    warm_up = max(round(WARM_UP * all_updates), 1)
    at = Position()
    if resumed:
        at, saved = folder.read_state()
        for name, each in learning.items():
            each.data.copy_(saved["net"][name])
            average[name].copy_(saved["average"][name])
        restore_optimizer(optimizer, saved.get("optimizer", {}))
    seconds_before = at.seconds

    def save() -> None:
        at.seconds, at.failures = seconds_before + time.perf_counter() - began, {**at.failures, **inputs.failures}
        sets = {
            "net": {k: v.detach() for k, v in learning.items()},
            "average": average,
            "optimizer": optimizer_tensors(optimizer),
        }
        folder.write_state(at, sets)

    if stop.is_set():
        return None
    an_update, a_judgement = _measure(detector, inputs, recipe, learning.values())
    times = len([epoch for epoch in range(at.epoch, recipe.epochs) if inputs.judged and _is_judged(epoch, recipe)])
    expect(an_update * (all_updates - updates * at.epoch - at.update) + a_judgement * times)
    last_saved = time.perf_counter()

    for epoch in range(at.epoch, recipe.epochs):
        order = _order(recipe, epoch, inputs.count)
        batches = inputs.batches(epoch, order, at.update)
        for update in range(at.update, updates):
            since = time.perf_counter()
            number = epoch * updates + update
            for group in optimizer.param_groups:
                group["lr"] = group["peak"] * warmed_cosine(number, warm_up, all_updates)
            maps, targets = next(batches)
            if targets:  # images that cannot be read are not there
                losses = net.losses(*net.outputs(maps), [_moved(each, device) for each in targets])
                loss = sum(losses.values(), torch.zeros((), device=device))
                loss.backward()  # type: ignore[no-untyped-call]
                torch.nn.utils.clip_grad_norm_(list(learning.values()), LONGEST_GRADIENT)
                optimizer.step()
                optimizer.zero_grad()
                keep = min(AVERAGE, (1 + number) / (10 + number))
                for name, each in learning.items():
                    average[name].lerp_(each.detach(), 1.0 - keep)
                at.loss, at.counted = at.loss + float(loss.detach()), at.counted + 1
            at.update = update + 1
            an_update += 0.05 * (time.perf_counter() - since - an_update)
            tell(_told(at, recipe, inputs, updates, an_update))
            if stop.is_set():
                save()
                return None
            if time.perf_counter() - last_saved > SECONDS_BETWEEN_SAVES:
                save()
                last_saved = time.perf_counter()
        entry: dict[str, Any] = {"epoch": epoch + 1, "loss": at.loss / max(at.counted, 1)}
        if inputs.judged and _is_judged(epoch, recipe):
            with _Averaged(learning, average):
                found = inputs.found()
            figures = judge_detections(truth_of(inputs.judged), found, training.classes, intervals=False)
            entry["AP50"] = figures["metrics"]["AP50"]["estimate"]
        at.history.append(entry)
        at.epoch, at.update, at.loss, at.counted = epoch + 1, 0, 0.0, 0
        save()
        last_saved = time.perf_counter()

    with _Averaged(learning, average):
        return Trained(
            state=_copied(net),
            history=at.history,
            judged=tuple(inputs.judged),
            found=inputs.found(),
            failures={**at.failures, **inputs.failures},
            seconds=seconds_before + time.perf_counter() - began,
        )


def unfreeze(backbone: Backbone, blocks: int) -> None:
    """Freeze a backbone but for its last so many blocks.

    Raises
    ------
    ConfigError
        It has fewer.
    """
    groups = layer_groups(backbone)[1:-2]
    if blocks > len(groups):
        raise ConfigError(f"The backbone has {len(groups)} blocks: --unfreeze-last takes at most {len(groups)}.")
    names = {name for group in groups[len(groups) - blocks :] for name in group}
    for name, parameter in backbone.named_parameters():
        parameter.requires_grad_(name in names)


def what_is_asked(
    recipe: Recipe, detector: DetectorNetwork, backbone: str, data: Sequence[BoxData | None]
) -> dict[str, Any]:
    """Everything that the weights at the end depend on, as JSON holds it; `backbone` is the sha256 of its weights."""
    digest = hashlib.sha256()
    for each in data:
        for image in each.images if each is not None else ():
            digest.update(json.dumps([image.name, image.boxes.tolist(), image.classes.tolist()]).encode())
            digest.update(image.ignored.tobytes())
        digest.update(b"|")
    return asdict(recipe) | {
        "size": list(detector.net.size),
        "width": detector.net.config["fpn_width"],
        "backbone": backbone,
        "classes": list(detector.classes),
        "images and boxes": digest.hexdigest(),
    }


def truth_of(images: Sequence[BoxedImage]) -> list[TrueBoxes]:
    """What is on images, for judging."""
    return [TrueBoxes(each.boxes, each.classes, each.ignored) for each in images]


class _Kept:
    """Inputs of a frozen backbone: its maps, which are computed once."""

    def __init__(
        self,
        detector: DetectorNetwork,
        training: BoxData,
        validation: BoxData | None,
        folder: Path,
        device: torch.device,
        stop: threading.Event,
        tell: Callable[[Told], None],
        recipe: Recipe,
        asked: Mapping[str, Any],
    ) -> None:
        self._detector, self._device, self._recipe = detector, device, recipe
        key = json.dumps([asked[each] for each in ("backbone", "size", "images and boxes")])
        judged = () if validation is None else validation.images
        whole = len(training.images) + len(judged)
        began = time.perf_counter()

        def kept(name: str, images: Sequence[BoxedImage], mirrored: bool, before: int) -> KeptMaps:
            def on_image(number: int) -> None:
                if stop.is_set():
                    raise _Stopped
                done = before + number
                rate = done / (time.perf_counter() - began)
                tell(Told("maps", 0, recipe.epochs, done, whole, rate=rate))

            return KeptMaps(
                folder / name,
                key,
                images,
                detector,
                mirrored=mirrored,
                device=device,
                threads=os.cpu_count() or 1,
                on_image=on_image,
            )

        self.failures: dict[str, str] = {}
        self.judged: tuple[BoxedImage, ...] = ()
        self.count = 0
        try:
            self._training = kept("training", training.images, True, 0)
            self._validation = kept("validation", judged, False, len(training.images)) if judged else None
        except _Stopped:
            return
        self.count = len(self._training.images)
        self.failures = dict(self._training.failed)
        if self._validation is not None:
            self.judged = self._validation.images
            self.failures |= dict(self._validation.failed)

    def batches(self, epoch: int, order: Codes, first: int) -> Iterator[Batch]:
        """The batches of an epoch from number `first` on; each image is mirrored in every other epoch."""
        mirrored = _mirrored(self._recipe, epoch, self.count)
        for rows in _in_batches(order, self._recipe.batch_size)[first:]:
            places = [int(row) + self.count * int(mirrored[row]) for row in rows]
            yield self._training.maps(places, self._device), [self._training.targets[place] for place in places]

    def found(self) -> list[FoundBoxes]:
        """The boxes on the validation images."""
        found: list[FoundBoxes] = []
        if self._validation is not None:
            for rows in _in_batches(np.arange(len(self.judged)), self._recipe.batch_size):
                maps = self._validation.maps(rows.tolist(), self._device)
                found += _found(self._detector, maps, [self._validation.geometry[row] for row in rows])
        return found


class _Opened:
    """Inputs of a backbone that learns: images, opened anew each time."""

    def __init__(
        self,
        detector: DetectorNetwork,
        training: BoxData,
        validation: BoxData | None,
        recipe: Recipe,
        device: torch.device,
    ) -> None:
        self._detector, self._images, self._recipe, self._device = detector, training.images, recipe, device
        self.failures: dict[str, str] = {}
        self.count = len(training.images)
        self.judged = () if validation is None else self._readable(validation.images)

    def _readable(self, images: Sequence[BoxedImage]) -> tuple[BoxedImage, ...]:
        """The images that can be read now; one that cannot be later counts as one on which nothing is found."""
        readable = []
        once = {"flipped": [False] * len(images), "scales": [1.0] * len(images), "threads": os.cpu_count() or 1}
        for image, each in zip(images, open_all(images, self._detector, **once), strict=True):  # type: ignore[arg-type]
            if isinstance(each, ImageError):
                self.failures[image.name] = str(each)
            else:
                readable.append(image)
        return tuple(readable)

    def batches(self, epoch: int, order: Codes, first: int) -> Iterator[Batch]:
        """The batches of an epoch from number `first` on, opened in threads while the one before is computed."""
        mirrored = _mirrored(self._recipe, epoch, self.count)
        scales = np.random.default_rng([self._recipe.seed, epoch, 2]).uniform(*SCALES, self.count)
        chosen = [row for rows in _in_batches(order, self._recipe.batch_size)[first:] for row in rows]
        opened = open_all(
            [self._images[row] for row in chosen],
            self._detector,
            flipped=[bool(mirrored[row]) for row in chosen],
            scales=[float(scales[row]) for row in chosen],
            threads=os.cpu_count() or 1,
        )
        with ThreadPoolExecutor(1, thread_name_prefix="birder-batches") as ahead:
            sizes = [len(rows) for rows in _in_batches(order, self._recipe.batch_size)[first:]]
            take = [lambda size=size: [next(opened) for _ in range(size)] for size in sizes]
            waiting = ahead.submit(take[0]) if take else None
            names = iter([self._images[row].name for row in chosen])
            for number in range(len(take)):
                assert waiting is not None
                batch = waiting.result()
                waiting = ahead.submit(take[number + 1]) if number + 1 < len(take) else None
                read = []
                for each in batch:
                    name = next(names)
                    if isinstance(each, ImageError):
                        self.failures[name] = str(each)
                    else:
                        read.append(each)
                if not read:
                    yield {}, []
                    continue
                x = normalised([each.pixels for each in read], self._detector, self._device)
                yield self._detector.net.maps(x), [each.target for each in read]

    def found(self) -> list[FoundBoxes]:
        """The boxes on the validation images."""
        found: list[FoundBoxes] = []
        for rows in _in_batches(np.arange(len(self.judged)), self._recipe.batch_size):
            for row in rows:
                try:
                    opened = open_boxed(self.judged[row], self._detector)
                except ImageError as error:
                    self.failures[self.judged[row].name] = str(error)
                    found.append(_nothing())
                    continue
                with torch.inference_mode():
                    maps = self._detector.net.maps(normalised([opened.pixels], self._detector, self._device))
                found += _found(self._detector, maps, [opened.geometry])
        return found


class _Stopped(Exception):
    """The user has stopped the training before its first update."""


class _Averaged:
    """For as long as the block takes, a network has its averaged parameters."""

    def __init__(self, learning: Mapping[str, torch.nn.Parameter], average: Tensors) -> None:
        self._learning, self._average = learning, average

    def __enter__(self) -> None:
        self._own = {name: each.detach().clone() for name, each in self._learning.items()}
        for name, each in self._learning.items():
            each.data.copy_(self._average[name])

    def __exit__(self, *_: object) -> None:
        for name, each in self._learning.items():
            each.data.copy_(self._own[name])


def _learning(net: torch.nn.Module) -> Iterator[tuple[str, torch.nn.Parameter]]:
    return ((name, each) for name, each in net.named_parameters() if each.requires_grad)


def _copied(net: torch.nn.Module) -> Tensors:
    """The parameters of a network; those that have two names, as a detector's backbone has, remain one tensor."""
    copies: dict[int, torch.Tensor] = {}
    state = {}
    for name, value in net.state_dict(keep_vars=True).items():
        if id(value) not in copies:
            copies[id(value)] = value.detach().to("cpu", copy=True)
        state[name] = copies[id(value)]
    return state


def _found(detector: DetectorNetwork, maps: Maps, geometry: Sequence[Geometry]) -> list[FoundBoxes]:
    with torch.inference_mode():
        outputs: tuple[Outputs, Points] = detector.net.outputs(maps)
        found = detector.net.detections(*outputs, min_score=LEAST_SCORE)
    return [
        FoundBoxes(
            where.to_image(each["boxes"].cpu().numpy()),
            each["labels"].cpu().numpy() - 1,
            each["scores"].cpu().numpy(),
        )
        for each, where in zip(found, geometry, strict=True)
    ]


def _nothing() -> FoundBoxes:
    return FoundBoxes(np.empty((0, 4), np.float32), np.empty(0, np.int64), np.empty(0, np.float32))


def _moved(target: Target, device: torch.device) -> Target:
    return {key: value.to(device) for key, value in target.items()}


def _order(recipe: Recipe, epoch: int, count: int) -> Codes:
    """The images of an epoch: an order of its own, which the seed and the epoch alone decide."""
    return np.random.default_rng([recipe.seed, epoch, 0]).permutation(count)


def _mirrored(recipe: Recipe, epoch: int, count: int) -> npt.NDArray[np.bool_]:
    """Which images an epoch takes mirrored: half of them, and the other half in the next."""
    half = np.random.default_rng([recipe.seed, epoch // 2, 1]).random(count) < 0.5
    return half if epoch % 2 == 0 else ~half


def _in_batches(rows: Codes, size: int) -> list[Codes]:
    return [rows[first : first + size] for first in range(0, len(rows), size)]


def _is_judged(epoch: int, recipe: Recipe) -> bool:
    every = max(recipe.epochs // JUDGEMENTS, 1)
    return (epoch + 1) % every == 0 or epoch + 1 == recipe.epochs


def _measure(detector: DetectorNetwork, inputs: _Kept | _Opened, recipe: Recipe, learning: Any) -> tuple[float, float]:
    """Seconds that an update and a judgement take here, by three batches; nothing is changed by them."""
    order = np.resize(np.arange(inputs.count), (1 + _MEASURED) * min(recipe.batch_size, inputs.count))
    device = next(detector.net.parameters()).device
    begun = time.perf_counter()
    for number, (maps, targets) in enumerate(inputs.batches(0, order, 0)):
        if targets:
            losses = detector.net.losses(*detector.net.outputs(maps), [_moved(each, device) for each in targets])
            sum(losses.values(), torch.zeros((), device=device)).backward()  # type: ignore[no-untyped-call]
        if number == 0:  # it also starts everything
            begun = time.perf_counter()
    an_update = (time.perf_counter() - begun) / max(number, 1)
    for each in learning:
        each.grad = None
    # Judging goes forward alone, which is a third of the way.
    return an_update, an_update / 3 * len(inputs.judged) / max(min(recipe.batch_size, inputs.count), 1)


def _told(at: Position, recipe: Recipe, inputs: _Kept | _Opened, updates: int, an_update: float) -> Told:
    judged = [each["AP50"] for each in at.history if "AP50" in each]
    return Told(
        "training",
        at.epoch + 1,
        recipe.epochs,
        min(at.update * recipe.batch_size, inputs.count),
        inputs.count,
        loss=at.loss / at.counted if at.counted else None,
        ap50=judged[-1] if judged else None,
        rate=min(recipe.batch_size, inputs.count) / an_update if an_update else 0.0,
        left=an_update * (updates * (recipe.epochs - at.epoch) - at.update),
    )
