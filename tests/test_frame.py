"""What stands around the code is true of it: documents, pins, versions, style."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import birder

ROOT = Path(__file__).parents[1]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "benchmarks").glob("*.md")])


def house() -> dict[str, str]:
    """The picture in docs/design.md: folder inside birder/ ("" for its own files) -> what it says there is."""
    text = (ROOT / "docs" / "design.md").read_text("utf-8")
    picture = re.search(r"^    birder/\n(.*?)^    \w", text, flags=re.DOTALL | re.MULTILINE)
    assert picture is not None
    said: dict[str, str] = {"": ""}
    folder = ""
    for line in picture[1].splitlines():
        entry = re.match(r"      (\S+)  +(.*)", line)
        if entry is None:
            said[folder] += " " + line.strip()  # the line before goes on
        elif entry[1].endswith("/"):
            folder = entry[1].rstrip("/")
            said[folder] = entry[2]
        else:
            folder = ""
            said[""] += f" {entry[1]}"
    return said


def code_files() -> set[str]:
    """The package's files, relative to birder/: those that git knows, or all where there is no git."""
    listed = subprocess.run(["git", "ls-files", "birder"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode == 0 and listed.stdout:
        paths = [Path(line) for line in listed.stdout.splitlines()]
    else:
        paths = [path.relative_to(ROOT) for path in (ROOT / "birder").rglob("*")]
    return {str(path.relative_to("birder")) for path in paths if path.suffix in (".py", ".toml")}


def test_the_picture_of_the_house_is_the_house() -> None:
    there = code_files()
    assert "net/vit.py" in there
    named = set()
    for folder, contents in house().items():
        inside = re.findall(r"\w+\.(?:py|toml)", contents)
        if "a command" in contents:
            inside += [Path(name).name for name in there if name.startswith(f"{folder}/")]
        named |= {f"{folder}/{name}".lstrip("/") for name in inside}
    missing = {name for name in named if not (ROOT / "birder" / name).exists()}
    assert missing == set(), "docs/design.md's picture names files that do not exist"
    unnamed = {name for name in there - named if Path(name).name != "__init__.py"}
    assert unnamed == set(), "docs/design.md's picture lacks files"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_between_documents_lead_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)", document.read_text("utf-8")):
        if "://" not in target:
            assert (document.parent / target).exists(), f"{target} in {document.name}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_commands_in_documents_exist(document: Path) -> None:
    from typer.main import get_command

    from birder.cli import app

    known = get_command(app).commands  # type: ignore[attr-defined]
    shells = r"^```(?:console|bash|sh)\n(.*?)^```$"
    for block in re.findall(shells, document.read_text("utf-8"), flags=re.DOTALL | re.MULTILINE):
        for command, rest in re.findall(r"^(?:\$ )?birder (?!--version)([\w-]+)(.*)$", block, flags=re.MULTILINE):
            assert command in known
            options = {option for parameter in known[command].params for option in parameter.opts}
            for option in re.findall(r"(?<= )--?[a-z][\w-]*", rest):
                assert option in options, f"birder {command} has no {option}"


def test_the_documented_weights_table_registers(tmp_path: Path) -> None:
    block = re.search(r"^```toml\n(.*?)^```$", (ROOT / "docs" / "weights.md").read_text("utf-8"), re.DOTALL | re.M)
    assert block is not None
    table = tmp_path / "moths.toml"
    table.write_text(block[1])
    done = subprocess.run(
        [sys.executable, "-c", f"import birder; print(birder.register_weights({str(table)!r}))"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "['vit_b16_pn_moths']\n"


def imports_of_tests(source: str) -> list[str]:
    """The lines, also those inside strings (code for another process), that import a module of tests."""
    pattern = r"^\s*(?:(?:from|import) (?:tests)?\.(?:\w+\.)*test_\w+|from (?:tests)?[\w.]* import .*\btest_)"
    return [line.strip() for line in source.splitlines() if re.match(pattern, line)]


def test_no_test_module_is_imported_by_another() -> None:
    """What tests share is in modules of its own, so that each file of tests can be read, moved and run alone."""
    found = {
        str(path.relative_to(ROOT)): lines
        for path in sorted((ROOT / "tests").rglob("*.py"))
        if path != Path(__file__) and (lines := imports_of_tests(path.read_text("utf-8")))
    }
    assert found == {}


@pytest.mark.parametrize(
    "line",
    [
        "from tests.server.test_map import x",
        "import tests.test_api",
        "from tests.server import live, test_map",
        "from .test_map import x",
        "from . import test_map",
        'code = """\n    from tests.test_api import x"""',
    ],
)
def test_an_import_of_a_test_module_is_found(line: str) -> None:
    assert len(imports_of_tests(line)) == 1
    assert imports_of_tests(line.replace("test_", "made_")) == []


def test_the_files_that_run_first_exist() -> None:
    from tests.conftest import LONGEST

    assert [name for name in LONGEST if not (ROOT / "tests" / name).exists()] == []


def test_every_test_is_either_fast_or_slow(request: pytest.FixtureRequest) -> None:
    for item in request.session.items:
        markers = {mark.name for mark in item.iter_markers()} & {"fast", "slow"}
        assert len(markers) == 1, item.nodeid


def test_every_dependency_is_pinned_within_its_bounds() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    optional = [line for lines in project["optional-dependencies"].values() for line in lines]
    needed = [Requirement(line) for line in project["dependencies"] + optional if not line.startswith("birder[")]
    lines = (ROOT / "constraints.txt").read_text("utf-8").splitlines()
    pinned = {
        canonicalize_name(name): version
        for name, _, version in (line.partition("==") for line in lines if line and not line.startswith("#"))
    }
    for requirement in needed:
        version = pinned.get(canonicalize_name(requirement.name))
        assert version is not None, f"{requirement.name} is not pinned in constraints.txt"
        assert requirement.specifier.contains(version), f"{requirement} excludes the pinned {version}"


def test_the_citation_names_this_version() -> None:
    citation = (ROOT / "CITATION.cff").read_text("utf-8")
    assert f"\nversion: {birder.__version__}\n" in citation
