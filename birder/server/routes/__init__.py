"""The routes under /api/v1, one file a resource."""

from birder.server.routes import (
    collection,
    columns,
    duplicates,
    events,
    failures,
    finding,
    labels,
    map,
    photos,
    predictions,
    search,
    statistics,
    suggestions,
    times,
    uploads,
    videos,
)

ROUTERS = tuple(
    module.router
    for module in (
        collection,
        photos,
        videos,
        columns,
        finding,
        search,
        predictions,
        uploads,
        labels,
        times,
        events,
        duplicates,
        statistics,
        suggestions,
        map,
        failures,
    )
)
"""In the order in which the interface's page shows them."""
