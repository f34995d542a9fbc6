"""The protocols that benchmarks are judged by: on all images, or learned from one part and judged on the other.

Images are taken for independent, as in all published figures.

N is the number of rows, D the embedding dimension, E that of the space that images and texts share, C the number of
classes, M the number of rows that are judged.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from birder.errors import ConfigError, NoTextEncoderError, unknown_name
from birder.evaluation.benchmark_folder import BenchmarkFolder
from birder.evaluation.benchmarks import TEST, TRAIN, Benchmark
from birder.evaluation.binary_tasks import RUNS as TASK_RUNS
from birder.evaluation.binary_tasks import SEARCHES, judge_tasks
from birder.evaluation.few_shot import FOLDS, Variant
from birder.evaluation.intervals import Bootstrap, Estimate
from birder.evaluation.linear_fit import choose, fit
from birder.evaluation.protocols import run
from birder.evaluation.trait_probe import EPOCHS, FIRST_TRAITS, macro_f1_of_traits, probe_traits
from birder.evaluation.trait_probe import RUNS as TRAIT_RUNS
from birder.evaluation.zero_shot import zero_shot
from birder.naming.by_examples import NEIGHBOURS, TEMPERATURE, NearestNeighbours, SimpleShot, vote
from birder.naming.prompts import BIOCLIP_TEMPLATES
from birder.vectors import unit

if TYPE_CHECKING:
    from birder.weights.clip import LoadedClip

Codes = npt.NDArray[np.int64]
Vectors = npt.NDArray[np.float32]

_OF_ALL = ("zero-shot", "few-shot", "knn", "linear")
_OF_PARTS = ("zero-shot", "one-shot", "knn", "linear")
_SHARE = (0.0, 1.0)


@dataclass(frozen=True)
class BenchmarkRows:
    """The rows of a benchmark whose images could be read.

    Attributes
    ----------
    folder
        The benchmark as it is on disk.
    places
        Which of the folder's rows these are, in their order, int64 (N).
    embeddings
        float32 (N, D), as the network gave them.
    features
        Embeddings projected into the space of the texts, float32 (N, E); None for a model without a text encoder.
    clip
        The model with a text encoder; None without one.
    folds
        Fold of each row that is learned from, int64 (N), -1 for the others; needed for "linear".
    """

    folder: BenchmarkFolder
    places: Codes
    embeddings: Vectors
    features: Vectors | None = None
    clip: LoadedClip | None = None
    folds: Codes | None = None

    @property
    def codes(self) -> Codes:
        """Class of each row, int64 (N): a position in the folder's texts."""
        return self.folder.codes[self.places]

    @property
    def judged(self) -> npt.NDArray[np.bool_]:
        """The rows that are not for training, bool (N)."""
        return np.array([self.folder.parts[place] == TEST for place in self.places], bool)

    @property
    def best_vectors(self) -> Vectors:
        """The projected features, as in published figures; the embeddings where a model has no text encoder."""
        return self.embeddings if self.features is None else self.features


def protocols_of(benchmark: Benchmark) -> tuple[str, ...]:
    """The names of the protocols that a benchmark can be judged by."""
    if benchmark.task != "classes":
        return benchmark.protocols
    parts = {*benchmark.folders, *benchmark.lists, *([TRAIN] if benchmark.split else [])}
    return _OF_PARTS if TRAIN in parts else _OF_ALL


