"""The table of formats: what each is called, what it reads and writes, and the module that does it.

A new format is one module and one row here. What a module offers, by what its row says:

- reads "images": `IMAGES`, an `ImageList` for `find_sources`;
- reads "boxes": `read_boxes(file, folder, min_conf=, labels=)`, the sources of the boxes on images;
- reads "embeddings": `read_embeddings(file)`, an `EmbeddingFile`;
- reads "predictions": `read_predictions(file)`, an iterator of `ForeignPrediction`;
- writes: `export(collection, rows, to, force=, ...)` with the row's options, an `ExportReport`;
- where several formats that are imported share an ending: `recognizes(file)`.

This module imports none of them, so that the help of the command line can list them at once.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from birder.errors import unknown_name

Reads = Literal["images", "boxes", "embeddings", "predictions"]
FOLDER = ""
"""Denotes a folder among the extensions of a format."""


@dataclass(frozen=True)
class Format:
    """A format.

    Attributes
    ----------
    name
        As users name it: `--format NAME`.
    title
        What it is called elsewhere.
    module
        The module that reads and writes it.
    endings
        How the names of its files end, in lower case; `FOLDER` if it is a folder.
    reads
        What Birder takes from it.
    writes
        What an export contains, in a few words; empty if Birder does not write it.
    options
        The options of `export` that it takes.
    has_table
        Whether a table in a second file describes its rows: `read_embeddings(file, table, names)`.
    is_text
        Whether only the name that the user gives to the embeddings tells where they are: `read_embeddings(file, name)`.
    """

    name: str
    title: str
    module: str
    endings: tuple[str, ...]
    reads: tuple[Reads, ...] = ()
    writes: str = ""
    options: tuple[str, ...] = ()
    has_table: bool = False
    is_text: bool = False

    def load(self) -> Any:
        """Import its module."""
        return importlib.import_module(self.module)

    def fits(self, path: Path) -> bool:
        """Whether a file of this format may have this name."""
        return FOLDER in self.endings or path.suffix.lower() in self.endings


_ROWS = (
    Format(
        "parquet",
        "Apache Parquet",
        "birder.formats.parquet",
        (".parquet",),
        reads=("embeddings",),
        writes="all columns, embeddings included",
    ),
    Format(
        "csv",
        "CSV",
        "birder.formats.csv_table",
        (".csv",),
        reads=("embeddings",),
        writes="all columns but the embeddings",
        is_text=True,
    ),
    Format(
        "npz",
        "NumPy .npz",
        "birder.formats.npz",
        (".npz",),
        reads=("embeddings",),
        writes="embeddings and columns as arrays",
    ),
    Format("npy", "NumPy .npy", "birder.formats.npy", (".npy",), reads=("embeddings",), has_table=True),
    Format(
        "emb-explorer",
        "emb-explorer",
        "birder.formats.emb_explorer",
        (".parquet",),
        writes="embeddings, ranks, and columns with values",
        options=("images_at",),
    ),
    Format(
        "embedding-atlas",
        "Embedding Atlas",
        "birder.formats.embedding_atlas",
        (".parquet",),
        writes="the map, thumbnails, and columns with values",
        options=("points",),
    ),
    Format(
        "birder-eval",
        "published `birder.eval`",
        "birder.formats.birder_eval",
        (".parquet",),
        writes="samples, labels as numbers, and embeddings",
        options=("by",),
    ),
    Format(
        "camtrap-dp",
        "Camtrap DP 1.0.2",
        "birder.formats.camtrap",
        (FOLDER, ".zip"),
        reads=("images",),
        writes="deployments, media, and observations by people and by models",
        options=("project", "classifier", "folder_labels"),
    ),
    Format(
        "camtrapR",
        "camtrapR",
        "birder.formats.camtrapr",
        (".csv",),
        writes="the record table: when each species was at which station",
        options=("folder_labels",),
    ),
    Format(
        "megadetector",
        "MegaDetector results",
        "birder.formats.megadetector",
        (".json",),
        reads=("boxes",),
        writes="the predictions, merged into MegaDetector's results",
        options=("results", "classifier"),
    ),
    Format(
        "bioclip-predict",
        "`bioclip predict`",
        "birder.formats.bioclip_predict",
        (".csv", ".json"),
        reads=("predictions",),
    ),
    Format("speciesnet", "SpeciesNet predictions", "birder.formats.speciesnet", (".json",), reads=("predictions",)),
    Format("bioclip-embed", "`bioclip embed`", "birder.formats.bioclip_embed", (".json",), reads=("embeddings",)),
    Format(
        "xmp",
        "XMP sidecars",
        "birder.formats.xmp",
        (FOLDER,),
        writes="the names of images, in sidecars beside them",
        options=("by", "folder_labels"),
    ),
    Format(
        "folders",
        "Folders by name",
        "birder.formats.folders",
        (FOLDER,),
        writes="copies of the images, or hard links, in a folder for each name",
        options=("by", "link"),
    ),
)
ExportFormat = Literal[
    "parquet",
    "csv",
    "npz",
    "emb-explorer",
    "embedding-atlas",
    "birder-eval",
    "camtrap-dp",
    "camtrapR",
    "megadetector",
    "xmp",
    "folders",
]
"""The names of the formats that can be written, as `export_formats` gives them."""
FORMATS: dict[str, Format] = {row.name: row for row in _ROWS}
"""All formats by name."""


@dataclass(frozen=True)
class ExportReport:
    """What an export did.

    Attributes
    ----------
    summary
        A summary of what was written.
    failed
        Images that could not be exported, by path or uri, each with the reason.
    """

    summary: str
    failed: tuple[tuple[str, str], ...] = field(default=())

    def __str__(self) -> str:
        return self.summary


@dataclass
class FileCounts:
    """What became of the files of an export that writes one for each image.

    Attributes
    ----------
    written, unchanged
        Files that were written, and files that were complete already.
    left_out
        Images or rows that the export does not include.
    failures
        Images that could not be exported, by path or uri, each with the reason.
    """

    written: int = 0
    unchanged: int = 0
    left_out: int = 0
    failures: list[tuple[str, str]] = field(default_factory=list)

    def fail(self, image: str, error: Exception) -> None:
        """Note an image that could not be exported."""
        self.failures.append((image, getattr(error, "strerror", None) or str(error)))

    def report(self, written: str, unchanged: str, left_out: str) -> ExportReport:
        """The counts in words: what was written where, what `unchanged` files were, what was left out and why."""
        same = f", {self.unchanged:,} {unchanged}" if self.unchanged else ""
        more = f"\n{self.left_out:,} {left_out}" if self.left_out else ""
        return ExportReport(f"{self.written:,} {written}{same}.{more}", tuple(self.failures))


def export_formats() -> list[str]:
    """The names of the formats that can be written."""
    return [row.name for row in _ROWS if row.writes]


def formats_that_read(*kinds: Reads) -> list[Format]:
    """The formats that something of these kinds is read from."""
    return [row for row in _ROWS if set(kinds) & set(row.reads)]


def format_to_write(name: str) -> Format:
    """A format that can be written, by its name.

    Raises
    ------
    UnknownNameError
        No format has this name.
    """
    if name not in export_formats():
        raise unknown_name("format", name, export_formats())
    return FORMATS[name]


_BEGINNINGS = {b"PAR1": ".parquet", b"\x93NUMPY": ".npy", b"PK\x03\x04": ".npz", b"{": ".json", b"[": ".json"}
"""What files begin with, by the ending that they should have; other files are text."""


def format_to_import(file: Path) -> Format:
    """The format of a file of embeddings or predictions, by its ending and, where formats share that, by its content.

    A file with another ending is told by its content alone. A folder is taken for Parquet.
    """
    readable = formats_that_read("embeddings", "predictions")
    fitting = [row for row in readable if row.fits(file)]
    if not fitting and file.is_file():
        with file.open("rb") as opened:
            begins = opened.read(4096).removeprefix(b"\xef\xbb\xbf").lstrip()
        ending = next((ending for start, ending in _BEGINNINGS.items() if begins.startswith(start)), ".csv")
        fitting = [row for row in readable if ending in row.endings]
    if len(fitting) < 2:
        return fitting[0] if fitting else FORMATS["parquet"]
    return next((row for row in fitting[:-1] if row.load().recognizes(file)), fitting[-1])


def as_markdown() -> list[str]:
    """The table for the documentation, in Markdown, line by line."""
    lines = ["| format | files | `birder export --format` writes | Birder reads |", "|---|---|---|---|"]
    for row in _ROWS:
        endings = ", ".join(f"`{ending}`" if ending else "a folder" for ending in row.endings)
        name = f"`{row.name}`: {row.title}" if row.writes else row.title
        lines.append(f"| {name} | {endings} | {row.writes or '-'} | {', '.join(row.reads) or '-'} |")
    return lines
