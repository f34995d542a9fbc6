"""Multinomial logistic regression on embeddings: fitted, its strength chosen, calibrated, folded into one layer.

The objective is scikit-learn's: the sum of the log losses, plus the squares of the weights divided by twice the
strength; biases are not penalised. PyTorch's L-BFGS minimises it. Embeddings are standardised and turned to their
principal axes, and each weight is scaled by the curvature to be expected along its axis (in a fit that begins at
another, by the geometric mean of that and the one measured there): a change of variables that leaves the minimum where
it is. The axes of embeddings differ in variance by orders of magnitude, and with it the solver
needs a third of the steps or fewer.

N is the number of rows, D the embedding dimension, C the number of classes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from birder.vectors import let_go, put_rows, room, take_rows

if TYPE_CHECKING:
    import torch

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
Codes = npt.NDArray[np.int64]
Progress = Callable[[float], None]

STRENGTHS: tuple[float, ...] = tuple(float(f"{10 ** (power / 2):.6g}") for power in range(-8, 5))
"""The strengths to choose from: 13 values from 1e-4 to 1e2, two for each power of ten, these at even places."""
LOOSE, JUDGED, TIGHT = 5e-4, 5e-5, 1e-6
"""Where the solver stops: the largest part of the scaled gradient, divided by the square root of N. Loose fits compare
strengths, judged ones name the held-out rows, and the tight one is kept."""
_FIRST = 4
"""Where the search begins: the place of 0.01."""
_USUALLY_TRIED = 6
_CLEARLY_HIGHER = 1.02
_CELLS_TO_CHOOSE = 2**33
_CELLS_IN_DOUBLE = 2**30
_MOST_STEPS = 500
_HISTORY = 10
_AT_ONCE = 4096
_PRECISION = 1e-5  # of a temperature
_LOGITS_IN_MEMORY = 2**28  # bytes
_ROWS_IN_MEMORY = 2**29  # bytes, of all problems at once
_CURVATURE = 0.01  # of the softmax near the minimum, as a share of that at 0; the fewest steps for C from 0.1 to 30


class Layer(NamedTuple):
    """A linear layer on embeddings as they are: weight float64 (C, D), bias float64 (C,)."""

    weight: Doubles
    bias: Doubles

    def logits(self, X: Floats) -> Floats:
        """`X @ weight.T + bias`, float32 (N, C)."""
        logits = np.empty((len(X), len(self.bias)), np.float32)
        self.logits_into(logits, X, np.arange(len(X)))
        return logits

    def logits_into(self, logits: Floats, X: Floats, rows: Codes) -> None:
        """The same of some rows, into those of `logits` (N, C)."""
        weight, bias = self.weight.astype(np.float32).T, self.bias.astype(np.float32)
        for block in _blocks(len(rows)):
            put_rows(logits, rows[block], take_rows(X, rows[block]) @ weight + bias)


@dataclass(frozen=True)
class Chosen:
    """A strength chosen by cross-validation.

    Attributes
    ----------
    strength
        The one with the lowest log loss on held-out rows.
    losses
        Strength -> mean log loss of the held-out rows after the best temperature, for those that were tried, in
        ascending order: powers of ten from 0.01 on, up and down until the loss has risen by 2 % above its minimum, and
        the two values beside the best. After the temperature, because the classifier gets one; before it, weak
        penalties look better merely because their logits are larger.
    rows
        How many rows the strength was chosen on: all, or a part drawn alike from each class and fold where N x D x C is
        above 2^33.
    out_of_fold_logits
        float32 (N, C), of each row by the fit without its fold; 0 for rows that are in no fold. Large ones are in a
        temporary file (`birder.vectors.room`).
    start
        One of these fits, where the fit to all rows may begin.
    """

    strength: float
    losses: dict[float, float]
    rows: int
    out_of_fold_logits: Floats
    start: Layer


class _Problem:
    """Rows to fit, standardised and turned to their principal axes once for any number of strengths.

    Holds one copy of the rows, in a temporary file if it takes more than `most` bytes, and some 100 MB at once while it
    fits.
    """

    def __init__(
        self, X: Floats, y: Codes, rows: npt.NDArray[np.int64], classes: int, *, double: bool, most: int | None = None
    ) -> None:
        import torch

        kind: type[np.float64 | np.float32] = np.float64 if double else np.float32
        self._room = turned = room(len(rows), X.shape[1], kind, most=_ROWS_IN_MEMORY if most is None else most)
        self.mean, self.scale = standardisation(X, rows)
        moments = np.zeros((X.shape[1],) * 2)
        for block in _blocks(len(rows)):
            part = (take_rows(X, rows[block]) - self.mean) / self.scale
            turned[block] = part
            moments += part.T @ part
            let_go(turned)
        variances, self._axes = np.linalg.eigh(moments / len(rows))
        self._variances = np.maximum(variances, 0)
        axes = self._axes.astype(kind)
        for block in _blocks(len(rows)):
            turned[block] = turned[block] @ axes
            let_go(turned)
        self._rows = torch.from_numpy(turned)
        self._y = torch.from_numpy(y[rows])
        shares = np.maximum(np.bincount(y[rows], minlength=classes), 0.5) / len(rows)
        self._spread = np.maximum(shares * (1 - shares), 1e-6) * _CURVATURE

    def __len__(self) -> int:
        return len(self._y)

    def fit(self, strength: float, *, tolerance: float, start: Layer | None = None) -> Layer:
        """Minimise the objective, from 0 or from another fit, and return the layer on embeddings as they are."""
        import torch

        count, dtype = len(self._y), self._rows.dtype
        turned = None if start is None else torch.from_numpy(self._turned(start)).to(dtype)
        curvatures = count * np.outer(np.append(self._variances, 1.0), self._spread)
        if turned is not None:
            curvatures = np.sqrt(curvatures * self._curvatures(turned))
        curvatures[:-1] += 1 / strength
        scales = torch.from_numpy(1 / np.sqrt(curvatures)).to(dtype)
        scaled = (torch.zeros_like(scales) if turned is None else turned / scales).requires_grad_()
        limit = tolerance * count**0.5
        solver = torch.optim.LBFGS(
            [scaled],
            max_iter=_MOST_STEPS,
            max_eval=2 * _MOST_STEPS,
            tolerance_grad=limit,
            tolerance_change=1e-3 * limit**2,
            history_size=_HISTORY,
            line_search_fn="strong_wolfe",
        )

        def objective() -> torch.Tensor:
            loss, gradient = self._objective(scaled.detach() * scales, strength)
            scaled.grad = gradient.mul_(scales)
            return torch.tensor(loss, dtype=torch.float64)

        solver.step(objective)  # type: ignore[no-untyped-call]
        return self._layer((scaled.detach() * scales).double().numpy())

    def _curvatures(self, layer: torch.Tensor) -> Doubles:
        """The diagonal of the log loss's second derivatives, (D + 1, C), by some of the rows."""
        import torch

        some = np.arange(0, len(self._y), -(-len(self._y) // _AT_ONCE))
        rows = torch.from_numpy(take_rows(self._room, some))
        shares = torch.addmm(layer[-1], rows, layer[:-1]).softmax(dim=1)
        shares.mul_(1 - shares)
        found = torch.cat([rows.square().T @ shares, shares.sum(dim=0, keepdim=True)])
        measured: Doubles = found.double().numpy() * (len(self._y) / len(rows))
        return np.maximum(measured, 1e-12)

    def _objective(self, layer: torch.Tensor, strength: float) -> tuple[float, torch.Tensor]:
        """The objective and its gradient, (D + 1, C), for weights and biases (D + 1, C); sums over rows in float64."""
        import torch

        weight, bias = layer[:-1], layer[-1]
        loss = float(weight.double().square().sum()) / (2 * strength)
        gradient = torch.zeros_like(layer)
        gradient[:-1] = weight / strength
        for block in _blocks(len(self._y)):
            rows, y = self._rows[block], self._y[block]
            logs = torch.addmm(bias, rows, weight).log_softmax(dim=1)
            loss -= float(logs.gather(1, y[:, None]).sum(dtype=torch.float64))
            residuals = logs.exp_()
            residuals[torch.arange(len(y)), y] -= 1
            gradient[:-1].addmm_(rows.T, residuals)
            gradient[-1] += residuals.sum(dim=0)
            let_go(self._room)
        return loss, gradient

    def _layer(self, turned: Doubles) -> Layer:
        """From weights on the principal axes, (D + 1, C), to a layer on embeddings."""
        return fold_in((self._axes @ turned[:-1]).T, turned[-1], self.mean, self.scale)

    def _turned(self, layer: Layer) -> Doubles:
        """The reverse of `_layer`."""
        standard = layer.weight * self.scale
        return np.vstack([self._axes.T @ standard.T, layer.bias + layer.weight @ self.mean])


def standardisation(X: Floats, rows: npt.NDArray[np.int64] | None = None) -> tuple[Doubles, Doubles]:
    """Mean and standard deviation of each component of X (N, D), or of some of its rows, both float64 (D,).

    A component that is always the same has a deviation of 1, as in scikit-learn's StandardScaler.
    """
    rows = np.arange(len(X)) if rows is None else rows
    mean, squares = np.zeros(X.shape[1]), np.zeros(X.shape[1])
    for block in _blocks(len(rows)):
        mean += take_rows(X, rows[block]).sum(axis=0, dtype=np.float64)
    mean /= len(rows)
    for block in _blocks(len(rows)):
        squares += np.square(take_rows(X, rows[block]) - mean).sum(axis=0)
    deviations = np.sqrt(squares / len(rows))
    constant = deviations <= 1e-7 * np.maximum(np.abs(mean), 1e-30)
    return mean, np.where(constant, 1.0, deviations)


def fold_in(weight: Doubles, bias: Doubles, mean: Doubles, scale: Doubles, temperature: float = 1.0) -> Layer:
    """A layer on embeddings as they are, from one on standardised embeddings, its logits divided by a temperature.

    Parameters
    ----------
    weight, bias
        (C, D) and (C,), on `(x - mean) / scale`.
    mean, scale
        (D,).
    temperature
        Above 0.
    """
    own = weight / scale
    return Layer(own / temperature, (bias - own @ mean) / temperature)


def fit(
    X: Floats,
    y: Codes,
    strength: float,
    *,
    classes: int | None = None,
    start: Layer | None = None,
    exact: bool = True,
) -> Layer:
    """Fit multinomial logistic regression on standardised embeddings.

    Parameters
    ----------
    X
        float32 (N, D), not standardised.
    y
        int64 (N,): 0 to C - 1.
    strength
        C of scikit-learn's LogisticRegression: the larger, the weaker the penalty.
    classes
        C; default: one more than the largest of y.
    start
        Where to begin; the result is the same within the tolerance, sooner.
    exact
        Whether weights are wanted to 1e-4. If not, the fit is as good as those that `choose` compares, several times
        sooner.

    Returns
    -------
    The layer on embeddings as they are, the standardisation folded in. If exact, its weights on standardised
    embeddings, `weight * scale`, agree with scikit-learn's to 1e-4 relative up to N x D x C = 2^30, in float64; above
    that, in float32, the fit is as good as those by which `choose` judges held-out rows.
    """
    classes = classes or int(y.max()) + 1
    if not exact:
        problem = _Problem(X, y, np.arange(len(X)), classes, double=False)
        return problem.fit(strength, tolerance=LOOSE, start=start)
    double = len(X) * X.shape[1] * classes <= _CELLS_IN_DOUBLE
    problem = _Problem(X, y, np.arange(len(X)), classes, double=double)
    if double and start is None:
        start = _Problem(X, y, np.arange(len(X)), classes, double=False).fit(strength, tolerance=LOOSE)
    return problem.fit(strength, tolerance=TIGHT if double else JUDGED, start=start)


def choose(
    X: Floats,
    y: Codes,
    folds: Codes,
    *,
    apart: Codes | None = None,
    classes: int | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Chosen:
    """Choose the strength by cross-validation on the log loss, and judge every row by a fit that has not seen it.

    The strength with the lowest loss is taken. A rule that errs towards the strong penalty, one standard error (Breiman
    et al., Classification and Regression Trees, 1984, 3.4.3), was tried: on BioCLIP 2 embeddings, nested
    cross-validation loses 0.7 to 2.2 points of accuracy by it (order 69.1 % for 71.3 %, class 88.6 % for 89.3 %, family
    76.2 % for 77.0 %) at about the same log loss. Where held-out rows are easier than new ones it gains nothing:
    learned from groceries' training images, the accuracy on images of other shops (n = 296) is 66.2 to 67.6 % for every
    C from 0.01 to 100.

    Parameters
    ----------
    X, y, classes
        As in `fit`.
    folds
        int64 (N,): the fold that judges each row, 0 to F - 1; rows with -1 are never judged.
    apart
        int64 (N,): the fold that must not learn from each row, -1 if there is none; default: the one that judges it.
    seed
        Of the rows that the strength is chosen on, where there are too many.
    progress
        Called with the share that is done.
    """
    classes = classes or int(y.max()) + 1
    apart = folds if apart is None else apart
    told = progress or (lambda share: None)
    some = _rows_to_choose_on(y, folds, len(X) * X.shape[1] * classes, seed)
    problems, held_out = [], []
    count = int(folds.max()) + 1
    for fold in range(count):
        learned = some[apart[some] != fold]
        problems.append(_Problem(X, y, learned, classes, double=False, most=_ROWS_IN_MEMORY // count))
        held_out.append(some[folds[some] == fold])
    judged = np.sort(np.concatenate(held_out))
    out_of_fold = room(len(X), classes, most=_LOGITS_IN_MEMORY)
    losses: dict[float, float] = {}
    fitted: dict[int, list[Layer]] = {}

    def loss_at(place: int) -> float:
        """The loss of a strength, its fits begun at the nearest ones that are kept."""
        strength = STRENGTHS[place]
        if strength not in losses:
            starts = fitted[min(fitted, key=lambda kept: abs(kept - place))] if fitted else None
            fitted[place] = [
                problem.fit(strength, tolerance=LOOSE, start=starts[fold] if starts else None)
                for fold, problem in enumerate(problems)
            ]
            pairs = zip(fitted[place], held_out, strict=True)
            for layer, rows in pairs:
                layer.logits_into(out_of_fold, X, rows)
            losses[strength] = log_loss(out_of_fold, y, temperature(out_of_fold, y, judged), judged)
            best = min(fitted, key=lambda kept: losses[STRENGTHS[kept]])
            for kept in set(fitted) - {best, place, _FIRST}:
                del fitted[kept]
            told(0.6 * min(len(losses) / _USUALLY_TRIED, 1.0))
        return losses[strength]

    for places in (range(_FIRST, len(STRENGTHS), 2), range(_FIRST, -1, -2)):  # powers of ten, up and down
        for place in places:
            if loss_at(place) > _CLEARLY_HIGHER * min(losses.values()):
                break
    best = min(fitted, key=lambda kept: losses[STRENGTHS[kept]])
    for place in (best - 1, best + 1):
        if 0 <= place < len(STRENGTHS):
            loss_at(place)
    best = min(fitted, key=lambda kept: losses[STRENGTHS[kept]])
    strength, starts = STRENGTHS[best], fitted[best]
    fitted.clear()
    everything = len(some) == len(X)
    for block in _blocks(len(X)):
        out_of_fold[block] = 0
        let_go(out_of_fold)
    for fold, start in enumerate(starts):
        rows = np.flatnonzero(folds == fold)
        problem = problems[fold]
        if not everything:
            # The penalty weighs as much beside a part of the rows as it will beside all of them.
            learned = np.flatnonzero(apart != fold)
            start = problem.fit(strength * len(learned) / len(problem), tolerance=LOOSE, start=start)
            problem = _Problem(X, y, learned, classes, double=False)
        layer = problem.fit(strength, tolerance=JUDGED, start=start)
        layer.logits_into(out_of_fold, X, rows)
        told(0.6 + 0.4 * (fold + 1) / len(starts))
    return Chosen(strength, dict(sorted(losses.items())), len(some), out_of_fold, layer)


def temperature(logits: Floats, y: Codes, rows: Codes | None = None, *, start: float = 1.0) -> float:
    """The one number that logits are divided by for the lowest log loss (Guo et al., arXiv 1706.04599).

    The loss is convex in its inverse, which Newton's method finds in a few passes; between exp(-3) and exp(3).

    Parameters
    ----------
    logits
        float32 (N, C), of rows that the fit has not seen.
    y
        int64 (N,).
    rows
        Only these rows; default: all.
    start
        What it may be near to.
    """
    lowest, highest = float(np.exp(-3)), float(np.exp(3))
    low, high, factor = lowest, highest, 1 / start
    for _ in range(_MOST_STEPS):
        slope, curvature = _slope(logits, y, factor, rows)
        low, high = (low, factor) if slope > 0 else (factor, high)
        new = factor - slope / curvature if curvature > 0 else factor
        new = min(max(new, lowest), highest)
        if not low <= new <= high:
            new = (low * high) ** 0.5
        done = abs(new - factor) <= _PRECISION * factor
        factor = new
        if done:
            break
    return 1 / factor


def _slope(logits: Floats, y: Codes, factor: float, rows: Codes | None) -> tuple[float, float]:
    """First and second derivative of the sum of log losses by the number that logits are multiplied by."""
    import torch

    first = second = 0.0
    for part, own in _parts(logits, y, rows):
        shares = (part * factor).softmax(dim=1)
        means = (shares * part).sum(dim=1)
        squares = shares.mul_(part).mul_(part).sum(dim=1)
        first += float((means - part.gather(1, own[:, None])[:, 0]).sum(dtype=torch.float64))
        second += float((squares - means.square()).sum(dtype=torch.float64))
    return first, second


def log_loss(logits: Floats, y: Codes, temperature: float = 1.0, rows: Codes | None = None) -> float:
    """Mean log loss of logits (N, C), divided by a temperature, in natural units; summed in float64.

    `rows` may say of which rows.
    """
    import torch

    total = 0.0
    for part, own in _parts(logits, y, rows):
        losses = torch.nn.functional.cross_entropy(part / temperature, own, reduction="none")
        total += float(losses.double().sum())
    return total / max(len(y) if rows is None else len(rows), 1)


def _parts(logits: Floats, y: Codes, rows: Codes | None) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Logits and classes of the rows, a block at a time."""
    import torch

    for block in _blocks(len(y) if rows is None else len(rows)):
        some = block if rows is None else rows[block]
        yield torch.from_numpy(np.asarray(logits[some])), torch.from_numpy(y[some])
        let_go(logits)


def _rows_to_choose_on(y: Codes, folds: Codes, cells: int, seed: int) -> npt.NDArray[np.int64]:
    """All rows, or as many as keep N x D x C at the limit, drawn from each class and fold in proportion."""
    if cells <= _CELLS_TO_CHOOSE:
        return np.arange(len(y))
    share = _CELLS_TO_CHOOSE / cells
    order = np.random.default_rng(seed).random(len(y))
    strata = y * (folds.max() + 2) + folds + 1
    by_stratum = np.lexsort((order, strata))
    _, starts, counts = np.unique(strata[by_stratum], return_index=True, return_counts=True)
    places = np.arange(len(y)) - np.repeat(starts, counts)
    chosen: npt.NDArray[np.int64] = np.sort(by_stratum[places < np.ceil(share * np.repeat(counts, counts))])
    return chosen


def _blocks(rows: int) -> Iterator[slice]:
    return (slice(start, min(start + _AT_ONCE, rows)) for start in range(0, rows, _AT_ONCE))
