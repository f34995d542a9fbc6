"""`birder export`: a collection into a file that other tools read."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from birder.cli.output import note


class Tool(StrEnum):
    """What an export can be made for."""

    emb_explorer = "emb-explorer"
    camtrap_dp = "camtrap-dp"
    megadetector = "megadetector"
    embedding_atlas = "embedding-atlas"
    xmp = "xmp"


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
_OF_CAMTRAP = "With --for camtrap-dp"


def export(
    collection: Annotated[Path, typer.Argument(metavar="DIR", help="The collection.")],
    file: Annotated[
        Path | None,
        typer.Argument(
            metavar="FILE",
            help="What to write: .parquet, .csv (without embeddings) or .npz; with --for camtrap-dp a folder or .zip; "
            "with --for xmp the folder that the photographs are in.",
        ),
    ] = None,
    sort_into: Annotated[
        Path | None,
        typer.Option("--sort-into", metavar="DIR", help="Put copies of the photographs into folders here, by name."),
    ] = None,
    by: Annotated[
        str | None,
        typer.Option(
            "--by", help="With --sort-into and --for xmp: names are the label, the prediction, or a column of text."
        ),
    ] = None,
    link: Annotated[
        bool, typer.Option("--link", help="With --sort-into: hard links, which need no room, rather than copies.")
    ] = False,
    pictures_at: Annotated[
        str | None,
        typer.Option(
            "--pictures-at",
            metavar="URL",
            help="With --for emb-explorer: the address of birder serve for this collection, which shows its pictures.",
        ),
    ] = None,
    for_: Annotated[Tool | None, typer.Option("--for", help="The tool that shall read it.")] = None,
    where: Annotated[
        str | None, typer.Option("--where", metavar="SQL", help="Only the rows that this holds for: \"label = 'owl'\".")
    ] = None,
    results: Annotated[
        Path | None,
        typer.Option(
            "--results", metavar="JSON", help="With --for megadetector: the results to merge predictions into."
        ),
    ] = None,
    classifier: Annotated[
        str | None,
        typer.Option("--classifier", help="Who made the predictions, as it shall stand there; the model without it."),
    ] = None,
    package: Annotated[
        Path | None,
        typer.Option(
            "--package",
            metavar="JSON",
            help=f"{_OF_CAMTRAP}: a datapackage.json to take metadata, deployments and media from.",
        ),
    ] = None,
    title: Annotated[str | None, typer.Option("--title", help=f"{_OF_CAMTRAP}: the project's.")] = None,
    sampling_design: Annotated[
        SamplingDesign | None, typer.Option("--sampling-design", help=f"{_OF_CAMTRAP}: how places were chosen.")
    ] = None,
    capture_method: Annotated[
        CaptureMethod | None, typer.Option("--capture-method", help=f"{_OF_CAMTRAP}: what released the cameras.")
    ] = None,
    contributor: Annotated[
        list[str] | None, typer.Option("--contributor", help=f"{_OF_CAMTRAP}: a name; may be repeated.")
    ] = None,
    latitude: Annotated[
        float | None,
        typer.Option("--latitude", min=-90.0, max=90.0, help=f"{_OF_CAMTRAP}: where photographs do not say it."),
    ] = None,
    longitude: Annotated[
        float | None,
        typer.Option("--longitude", min=-180.0, max=180.0, help=f"{_OF_CAMTRAP}: where photographs do not say it."),
    ] = None,
    time_zone: Annotated[
        str | None,
        typer.Option("--time-zone", help=f"{_OF_CAMTRAP}: of the cameras' clocks, as in Europe/Berlin or +02:00."),
    ] = None,
    labelled_by: Annotated[
        str | None, typer.Option("--labelled-by", help=f"{_OF_CAMTRAP}: who gave the labels.")
    ] = None,
    folder_labels: Annotated[
        bool,
        typer.Option("--folder-labels", help="With --for camtrap-dp and --for xmp: names of folders count as labels."),
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Overwrite what is there.")] = False,
) -> None:
    """Take a collection elsewhere: everything as Parquet, CSV or .npz, or what another tool reads.

    Examples: birder export photos.birder photos.parquet

    birder export photos.birder owls.csv --where "label = 'owl'"

    birder export trap.birder classified.json --for megadetector --results megadetector.json

    birder export photos.birder --sort-into sorted/ --by prediction
    """
    if (file is None) == (sort_into is None):
        raise typer.BadParameter("name what to write: a FILE, or a folder with --sort-into (one of the two).")
    if sort_into is not None and for_ is not None:
        raise typer.BadParameter("--sort-into and --for are two exports: ask for one at a time.")
    from birder.collection.storage import Storage
    from birder.formats.camtrap import Project, read_zone
    from birder.formats.export import ExportOptions
    from birder.formats.export import export as run

    described = (package, title, sampling_design, capture_method, contributor, latitude, longitude, time_zone)
    options: ExportOptions = {
        "link": link,
        "folder_labels": folder_labels,
        "results": results,
        "classifier": classifier,
        "images_at": pictures_at,
    }
    if by is not None:
        options["by"] = by
    if any(each not in (None, []) for each in (*described, labelled_by)):
        options["project"] = Project(
            package,
            title,
            sampling_design.value if sampling_design else None,
            capture_method.value if capture_method else None,
            contributor or (),
            latitude,
            longitude,
            read_zone(time_zone) if time_zone else None,
            labelled_by,
        )
    opened = Storage.open(collection)
    if for_ is Tool.embedding_atlas:
        from birder.analysis.projection import read_map

        if (points := read_map(opened)) is not None:
            options["points"] = dict(zip(points.ids, map(tuple, points.xy.tolist()), strict=True))
    to = sort_into or file
    assert to is not None
    report = run(
        opened, to, "folders" if sort_into else for_.value if for_ else None, where=where, force=force, **options
    )
    note(report.summary)
    _tell_failures(report.failed)


def _tell_failures(failures: Sequence[tuple[str, str]]) -> None:
    """What could not be done, each with its reason, and the exit code that says so."""
    from birder.sources import readable, uri_to_name

    for where, reason in failures[:_FAILURES_SHOWN]:
        note(f"birder: {uri_to_name(where) if where.startswith('file://') else readable(where)}: {reason}")
    if failures:
        more = f" (the first {_FAILURES_SHOWN} are shown)" if len(failures) > _FAILURES_SHOWN else ""
        note(f"{len(failures):,} failed{more}.")
        raise typer.Exit(1)
