"""Labels that a former version of Birder wrote down, in a LanceDB table, `labels`, as it changed the rows.

They are read as lines of the present journal, which replace the table at the next label.
"""

from __future__ import annotations

import json
import shutil
import uuid
from pathlib import Path
from typing import Any

from birder.collection.disk import connect, has_table


def remove_table(path: Path) -> None:
    """Remove the table, or what is left of it, once its lines are safe."""
    shutil.rmtree(path / "labels.lance", ignore_errors=True)


def read_table(path: Path) -> bytes:
    """The table as the lines of a journal; empty if it does not exist.

    An interrupted change comes after the line that says what the rows have, so that it is finished.
    """
    if not has_table(path, "labels"):
        return b""
    rows = connect(path).open_table("labels").to_arrow().sort_by("at").to_pylist()
    data = b""
    standing: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        if row["state"] != "begun":
            data += _line(_change(row))
            for uri in row["uris"]:
                standing.setdefault((row["column"], uri), []).append(row["change"])
    for row in reversed(rows):
        if row["state"] == "undone":
            data += _line(_undo(row, standing))
    data += _line({"fold": len(data), "version": 0})
    for row in rows:
        if row["state"] == "begun":
            data += _line(_change(row))
        elif row["state"] == "undoing":
            data += _line(_undo(row, standing))
    return data


def _change(row: dict[str, Any]) -> dict[str, Any]:
    part = {"change": row["change"], "column": row["column"], "value": row["value"]}
    part["was"] = _groups(zip(row["uris"], row["before"], strict=True))
    return {"act": row["change"], "at": row["at"].isoformat(), "by": None, "changes": [part]}


def _undo(row: dict[str, Any], standing: dict[tuple[str, str], list[str]]) -> dict[str, Any]:
    """Undone in those rows that no later change had changed."""
    restored = []
    for uri, before in zip(row["uris"], row["before"], strict=True):
        changes = standing[row["column"], uri]
        if changes and changes[-1] == row["change"]:
            changes.pop()
            restored.append((uri, before))
    part = {"change": row["change"], "column": row["column"], "to": _groups(restored)}
    return {"undo": row["change"], "at": row["at"].isoformat(), "by": None, "changes": [part]}


def _groups(former: Any) -> list[tuple[str | None, list[str]]]:
    groups: dict[str | None, list[str]] = {}
    for uri, value in former:
        groups.setdefault(value, []).append(str(uuid.uuid5(uuid.NAMESPACE_URL, uri)))
    return list(groups.items())


def _line(line: dict[str, Any]) -> bytes:
    return json.dumps(line, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
