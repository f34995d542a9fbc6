"""Which images of a collection the paths in another tool's file mean, though they may begin elsewhere."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable
from itertools import takewhile
from pathlib import Path
from typing import NamedTuple

from birder.errors import BirderError, ConfigError
from birder.sources import uri_to_path

_COMPARED = 1000  # paths, to find out where they begin
Parts = tuple[str, ...]
"""A path as the names of its folders and its file."""


class Prefix(NamedTuple):
    """What paths begin with in a file, and what they begin with here."""

    there: Parts
    here: Parts

    def moved(self, path: Parts) -> Parts:
        """A path of the file as it is here; empty if it does not begin so."""
        rest = path[len(self.there) :]
        return (*self.here, *rest) if path[: len(self.there)] == self.there else ()


def path_parts(path: str) -> Parts:
    """The parts of a path with slashes of either kind."""
    return tuple(part for part in path.replace("\\", "/").split("/") if part not in ("", "."))


def uri_parts(uri: str) -> Parts:
    """The parts of an image's path, or of its URL; of a box, those of its image."""
    try:
        return path_parts(uri_to_path(uri))
    except BirderError:
        return path_parts(uri.partition("#")[0])


def find_prefix(paths: Iterable[Parts], images: Collection[Parts], file: Path, *, whole: bool = False) -> Prefix:
    """Find out where the paths in a file begin.

    They may be relative to the folder of the file, or be as they are here. Else they are taken to begin at one other
    place: that at which most of the first thousand match, by their last parts.

    Parameters
    ----------
    paths
        The paths in the file.
    images
        The images of the collection.
    file
        The file.
    whole
        The paths are relative to some folder here: they match as a whole, or not at all.

    Raises
    ------
    ConfigError
        No path matches, or equally many match at two places.
    """
    paths = list(paths)
    known = set(images)
    for prefix in (Prefix((), path_parts(str(file.absolute().parent))), Prefix((), ())):
        if any(prefix.moved(path) in known for path in paths):
            return prefix
    best = _counted(paths, known, whole).most_common(2)
    if not best:
        raise ConfigError(f"No image in {file} matches a row of the collection. Are both of the same images?")
    if len(best) == 2 and best[0][1] == best[1][1]:
        folders = " or ".join(sorted("/" + "/".join(prefix.here) for prefix, _ in best))
        raise ConfigError(f"The images in {file} could be those in {folders}. Move the file into their folder.")
    return best[0][0]


def _counted(paths: list[Parts], images: set[Parts], whole: bool) -> Counter[Prefix]:
    """How many images support each prefix."""
    by_name: dict[str, list[Parts]] = defaultdict(list)
    for image in images:
        if image:
            by_name[image[-1]].append(image)
    prefixes: Counter[Prefix] = Counter()
    compared = 0
    for path in paths:
        found = [
            (image, same)
            for image in (by_name.get(path[-1], []) if path else [])
            if (same := _same_at_end(path, image)) == len(path) or not whole
        ]
        prefixes.update(Prefix(path[: len(path) - same], image[: len(image) - same]) for image, same in found)
        compared += bool(found)
        if compared >= _COMPARED:
            break
    return prefixes


def _same_at_end(a: Parts, b: Parts) -> int:
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(a[::-1], b[::-1], strict=False)))
