"""Run `birder` as a user does, in a process of its own."""

from __future__ import annotations

import os
import pty
import struct
import subprocess
import sys
import termios
from collections.abc import Mapping
from fcntl import ioctl
from pathlib import Path

COMMAND = (sys.executable, "-m", "birder")


def run_birder(
    *arguments: str | Path, code: int | None = 0, cwd: Path | None = None, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a command, and check that it ends with the exit code (None: any) and without a traceback."""
    command = [*COMMAND, *map(str, arguments)]
    done = subprocess.run(
        command, capture_output=True, text=True, errors="surrogateescape", cwd=cwd, env=with_path(env), timeout=300
    )
    assert "Traceback" not in done.stderr, done.stderr
    if code is not None:
        assert done.returncode == code, (done.stdout, done.stderr)
    return done


def with_path(env: Mapping[str, str] | None) -> dict[str, str]:
    """An environment in which children import the package that this process does, wherever they run."""
    import birder

    assert birder.__file__ is not None
    return {**(os.environ if env is None else env), "PYTHONPATH": str(Path(birder.__file__).parents[1])}


def run_birder_on_a_terminal(
    *arguments: str | Path, code: int = 0, columns: int = 80, env: Mapping[str, str] | None = None
) -> str:
    """What a command writes to a terminal of so many columns, on standard output and standard error."""
    ours, theirs = pty.openpty()
    ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    environment = {name: value for name, value in with_path(env).items() if name not in ("COLUMNS", "LINES")}
    command = [*COMMAND, *map(str, arguments)]
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=theirs, stderr=theirs, env=environment | {"TERM": "xterm-256color"}
    )
    os.close(theirs)
    written = b""
    try:
        while piece := os.read(ours, 1 << 16):
            written += piece
    except OSError:  # Linux says so of a terminal whose other end is closed
        pass
    os.close(ours)
    assert process.wait() == code, written
    return written.decode()