def judge(
    name: str,
    rows: BenchmarkRows,
    *,
    variant: Variant = "bioclip-v2",
    seed: int = 0,
    progress: Callable[[float], None] | None = None,
) -> dict[str, Any]:
    """Judge the rows of a benchmark by a protocol.

    Parameters
    ----------
    name
        One of `protocols_of` the benchmark.
    rows
        What is judged. Published few-shot folds depend on the order of the rows.
    variant
        With "few-shot": the published folds.
    seed
        Of intervals.
    progress
        Called with the share that is done, where a protocol takes long.

    Returns
    -------
    As `birder.evaluation.protocols.run`: `protocol`; `metrics`, each with estimate, low, high, n and interval; `how`, a
    sentence or more; `classes`, `left_out`, and parameters.

    Raises
    ------
    UnknownNameError
        The benchmark is not judged by such a protocol.
    NoTextEncoderError
        "zero-shot" without a text encoder.
    ConfigError
        No row is left to judge or to learn from.
    """
    known = protocols_of(rows.folder.benchmark)
    if name not in known:
        raise unknown_name(f"protocol of {rows.folder.benchmark.name}", name, known)
    judged = rows.judged
    if not judged.any():
        raise ConfigError("None of the images to judge could be read.")
    learned = name not in ("zero-shot", "few-shot") and known != _OF_ALL
    if learned and judged.all():
        raise ConfigError("None of the images to learn from could be read.")
    if name in _WHOLE and known == _OF_ALL:
        texts = rows.folder.texts
        return run(
            name,
            rows.embeddings,
            [texts[code] for code in rows.codes],
            groups=None,
            folds=rows.folds,
            seed=seed,
            as_=variant if name == "few-shot" else None,
            features=rows.features,
            clip=rows.clip,
            progress=progress,
        )
    found = _RUN[name](rows, seed, progress)
    classes = len(rows.folder.texts) or len(rows.folder.trait_names)
    return {"protocol": name, "classes": classes, "left_out": 0, **found}


def _zero_shot(rows: BenchmarkRows, seed: int, progress: Callable[[float], None] | None) -> dict[str, Any]:
    if rows.clip is None or rows.features is None:
        raise NoTextEncoderError("The protocol zero-shot needs a model with a text encoder.")
    texts = rows.folder.texts
    codes = rows.codes[rows.judged]
    top = zero_shot(rows.features[rows.judged], texts, rows.clip, BIOCLIP_TEMPLATES)
    return {
        "metrics": zero_shot_figures(top, codes, seed),
        "how": f"The texts of the {len(texts)} classes, in {len(BIOCLIP_TEMPLATES)} templates each, name every image; "
        "no label was used.",
        "model": rows.clip.name,
        "templates": len(BIOCLIP_TEMPLATES),
    }


def zero_shot_figures(top: Codes, codes: Codes, seed: int = 0) -> dict[str, dict[str, Any]]:
    """Top-1, top-5 and the mean over classes, with intervals.

    Parameters
    ----------
    top
        The most probable classes of each image, int64 (M, 5 or fewer), best first.
    codes
        The true ones, int64 (M).
    seed
        Of the intervals.
    """
    right = (top == codes[:, None]).astype(np.float64)
    bootstrap = Bootstrap(None, codes, seed=seed)
    figures = {
        "top1": bootstrap.mean(right[:, 0]),
        "top5": bootstrap.mean(right.max(axis=1)),
        "mean_recall": bootstrap.macro(right[:, 0]),
    }
    return {metric: estimate.as_dict() for metric, estimate in figures.items()}


def _one_shot(rows: BenchmarkRows, seed: int, progress: Callable[[float], None] | None) -> dict[str, Any]:
    """SimpleShot on one training image of each class, several draws."""
    vectors, codes, judged = rows.best_vectors, rows.codes, rows.judged
    learn = np.flatnonzero(~judged)
    classes = np.unique(codes[learn])
    shares = np.zeros(int(judged.sum()))
    accuracies = []
    for draw in range(FOLDS):
        random = np.random.RandomState(draw)
        chosen = []
        for code in classes:
            own = learn[codes[learn] == code]
            random.shuffle(own)
            chosen.append(own[0])
        fitted = SimpleShot.fit(vectors[chosen], np.arange(len(classes)), [str(code) for code in classes])
        right = classes[fitted.predict(vectors[judged], 1).indices[:, 0]] == codes[judged]
        accuracies.append(float(right.mean()))
        shares += right / FOLDS
    bootstrap = Bootstrap(None, codes[judged], seed=seed)
    return {
        "metrics": {"top1_1_shot": _mean_of_runs(bootstrap, shares).as_dict()},
        "how": f"SimpleShot (CL2N) on one training image of each class names every image that is judged; the mean of "
        f"{FOLDS} draws. The interval tells how far other images would change this mean, not how far other examples "
        f"would.{_space(rows)}",
        "folds": {"1": accuracies},
        "projected": rows.features is not None,
    }


