"""A page of images: one self-contained HTML file, without scripts or network access."""

from __future__ import annotations

import base64
import html
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from birder.files import replacing
from birder.sources.thumbnails import thumbnails

THUMBNAIL = 320
"""The longest side of an image on the page, in pixels."""

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<style>
:root {{ --paper: #fbfaf7; --ink: #22261f; --quiet: #5d6458; --edge: #dcdcd2; --card: #fff; }}
@media (prefers-color-scheme: dark) {{
  :root {{ --paper: #161915; --ink: #e9ebe4; --quiet: #a3ab9c; --edge: #343a31; --card: #1f231d; }}
}}
body {{ margin: 0 auto; padding: 1.5rem; max-width: 84rem; background: var(--paper); color: var(--ink);
  font: 1rem/1.45 system-ui, sans-serif; }}
h1 {{ font-size: 1.3rem; margin: 0 0 .2rem; overflow-wrap: anywhere; }}
h2 {{ font-size: 1rem; color: var(--quiet); margin: 1.5rem 0 .6rem; }}
p {{ color: var(--quiet); margin: 0; overflow-wrap: anywhere; }}
ol {{ list-style: none; padding: 0; margin: 0; display: grid; gap: 1rem;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 13rem), 1fr)); }}
li {{ background: var(--card); border: 1px solid var(--edge); border-radius: .5rem; overflow: hidden; }}
.frame {{ aspect-ratio: 4 / 3; display: grid; place-items: center; color: var(--quiet); text-align: center;
  padding: .5rem; box-sizing: border-box; font-size: .85rem; overflow-wrap: anywhere; }}
img {{ width: 100%; height: 100%; object-fit: contain; }}
.words {{ padding: .5rem .7rem .7rem; border-top: 1px solid var(--edge); font-size: .85rem; overflow-wrap: anywhere; }}
.words b {{ font-size: 1rem; }}
</style>
</head>
<body>
<h1>{title}</h1>
{lines}
{sections}
</body>
</html>
"""


class Tile(NamedTuple):
    """An image on the page: its uri, its heading, and the lines below that."""

    uri: str
    head: str
    lines: Sequence[str] = ()


def write_page(
    to: Path, title: str, lines: Sequence[str], sections: Sequence[tuple[str, Sequence[Tile]]]
) -> dict[str, str]:
    """Write a page of images.

    Parameters
    ----------
    to
        The file; replaced as a whole.
    title
        Its title and heading.
    lines
        What stands below the heading.
    sections
        Headings ("" for none), each with its images.

    Returns
    -------
    For images shown as missing, the reason, by uri.

    Raises
    ------
    BirderError
        The file cannot be written.
    """
    shown = thumbnails((tile.uri for _, group in sections for tile in group), THUMBNAIL)
    body = []
    for heading, group in sections:
        body += [f"<h2>{_text(heading)}</h2>"] if heading else []
        body += ["<ol>", *(_tile(tile, shown[tile.uri]) for tile in group), "</ol>"]
    page = _PAGE.format(
        title=_text(title), lines="\n".join(f"<p>{_text(line)}</p>" for line in lines), sections="\n".join(body)
    )
    with replacing(to) as draft:
        draft.write_bytes(page.encode())
    return {uri: image for uri, image in shown.items() if isinstance(image, str)}


def _tile(tile: Tile, image: bytes | str) -> str:
    if isinstance(image, bytes):
        data = base64.b64encode(image).decode()
        frame = f'<img alt="{_text(tile.head)}" loading="lazy" src="data:image/jpeg;base64,{data}">'
    else:
        frame = f"missing: {_text(image)}"
    words = "<br>".join([f"<b>{_text(tile.head)}</b>", *map(_text, tile.lines)])
    return f'<li><div class="frame">{frame}</div><div class="words">{words}</div></li>'


def _text(text: str) -> str:
    """Text that HTML and UTF-8 can have."""
    return html.escape(text.encode("utf-8", "replace").decode(), quote=True)
