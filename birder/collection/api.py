"""The collection as users hold it: what the command line and the page can do, in as few lines of Python."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Unpack

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from birder.analysis.activity import Activity
from birder.analysis.agreement import Agreement
from birder.analysis.duplicates import THRESHOLD, find_duplicates
from birder.analysis.projection import MapPoints, read_map
from birder.analysis.sequences import summarise_sequences
from birder.analysis.stats import Stats, ValueCount, stats, value_counts
from birder.collection.accepting import Accepted, accept
from birder.collection.backbone import with_backbone
from birder.collection.backup import Backup, backup
from birder.collection.detection import Empty
from birder.collection.filter import Filter, as_filter
from birder.collection.index import IndexStatus, index_status, make_index
from birder.collection.journal import Change
from birder.collection.keys import ids_of_keys, ids_of_rows
from birder.collection.labels import HistoryPage, Undone, give_label, history
from birder.collection.maintenance import KEEP, Tidied, tidy
from birder.collection.model import Encoder, load_encoder_of
from birder.collection.notebook import Card, facts_html, gallery_html
from birder.collection.progress import (
    DetectShow,
    EmbedProgress,
    StageProgress,
    detecting_shown,
    embedding_shown,
    iterate_progress,
    stages_shown,
)
from birder.collection.relocate import Check, Relocated, relocate, undo
from birder.collection.results import (
    Duplicates,
    HeldOut,
    ImageFeatures,
    Predictions,
    Rows,
    SearchResults,
    Sequences,
    to_pandas,
    to_polars,
)
from birder.collection.schema import FAILURES, VECTORS, ModelCard
from birder.collection.sequencing import (
    Shifted,
    clock_error,
    duration,
    is_shift,
    make_sequences,
    sequences_follow,
    shift_time,
    undo_shift,
)
from birder.collection.storage import Storage, exists
from birder.collection.wrong_boxes import without_wrong_boxes
from birder.errors import ConfigError, file_exists, unknown_name
from birder.files import at_home
from birder.formats.boxes import BoxFormat
from birder.formats.camtrap import Project
from birder.formats.export import export
from birder.formats.import_predictions import import_predictions
from birder.formats.table import ExportFormat, ExportReport
from birder.learning.suggest import Order, Suggestions, suggest
from birder.naming.method import DEFAULT_METHOD
from birder.pipeline.run import EmbedOptions, EmbedReport, Progress, encoder_spec, run_embed
from birder.registry import DEFAULT_WEIGHTS
from birder.sources import readable_path
from birder.taxonomy import RANKS

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl

    from birder.collection.comparing import Comparison
    from birder.collection.detecting import Detected
    from birder.collection.evaluating import Evaluation
    from birder.collection.training import Estimated, Trained
    from birder.evaluation.few_shot import Variant
    from birder.learning.adapt import Adapted
    from birder.learning.make_shards import ShardsMade
    from birder.learning.splits import Split
    from birder.naming.class_words import ClassWords
    from birder.weights.clip import LoadedClip

Paths = str | Path | Sequence[str | Path]
Vector = npt.NDArray[np.float32]

_IN_NOTEBOOK = 8  # images that a collection shows of itself


@dataclass(frozen=True)
class ImportReport:
    """What an import did.

    Attributes
    ----------
    collection
        The collection that has them now.
    new, changed, already
        Rows that are new, rows whose values changed, and rows that were already there.
    failed
        Rows without a usable embedding; `Collection.failures` lists them.
    off_earth
        Rows with a latitude or longitude out of range, which is left empty.
    predicted
        Rows that got a prediction; None for a file of embeddings.
    nameless, unknown
        Images in a file of predictions without one, and images that are not in the collection.
    notes
        Whether the model that was named made the embeddings, where images on this machine tell.
    """

    collection: Collection
    new: int = 0
    changed: int = 0
    already: int = 0
    failed: int = 0
    off_earth: int = 0
    predicted: int | None = None
    nameless: int = 0
    unknown: int = 0
    notes: tuple[str, ...] = ()


class Collection:
    """Embeddings of images on disk, with their labels, predictions and columns: one row an image.

    `birder.open_collection` and `birder.create_collection` make one; `len`, `in` (a path, uri or id) and iteration (in
    batches, without vectors) work on it.

    Examples
    --------
    >>> import birder
    >>> collection = birder.create_collection("birds.birder", model="efficientnet_lite0_in1k")
    >>> report = collection.embed("photos/birds")
    >>> len(collection), report.embedded, report.failed
    (27, 27, ())
    >>> "photos/birds/owl.jpg" in collection
    True
    >>> for row in collection.search(images="photos/birds/owl.jpg", k=3):
    ...     print(f"{row['similarity']:.2f}", row["uri"].rpartition("/")[2])
    0.62 silver-gull.jpg
    0.50 guineafowl.jpg
    0.49 cuckoo.jpg
    """

    def __init__(
        self,
        storage: Storage,
        *,
        device: str | None = None,
        engine: str = "auto",
        compile: bool = False,
        encoder: Encoder | None = None,
    ) -> None:
        self._storage = storage
        self._device = device
        self._engine = engine
        self._compile = compile
        self._encoders: dict[str | None, Encoder] = {} if encoder is None else {None: encoder}
        self._text_models: dict[str | None, LoadedClip] = {}
        self._words: ClassWords | None = None
        self._words_are_read = False

    @property
    def path(self) -> Path:
        """Its folder."""
        return self._storage.path

    @property
    def model(self) -> ModelCard:
        """What made its embeddings: name, source, sha256, transform, engine, precision, embedding_size."""
        return self._storage.model

    @property
    def columns(self) -> dict[str, pa.DataType]:
        """Names and Arrow types of its columns, in their order."""
        return self._storage.columns

    def __len__(self) -> int:
        return self._rows.count()

    def __bool__(self) -> bool:
        return True

    def __contains__(self, row: object) -> bool:
        return isinstance(row, str | Path) and bool(ids_of_keys(self._rows, [row]))

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        return self.batches()

    def __repr__(self) -> str:
        return f"<Collection {str(self.path)!r}: {len(self):,} images, {self.model.name}>"

    def _repr_html_(self) -> str:
        facts = {
            "images": f"{len(self):,}",
            "failures": f"{len(self.failures()):,}",
            "model": f"{self.model.name}, {self.model.embedding_size}-dimensional embeddings",
            "columns": ", ".join(self.columns),
        }
        columns = [name for name in ("uri", "label") if name in self.columns]
        first = next(self.batches(columns), None)
        rows = [] if first is None else first.slice(0, _IN_NOTEBOOK).to_pylist()
        cards = [Card(row["uri"], Path(readable_path(row["uri"])).name, [row.get("label") or ""]) for row in rows]
        return facts_html(str(self.path), facts) + gallery_html(cards)

    # What is in it

    def refresh(self) -> None:
        """Reload what other processes have committed; this object's own changes are visible at once."""
        self._storage.see_latest()

    def count(self, where: str | Filter | None = None) -> int:
        """Count the rows that match a filter (default: all rows).

        Raises
        ------
        FilterError
            The filter cannot be used.
        """
        return self._rows.count(where)

    def batches(
        self, columns: Sequence[str] | None = None, where: str | Filter | None = None
    ) -> Iterator[pa.RecordBatch]:
        """Iterate over the rows, some thousands at a time.

        Parameters
        ----------
        columns
            Which columns (default: all but the vectors, `embedding` and `patches`).
        where
            A filter: SQL over the columns, as in "label = 'owl' AND latitude > 50".

        Raises
        ------
        FilterError
            The filter cannot be used.
        UnknownNameError
            The column does not exist.
        """
        return self._rows.scan(self._known(columns), where=where)

    def embedding_batches(
        self, columns: Sequence[str] = ("uri",), where: str | Filter | None = None
    ) -> Iterator[tuple[pa.Table, Vector]]:
        """Iterate over the embeddings, a thousand or more at a time; parameters as for `batches`.

        Yields
        ------
        The columns (B rows); and the embeddings (B, D) float32, not normalised.
        """
        return self._rows.embedding_batches(columns, where)

    def to_arrow(self, columns: Sequence[str] | None = None, where: str | Filter | None = None) -> pa.Table:
        """The rows as a pyarrow table; parameters as for `batches`."""
        names = self._known(columns)
        if batches := list(self.batches(names, where)):
            return pa.Table.from_batches(batches)
        return pa.schema([(name, self.columns[name]) for name in names]).empty_table()

    def to_pandas(self, columns: Sequence[str] | None = None, where: str | Filter | None = None) -> pd.DataFrame:
        """The rows as a pandas DataFrame; parameters as for `batches`.

        Raises
        ------
        MissingPackageError
            pandas is not installed.
        """
        return to_pandas(self.to_arrow(columns, where))

    def to_polars(self, columns: Sequence[str] | None = None, where: str | Filter | None = None) -> pl.DataFrame:
        """The rows as a polars DataFrame; parameters as for `batches`.

        Raises
        ------
        MissingPackageError
            polars is not installed.
        """
        return to_polars(self.to_arrow(columns, where))

    def ids(self, where: str | Filter | None = None) -> list[str]:
        """The ids of the rows that match a filter (default: all rows)."""
        return [id_ for batch in self._rows.scan(["id"], where=where) for id_ in batch["id"].to_pylist()]

    def failures(self) -> Rows:
        """The images that could not be read: uri, reason, bytes, modified, etag, failed_at; sorted by uri."""
        return Rows(pa.Table.from_pylist(self._rows.failures(), FAILURES))

    def stats(self, *, where: str | Filter | None = None, to: str | Path | None = None) -> Stats:
        """Summarise it: rows, failures, model, and the values of each column.

        Parameters
        ----------
        where
            A filter: only these rows. Failures have no columns, and are counted in any case.
        to
            Also plot the most frequent labels and taxa to a .png, .svg or .pdf file.

        Raises
        ------
        ConfigError
            No row has a label or a taxon.
        FilterError
            The filter cannot be used.
        """
        found = stats(self._rows, where=where)
        if to is not None:
            from birder.collection.drawing import draw_taxa

            draw_taxa(self._rows, found, to, where)
        return found

    def value_counts(
        self, column: str = "label", *, where: str | Filter | None = None, to: str | Path | None = None
    ) -> list[ValueCount]:
        """The values of a column and their row counts, the most frequent first; rows without a value last.

        Parameters
        ----------
        column
            The column.
        where
            A filter: only these rows, and shares of these.
        to
            Also plot them to a .png, .svg or .pdf file.

        Raises
        ------
        UnknownNameError
            The column does not exist.
        FilterError
            The filter cannot be used.

        Examples
        --------
        >>> collection = birder.open_collection("photos.birder")
        >>> [(each.value, each.count) for each in collection.value_counts("label")][:3]
        [('birds', 27), ('flowers', 18), ('bovines', 12)]
        """
        counts = value_counts(self._rows, column, where=where)
        if to is not None:
            from birder.plots.map_image import draw_counts

            draw_counts({column: counts}, to)
        return counts

    def agreement(
        self,
        columns: Sequence[str] = RANKS,
        *,
        where: str | Filter | None = None,
        to: str | Path | None = None,
    ) -> list[Agreement]:
        """How often the nearest image is of the same taxon, for each rank.

        Parameters
        ----------
        columns
            Columns of text: the ranks, or label, or others.
        where
            A filter: only these rows, which are compared with each other.
        to
            Also plot it to a .png, .svg or .pdf file.

        Raises
        ------
        ConfigError
            No two rows with different content have a value there.
        FilterError
            The filter cannot be used.
        """
        from birder.collection.drawing import agreement_of

        return agreement_of(self._rows, columns, to, where)

    # Adding images

    def embed(
        self,
        images: Paths = (),
        *,
        table: str | Path | None = None,
        crops: str | Path | None = None,
        detect: bool | str | Path = False,
        empty: Empty = "keep",
        min_confidence: float = 0.2,
        folder_labels: bool = True,
        deployment_from: int | None = None,
        fps: float = 1.0,
        max_frames: int | None = None,
        retry_failed: bool = False,
        as_new: bool = False,
        batch_size: int = 32,
        threads: int | None = None,
        ray: str | None = None,
        progress: EmbedProgress = "auto",
        stop: threading.Event | None = None,
    ) -> EmbedReport:
        """Embed images. Existing rows are left alone; unreadable images are listed and never end the run.

        Rows are committed continually: after Ctrl-C or a crash, the next run embeds what is missing.

        Parameters
        ----------
        images
            Files, folders (searched recursively), patterns ("trap/**/*.jpg"), URLs; videos (.mp4, .mov, .avi,
            .mkv, .m4v); tables that name images (.csv, .parquet), shards (.tar, .parquet), Camtrap DP packages.
            None, with `retry_failed`: those that failed before.
        table
            A CSV or Parquet file with more columns, joined by file_name; existing rows get them too. Or one that
            `export` wrote, edited: its rows are found by `uri`, else by `id`, with or without images; only what was
            changed is written, labels by people stay, and Birder's own columns and predictions are not read.
        crops
            MegaDetector's results (JSON): embed each animal's box, not the image. `images` is then the one folder that
            its file names are relative to.
        detect
            Find animals, and embed each animal's box, not the image: True for the detector that is installed with
            Birder, or a registered name or ONNX file as for `birder.detect`. Each image is decoded once, at full size.
        empty
            With `detect` or `crops`, for an image without an animal: "keep" a row of the whole image, whose `category`
            is "empty", "person" or "vehicle", so that an animal that the detector missed can still be found and
            labelled; or embed nothing, and with `detect` "note" it among the failures ("no animal found").
        min_confidence
            With `crops` or `detect`: the minimum confidence of a box.
        folder_labels
            Use the name of a file's folder as its label, unless another source provides one.
        deployment_from
            Use the name of a folder above each image as its `deployment`: 1 is the first one below the folder given.
            It is then not a label. Existing rows get it, too.
        fps
            Frames of a video that are embedded a second, from its first frame on; never more than it has.
        max_frames
            The most frames of each video, from its beginning (default: all).
        retry_failed
            Retry images that failed before.
        as_new
            Embed images whose files have moved as new ones, without their labels, instead of asking to `relocate` them.
        batch_size
            Images embedded at once.
        threads
            Threads that read and decode (default: one per processor, or 16 for remote images).
        ray
            The address of a Ray cluster to run on; "auto" for the one that this machine belongs to, "local" for this
            machine only.
        progress
            Called with a `birder.Progress` when the model is loaded and after each batch; "auto": a bar in a terminal
            or notebook; None: nothing is shown.
        stop
            Once set, images already decoded are embedded and committed, and the run ends.

        Returns
        -------
        What was embedded, what already had a row, and what failed.

        Raises
        ------
        ConfigError
            No image is given or found, or the table cannot be read.
        CollectionBusyError
            Another process is adding images.
        ImagesMovedError
            Images already have rows, under the uris of a folder that they have left: `relocate` them.

        Examples
        --------
        >>> collection = birder.open_collection("photos.birder")
        >>> report = collection.embed("photos")
        >>> report.embedded, report.already
        (0, 129)
        """
        with embedding_shown(progress) as on_progress:
            return self._embed(
                paths_of(images),
                on_progress,
                stop,
                table=table,
                crops=crops,
                detect=detect,
                empty=empty,
                min_confidence=min_confidence,
                folder_labels=folder_labels,
                deployment_from=deployment_from,
                fps=fps,
                max_frames=max_frames,
                retry_failed=retry_failed,
                as_new=as_new,
                batch_size=batch_size,
                threads=threads,
                ray=ray,
            )

    def detect(
        self,
        *,
        where: str | Filter | None = None,
        model: str | Path | None = None,
        min_conf: float = 0.05,
        to: str | Path | None = None,
        format: BoxFormat = "megadetector",
        force: bool = False,
        threads: int | None = None,
        progress: DetectShow = "auto",
        stop: threading.Event | None = None,
    ) -> Detected:
        """Find animals, persons and vehicles on the images of the rows, which are not embedded again.

        Rows of whole images get `category` and `confidence` of their most confident box, with animals
        before persons and vehicles, or the category "empty"; boxes with a confidence below 0.2 do not count. Labels are
        not touched. To have a row for each animal, embed the images into another collection: `embed(images,
        detect=True)`.

        Parameters
        ----------
        where
            A filter: only the images of these rows, and only these rows are changed.
        model, min_conf, format, force, threads, progress, stop
            As for `birder.detect`.
        to
            Also write the boxes to a file; names in it are relative to `Detected.folder`, the deepest that has all
            images, so that `embed(folder, crops=to)` reads it.

        Returns
        -------
        The boxes of each image, or why it could not be read.

        Raises
        ------
        ConfigError
            The collection has no such rows, or its column `category` was filled by the user.
        UnknownNameError, WeightsError
            The detector is not known, or its graph cannot be run.
        FileExistsError
            Birder's own: the file exists, and `force` is not set.
        """
        from birder.collection.detecting import detect_rows

        with detecting_shown(progress) as show:
            return detect_rows(
                self._rows,
                where,
                model=model,
                min_conf=min_conf,
                to=to,
                form=format,
                force=force,
                threads=threads,
                on_progress=show,
                stop=stop,
            )

    def iter_embed(self, images: Paths = (), **options: Unpack[EmbedOptions]) -> Generator[Progress, None, EmbedReport]:
        """Embed images as `embed` does, and yield the progress after each batch.

        The run proceeds in its own thread. Closing the generator, or Ctrl-C, ends the run: images already
        decoded are still embedded and committed, and nothing is lost.

        Parameters
        ----------
        images, options
            As for `embed`.

        Yields
        ------
        The progress.

        Returns
        -------
        The report, as the generator's return value.

        Examples
        --------
        >>> collection = birder.open_collection("photos.birder")
        >>> for progress in collection.iter_embed("photos"):
        ...     print(progress.already, progress.total)
        129 0
        """
        run = functools.partial(self._embed, paths_of(images), **options)
        return (yield from iterate_progress(run))

    def _embed(
        self,
        images: Sequence[str | Path],
        on_progress: Callable[[Progress], None] | None,
        stop: threading.Event | None,
        **options: Unpack[EmbedOptions],
    ) -> EmbedReport:
        storage = self._storage
        spec = encoder_spec(storage, device=self._device, engine=self._engine, compile=self._compile)
        encoder = self._encoders.get(None)
        draft = storage.model.transform.get("draft", True)
        _, encoder, report = run_embed(
            self.path,
            storage,
            images,
            spec,
            encoder=encoder,
            draft=draft,
            on_progress=on_progress,
            stop=stop,
            **options,
        )
        if encoder is not None:
            self._encoders[None] = encoder
        return with_sequences(storage, report)

    def import_predictions(self, file: str | Path, *, model: str | None = None) -> ImportReport:
        """Import predictions by another tool into the columns predicted_... of existing rows.

        Parameters
        ----------
        file
            SpeciesNet's predictions.json, or the CSV of `bioclip predict`.
        model
            The model that made them; not needed if the file names it.
        """
        done = import_predictions(Path(file), self._storage, model=model)
        return ImportReport(self, predicted=done.rows, nameless=done.unnamed, unknown=done.unmatched)

    # Searching

    def search(
        self,
        *,
        images: Paths = (),
        texts: str | Sequence[str] = (),
        ids: str | Sequence[str] = (),
        unlike: str | Path | Vector | Sequence[str | Path | Vector] = (),
        vectors: Sequence[Vector] = (),
        where: str | Filter | None = None,
        k: int = 20,
        columns: Sequence[str] = (),
        exact: bool = False,
        model: str | None = None,
    ) -> SearchResults:
        """Find the rows most similar to what is wanted, and dissimilar to what is not.

        Similarity is the mean of the cosines with what is wanted, less the mean of those with what is not.

        Parameters
        ----------
        images
            Files of images.
        texts
            Descriptions of what they should show, for the model's text encoder. Of a model without one that has class
            names: words for classes and what classes have in common ("owl", "bird -owl", "hawk, eagle"); similarity
            is then their summed probability.
        ids
            Rows of the collection: their id, uri or file name.
        unlike
            What they should not resemble: a row's id, uri or file name, else a text; a `Path` is a file, an array a
            vector.
        vectors
            Embeddings, (D,) float32 each, as the network computes them.
        where
            A filter, applied first: SQL over the columns, as in "family = 'Corvidae' AND taken_at >= '2024-05-01'".
            Without a query, the matching rows are ordered by uri.
        k
            How many rows.
        columns
            Which columns (default: all but `embedding` and `patches`).
        exact
            Compare all rows even if there is an index.
        model
            The whole model whose text encoder belongs to the embeddings (default: the collection's own).

        Returns
        -------
        The rows, nearest first. Rows of `images`, `ids` and `unlike` themselves are left out.

        Raises
        ------
        FilterError
            The filter cannot be used.
        RowNotFoundError
            No row has one of the ids.
        CollectionError
            A vector does not fit, or wanted and unwanted queries cancel each other out.
        ImageError
            An image cannot be read.
        NoTextEncoderError
            Texts were given, and the model has neither a text encoder nor class names.
        UnknownNameError
            No class is known by a word.

        Examples
        --------
        >>> collection = birder.open_collection("photos.birder")
        >>> collection.search(ids="frog.jpg", where="label = 'amphibians'", k=1, columns=["label"]).to_list()
        [{'similarity': 0.60..., 'label': 'amphibians'}]
        """
        from birder.collection.searching import Query, search_rows  # LanceDB comes with it

        query = Query(
            images=paths_of(images),
            texts=[texts] if isinstance(texts, str) else list(texts),
            ids=[ids] if isinstance(ids, str) else list(ids),
            unlike=[unlike] if isinstance(unlike, str | Path | np.ndarray) else list(unlike),
            vectors=vectors,
        )
        return search_rows(
            self._rows,
            query,
            where,
            k,
            columns,
            exact=exact,
            load_encoder=lambda: self._encoder(model),
            load_clip=lambda: self._text_model(model),
            load_words=lambda: self._class_words() if model is None else None,
        )

    def duplicates(
        self, *, threshold: float = THRESHOLD, where: str | Filter | None = None, progress: StageProgress = "auto"
    ) -> Duplicates:
        """Find images with the same content, and ones whose embeddings are nearly the same.

        A group of the kind "similar" is made around its largest image: all others are at least as similar to it as the
        threshold. Up to 200,000 images, all pairs are compared; of more, each is compared with those that a graph of
        neighbours proposes, which may miss some, and the result says so.

        Parameters
        ----------
        threshold
            The minimum cosine of similar images, above 0 and at most 1.
        where
            A filter: only these rows are compared.
        progress
            Called with ("comparing", the share that is done); "auto" for a bar in a terminal or notebook.

        Returns
        -------
        The groups: those of the same content first; in each, the largest image first.

        Raises
        ------
        ConfigError
            The threshold is outside (0, 1].

        Examples
        --------
        >>> collection = birder.open_collection("photos.birder")
        >>> collection.duplicates(threshold=0.9)
        <Duplicates: 0 groups, threshold 0.9>
        """
        with stages_shown(progress) as show:
            tell = None if show is None else functools.partial(show, "comparing")
            groups, by_graph = find_duplicates(self._rows, threshold=threshold, where=where, progress=tell)
        return Duplicates(tuple(groups), threshold, str(self.path), by_graph)

    # Names and labels

    def predict(
        self,
        images: Paths | None = None,
        *,
        labels: str | Path | Sequence[str] | None = None,
        bins: str | Path | None = None,
        subset: str | Path | Mapping[str, Sequence[str]] | None = None,
        rank: str | None = None,
        text_type: str | None = None,
        templates: Sequence[str] | None = None,
        examples: str | Path | Collection | None = None,
        column: str | None = None,
        method: str | None = None,
        where: str | Filter | None = None,
        k: int = 5,
        min_score: float = 0.0,
        save: bool = False,
        by: str | None = None,
        model: str | Path | None = None,
        deepest: float | None = None,
        batch_size: int = 16,
        progress: StageProgress = "auto",
    ) -> Predictions:
        """Name images, by texts, by labelled examples, or by a classifier from a file.

        Scores by texts are probabilities over all labels. With `examples` or `column`, names come from labelled rows,
        and scores are 1 - distance / 2 to the mean of a class. With the file of a classifier as `model`, scores are its
        probabilities; one that `birder adapt` wrote adds columns: `unknown` and `unknown_score` (the cosine distance to
        what it learned from), and `set`, the classes that cannot be ruled out.

        Parameters
        ----------
        images
            Files, folders and patterns (default: the rows of the collection, which are not embedded again).
        labels
            What to choose from: a list; "a,b,c"; a text file, one a line; a table of taxa (.csv, .parquet) with columns
            named by rank; or TreeOfLife's embeddings (.npy beside their .json). Default: TreeOfLife's, from the hub. A
            model with class names and no text encoder takes a list of words for its classes and what they have in
            common; a word's score is the summed probability of its classes.
        bins
            A table of two columns: labels and their bins.
        subset
            Only these taxa: a table with one column, named by its rank, or lists of names by rank,
            {"genus": ["Pica", "Corvus"]}.
        rank
            Name at this rank: a genus has the sum over its species.
        text_type
            How taxa of a table are written: "common", "scientific", "taxonomic", "scientific+common", or
            "taxonomic+common" (default).
        templates
            Texts with one {} where the label goes (default: the 80 of OpenAI).
        examples
            The collection whose labelled rows are the examples (default, with `column`: this one).
        column
            The column that their labels are in (default: "label").
        method
            How examples name: "simpleshot" (default), by the nearest class mean; or "knn", by the nearest examples.
        where
            A filter: name only these rows.
        k
            The most names per image.
        min_score
            Leave out names with a lower score.
        save
            Save the best name of each row in its columns predicted_...; labels are not changed.
        by
            "sequence": one answer for all rows of a sequence (see `sequences`), from the mean of their log
            probabilities, or of their scores where names come from examples. The result has a row for each sequence and
            name, with `sequence`, the number of its `rows`, and the first of them as `path`; saved, it is in columns
            predicted_sequence_... beside each row's own.
        model
            The whole model whose text encoder belongs to the embeddings (default: the collection's own). Or the file of
            a classifier on the collection's embeddings, which are not made again: a checkpoint or a detached head that
            `birder adapt` wrote, or another checkpoint with class names.
        deepest
            With a classifier that has ranks: also name, in `deepest`, `deepest_rank` and `deepest_score`, the deepest
            rank whose summed probability reaches this, and whose precision at that threshold did in cross-validation.
        batch_size
            With `images` and texts: number of images embedded at once.
        progress
            Called with ("encoding labels", the share that is done); "auto" for a bar in a terminal or notebook.

        Returns
        -------
        The names, the best first for each image.

        Raises
        ------
        ConfigError
            Options that exclude each other, or a file that cannot be used.
        NoTextEncoderError
            The model has no text encoder.
        WrongModelError
            The examples, the model or the classifier do not belong to the embeddings.

        Examples
        --------
        >>> collection = birder.open_collection("photos.birder")
        >>> collection.predict("photos/birds/owl.jpg", column="label", k=1)[0]["label"]
        'birds'
        """
        from birder.collection.predicting import LabelledRows, predict_names  # torch comes with it

        def labelled_rows() -> LabelledRows:
            source = self if examples is None else _opened(examples)
            return LabelledRows(source._rows, column or "label", source._encoder)

        return predict_names(
            self._rows,
            None if images is None else paths_of(images),
            load_examples=None if examples is None and column is None else labelled_rows,
            load_clip=lambda: self._text_model(None if model is None else str(model)),
            load_words=self._class_words,
            load_encoder=self._encoder,
            method=method,
            model=model,
            deepest=deepest,
            where=where,
            k=k,
            min_score=min_score,
            save=save,
            by=by,
            batch_size=batch_size,
            progress=progress,
            labels=labels,
            bins=bins,
            subset=subset,
            rank=rank,
            text_type=text_type,
            templates=templates,
        )

    def features(
        self,
        images: Paths | None = None,
        *,
        where: str | Filter | None = None,
        to: str | Path | None = None,
        model: str | None = None,
        batch_size: int = 16,
        force: bool = False,
    ) -> ImageFeatures:
        """Image features in the space that images and texts share, all of them in memory.

        Parameters
        ----------
        images
            Files, folders and patterns (default: the rows of the collection, which are not embedded again).
        where
            A filter: only these rows of the collection.
        to
            Also write them: .parquet, .json (as `bioclip embed` writes it), .csv, or .npy with a .csv beside it.
        model
            The whole model whose text encoder belongs to the embeddings (default: the collection's own).
        batch_size
            With `images`: number of images embedded at once.
        force
            Replace existing files.

        Raises
        ------
        NoTextEncoderError
            The model has no text encoder, so there is no such space.
        ImageError
            No image could be read.
        CollectionError
            There are no rows, or none that match.
        ConfigError
            Images and a filter.
        FilterError
            The filter cannot be used.
        """
        from birder.collection.predicting import collect_features

        if images is not None and where is not None:
            raise ConfigError("A filter chooses rows of the collection: leave out images or where.")
        storage = None if images is not None else self._rows
        chosen = as_filter(where, self.columns)  # before a model is loaded
        return collect_features(
            self._text_model(model), storage, paths_of(images or ()), batch_size, to, force, where=chosen
        )

    def hold_out(
        self,
        column: str = "label",
        share: float = 0.25,
        *,
        where: str | Filter | None = None,
        method: str = DEFAULT_METHOD,
        k: int = 5,
        min_score: float = 0.0,
    ) -> HeldOut:
        """Name labelled images that are held out of the examples, and measure the accuracy.

        Parameters
        ----------
        column
            The column with the labels.
        share
            The share of each class that is held out; between 0 and 1.
        where
            A filter: only these rows, as examples and held out.
        method
            As for `predict`.
        k, min_score
            As for `predict`; they limit the names in the rows, not the counts.

        Raises
        ------
        ConfigError
            No class is large enough.

        Examples
        --------
        >>> collection = birder.open_collection("photos.birder")
        >>> found = collection.hold_out("label", 0.25)
        >>> found.right, found.images
        (20, 32)
        """
        from birder.collection.predicting import held_out_predictions
        from birder.naming.predict import name_held_out

        found = name_held_out(self._rows, column, share, k, method=method, where=where)
        return held_out_predictions(found, self.model.sha256, k, min_score)

    def adapt(
        self,
        column: str,
        *,
        where: str | Filter | None = None,
        group_by: str | Sequence[str] = (),
        split: Split = "groups",
        min_examples: int = 5,
        folds: int = 5,
        seed: int = 0,
        unknown: float | None = 0.95,
        taxonomy: str | Path | None = None,
        report: str | Path | None = None,
        progress: StageProgress = "auto",
    ) -> Adapted:
        """Learn a classifier from labels, on the stored embeddings, and measure it on images that it has not seen.

        Multinomial logistic regression; its strength and its temperature are found by cross-validation, in which images
        of one group are never on both sides of a split, and all its figures come from there. No label is changed. The
        same rows and seed give the same classifier, byte for byte.

        Parameters
        ----------
        column
            The column with the labels.
        where
            A filter: learn from these rows only.
        group_by
            Columns that tell groups apart: images with the same values in all of them share an animal, a burst or a
            specimen (default: the deployment; else images of one folder or camera, each taken within 60 s of the one
            before). Files with the same content and near-duplicates are always in one group.
        split
            "groups"; or "random", which may put images of one burst on both sides of a split.
        min_examples
            Leave out classes with fewer images.
        folds
            Parts of the cross-validation.
        seed
            Of the folds and of the resampling.
        unknown
            The share of images of known classes that keep their name; what is less like the examples is unknown. None:
            every image gets a name.
        taxonomy
            A .csv or .parquet file with the ranks above the classes: the column, and columns named by rank (default:
            the collection's columns of ranks).
        report
            Also write report.html, metrics.json and predictions.parquet into this folder.
        progress
            Called with the stage of the work and the share of it that is done; "auto" for a bar in a terminal or
            notebook; None: nothing is shown.

        Returns
        -------
        The classifier, with `metrics`, `predict`, `predict_proba` and `save`.

        Raises
        ------
        UnknownNameError
            There is no such column.
        ConfigError
            The column has no labels, only one class, or numbers; or all images are in one group.
        FilterError
            The filter cannot be used.

        Examples
        --------
        >>> collection = birder.open_collection("photos.birder")
        >>> adapted = collection.adapt("label")
        >>> adapted.classes
        ('birds', 'bovines', 'fish', 'flowers', 'insects', 'mammals', 'rodents', 'trees')
        >>> round(adapted.metrics["top1"]["estimate"], 1)
        0.8
        >>> adapted.save("groups.safetensors").name
        'groups.safetensors'
        """
        from birder.collection.adapting import adapt_collection

        return adapt_collection(
            self._rows,
            column,
            where=where,
            group_by=(group_by,) if isinstance(group_by, str) else tuple(group_by),
            split=split,
            min_examples=min_examples,
            folds=folds,
            seed=seed,
            unknown=unknown,
            taxonomy=None if taxonomy is None else Path(taxonomy),
            report=None if report is None else Path(report),
            progress=progress,
        )

    def train(
        self,
        column: str,
        to: str | Path,
        *,
        init: str | Path | None = None,
        where: str | Filter | None = None,
        group_by: str | Sequence[str] = (),
        unfreeze_last: int | Literal["all"] | None = None,
        epochs: int = 20,
        lr: float = 5e-4,
        batch_size: int = 32,
        accumulate: int = 1,
        size: int | None = None,
        balance: bool = False,
        device: str | None = None,
        seed: int = 0,
        resume: bool = False,
        force: bool = False,
        command: str | None = None,
        estimated: Estimated | None = None,
        progress: StageProgress = "auto",
        stop: threading.Event | None = None,
    ) -> Trained:
        """Train the network itself on the images and their labels; what `birder train` does.

        It begins with the classifier that `adapt` fits, and then lets the network learn as well: see docs/train.md. The
        images are read again, through the decoder that `embed` uses; one that cannot be read is listed, and never ends
        the training. A part of the labelled images, whole groups, is held out: it decides when to stop. The state is
        saved every five minutes and after each epoch. On one device, a training that was stopped or killed and then
        resumed gives the same network as one that was not, bit for bit. No label is changed.

        Parameters
        ----------
        column
            The column with the labels.
        to
            The checkpoint, .pt or .safetensors. NAME.report beside it has report.html, metrics.json and
            predictions.parquet; NAME.training has the state until the training ends.
        init
            Begin with the network and classifier of this file, of `adapt` or `train`; its classes are those of the
            labels.
        where
            A filter: learn from these rows only.
        group_by
            As for `adapt`.
        unfreeze_last
            Let so many blocks of the network learn, counted from its output; "all": the whole network (default: four
            fifths of the blocks).
        epochs
            The most epochs.
        lr
            The peak learning rate of the classifier; the layers before it learn more slowly.
        batch_size
            Images on a device at once.
        accumulate
            Compute each update from so many batches.
        size
            Height and width of the network's input in pixels (default: the network's own).
        balance
            Show images of every class equally often.
        device
            "cpu", "cuda", ... (default: best available).
        seed
            Of everything that is drawn.
        resume
            Go on with a training for this file that was stopped or killed.
        force
            Replace files, and begin anew where a training has not ended.
        command
            The command line that the report tells.
        estimated
            Called before the first update with the seconds that the training will take, measured on three batches, and
            the type of the device; what it raises prevents the training.
        progress
            As for `adapt`.
        stop
            When it is set, the training saves its state and ends.

        Raises
        ------
        ConfigError
            The labels cannot be learned from, or an argument is out of range.
        FileExistsError
            The checkpoint or its report exists, or a training for it has not ended.
        CollectionError
            The network's weights are out of reach, as of imported embeddings.
        MissingExtraError
            The extra "learn" is not installed.
        ImageError
            None of the images to validate on can be read.
        """
        from birder.collection.training import train_collection
        from birder.learning.finetune import Recipe

        return train_collection(
            self._rows,
            column,
            Path(to),
            init=None if init is None else Path(init),
            where=where,
            group_by=(group_by,) if isinstance(group_by, str) else tuple(group_by),
            size=size,
            recipe=Recipe(epochs, lr, batch_size, accumulate, unfreeze_last, balance, seed),
            device=device,
            resume=resume,
            force=force,
            command=command,
            estimated=estimated,
            progress=progress,
            stop=stop,
        )

    def evaluate(
        self,
        column: str = "label",
        *,
        predictions: str | None = None,
        model: str | Path | None = None,
        protocols: Sequence[str] = (),
        as_: Variant | None = None,
        against: str | Path | Collection | None = None,
        where: str | Filter | None = None,
        group_by: str | Sequence[str] = (),
        split: Split = "groups",
        by: str | Sequence[str] = (),
        seed: int = 0,
        taxonomy: str | Path | None = None,
        report: str | Path | None = None,
        progress: StageProgress = "auto",
    ) -> Evaluation:
        """Say how good names or embeddings are, against the labels of a column, with an interval for every figure.

        Nothing is written into the collection. All labelled rows that are judged are in memory with their embeddings.

        Parameters
        ----------
        column
            The column with the labels.
        predictions
            A column with predicted names: how often are they the labels?
        model
            The file of a classifier: how well does it name these images? Those that it was trained on, and
            near-duplicates of them, are found and left out. Embeddings are not computed again.
        protocols
            How well do the embeddings tell the labels apart? Any of "few-shot", "knn", "linear", "retrieval",
            "clusters" and "zero-shot".
        as_
            "bioclip-v1" or "bioclip-v2": few-shot as published there.
        against
            A collection of the same images by another model, matched as `compare` does: which is better, by the
            predictions if they are given, else by the embeddings?
        where
            A filter: judge these rows only.
        group_by, split
            As for `adapt`: images of one group are not independent, which makes intervals wider.
        by
            Columns: also tell the accuracy for each of their values (default: `group_by`). The deployment, and night
            and day, are told in any case where rows have them.
        seed
            Of the folds, the clusters and the intervals.
        taxonomy
            As for `adapt`: with ranks above the labels, names are also judged there.
        report
            Also write report.html, metrics.json and predictions.parquet into this folder, and unknown.parquet where the
            unknown was judged.
        progress
            As for `adapt`.

        Returns
        -------
        The figures, as `results` and `metrics`; and one row for each image judged, as `predictions`.

        Raises
        ------
        UnknownNameError
            There is no such column or protocol.
        ConfigError
            Options that exclude each other, or labels that are not text.
        CollectionError
            No row has a label, or the classifier was trained on all of them.
        WrongModelError
            The classifier was made for another model's embeddings.
        FilterError
            The filter cannot be used.

        Examples
        --------
        >>> collection = birder.open_collection("photos.birder")
        >>> found = collection.evaluate("label", protocols=["knn"])
        >>> found.metrics["knn.top1_k1"]["n"]
        128
        """
        from birder.collection.evaluating import evaluate_collection

        found = evaluate_collection(
            self._rows,
            column,
            predictions=predictions,
            model=model,
            protocols=(protocols,) if isinstance(protocols, str) else tuple(protocols),
            as_=as_,
            against=None if against is None else _opened(against)._rows,
            where=where,
            group_by=(group_by,) if isinstance(group_by, str) else tuple(group_by),
            split=split,
            by=(by,) if isinstance(by, str) else tuple(by),
            seed=seed,
            taxonomy=None if taxonomy is None else Path(taxonomy),
            load_clip=lambda: self._text_model(None),
            progress=progress,
        )
        if report is not None:
            found.save(report)
        return found

    def compare(
        self,
        other: str | Path | Collection,
        column: str = "label",
        *,
        predictions: str | None = None,
        where: str | Filter | None = None,
        group_by: str | Sequence[str] = (),
        split: Split = "groups",
        k: int = 10,
        seed: int = 0,
        progress: StageProgress = "auto",
    ) -> Comparison:
        """Compare two models on the same images: this collection, and another that a second model has embedded.

        Rows of the same image have the same id in both, or the same content, or the same uri. It is told how far both
        models agree on what is near to what (mutual k-NN, Huh et al. 2024, arXiv 2405.07987), how far they agree on
        names, and, where images are labelled, which of them is right more often, over all and for each class, with
        paired intervals and McNemar's exact test. Nothing is written into either collection.

        Parameters
        ----------
        other
            The other collection.
        column
            The column with the labels, if there are any; those of this collection before those of the other. An image
            that both label, and not alike, is left out of the accuracy.
        predictions
            A column with predicted names in both collections (default: the most exact of predicted_label and
            predicted_<rank> that both have filled; else labelled images are named by the nearest of another group).
        where
            A filter: only these rows of this collection.
        group_by, split
            As for `adapt`: images of one group are not independent, which makes intervals wider.
        k
            How many neighbours of each image are compared, fewer if there are no more images. Of more than 20,000
            images, so many are drawn, which are neighbours of each other.
        seed
            Of what is drawn, and of the intervals.
        progress
            As for `adapt`.

        Returns
        -------
        The figures, as `results`, `neighbours`, `agreement` and `difference`.

        Raises
        ------
        UnknownNameError
            There is no such column.
        CollectionError
            The collections have no image in common, or none was named by both.
        FilterError
            The filter cannot be used.

        Examples
        --------
        >>> collection = birder.open_collection("photos.birder")
        >>> found = collection.compare("photos.birder")  # the same model
        >>> found.neighbours, found.difference["top1"]["estimate"]
        (1.0, 0.0)
        """
        from birder.collection.comparing import compare_collections

        return compare_collections(
            self._rows,
            _opened(other)._rows,
            column,
            predictions=predictions,
            where=where,
            group_by=(group_by,) if isinstance(group_by, str) else tuple(group_by),
            split=split,
            k=k,
            seed=seed,
            progress=progress,
        )

    def suggest(
        self, column: str = "label", *, label: str | None = None, order: Order = "certain", limit: int = 100
    ) -> Suggestions:
        """Rank the rows without a label by a classifier that is fitted to those with one.

        Parameters
        ----------
        column
            The column with the labels.
        label
            Only suggestions of this label.
        order
            "certain": the most confident suggestions first; "useful": those that improve the classifier most.
        limit
            How many.
        """
        return suggest(self._rows, column, label=label, order=order, limit=limit)

    def label(
        self,
        rows: str | Path | Mapping[str, Any] | Iterable[str | Path | Mapping[str, Any]] | pa.Table,
        value: str | None,
        *,
        column: str = "label",
        author: str | None = None,
    ) -> Change:
        """Label rows. The label is on disk when this returns, takes precedence over predictions, and can be undone.

        Parameters
        ----------
        rows
            Which: ids, uris, paths or file names; what `search` or `predict` gave; a table with a column `id` or `uri`;
            or `collection.ids("a filter")`.
        value
            The label; None removes it.
        column
            A text column, added if it does not exist.
        author
            The author of the label.

        Returns
        -------
        The act, which `undo` accepts; its `count` is the number of rows that changed.

        Raises
        ------
        RowNotFoundError
            The row does not exist.
        CollectionError
            The folder is not writable.
        ConfigError
            A column or value that does not fit.

        Examples
        --------
        >>> collection = birder.open_collection("photos.birder")
        >>> act = collection.label(["owl.jpg", "frog.jpg"], "checked", column="status", author="Ada")
        >>> act.count, collection.count("status = 'checked'")
        (2, 2)
        >>> collection.undo(act).restored
        2
        """
        return give_label(self._storage, ids_of_rows(self._rows, rows), column, value, by=author)

    def accept(
        self,
        predicted: str = "predicted_label",
        *,
        above: float,
        where: str | Filter | None = None,
        author: str | None = None,
    ) -> Accepted:
        """Accept predictions: they become labels of the author's, in one act that `undo` takes back.

        Rows that a person or a table has given a value keep it; the name of a folder is replaced.

        Parameters
        ----------
        predicted
            The column with the predictions: "predicted_label" becomes `label`, "predicted_species" `species`.
        above
            The least score of a prediction that is accepted.
        where
            A filter: only these rows.
        author
            Who accepts.

        Raises
        ------
        UnknownNameError
            The collection has no such column.
        ConfigError
            It does not hold names that a model predicted.
        """
        return accept(self._storage, predicted, above=above, where=without_wrong_boxes(where, self.columns), by=author)

    def undo(self, act: Change | Relocated | Shifted | str | None = None) -> Undone:
        """Undo an act of labelling; rows that have been changed since stay as they are.

        A relocation, or a shift of times, is undone if its id is given.

        Parameters
        ----------
        act
            The result of `label`, `relocate` or `shift_time`, or its id (default: the last act of labelling that is not
            undone).

        Raises
        ------
        CollectionError
            There is nothing to undo.
        """
        act = act.act if isinstance(act, Change | Relocated | Shifted) else act
        if act is not None and is_shift(self._storage, act):
            return undo_shift(self._storage, act)
        return undo(self._storage, act)

    def history(self, limit: int = 50, *, before: int | None = None) -> HistoryPage:
        """The acts of labelling, the latest first.

        Parameters
        ----------
        limit
            How many.
        before
            `next` of the previous part (default: the latest acts).
        """
        return history(self._storage.journal, limit, before=before)

    # Deployments and sequences

    def sequences(self, gap: float | None = None) -> Sequences:
        """Make the sequences of all images again, and list them.

        A sequence is a visit: images of one deployment (or, without one, of one folder), each taken at most `gap`
        seconds after the one before. Its id, which the column `sequence` holds, is that of its first row: images that
        are added later do not change it; an image that is added before its first one does. An image without a time
        stays alone. A sequence that a person wrote with `label` stays.

        Parameters
        ----------
        gap
            In seconds (default: that of the last time, else 60). `embed` uses it from then on.

        Raises
        ------
        ConfigError
            The gap is negative.
        CollectionError
            Another process is writing.

        Examples
        --------
        >>> collection = birder.open_collection("photos.birder")
        >>> found = collection.sequences(gap=120)
        >>> len(found), found.gap
        (129, 120)
        """
        done = make_sequences(self._storage, gap)
        return Sequences(summarise_sequences(self._rows), done.gap, done.changed, done.untimed)

    def shift_time(
        self,
        by: timedelta | str | None = None,
        *,
        where: str | Filter | None = None,
        true: datetime | str | None = None,
        shown: datetime | str | None = None,
        author: str | None = None,
    ) -> Shifted:
        """Set the times of images right that a camera with a wrong clock took; `undo` reverts it.

        Times and sequences change in one commit. Images that are embedded later are not shifted.

        Parameters
        ----------
        by
            What to add to `taken_at`: a duration, also as "+1h", "-2d3h" or "+00:30:00".
        where
            A filter: only these rows, such as "deployment = 'A4'".
        true, shown
            Instead of `by`: when one of the images was really taken, and the time that the camera gave it.
        author
            Who does it.

        Returns
        -------
        What was done; `undo` accepts it.

        Raises
        ------
        ConfigError
            There is no duration, or not one, or it leads out of the years 1 to 9999.
        CollectionError
            No such row has a time. Nothing is changed then.
        """
        if (true is None) != (shown is None) or (by is None) == (true is None):
            raise ConfigError("Say how far the clock was wrong: by, or true and shown together.")
        if true is not None and shown is not None:
            delta = clock_error(true, shown)
        else:
            delta = by if isinstance(by, timedelta) else duration(str(by))
        return shift_time(self._storage, delta, where, by=author)

    # Looking

    def map(
        self,
        to: str | Path | None = None,
        *,
        colour: str | None = None,
        where: str | Filter | None = None,
        recompute: bool = False,
        seed: int = 0,
        progress: StageProgress = "auto",
    ) -> MapPoints:
        """The map of the collection: UMAP of its embeddings, computed once and stored with it.

        Parameters
        ----------
        to
            Also draw it: .png, .svg or .pdf for an image; .html for a page that zooms, filters and selects.
        colour
            Colour the points by this column.
        where
            A filter: give and draw only these rows, at their places on the map of all.
        recompute
            Recompute it, including rows added since.
        seed
            Another seed gives another map of the same neighbours.
        progress
            Called with the stage and the share of the work that is done; "auto" for a bar in a terminal or notebook.

        Returns
        -------
        The points: `ids`, `xy` (N, 2) float32, `missing` (rows that are not on it), `made` (how it was computed).

        Raises
        ------
        CollectionError
            There are fewer than 5 rows, the map cannot be stored, or no row on it matches the filter.
        FilterError
            The filter cannot be used.
        """
        from birder.collection.drawing import map_of

        return map_of(self._rows, to, colour=colour, where=where, recompute=recompute, seed=seed, progress=progress)

    def activity(
        self,
        to: str | Path | None = None,
        *,
        species: str | Sequence[str] = (),
        column: str | None = None,
        where: str | Filter | None = None,
        seed: int = 0,
    ) -> Activity:
        """Effort and captures by deployment, activity over the day, accumulation of species, and stations.

        A capture is one species in one sequence; an image without a sequence is its own. The name is the label, else
        the lowest rank, else what a box or Camtrap DP says (a person, a vehicle, nothing), else the prediction. Trap
        nights go from `deploymentStart` to `deploymentEnd` where rows have these columns, as those of Camtrap DP
        packages do; else from the first image to the last, at least 1.

        Parameters
        ----------
        to
            Also write it: .html for a page; .png, .svg or .pdf for an image.
        species
            Only these names: in the captures, curves and stations. Effort and accumulation stay those of all.
        column
            Names are in this column alone.
        where
            A filter: only these rows, for effort too. Choose seasons or places by it, and species by `species`.
        seed
            Of the bootstrap: the same rows and seed give the same figures.

        Raises
        ------
        UnknownNameError
            There is no such column, or nothing has one of these names.
        CollectionError
            No row matches the filter.

        Examples
        --------
        >>> collection = birder.open_collection("photos.birder")
        >>> found = collection.activity()
        >>> found.species[0].name, found.species[0].captures
        ('birds', 27)
        """
        from birder.collection.drawing import activity_of

        species = (species,) if isinstance(species, str) else tuple(species)
        return activity_of(self._rows, to, species=species, column=column, where=where, seed=seed)

    def stored_map(self) -> MapPoints | None:
        """The map as `map` gives it, if it has been computed; else None."""
        return read_map(self._rows)

    # Taking it elsewhere, and keeping it

    def export(
        self,
        to: str | Path,
        format: ExportFormat | None = None,
        *,
        where: str | Filter | None = None,
        force: bool = False,
        by: str | None = None,
        link: bool = False,
        folder_labels: bool = False,
        results: str | Path | None = None,
        project: Project | None = None,
        classifier: str | None = None,
        images_at: str | None = None,
    ) -> ExportReport:
        """Export the collection as it is now, to a file or in the format of another tool.

        Parameters
        ----------
        to
            The file; a folder for "folders" (copies of the images, sorted by name) and "xmp" (the folder that the
            images are in); a folder or .zip for "camtrap-dp".
        format
            The format (default: from the extension of `to`: .parquet, .csv without vectors, or .npz).
        where
            A filter: only these rows.
        force
            Replace existing files.
        by
            For "folders", "xmp" and "birder-eval": images are named by the "label" (default), the "prediction", or a
            column of text.
        link
            For "folders": make hard links, which take no space, instead of copies.
        folder_labels
            For "camtrap-dp", "camtrapR" and "xmp": also export labels taken from folder names.
        results
            For "megadetector": the results (JSON) to merge the predictions into.
        project
            For "camtrap-dp": metadata that the images do not have.
        classifier
            For "camtrap-dp" and "megadetector": the name of what made the predictions (default: the model).
        images_at
            For "emb-explorer": the address of a `birder serve` of this collection, from which it fetches images.

        Raises
        ------
        FileExistsError
            The file exists, and `force` is not set.
        ConfigError
            The extension does not determine a format, or a required option is missing.
        CollectionError
            There is nothing to export.

        Examples
        --------
        >>> collection = birder.open_collection("photos.birder")
        >>> print(collection.export("birds.csv", where="label = 'birds'"))
        27 rows in birds.csv.
        """
        found = read_map(self._rows) if format == "embedding-atlas" else None
        points = None if found is None else dict(zip(found.ids, map(tuple, found.xy.tolist()), strict=True))
        return export(
            self._rows,
            to,
            format,
            points=points,
            where=where,
            force=force,
            by=by,
            link=link,
            folder_labels=folder_labels,
            results=results,
            project=project,
            classifier=classifier,
            images_at=images_at,
        )

    def shards(
        self,
        to: str | Path,
        *,
        column: str = "label",
        taxonomy: str | Path | None = None,
        where: str | Filter | None = None,
        group_by: str | Sequence[str] = (),
        size: int = 224,
        records: int = 100_000,
        val_share: float = 0.05,
        seed: int = 0,
        force: bool = False,
        progress: StageProgress = "auto",
    ) -> ShardsMade:
        """Write the images that have a taxon as shards to train CLIP on, in the layout of TreeOfLife-10M.

        Tar files of KEY.jpg, squashed to `size` x `size` pixels, and ten texts, KEY.sci.txt to KEY.taxonTag_com.txt, in
        the folders train/ and val/; and manifest.json, which says what was written and what was left out. Images of one
        group are never on both sides. A run that was stopped goes on where it was if it is started again, and the same
        rows give the same bytes.

        Parameters
        ----------
        to
            The folder to write.
        column
            The column with the labels.
        taxonomy
            A .csv or .parquet file with the ranks above the labels, and perhaps a column common_name (default: the
            collection's columns of ranks).
        where
            A filter: only these rows.
        group_by
            As for `adapt`.
        size
            Width and height of the images in pixels.
        records
            The most samples of a shard; it is also full at 3 GB.
        val_share
            The share that is held out for validation, from 0 to 0.5.
        seed
            Of the split.
        force
            Replace shards that are there from other rows or options.
        progress
            As for `adapt`.

        Returns
        -------
        What was written, with `records("train")`, `failed` and `manifest`.

        Raises
        ------
        ConfigError
            No row has a taxon, or an option cannot be used.
        FileExistsError
            Birder's own: the folder has shards of other rows or options, and `force` is not given.

        Examples
        --------
        >>> collection = birder.open_collection("photos.birder")
        >>> import pyarrow as pa, pyarrow.csv
        >>> taxa = pa.table({"label": ["birds", "fish"], "class": ["Aves", "Actinopterygii"]})
        >>> pa.csv.write_csv(taxa, "taxa.csv")
        >>> made = collection.shards("shards", taxonomy="taxa.csv", val_share=0.2)
        >>> made.records("train") + made.records("val")
        36
        """
        from birder.learning.make_shards import make_shards

        with stages_shown(progress) as show:
            return make_shards(
                self._rows,
                Path(to),
                column=column,
                taxonomy=None if taxonomy is None else Path(taxonomy),
                where=where,
                group_by=(group_by,) if isinstance(group_by, str) else tuple(group_by),
                size=size,
                records=records,
                share=val_share,
                seed=seed,
                force=force,
                progress=show,
            )

    def backup(self, to: str | Path, *, progress: StageProgress = "auto") -> Backup:
        """Make a consistent copy of the collection, even while it is in use; a repeated backup copies only what is new.

        The copy is a collection: open it, or copy it back.

        Parameters
        ----------
        to
            A new folder, or one with an earlier backup of this collection.
        progress
            Called with ("copying", the share that is done); "auto" for a bar in a terminal or notebook.

        Raises
        ------
        CollectionError
            The folder contains something else, or is not writable.

        Examples
        --------
        >>> collection = birder.open_collection("photos.birder")
        >>> copy = collection.backup("backup.birder")
        >>> len(birder.open_collection("backup.birder"))
        129
        """
        with stages_shown(progress) as show:
            tell = None if show is None else lambda done, total: show("copying", done / max(total, 1))
            return backup(self._rows, to, progress=tell)

    def relocate(
        self,
        old: str | Path,
        new: str | Path,
        *,
        check: Check = "sample",
        author: str | None = None,
        progress: StageProgress = "auto",
    ) -> Relocated:
        r"""Change the uris of rows whose files have moved to another place; `undo` reverts it.

        Ids, labels, predictions, the map and embeddings stay with their rows.

        Parameters
        ----------
        old, new
            Folders, files or URLs; Windows paths (`D:\photos`) are understood on any system.
        check
            Which files to compare, by size and sha256, with what was embedded: "sample" (50 of them) or "all".
        author
            Who does it.
        progress
            Called with ("comparing", the share that is done); "auto" for a bar in a terminal or notebook.

        Raises
        ------
        ConfigError
            The two places are the same.
        CollectionError
            No row is in the old place, a file is missing in the new one or differs, or a row already has one of the new
            uris. Nothing is changed then.
        """
        with stages_shown(progress) as show:
            tell = None if show is None else lambda done, total: show("comparing", done / max(total, 1))
            return relocate(self._storage, old, new, check=check, by=author, progress=tell)

    def index(self, columns: Sequence[str] = ()) -> IndexStatus:
        """Build the index of the embeddings and those of the columns that filters use, replacing existing ones.

        Collections of 20,000 rows and more are indexed automatically. Without an index, all rows are compared.

        Parameters
        ----------
        columns
            Columns that filters use (default: id, uri, and all that have values).

        Raises
        ------
        UnknownNameError
            The column does not exist.
        CollectionError
            There are fewer than 256 rows, or another process is writing.
        """
        make_index(self._storage, columns=columns)
        return self.index_status()

    def index_status(self) -> IndexStatus:
        """The state of the indexes."""
        return index_status(self._storage)

    def tidy(self, *, keep: timedelta = KEEP) -> Tidied:
        """Merge small files, update the indexes, and remove former versions and unused thumbnails.

        Parameters
        ----------
        keep
            Former versions younger than this are kept for other processes that read them; 0 removes all.
        """
        return tidy(self._storage, keep=keep)

    # Inside

    @property
    def _rows(self) -> Storage:
        """The storage to read rows from, with the labels that this object gave."""
        if self._storage.labelled:
            self._storage.see_latest()
        return self._storage

    def _encoder(self, model: str | None = None) -> Encoder:
        if model not in self._encoders:
            self._encoders[model] = load_encoder_of(
                self._storage,
                self._device,
                engine=self._engine,
                compile=self._compile,
                model=model,
                clip=self._text_models.get(model),
            )
        return self._encoders[model]

    def _text_model(self, model: str | None) -> LoadedClip:
        if model not in self._text_models:
            from birder.naming.predict import load_text_model

            self._text_models[model] = load_text_model(self._storage, model, self._device)
        return self._text_models[model]

    def _class_words(self) -> ClassWords | None:
        if not self._words_are_read:
            from birder.naming.class_words import class_words_of_rows

            self._words, self._words_are_read = class_words_of_rows(self._storage), True
        return self._words

    def _known(self, columns: Sequence[str] | None) -> list[str]:
        own = self.columns
        if columns is None:
            return [name for name in own if name not in VECTORS]
        for name in columns:
            if name not in own:
                raise unknown_name("column", name, own)
        return list(dict.fromkeys(columns))


