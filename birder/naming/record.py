"""A record of what named images, and how: enough to do it again, and to say where names came from."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from birder.errors import ConfigError
from birder.version import __version__


class Record:
    """The record of one run, begun when it is made.

    Parameters
    ----------
    file
        Where it is written: .json, which must not be there yet; or any other text file, to whose end it is added.
    command
        The command line, word by word.

    Raises
    ------
    ConfigError
        The file cannot be written, or is JSON and there already.
    """

    def __init__(self, file: Path, command: Sequence[str]) -> None:
        self._file = file
        self._is_json = file.suffix.lower() == ".json"
        if self._is_json and file.exists():
            raise ConfigError(f"{file} is there already, and JSON cannot be appended to: name another file.")
        if not file.parent.is_dir() or file.is_dir():
            raise ConfigError(f"Cannot write {file}: name a file in an existing folder.")
        self._values: dict[str, Any] = {"birder": __version__, "started": _now(), "command": shlex.join(command)}

    def write(
        self,
        *,
        model: str,
        sha256: str,
        device: str | None,
        settings: Mapping[str, Any],
        output: Path | None,
        saved: bool,
        images: Iterable[str],
        unreadable: Iterable[str],
    ) -> None:
        """Write what was used and what came of it, with the time.

        Parameters
        ----------
        model, sha256
            What named the images, and the sha256 of its weights.
        device
            The device that was asked for.
        settings
            Options by name; those that are None are left out.
        output
            The file with the names.
        saved
            Whether the names were written into the collection.
        images
            The images that were named; one that is there more than once is written once.
        unreadable
            The images that could not be read.

        Raises
        ------
        ConfigError
            The file cannot be written.
        """
        told = {
            **self._values,
            "ended": _now(),
            "model": model,
            "sha256": sha256,
            "device": device,
            "settings": {
                name: value if isinstance(value, list | int | float) else str(value)
                for name, value in settings.items()
                if value is not None
            },
            "output": None if output is None else str(output),
            "saved": saved,
            "images": list(dict.fromkeys(images)),
            "unreadable": list(unreadable),
        }
        text = json.dumps(told, indent=2, ensure_ascii=False) + "\n" if self._is_json else _lines(told)
        try:
            with self._file.open("x" if self._is_json else "a", encoding="utf-8", errors="replace") as out:
                out.write(text)
        except OSError as error:
            raise ConfigError(f"Cannot write {self._file}: {error.strerror or error}.") from error


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _lines(values: Mapping[str, Any]) -> str:
    lines = [f"{name}: {value}" for name, value in values.items() if not isinstance(value, list | dict)]
    for name, value in values.items():
        if isinstance(value, dict):
            lines += [f"{name} {key}: {each}" for key, each in value.items()]
        elif isinstance(value, list):
            lines += [f"{name}:", *(f"  {each}" for each in value)]
    return "\n".join([*lines, "", ""])
