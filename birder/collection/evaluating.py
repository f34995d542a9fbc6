"""Saying how good names are: predictions in a collection, a classifier from a file, embeddings, two models at once.

N is the number of labelled rows that are judged, C the number of classes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from birder.collection.judged_rows import (
    JudgedRows,
    Taxa,
    groups_of,
    read_rows,
    taxa_of,
)
from birder.collection.nearest_labels import nameable, nearest_labels
from birder.collection.pairing import PAIRED_BY, pair_rows
from birder.collection.predictions import LABEL, PREFIX, SCORE
from birder.collection.progress import StageProgress, stages_shown
from birder.collection.schema import DEPLOYMENT
from birder.collection.storage import Storage
from birder.errors import CollectionError, ConfigError, unknown_name
from birder.taxonomy import RANKS, ranks_in
from birder.words import counted

if TYPE_CHECKING:
    from birder.collection.filter import Filter
    from birder.evaluation.few_shot import Variant
    from birder.inference.classifier import Classifier
    from birder.learning.splits import Groups, Split
    from birder.weights.clip import LoadedClip

NEAR = 0.98
"""The cosine from which on an image counts as a near-duplicate of a training image."""
FOLDS = 5
"""Parts that the protocol "linear" is cross-validated in."""
LIGHT = "night_or_day"
"""The column of predictions.parquet that says whether an image was taken by night or by day."""
LEAST_LIGHT = 20
"""The least number of images by night, and by day, for which that is worth a table."""
TIME, PLACE = "taken_at", ("latitude", "longitude")
_THUMBNAIL = 200  # pixels on the longest side of the images in a report
_CELLS = 2**24  # cosines at once: 64 MiB
_SHORT = 16  # hex digits of sha256 that a classifier keeps of its training images
_NAMES_SHOWN = 5

Floats = npt.NDArray[np.float32]
Bools = npt.NDArray[np.bool_]
Show = Callable[[str, float], None]


@dataclass(frozen=True)
class Evaluation:
    """How good names or embeddings are, with intervals.

    Attributes
    ----------
    results
        What metrics.json holds: docs/evaluate.md lists the keys.
    predictions
        One row for each image judged, from which its figures can be computed again; empty if only protocols were run.
    unknown
        The scores of images of known and of unknown classes (`birder.evaluation.unknown_table`), if there are both.
    """

    results: dict[str, Any]
    predictions: pa.Table
    unknown: pa.Table | None = None

    @property
    def metrics(self) -> dict[str, dict[str, Any]]:
        """Each figure with estimate, low, high, n and interval; those of a protocol as "knn.top1_k1"."""
        found = dict(self.results.get("metrics", {}))
        for protocol, result in self.results.get("protocols", {}).items():
            found |= {f"{protocol}.{name}": each for name, each in result["metrics"].items()}
        return found

    def __getitem__(self, name: str) -> float:
        """The estimate of a figure; "accuracy" is another name of "top1".

        Raises
        ------
        UnknownNameError
            There is no such figure.
        """
        metrics = self.metrics
        key = "top1" if name == "accuracy" else name
        if key not in metrics:
            raise unknown_name("metric", name, [*metrics, *(["accuracy"] if "top1" in metrics else [])])
        return float(metrics[key]["estimate"])

    def __repr__(self) -> str:
        asked = self.results["asked"]
        figures = [f"{name} {each['estimate']:.3f}" for name, each in list(self.metrics.items())[:3]]
        return f"<Evaluation of {asked['column']}: {self.results['n']:,} images, {', '.join(figures)}>"

    def save(self, to: str | Path, *, command: str | None = None) -> Path:
        """Write report.html, metrics.json and predictions.parquet into a folder, replacing files of these names.

        Where the unknown was judged, unknown.parquet has the scores.

        Parameters
        ----------
        to
            The folder.
        command
            The command line that the report tells, for whoever does it again.

        Returns
        -------
        The path of report.html.

        Raises
        ------
        BirderError
            The folder cannot be written.
        """
        from birder.plots.report import write_report

        results = self.results
        if command is not None:
            results = results | {"asked": results["asked"] | {"command": command}}
        return write_report(to, results, self.predictions, unknown=self.unknown, thumbnails=thumbnails_of)


def thumbnails_of(uris: Sequence[str]) -> Mapping[str, bytes]:
    """Small JPEGs of the images that can be read, by their uris."""
    from birder.sources.thumbnails import thumbnails

    return {uri: made for uri, made in thumbnails(uris, _THUMBNAIL).items() if isinstance(made, bytes)}


def evaluate_collection(
    storage: Storage,
    column: str,
    *,
    predictions: str | None,
    model: str | Path | None,
    protocols: Sequence[str],
    as_: Variant | None,
    against: Storage | None,
    where: str | Filter | None,
    group_by: Sequence[str],
    split: Split,
    by: Sequence[str],
    seed: int,
    taxonomy: Path | None,
    load_clip: Callable[[], LoadedClip],
    progress: StageProgress,
) -> Evaluation:
    """Judge what was asked for; parameters as for `Collection.evaluate`, and `load_clip` for its text encoder."""
    _check(column, predictions, model, protocols, as_, against)
    with stages_shown(progress) as given:
        show: Show = given or (lambda stage, done: None)
        show("reading the rows", 0.0)
        rows = read_rows(storage, column, _columns(storage, column, predictions, group_by, by), where)
        left_out = 0
        notes: list[str] = []
        classifier = None
        if model is not None:
            show("comparing with the training images", 0.0)
            classifier, told, notes = _load(storage, model)
            seen = _seen(classifier, rows)
            left_out = int(seen.sum())
            notes += _left_out(seen, classifier)
            rows = rows.keep(~seen)
            if not len(rows):
                raise CollectionError(
                    f"{told['classifier']} was trained on all {left_out:,} labelled images of {storage.path}, or on "
                    "near-duplicates of them. Evaluate it on a collection that it has not seen; how good it was when "
                    "it was made is in the file: birder info"
                )
        show("finding groups", 0.0)
        groups, names = groups_of(rows, column=column, group_by=group_by, split=split)
        rows, by = _with_light(rows, _by(rows, group_by, by))
        table, unknown, further = None, None, None
        if predictions is not None:
            table, more = _stored(storage, rows, names, column, predictions, taxonomy, by)
            notes += more
        elif classifier is not None:
            taxa, warnings = taxa_of(rows, column, None, taxonomy)
            notes += warnings
            taxa = taxa or _trained_taxa(classifier)
            table, unknown, more = _classified(classifier, rows, names, taxa, by)
            further = classifier.classes
            notes += more
        elif against is not None:
            table, more = _by_nearest(storage, rows, groups.codes, names, by)
            notes += more
        results = _results(table, further, seed, by, unknown, rows, show)
        if protocols:
            results["protocols"] = _protocols(storage, rows, groups, protocols, as_, seed, load_clip, show)
        if against is not None:
            show("comparing the two collections", 0.0)
            results["comparison"] = _compared(storage, against, rows, groups, names, predictions, seed)
    if rows.unlabelled:
        notes.append(
            f"{counted(rows.unlabelled, 'image')} without a label in {column} "
            f"{'was' if rows.unlabelled == 1 else 'were'} not judged."
        )
    asked = {
        "collection": str(storage.path),
        "column": column,
        "predictions": predictions,
        "classifier": None if model is None else Path(model).name,
        "protocols": list(protocols),
        "as": as_,
        "against": None if against is None else str(against.path),
        "where": None if where is None else str(where),
        "group_by": list(group_by),
        "split": split,
        "by": list(by),
    }
    results |= _made(storage, groups, seed, classifier)
    results["asked"] = {name: value for name, value in asked.items() if value not in (None, [])}
    results["notes"] = [*groups.how, *notes]
    from birder.evaluation.predictions import SCHEMA

    return Evaluation(results, SCHEMA.empty_table() if table is None else table, unknown)


def _check(
    column: str,
    predictions: str | None,
    model: str | Path | None,
    protocols: Sequence[str],
    as_: str | None,
    against: Storage | None,
) -> None:
    from birder.evaluation.protocols import PROTOCOLS

    if predictions is None and model is None and not protocols and against is None:
        raise ConfigError(
            "Say what to evaluate: predictions in a column, a model (the file of a classifier), protocols on the "
            f"embeddings ({', '.join(PROTOCOLS)}), or another collection to compare with."
        )
    if predictions is not None and model is not None:
        raise ConfigError("Evaluate predictions in a column, or a model, one at a time.")
    if against is not None and model is not None:
        raise ConfigError(
            "Two collections are compared by predictions in a column, or by their embeddings: leave out the model."
        )
    if predictions == column:
        raise ConfigError(f"The labels and the predictions are the same column, {column}.")
    for name in protocols:
        if name not in PROTOCOLS:
            raise unknown_name("protocol", name, PROTOCOLS)
    if as_ is not None and "few-shot" not in protocols:
        raise ConfigError("A published variant is one of few-shot: ask for the protocol few-shot.")


def _columns(
    storage: Storage, column: str, predictions: str | None, group_by: Sequence[str], by: Sequence[str]
) -> list[str]:
    """The columns that are read beside the labels."""
    from birder.learning.ranks import rank_columns
    from birder.learning.splits import columns_for_groups

    own = storage.columns
    ranks = rank_columns(column, list(own))
    columns = [*columns_for_groups(storage, group_by), *ranks, *by, *(name for name in PLACE if name in own)]
    if predictions is not None:
        columns += [predictions, *(PREFIX + rank for rank in ranks if PREFIX + rank in own)]
        columns += [SCORE] if _has_score(storage, predictions) else []
    return columns


def _by(rows: JudgedRows, group_by: Sequence[str], by: Sequence[str]) -> list[str]:
    """The columns that the accuracy is told by: those asked for, else those of the groups; and the deployment."""
    there = [name for name in DEPLOYMENT if name in rows.values.column_names and any(rows.texts(name))]
    return list(dict.fromkeys([*(by or group_by), *there[:1]]))


def _with_light(rows: JudgedRows, by: list[str]) -> tuple[JudgedRows, list[str]]:
    """Also tell the accuracy by night and by day, where enough images have a time."""
    from birder.analysis.daylight import DAY, NIGHT, night_or_day

    own = rows.values.column_names
    if LIGHT in own or TIME not in own:
        return rows, by
    latitude, longitude = (rows.values[name].to_pylist() if name in own else [None] * len(rows) for name in PLACE)
    told = night_or_day(rows.values[TIME].to_pylist(), latitude, longitude)
    if min(told.count(NIGHT), told.count(DAY)) < LEAST_LIGHT:
        return rows, by
    return replace(rows, values=rows.values.append_column(LIGHT, pa.array(told, pa.string()))), [*by, LIGHT]


def _has_score(storage: Storage, predictions: str) -> bool:
    """Whether predicted_score is that of this column: of the label, or of the lowest rank that was predicted."""
    if SCORE not in storage.columns:
        return False
    lowest = [rank for rank in ranks_in(RANKS) if PREFIX + rank in storage.columns][-1:]
    return predictions == LABEL or predictions in [PREFIX + rank for rank in lowest]


def _load(storage: Storage, model: str | Path) -> tuple[Classifier, dict[str, str], list[str]]:
    """The classifier of a file, which must fit the collection's embeddings; its name; what must be known of that."""
    from birder.collection.backbone import check_backbone
    from birder.naming.by_classifier import backbone_told, names_by_classifier

    names = names_by_classifier(model)
    notes = list(check_backbone(storage, backbone_told(names), names.name))
    return names.classifier, {"classifier": names.name, "sha256": names.sha256}, notes


