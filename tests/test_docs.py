"""The documents: their Python runs and prints what they show, uses public names alone, and shows no writer's folder."""

from __future__ import annotations

import itertools
import re
import runpy
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

import birder
from birder.cli import app
from tests.cli.running import Session
from tests.hub import Hub
from tests.server.live import serving

ROOT = Path(__file__).parents[1]
PAGES = sorted([ROOT / "README.md", *ROOT.glob("docs/*.md")])
CARD = ROOT / "tests" / "data" / "card.md"
CLIP = ROOT / "tests" / "data" / "openclip"
NAME = "vit_b16_pn_bioclip-v1"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
CALL = re.compile(r"(?<![\w./-])birder\.(\w+(?:\.\w+)*)\(")


def blocks(page: Path, language: str = "python") -> list[str]:
    return [code for kind, code in BLOCK.findall(page.read_text("utf-8")) if kind == language]


def shown(page: Path) -> str:
    """What the page says its Python prints: the blocks of text right behind it."""
    found = BLOCK.findall(page.read_text("utf-8"))
    pairs = itertools.pairwise(found)
    return "".join(text for (before, _), (kind, text) in pairs if (before, kind) == ("python", "text"))


def of_the_card(block: str) -> bool:
    """Whether a block is the model card's, which is kept word for word."""
    return block in blocks(CARD)


WITH_PYTHON = [page for page in PAGES if any(not of_the_card(block) for block in blocks(page))]
BEFORE = {
    "inference.md": "\n".join(blocks(CARD)),
    "names.md": """
import birder, pathlib
taxa = [f"{file.parent.name},{file.parts[2]}" for file in pathlib.Path("examples/photos").rglob("*.jpg")]
pathlib.Path("taxa.csv").write_text("\\n".join(["label,class", *sorted({*taxa})]))
adapted = birder.open_collection("photos.birder").adapt("label", taxonomy="taxa.csv", progress=None)
adapted.save("owls.safetensors")
""",
    "train-detector.md": """
import birder, pathlib
files = sorted(pathlib.Path("examples/photos/birds").glob("*.jpg"))[:3]
birder.detect(files, to="boxes.json", format="coco", min_conf=0.2, progress=None)
pathlib.Path("judged.txt").write_text(files[0].stem)
""",
}
"""What the reader of a page has run before: the README's example, `birder adapt`, or boxes that were drawn."""


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_pages_use_public_names_alone(page: Path) -> None:
    for block in blocks(page):
        if not of_the_card(block):
            assert re.findall(r"(?:from|import) birder\.\S+", block) == [], page.name
    if page.name == "http.md":  # which calls its HTTP client so
        return
    text = BLOCK.sub("", page.read_text("utf-8"))
    for code in [*blocks(page), *re.findall(r"`([^`\n]+)`", text)]:
        for name in CALL.findall(code):
            found: object = birder
            for part in name.split("."):
                found = getattr(found, part)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, photos: Path) -> Path:
    """A folder as the pages have it: images, and the collection of the example images."""
    folder = tmp_path_factory.mktemp("docs")
    shutil.copytree(photos, folder / "examples" / "photos")
    (folder / "path" / "to").mkdir(parents=True)
    for name in ("owl.jpg", "photo.jpg", "path/to/image.jpeg"):
        shutil.copy(photos / "birds" / "owl.jpg", folder / name)
    for name in ("photos", "new"):
        shutil.copytree(photos / "fish", folder / name)
    birder.embed(folder / "examples" / "photos", folder / "photos.birder", progress=None)
    return folder


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The image encoder of a model of BioCLIP's layout and a hundredth of its size."""
    path = tmp_path_factory.mktemp("converted") / "vit_s16_pn_tiny.pt"
    done = CliRunner().invoke(app, ["convert", str(CLIP), "--to", str(path)])
    assert done.exit_code == 0, done.output
    return path


