"""Draw images and the ones most similar to them: what a collection finds, on one sheet.

    python examples/contact_sheet.py demo/photos.birder demo/contact-sheet.jpg

Each line begins with a query, framed; its nearest neighbours follow, each with its label and the cosine of the two
embeddings. The embeddings are the stored ones, so no network runs.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

from PIL import Image, ImageDraw, ImageFont

import birder

QUERIES = ["pink-flamingo", "lion", "clownfish", "hornet", "zebra", "daffodil", "cep"]
NEIGHBOURS = 6
CELL, CAPTION, GAP, HEAD = 170, 46, 12, 64  # pixels
INK, GREY, ACCENT = (30, 34, 38), (105, 112, 120), (196, 80, 28)


def main() -> None:
    """Look up the queries' neighbours and draw them."""
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    try:
        collection = birder.open_collection(sys.argv[1])
        lines = [neighbours(collection, query) for query in find_queries(collection)]
        out = Path(sys.argv[2])
        draw(lines, f"{len(collection)} images, embedded with {collection.model.name}").save(out, quality=92)
    except birder.BirderError as error:
        sys.exit(f"contact_sheet: {error}")
    print(f"{out}: {len(lines)} images and their nearest neighbours, by {collection.model.name}")


def find_queries(collection: birder.Collection) -> list[dict[str, Any]]:
    """The rows to look up: those of QUERIES, or the first ones of another collection."""
    rows = collection.to_arrow(["id", "uri", "label"]).sort_by("uri").to_pylist()
    if not rows:
        raise birder.BirderError(f"{collection.path} is empty. Embed images into it first.")
    named = [row for name in QUERIES for row in rows if file_of(row).stem == name]
    return named or rows[: len(QUERIES)]


def neighbours(collection: birder.Collection, query: dict[str, Any]) -> list[dict[str, Any]]:
    """The query, then its nearest other rows, nearest first."""
    return [query, *collection.search(ids=query["id"], k=NEIGHBOURS, columns=["uri", "label"])]


def file_of(row: dict[str, Any]) -> Path:
    """The file of a row."""
    return Path(url2pathname(urlsplit(row["uri"]).path))


def draw(lines: list[list[dict[str, Any]]], subtitle: str) -> Image.Image:
    """Lay the lines out on white."""
    width = GAP + (1 + NEIGHBOURS) * (CELL + GAP) + GAP
    sheet = Image.new("RGB", (width, HEAD + len(lines) * (CELL + CAPTION + GAP)), "white")
    canvas = ImageDraw.Draw(sheet)
    canvas.text((GAP, 10), "Images and the ones most similar to them", INK, ImageFont.load_default(22))
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
    """One image with its caption."""
    image = birder.open_image(file_of(row), draft=(CELL, CELL))
    image.thumbnail((CELL - 8, CELL - 8), Image.Resampling.LANCZOS)
    sheet.paste(image, (left + (CELL - image.width) // 2, top + (CELL - image.height) // 2))
    frame = (left, top, left + CELL - 1, top + CELL - 1)
    canvas.rectangle(frame, outline=ACCENT if is_query else (222, 226, 230), width=3 if is_query else 1)
    font = ImageFont.load_default(13)
    text = row["label"] or file_of(row).stem
    canvas.text((left, top + CELL + 5), shorten(text, font), INK, font)
    second, colour = ("query", ACCENT) if is_query else (f"{row['similarity']:.3f}", GREY)
    canvas.text((left, top + CELL + 23), second, colour, font)


def shorten(text: str, font: ImageFont.ImageFont | ImageFont.FreeTypeFont) -> str:
    """The text, cut with an ellipsis where it is wider than an image."""
    if font.getlength(text) <= CELL:
        return text
    while text and font.getlength(text + "...") > CELL:
        text = text[:-1]
    return text.rstrip(" ,(") + "..."


if __name__ == "__main__":
    main()
