"""Many questions of two classes each, as in NeWT (Van Horn et al., arXiv 2103.16483): a support vector machine each.

What BioCLIP 2's evaluation does (Gu et al., arXiv 2505.23883, after biobench): unit-length features, centred by the
mean of a task's training images and scaled to length 1 again, standardised; kernel, C and gamma by a random search with
cross-validation; three runs of other random numbers.

N is the number of rows, D the dimension of the features, M the number of rows that are judged.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from birder.errors import ConfigError
from birder.vectors import unit

SEARCHES = 100
"""Settings that are tried for each task."""
RUNS = 3
"""How many runs; the run is the seed of its random numbers."""


def judge_tasks(
    features: npt.NDArray[np.float32],
    labels: npt.NDArray[np.int64],
    tasks: Sequence[str],
    judged: npt.NDArray[np.bool_],
    *,
    progress: Callable[[float], None] | None = None,
) -> tuple[npt.NDArray[np.float64], list[float]]:
    """Answer every task, learned from its training images.

    Parameters
    ----------
    features
        float32 (N, D), of any length.
    labels
        The answer of each row, int64 (N).
    tasks
        The task of each row.
    judged
        Rows that are not for training, bool (N).
    progress
        Called with the share that is done.

    Returns
    -------
    In which share of the runs each judged row was answered right, float64 (M); and the accuracy of each run.

    Raises
    ------
    ConfigError
        A task has no images to learn from, or only those of one answer.
    """
    from scipy.stats import loguniform
    from sklearn.model_selection import RandomizedSearchCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVC

    of = np.array(tasks, dtype=object)
    names = sorted(set(tasks))
    units = unit(features)
    right = np.zeros((RUNS, len(labels)))
    for number, name in enumerate(names):
        own = of == name
        learn, ask = own & ~judged, own & judged
        if len(np.unique(labels[learn])) < 2:
            raise ConfigError(f"The task {name} has no images of two answers to learn from.")
        centre = units[learn].mean(axis=0, keepdims=True)
        x, questions = (unit(units[rows] - centre) for rows in (learn, ask))
        for run in range(RUNS):
            search = RandomizedSearchCV(
                make_pipeline(StandardScaler(), SVC()),
                {
                    "svc__C": loguniform(1e-3, 1e1),
                    "svc__kernel": ["rbf", "linear", "sigmoid", "poly"],
                    "svc__gamma": loguniform(1e-4, 1e-3),
                },
                n_iter=SEARCHES,
                random_state=run,
            )
            search.fit(x, labels[learn])
            if ask.any():
                right[run, ask] = search.predict(questions) == labels[ask]
        if progress is not None:
            progress((number + 1) / len(names))
    return right[:, judged].mean(axis=0), [float(share) for share in right[:, judged].mean(axis=1)]
