"""How commands print untrusted names: a terminal shows them and does not obey them."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from birder.cli.options import Format
from birder.cli.output import one_line, printable, write_rows
from tests.cli.running import shared_session

CLEAR, TITLE, TURNED = "\x1b[2J", "\x1b]0;owned\x07", "\N{RIGHT-TO-LEFT OVERRIDE}gpj.exe"
NAME = f"{CLEAR}{TITLE}{TURNED}\x9b31m\n5 embedded, 0 failed\r.jpg"
OBEYED = re.compile("[\0-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def test_control_sequences_are_escaped() -> None:
    assert printable(CLEAR + TITLE + TURNED) == r"\x1b[2J\x1b]0;owned\x07\u202egpj.exe"
    assert printable("a\udcff\nb\tc") == "a\\udcff\nb\tc"
    assert one_line("a\nb\tc\rd") == r"a\nb\tc\rd"
    persian, family = "می\N{ZERO WIDTH NON-JOINER}خواهم", "👩\N{ZERO WIDTH JOINER}👧"
    assert one_line(f"héron 鷺 {persian} {family}") == f"héron 鷺 {persian} {family}"


def test_commands_print_through_one_place() -> None:
    for path in (Path(__file__).parents[2] / "birder" / "cli").glob("*.py"):
        if path.name != "output.py":
            assert not re.search(r"(typer\.echo|click\.echo|\bprint|std\w+\.write)\(", path.read_text("utf-8")), path


@pytest.mark.slow
def test_escape_sequences_in_file_names_reach_no_terminal(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / NAME).write_text("no image")
    said = shared_session().run("embed", tmp_path / "photos", "--in", tmp_path / "c", code=1).stderr
    assert not OBEYED.search(said) and r"\x1b[2J\x1b]0;owned\x07" in said
    assert not any(line.startswith("5 embedded") for line in said.splitlines())
    for form in ("table", "csv"):
        shown = shared_session().run_on_a_terminal("failures", tmp_path / "c", "--format", form)
        ours = re.sub(r"\x1b\[[\d;]*m", "", shown)  # rich's own colours
        assert not OBEYED.search(ours.replace("\r\n", "\n")), form


def test_programs_get_names_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    write_rows([{"file": NAME}], Format.json)
    written = capsys.readouterr().out
    assert json.loads(written) == [{"file": NAME}] and not OBEYED.search(written)
    write_rows([{"file": NAME}], Format.csv)
    assert CLEAR in capsys.readouterr().out
    write_rows([{f"{CLEAR}[bold]": NAME}], Format.table, title=f"{CLEAR}[red]")
    shown = capsys.readouterr().out
    assert not OBEYED.search(shown) and "[bold]" in shown and "[red]" in shown