@pytest.fixture(scope="module")
def session(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    """An interpreter; its hub has BioCLIP under its names: in its place, the tiny model."""
    hub = Hub(tmp_path_factory.mktemp("hub"))
    served = hub.add(f"birder-project/{NAME}", f"{NAME}.pt", checkpoint)
    for name in ("open_clip_config.json", "open_clip_model.safetensors"):
        hub.add("imageomics/bioclip", name, CLIP / name)
    weights = hub.folder / "weights.toml"
    weights.write_text(
        f'[weights."{NAME}"]\nnetwork = "vit_s16_pn"\nrepository = "birder-project/{NAME}"\n'
        f'file = "{NAME}.pt"\nsha256 = "{served.sha256}"\nopenclip = "imageomics/bioclip"\n'
    )
    session = Session(cwd=hub.folder, env=hub.env | {"BIRDER_WEIGHTS": str(weights)})
    yield session
    session.close()
    hub.close()


@pytest.mark.slow
@pytest.mark.parametrize("page", WITH_PYTHON, ids=lambda page: page.name)
def test_the_python_of_a_page_runs(page: Path, folder: Path, session: Session, tmp_path: Path) -> None:
    here = tmp_path / "here"
    shutil.copytree(folder, here)
    if page.name == "export-model.md":  # whose Python is about the file that its commands make
        follow(page, session, here)
    code = "\n".join([BEFORE.get(page.name, ""), *blocks(page)])
    if page.name == "inference.md":  # whose last part is about a collection with patch tokens
        birder_line = f'birder.embed("examples/photos/fish", "photos.birder", "{NAME}", patches=True)\n'
        shutil.rmtree(here / "photos.birder")
        code = f"import birder\n{birder_line}{code}"
    if page.name == "http.md":
        with serving(here / "photos.birder") as client:
            done = session.run_python(code.replace("http://127.0.0.1:8000/api/v1/", str(client.base_url)), cwd=here)
    else:
        done = session.run_python(code, cwd=here)
    if expected := shown(page):
        assert done.stdout == expected


def commands(page: Path) -> list[tuple[str, list[str]]]:
    """The commands that a page shows, and the lines that each is said to print."""
    found: list[tuple[str, list[str]]] = []
    for line in "".join(blocks(page, "console")).splitlines():
        if line.startswith("$ "):
            found.append((line[2:], []))
        else:
            found[-1][1].append(line)
    return found


def in_essence(text: str) -> set[str]:
    """Lines without what differs from run to run: numbers, folders and the width of columns."""
    lines = re.sub(r"\S*/(?=examples/)", "", text).splitlines()
    return {" ".join(re.sub(r"\d[\d,.]*", "0", line).split()) for line in lines}


def follow(page: Path, session: Session, here: Path) -> None:
    """Run a page's commands, each of which prints what the page shows."""
    for command, lines in commands(page):
        done = session.run(*shlex.split(command)[1:], cwd=here)
        assert in_essence("\n".join(lines)) - in_essence(done.stdout + done.stderr) == set(), command


@pytest.mark.slow
@pytest.mark.parametrize(
    ("page", "made"),
    [
        ("learn.md", "report/report.html"),
        ("evaluate.md", "report/report.html"),
        ("train.md", "groups.report/report.html"),
        ("train-clip.md", "clip/report.html"),
        ("train-detector.md", "again.json"),
        ("camera-traps.md", "camtrap-dp/datapackage.json"),
    ],
)
def test_a_tutorial_runs_from_its_first_line_to_its_last_and_prints_what_it_shows(
    session: Session, tmp_path: Path, page: str, made: str
) -> None:
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    follow(ROOT / "docs" / page, session, tmp_path)
    assert (tmp_path / made).exists()


def test_the_page_of_the_python_interface_is_made_from_the_docstrings() -> None:
    made = runpy.run_path(str(ROOT / "docs" / "make_api.py"))["page"]()
    assert (ROOT / "docs" / "api.md").read_text("utf-8") == made, "docs/api.md is not current: make docs"


def test_the_page_of_the_python_interface_tells_everything() -> None:
    page = (ROOT / "docs" / "api.md").read_text("utf-8")
    headings = set(re.findall(r"^### birder\.(\w+)$", page, re.MULTILINE))
    errors = set(re.findall(r"^- `(\w+)` \(.*\): \S", page, re.MULTILINE))
    assert headings | errors | {"__version__"} == set(birder.__all__)
    for public in runpy.run_path(str(ROOT / "docs" / "make_api.py"))["documented_names"]():
        assert re.search(rf"^#+ (birder\.)?{re.escape(public)}$", page, re.MULTILINE) or public in errors, public


def test_pages_show_no_folder_of_their_writers() -> None:
    mine = re.compile(r"(?<![\w.])/(?:work|root|tmp|Users|home/(?!me/))[\w./-]*")
    found = [f"{page.name}: {name}" for page in PAGES for name in mine.findall(page.read_text("utf-8"))]
    assert found == []