def _knn(rows: BenchmarkRows, seed: int, progress: Callable[[float], None] | None) -> dict[str, Any]:
    codes, judged = rows.codes, rows.judged
    names = [str(code) for code in range(len(rows.folder.texts))]
    fitted = NearestNeighbours(names, codes[~judged], unit(rows.embeddings[~judged]))
    bootstrap = Bootstrap(None, codes[judged], seed=seed)
    metrics = {}
    similar = rows.embeddings[judged]
    most = min(NEIGHBOURS, int((~judged).sum()))
    for k, limit in ((1, 1), (NEIGHBOURS, most)):
        named = _voted(fitted, similar, limit)
        right = (named == codes[judged]).astype(np.float64)
        metrics[f"top1_k{k}"] = bootstrap.mean(right)
        if k > 1:
            metrics[f"mean_recall_k{k}"] = bootstrap.macro(right)
    return {
        "metrics": {name: estimate.as_dict() for name, estimate in metrics.items()},
        "how": f"Every image that is judged is named by the nearest training image, and by the {NEIGHBOURS} nearest, "
        f"weighted by exp(cosine / {TEMPERATURE}).",
        "k": [1, NEIGHBOURS],
        "temperature": TEMPERATURE,
    }


def _linear(rows: BenchmarkRows, seed: int, progress: Callable[[float], None] | None) -> dict[str, Any]:
    if rows.folds is None:
        raise ConfigError("The protocol linear needs the fold of each row: make folds first.")
    codes, judged = rows.codes, rows.judged
    x, y = rows.embeddings[~judged], codes[~judged]
    known, own = np.unique(y, return_inverse=True)
    chosen = choose(x, own, rows.folds[~judged], progress=progress)
    layer = fit(x, own, chosen.strength, start=chosen.start, exact=False)
    right = (known[layer.logits(rows.embeddings[judged]).argmax(axis=1)] == codes[judged]).astype(np.float64)
    bootstrap = Bootstrap(None, codes[judged], seed=seed)
    return {
        "metrics": {"top1": bootstrap.mean(right).as_dict(), "mean_recall": bootstrap.macro(right).as_dict()},
        "how": f"Multinomial logistic regression on standardised embeddings of the training images (L2, C = "
        f"{chosen.strength:g}, by the log loss over {int(rows.folds.max()) + 1} folds of them) names every image "
        "that is judged.",
        "strength": chosen.strength,
    }


def _svm(rows: BenchmarkRows, seed: int, progress: Callable[[float], None] | None) -> dict[str, Any]:
    assert rows.folder.tasks is not None
    tasks = [rows.folder.tasks[place] for place in rows.places]
    judged = rows.judged
    shares, accuracies = judge_tasks(rows.best_vectors, rows.codes, tasks, judged, progress=progress)
    numbers = np.unique(tasks, return_inverse=True)[1][judged].astype(np.int64)
    bootstrap = Bootstrap(None, numbers, seed=seed)
    mean = bootstrap.statistic(
        lambda weights: (weights @ shares.astype(np.float32)) / weights.sum(axis=1), limits=_SHARE
    )
    return {
        "metrics": {
            "accuracy": mean.as_dict(),
            "mean_over_tasks": bootstrap.macro(shares).as_dict(),
        },
        "how": f"For each of {len(set(tasks))} tasks, a support vector machine on unit-length features in CL2N, its "
        f"kernel, C and gamma chosen among {SEARCHES} by cross-validation on the training images; the share of right "
        f"answers of all tasks together, the mean of {TASK_RUNS} runs, as published.{_space(rows)}",
        "runs": accuracies,
        "tasks": len(set(tasks)),
        "projected": rows.features is not None,
    }


