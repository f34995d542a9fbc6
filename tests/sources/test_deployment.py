"""Deployments from folders: which folder counts, and what becomes of labels and existing rows."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from birder.errors import ConfigError
from birder.formats.sources import find_sources
from birder.pipeline.embed import begin_run, plan
from birder.sources import Source, path_to_uri
from birder.sources.deployment import name_deployments
from tests.pipeline.relocating import draw, embed, rows


@pytest.fixture
def card(tmp_path: Path) -> Path:
    draw(tmp_path / "card", "A4/1.png", "A4/fox/2.png", "B1/100RECNX/3.png", "4.png")
    return tmp_path / "card"


def told(given: list[str], level: int) -> dict[str, tuple[object, str | None]]:
    sources = find_sources(given)
    name_deployments(sources, given, level)
    return {Path(source.path).name: (source.columns.get("deployment"), source.label) for source in sources}


def test_a_folder_below_the_one_given_is_the_deployment_and_not_a_label(card: Path) -> None:
    assert told([str(card)], 1) == {
        "1.png": ("A4", None),
        "2.png": ("A4", "fox"),
        "3.png": ("B1", "100RECNX"),
        "4.png": (None, "card"),
    }
    assert told([str(card)], 2)["3.png"] == ("100RECNX", None)
    assert told([str(card / "A4")], 1)["2.png"] == ("fox", None)


def test_levels_of_a_pattern_are_counted_from_its_first_wildcard(card: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert told([f"{card}/**/*.png"], 1)["3.png"] == ("B1", "100RECNX")
    monkeypatch.chdir(card)
    assert told(["*/*.png"], 1) == {"1.png": ("A4", None)}
    assert told([os.curdir], 1)["1.png"] == ("A4", None)


def test_urls_have_folders_too() -> None:
    sources = [Source("s3://bucket/card/A4/1.jpg"), Source("s3://bucket/card/2.jpg")]
    assert name_deployments(sources, ["s3://bucket/card/"], 1) == 1
    assert [source.columns.get("deployment") for source in sources] == ["A4", None]


def test_a_level_that_no_image_has_is_refused(card: Path) -> None:
    with pytest.raises(ConfigError, match="No image has 3 folders"):
        told([str(card)], 3)
    with pytest.raises(ConfigError, match="counted from 1"):
        told([str(card)], 0)


def test_existing_rows_get_their_deployment_from_a_later_run(card: Path) -> None:
    storage = embed(card.parent, card)
    assert rows(storage)[path_to_uri(card / "A4/1.png")]["deployment"] is None
    sources = find_sources([str(card)])
    name_deployments(sources, [str(card)], 1)
    todo = plan(storage, sources)
    with storage.running():
        assert begin_run(storage, todo) == 3
    assert rows(storage)[path_to_uri(card / "A4/1.png")]["deployment"] == "A4"
