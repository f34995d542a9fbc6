"""`birder quantize`, then embedding with what it made."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.running import Session

DATA = Path(__file__).parents[1] / "data"

pytestmark = pytest.mark.slow  # every test runs whole commands


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return Path(shutil.copy(DATA / "birder" / "vit_tiny_p16_pn_test.pt", tmp_path / "vit_b16_pn_tiny.pt"))


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    """An interpreter with a cache of its own: other tests need a model that is not quantised."""
    folder = tmp_path_factory.mktemp("quantize")
    session = Session(cwd=folder, env={**os.environ, "BIRDER_CACHE": str(folder / "cache")})
    yield session
    session.close()


def test_quantize_reports_cosine_and_speed_and_its_graph_embeds(
    session: Session, model: Path, photos: Path, tmp_path: Path
) -> None:
    shutil.copytree(photos / "birds", tmp_path / "birds")
    (tmp_path / "birds" / "broken.jpg").write_text("no image")
    done = session.run("quantize", tmp_path / "birds", "--model", model, code=1)
    assert "broken.jpg: unknown file format" in done.stderr and "left out" in done.stderr
    assert re.search(r"cosine to fp32 (0\.9\d+|1\.0+) on average, (0|1)\.\d+ at the lowest, over 7 images", done.stderr)
    rates = re.search(r"([\d.]+) images/s in int8, ([\d.]+) in (fp32|bf16), ([\d.]+) times as fast", done.stderr)
    assert rates is not None
    gain = float(rates[1]) / float(rates[2])
    assert float(rates[4]) == pytest.approx(gain, abs=0.06)  # it is told with one digit
    if abs(gain - 1.1) > 0.01:
        assert ("int8 is not faster" in done.stderr) == (gain < 1.1)
    to = tmp_path / "c"
    done = session.run("embed", tmp_path / "birds", "--in", to, "--model", model, "--precision", "int8", code=1)
    assert "Embedded 27" in done.stderr and "int8" in done.stderr
    found = session.run("search", to, "--image", photos / "birds" / "owl.jpg", "-k", "1", "--format", "json")
    (row,) = json.loads(found.stdout)
    assert row["path"].endswith("owl.jpg") and row["similarity"] > 0.99


def test_too_few_images_are_refused_before_the_work(session: Session, model: Path, photos: Path) -> None:
    done = session.run("quantize", photos / "amphibians", "--model", model, code=2)
    assert "at least 8 images" in done.stderr
