"""CSV tables, line by line, in bounded memory."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator

from birder.sources.read import open_source

MAX_LINE = 1 << 20
"""Characters that a line of a table may have, including its quoted values."""


def csv_lines(
    path: str, *, delimiter: str = ",", strict: bool = False, encoding: str = "utf-8-sig"
) -> Iterator[list[str]]:
    """The lines of a CSV file or URL in an encoding (default: UTF-8), as their values; empty lines are skipped.

    Raises
    ------
    OSError, UnicodeDecodeError, csv.Error
        It cannot be read; it is in another encoding; a line has more than a million characters, or is not valid CSV.
    """
    with io.TextIOWrapper(open_source(path), encoding, newline="") as text:
        pieces = _Pieces(text)
        for line in csv.reader(pieces, delimiter=delimiter, strict=strict):
            pieces.taken = 0
            if line:
                yield line


class _Pieces:
    """The lines of a file; `taken` counts the characters of those that make up one line of the table."""

    def __init__(self, text: io.TextIOWrapper) -> None:
        self._text = text
        self.taken = 0

    def __iter__(self) -> Iterator[str]:
        while piece := self._text.readline(MAX_LINE + 1 - self.taken):
            self.taken += len(piece)
            if self.taken > MAX_LINE:
                raise csv.Error(f"a line has more than {MAX_LINE:,} characters")
            yield piece
