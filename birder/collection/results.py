"""Results of a collection's methods: sequences of rows that convert to tables and display in a notebook."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self, overload

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from birder.analysis.duplicates import Group
from birder.collection.notebook import CARDS, Card, escaped, gallery_html, more_html, table_html
from birder.errors import MissingPackageError
from birder.plots.image_page import Tile, write_page
from birder.sources import path_to_uri, readable_path
from birder.words import counted

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl

Row = dict[str, Any]

BY_GRAPH = (
    "There are too many images to compare all with each other: a graph of neighbours proposed which to compare, "
    "and some pairs may be missing."
)
"""What is said of duplicates that were found by a graph."""
_GROUPS = 8  # of duplicates, that a notebook shows
_GROUPS_ON_PAGE = 500


def to_pandas(table: pa.Table) -> pd.DataFrame:
    """Convert a table to pandas.

    Raises
    ------
    MissingPackageError
        pandas is not installed.
    """
    try:
        return table.to_pandas()
    except ImportError as error:
        raise MissingPackageError("pandas", "to_pandas()") from error


def to_polars(table: pa.Table) -> pl.DataFrame:
    """Convert a table to polars.

    Raises
    ------
    MissingPackageError
        polars is not installed.
    """
    try:
        import polars as pl
    except ImportError as error:
        raise MissingPackageError("polars", "to_polars()") from error
    frame = pl.from_arrow(table)
    assert isinstance(frame, pl.DataFrame)
    return frame


@dataclass(frozen=True, repr=False, eq=False)
class Rows(Sequence[Row]):
    """Rows of a collection: a sequence of dictionaries over an Arrow table.

    Attributes
    ----------
    table
        The rows.
    """

    table: pa.Table

    def __len__(self) -> int:
        return int(self.table.num_rows)

    @overload
    def __getitem__(self, index: int) -> Row: ...
    @overload
    def __getitem__(self, index: slice) -> Self: ...
    def __getitem__(self, index: int | slice) -> Row | Self:
        if isinstance(index, slice):
            return replace(self, table=self.table.take(pa.array(range(len(self))[index], pa.int64())))
        row: Row = self.table.slice(range(len(self))[index], 1).to_pylist()[0]
        return row

    def __iter__(self) -> Iterator[Row]:
        for batch in self.table.to_batches(max_chunksize=1024):
            yield from batch.to_pylist()

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {len(self):,} rows; {', '.join(self.table.column_names)}>"

    def _repr_html_(self) -> str:
        return table_html(self, self.table.column_names)

    def to_arrow(self) -> pa.Table:
        """The rows as a pyarrow table."""
        return self.table

    def to_pandas(self) -> pd.DataFrame:
        """The rows as a pandas DataFrame.

        Raises
        ------
        MissingPackageError
            pandas is not installed.
        """
        return to_pandas(self.table)

    def to_polars(self) -> pl.DataFrame:
        """The rows as a polars DataFrame.

        Raises
        ------
        MissingPackageError
            polars is not installed.
        """
        return to_polars(self.table)

    def to_list(self) -> list[Row]:
        """The rows as dictionaries."""
        rows: list[Row] = self.table.to_pylist()
        return rows


class _Page(NamedTuple):
    """What a page of images shows: a title, lines below it, and images in sections, each with a heading."""

    title: str
    lines: Sequence[str]
    sections: Sequence[tuple[str, Sequence[Tile]]]


class _SavesPage(ABC):
    """Results that can be saved as a page of images."""

    @abstractmethod
    def _page(self) -> _Page: ...

    def save_page(self, to: str | Path) -> dict[str, str]:
        """Write the results as one HTML file that contains its images and opens anywhere.

        Parameters
        ----------
        to
            The file; an existing one is replaced.

        Returns
        -------
        For images shown as missing, the reason, by uri.
        """
        return write_page(Path(to), *self._page())


@dataclass(frozen=True, repr=False, eq=False)
class SearchResults(Rows, _SavesPage):
    """What a search found, nearest first.

    Attributes
    ----------
    table
        The rows: `similarity` (float64, the cosine with one query; not without a query), then the columns asked for.
    query
        The query, in words.
    images
        The image files in the query.
    count_searched
        Counts the rows that were searched: all, or those that match the filter. It is called when that is shown.
    matching
        Without a query, how many rows match the filter; else None.
    collection
        The name of the collection.
    model
        The model of the embeddings.
    notes
        Warnings about the comparison.
    exact
        Whether all rows were compared, rather than those that the graph of the embeddings led to.
    """

    query: str = ""
    images: tuple[Path, ...] = ()
    count_searched: Callable[[], int] = int
    matching: int | None = None
    collection: str = ""
    model: str = ""
    notes: tuple[str, ...] = ()
    exact: bool = True

    @property
    def searched(self) -> int:
        """How many rows were searched: all, or those that match the filter."""
        return self.count_searched()

    def _repr_html_(self) -> str:
        if "uri" not in self.table.column_names:
            return super()._repr_html_()
        about = f"{escaped(self.query)}: {len(self):,} of {self.searched:,} images"
        return f"<div>{about}</div>{gallery_html([_card(row) for row in self[:CARDS]], len(self))}"

    def _page(self) -> _Page:
        queries = [Tile(path_to_uri(image), image.name) for image in self.images]
        found = []
        for row in self:
            card = _card(row)
            name = [readable_path(card.uri)] if "similarity" in row else []  # else it is the head
            found.append(Tile(card.uri, card.head, [*card.lines, *name]))
        sections = [("Query", queries)] if queries else []
        sections.append((f"{len(found):,} found" if queries else "", found))
        compared = f", compared by {self.model}" if self.matching is None else ""
        about = f"{len(found):,} of {self.searched:,} images in {self.collection}{compared}"
        return _Page(f"Search: {self.query}", [about], sections)


@dataclass(frozen=True, repr=False, eq=False)
class Predictions(Rows):
    """Names that a model gave, the best first for each image.

    Attributes
    ----------
    table
        One row for each image and name: `path`, `uri`, the columns of the name (`label`, or the ranks from
        kingdom down, and `common_name`), and `score` (float32, between 0 and 1).
    columns
        The columns of the name.
    model
        The model that named the images, or the examples and their model.
    sha256
        Of that model's weights.
    choice
        The names to choose from, such as "3 labels".
    images
        Number of images processed, including those without a name.
    nameless
        Number of images without a name of a sufficient score.
    unreadable
        Paths of images that could not be read, each with the reason.
    saved
        The columns of the collection that were written; empty without `save`.
    notes
        Warnings about the names.
    """

    columns: tuple[str, ...] = ()
    model: str = ""
    sha256: str = ""
    choice: str = ""
    images: int = 0
    nameless: int = 0
    unreadable: tuple[tuple[str, str], ...] = ()
    saved: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def name_column(self) -> str:
        """The column with the name itself, not with the ranks above it."""
        return [name for name in self.columns if name != "common_name"][-1]

    def ranked(self) -> list[Row]:
        """The rows, each with its `rank` among the names of its image: 1 is the best."""
        ranks: Counter[str] = Counter()
        rows = []
        for row in self:
            ranks[row["uri"]] += 1
            rows.append({**row, "rank": ranks[row["uri"]]})
        return rows

    def _repr_html_(self) -> str:
        by_image: dict[str, list[Row]] = {}
        for row in self:
            if row["uri"] not in by_image and len(by_image) == CARDS:
                break
            by_image.setdefault(row["uri"], []).append(row)
        name = self.name_column
        cards = [
            Card(uri, str(rows[0][name]), [f"{row['score']:.3f} {row[name]}" for row in rows])
            for uri, rows in by_image.items()
        ]
        about = f"{counted(self.images, 'image')} named by {escaped(self.model)} among {escaped(self.choice)}"
        return f"<div>{about}</div>{gallery_html(cards, self.images - self.nameless)}"


@dataclass(frozen=True, repr=False, eq=False)
class Sequences(Rows):
    """The sequences of a collection, one row for each, by deployment and start.

    Attributes
    ----------
    table
        `sequence` (its id: that of its first row), `deployment`, `start` and `end` (null without a time), `images`,
        `count` (int64, of animals: as a person said in the column `count`, else the largest number of animals' boxes on
        one image; null where neither is known), and `labels` (those of its rows, joined by "; ").
    gap
        The images of a sequence follow each other within so many seconds.
    changed
        Number of rows that got another sequence.
    untimed
        Number of rows without a time, whose images stay alone.
    """

    gap: float = 60.0
    changed: int = 0
    untimed: int = 0


@dataclass(frozen=True, eq=False)
class ImageFeatures:
    """Image features in the space that images and texts share.

    Attributes
    ----------
    images
        Paths or uris of N images.
    features
        (N, E) float32, not normalised.
    model
        The model.
    unreadable
        Paths of images that could not be read, each with the reason.
    written
        A summary of what was written; empty without a file.
    notes
        Warnings about the features.
    """

    images: tuple[str, ...]
    features: npt.NDArray[np.float32]
    model: str
    unreadable: tuple[tuple[str, str], ...] = ()
    written: str = ""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, repr=False, eq=False)
class HeldOut(Predictions):
    """Names of labelled images that were held out of the examples; `is` in each row is the label given by a person.

    Attributes
    ----------
    right, among_five
        How many have the right name first, and among the first five.
    classes, examples
        Number of classes and examples to learn from.
    """

    right: int = 0
    among_five: int = 0
    classes: int = 0
    examples: int = 0


@dataclass(frozen=True, repr=False, eq=False)
class Duplicates(Sequence[Group], _SavesPage):
    """Groups of duplicate images: those with the same content first, then similar ones.

    Attributes
    ----------
    groups
        The groups; in each, the largest image first.
    threshold
        The minimum cosine of similar images.
    collection
        The name of the collection.
    by_graph
        Whether a graph of neighbours proposed which images were compared: some pairs may be missing.
    """

    groups: tuple[Group, ...]
    threshold: float
    collection: str = field(default="")
    by_graph: bool = False

    def __len__(self) -> int:
        return len(self.groups)

    @overload
    def __getitem__(self, index: int) -> Group: ...
    @overload
    def __getitem__(self, index: slice) -> Duplicates: ...
    def __getitem__(self, index: int | slice) -> Group | Duplicates:
        return replace(self, groups=self.groups[index]) if isinstance(index, slice) else self.groups[index]

    def __repr__(self) -> str:
        return f"<Duplicates: {len(self):,} groups, threshold {self.threshold:g}>"

    def _repr_html_(self) -> str:
        parts = [f"<div>{len(self):,} groups; similar: a cosine of {self.threshold:g} or more</div>"]
        for number, group in enumerate(self.groups[:_GROUPS], 1):
            cards = [Card(photo.uri, _file(photo.uri), [f"{photo.similarity:.4f}"]) for photo in group.photos]
            parts.append(f"<div><b>{number}. {escaped(group.kind)}</b></div>{gallery_html(cards)}")
        return "".join([*parts, more_html(min(_GROUPS, len(self)), len(self), "groups")])

    def to_arrow(self) -> pa.Table:
        """One row for each image: group, kind, id, uri, width, height, similarity (the cosine to the group's first)."""
        lines = [
            {"group": number, "kind": group.kind, **vars(image)}
            for number, group in enumerate(self.groups, 1)
            for image in group.photos
        ]
        fields = [("group", pa.int64()), ("kind", pa.string()), ("id", pa.string()), ("uri", pa.string())]
        sizes = [("width", pa.int32()), ("height", pa.int32()), ("similarity", pa.float64())]
        return pa.Table.from_pylist(lines, pa.schema([*fields, *sizes]))

    def _page(self) -> _Page:
        lines = [f"Similar: a cosine of {self.threshold:g} or more with the group's first, which is its largest image."]
        lines += [BY_GRAPH] if self.by_graph else []
        if len(self) > _GROUPS_ON_PAGE:
            lines.append(f"The first {_GROUPS_ON_PAGE:,} of {len(self):,} groups.")
        sections = []
        for number, group in enumerate(self.groups[:_GROUPS_ON_PAGE], 1):
            tiles = []
            for photo in group.photos:
                about = f"{photo.width} x {photo.height}, similarity {photo.similarity:.4f}"
                tiles.append(Tile(photo.uri, _file(photo.uri), [readable_path(photo.uri), about]))
            sections.append((f"{number}. {group.kind}", tiles))
        return _Page(f"{self.collection}: duplicates", lines, sections)


def _card(row: Row) -> Card:
    """A row as an image with its similarity, or its name, and its label and time."""
    lines = [str(row[name]) for name in ("label", "taken_at") if row.get(name) is not None]
    return Card(row["uri"], f"{row['similarity']:.4f}" if "similarity" in row else _file(row["uri"]), lines)


def _file(uri: str) -> str:
    return Path(readable_path(uri)).name
