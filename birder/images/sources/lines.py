"""CSV tables, line by line: the file is never there twice, and no line of it fills the memory."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator

from birder.images.sources.read import read_source

MAX_LINE = 1 << 20
"""Characters that a line of a table may have, with what its quoted values hold."""


def csv_lines(path: str, *, delimiter: str = ",", strict: bool = False) -> Iterator[list[str]]:
    """The lines of a CSV file or URL in UTF-8, as their values; without empty ones.

    Raises
    ------
    OSError, UnicodeDecodeError, csv.Error
        It cannot be read; it is not UTF-8; a line has more than a million characters, or is none of CSV's.
    """
    text = io.TextIOWrapper(io.BytesIO(read_source(path)), "utf-8-sig", newline="")
    taken = 0

    def physical_lines() -> Iterator[str]:
        nonlocal taken
        while piece := text.readline(MAX_LINE + 1 - taken):
            taken += len(piece)
            if taken > MAX_LINE:
                raise csv.Error(f"a line has more than {MAX_LINE:,} characters")
            yield piece

    for line in csv.reader(physical_lines(), delimiter=delimiter, strict=strict):
        taken = 0
        if line:
            yield line
