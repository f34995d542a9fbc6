"""Learning a classifier from a collection's labels, with its progress shown and its report written."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from birder.collection.progress import StageProgress, stages_shown
from birder.collection.storage import Storage

if TYPE_CHECKING:
    from birder.collection.filter import Filter
    from birder.learning.adapt import Adapted
    from birder.learning.splits import Split


def file_to_write(collection: Path, to: Path, *, detached: bool) -> Path:
    """The file that a classifier of a collection will be saved as; a detached head is NAME.head.safetensors.

    A head is detached if that is asked for, or where the weights of the collection's network are out of reach.
    """
    from birder.collection.backbone import describe_backbone
    from birder.registry import HEAD_ENDING

    if detached or to.name.endswith(HEAD_ENDING) or describe_backbone(Storage.open(collection))["sha256"] is None:
        return to.with_name(to.stem.removesuffix(".head") + HEAD_ENDING)
    return to


def adapt_collection(
    storage: Storage,
    column: str,
    *,
    where: str | Filter | None,
    group_by: Sequence[str],
    split: Split,
    min_examples: int,
    folds: int,
    seed: int,
    unknown: float | None,
    taxonomy: Path | None,
    report: Path | None,
    progress: StageProgress,
) -> Adapted:
    """Learn a classifier, and write its report where one is asked for; parameters as for `Collection.adapt`."""
    from birder.learning.adapt import adapt

    with stages_shown(progress) as show:
        adapted = adapt(
            storage,
            column,
            where=where,
            group_by=group_by,
            split=split,
            min_examples=min_examples,
            folds=folds,
            seed=seed,
            unknown=unknown,
            taxonomy=taxonomy,
            progress=show,
        )
        if report is not None:
            from birder.collection.evaluating import thumbnails_of
            from birder.plots.report import write_report

            if show is not None:
                show("writing the report", 0.0)
            asked = {"collection": str(storage.path)} | dict(adapted.evaluation.get("asked", {}))
            write_report(
                report,
                adapted.evaluation | {"asked": asked},
                adapted.out_of_fold,
                unknown=adapted.unknown,
                thumbnails=thumbnails_of,
            )
    return adapted
