from __future__ import annotations

import re
import shutil
import sys
import tomllib
from pathlib import Path

import pytest

from birder.errors import MissingExtraError, install_extra
from birder.extras import EXTRAS, need
from tests.cli.running import Session

ROOT = Path(__file__).parents[1]
OPTIONAL = [module for modules in EXTRAS.values() for module in modules if module != "lance"]  # lancedb looks for it


def test_extras_table_names_the_extras_of_the_package() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]
    assert EXTRAS.keys() == extras.keys() - {"all", "dev"}
    for extra, modules in EXTRAS.items():
        assert len(modules) == len(extras[extra]), extra
    every = re.fullmatch(r"birder\[(.+)\]", extras["all"][0])
    assert every is not None
    assert set(every[1].split(",")) == EXTRAS.keys()
    assert "birder[all]" in extras["dev"]


@pytest.mark.parametrize("extra", EXTRAS)
def test_missing_extra_is_named_with_its_command(extra: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, EXTRAS[extra][-1], None)
    with pytest.raises(MissingExtraError, match=rf'^Doing it needs .*: pip install "\.\[{extra}\]" in ') as caught:
        need(extra, "Doing it")
    assert caught.value.extra == extra


@pytest.mark.slow
def test_core_commands_run_without_any_extra(tmp_path: Path, photos: Path) -> None:
    for group in ("birds", "fish"):
        shutil.copytree(photos / group, tmp_path / "photos" / group)
    collection = tmp_path / "birds.birder"
    owl = tmp_path / "photos" / "birds" / "owl.jpg"
    commands: list[list[str | Path]] = [
        ["embed", tmp_path / "photos", "--in", collection, "--model", "efficientnet_lite0_in1k"],
        ["search", collection, "--image", owl],
        ["predict", owl, "--like", collection, "--column", "label"],
        ["classify", owl],
        ["export", collection, "--to", tmp_path / "birds.parquet"],
    ]
    # In an interpreter that can import no optional dependency.
    without = Session(f"import sys; sys.modules.update(dict.fromkeys({OPTIONAL!r}))", cwd=tmp_path)
    for arguments in commands:
        without.run(*arguments)
    for command, extra in (("serve", "serve"), ("map", "map")):
        assert f'pip install ".[{extra}]"' in without.run(command, collection, code=2).stderr
    without.close()


def test_documents_install_extras_as_the_messages_do() -> None:
    """By the name birder, pip would install another package, which holds it on the index."""
    for page in [*(ROOT / "docs").glob("*.md"), ROOT / "README.md"]:
        said = re.findall(r'pip install "[^"]*\[(\w+)\]"', page.read_text("utf-8"))
        for extra in said:
            command = install_extra(extra).partition(" in ")[0]
            assert command in page.read_text("utf-8"), page.name
        assert re.search(r"pip install[^`\n]*\bbirder\[", page.read_text("utf-8")) is None, page.name