def _traits(rows: BenchmarkRows, seed: int, progress: Callable[[float], None] | None) -> dict[str, Any]:
    folder = rows.folder
    assert folder.traits is not None
    traits = folder.traits[rows.places]
    judged = rows.judged
    answers = probe_traits(
        rows.best_vectors,
        traits,
        judged,
        learning_rate=float(folder.benchmark.learning_rate or 1e-4),
        progress=progress,
    )
    true = traits[judged]
    bootstrap = Bootstrap(None, None, rows=len(true), seed=seed)
    every = (answers == true).all(axis=2).mean(axis=0)
    each = (answers == true).mean(axis=(0, 2))
    metrics: dict[str, Estimate] = {
        "all_traits": _mean_of_runs(bootstrap, every),
        "mean_accuracy_of_traits": _mean_of_runs(bootstrap, each),
        "macro_f1": bootstrap.statistic(lambda weights: macro_f1_of_traits(true, answers, weights), limits=_SHARE),
    }
    if len(folder.trait_names) > FIRST_TRAITS:
        first = slice(0, FIRST_TRAITS)
        metrics["macro_f1_as_published"] = bootstrap.statistic(
            lambda weights: macro_f1_of_traits(true[:, first], answers[:, :, first], weights), limits=_SHARE
        )
    return {
        "metrics": {name: estimate.as_dict() for name, estimate in metrics.items()},
        "how": f"A network of one hidden layer of 512, trained on the features of the training images for {EPOCHS} "
        f"epochs as published, tells the {len(folder.trait_names)} traits of every image that is judged; the mean of "
        f"{TRAIT_RUNS} runs. A trait is there where its logit is above 0.5, as published.{_space(rows)}",
        "traits": list(folder.trait_names),
        "projected": rows.features is not None,
    }


def _voted(fitted: NearestNeighbours, embeddings: Vectors, k: int) -> Codes:
    """The class of each embedding by the vote of the k nearest examples, int64 (M)."""
    named = np.empty(len(embeddings), np.int64)
    at_once = max(1, 2**24 // max(len(fitted.codes), len(fitted.classes)))
    for start in range(0, len(embeddings), at_once):
        cosines = unit(embeddings[start : start + at_once]) @ fitted.units.T
        nearest = np.argsort(-cosines, axis=1, kind="stable")[:, :k]
        similar = np.take_along_axis(cosines, nearest, axis=1)
        named[start : start + at_once] = vote(fitted.codes[nearest], similar, len(fitted.classes)).argmax(axis=1)
    return named


def _mean_of_runs(bootstrap: Bootstrap, shares: npt.NDArray[np.float64]) -> Estimate:
    """The mean over images of how often each was right over several runs, float64 (M)."""
    values = shares.astype(np.float32)
    return bootstrap.statistic(lambda weights: (weights @ values) / weights.sum(axis=1), limits=_SHARE)


def _space(rows: BenchmarkRows) -> str:
    if rows.features is not None:
        return " Features are those in the space that the model's images and texts share, as published."
    return (
        " Published figures are of features in the space that images and texts share; this model has no text encoder "
        "on this machine, so its embeddings were used as they are."
    )


_WHOLE = ("few-shot", "knn", "linear")
_RUN: dict[str, Callable[[BenchmarkRows, int, Callable[[float], None] | None], dict[str, Any]]] = {
    "zero-shot": _zero_shot,
    "one-shot": _one_shot,
    "knn": _knn,
    "linear": _linear,
    "svm": _svm,
    "traits": _traits,
}
