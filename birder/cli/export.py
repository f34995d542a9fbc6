"""`birder export`: a collection into a file that other tools read."""

from __future__ import annotations

import functools
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from birder.cli import options
from birder.cli.output import note

if TYPE_CHECKING:
    from birder.formats.export import Tool as ExportTool


class ExportFormat(StrEnum):
    """What a collection is exported as."""

    parquet = "parquet"
    csv = "csv"
    npz = "npz"
    emb_explorer = "emb-explorer"
    embedding_atlas = "embedding-atlas"
    camtrap_dp = "camtrap-dp"
    megadetector = "megadetector"
    xmp = "xmp"
    folders = "folders"


class SamplingDesign(StrEnum):
    """Camtrap DP's terms."""

    simple_random = "simpleRandom"
    systematic_random = "systematicRandom"
    clustered_random = "clusteredRandom"
    experimental = "experimental"
    targeted = "targeted"
    opportunistic = "opportunistic"


class CaptureMethod(StrEnum):
    """Camtrap DP's terms."""

    activity_detection = "activityDetection"
    time_lapse = "timeLapse"


_FAILURES_SHOWN = 20
_SMALL = 128  # pixels
_OF_CAMTRAP = "camtrap-dp"


def export(
    collection: options.Collection,
    to: Annotated[
        Path,
        options.to_option(".parquet, .csv, .npz, or what --format asks for; for camtrap-dp, xmp and folders a folder"),
    ],
    format: Annotated[ExportFormat | None, options.FORMAT] = None,
    where: options.Where = None,
    force: options.Force = False,
    by: Annotated[
        str | None,
        typer.Option(
            "--by",
            metavar="COLUMN",
            help="folders, xmp: name images by the label, the prediction, or a column of text (default: label).",
        ),
    ] = None,
    link: Annotated[bool, typer.Option("--link", help="folders: hard links, which take no space, not copies.")] = False,
    folder_labels: Annotated[
        bool, typer.Option("--folder-labels", help="xmp, camtrap-dp: labels that are the name of a folder count too.")
    ] = False,
    pictures_at: Annotated[
        str | None,
        typer.Option(
            "--images-at",
            metavar="URL",
            help="emb-explorer: the address of birder serve for this collection, which shows its images.",
        ),
    ] = None,
    results: Annotated[
        Path | None,
        typer.Option("--results", metavar="JSON", help="megadetector: the results to merge predictions into."),
    ] = None,
    classifier: Annotated[
        str | None,
        typer.Option(
            "--classifier",
            metavar="NAME",
            help="megadetector, camtrap-dp: what made the predictions (default: the model).",
        ),
    ] = None,
    package: Annotated[
        Path | None,
        typer.Option(
            "--package",
            metavar="JSON",
            help="camtrap-dp: a datapackage.json to take metadata, deployments and media from.",
        ),
    ] = None,
    title: Annotated[str | None, typer.Option("--title", metavar="TITLE", help="camtrap-dp: of the project.")] = None,
    sampling_design: Annotated[
        SamplingDesign | None, typer.Option("--sampling-design", help="camtrap-dp: how places were chosen.")
    ] = None,
    capture_method: Annotated[
        CaptureMethod | None, typer.Option("--capture-method", help="camtrap-dp: what triggered the cameras.")
    ] = None,
    contributor: Annotated[
        list[str] | None, typer.Option("--contributor", metavar="NAME", help="camtrap-dp: a contributor; repeatable.")
    ] = None,
    latitude: Annotated[
        float | None,
        typer.Option(
            "--latitude", min=-90.0, max=90.0, metavar="DEGREES", help="camtrap-dp: where images do not say it."
        ),
    ] = None,
    longitude: Annotated[
        float | None,
        typer.Option(
            "--longitude", min=-180.0, max=180.0, metavar="DEGREES", help="camtrap-dp: where images do not say it."
        ),
    ] = None,
    time_zone: Annotated[
        str | None,
        typer.Option(
            "--time-zone", metavar="ZONE", help="camtrap-dp: of the cameras' clocks: Europe/Berlin or +02:00."
        ),
    ] = None,
    labelled_by: Annotated[
        str | None, typer.Option("--labelled-by", metavar="NAME", help="camtrap-dp: who gave the labels.")
    ] = None,
) -> None:
    """Export a collection as Parquet, CSV or .npz, or as what another tool reads.

    For example:

    birder export photos.birder --to photos.parquet

    birder export photos.birder --to owls.csv --where "label = 'owl'"

    birder export photos.birder --to sorted/ --format folders --by label
    """
    if (file is None) == (sort_into is None):
        raise typer.BadParameter("name what to write: a FILE, or a folder with --sort-into (one of the two).")
    if sort_into is not None and for_ is not None:
        raise typer.BadParameter("--sort-into and --for are two exports: ask for one at a time.")
    if by != "label" and sort_into is None and for_ is not Tool.xmp:
        raise typer.BadParameter("--by has a meaning only with --sort-into and --for xmp.")
    if link and sort_into is None:
        raise typer.BadParameter("--link has a meaning only with --sort-into.")
    if pictures_at is not None and for_ is not Tool.emb_explorer:
        raise typer.BadParameter("--images-at has a meaning only with --for emb-explorer.")
    if results is not None and for_ is not Tool.megadetector:
        raise typer.BadParameter("--results has a meaning only with --for megadetector.")
    if classifier is not None and for_ not in (Tool.megadetector, Tool.camtrap_dp):
        raise typer.BadParameter("--classifier has a meaning only with --for megadetector and --for camtrap-dp.")
    described = (package, title, sampling_design, capture_method, contributor, latitude, longitude, time_zone)
    if folder_labels and for_ not in (Tool.camtrap_dp, Tool.xmp):
        raise typer.BadParameter("--folder-labels has a meaning only with --for camtrap-dp and --for xmp.")
    if for_ is not Tool.camtrap_dp and any(each not in (None, []) for each in (*described, labelled_by)):
        raise typer.BadParameter("Options that describe a project have a meaning only with --for camtrap-dp.")
    if sort_into is not None:
        _sort(collection, sort_into, where, by, link)
        return
    assert file is not None
    if for_ is Tool.xmp:
        _write_sidecars(collection, file, where, by, folder_labels)
        return
    from birder.collection.storage import Storage
    from birder.formats.camtrap import Project
    from birder.formats.deployments import read_zone
    from birder.formats.export import export as run

    project = Project(
        package,
        title,
        sampling_design.value if sampling_design else None,
        capture_method.value if capture_method else None,
        contributor or (),
        latitude,
        longitude,
        read_zone(time_zone) if time_zone else None,
        labelled_by,
        folder_labels,
    )
    opened = Storage.open(collection)
    places = thumbnails = None
    if for_ is Tool.embedding_atlas:
        from birder.analysis.projection import read_map
        from birder.cli.pictures import thumbnails as shrink

        points = read_map(opened)
        places = dict(zip(points.ids, map(tuple, points.xy.tolist()), strict=True)) if points is not None else None
        thumbnails = functools.partial(shrink, side=_SMALL)
    note(
        run(
            opened,
            file,
            for_=cast("ExportTool | None", for_.value if for_ else None),
            where=where,
            results=results,
            project=project,
            classifier=classifier,
            pictures_at=pictures_at,
            places=places,
            thumbnails=thumbnails,
            force=force,
        )
    )


