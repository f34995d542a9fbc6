"""Run `birder` as a user does: each command in a process of its own, or many in one that stays."""

from __future__ import annotations

import json
import os
import pty
import struct
import subprocess
import sys
import termios
from collections.abc import Mapping
from fcntl import ioctl
from pathlib import Path
from tempfile import TemporaryDirectory

COMMAND = (sys.executable, "-m", "birder")


def run_birder(
    *arguments: object, code: int | None = 0, cwd: Path | None = None, env: Mapping[str, str] | None = None
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
    *arguments: object, code: int = 0, columns: int = 80, env: Mapping[str, str] | None = None
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


_SESSION = """if True:
    import json, os, sys
    answers = os.fdopen(os.dup(1), "w")
    for line in sys.stdin:
        sys.argv, out, err = json.loads(line)
        for number, file in ((1, out), (2, err)):
            opened = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(opened, number)
            os.close(opened)
        code = 0
        try:
            from birder.cli import run
            run()
        except SystemExit as end:
            code = end.code or 0
        except BaseException:
            import traceback
            traceback.print_exc()
            code = -1
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        answers.write(f"{code}\\n")
        answers.flush()
"""


class Session:
    """An interpreter that runs one `birder` command after another: what they import is loaded once.

    Parameters
    ----------
    before
        Code that it runs first.
    cwd, env
        Its folder and environment.
    """

    def __init__(self, before: str = "", *, cwd: Path, env: Mapping[str, str] | None = None) -> None:
        self._folder = TemporaryDirectory()
        self._process = subprocess.Popen(
            [sys.executable, "-c", f"{before}\n{_SESSION}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=cwd,
            env=with_path(env),
            text=True,
        )

    def run(self, *arguments: object, code: int | None = 0) -> subprocess.CompletedProcess[str]:
        """Run a command; as `run_birder`."""
        out, err = (Path(self._folder.name) / name for name in ("out", "err"))
        command = ["birder", *map(str, arguments)]
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps([command, str(out), str(err)]) + "\n")
        self._process.stdin.flush()
        ended = int(self._process.stdout.readline())
        stdout, stderr = (path.read_text("utf-8", "surrogateescape") for path in (out, err))
        assert "Traceback" not in stderr, stderr
        assert code is None or ended == code, (stdout, stderr)
        return subprocess.CompletedProcess(command, ended, stdout, stderr)

    def close(self) -> None:
        """End the interpreter."""
        self._process.communicate()
        self._folder.cleanup()
