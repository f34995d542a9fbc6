"""Run `birder` as a user does: each command in a process of its own, or many in one that stays."""

from __future__ import annotations

import atexit
import contextlib
import copy
import functools
import json
import os
import pty
import struct
import subprocess
import sys
import termios
import threading
from collections.abc import Iterator, Mapping, Sequence
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


@contextlib.contextmanager
def terminal(columns: int) -> Iterator[tuple[int, list[bytes]]]:
    """A terminal of so many columns: its file descriptor, and what was written to it when the block has ended."""
    ours, theirs = pty.openpty()
    ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    written: list[bytes] = []

    def read() -> None:
        with contextlib.suppress(OSError):  # Linux raises it for a terminal whose other end is closed
            while piece := os.read(ours, 1 << 16):
                written.append(piece)

    reader = threading.Thread(target=read)
    reader.start()
    try:
        yield theirs, written
    finally:
        os.close(theirs)
        reader.join()
        os.close(ours)


_SESSION = """if True:
    import json, os, sys
    answers = os.fdopen(os.dup(1), "w")
    for line in sys.stdin:
        sys.argv, folder, more, out, err = json.loads(line)
        os.chdir(folder)
        environment = dict(os.environ)
        os.environ.update(more)
        for number, file in ((1, out), (2, err)):
            if file is None:  # a pipe that nobody reads
                end, opened = os.pipe()
                os.close(end)
            else:
                opened = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOCTTY)
            os.dup2(opened, number)
            os.close(opened)
        # As Python opens them when it starts: a terminal is buffered by lines, and cannot seek.
        sys.stdout, sys.stderr = (
            open(number, "w", encoding=first.encoding, errors=first.errors, closefd=False)
            for number, first in ((1, sys.__stdout__), (2, sys.__stderr__))
        )
        code = 0
        try:
            if sys.argv[0] == "-c":
                exec(sys.argv[1], {"__name__": "__main__"})
            else:
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
        for name in more:
            del os.environ[name]
        os.environ.update(environment)
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 1)
        os.dup2(nowhere, 2)
        os.close(nowhere)
        answers.write(f"{code}\\n")
        answers.flush()
"""


class Session:
    """An interpreter that runs one command after another, or other code: what they import is loaded once.

    Parameters
    ----------
    before
        Code that it runs first.
    cwd, env
        Its folder, unless a call names another one, and its environment.
    """

    def __init__(self, before: str = "", *, cwd: Path, env: Mapping[str, str] | None = None) -> None:
        self._folder = TemporaryDirectory()
        self._cwd = cwd
        self._more: dict[str, str] = {}
        self._process = subprocess.Popen(
            [sys.executable, "-c", f"{before}\n{_SESSION}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=cwd,
            env=with_path(env),
            text=True,
        )

    def at(self, folder: Path) -> Session:
        """The same interpreter, whose folder is another one."""
        there = copy.copy(self)
        there._cwd = folder
        return there

    def with_more(self, **variables: str) -> Session:
        """The same interpreter, in whose environment commands find these variables too."""
        there = copy.copy(self)
        there._more = self._more | variables
        return there

    def run(
        self, *arguments: object, code: int | None = 0, cwd: Path | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a command; as `run_birder`."""
        return self._run(["birder", *map(str, arguments)], code, cwd)

    def run_python(self, lines: str, *, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        """Run lines of Python as those of a file of their own."""
        return self._run(["-c", lines], 0, cwd)

    def _run(self, argv: list[str], code: int | None, cwd: Path | None) -> subprocess.CompletedProcess[str]:
        out, err = (Path(self._folder.name) / name for name in ("out", "err"))
        ended = self._end(argv, out, err, cwd)
        stdout, stderr = (path.read_text("utf-8", "surrogateescape") for path in (out, err))
        assert "Traceback" not in stderr, stderr
        assert code is None or ended == code, (stdout, stderr)
        return subprocess.CompletedProcess(argv, ended, stdout, stderr)

    def run_unread(self, *arguments: object) -> tuple[int, str]:
        """The exit code of a command whose standard output is a pipe that nobody reads, and its standard error."""
        err = Path(self._folder.name) / "err"
        ended = self._end(["birder", *map(str, arguments)], None, err)
        return ended, err.read_text("utf-8", "surrogateescape")

    def run_on_a_terminal(self, *arguments: object, code: int = 0, columns: int = 80) -> str:
        """What a command writes to a terminal of so many columns, on standard output and standard error."""
        with terminal(columns) as (theirs, written):
            name = Path(os.ttyname(theirs))
            ended = self._end(["birder", *map(str, arguments)], name, name)
        assert ended == code, written
        return b"".join(written).decode()

    def _end(self, argv: Sequence[str], out: Path | None, err: Path, cwd: Path | None = None) -> int:
        """Run a command; its exit code."""
        assert self._process.stdin is not None and self._process.stdout is not None
        asked = [argv, str(cwd or self._cwd), self._more, out and str(out), str(err)]
        self._process.stdin.write(json.dumps(asked) + "\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())

    def close(self) -> None:
        """End the interpreter."""
        self._process.communicate()
        self._folder.cleanup()


@functools.cache
def shared_session() -> Session:
    """The interpreter for commands that need neither a process nor an environment of their own; `at` says where."""
    session = Session(cwd=Path.cwd())
    atexit.register(session.close)
    return session
