"""What a user may name: a folder, file, pattern, URL, manifest, shard or another tool's list."""

from __future__ import annotations

import glob
import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from birder.errors import BirderError, ConfigError
from birder.extras import need
from birder.images.open import IMAGE_EXTENSIONS
from birder.images.video import VIDEO_EXTENSIONS
from birder.sources.files import find_images, fitting, label_of
from birder.sources.manifest import read_manifest
from birder.sources.parquet import ParquetShard, image_column, open_parquet
from birder.sources.read import file_system
from birder.sources.source import Source, box_of, is_url, readable, uri_to_path
from birder.sources.tar import TarShard
from birder.sources.video import FrameChoice, VideoShard, frame_of, is_video
from birder.words import counted


class UnlistedWarning(UserWarning):
    """A folder has images that the list in it does not name."""


@dataclass(frozen=True)
class ImageList:
    """How another tool lists images in a file.

    Attributes
    ----------
    name
        The name of the file, or the end of it.
    is_in
        Whether a folder is one that such a file describes; raises `ConfigError` if that cannot be determined.
    read
        Gives the images, from the absolute path or the URL of the file.
    """

    name: str
    is_in: Callable[[Path], bool]
    read: Callable[[str], Iterator[Source]]


def find_sources(
    paths: Iterable[str | Path],
    lists: Sequence[ImageList] = (),
    *,
    labels: bool = True,
    frames: FrameChoice = FrameChoice(),  # noqa: B008 - it is frozen
) -> list[Source]:
    """Find the images that paths name, of whatever kind; shards and videos come whole, for `plan` to scan.

    Parameters
    ----------
    paths
        Folders, files and patterns as in `find_images`; URLs; tables (.csv, .tsv, .parquet), shards (.tar, .parquet
        with images), lists of other tools (their file, or its folder). Shards, tables and lists inside a folder are
        files of it like others: name them, or a pattern that matches them.
    lists
        The lists of other tools that are recognized; `birder.formats.sources.find_sources` knows them all.
    labels
        Use the name of a file's folder as its label, unless another source provides one.
    frames
        Which frames of videos are images.

    Raises
    ------
    BirderError
        A path that does not exist, a pattern that matches nothing, a table that cannot be read; a video is named, and
        the extra `video` is not installed.
    """
    found: dict[str, Source] = {}
    for path in paths:
        for source in _find(os.fspath(path), lists, labels):
            _as_video(source, frames)
            first = found.setdefault(source.path, source)
            if first is not source and source.columns:  # a table that describes what a folder named before
                first.describe(source.columns)
    return list(found.values())


def sources_again(
    uris: Iterable[str],
    *,
    labels: bool = True,
    frames: FrameChoice = FrameChoice(),  # noqa: B008 - it is frozen
) -> tuple[list[Source], list[str]]:
    """The sources of uris that failed, as far as uris tell; and the uris that only their list can name: boxes.

    Files of this machine that are gone are left out.
    """
    paths: dict[str, list[str]] = {}
    boxes = []
    for uri in uris:
        whole, _, fragment = uri.partition("#")
        if box_of(fragment) is not None:
            boxes.append(uri)
            continue
        path = whole if is_url(whole) else uri_to_path(whole)
        if is_url(path) or os.path.lexists(path):
            paths.setdefault(path, []).append(fragment)
    found: list[Source] = []
    for path, fragments in paths.items():
        again = [frame for each in fragments if (frame := frame_of(path, each)) is not None]
        if len(again) < len(fragments):
            again += _shard(path) or ([Source(path)] if is_url(path) else find_images([path]))
        for source in again:
            if labels and source.members is None and not is_url(path):
                source.label = label_of(path)
            _as_video(source, frames)
        found += again
    return found, boxes


def _as_video(source: Source, frames: FrameChoice) -> None:
    """Give a source that names a whole video its frames; a list may have said what these show."""
    if isinstance(source.members, VideoShard):
        source.members.choice = frames
    if not is_video(source.path) or source.problem is not None:
        return
    if source.part is not None or source.box is not None or source.members is not None:
        return
    if is_url(source.path):
        source.problem = "video is read from files of this machine only: download it first"
    else:
        source.members = VideoShard(source.path, frames)


