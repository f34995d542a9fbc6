"""Exit code 1: something failed and the rest was done, whether that was one file or all of them."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pc
import pytest
from PIL import Image

from tests.cli.running import Session, shared_session

pytestmark = pytest.mark.slow  # every test runs whole commands

DATA = Path(__file__).parents[1] / "data"
MODEL = ["--model", "openclip"]
FILES = {"one": "good/cats/1.png one/broken.png", "all": "all/0.png all/1.png"}


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Session:
    """An interpreter in a folder with what the commands below take.

    one/ has ten images and a broken file, all/ ten broken files, good/ ten images. one.birder was made of images of
    which one is gone now, all.birder of images that are all gone.
    """
    home = tmp_path_factory.mktemp("files")
    shutil.copytree(DATA / "openclip", home / "openclip")
    source = Image.open(DATA / "chelsea.png").convert("RGB")
    for number in range(10):
        image = source.crop((20 * number, 10 * number, 20 * number + 90, 10 * number + 90))
        for folder in ("good", "one", "from-one", "from-all"):
            to = home / folder / ("cats" if number % 2 else "dogs") / f"{number}.png"
            to.parent.mkdir(parents=True, exist_ok=True)
            image.save(to)
        (home / "all").mkdir(exist_ok=True)
        (home / "all" / f"{number}.png").write_text("no image")
    (home / "one" / "broken.png").write_text("no image")
    session = shared_session().at(home)
    for name, folder in (("good", "good"), ("one", "from-one"), ("all", "from-all")):
        session.run("embed", folder, "--in", f"{name}.birder", *MODEL, "--engine", "torch")
    (home / "from-one" / "cats" / "1.png").unlink()
    shutil.rmtree(home / "from-all")
    (home / "taxa.csv").write_text("label,genus\ncats,Felis\ndogs,Canis\n")
    vectors = np.random.default_rng(0).normal(size=(3, 32)).astype(np.float32)
    vectors[0] = 0
    np.save(home / "one.npy", vectors)
    np.save(home / "all.npy", np.zeros_like(vectors))
    pc.write_csv(pa.table({"file_name": ["a.jpg", "b.jpg", "c.jpg"]}), home / "rows.csv")
    return session


COMMANDS = {
    "embed": "embed {folder} --in new-{which}.birder --model openclip --engine torch",
    "detect": "detect {folder} --to {which}.json --force",
    "detect --in": "detect --in {which}.birder --to {which}-rows.json --force",
    "predict by texts": "predict {folder} --model openclip --labels cat,dog",
    "predict by examples": "predict {folder} --like good.birder",
    "features": "features {folder} --model openclip --to features-{which}.parquet --force",
    "shards": "shards {which}.birder --to shards-{which} --taxonomy taxa.csv --size 16",
    "export --format folders": "export {which}.birder --to sorted-{which} --format folders",
    "import": "import imported-{which}.birder {which}.npy --table rows.csv --model somebody/else",
    "classify": "classify {files}",
}


@pytest.mark.parametrize("which", ["one", "all"])
@pytest.mark.parametrize("command", COMMANDS)
def test_one_failed_and_all_failed_have_the_same_exit_code(session: Session, command: str, which: str) -> None:
    arguments = COMMANDS[command].format(which=which, folder=which, files=FILES[which]).split()
    assert session.run(*arguments, code=1).stderr.strip()


def test_too_few_images_for_calibration_are_wrong_use_only_if_too_few_were_named(session: Session) -> None:
    assert "could not be read" in session.run("quantize", "all", code=1).stderr
    assert "at least 8 images" in session.run("quantize", "good/cats", code=2).stderr
