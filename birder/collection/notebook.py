"""HTML for notebooks: tables and galleries of images, with all text escaped, and limited in size."""

from __future__ import annotations

import base64
import html
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from birder.sources import readable_path
from birder.sources.thumbnails import thumbnails

ROWS = 20
"""Rows of a table that are shown."""
CARDS = 24
"""Images that are shown."""
_SIDE = 160
_GRID = "display:flex;flex-wrap:wrap;gap:10px"
_CARD = "margin:0;width:160px;font-size:12px;line-height:1.35;overflow-wrap:anywhere"
_FRAME = "width:160px;height:120px;display:flex;align-items:center;justify-content:center;background:#8882"
_IMAGE = "max-width:160px;max-height:120px"


class Card(NamedTuple):
    """An image in a gallery: where it is, what stands large below it, and the lines under that."""

    uri: str
    head: str
    lines: Sequence[str] = ()


def table_html(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> str:
    """The first rows as an HTML table."""
    head = "".join(f"<th>{escaped(name)}</th>" for name in columns)
    lines = "".join(f"<tr>{''.join(f'<td>{_cell(row[name])}</td>' for name in columns)}</tr>" for row in rows[:ROWS])
    more = more_html(min(ROWS, len(rows)), len(rows), "rows")
    return f"<table><thead><tr>{head}</tr></thead><tbody>{lines}</tbody></table>{more}"


def facts_html(title: str, facts: Mapping[str, str]) -> str:
    """A title, and names with their values."""
    lines = "".join(f"<tr><th>{escaped(name)}</th><td>{escaped(value)}</td></tr>" for name, value in facts.items())
    return f"<b>{escaped(title)}</b><table>{lines}</table>"


def gallery_html(cards: Sequence[Card], total: int | None = None) -> str:
    """The first images side by side, as small JPEGs within the HTML; those that cannot be read are missing.

    `total` says how many there are, where `cards` are not all of them.
    """
    shown = cards[:CARDS]
    images = thumbnails([card.uri for card in shown], _SIDE)
    figures = "".join(_figure(card, images[card.uri]) for card in shown)
    more = more_html(len(shown), len(cards) if total is None else total, "images")
    return f'<div style="{_GRID}">{figures}</div>{more}'


def more_html(shown: int, total: int, what: str) -> str:
    """A line that says how much is shown; empty if everything is."""
    return f"<div>{shown:,} of {total:,} {what} are shown.</div>" if shown < total else ""


def escaped(text: str) -> str:
    """Text escaped for HTML, and valid as UTF-8."""
    return html.escape(text.encode("utf-8", "replace").decode(), quote=True)


def _figure(card: Card, image: bytes | str) -> str:
    if isinstance(image, bytes):
        data = base64.b64encode(image).decode()
        shown = f'<img style="{_IMAGE}" alt="{escaped(card.head)}" src="data:image/jpeg;base64,{data}">'
    else:
        shown = f"missing: {escaped(image)}"
    words = "<br>".join([f"<b>{escaped(card.head)}</b>", *map(escaped, card.lines)])
    name = escaped(readable_path(card.uri))
    return f'<figure style="{_CARD}" title="{name}"><div style="{_FRAME}">{shown}</div>{words}</figure>'


def _cell(value: Any) -> str:
    return "" if value is None else f"{value:.4f}" if isinstance(value, float) else escaped(str(value))
