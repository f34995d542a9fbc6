"""The documents: what they show runs and prints that, uses public names alone, and shows no writer's folder."""

from __future__ import annotations

import ast
import re
import runpy
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

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


class Step(NamedTuple):
    """A command line or a block of Python that a page shows, and what it is said to print."""

    kind: str
    code: str
    printed: str


def blocks(page: Path, language: str = "python") -> list[str]:
    return [code for kind, code in BLOCK.findall(page.read_text("utf-8")) if kind == language]


def steps(page: Path) -> list[Step]:
    """What a page shows to be run, in its order: each line after `$` of its consoles, and its Python."""
    whole = page.read_text("utf-8")
    found: list[Step] = []
    end = 0
    for block in BLOCK.finditer(whole):
        kind, text = block.groups()
        if kind == "python":
            found.append(Step(kind, text, ""))
        elif kind == "text" and not whole[end : block.start()].strip():  # what the Python right before it prints
            found[-1] = found[-1]._replace(printed=text)
        elif kind == "console":
            for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
                command, _, printed = part.partition("\n")
                found.append(Step(kind, command, printed))
        end = block.end()
    return found


def of_the_card(block: str) -> bool:
    """Whether a block is the model card's, which is kept word for word."""
    return block in blocks(CARD)


FIRST = steps(ROOT / "docs" / "first-collection.md")
OWL = [Step("console", "mkdir -p path/to && cp examples/photos/birds/owl.jpg path/to/image.jpeg", "")]
STANDARD = "birder embed examples/photos --in photos.birder --table examples/photos/photos.csv"
"""How most pages begin: the collection is made once, and the command then has nothing to do."""
GIVEN: dict[str, list[Step]] = {
    "README.md": OWL,
    "broken-files.md": FIRST[:5],
    "collection.md": FIRST[:3],
    "inference.md": [
        *OWL,
        Step("console", f"birder embed examples/photos/fish --in photos.birder --model {NAME} --features patches", ""),
        *(Step("python", code, "") for code in blocks(CARD)),
    ],
    "openclip.md": [Step("console", "cp examples/photos/birds/owl.jpg photo.jpg", "")],
}
"""What the reader of a page has, as the page says: images of another page, their own, a collection with patches."""
NOT_RUN = {
    "README.md": "its commands are a list by example, on folders of the reader's",
    "http.md": "birder serve runs until Ctrl-C; the page's Python asks a server in a test of its own",
    "page.md": "birder serve runs until Ctrl-C; tests/server has the page in a browser",
}
"""Pages whose command lines are not run here, and why."""
MADE = {
    "camera-traps.md": "camtrap-dp/datapackage.json",
    "evaluate.md": "report/report.html",
    "exchange.md": "classified.json",
    "explore.md": "duplicates.html",
    "export-model.md": "lite0/lite0.onnx",
    "learn.md": "report/report.html",
    "search.md": "frogs.html",
    "sequences.md": "sequences.csv",
    "train-clip.md": "clip/report.html",
    "train-detector.md": "again.json",
    "train.md": "groups.report/report.html",
}
"""A file that is there when a page was followed to its end."""
FOLLOWED = [
    page
    for page in PAGES
    if page.name != "http.md" and any(step.kind == "python" or page.name not in NOT_RUN for step in steps(page))
]


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


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that pages are followed in: a clone's, as far as they go."""
    home = tmp_path_factory.mktemp("docs")
    shutil.copytree(ROOT / "examples", home / "examples")
    return home


