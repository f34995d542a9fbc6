"""`birder adapt`: what it refuses before any work, what it says, what it writes, and what it leaves at Ctrl-C."""

from __future__ import annotations

import shlex
import signal
import subprocess
from pathlib import Path
from typing import NamedTuple

import pytest

import birder
from birder.cli.adapt import in_words
from birder.inference.classifier import Classifier
from tests.cli.running import COMMAND, Session, shared_session, with_path
from tests.factory import KINDS, collection_by_model, collection_of_images

FILES = ("report.html", "metrics.json", "predictions.parquet")


class Home(NamedTuple):
    """A folder with c.birder, whose network is out of reach, and an interpreter there."""

    folder: Path
    session: Session


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    folder = tmp_path_factory.mktemp("adapt")
    collection_of_images(folder, 60, labelled=60)
    return Home(folder, shared_session().at(folder))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--to", "owls.onnx"], "owls.onnx has no known extension: use .pt, .safetensors, .head.safetensors."),
        (["--to", "owls.pt", "--unknown", "2"], "--unknown '2' is neither a share between 0 and 1"),
        (["--to", "owls.pt", "--unknown", "no"], "nor none"),
        (["--to", "photos"], "has no known extension"),
        (["--to", "owls.pt", "--column", "specis"], "Unknown column 'specis'"),
        (["--to", "owls.pt", "--where", "specis = 1"], "specis"),
        (["--to", "owls.pt", "--group-by", "sight"], "sight"),
        (["--to", "owls.pt", "--column", "Temp C"], "a column of text"),
    ],
)
@pytest.mark.slow
def test_wrong_use_is_refused_in_words(home: Home, arguments: list[str], said: str) -> None:
    column = [] if "--column" in arguments else ["--column", "label"]
    done = home.session.run("adapt", "c.birder", *column, *arguments, code=2)
    assert said in done.stderr and not done.stdout


@pytest.mark.slow
@pytest.mark.parametrize(
    ("to", "there"), [("a.head.safetensors", "a.head.safetensors"), ("b.pt", "b.head.safetensors")]
)
def test_a_file_that_exists_is_refused_before_the_work_and_replaced_with_force(home: Home, to: str, there: str) -> None:
    file = home.folder / there
    file.write_text("mine")
    done = home.session.run("adapt", "c.birder", "--column", "label", "--to", to, code=2)
    assert f"{there} already exists. To replace it, use --force." in done.stderr
    assert "..." not in done.stderr  # no stage had begun
    assert file.read_text() == "mine"
    home.session.run("adapt", "c.birder", "--column", "label", "--to", to, "--force")
    assert Classifier.load(file).classes == tuple(sorted(KINDS))


@pytest.mark.parametrize("name", FILES)
def test_a_report_that_exists_is_refused_before_the_work(home: Home, name: str) -> None:
    (home.folder / f"of {name}").mkdir()
    (home.folder / f"of {name}" / name).write_text("mine")
    done = home.session.run("adapt", "c.birder", "--column", "label", "--to", "r.pt", "--report", f"of {name}", code=2)
    assert f"{name} already exists" in done.stderr and "..." not in done.stderr


@pytest.mark.slow
def test_it_says_how_it_was_measured_and_how_good_it_is(home: Home) -> None:
    done = home.session.run(
        "adapt",
        "c.birder",
        "--column",
        "label",
        "--group-by",
        "site,night",
        "--to",
        "owls.safetensors",
        "--report",
        "r",
    )
    lines = done.stdout.splitlines()
    assert "site" in lines[0] and "night" in lines[0]  # what tells groups apart comes first
    assert any(line.startswith("Learned label: 4 classes from 60 images in ") for line in lines)
    (accuracy,) = (line for line in lines if line.startswith("  Accuracy: "))
    assert " to " in accuracy and "n = " in accuracy
    assert any(line.startswith("  Mean recall of the classes: ") for line in lines)
    assert any("keep their name" in line for line in lines)
    assert "Wrote owls.head.safetensors: the classifier alone, for tiny." in lines
    assert "The weights of the network are out of reach" in done.stderr
    assert {file.name for file in (home.folder / "r").iterdir()} == set(FILES)
    assert not (home.folder / "owls.safetensors").exists()


def test_without_the_unknown_nothing_is_said_of_it(home: Home) -> None:
    done = home.session.run("adapt", "c.birder", "--column", "label", "--to", "u.head.safetensors", "--unknown", "none")
    assert "unknown" not in done.stdout.lower()
    assert Classifier.load(home.folder / "u.head.safetensors").examples is None


def test_left_out_classes_and_warnings_are_told_by_name(home: Home) -> None:
    options = ("--where", "label <> 'fox' OR seen < TIMESTAMP '2024-05-10'", "--split", "random")
    done = home.session.run("adapt", "c.birder", "--column", "label", "--to", "w.head.safetensors", *options)
    assert "Left out, because they have too few images: fox (" in done.stdout
    assert "both sides" in done.stdout.splitlines()[0]  # --split random


def test_the_same_rows_give_the_same_bytes(home: Home) -> None:
    for name in ("one", "two"):
        home.session.run("adapt", "c.birder", "--column", "label", "--to", f"{name}.head.safetensors")
    one, two = ((home.folder / f"{name}.head.safetensors").read_bytes() for name in ("one", "two"))
    assert one == two


def test_figures_in_words() -> None:
    figure = {"estimate": 0.8124, "low": 0.78, "high": 0.841, "n": 2640, "interval": "Wilson"}
    assert in_words(figure) == "81.2% (78.0% to 84.1%, n = 2,640)"
    assert in_words(figure | {"low": None, "high": None}) == "81.2% (n = 2,640)"


@pytest.mark.slow
def test_ctrl_c_leaves_nothing_behind(tmp_path: Path) -> None:
    collection_of_images(tmp_path, 400, labelled=400)
    before = {file.name for file in tmp_path.iterdir()}
    command = [*COMMAND, "adapt", "c.birder", "--column", "label", "--to", "owls.pt", "--report", "report"]
    with subprocess.Popen(
        command, cwd=tmp_path, env=with_path(None), stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        while "..." not in (line := process.stderr.readline()):
            assert line
        process.send_signal(signal.SIGINT)
        said, _ = process.stderr.read(), process.stdout
        assert process.wait(timeout=60) == 130, said
    assert "birder: interrupted" in said and "Traceback" not in said
    assert {file.name for file in tmp_path.iterdir()} == before


@pytest.mark.slow
def test_the_commands_that_it_names_next_run(photos: Path, tmp_path: Path) -> None:
    paths = [path for name in ("birds", "fish", "insects") for path in sorted((photos / name).glob("*.jpg"))]
    others = paths[::4]
    collection_by_model(tmp_path, [path for path in paths if path not in others])
    collection_by_model(tmp_path / "other", others)
    (tmp_path / "other" / "c.birder").rename(tmp_path / "OTHER.birder")
    session = shared_session().at(tmp_path)
    done = session.run("adapt", "c.birder", "--column", "label", "--to", "kinds.safetensors")
    commands = [line.strip() for line in done.stdout.partition("Next:\n")[2].splitlines()]
    assert [command.split()[1] for command in commands] == ["predict", "predict", "evaluate"]
    for command in commands:
        words = [str(others[0]) if word == "IMAGE" else word for word in shlex.split(command)[1:]]
        session.run(*words)
    assert birder.open_collection(tmp_path / "c.birder").count("predicted_label IS NOT NULL") == 32