def _find(path: str, lists: Sequence[ImageList], labels: bool) -> Iterable[Source]:
    if path.startswith("file://"):
        path = uri_to_path(path)
    if is_url(path):
        return _find_url(path, lists)
    if not os.path.lexists(path) and glob.has_magic(path):
        matches = fitting(path)
        if any(_is_list(match, lists) for match in matches):
            return [source for match in matches for source in _find(match, lists, labels)]
    absolute = os.path.abspath(path)  # noqa: PTH100 - a uri must not depend on where links lead today
    if _is_list(path, lists) and Path(path).is_file():
        return _read_list(absolute, lists)
    if Path(path).is_dir():
        for each in lists:
            if each.is_in(Path(path)):
                return _with_others(list(each.read(f"{absolute}/{each.name}")), absolute, each.name, labels)
    if is_video(path) and Path(path).is_file():
        need("video", "Reading video")
    return find_images([path], labels=labels, extensions=IMAGE_EXTENSIONS | VIDEO_EXTENSIONS)


def _with_others(listed: list[Source], folder: str, name: str, labels: bool) -> list[Source]:
    """The images of a folder's list, and then those in the folder that are not in the list; a warning tells of these.

    An export into the folder of the images makes the list, and images that come later are not in it.
    """
    known = {source.path for source in listed}
    every = find_images([folder], labels=labels, extensions=IMAGE_EXTENSIONS | VIDEO_EXTENSIONS)
    others = [source for source in every if source.path not in known and source.problem is None]
    if others:
        warnings.warn(
            f"{readable(folder)} has a {name}, which lists {counted(len(known), 'file')}, and "
            f"{counted(len(others), 'image')} that it does not list: both are taken.",
            UnlistedWarning,
            stacklevel=2,
        )
    return listed + others


def _is_list(path: str, lists: Sequence[ImageList]) -> bool:
    ours = (".csv", ".tsv", ".parquet", ".tar", ".tar.gz", ".tgz")
    return path.lower().partition("?")[0].endswith((*ours, *(each.name for each in lists)))


def _read_list(path: str, lists: Sequence[ImageList]) -> Iterable[Source]:
    name = path.lower().partition("?")[0]
    if name.endswith((".tar.gz", ".tgz")):
        raise ConfigError(
            f"{readable(path)} is compressed, and would have to be decompressed again for each image: gunzip it."
        )
    for each in lists:
        if name.endswith(each.name):
            return each.read(path)
    return _shard(path) or read_manifest(path)


def _shard(path: str) -> list[Source]:
    """The shard that a path names; nothing if it is not a shard."""
    name = path.lower().partition("?")[0]
    if name.endswith(".tar"):
        return [Source(path, members=TarShard(path))]
    if name.endswith(".parquet"):
        try:
            with open_parquet(path) as file:
                schema = file.schema_arrow
        except ConfigError as error:  # one of a thousand files: the others are still read
            return [Source(path, problem=str(error))]
        if image_column(schema) is not None:
            return [Source(path, members=ParquetShard(path, schema))]
    return []


def _find_url(url: str, lists: Sequence[ImageList]) -> Iterator[Source]:
    """A URL; with * a pattern, with / at its end all images below, where its protocol can list."""
    if "*" not in url and not url.endswith("/"):
        yield from _read_list(url, lists) if _is_list(url, lists) else [Source(url)]
        return
    filesystem, inside = file_system(url)
    try:
        names = filesystem.glob(inside) if "*" in url else filesystem.find(inside)
        whole = [str(filesystem.unstrip_protocol(name)) for name in sorted(names)]
    except (OSError, NotImplementedError, ValueError) as error:
        raise BirderError(f"Cannot list {url}: {error}. Name its files, or a table of them.") from error
    known = IMAGE_EXTENSIONS | VIDEO_EXTENSIONS  # a video is refused with the reason, and not left out silently
    wanted = [name for name in whole if os.path.splitext(name)[1].lower() in known or _is_list(name, lists)]  # noqa: PTH122
    if not wanted:
        raise BirderError(f"There are no images in {url}. Check it; nothing was done.")
    for name in wanted:
        if "*" in url and _is_list(name, lists):
            yield from _read_list(name, lists)
        elif not _is_list(name, lists):
            yield Source(name)
