"""Commands that messages and the page tell users to write: they exist, with these options."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from birder.cli import app

ROOT = Path(__file__).parents[2]
COMMANDS: dict[str, Any] = get_command(app).commands  # type: ignore[attr-defined]
COMMAND = re.compile(rf"\bbirder ({'|'.join(COMMANDS)})(?![\w-])((?:(?!, )[^\n:;`])*)")


def texts_of(path: Path) -> Iterator[str]:
    """The strings of a Python file, with what stands for a value in them as VALUE; or all of a file of the page."""
    if path.suffix != ".py":
        yield re.sub(r"\$\{[^}]*\}", "VALUE", path.read_text("utf-8"))
        return
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.JoinedStr):
            yield "".join(str(part.value) if isinstance(part, ast.Constant) else "VALUE" for part in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def wrong_commands(text: str) -> list[str]:
    """Commands in a text that have an option which does not exist, or their collection in the wrong place."""
    found = []
    for name, rest in COMMAND.findall(text):
        known = {option for parameter in COMMANDS[name].params for option in parameter.opts}
        options = re.findall(r"(?<= )--?[a-z][\w-]*", rest)
        if not known.issuperset(options):
            found.append(f"birder {name}{rest}")
    return found


@pytest.mark.parametrize(
    "text", ["write birder embed X --to Y", "birder search --in X", "f: birder export X --for xmp"]
)
def test_former_spelling_in_a_message_is_found(text: str) -> None:
    assert wrong_commands(text)


@pytest.mark.slow
def test_messages_name_commands_that_exist() -> None:
    files = [*(ROOT / "birder").rglob("*.py"), *(ROOT / "birder" / "web").glob("*.js")]
    assert len(files) > 100
    found = ((path.name, command) for path in files for text in texts_of(path) for command in wrong_commands(text))
    assert list(found) == []
