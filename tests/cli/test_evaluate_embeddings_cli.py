"""`birder evaluate --protocol`: published few-shot figures, and names of classes as texts, from the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.cli.running import Session, shared_session

DATA = Path(__file__).parents[1] / "data"
CLIP = DATA / "openclip"
PUBLISHED = {"bioclip-v1": "v1", "bioclip-v2": "v2"}


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Session:
    """An interpreter in a folder with the published vectors, imported, and 24 images embedded by a tiny CLIP model."""
    folder = tmp_path_factory.mktemp("protocols")
    source = Image.open(DATA / "chelsea.png").convert("RGB")
    for i in range(24):
        to = folder / "photos" / ("cats" if i % 2 else "dogs") / f"{i}.png"
        to.parent.mkdir(parents=True, exist_ok=True)
        source.crop((9 * i, 7 * i, 9 * i + 60, 7 * i + 60)).save(to)
    session = shared_session().at(folder)
    session.run("import", "tol.birder", DATA / "bioclip2-tol200m-1030.parquet", "--model", "someone/bioclip-2")
    session.run("embed", "photos", "--in", "c.birder", "--model", CLIP, "--engine", "torch", "--precision", "fp32")
    return session


def evaluated(session: Session, *arguments: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(session.run("evaluate", *arguments, "--format", "json").stdout)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("variant", PUBLISHED)
def test_few_shot_folds_are_the_published_ones(session: Session, variant: str) -> None:
    found = evaluated(session, "tol.birder", "--column", "order", "--protocol", "few-shot", "--as", variant)
    result = found["protocols"]["few-shot"]
    reference = json.loads((DATA / "bioclip-simpleshot.json").read_text())["order"]
    for shots in ("1", "5"):
        expected = reference[f"{PUBLISHED[variant]} {shots}-shot"]
        assert result["folds"][shots] == pytest.approx(expected[:5], rel=0, abs=1e-6)
        assert result["metrics"][f"top1_{shots}_shot"]["estimate"] == pytest.approx(expected[6], rel=0, abs=1e-6)
    assert result["projected"] is False and "embeddings as stored" in result["how"]


def test_published_few_shot_is_on_projected_features_where_the_text_encoder_is_here(session: Session) -> None:
    asked = ("c.birder", "--column", "label", "--as", "bioclip-v1", "--protocol")
    alone = evaluated(session, *asked, "few-shot")["protocols"]["few-shot"]
    assert alone["projected"] is True and "images and texts share" in alone["how"]
    beside = evaluated(session, *asked, "few-shot,zero-shot")["protocols"]["few-shot"]
    assert beside == alone  # whatever else is asked for
    ours = evaluated(session, "c.birder", "--protocol", "few-shot", "--split", "random")["protocols"]["few-shot"]
    assert ours["projected"] is False


def test_zero_shot_names_as_predict_does(session: Session) -> None:
    found = evaluated(session, "c.birder", "--protocol", "zero-shot", "--split", "random")["protocols"]["zero-shot"]
    named = json.loads(
        session.run("predict", "--in", "c.birder", "--labels", "cats,dogs", "-k", "1", "--format", "json").stdout
    )
    right = [Path(each["path"]).parent.name == each["label"] for each in named]
    assert len(right) == found["metrics"]["top1"]["n"] == 24
    assert found["metrics"]["top1"]["estimate"] == pytest.approx(sum(right) / 24)
    assert found["metrics"]["top5"]["estimate"] == 1  # of two classes
    assert found["model"] == str(CLIP) and "no label was used" in found["how"]


@pytest.mark.slow
def test_zero_shot_without_a_text_encoder_is_refused_in_words(session: Session) -> None:
    done = session.run("evaluate", "tol.birder", "--column", "class", "--protocol", "zero-shot", code=None)
    assert done.returncode != 0 and "someone/bioclip-2" in done.stderr
