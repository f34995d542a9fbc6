"""A document as one HTML file: sections and tables with their style and script, which asks no network for anything."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from importlib import resources
from typing import NamedTuple

from birder.plots.inline_modules import inline_modules
from birder.plots.report_charts import text


class Section(NamedTuple):
    """A section: its name in addresses, its heading, and what is in it, as HTML."""

    name: str
    heading: str
    body: str


def page(title: str, head: str, sections: Sequence[Section], *, opening: str = "", style: str = "") -> str:
    """A document as HTML.

    Parameters
    ----------
    title
        As text.
    head
        The first screen, as HTML.
    sections
        With links to them.
    opening
        What stands before the links, as HTML.
    style
        CSS for this document.
    """
    parts = {
        "title": text(title),
        "head": head,
        "mistakes": opening,
        "links": "".join(f'<li><a href="#{each.name}">{text(each.heading)}</a></li>' for each in sections),
        "sections": "".join(
            f'<section id="{each.name}" aria-labelledby="{each.name}-heading">'
            f'<h2 id="{each.name}-heading">{text(each.heading)}</h2>{each.body}</section>'
            for each in sections
        ),
        "style": _file("report.css") + style,
        "script": inline_modules("plots/report_page.js"),
    }
    return re.sub(r"\{\{(\w+)\}\}", lambda found: parts[found[1]], _file("report.html"))


def table(
    caption: str,
    heads: Sequence[str],
    rows: Iterable[str],
    *,
    numbers: Collection[str] = (),
    sortable: bool = True,
    down: Collection[str] = (),
    whole: bool = False,
    foot: str = "",
) -> str:
    """A table with rows already made. Its headings sort by the page's script; those in `down` begin with the largest.

    Headings in `numbers` stand to the right. Unless it is to be shown as a whole, a long one scrolls on a screen. The
    row `foot` stays below the others.
    """
    cells = []
    for each in heads:
        number, order = " class=number" * (each in numbers), " data-sort=down" * (each in down)
        cells.append(
            f"<th scope=col{number}{order}>{text(each)}</th>" if each else '<td data-sort=no class="drawn"></td>'
        )
    kind, wide = ' class="sortable"' * sortable, " whole" * whole
    return (
        f'<div class="scroll{wide}" role="region" aria-label="{text(caption)}, table" tabindex="0"><table{kind}>'
        f"<caption>{text(caption)}</caption><thead><tr>{''.join(cells)}</tr></thead>"
        f"<tbody>{''.join(rows)}</tbody>{f'<tfoot>{foot}</tfoot>' if foot else ''}</table></div>"
    )


def _file(name: str) -> str:
    return (resources.files("birder") / "plots" / name).read_text(encoding="utf-8")