def open_collection(
    path: str | Path, *, device: str | None = None, engine: str = "auto", compile: bool = False
) -> Collection:
    """Open the collection in a folder.

    Parameters
    ----------
    path
        The folder.
    device
        Device to run models on: "cpu", "cuda", "mps", ... (default: best available).
    engine
        What runs the network: "openvino", "torch" or "auto" (OpenVINO on a CPU).
    compile
        With PyTorch, use torch.compile.

    Raises
    ------
    CollectionNotFoundError
        There is no collection.
    CollectionError
        It cannot be read by this version, or is damaged.

    Examples
    --------
    >>> birder.open_collection("photos.birder")
    <Collection 'photos.birder': 129 images, efficientnet_lite0_in1k>
    """
    return Collection(Storage.open(path), device=device, engine=engine, compile=compile)


def create_collection(
    path: str | Path,
    model: str = DEFAULT_WEIGHTS,
    *,
    engine: str = "auto",
    precision: str = "auto",
    device: str | None = None,
    compile: bool = False,
    patches: bool = False,
    exact: bool = False,
) -> Collection:
    """Create an empty collection for the embeddings of a model.

    Parameters
    ----------
    path
        Its folder, new or empty.
    model
        Weights by name, or the path of a checkpoint.
    engine, device, compile
        As for `open_collection`.
    precision
        "fp32", "bf16", "int8" or "auto" (bf16 where it is as good).
    patches
        Also store a ViT's patch tokens, which makes the collection large.
    exact
        Decode JPEGs at full size: slower, but exact.

    Raises
    ------
    FileExistsError
        There is a collection already.
    CollectionError
        The folder contains something else, or is not writable.
    WeightsError
        The model cannot be loaded.
    """
    path = at_home(path)
    if exists(path):
        raise file_exists(path, "birder.open_collection, which adds to it, or another folder")
    spec = encoder_spec(
        None, model, device=device, engine=engine, precision=precision, compile=compile, patches=patches
    )
    encoder = spec.load(not exact)
    storage = Storage.create_or_open(path, with_backbone(encoder.card))
    return Collection(storage, device=device, engine=engine, compile=compile, encoder=encoder)


def with_sequences(storage: Storage, report: EmbedReport) -> EmbedReport:
    """The report of a run, once the sequences have followed it."""
    done = sequences_follow(storage)
    return report if done is None else replace(report, untimed=done.untimed, sequenced=done.changed)


def _opened(collection: str | Path | Collection) -> Collection:
    return collection if isinstance(collection, Collection) else open_collection(collection)


def paths_of(paths: Paths) -> list[str | Path]:
    """One path, or several, as a list."""
    return [paths] if isinstance(paths, str | Path) else list(paths)