@pytest.fixture(scope="module")
def kept(home: Path, session: Session, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The collection of the example images that most pages begin with."""
    session.run(*shlex.split(STANDARD)[1:], cwd=home)
    return Path(shutil.move(home / "photos.birder", tmp_path_factory.mktemp("kept") / "photos.birder"))


@pytest.fixture
def here(home: Path, kept: Path, request: pytest.FixtureRequest) -> Path:
    """The folder with nothing in it but the examples, and the collection where a page begins by making it."""
    for entry in home.iterdir():
        if entry.name != "examples":
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
    page: Path | None = request.node.callspec.params["page"] if hasattr(request.node, "callspec") else None
    if page is not None and (page.name == "README.md" or steps(page)[0].code == STANDARD):
        shutil.copytree(kept, home / "photos.birder")
    return home


def in_essence(text: str, here: Path | None = None) -> set[str]:
    """Lines without what differs from run to run: numbers, ids, folders and the width of columns."""
    text = text if here is None else text.replace(f"{here}/", "/home/me/")
    text = re.sub(r"\S*/(?=examples/)", "", text)
    text = re.sub(r"\b[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b", "ID", text)
    return {" ".join(re.sub(r"\d[\d,.]*", "0", line).split()) for line in text.splitlines()}


def shows_a_failure(printed: str) -> bool:
    """Whether a page says that a command fails, wholly or in part."""
    return re.search(r"^birder: |\bfailed [1-9]", printed, re.MULTILINE) is not None


def in_the_page(page: Path, code: str) -> str:
    """Python that goes on from what the page's Python before it has made."""
    names = f"sys.modules.setdefault({page.name!r}, types.ModuleType('__main__')).__dict__"
    return f"import sys, types\nexec(compile({code!r}, {page.name!r}, 'exec'), {names})"


def follow(page: Path, step: Step, session: Session, here: Path) -> None:
    """Do what a step of a page says, and check that it prints what the page shows."""
    if step.kind == "python":
        done = session.run_python(in_the_page(page, step.code), cwd=here)
        assert not step.printed or done.stdout == step.printed, step.code
        return
    if step.code.startswith("birder "):
        done = session.run(*shlex.split(step.code, comments=True)[1:], code=None, cwd=here)
    else:
        done = subprocess.run(["sh", "-c", step.code], cwd=here, capture_output=True, text=True, timeout=60)
    said = done.stdout + done.stderr
    assert done.returncode == 0 or shows_a_failure(step.printed), (step.code, said)
    assert in_essence(step.printed) - in_essence(said, here) == set(), (step.code, said)


@pytest.mark.slow
@pytest.mark.parametrize("page", FOLLOWED, ids=lambda page: page.name)
def test_a_page_runs_from_its_first_line_to_its_last_and_prints_what_it_shows(
    page: Path, here: Path, session: Session
) -> None:
    shown = [step for step in steps(page) if step.kind == "python" or page.name not in NOT_RUN]
    for step in [*GIVEN.get(page.name, []), *shown]:
        follow(page, step, session, here)
    assert page.name not in MADE or (here / MADE[page.name]).exists()


@pytest.mark.slow
def test_the_python_of_the_http_page_runs(here: Path, session: Session) -> None:
    page = ROOT / "docs" / "http.md"
    birder.embed(here / "examples" / "photos" / "birds", here / "birds.birder", progress=None)
    with serving(here / "birds.birder") as client:
        for step in steps(page):
            if step.kind == "python":
                code = step.code.replace("http://127.0.0.1:8000/api/v1/", str(client.base_url))
                follow(page, step._replace(code=code), session, here)


def test_pages_whose_commands_are_not_run_are_there() -> None:
    with_commands = {page.name for page in PAGES if any(step.kind == "console" for step in steps(page))}
    assert NOT_RUN.keys() <= with_commands
    assert with_commands - NOT_RUN.keys() <= {page.name for page in FOLLOWED}


@cache
def texts_of_the_code() -> str:
    """Every text in the package, each in a line of its own; what is filled in, and a line's end in a text, is a NUL."""
    found = []
    for file in sorted((ROOT / "birder").rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(node.value)
            elif isinstance(node, ast.JoinedStr):
                parts = (str(each.value) if isinstance(each, ast.Constant) else "\0" for each in node.values)
                found.append("".join(parts))
    return "\n".join(text.replace("\n", "\0") for text in dict.fromkeys(found))


MESSAGES = [
    message
    for table in re.findall(
        r"^\| message \|.*\n\|[-|]+\n((?:\|.*\n)+)", (ROOT / "docs" / "troubleshooting.md").read_text("utf-8"), re.M
    )
    for message in re.findall(r"^\| `(.+?)` \|", table, re.M)
]


def is_said(message: str) -> bool:
    """Whether the code has a message; `...` stands for anything, and must also where the code fills something in."""
    parts = filter(None, message.split("..."))
    return re.search(".*".join(map(re.escape, parts)), texts_of_the_code()) is not None


@pytest.mark.slow
def test_the_messages_of_the_troubleshooting_page_are_said_by_the_code() -> None:
    assert len(MESSAGES) > 40
    assert [message for message in MESSAGES if len(re.sub(r"\.\.\.|\W", "", message)) < 10] == []  # found by chance
    assert [message for message in MESSAGES if not is_said(message)] == []


def test_a_message_that_nobody_says_is_found() -> None:
    assert not is_said("... is not a collexion.")
    assert not is_said("photos.birder is not a collection.")  # the code fills the name in


def test_the_page_of_the_python_interface_is_made_from_the_docstrings() -> None:
    made = runpy.run_path(str(ROOT / "docs" / "make_api.py"))["page"]()
    assert (ROOT / "docs" / "api.md").read_text("utf-8") == made, "docs/api.md is not current: make docs"


@pytest.mark.slow
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
