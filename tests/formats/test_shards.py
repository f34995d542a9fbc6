"""Shards byte for byte as the published webdataset writes them."""

from __future__ import annotations

import hashlib
import io
import json
from pathlib import Path

import numpy as np
import webdataset
from PIL import Image

from birder.formats.shards import ShardWriter, shard_name, to_jpeg
from birder.naming.taxon_texts import taxon_texts

PHOTO = Path(__file__).parents[1] / "data" / "chelsea.png"
TAXA = Path(__file__).parents[1] / "data" / "tree-of-life-texts.json"


def test_bytes_are_those_of_the_published_writer() -> None:
    """As Imageomics' make_wds.py: Pillow's image, squashed bicubically, into webdataset's writer."""
    image = Image.open(PHOTO).convert("RGB").resize((224, 224), resample=Image.Resampling.BICUBIC)
    texts = [row["texts"] for row in json.loads(TAXA.read_text("utf-8")) if row["texts"]][:20]
    theirs, ours = io.BytesIO(), io.BytesIO()
    writer = webdataset.TarWriter(theirs, mtime=0)
    shard = ShardWriter(ours)
    for number, each in enumerate(texts):
        writer.write({"__key__": f"k{number}", "jpg": image, **{f"{name}.txt": text for name, text in each.items()}})
        shard.add(f"k{number}", to_jpeg(np.asarray(image)), each)
    writer.close()
    size, sha256 = shard.close()
    assert ours.getvalue() == theirs.getvalue()
    assert (size, sha256, shard.records) == (len(theirs.getvalue()), hashlib.sha256(ours.getvalue()).hexdigest(), 20)


def test_published_reader_finds_the_samples(tmp_path: Path) -> None:
    texts = taxon_texts({"genus": "Pica", "species": "hudsonia"}, "Größe")
    with (tmp_path / shard_name(3)).open("wb") as file:
        shard = ShardWriter(file)
        shard.add("one", to_jpeg(np.full((8, 8, 3), 200, np.uint8)), texts)
        shard.close()
    (sample,) = webdataset.WebDataset(str(tmp_path / "shard-000003.tar"), shardshuffle=False)
    assert sample["__key__"] == "one"
    # webdataset reads names of members in lower case
    assert {key: value.decode() for key, value in sample.items() if key.endswith(".txt")} == {
        f"{name.lower()}.txt": text for name, text in texts.items()
    }
