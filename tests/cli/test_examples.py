"""The examples of every `--help`, run as they stand there."""

from __future__ import annotations

import csv
import itertools
import json
import re
import shlex
import shutil
import signal
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple
from urllib.request import urlopen

import numpy as np
import pytest
from typer.main import get_command

from birder.cli import _with_values, app
from birder.cli.errors import examples_of
from birder.evaluation.benchmark_rows import published_rows
from tests.cli.running import COMMAND, Session, run_birder, with_path
from tests.hub import Hub
from tests.sources.videos import write_video

COMMANDS: dict[str, Any] = get_command(app).commands  # type: ignore[attr-defined]
EXAMPLES = [(name, example) for name, command in COMMANDS.items() for example in examples_of(command.help)]
DATA = Path(__file__).parents[1] / "data"
WEIGHTS = "vit_b16_pn_bioclip-v1"
TAXA = [
    [["Animalia", "Chordata", "Aves", "Strigiformes", "Strigidae", "Bubo", "bubo"], "Eurasian eagle-owl"],
    [["Animalia", "Chordata", "Aves", "Passeriformes", "Corvidae", "Corvus", "corax"], "raven"],
    [["Animalia", "Chordata", "Amphibia", "Anura", "Ranidae", "Rana", "temporaria"], "common frog"],
]


class Home(NamedTuple):
    """The folder that the examples run in, their environment, and an interpreter there."""

    folder: Path
    env: dict[str, str]
    session: Session


def make_bioclip(folder: Path, hub: Hub, images: Sequence[Path]) -> dict[str, str]:
    """Serve the tiny OpenCLIP model and text embeddings of three taxa in BioCLIP's place; the environment for it."""
    from safetensors.numpy import load_file, save_file

    from birder.collection.model import load_encoder
    from birder.weights.checkpoint import read_checkpoint, write_checkpoint

    shutil.copytree(DATA / "openclip", folder / "openclip")
    # Its random weights embed all images nearly the same, as if they were duplicates: without the mean they differ.
    run_birder("convert", folder / "openclip", "--to", folder / "vit_s16_pn_random.safetensors")
    encoder = load_encoder(folder / "vit_s16_pn_random.safetensors", "cpu", engine="torch")
    weights = folder / "openclip" / "open_clip_model.safetensors"
    state = load_file(weights)
    state["visual.ln_post.bias"] -= np.mean([encoder.embed_one(path) for path in images], axis=0)
    save_file(state, weights)
    for file in (folder / "openclip").glob("open_clip_*"):
        hub.add("imageomics/bioclip", file.name, file)
    run_birder("convert", folder / "openclip", "--to", folder / "converted.safetensors")
    checkpoint = replace(read_checkpoint(folder / "converted.safetensors"), network="vit_b16_pn")
    write_checkpoint(folder / "vit_b16_pn_mine.safetensors", checkpoint)
    served = hub.add("birder-project/tiny", "tiny.safetensors", folder / "vit_b16_pn_mine.safetensors")
    (folder / "weights.toml").write_text(
        f'[weights.{WEIGHTS}]\nnetwork = "vit_b16_pn"\nrepository = "birder-project/tiny"\nfile = "tiny.safetensors"\n'
        f'sha256 = "{served.sha256}"\nopenclip = "imageomics/bioclip"\nlabel_set = "TreeOfLife-10M"\n'
    )
    matrix = np.random.default_rng(0).normal(size=(32, len(TAXA))).astype(np.float32)
    np.save(folder / "txt_emb_species.npy", matrix / np.linalg.norm(matrix, axis=0))
    (folder / "txt_emb_species.json").write_text(json.dumps(TAXA))
    for name in ("txt_emb_species.npy", "txt_emb_species.json"):
        hub.add("imageomics/TreeOfLife-10M", f"embeddings/{name}", folder / name, repo_type="dataset")
    # The browser of `birder serve --open` is a program that does nothing.
    return hub.env | {"BIRDER_WEIGHTS": str(folder / "weights.toml"), "BROWSER": "true"}


def make_classifier(folder: Path) -> None:
    """A classifier with the network of `make_bioclip`, as a checkpoint: owls.safetensors."""
    from birder.weights.head import Head, save_head
    from birder.weights.resolve import resolve

    model = resolve(folder / "vit_b16_pn_mine.safetensors").load_image_encoder()
    weight = np.random.default_rng(0).normal(size=(2, model.net.embedding_size)).astype(np.float32)
    save_head(folder / "owls.safetensors", Head(("fox", "owl"), weight, np.zeros(2, np.float32)), model=model)


def make_boxes(folder: Path, images: Sequence[Path]) -> None:
    """A folder in Pascal VOC's layout, with one box on each image."""
    (folder / "annotations").mkdir(parents=True)
    (folder / "images").mkdir()
    corners = "<xmin>20</xmin><ymin>20</ymin><xmax>120</xmax><ymax>110</ymax>"
    for image in images:
        shutil.copy(image, folder / "images")
        text = f"<filename>{image.name}</filename><object><name>owl</name><bndbox>{corners}</bndbox></object>"
        (folder / "annotations" / f"{image.stem}.xml").write_text(f"<annotation>{text}</annotation>")