def _sort(collection: Path, folder: Path, where: str | None, by: str, link: bool) -> None:
    from birder.collection.storage import Storage
    from birder.formats.snapshot import Snapshot
    from birder.formats.sorting import sort_into

    done = sort_into(Snapshot(Storage.open(collection), where), folder, by=by, link=link)
    there = f", {done.there:,} were there already" if done.there else ""
    note(f"{done.placed:,} {'links' if link else 'copies'} in {folder}{there}.")
    if done.nameless:
        note(f"{done.nameless:,} rows have no {by} and were left out.")
    _tell_failures(done.failures)


def _write_sidecars(collection: Path, folder: Path, where: str | None, by: str, folder_labels: bool) -> None:
    from birder.collection.storage import Storage
    from birder.formats.snapshot import Snapshot
    from birder.formats.xmp import write_sidecars

    rows = Snapshot(Storage.open(collection), where)
    done = write_sidecars(rows, folder, by=by, folder_labels=folder_labels)
    there = f", {done.there:,} say it already" if done.there else ""
    note(f"{done.written:,} sidecars written in {folder}{there}.")
    if done.elsewhere:
        note(f"{done.elsewhere:,} photographs lie elsewhere and were left alone.")
    _tell_failures(done.failures)


def _tell_failures(failures: list[tuple[str, str]]) -> None:
    """What could not be done, each with its reason, and the exit code that says so."""
    from birder.sources import readable, uri_to_name

    for where, reason in failures[:_FAILURES_SHOWN]:
        note(f"birder: {uri_to_name(where) if where.startswith('file://') else readable(where)}: {reason}")
    if failures:
        more = f" (the first {_FAILURES_SHOWN} are shown)" if len(failures) > _FAILURES_SHOWN else ""
        note(f"{len(failures):,} failed{more}.")
        raise typer.Exit(1)
