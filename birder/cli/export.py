"""`birder export`: a collection into a file that other tools read."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from birder.cli import options
from birder.cli.errors import FAILED
from birder.cli.output import image_name, note, one_line
from birder.formats.table import export_formats

ExportFormat = StrEnum("ExportFormat", {name.replace("-", "_"): name for name in export_formats()})  # type: ignore[misc]  # the names are data
"""The formats that a collection can be exported to."""


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


def export(
    collection: options.Collection,
    to: Annotated[
        Path,
        options.to_option(".parquet, .csv, .npz, or what --format asks for; for camtrap-dp, xmp and folders a folder"),
    ],
    format: Annotated[ExportFormat | None, options.format_option(", ".join(ExportFormat))] = None,
    where: options.Where = None,
    force: options.Force = False,
    by: Annotated[
        str | None,
        typer.Option(
            "--by",
            metavar="COLUMN",
            help="folders, xmp, birder-eval: name images by the label, the prediction, or a column of text "
            "(default: label).",
        ),
    ] = None,
    link: Annotated[
        bool, typer.Option("--link", help="folders: make hard links, which take no space, instead of copies.")
    ] = False,
    folder_labels: Annotated[
        bool,
        typer.Option("--folder-labels", help="xmp, camtrap-dp, camtrapR: also export labels taken from folder names."),
    ] = False,
    images_at: Annotated[
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
    title: Annotated[
        str | None, typer.Option("--title", metavar="TITLE", help="camtrap-dp: title of the project.")
    ] = None,
    sampling_design: Annotated[
        SamplingDesign | None,
        typer.Option(
            "--sampling-design",
            metavar="DESIGN",
            help=f"camtrap-dp: how locations were chosen: {', '.join(SamplingDesign)}.",
        ),
    ] = None,
    capture_method: Annotated[
        CaptureMethod | None,
        typer.Option(
            "--capture-method",
            metavar="METHOD",
            help=f"camtrap-dp: what triggered the cameras: {', '.join(CaptureMethod)}.",
        ),
    ] = None,
    contributor: Annotated[
        list[str] | None, typer.Option("--contributor", metavar="NAME", help="camtrap-dp: a contributor; repeatable.")
    ] = None,
    latitude: Annotated[
        float | None,
        typer.Option("--latitude", min=-90.0, max=90.0, metavar="DEGREES", help="camtrap-dp: for images without one."),
    ] = None,
    longitude: Annotated[
        float | None,
        typer.Option(
            "--longitude", min=-180.0, max=180.0, metavar="DEGREES", help="camtrap-dp: for images without one."
        ),
    ] = None,
    time_zone: Annotated[
        str | None,
        typer.Option(
            "--time-zone", metavar="ZONE", help="camtrap-dp: time zone of the cameras' clocks: Europe/Berlin or +02:00."
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
    import birder
    from birder.formats.camtrap import read_zone

    project = birder.Project(
        package=package,
        title=title,
        sampling_design=sampling_design and sampling_design.value,
        capture_method=capture_method and capture_method.value,
        contributors=contributor or (),
        latitude=latitude,
        longitude=longitude,
        zone=None if time_zone is None else read_zone(time_zone),
        labelled_by=labelled_by,
    )
    for_format: dict[str, Any] = {
        "by": by,
        "link": link or None,
        "folder_labels": folder_labels or None,
        "images_at": images_at,
        "results": results,
        "classifier": classifier,
        "project": None if project == birder.Project() else project,
    }
    given = {name: value for name, value in for_format.items() if value is not None}
    name: Any = format and format.value
    done = birder.open_collection(collection).export(to, name, where=where, force=force, **given)
    note(str(done))
    _tell_failures(done.failed)


def _tell_failures(failures: Sequence[tuple[str, str]]) -> None:
    """List what could not be exported, each with its reason, and end with the exit code that says so."""
    for uri, reason in failures[:_FAILURES_SHOWN]:
        note(f"birder: {one_line(image_name(uri))}: {one_line(reason)}")
    if failures:
        more = f" (the first {_FAILURES_SHOWN} are shown)" if len(failures) > _FAILURES_SHOWN else ""
        note(f"{len(failures):,} failed{more}.")
        raise typer.Exit(FAILED)