def make_files(folder: Path, photos: Path) -> None:
    """What the examples name: images with a table, embeddings and predictions that others made."""
    names = [*sorted((photos / "birds").glob("*.jpg"))[:9], photos / "birds" / "owl.jpg"]
    names += sorted((photos / "fish").glob("*.jpg"))
    for name in names + sorted((photos / "amphibians").glob("*.jpg")):
        to = folder / "photos" / name.parent.name / name.name
        to.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(name, to)
    shutil.copy(photos / "birds" / "owl.jpg", folder / "owl.jpg")
    (folder / "card").mkdir()
    write_video(folder / "card" / "owl.mp4", 50)
    shutil.copytree(folder / "photos", folder / "archive" / "photos")
    make_boxes(folder / "raccoon", names[:3])
    for part, leaf in itertools.product(("train", "test"), ("Apple leaf", "Corn rust")):
        (folder / "benchmarks" / "plantdoc" / part / leaf).mkdir(parents=True)
        shutil.copy(names[len(part + leaf) % 9], folder / "benchmarks" / "plantdoc" / part / leaf)
    for row in published_rows("idle-oo/island", "taxon_com"):
        to = folder / "camera-traps" / row.path
        to.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(names[0], to)
    (folder / "judged.txt").write_text(f"{names[0].stem}\n")
    files = sorted((folder / "photos").rglob("*.jpg"))
    with (folder / "photos.csv").open("w", newline="", encoding="utf-8") as text:
        moments = [("" if n else "A4", f"2024-05-01T{n:02}:00") for n in range(len(files))]  # each a visit of its own
        lines = [
            (f"photos/{file.parent.name}/{file.name}", "Animalia", file.stem[:3], *moment)
            for file, moment in zip(files, moments, strict=True)
        ]
        csv.writer(text).writerows([("file_name", "kingdom", "group", "deployment", "taken_at"), *lines])
    shutil.copy(DATA / "bioclip2-tol200m-1030.parquet", folder / "tol200m.parquet")
    np.save(folder / "theirs.npy", np.random.default_rng(0).normal(size=(3, 32)).astype(np.float32))
    (folder / "theirs.csv").write_text("file_name,n\na.jpg,1\nb.jpg,2\nc.jpg,3\n")
    owl = {"filepath": "photos/birds/owl.jpg", "prediction": "x;aves;strigiformes;strigidae;bubo;bubo;eagle-owl"}
    (folder / "predictions.json").write_text(json.dumps({"predictions": [owl | {"prediction_score": 0.9}]}))


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, photos: Path) -> Iterator[Home]:
    """The folder with what the examples name: photos/, owl.jpg, photos.birder, ..."""
    folder = tmp_path_factory.mktemp("examples")
    hub = Hub(tmp_path_factory.mktemp("hub"))
    env = make_bioclip(folder, hub, sorted((photos / "fish").glob("*.jpg")))
    make_files(folder, photos)
    make_classifier(folder)
    session = Session(cwd=folder, env=env)
    session.run("embed", "photos/", "--in", "photos.birder", "--model", WEIGHTS, "--table", "photos.csv")
    session.run("predict", "--in", "photos.birder", "--labels", "owl,frog", "--save")  # names to evaluate
    session.run("embed", "photos/", "--in", "photos-bioclip2.birder", "--model", "vit_s16_pn_random.safetensors")
    session.run("label", "photos.birder", "--where", "uri LIKE '%owl%'", "--set", "label=owl")
    yield Home(folder, env, session)
    session.close()
    hub.close()


def test_every_help_has_an_example() -> None:
    assert {name for name, _ in EXAMPLES} == set(COMMANDS)


@pytest.mark.parametrize(("name", "example"), EXAMPLES, ids=[example for _, example in EXAMPLES])
def test_example_is_a_command_line_of_its_command(name: str, example: str) -> None:
    program, command, *arguments = _with_values(shlex.split(example))
    assert (program, command) == ("birder", name)
    COMMANDS[name].make_context(name, arguments)  # raises where an option or value is unknown


@pytest.mark.slow
@pytest.mark.parametrize(
    "example", [example for name, example in EXAMPLES if name != "serve"], ids=lambda example: example
)
def test_example_runs(home: Home, example: str) -> None:
    arguments = shlex.split(example)[1:]
    done = home.session.run(*arguments)
    assert done.stdout or done.stderr
    if "--to" in arguments:
        assert (home.folder / arguments[arguments.index("--to") + 1]).exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    "example", [example for name, example in EXAMPLES if name == "serve"], ids=lambda example: example
)
def test_example_of_serve_answers_and_stops_at_ctrl_c(home: Home, example: str) -> None:
    command = [*COMMAND, *shlex.split(example)[1:]]
    with subprocess.Popen(
        command, cwd=home.folder, env=with_path(home.env), stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        address = None
        while address is None:
            line = process.stderr.readline()
            assert line
            address = re.search(r"http://\S+", line)
        with urlopen(address[0]) as answer:
            assert b"<html" in answer.read()
        process.send_signal(signal.SIGINT)
        said = process.stderr.read()
        assert process.wait(timeout=60) == 0, said
