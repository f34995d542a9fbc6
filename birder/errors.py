"""The errors that Birder raises on purpose.

Every one is a `BirderError`; its message says what is wrong and what to do next. A kind of error is a class: no caller
reads a message to learn what happened. The command line prints the message alone, so a traceback is always a defect of
Birder.
"""

from __future__ import annotations

import builtins
import difflib
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple


class BirderError(Exception):
    """Base of all errors that Birder raises on purpose."""


class UnknownNameError(BirderError, ValueError):
    """A network, model, column or option that Birder does not know."""


class ConfigError(BirderError, ValueError):
    """A network configuration, size or argument that cannot be used."""


class BenchmarkFolderError(ConfigError):
    """A folder that does not hold the whole of a benchmark, as it is published."""


class FilterError(ConfigError):
    """A filter that cannot be parsed, names an unknown column, or uses an expression that is not allowed."""


class WeightsError(BirderError):
    """A checkpoint that is missing, damaged, in another format, or does not fit its network."""


class NoTextEncoderError(WeightsError):
    """A model without a text encoder was asked to encode texts."""


class HubError(WeightsError):
    """Weights that could not be fetched: the hub is out of reach or does not have them."""


class ImageError(BirderError):
    """A file that cannot be read as an image."""


class CollectionError(BirderError):
    """A collection that is missing, damaged, or cannot be used in this way."""


class CollectionNotFoundError(CollectionError):
    """A folder that does not contain a collection."""


class CollectionBusyError(CollectionError):
    """Another process is writing to the collection."""


class RowNotFoundError(CollectionError, LookupError):
    """A row that was named by its id, uri or file name, and that the collection does not have."""


class WrongModelError(CollectionError):
    """A model whose embeddings cannot be compared with those of the collection."""


class TornCopyError(CollectionError):
    """A copy of a collection that was taken while it was being written, and lacks some of its files."""


class MovedFolder(NamedTuple):
    """A folder whose files moved: its former and present path or URL, and how many files were recognised."""

    old: str
    new: str
    files: int


class ImagesMovedError(CollectionError):
    """Images to be embedded already have rows, under the uris of a folder that they have left.

    Parameters
    ----------
    collection
        The collection's folder.
    folders
        Where the images were, and where they are.
    """

    def __init__(self, collection: Path, folders: Sequence[MovedFolder]) -> None:
        moves = "\n".join(
            f"{each.files:,} images of {each.old} are in {each.new} now. To keep their rows and labels:\n"
            f"  collection.relocate({each.old!r}, {each.new!r})"
            for each in folders
        )
        super().__init__(f"{moves}\nThen embed again. To embed them as new images, without labels, set as_new=True.")
        self.collection = collection
        self.folders = tuple(folders)

    def __reduce__(self) -> tuple[type[ImagesMovedError], tuple[Path, tuple[MovedFolder, ...]]]:
        return type(self), (self.collection, self.folders)


class FileExistsError(BirderError, builtins.FileExistsError):
    """An output file or folder that exists and must not be replaced."""


class WriteError(BirderError, OSError):
    """An output that cannot be written: no space, no permission, or an invalid location."""


class MissingExtraError(BirderError, ImportError):
    """An optional dependency that is not installed.

    Parameters
    ----------
    extra
        The extra that installs it: "serve", "map", "heic", ...
    what
        What needs it, as a user would say: "birder serve".
    """

    def __init__(self, extra: str, what: str) -> None:
        super().__init__(f"{what} needs an optional dependency: {install_extra(extra)}")
        self.extra = extra
        self.what = what


class MissingPackageError(BirderError, ImportError):
    """A package that is not installed and not a dependency of Birder, such as polars.

    Parameters
    ----------
    package
        What to install: "polars".
    what
        What needs it, as a user would say: "to_polars()".
    """

    def __init__(self, package: str, what: str) -> None:
        super().__init__(f"{what} needs {package}, which is not installed: pip install {package}")
        self.package = package
        self.what = what


def install_extra(extra: str) -> str:
    """What installs an extra, for messages; documents say the same.

    On the package index the name birder is that of another package, so it is installed from where this one came from.
    """
    return f'pip install ".[{extra}]" in Birder\'s repository, or pip install "WHEEL[{extra}]" with its wheel'


def listed(names: Sequence[str], most: int = 40) -> str:
    """Names for a message: "a, b, c", or the first of very many and how many more there are."""
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def unknown_name(kind: str, name: str, known: Iterable[str]) -> UnknownNameError:
    """Build the error for an unknown name, with the closest known ones (all of them where none is close)."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    hint = f"Did you mean {' or '.join(close)}?" if close else f"Known: {listed(names) or 'none'}."
    return UnknownNameError(f"Unknown {kind} {name!r}. {hint}")


def file_exists(path: Path, how: str = "--force") -> FileExistsError:
    """Build the error for an output that exists; `how` is what replaces it."""
    return FileExistsError(f"{path} already exists. To replace it, use {how}.")


def write_error(path: Path, error: OSError) -> WriteError:
    """Build the error for an output that cannot be written, from the system's."""
    reason = os.strerror(error.errno) if error.errno else str(error)
    built = WriteError(f"Cannot write {path}: {reason}. Free some space, or choose a location that you can write to.")
    built.errno = error.errno
    return built
