"""`birder export`: a collection into a file that other tools read."""

from __future__ import annotations

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


_OF_CAMTRAP = "With --for camtrap-dp"


def export(
    collection: Annotated[Path, typer.Argument(metavar="DIR", help="The collection.")],
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE",
            help="What to write: .parquet, .csv (without embeddings) or .npz; with --for camtrap-dp a folder or .zip.",
        ),
    ],
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
        bool, typer.Option("--folder-labels", help=f"{_OF_CAMTRAP}: names of folders are observations, too.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Overwrite what is there.")] = False,
) -> None:
    """Take a collection elsewhere: everything as Parquet, CSV or .npz, or what another tool reads.

    Examples: birder export photos.birder photos.parquet

    birder export photos.birder owls.csv --where "label = 'owl'"

    birder export trap.birder classified.json --for megadetector --results megadetector.json
    """
    if results is not None and for_ is not Tool.megadetector:
        raise typer.BadParameter("--results has a meaning only with --for megadetector.")
    if classifier is not None and for_ not in (Tool.megadetector, Tool.camtrap_dp):
        raise typer.BadParameter("--classifier has a meaning only with --for megadetector and --for camtrap-dp.")
    described = (package, title, sampling_design, capture_method, contributor, latitude, longitude, time_zone)
    if for_ is not Tool.camtrap_dp and (
        folder_labels or any(each not in (None, []) for each in (*described, labelled_by))
    ):
        raise typer.BadParameter("Options that describe a project have a meaning only with --for camtrap-dp.")
    from birder.collection.store import Collection
    from birder.exchange.camtrap import Project
    from birder.exchange.deployments import read_zone
    from birder.exchange.export import export as run

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
    note(
        run(
            Collection.open(collection),
            file,
            for_=for_.value if for_ else None,
            where=where,
            results=results,
            project=project,
            classifier=classifier,
            force=force,
        )
    )
