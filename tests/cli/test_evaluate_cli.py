"""`birder evaluate`: what it prints, writes and refuses, and how it ends."""

from __future__ import annotations

import csv
import io
import json
import signal
import subprocess
from pathlib import Path

import pytest

from birder.cli.evaluate import options_of
from tests.cli.running import COMMAND, Session, shared_session, with_path
from tests.factory import clusters, collection_of_images, collection_of_vectors

KNN = ("evaluate", "c.birder", "--column", "species", "--protocol", "knn")
PREDICTED = ("evaluate", "c.birder", "--column", "species", "--predictions", "predicted_species")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with c.birder: 60 images of three species, of which every sixth is named wrongly."""
    folder = tmp_path_factory.mktemp("evaluate")
    vectors, species = clusters(3, 20, spread=0.6)
    named = [species[i - 20] if i % 6 == 0 else name for i, name in enumerate(species)]
    sites = [f"site {i // 4}" for i in range(60)]
    values = {"species": species, "predicted_species": named, "site": sites}
    collection_of_vectors(folder / "c.birder", vectors, columns=values)
    return folder


@pytest.fixture(scope="module")
def session(folder: Path) -> Session:
    """An interpreter in that folder."""
    return shared_session().at(folder)


def test_rows_go_to_standard_output_and_the_rest_to_standard_error(session: Session) -> None:
    done = session.run(*PREDICTED, "--group-by", "site", "--format", "csv")
    rows = {row["metric"]: row for row in csv.DictReader(io.StringIO(done.stdout))}
    assert float(rows["top1"]["value"]) == pytest.approx(50 / 60)
    assert float(rows["top1"]["low"]) < 50 / 60 < float(rows["top1"]["high"])
    assert rows["top1"]["n"] == "60" and rows["top1"]["interval"] == "bootstrap over groups"
    assert "site" in done.stderr  # what tells groups apart


def test_a_table_is_followed_by_what_is_taken_for_what(session: Session) -> None:
    done = session.run(*PREDICTED)
    assert done.stdout.startswith("metric ")
    assert "Most often taken for something else: group " in done.stdout


def test_json_is_everything_that_metrics_json_has(session: Session, folder: Path) -> None:
    done = session.run(*KNN, "--to", "report", "--format", "json")
    assert json.loads(done.stdout) == json.loads((folder / "report" / "metrics.json").read_text())
    assert {file.name for file in (folder / "report").iterdir()} == {
        "report.html",
        "metrics.json",
        "predictions.parquet",
    }
    assert "Wrote report/report.html." in done.stderr
    found = json.loads(done.stdout)
    assert found["asked"]["command"] == f"birder {' '.join(KNN)} --to report --format json"
    assert found["protocols"]["knn"]["metrics"]["top1_k1"]["estimate"] > 0.9


@pytest.mark.parametrize(
    ("limits", "code", "said"),
    [
        (["accuracy=0.8"], 0, ""),
        (["accuracy=0.9"], 1, "birder: accuracy is 0.8333, under 0.9."),
        (["top1=0.8", "macro_f1=0.99"], 1, "birder: macro_f1 is 0.8"),
        (["accuracy"], 2, "is not METRIC=VALUE"),
        (["accuracy=a"], 2, "is not METRIC=VALUE"),
        (["acuracy=0.8"], 2, "accuracy"),
    ],
)
def test_scripts_learn_by_the_exit_code(session: Session, limits: list[str], code: int, said: str) -> None:
    options = [word for each in limits for word in ("--fail-under", each)]
    done = session.run(*PREDICTED, *options, code=code)
    assert said in done.stderr


def test_a_share_is_not_asked_for_in_percent(session: Session) -> None:
    done = session.run(*PREDICTED, "--fail-under", "accuracy=80", code=2)
    assert "accuracy is a share from 0 to 1, as in accuracy=0.8." in done.stderr


@pytest.mark.slow
def test_ctrl_c_leaves_nothing_behind(tmp_path: Path) -> None:
    collection_of_images(tmp_path, 400, labelled=400)
    before = {file.name for file in tmp_path.iterdir()}
    command = [*COMMAND, "evaluate", "c.birder", "--protocol", "linear,knn,retrieval", "--to", "report"]
    with subprocess.Popen(
        command, cwd=tmp_path, env=with_path(None), stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        while "linear" not in (line := process.stderr.readline()):
            assert line
        process.send_signal(signal.SIGINT)
        said = process.stderr.read()
        assert process.wait(timeout=60) == 130, said
    assert "birder: interrupted" in said and "Traceback" not in said
    assert {file.name for file in tmp_path.iterdir()} == before


def test_less_is_better_for_some_figures(session: Session, folder: Path) -> None:
    done = session.run(*PREDICTED, "--protocol", "linear", "--fail-under", "linear.top1=0.5")
    assert "above" not in done.stderr
    named = folder / "taxa.csv"
    named.write_text("species,family\ngroup 0,a\ngroup 1,a\ngroup 2,b\n")
    done = session.run(*PREDICTED, "--taxonomy", "taxa.csv", "--fail-under", "lca_height=0.1", code=1)
    assert "lca_height is" in done.stderr and ", above 0.1." in done.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "Say what to evaluate: --predictions, --model, --protocol or --against."),
        (["--protocol", "knnn"], "Unknown protocol 'knnn'. Did you mean knn"),
        (["--protocol", "few-shot", "--as", "bioclip"], "bioclip-v1"),
        (["--protocol", "knn", "--column", "specis"], "Unknown column 'specis'"),
        (["--protocol", "knn", "--where", "specis = 1"], "specis"),
        (["--predictions", "predicted_specis"], "predicted_species"),
        (["--model", "nothing.pt"], "nothing.pt"),
        (["--against", "nothing.birder", "--protocol", "knn"], "nothing.birder"),
    ],
)
def test_wrong_use_is_refused_in_words(session: Session, arguments: list[str], said: str) -> None:
    column = [] if "--column" in arguments else ["--column", "species"]
    done = session.run("evaluate", "c.birder", *column, *arguments, code=2)
    assert said in done.stderr and not done.stdout


def test_a_report_that_exists_is_refused_before_the_work_and_replaced_with_force(
    session: Session, folder: Path
) -> None:
    (folder / "mine").mkdir()
    (folder / "mine" / "metrics.json").write_text("mine")
    (folder / "mine" / "notes.txt").write_text("mine")
    done = session.run(*KNN, "--to", "mine", code=2)
    assert "metrics.json already exists. To replace it, use --force." in done.stderr and "..." not in done.stderr
    assert (folder / "mine" / "metrics.json").read_text() == "mine"
    session.run(*KNN, "--to", "mine", "--force")
    assert json.loads((folder / "mine" / "metrics.json").read_text())["schema"] == 1
    assert (folder / "mine" / "notes.txt").read_text() == "mine"


@pytest.mark.slow
def test_nothing_in_the_collection_is_changed(session: Session, folder: Path) -> None:
    def files() -> dict[str, int]:
        return {str(file): file.stat().st_mtime_ns for file in sorted((folder / "c.birder").rglob("*"))}

    before = files()
    session.run(*PREDICTED, "--protocol", "clusters")
    assert files() == before


def test_names_are_separated_by_commas() -> None:
    assert options_of(None) == () and options_of("site, night,") == ("site", "night")
