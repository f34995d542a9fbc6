"""Files that appear whole or not at all."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

from birder.errors import ConfigError


@contextlib.contextmanager
def drafted(file: Path, *, force: bool) -> Iterator[Path]:
    """Give the path to write to, a neighbour of `file` with .part behind, and put it in its place at the end.

    On an error the draft goes and `file` stays as it was.

    Raises
    ------
    ConfigError
        The file is there and `force` is not given, or it cannot be written.
    """
    if file.exists() and not force:
        raise ConfigError(f"{file} is there already: name another file, or overwrite it with --force.")
    if file.is_dir():
        raise ConfigError(f"{file} is a folder: name a file.")
    part = file.with_name(file.name + ".part")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        yield part
        part.replace(file)
    except OSError as error:
        raise ConfigError(f"Cannot write {file}: {error.strerror or error}. Name a place with room.") from error
    finally:
        with contextlib.suppress(OSError):  # where there is none, or no place for one
            part.unlink()


@contextlib.contextmanager
def drafted_folder(folder: Path, *, force: bool) -> Iterator[Path]:
    """Give a neighbouring folder to write files to, and put them into `folder` at the end; see `drafted`.

    Other files that are in `folder` stay.
    """
    if folder.is_file():
        raise ConfigError(f"{folder} is a file: name a folder, or a file that ends in .zip.")
    part = folder.with_name(folder.name + ".part")
    try:
        part.mkdir(parents=True)
        yield part
        taken = [file.name for file in part.iterdir() if (folder / file.name).exists()]
        if taken and not force:
            raise ConfigError(f"{folder} has a {sorted(taken)[0]} already: name another folder, or say --force.")
        folder.mkdir(exist_ok=True)
        for file in part.iterdir():
            file.replace(folder / file.name)
    except OSError as error:
        raise ConfigError(f"Cannot write {folder}: {error.strerror or error}. Name a place with room.") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
