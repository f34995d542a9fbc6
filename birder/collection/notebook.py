"""How collections and results show themselves: in a notebook, and as a page of images that opens anywhere."""

from __future__ import annotations

import base64
import html
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from birder.plots.image_page import Tile, thumbnails, write_page
from birder.sources import path_to_uri, uri_to_name

if TYPE_CHECKING:
    from birder.collection.api import Collection
    from birder.collection.results import Duplicates, Predictions, Rows, SearchResults

_ROWS = 20
_CARDS = 24
_GROUPS = 8
_SIDE = 160
_GROUPS_ON_PAGE = 500
_GRID = "display:flex;flex-wrap:wrap;gap:10px"
_CARD = "margin:0;width:160px;font-size:12px;line-height:1.35;overflow-wrap:anywhere"
_FRAME = "width:160px;height:120px;display:flex;align-items:center;justify-content:center;background:#8882"
_IMAGE = "max-width:160px;max-height:120px"


class _Card(NamedTuple):
    uri: str
    head: str
    lines: Sequence[str] = ()


def table_html(rows: Rows) -> str:
    """The first rows as an HTML table."""
    shown = rows[:_ROWS].to_list()
    head = "".join(f"<th>{_text(name)}</th>" for name in rows.table.column_names)
    lines = "".join(f"<tr>{''.join(f'<td>{_text(_cell(value))}</td>' for value in row.values())}</tr>" for row in shown)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{lines}</tbody></table>{_more(len(shown), len(rows), 'rows')}"


def collection_html(collection: Collection) -> str:
    """What a collection is, and a few of its images."""
    card = collection.model
    facts = {
        "images": f"{len(collection):,}",
        "failures": f"{len(collection.failures()):,}",
        "model": f"{card.name}, {card.embedding_size}-dimensional embeddings",
        "columns": ", ".join(collection.columns),
    }
    lines = "".join(f"<tr><th>{name}</th><td>{_text(value)}</td></tr>" for name, value in facts.items())
    some = next(collection.batches(["uri", "label"] if "label" in collection.columns else ["uri"]), None)
    rows = [] if some is None else some.slice(0, 8).to_pylist()
    cards = [_Card(row["uri"], _file(row["uri"]), _filled(row, ("label",))) for row in rows]
    return f"<b>{_text(str(collection.path))}</b><table>{lines}</table>{_gallery(cards)}"


def results_html(results: SearchResults) -> str:
    """The images that were found, with their similarity."""
    if "uri" not in results.table.column_names:
        return table_html(results)
    rows = results[:_CARDS].to_list()
    about = f"{_text(results.query)}: {len(results):,} of {results.searched:,} images"
    return (
        f"<div>{about}</div>{_gallery([_result_card(row) for row in rows])}{_more(len(rows), len(results), 'images')}"
    )


def predictions_html(predictions: Predictions) -> str:
    """The images that were named, with their names and scores."""
    by_image: dict[str, list[dict[str, Any]]] = {}
    for row in predictions:
        if row["uri"] not in by_image and len(by_image) == _CARDS:
            break
        by_image.setdefault(row["uri"], []).append(row)
    name = predictions.name_column
    cards = [
        _Card(uri, str(rows[0][name]), [f"{row['score']:.3f} {row[name]}" for row in rows])
        for uri, rows in by_image.items()
    ]
    about = f"{predictions.images:,} images named by {_text(predictions.model)} among {_text(predictions.choice)}"
    return f"<div>{about}</div>{_gallery(cards)}{_more(len(cards), predictions.images, 'images')}"


def duplicates_html(duplicates: Duplicates) -> str:
    """The first groups, side by side."""
    parts = [f"<div>{len(duplicates):,} groups; similar: a cosine of {duplicates.threshold:g} or more</div>"]
    groups = duplicates.groups[:_GROUPS]
    images = _images([photo.uri for group in groups for photo in group.photos[:_CARDS]])
    for number, group in enumerate(groups, 1):
        cards = [_Card(photo.uri, _file(photo.uri), [f"{photo.similarity:.4f}"]) for photo in group.photos[:_CARDS]]
        more = _more(len(cards), len(group.photos), "images")
        parts.append(f"<div><b>{number}. {_text(group.kind)}</b></div>{_gallery(cards, images)}{more}")
    return "".join([*parts, _more(len(groups), len(duplicates), "groups")])


