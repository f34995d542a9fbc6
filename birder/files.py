"""Files that appear whole or not at all: written beside their place, then moved there."""

from __future__ import annotations

import builtins
import contextlib
import errno
import os
import secrets
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from birder.errors import BirderError, ConfigError, file_exists, write_error

DRAFT_ENDING = ".part"
"""How the names of drafts end; one that is left over belonged to a process that was killed."""


def at_home(path: str | Path) -> Path:
    """The path, in the user's folder where it is ~ or begins with ~/.

    LanceDB and pyarrow understand these paths so, Python's own functions do not: left as it is, what both write would
    lie in two places.
    """
    path = Path(path)
    return Path.home().joinpath(*path.parts[1:]) if path.parts[:1] == ("~",) else path


@contextlib.contextmanager
def replacing(path: str | Path, *, force: bool = True, durable: bool = False) -> Iterator[Path]:
    """Yield the path of a draft beside `path`, and move the draft there at the end of the block.

    The block writes the draft. On an error the draft is removed and `path` stays as it was. A file that is replaced
    passes its permissions on. Missing folders above it are made.

    Parameters
    ----------
    path
        The file to write.
    force
        Replace a file that exists. If not, one that another process creates meanwhile is not replaced either.
    durable
        Flush the file to the disk before it is moved, and its name after, so that both survive a power failure.

    Raises
    ------
    FileExistsError
        Birder's own: the file exists, and `force` is false.
    ConfigError
        The path is that of a folder or device.
    WriteError
        The file cannot be written. An `OSError` about another file, which the block may read, is passed on as it is.
    """
    path = at_home(path)
    draft = _beside(path)
    try:
        with write_errors(path, draft):
            if not force and os.path.lexists(path):
                raise file_exists(path)
            if path.is_dir():
                raise ConfigError(f"{path} is a folder: name a file.")
            if path.exists() and not path.is_file():
                raise ConfigError(f"{path} is not a regular file: name another one.")
            _make_folder(path.parent)
            yield draft
            if path.is_file():
                shutil.copymode(path, draft)
            if durable:
                flush(draft)
            if force:
                draft.replace(path)
            else:
                _move_to_free_place(draft, path)
            if durable:
                flush_folder(path.parent)
    finally:
        with contextlib.suppress(OSError):  # it has been moved, or there was no place for it
            draft.unlink()


@contextlib.contextmanager
def replacing_folder(folder: str | Path, *, force: bool = True) -> Iterator[Path]:
    """Yield a draft folder beside `folder`, and move what is in it to `folder` at the end of the block.

    A folder that does not exist appears whole. In an existing folder, files of the same names are replaced one by one,
    and other files are kept. On an error before that, nothing changes.

    Parameters
    ----------
    folder
        The folder to write.
    force
        Replace files that exist.

    Raises
    ------
    FileExistsError
        Birder's own: a file of the same name exists, and `force` is false.
    ConfigError
        The path is that of a file.
    WriteError
        The folder cannot be written; see `replacing`.
    """
    folder = at_home(folder)
    draft = _beside(folder)
    try:
        with write_errors(folder, draft):
            if folder.exists() and not folder.is_dir():
                raise ConfigError(f"{folder} is a file: name a folder.")
            _make_folder(draft)
            yield draft
            if taken := sorted(file.name for file in draft.iterdir() if os.path.lexists(folder / file.name)):
                if not force:
                    raise file_exists(folder / taken[0])
            elif not os.path.lexists(folder):
                # Where another process has made it meanwhile, the files are moved one by one.
                with contextlib.suppress(OSError):
                    draft.rename(folder)
                    return
            folder.mkdir(exist_ok=True)
            for file in sorted(draft.iterdir()):
                file.replace(folder / file.name)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def check_writable(path: str | Path) -> None:
    """Raise `WriteError` unless a file or folder of this name could be made: before the work, not after it."""
    path = Path(path)
    above = next(each for each in (path, *path.absolute().parents) if each.exists())
    if above != path and not above.is_dir():
        raise write_error(path, NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR)))
    if not os.access(above, os.W_OK):
        raise write_error(path, PermissionError(errno.EACCES, os.strerror(errno.EACCES)))


def flush(file: str | Path) -> None:
    """Flush a file, or the names in a folder, to the disk; `OSError` if it cannot be."""
    handle = os.open(file, os.O_RDWR if sys.platform == "win32" else os.O_RDONLY)
    try:
        if sys.platform == "darwin":
            import fcntl

            fcntl.fcntl(handle, fcntl.F_FULLFSYNC)  # fsync leaves the data in the drive's own memory there
        else:
            os.fsync(handle)
    finally:
        os.close(handle)


def flush_folder(folder: str | Path) -> None:
    """Flush the names in a folder to the disk, where the system can."""
    if sys.platform == "win32":
        return  # it cannot open a folder, and writes names in order
    try:
        flush(folder)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.ENOENT, errno.EBADF):  # some network file systems
            raise


def _beside(path: Path) -> Path:
    """A name that no other process uses, and that is short enough whatever the length of the path's own."""
    return path.with_name(f"{path.name[:60]}.{secrets.token_hex(4)}{DRAFT_ENDING}")


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except builtins.FileExistsError:  # what mkdir says where the folder, or one above it, is a file
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), folder) from None


def _move_to_free_place(draft: Path, path: Path) -> None:
    try:
        os.link(draft, path)  # fails where something exists, unlike a rename
    except builtins.FileExistsError:
        raise file_exists(path) from None
    except OSError:  # a file system without hard links
        if os.path.lexists(path):
            raise file_exists(path) from None
        draft.rename(path)


@contextlib.contextmanager
def write_errors(path: Path, draft: Path) -> Iterator[None]:
    """Turn a system error about the path or its draft, or about no file in particular, into a `WriteError`."""
    try:
        yield
    except BirderError:
        raise
    except OSError as error:
        # Of a copy that failed halfway, the system names both files, first the one that was read.
        names = [Path(name) for name in (error.filename, error.filename2) if isinstance(name, str | Path)]
        ours = [name in (path, draft, *path.parents) or draft in name.parents for name in names]
        if names and not any(ours):
            raise
        raise write_error(path, error) from error
