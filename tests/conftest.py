from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests.hub import Hub

# How long an example takes says more of what else the machine does.
settings.register_profile("birder", deadline=None)
settings.load_profile("birder")

# The agreement with the published packages needs their environment, which `make peers` builds.
collect_ignore = [] if os.environ.get("BIRDER_PEERS") else ["peers"]


LONGEST = [
    "pipeline/test_distributed.py",
    "test_docs.py",
    "cli/test_examples.py",
    "server/test_page_looks.py",
    "learning/test_train_detector.py",
    "robustness/test_memory.py",
    "inference/test_export.py",
    "robustness/test_hostile.py",
    "learning/test_training.py",
    "test_api.py",
    "server/test_page_accepting.py",
    "server/test_page_review.py",
    "server/test_page_labels.py",
    "server/test_openapi.py",
    "cli/test_endings.py",
    "collection/test_backup.py",
    "server/test_serve_cli.py",
    "collection/test_cut_short.py",
    "collection/test_filter.py",
    "robustness/test_pillow_images.py",
    "robustness/test_promises.py",
    "analysis/test_projection.py",
    "inference/test_engine_openvino.py",
    "cli/test_embed_cli.py",
    "server/test_load.py",
    "collection/test_vector_files.py",
    "learning/test_clip.py",
]
"""The files that take longest run first, so that two processes end at the same time (with --no-loadscope-reorder)."""


@pytest.hookimpl(tryfirst=True)  # before tests are chosen by their markers
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark as fast what is not marked as slow, and begin with the longest files."""
    for item in items:
        if item.get_closest_marker("slow") is None:
            item.add_marker("fast")
    places = {Path(__file__).parent / name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path, len(LONGEST)))


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Keep what Birder caches, here and in children, out of the user's folder; the processes of a run share it."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BIRDER_CACHE", str(folder / "birder-cache"))
        yield folder / "birder-cache"


@pytest.fixture(scope="session", autouse=True)
def no_waiting_for_the_disk() -> Iterator[None]:
    """Here and in no child, what is forced onto the disk is only handed to the system; tests of that patch it again."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", os.fstat)
        yield


@pytest.fixture
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    """A hub on the loopback interface; start children with `env=hub.env` (the client reads HF_ENDPOINT on import)."""
    server = Hub(tmp_path_factory.mktemp("hub"))
    yield server
    server.close()


@pytest.fixture(scope="session")
def photos() -> Path:
    """The folder of example photographs."""
    return Path(__file__).parents[1] / "examples" / "photos"