def _seen(classifier: Classifier, rows: JudgedRows) -> Bools:
    """The rows that a classifier was trained on, or on a near-duplicate of: bool (N,). Cosines in blocks of 64 MiB."""
    from birder.inference.classifier import directions
    from birder.vectors import unit

    training = set(classifier.adaptation.get("training", ()))
    seen = np.array([sha256[:_SHORT] in training for sha256 in rows.values["sha256"].to_pylist()], bool)
    if classifier.examples is not None and len(classifier.examples):
        examples = directions(classifier.examples)
        at_once = max(1, _CELLS // len(examples))
        for start in range(0, len(rows), at_once):
            block = slice(start, start + at_once)
            seen[block] |= (unit(rows.embeddings[block]) @ examples.T).max(axis=1) >= NEAR
    return seen


def _left_out(seen: Bools, classifier: Classifier) -> list[str]:
    """How many rows were left out as seen, and what could not be looked for."""
    trained = len(classifier.adaptation.get("training", ()))
    kept = 0 if classifier.examples is None else len(classifier.examples)
    if not trained and not kept:
        return [
            "The file does not say which images the classifier was trained on: if some of these are among them, the "
            "figures are too good."
        ]
    count = int(seen.sum())
    if not kept:
        found = "No image was" if not count else "1 image was" if count == 1 else f"{count:,} images were"
        return [
            f"{found} left out because the classifier was trained on them. Near-duplicates of training images were not "
            "looked for: the file keeps no examples (birder train, or birder adapt --unknown none)."
        ]
    some = f" Near-duplicates were looked for among {kept:,} of the {trained:,} training images." * (kept < trained)
    if not count:
        return ["No image, and no near-duplicate of one, is among those that the classifier was trained on." + some]
    return [
        f"{count:,} images were left out, because the classifier was trained on them or on near-duplicates of them "
        f"(cosine >= {NEAR}).{some}"
    ]


def _trained_taxa(classifier: Classifier) -> Taxa:
    ranks = classifier.adaptation.get("ranks") or {}
    return {name: dict(lineage) for name, lineage in ranks.get("taxa", {}).items()}


def _extra(rows: JudgedRows, by: Sequence[str]) -> pa.Table | None:
    from birder.evaluation.predictions import SCHEMA

    names = [name for name in by if name not in SCHEMA.names]
    return pa.table({name: pa.array(rows.texts(name), pa.string()) for name in names}) if names else None


def _stored(
    storage: Storage,
    rows: JudgedRows,
    groups: list[str] | None,
    column: str,
    predictions: str,
    taxonomy: Path | None,
    by: Sequence[str],
) -> tuple[pa.Table, list[str]]:
    """The table of predictions that are in a column, and what must be known of them."""
    from birder.evaluation.predictions import from_columns

    predicted = rows.texts(predictions)
    scores: list[float | None] | None = None
    notes: list[str] = []
    if SCORE in rows.values.column_names:
        found = [
            score if name is not None else None
            for name, score in zip(predicted, rows.values[SCORE].to_pylist(), strict=True)
        ]
        known = [score for score in found if score is not None]
        if known and min(known) >= 0 and max(known) <= 1:
            scores = found
            notes.append(
                f"{SCORE} is taken for the probability of each name; the calibration shows how far that holds."
            )
    taxa, warnings = taxa_of(rows, column, predictions, taxonomy)
    notes += warnings
    values = rows.values
    table = from_columns(
        values["id"].to_pylist(),
        values["uri"].to_pylist(),
        groups,
        rows.labels,
        predicted,
        scores=scores,
        taxa=taxa or None,
        extra=_extra(rows, by),
    )
    nameless = sum(name is None for name in predicted)
    if nameless == len(predicted):
        raise CollectionError(f"No labelled row of {storage.path} has a prediction in {predictions}.")
    if nameless:
        notes.append(
            f"{nameless:,} of {len(predicted):,} images have no prediction and count as wrong; "
            f'--where "{predictions} IS NOT NULL" leaves them out.'
        )
    if not set(predicted) & set(rows.labels):
        label, name = rows.labels[0], next(each for each in predicted if each)
        notes.append(
            f"No predicted name is among the labels: {label!r} and {name!r}, for example. Do both mean the same?"
        )
    return table, notes


def _classified(
    classifier: Classifier, rows: JudgedRows, groups: list[str] | None, taxa: Taxa, by: Sequence[str]
) -> tuple[pa.Table, pa.Table | None, list[str]]:
    """The table of what a classifier predicts, its scores of known and unknown images, and what must be known."""
    from birder.evaluation.predictions import predictions_table
    from birder.evaluation.unknown_table import unknown_table
    from birder.inference.classifier import softmax

    known = np.isin(np.array(rows.labels, object), np.array(classifier.classes, object))
    if not known.any():
        raise ConfigError(
            f"None of the labels is a class of the classifier, as {rows.labels[0]!r} is not; its classes are "
            f"{', '.join(classifier.classes[:_NAMES_SHOWN])} ..."
        )
    notes, unknown = [], None
    tells = bool(classifier.adaptation.get("unknown")) and classifier.examples is not None
    scores = classifier.unknown_score(rows.embeddings) if tells else None
    if not known.all():
        strangers = sorted({label for label, kept in zip(rows.labels, known, strict=True) if not kept})
        shown = ", ".join(strangers[:_NAMES_SHOWN]) + (" ..." if len(strangers) > _NAMES_SHOWN else "")
        notes.append(
            f"{int((~known).sum()):,} images have a label that the classifier does not know ({shown}). They are not "
            "counted as wrong names" + ("; they show how well it tells what it does not know." if tells else ".")
        )
        if scores is not None:
            unknown = unknown_table(rows.values["id"].to_pylist(), groups, known, scores)
    kept = rows.keep(known)
    logits = classifier.decision_function(kept.embeddings)
    temperature = float(classifier.adaptation.get("temperature", 1.0))
    chosen = np.flatnonzero(known)
    table = predictions_table(
        kept.values["id"].to_pylist(),
        kept.values["uri"].to_pylist(),
        None if groups is None else [groups[place] for place in chosen],
        None,
        kept.labels,
        softmax(logits),
        classifier.classes,
        uncalibrated=softmax(logits * np.float32(temperature)) if classifier.adaptation else None,
        unknown_scores=None if scores is None else scores[known],
        sets=classifier.sets(kept.embeddings) if classifier.adaptation.get("conformal") else None,
        taxa=taxa or None,
        extra=_extra(kept, by),
    )
    return table, unknown, notes


def _judgeable(rows: JudgedRows, codes: npt.NDArray[np.int64], storage: Storage) -> Bools:
    """Rows whose label another group has as well, so that the nearest image of another group can name them rightly."""
    judgeable = nameable(rows.labels, codes)
    if not judgeable.any():
        raise CollectionError(
            f"By the embeddings of {storage.path}, all images of a label belong together: no image can be named by an "
            "image of another group. Say what belongs together (--group-by), or take all images for independent "
            "(--split random)."
        )
    return judgeable


def _by_nearest(
    storage: Storage,
    rows: JudgedRows,
    codes: npt.NDArray[np.int64],
    groups: list[str] | None,
    by: Sequence[str],
) -> tuple[pa.Table, list[str]]:
    """The table of names by the nearest image of another group, of the rows that can be named so; and a note."""
    judgeable = _judgeable(rows, codes, storage)
    table = _named(rows, groups, nearest_labels(rows.labels, rows.embeddings, codes), by).filter(pa.array(judgeable))
    alone = int((~judgeable).sum())
    if not alone:
        return table, []
    return table, [
        f"{alone:,} images were left out: their label is in one group only, so no other group can name them."
    ]


def _named(
    rows: JudgedRows, groups: Sequence[str | None] | None, names: Sequence[str | None], by: Sequence[str] = ()
) -> pa.Table:
    from birder.evaluation.predictions import from_columns

    ids, uris = (rows.values[name].to_pylist() for name in ("id", "uri"))
    return from_columns(ids, uris, groups, rows.labels, names, extra=_extra(rows, by))


def _results(
    table: pa.Table | None,
    classes: Sequence[str] | None,
    seed: int,
    by: Sequence[str],
    unknown: pa.Table | None,
    rows: JudgedRows,
    show: Show,
) -> dict[str, Any]:
    from birder.evaluation.evaluate import SCHEMA_VERSION, evaluate_predictions
    from birder.evaluation.unknown_table import scores_of

    if table is None:
        return {"schema": SCHEMA_VERSION, "n": len(rows)}
    show("computing the figures", 0.0)
    scores, of = (None, None) if unknown is None else scores_of(unknown)
    return evaluate_predictions(table, classes=classes, seed=seed, by=by, unknown=scores, unknown_groups=of)


def _protocols(
    storage: Storage,
    rows: JudgedRows,
    groups: Groups,
    protocols: Sequence[str],
    as_: Variant | None,
    seed: int,
    load_clip: Callable[[], LoadedClip],
    show: Show,
) -> dict[str, Any]:
    from birder.collection.text_encoder import shared_features, text_encoder_is_here
    from birder.evaluation.protocols import run
    from birder.learning.splits import make_folds

    apart = None if groups.kind == "random" or groups.count == len(rows) else groups.codes
    _, codes = np.unique(np.array(rows.labels, object), return_inverse=True)
    folds = make_folds(codes.astype(np.int64), groups.codes, FOLDS, seed).of if "linear" in protocols else None
    # As published, few-shot is judged on projected features: with the text encoder, if nothing has to be fetched.
    projected = as_ is not None and text_encoder_is_here(storage)
    clip = load_clip() if "zero-shot" in protocols or projected else None
    features = None if clip is None else shared_features(storage, clip, rows.embeddings)
    found = {}
    for name in dict.fromkeys(protocols):
        show(name, 0.0)
        published = name == "few-shot" and as_ is not None
        order = rows.as_written if published else slice(None)  # as published, folds depend on the order of rows
        found[name] = run(
            name,
            rows.embeddings[order],
            [rows.labels[place] for place in rows.as_written] if published else rows.labels,
            groups=apart if apart is None or published else apart[order],
            folds=folds,
            seed=seed,
            as_=as_ if published else None,
            features=None if features is None else features[order],
            clip=clip,
            progress=lambda done, name=name: show(name, done),  # type: ignore[misc]
        )
    return found


def _compared(
    storage: Storage,
    against: Storage,
    rows: JudgedRows,
    groups: Groups,
    names: list[str] | None,
    predictions: str | None,
    seed: int,
) -> dict[str, Any]:
    """Two collections on the images that both have: by their predictions, else by the label of the nearest image."""
    from birder.evaluation.compare import compare

    columns = [*PAIRED_BY, *([] if predictions is None else [predictions])]
    tables, blocks = [], []
    for table, embeddings in against.embedding_batches(columns):
        tables.append(table)
        blocks.append(embeddings if predictions is None else embeddings[:, :0])
    others = pa.concat_tables(tables) if tables else pa.table({name: [] for name in columns})
    mine, theirs, _ = pair_rows(rows.values, others)
    if not len(mine):
        raise CollectionError(
            f"{against.path} has none of the labelled images of {storage.path}, by id, content (sha256) or uri."
        )
    both = np.zeros(len(rows), bool)
    both[mine] = True
    shared = rows.keep(both)
    tags = None if names is None else [names[place] for place in mine]
    if predictions is None:
        codes = groups.codes[mine]
        vectors = (shared.embeddings, np.concatenate(blocks)[theirs])
        pair = tuple(nearest_labels(shared.labels, each, codes) for each in vectors)
        how = "Each image is named by the nearest image of another group, with the embeddings of either model."
        kept = pa.array(_judgeable(shared, codes, storage))
    else:
        told = [each or None for each in others[predictions].take(pa.array(theirs)).to_pylist()]
        pair = (shared.texts(predictions), told)
        how = f"The names in {predictions} of either collection."
        kept = pa.array(np.ones(len(shared), bool))
    first, second = (_named(shared, tags, each).filter(kept) for each in pair)
    same = storage.model.name == against.model.name
    called = [str(each.path) if same else each.model.name for each in (storage, against)]
    return {"names": called, "how": how, **compare(first, second, seed=seed)}


def _made(storage: Storage, groups: Groups, seed: int, classifier: Classifier | None) -> dict[str, Any]:
    """How it was made: enough to do it again."""
    from birder.collection.backbone import describe_backbone
    from birder.evaluation.provenance import versions

    card = storage.model
    made: dict[str, Any] = {
        "groups": {"kind": groups.kind, "count": groups.count, "how": list(groups.how)},
        "model": {"name": card.name, "sha256": card.sha256, "backbone_sha256": describe_backbone(storage)["sha256"]},
        "transform": dict(card.transform),
        "engine": f"{card.engine} {card.precision}",
        "seeds": {"folds and intervals": seed},
        "versions": versions(),
    }
    if classifier is not None and classifier.adaptation.get("unknown"):
        told = classifier.adaptation["unknown"]
        made["unknown"] = {"threshold": told["threshold"], "how": told.get("how")}
    return made
