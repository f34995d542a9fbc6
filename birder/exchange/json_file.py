"""JSON that others wrote, read whole: not too large, and never a traceback."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from birder.errors import ConfigError

_MOST_BYTES = 2**30


def read_json(file: Path, what: str) -> dict[str, Any]:
    """The object in a JSON file; `what` says what it should be.

    Raises
    ------
    ConfigError
        It cannot be read, is larger than 1 GiB, or holds no object.
    """
    try:
        if not file.is_file():
            raise ConfigError(f"There is no file {file}: name {what}.")
        if (size := file.stat().st_size) > _MOST_BYTES:
            raise ConfigError(f"{file} has {size:,} bytes, and {_MOST_BYTES:,} can be read at once: split it.")
        found = json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError, MemoryError) as error:
        raise ConfigError(f"Cannot read {file}: {error or 'it needs too much memory'}. It must be {what}.") from error
    if not isinstance(found, dict):
        raise ConfigError(f"{file} holds no JSON object: it must be {what}.")
    return found
