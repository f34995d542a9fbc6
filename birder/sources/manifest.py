"""Manifests: a CSV or Parquet table that names the images, by path or URL, and describes them."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Iterator

from birder.errors import ConfigError
from birder.sources.source import Source, TableRow, is_url, uri_to_path

_REMOTE = ("https", "http", "s3", "gs", "az", "abfs", "hf")


def read_manifest(path: str) -> Iterator[Source]:
    """The images that a manifest names; its other columns become theirs.

    Relative names start at the manifest's folder. The user's own manifest may name any file of this machine; one that
    was fetched from a URL may not.

    Raises
    ------
    ConfigError
        It cannot be read, has no column of paths or URLs, or names an image twice or not at all.
    """
    from birder.sources.table import LAST_COLUMNS, NAME_COLUMNS, URL_COLUMNS, read_table

    table = read_table(path, NAME_COLUMNS + URL_COLUMNS + LAST_COLUMNS)
    if "" in table.names:
        row = table.names.index("") + 2
        raise ConfigError(f"The manifest {path} does not name a file in row {row}. Complete the row, or remove it.")
    folder = parent(path)
    for row, name in enumerate(table.names):
        columns = TableRow(table.columns, row)
        place, problem = resolve(name, folder)
        yield Source(place, columns=columns, problem=problem)


def parent(path: str) -> str:
    """The folder of a path or URL."""
    return path.rpartition("/")[0] if is_url(path) else os.path.dirname(os.path.abspath(path))  # noqa: PTH100, PTH120


def resolve(name: str, folder: str, *, inside: bool = False) -> tuple[str, str | None]:
    """Where a name leads from a folder (or the URL of one), and why it may not be followed, if so.

    Parameters
    ----------
    name
        A path, relative or absolute, or a URL.
    folder
        What relative names start at, absolute.
    inside
        Refuse what leaves the folder on this machine; from a folder that is a URL, that always is refused.
    """
    place, problem = _led_to(name, folder, inside)
    return place, problem or ("its name contains a NUL character" if "\0" in name else None)


def _led_to(name: str, folder: str, inside: bool) -> tuple[str, str | None]:
    if is_url(name):
        # fsspec has protocols that lead back to this machine's files
        trusted = not (inside or is_url(folder)) or name.partition("://")[0] in _REMOTE
        return name, None if trusted else f"only URLs of {', '.join(_REMOTE)} are allowed there"
    if name.startswith("file://"):
        name = uri_to_path(name)
    if is_url(folder):
        root, _, rest = folder.partition("://")
        host, _, start = rest.partition("/")
        joined = posixpath.normpath(posixpath.join("/", start, name))
        place = f"{root}://{host}{joined}"
        left = name.startswith("/") or not f"{joined}/".startswith(posixpath.join("/", start, ""))
        return place, "it leads out of the folder of the list that names it" if left else None
    place = os.path.normpath(os.path.join(folder, name))  # noqa: PTH118
    if inside and os.path.commonpath([place, folder]) != os.path.normpath(folder):
        return place, f"it leads out of {folder}"
    return place, None
