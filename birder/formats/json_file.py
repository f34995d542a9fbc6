"""The JSON object in a file that another tool wrote."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from birder.errors import ConfigError
from birder.sources import read_json


def read_object(file: Path, what: str) -> dict[str, Any]:
    """The object in a JSON file; `what` says what it should be.

    Raises
    ------
    ConfigError
        It cannot be read, is larger than 1 GiB, or is not an object.
    """
    try:
        found = read_json(str(file))
    except FileNotFoundError:
        raise ConfigError(f"There is no file {file}. Name {what}.") from None
    except (OSError, ValueError, MemoryError) as error:
        raise ConfigError(f"Cannot read {file}: {error or 'it takes too much memory'}. It must be {what}.") from error
    if not isinstance(found, dict):
        raise ConfigError(f"{file} is not a JSON object. It must be {what}.")
    return found
