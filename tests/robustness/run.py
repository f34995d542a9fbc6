"""Real runs of the command line, and what they leave."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import unquote_to_bytes

from birder.collection.storage import Storage
from tests.cli.running import shared_session


def birder(*arguments: str | Path, code: int = 0, prefix: Sequence[str] = (), **options: object) -> str:
    """What a command says on standard error, after a check that it ended as it should; no run may say much.

    With a prefix or options for `subprocess.run`, in a process of its own.
    """
    if prefix or options:
        command = [*prefix, sys.executable, "-m", "birder", *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, timeout=300, **options)  # type: ignore[call-overload]
        said: str = done.stderr.decode()
        assert done.returncode == code, said
    else:
        said = shared_session().run(*arguments, code=code).stderr
    assert "Traceback" not in said
    assert not re.search(r"\w+Warning\b", said)
    assert len(said) < 10_000, said[:20_000]
    return said


def rows_of(collection: Path) -> dict[str, dict[str, object]]:
    """The rows by the file's path; a path that comes twice is an error."""
    rows = Storage.open(collection).to_arrow().to_pylist()
    found = {_path(row["uri"]): row for row in rows}
    assert len(found) == len(rows)
    return found


def failures_of(collection: Path) -> dict[str, str]:
    """The reasons by the file's path, from the table; `birder failures` must list the same."""
    failures = Storage.open(collection).failures()
    listed = json.loads(shared_session().run("failures", collection, "--format", "json").stdout)
    assert sorted(row["reason"] for row in listed) == sorted(failure["reason"] for failure in failures)
    return {_path(failure["uri"]): failure["reason"] for failure in failures}


def _path(uri: str) -> str:
    assert uri.startswith("file://")
    return unquote_to_bytes(uri.removeprefix("file://")).decode("utf-8", "surrogateescape")
