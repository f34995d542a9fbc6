"""The routes under /api/v1, one file a resource."""

from birder.server.routes import (
    boxes,
    collection,
    columns,
    duplicates,
    events,
    export,
    failures,
    filters,
    finding,
    labels,
    map,
    photos,
    places,
    predictions,
    review,
    search,
    stacks,
    statistics,
    suggestions,
    teach,
    times,
    uploads,
    videos,
)

ROUTERS = tuple(
    module.router
    for module in (
        collection,
        photos,
        stacks,
        boxes,
        videos,
        columns,
        places,
        filters,
        finding,
        search,
        predictions,
        review,
        uploads,
        labels,
        times,
        events,
        duplicates,
        statistics,
        suggestions,
        teach,
        map,
        export,
        failures,
    )
)
"""In the order in which the interface's page shows them."""