def save_results_page(results: SearchResults, to: Path) -> dict[str, str]:
    """Write the results of a search as a page; see `SearchResults.save_page`."""
    queries = [Tile(path_to_uri(image), image.name) for image in results.images]
    found = [_tile(row) for row in results]
    sections = [("Query", queries)] if queries else []
    sections.append((f"{len(found):,} found" if queries else "", found))
    compared = f", compared by {results.model}" if results.matching is None else ""
    about = f"{len(found):,} of {results.searched:,} images in {results.collection}{compared}"
    return write_page(to, f"Search: {results.query}", [about], sections)


def save_duplicates_page(duplicates: Duplicates, to: Path) -> dict[str, str]:
    """Write groups of duplicates as a page; see `Duplicates.save_page`."""
    lines = [f"Similar: a cosine of {duplicates.threshold:g} or more. The first of a group is the largest image."]
    if len(duplicates) > _GROUPS_ON_PAGE:
        lines.append(f"The first {_GROUPS_ON_PAGE:,} of {len(duplicates):,} groups.")
    sections = [
        (
            f"{number}. {group.kind}",
            [
                Tile(
                    photo.uri,
                    _file(photo.uri),
                    [uri_to_name(photo.uri), f"{photo.width} x {photo.height}, similarity {photo.similarity:.4f}"],
                )
                for photo in group.photos
            ],
        )
        for number, group in enumerate(duplicates.groups[:_GROUPS_ON_PAGE], 1)
    ]
    return write_page(to, f"{duplicates.collection}: duplicates", lines, sections)


def _tile(row: Mapping[str, Any]) -> Tile:
    card = _result_card(row)
    name = uri_to_name(row["uri"])
    return Tile(card.uri, card.head, [*card.lines, name] if "similarity" in row else [*card.lines])


def _result_card(row: Mapping[str, Any]) -> _Card:
    lines = _filled(row, ("label", "taken_at"))
    return _Card(row["uri"], f"{row['similarity']:.4f}" if "similarity" in row else _file(row["uri"]), lines)


def _filled(row: Mapping[str, Any], names: Sequence[str]) -> list[str]:
    return [str(row[name]) for name in names if row.get(name) is not None]


def _gallery(cards: Sequence[_Card], images: Mapping[str, bytes | str] | None = None) -> str:
    images = _images([card.uri for card in cards]) if images is None else images
    return f'<div style="{_GRID}">{"".join(_figure(card, images[card.uri]) for card in cards)}</div>'


def _images(uris: Sequence[str]) -> Mapping[str, bytes | str]:
    return thumbnails(uris, _SIDE)


def _figure(card: _Card, image: bytes | str) -> str:
    if isinstance(image, bytes):
        data = base64.b64encode(image).decode()
        shown = f'<img style="{_IMAGE}" alt="{_text(card.head)}" src="data:image/jpeg;base64,{data}">'
    else:
        shown = f"missing: {_text(image)}"
    words = "<br>".join([f"<b>{_text(card.head)}</b>", *map(_text, card.lines)])
    name = _text(uri_to_name(card.uri))
    return f'<figure style="{_CARD}" title="{name}"><div style="{_FRAME}">{shown}</div>{words}</figure>'


def _more(shown: int, total: int, what: str) -> str:
    return f"<div>{shown:,} of {total:,} {what} are shown.</div>" if shown < total else ""


def _file(uri: str) -> str:
    return Path(uri_to_name(uri)).name


def _cell(value: Any) -> str:
    return "" if value is None else f"{value:.4f}" if isinstance(value, float) else str(value)


def _text(text: str) -> str:
    """Text that HTML and UTF-8 can have."""
    return html.escape(text.encode("utf-8", "replace").decode(), quote=True)
