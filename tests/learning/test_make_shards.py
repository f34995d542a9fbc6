"""Shards of a collection: what they hold, which side of the split, and a run that is stopped anywhere."""

from __future__ import annotations

import contextlib
import io
import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import webdataset
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image

from birder.collection.labels import give_label
from birder.collection.storage import Storage
from birder.errors import ConfigError, FileExistsError, UnknownNameError
from birder.learning.make_shards import ShardsMade, make_shards
from birder.learning.shard_rows import NO_TAXON
from birder.naming.taxon_texts import TEXTS, taxon_texts
from tests.factory import collection_of_columns, collection_of_images

TAXONOMY = """label,kingdom,class,genus,species,common_name
owl,Metazoa,Aves,Bubo,"Bubo bubo (Linnaeus, 1758)",eagle-owl
fox,Animalia,Mammalia,Vulpes,vulpes,
o'hare,Animalia,Mammalia,,,
"""


@pytest.fixture(scope="module")
def collection(tmp_path_factory: pytest.TempPathFactory) -> Storage:
    """40 images, 20 with a label: owl, fox, o'hare and Größe; one of the owls cannot be read any more."""
    folder = tmp_path_factory.mktemp("shards")
    found = collection_of_images(folder)
    (folder / "taxa.csv").write_text(TAXONOMY, "utf-8")
    (folder / "photos" / "0008 owl.jpg").write_bytes(b"this is text")
    return found


def made(collection: Storage, to: Path, **options: Any) -> ShardsMade:
    return make_shards(
        collection,
        to,
        taxonomy=collection.path.parent / "taxa.csv",
        **{"size": 32, "records": 4, "share": 0.25, "group_by": ["night", "site"], **options},
    )


def files(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file()}


def samples(folder: Path, split: str) -> list[dict[str, Any]]:
    """What the published reader finds in the shards of a split."""
    names = sorted(map(str, (folder / split).glob("*.tar")))
    return list(webdataset.WebDataset(names, shardshuffle=False, empty_check=False))


