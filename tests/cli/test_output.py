"""How commands print untrusted names: a terminal shows them and does not obey them."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest

from birder.cli.options import Format
from birder.cli.output import one_line, printable, write_rows

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


def on_a_terminal(*command: str) -> str:
    """What a command writes to a terminal, on standard output and standard error."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=theirs, stderr=theirs, env=os.environ)
    os.close(theirs)
    written = b""
    try:
        while piece := os.read(ours, 1 << 16):
            written += piece
    except OSError:  # Linux says so of a terminal whose other end is closed
        pass
    os.close(ours)
    assert process.wait() == 0, written
    return written.decode()


@pytest.mark.slow
def test_escape_sequences_in_file_names_reach_no_terminal(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / NAME).write_text("no image")
    birder = (sys.executable, "-m", "birder")
    command = [*birder, "embed", str(tmp_path / "photos"), "--in", str(tmp_path / "c")]
    said = subprocess.run(command, capture_output=True).stderr.decode()
    assert not OBEYED.search(said) and r"\x1b[2J\x1b]0;owned\x07" in said
    assert not any(line.startswith("5 embedded") for line in said.splitlines())
    for form in ("table", "csv"):
        shown = on_a_terminal(*birder, "failures", str(tmp_path / "c"), "--format", form)
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
