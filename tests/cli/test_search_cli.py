from __future__ import annotations

import base64
import csv
import html
import io
import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from PIL import Image
from typer.testing import CliRunner

from birder.cli.convert import convert
from birder.cli.embed import embed
from birder.cli.index import index
from birder.cli.search import search
from birder.collection.storage import Content, Row, Stamp, Storage
from birder.errors import (
    BirderError,
    CollectionError,
    ConfigError,
    FilterError,
    NoTextEncoderError,
    RowNotFoundError,
    UnknownNameError,
)
from birder.plots.image_page import THUMBNAIL, Tile, write_page

DATA = Path(__file__).parents[1] / "data"
CLIP = DATA / "openclip"
app = typer.Typer()
for command in (embed, search, index):
    app.command()(command)
BAD = "<script>alert('1')&\"x\".png"


def run(*arguments: str | Path, code: int = 0) -> tuple[str, str]:
    """What a command writes to standard output and standard error."""
    result = CliRunner().invoke(app, [str(each) for each in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, result.output
    return result.stdout, result.stderr


def found(*arguments: str | Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads(run("search", *arguments, "--format", "json")[0])
    return rows


def files(rows: list[dict[str, Any]]) -> list[str]:
    return [Path(row["path"]).name for row in rows]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images, and the collection of them by the image encoder of the tiny CLIP."""
    home = tmp_path_factory.mktemp("home")
    source = Image.open(DATA / "chelsea.png").convert("RGB")
    for n, name in enumerate(["0.png", "1.png", "2.png", "3.png", "a green leaf.png", BAD]):
        folder = home / "photos" / ("cats" if n % 2 else "dogs")
        folder.mkdir(parents=True, exist_ok=True)
        source.crop((20 * n, 10 * n, 20 * n + 224, 10 * n + 200)).save(folder / name)
    convert(str(CLIP), home / "vit_s16_pn_tiny.pt")
    model = ("--model", home / "vit_s16_pn_tiny.pt", "--engine", "torch", "--precision", "fp32")
    run("embed", home / "photos", "--in", home / "c.birder", *model)
    return home


def test_an_image_and_its_row_find_the_same(home: Path) -> None:
    by_image = found(home / "c.birder", "--image", home / "photos" / "cats" / "1.png")
    by_id = found(home / "c.birder", "--id", "1.png")
    assert files(by_image) == files(by_id)
    assert len(by_image) == 5
    assert "1.png" not in files(by_image)
    for a, b in zip(by_image, by_id, strict=True):
        assert a["similarity"] == pytest.approx(b["similarity"], abs=1e-4)
    assert list(by_image[0])[:2] == ["similarity", "path"]


@pytest.mark.slow
def test_several_queries_with_unlike_and_a_filter(home: Path) -> None:
    both = found(home / "c.birder", "--id", "1.png", "--id", "2.png", "--unlike", "3.png", "--where", "label = 'dogs'")
    assert set(files(both)) == {"0.png", "a green leaf.png"}
    # What exists as a file is an image; the same words that name none are a row; and else a text.
    photograph = home / "photos" / "cats" / "3.png"
    other = found(
        home / "c.birder", "--id", "1.png", "--id", "2.png", "--unlike", photograph, "--where", "label = 'dogs'"
    )
    assert files(other) == files(both)
    assert other[0]["similarity"] == pytest.approx(both[0]["similarity"], abs=1e-4)
    with pytest.raises(NoTextEncoderError, match="name the CLIP model"):
        run("search", home / "c.birder", "--id", "1.png", "--unlike", "a red leaf")
    with_text = found(home / "c.birder", "--id", "1.png", "--unlike", "a red leaf", "--model", CLIP)
    assert len(with_text) == 5


@pytest.mark.slow
def test_texts_need_a_text_encoder(home: Path, tmp_path: Path) -> None:
    rows = found(home / "c.birder", "--text", "a cat", "--text", "a dog", "--model", CLIP, "-k", "3")
    assert len(rows) == 3
    assert [row["similarity"] for row in rows] == sorted((row["similarity"] for row in rows), reverse=True)
    run("embed", home / "photos" / "cats", "--in", tmp_path / "d.birder")
    with pytest.raises(NoTextEncoderError, match="no text encoder.*--image, --id"):
        run("search", tmp_path / "d.birder", "--text", "a cat", "--model", "efficientnet_lite0_in1k")


def test_without_a_text_encoder_class_names_are_searched(home: Path, tmp_path: Path) -> None:
    run("embed", home / "photos" / "cats", "--in", tmp_path / "d.birder")
    _, notes = run("search", tmp_path / "d.birder", "--text", "a feline -dog", "-k", "3")
    assert "Found by the class names of efficientnet_lite0_in1k (a feline: 13 classes, dog: 118 classes)" in notes
    with pytest.raises(UnknownNameError, match=r"is called 'zebra finch'; nearest: finch\."):
        run("search", tmp_path / "d.birder", "--text", "zebra finch")
    with pytest.raises(ConfigError, match="cannot be put together"):
        run("search", tmp_path / "d.birder", "--text", "cat", "--image", next((home / "photos" / "cats").iterdir()))


def test_filter_alone_lists_what_matches(home: Path) -> None:
    out, notes = run("search", home / "c.birder", "--where", "label = 'cats'", "-k", "2", "--format", "csv")
    rows = list(csv.DictReader(io.StringIO(out)))
    assert [row["label"] for row in rows] == ["cats", "cats"]
    assert "similarity" not in rows[0]
    assert "3 rows" in notes
    assert "-k shows more" in notes
    assert files(found(home / "c.birder", "--where", "taken_at >= '2024-05-01'")) == []
    with pytest.raises(FilterError, match="a filter is a single expression"):
        run("search", home / "c.birder", "--where", "true; DROP TABLE images")
    assert Storage.open(home / "c.birder").count() == 6


def test_the_table_leaves_out_bookkeeping(home: Path) -> None:
    out, notes = run("search", home / "c.birder", "--id", "1.png", "-k", "2")
    assert out.splitlines()[0].split() == ["similarity", "path", "label"]
    assert len(out.splitlines()) == 3
    assert "6 rows" in notes


def test_a_search_without_a_query_or_by_an_unknown_row_is_refused(home: Path) -> None:
    assert "--image, --text, --id" in " ".join(run("search", home / "c.birder", code=2)[1].split())
    with pytest.raises(RowNotFoundError, match="has no row 'nobody'"):
        run("search", home / "c.birder", "--id", "nobody")


def test_a_page_contains_its_images_and_runs_nothing(home: Path, tmp_path: Path) -> None:
    collection = Path(shutil.copytree(home / "c.birder", tmp_path / "c.birder"))
    moved = home / "photos" / "dogs" / "2.png"
    moved.rename(tmp_path / "away.png")
    try:
        query = home / "photos" / "dogs" / "0.png"
        where = "label != '<script>'"
        out, notes = run(
            "search", collection, "--image", query, "--where", where, "--to", tmp_path / "out" / "page.html"
        )
    finally:
        (tmp_path / "away.png").rename(moved)
    assert out == ""
    assert "1 image can no longer be read: shown as missing" in notes
    page = (tmp_path / "out" / "page.html").read_text()
    assert "<script" not in page
    assert html.escape(BAD) in page
    assert html.escape(where) in page
    assert "missing: the file no longer exists" in page
    assert not re.search(r"(?:src|href)=(?!\"data:image/jpeg;base64,)", page)
    assert not re.search(r"url\(|@import|https?://", page)
    pictures = re.findall(r'src="data:image/jpeg;base64,([^"]+)"', page)
    assert len(pictures) == 5  # the query and four of five results
    with Image.open(io.BytesIO(base64.b64decode(pictures[0]))) as image:
        assert (image.format, image.size) == ("JPEG", (224, 200))
    rows = found(collection, "--image", query, "--where", where)
    shown = [float(similarity) for similarity in re.findall(r"<b>(-?\d\.\d{4})</b>", page)]
    assert shown == pytest.approx([row["similarity"] for row in rows], abs=2e-4)
    assert shown == sorted(shown, reverse=True)
    assert "prefers-color-scheme: dark" in page


def test_a_page_shows_large_and_broken_images_and_crops(tmp_path: Path) -> None:
    Image.new("RGB", (1600, 800), "red").save(tmp_path / "wide.jpg")
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff")
    uri = (tmp_path / "wide.jpg").as_uri()
    tiles = [
        Tile(uri, "wide"),
        Tile(f"{uri}#xywh=percent:0,0,25,50", "crop"),
        Tile((tmp_path / "broken.jpg").as_uri(), "broken"),
        Tile("https://example.org/a.jpg", "remote"),
        Tile("urn:uuid:x", "none", ["\udcff & lines"]),
    ]
    missing = write_page(tmp_path / "page.html", "<i>", ["a & b"], [("", tiles)])
    assert set(missing) == {tile.uri for tile in tiles[2:]}
    page = (tmp_path / "page.html").read_text()
    assert "<h1>&lt;i&gt;</h1>" in page
    assert "a &amp; b" in page
    sizes = []
    for data in re.findall(r'src="data:image/jpeg;base64,([^"]+)"', page):
        with Image.open(io.BytesIO(base64.b64decode(data))) as image:
            sizes.append(image.size)
    assert sizes == [(THUMBNAIL, THUMBNAIL // 2), (THUMBNAIL, THUMBNAIL)]
    with pytest.raises(BirderError, match="Cannot write"):
        write_page(tmp_path / "wide.jpg" / "page.html", "x", [], [])


def test_an_index_is_built_and_reported(home: Path, tmp_path: Path) -> None:
    with pytest.raises(CollectionError, match="6 rows: an index needs"):
        run("index", home / "c.birder")
    out, notes = run("index", home / "c.birder", "--status")
    assert out == ""
    assert "The embeddings have no index: all 6 are compared" in notes
    opened = Storage.open(home / "c.birder")
    content = Content(np.ones(opened.model.embedding_size, "f4"), 1, 1, None, None, None)
    large = Storage.create_or_open(tmp_path / "large.birder", opened.model)
    with large.writing():
        large.write([Row(f"file:///{n}.png", "aa" * 32, Stamp(1, 1), content, {"label": "x"}) for n in range(300)])
    out, notes = run("index", large.path, "--format", "json", "--column", "label")
    assert json.loads(out)[1:] == [{"column": "label", "kind": "Bitmap", "rows": 300}]
    assert json.loads(out)[0]["rows"] == 300
    assert "300 rows" in notes
    with pytest.raises(UnknownNameError, match="label"):
        run("index", large.path, "--column", "labl")
    with large.writing():
        large.write([Row("file:///new.png", "aa" * 32, Stamp(1, 1), None)])
    assert "1 row is not in it yet" in run("index", large.path, "--status")[1]
