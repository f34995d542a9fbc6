"""Run `birder` as a user does, in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
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
