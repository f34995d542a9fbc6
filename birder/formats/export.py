"""`export`: a collection into a file of another format."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal, get_args
from urllib.parse import urlsplit

from birder.collection.filter import Filter
from birder.collection.storage import Storage
from birder.errors import CollectionError, ConfigError
from birder.files import replacing, replacing_folder
from birder.formats.camtrap import Project, write_camtrap, zipped
from birder.formats.emb_explorer import write_emb_explorer
from birder.formats.embedding_atlas import Thumbnails, write_embedding_atlas
from birder.formats.megadetector import write_megadetector
from birder.formats.npz import write_npz
from birder.formats.snapshot import Snapshot
from birder.formats.tables import write_csv, write_parquet
from birder.version import __version__

Tool = Literal["emb-explorer", "camtrap-dp", "megadetector", "embedding-atlas"]
Places = Mapping[str, tuple[float, float]]
_WRITERS: dict[str, Callable[[Snapshot, Path], int]] = {
    ".parquet": write_parquet,
    ".csv": write_csv,
    ".npz": write_npz,
}


def export(
    collection: Storage,
    file: str | Path,
    *,
    for_: Tool | None = None,
    where: str | Filter | None = None,
    results: str | Path | None = None,
    project: Project | None = None,
    classifier: str | None = None,
    pictures_at: str | None = None,
    places: Places | None = None,
    thumbnails: Thumbnails | None = None,
    force: bool = False,
) -> str:
    """Write a collection, as it is now, into a file; the collection itself is not touched.

    Parameters
    ----------
    collection
        What to write.
    file
        .parquet, .csv or .npz; with `for_`, what that tool reads: .parquet (emb-explorer, embedding-atlas), a folder or
        .zip (camtrap-dp), .json (megadetector).
    for_
        The tool it is for.
    where
        A filter; default: all rows.
    results
        For megadetector: the results that the predictions go into.
    project
        For camtrap-dp: what the photographs do not tell.
    classifier
        For camtrap-dp and megadetector: the name of what made the predictions; the collection's model without it.
    pictures_at
        For emb-explorer: the address of a `birder serve` of this collection, from which it fetches pictures.
    places, thumbnails
        For embedding-atlas: where rows are on the map (x and y by id), and what gives their pictures.
    force
        Overwrite what is there.

    Returns
    -------
    What was written, for people.

    Raises
    ------
    ConfigError
        The file's ending says no format, it is there already, cannot be written, or something needed is not given.
    CollectionError
        There is nothing to write.
    """
    file = Path(file)
    snapshot = Snapshot(collection, where)
    by = classifier or f"{collection.model.name} (Birder {__version__})"
    if for_ == "camtrap-dp":
        return _camtrap(collection, snapshot, file, project or Project(), by, force)
    if for_ == "megadetector":
        if results is None:
            raise ConfigError("Name MegaDetector's results that the predictions shall go into: --results FILE.json")
        _demand_ending(file, ".json", for_)
        with replacing(file, force=force) as draft:
            merged = write_megadetector(snapshot, Path(results), draft, by)
        left = f"; {merged.unmatched:,} predictions are of no detection there" if merged.unmatched else ""
        return f"{merged.merged:,} detections have a classification in {file}{left}."
    if for_ == "embedding-atlas":
        return _embedding_atlas(collection, snapshot, file, places, thumbnails, force)
    if for_ == "emb-explorer":
        _demand_ending(file, ".parquet", for_)
    elif for_ is not None:
        raise ConfigError(f"There is no export for {for_!r}, only for {', '.join(get_args(Tool))}.")
    elif file.suffix.lower() not in _WRITERS:
        raise ConfigError(f"{file} ends in no format: name it .parquet, .csv or .npz, or say what it is --for.")
    if pictures_at is not None and urlsplit(pictures_at).scheme not in ("http", "https"):
        raise ConfigError(f"{pictures_at} is no web address: give that of birder serve, as in http://127.0.0.1:8000")
    for_explorer = functools.partial(write_emb_explorer, pictures_at=pictures_at)
    write = for_explorer if for_ == "emb-explorer" else _WRITERS[file.suffix.lower()]
    if snapshot.count() == 0:
        raise CollectionError(
            "No rows match the filter." if where is not None else f"{collection.path} has no rows to export."
        )
    with replacing(file, force=force) as draft:
        rows = write(snapshot, draft)
    return f"{rows:,} rows in {file}."


def _embedding_atlas(
    collection: Storage,
    snapshot: Snapshot,
    file: Path,
    places: Places | None,
    thumbnails: Thumbnails | None,
    force: bool,
) -> str:
    if places is None or thumbnails is None:
        raise CollectionError(f"{collection.path} has no map yet: compute it with birder map {collection.path}")
    _demand_ending(file, ".parquet", "embedding-atlas")
    with replacing(file, force=force) as draft:
        done = write_embedding_atlas(snapshot, draft, places, thumbnails)
    off = (
        f"; {done.off_map:,} are not on the map (birder map DIR --recompute) and were left out" if done.off_map else ""
    )
    bare = f"; {done.pictureless:,} have no picture, as it cannot be read" if done.pictureless else ""
    return f"{done.rows:,} rows in {file}{off}{bare}. Open it with: embedding-atlas {file} --x x --y y"


def _camtrap(
    collection: Storage, snapshot: Snapshot, file: Path, project: Project, classifier: str, force: bool
) -> str:
    if file.suffix.lower() == ".zip":
        with replacing(file, force=force) as draft, TemporaryDirectory(dir=file.parent, prefix=".birder-") as folder:
            written = write_camtrap(collection, snapshot, Path(folder), project, classifier)
            zipped(Path(folder), draft)
    else:
        with replacing_folder(file, force=force) as folder:
            written = write_camtrap(collection, snapshot, folder, project, classifier)
    return (
        f"{written.observations:,} observations of {written.media:,} media in {written.deployments:,} deployments "
        f"in {file}.{_doubts(written.doubtful)}"
    )


def _doubts(names: list[str]) -> str:
    if not names:
        return ""
    shown = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
    return (
        f"\nWarning: {len(names):,} of the scientific names may be of no taxa ({shown}): nothing says that they are. "
        "Bring their ranks with birder embed --table, or name them in the taxonomic of --package."
    )


def _demand_ending(file: Path, ending: str, tool: str) -> None:
    if file.suffix.lower() != ending:
        raise ConfigError(f"For {tool}, the file must end in {ending}: name it {file.with_suffix(ending).name}.")
