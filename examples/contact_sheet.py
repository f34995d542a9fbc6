"""Draw photographs and the ones most like them: a picture of what a collection finds.

    python examples/contact_sheet.py demo/photos.birder demo/contact-sheet.jpg

Each line begins with a query, framed; its nearest neighbours follow, each with its label and the cosine of the two
embeddings. The embeddings are the stored ones, so no network runs.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from birder.collection.search import search
from birder.collection.storage import Storage
from birder.errors import BirderError
from birder.images.open import open_image
from birder.sources import uri_to_path

QUERIES = ["pink-flamingo", "lion", "clownfish", "hornet", "zebra", "daffodil", "cep"]
NEIGHBOURS = 6
CELL, CAPTION, GAP, HEAD = 170, 46, 12, 64  # pixels
INK, GREY, ACCENT = (30, 34, 38), (105, 112, 120), (196, 80, 28)


def main() -> None:
    """Look up the queries' neighbours and draw them."""
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    try:
        collection = Storage.open(sys.argv[1])
        lines = [neighbours(collection, query) for query in find_queries(collection)]
        out = Path(sys.argv[2])
        draw(lines, f"{collection.count()} photographs, embedded with {collection.model.name}").save(out, quality=92)
    except BirderError as error:
        sys.exit(f"contact_sheet: {error}")
    print(f"{out}: {len(lines)} photographs and their nearest neighbours, by {collection.model.name}")


def find_queries(collection: Storage) -> list[dict[str, Any]]:
    """The rows of the photographs to look up: those of QUERIES, or the first ones of another collection."""
    rows = collection.to_arrow().sort_by("uri").to_pylist()
    if not rows:
        raise BirderError(f"{collection.path} is empty: embed photographs into it first.")
    named = [row for name in QUERIES for row in rows if Path(uri_to_path(row["uri"])).stem == name]
    return named or rows[: len(QUERIES)]


def neighbours(collection: Storage, query: dict[str, Any]) -> list[dict[str, Any]]:
    """The query, then its nearest other rows, nearest first."""
    found = search(collection, ids=[query["id"]], k=NEIGHBOURS)
    return [query, *found.to_list()]


def draw(lines: list[list[dict[str, Any]]], subtitle: str) -> Image.Image:
    """Lay the lines out on white."""
    width = GAP + (1 + NEIGHBOURS) * (CELL + GAP) + GAP
    sheet = Image.new("RGB", (width, HEAD + len(lines) * (CELL + CAPTION + GAP)), "white")
    canvas = ImageDraw.Draw(sheet)
    canvas.text((GAP, 10), "Photographs and the ones most like them", INK, ImageFont.load_default(22))
    canvas.text((GAP, 38), subtitle, GREY, ImageFont.load_default(13))
    for i, line in enumerate(lines):
        top = HEAD + i * (CELL + CAPTION + GAP)
        for j, row in enumerate(line):
            left = GAP + j * (CELL + GAP) + (GAP if j else 0)  # a little apart from the query
            draw_cell(sheet, canvas, left, top, row, is_query=j == 0)
    return sheet


def draw_cell(
    sheet: Image.Image, canvas: ImageDraw.ImageDraw, left: int, top: int, row: dict[str, Any], *, is_query: bool
) -> None:
    """One photograph with its caption."""
    image = open_image(uri_to_path(row["uri"]), draft=(CELL, CELL))
    image.thumbnail((CELL - 8, CELL - 8), Image.Resampling.LANCZOS)
    sheet.paste(image, (left + (CELL - image.width) // 2, top + (CELL - image.height) // 2))
    frame = (left, top, left + CELL - 1, top + CELL - 1)
    canvas.rectangle(frame, outline=ACCENT if is_query else (222, 226, 230), width=3 if is_query else 1)
    font = ImageFont.load_default(13)
    text = row["label"] or Path(uri_to_path(row["uri"])).stem
    canvas.text((left, top + CELL + 5), shorten(text, font), INK, font)
    second, colour = ("query", ACCENT) if is_query else (f"{row['similarity']:.3f}", GREY)
    canvas.text((left, top + CELL + 23), second, colour, font)


def shorten(text: str, font: ImageFont.ImageFont | ImageFont.FreeTypeFont) -> str:
    """The text, cut with an ellipsis where it is wider than a photograph."""
    if font.getlength(text) <= CELL:
        return text
    while text and font.getlength(text + "...") > CELL:
        text = text[:-1]
    return text.rstrip(" ,(") + "..."


if __name__ == "__main__":
    main()