@pytest.fixture(scope="module")
def whole(collection: Storage, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shards of a run that nothing stopped."""
    folder = tmp_path_factory.mktemp("whole") / "shards"
    made(collection, folder)
    return folder


def test_samples_are_the_images_with_a_taxon_and_their_texts(collection: Storage, whole: Path) -> None:
    rows = {
        row["id"]: row for row in collection.snapshot().to_table(["id", "uri", "label", "site", "night"]).to_pylist()
    }
    known = {
        "owl": taxon_texts({"kingdom": "Animalia", "class": "Aves", "genus": "Bubo", "species": "bubo"}, "eagle-owl"),
        "fox": taxon_texts({"kingdom": "Animalia", "class": "Mammalia", "genus": "Vulpes", "species": "vulpes"}, "fox"),
        "o'hare": taxon_texts({"kingdom": "Animalia", "class": "Mammalia"}, "o'hare"),
    }
    groups: dict[str, set[tuple[str, bool]]] = {}
    found = {}
    for split in ("train", "val"):
        for sample in samples(whole, split):
            row = found[sample["__key__"]] = rows[sample["__key__"]]
            groups.setdefault(split, set()).add((row["site"], row["night"]))
            texts = {name: sample[f"{name.lower()}.txt"].decode() for name in TEXTS}
            assert texts == known[row["label"]]
            image = Image.open(row["uri"].removeprefix("file://").replace("%20", " ").replace("%27", "'"))
            buffer = io.BytesIO()
            image.convert("RGB").resize((32, 32), Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=100)
            assert sample["jpg"] == buffer.getvalue()
    assert len(found) == 14  # of the 20 with a label, 5 have none that the taxonomy knows, and one cannot be read
    assert groups["train"] and groups["val"] and not groups["train"] & groups["val"]


def test_manifest_tells_what_was_written_and_what_was_not(collection: Storage, whole: Path) -> None:
    manifest = json.loads((whole / "manifest.json").read_text())
    assert manifest["left_out"] == {NO_TAXON: 25}
    (failure,) = manifest["failed"]
    assert failure["uri"].endswith("0008%20owl.jpg") and failure["reason"] == "unknown file format"
    for split in ("train", "val"):
        listed = {Path(each["file"]).name: each["records"] for each in manifest["shards"] if each["split"] == split}
        assert listed == json.loads((whole / split / "sizes.json").read_text())
        assert sum(listed.values()) == len(samples(whole, split)) and max(listed.values()) <= 4
    assert "Images are grouped by night and site: 4 groups." in manifest["how"]
    assert any("lacks 1 of 4 classes: Größe" in sentence for sentence in manifest["how"])
    again = made(collection, whole)  # it is all there
    assert again.manifest == manifest and len(again.failed) == 1
    assert str(again).endswith(f"Left out: 25 with {NO_TAXON}.")


class Stopped(Exception):
    """A run is stopped."""


@pytest.mark.slow
@example(stops=[15], lost=True)
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(stops=st.lists(st.integers(0, 16), min_size=1, max_size=3), lost=st.booleans())
def test_a_run_that_was_stopped_anywhere_ends_in_the_same_bytes(
    collection: Storage, whole: Path, tmp_path_factory: pytest.TempPathFactory, stops: list[int], lost: bool
) -> None:
    folder = tmp_path_factory.mktemp("stopped") / "shards"
    for stop in stops:
        calls = iter(range(1000))

        def stop_there(_stage: str, _done: float, stop: int = stop, calls: Any = calls) -> None:
            if next(calls) == stop:
                raise Stopped

        with contextlib.suppress(Stopped):
            made(collection, folder, progress=stop_there)
        if lost and (shards := sorted(folder.rglob("*.tar"))):
            shards[0].unlink()
            (shards[0].parent / "shard-000000.tar.0123abcd.part").write_bytes(b"of a process that was killed")
    made(collection, folder)
    assert files(folder) == files(whole)


@pytest.mark.slow
def test_a_run_that_was_killed_goes_on_to_the_same_bytes(collection: Storage, whole: Path, tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path\n"
        "from birder.collection.storage import Storage\n"
        "from birder.learning.make_shards import make_shards\n"
        "c = Storage.open(sys.argv[1])\n"
        "make_shards(c, Path(sys.argv[2]), taxonomy=c.path.parent / 'taxa.csv', size=32, records=4, share=0.25,\n"
        "            group_by=['night', 'site'], progress=lambda *_: time.sleep(0.05))\n"
    )
    command = [sys.executable, "-c", code, str(collection.path), str(tmp_path / "s")]
    process = subprocess.Popen(command)
    while process.poll() is None and not list(tmp_path.rglob("shard-000001.tar.*.part")):
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not (tmp_path / "s" / "manifest.json").exists()
    subprocess.run(command, check=True)
    assert files(tmp_path / "s") == files(whole)


def test_shards_of_other_rows_or_of_others_are_not_replaced(collection: Storage, whole: Path, tmp_path: Path) -> None:
    made(collection, tmp_path)
    with pytest.raises(FileExistsError, match="--force"):
        made(collection, tmp_path, size=16)
    done = made(collection, tmp_path, size=16, share=0.0, force=True)
    assert done.records("train") == 14 and done.records("val") == 0
    assert {name for name in files(tmp_path) if name.endswith(".tar")} == {
        each["file"] for each in done.manifest["shards"]
    }
    (tmp_path / "other" / "train").mkdir(parents=True)
    theirs = tmp_path / "other" / "train" / "shard-000000.tar"
    theirs.write_bytes(b"TreeOfLife's")
    with pytest.raises(FileExistsError, match="name another folder"):
        made(collection, tmp_path / "other", force=True)
    assert theirs.read_bytes() == b"TreeOfLife's"


def test_rows_without_taxa_are_an_error_that_says_what_to_do(collection: Storage, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"None of the 40 images has a taxon.*--taxonomy"):
        make_shards(collection, tmp_path / "s")
    with pytest.raises(UnknownNameError, match="labels"):
        make_shards(collection, tmp_path / "s", column="labels")
    with pytest.raises(ConfigError, match="holds double, not names"):
        make_shards(collection, tmp_path / "s", column="Temp C")
    with pytest.raises(ConfigError, match="at most 0.5"):
        made(collection, tmp_path / "s", share=0.7)
    assert not (tmp_path / "s").exists()


def test_columns_of_ranks_are_enough(tmp_path: Path) -> None:
    taxa = {
        "a": {"kingdom": "Animalia", "genus": "Pica", "species": "Pica hudsonia", "label": "Pica hudsonia"},
        "b": {"kingdom": "Metazoa", "family": "Felidae", "common_name": "a cat"},
        "c": {"kingdom": "unknown", "label": "something"},
        "d": {"order": "Anura", "label": "photos", "label_source": "folder"},
        "e": {"order": "Caudata", "label": "a newt", "label_source": "table"},
        "f": {"order": "Odonata", "label": "photos", "label_source": "folder"},
    }
    rows = {}
    for name, columns in taxa.items():
        Image.fromarray(np.full((9, 9, 3), 99, np.uint8)).save(tmp_path / f"{name}.png")
        rows[(tmp_path / f"{name}.png").as_uri()] = columns
    collection = collection_of_columns(tmp_path / "c.birder", rows, {"common_name": pa.string()})
    (dragonfly,) = [row["id"] for row in collection.to_arrow().to_pylist() if row["uri"].endswith("/f.png")]
    give_label(collection, [dragonfly], "label", "a dragonfly", by="Ada")
    collection = Storage.open(collection.path)
    done = make_shards(collection, tmp_path / "s", share=0.0)
    assert done.records("train") == 5 and done.manifest["left_out"] == {NO_TAXON: 1}
    texts = {sample["taxon_com.txt"].decode() for sample in samples(tmp_path / "s", "train")}
    assert texts == {
        "a photo of Animalia Pica hudsonia with common name Pica hudsonia.",
        "a photo of Animalia Felidae with common name a cat.",
        "a photo of Anura with common name Anura.",
        "a photo of Caudata with common name a newt.",
        "a photo of Odonata with common name a dragonfly.",
    }
