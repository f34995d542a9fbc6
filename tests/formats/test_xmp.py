from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from birder.collection.storage import Storage
from birder.errors import CollectionError, ConfigError
from birder.formats.snapshot import Snapshot
from birder.formats.xmp import write_sidecars
from birder.sources import path_to_uri
from birder.taxonomy import RANKS
from tests.formats.conftest import Make

needs_exiftool = pytest.mark.skipif(shutil.which("exiftool") is None, reason="exiftool is not installed")
OWL = dict(zip(RANKS, ("Animalia", "Chordata", "Aves", "Strigiformes", "Strigidae", "Bubo", "Bubo bubo"), strict=True))
LINEAGE = list(OWL.values())


def photos(tmp_path: Path, make: Make, rows: dict[str, dict[str, Any]], name: str = "c.birder") -> Storage:
    for each in rows:
        path = tmp_path / "photos" / each.partition("#")[0]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"jpeg")
    uris = {}
    for each, columns in rows.items():
        file, hash_, fragment = each.partition("#")
        uris[path_to_uri(tmp_path / "photos" / file) + hash_ + fragment] = columns
    return make(uris, name=name)


def read(file: Path) -> dict[str, Any]:
    """What exiftool, which is not ours, reads in a sidecar."""
    command = ["exiftool", "-j", "-struct", "-XMP:all", "-validate", "-warning", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    found: dict[str, Any] = json.loads(done.stdout)[0]
    assert "Warning" not in found, found
    return found


@needs_exiftool
def test_names_are_written_as_digikam_and_lightroom_read_them(make: Make, tmp_path: Path) -> None:
    made = photos(
        tmp_path, make, {"a.jpg": {"label": "eagle owl <&>", **OWL}, "b/c.png": {"label": "a/b|c"}, "d.jpg": {}}
    )
    done = write_sidecars(Snapshot(made), tmp_path / "photos")
    assert (done.written, done.failures) == (2, [])
    found = read(tmp_path / "photos" / "a.jpg.xmp")
    assert found["Subject"] == ["eagle owl <&>", "Bubo bubo"]
    assert found["HierarchicalSubject"] == ["|".join(LINEAGE)]
    assert found["TagsList"] == ["/".join(LINEAGE)]
    found = read(tmp_path / "photos" / "b" / "c.png.xmp")
    assert (found["Subject"], found["HierarchicalSubject"], found["TagsList"]) == (["a/b|c"], ["a/b-c"], ["a-b|c"])
    assert not (tmp_path / "photos" / "d.jpg.xmp").exists()
    before = (tmp_path / "photos" / "a.jpg.xmp").stat().st_mtime_ns
    assert write_sidecars(Snapshot(made), tmp_path / "photos").unchanged == 2
    assert (tmp_path / "photos" / "a.jpg.xmp").stat().st_mtime_ns == before


@pytest.mark.slow
@needs_exiftool
def test_existing_content_of_a_sidecar_stays_and_only_our_names_change(make: Make, tmp_path: Path) -> None:
    sidecar = tmp_path / "photos" / "a.xmp"  # Adobe's name for it
    sidecar.parent.mkdir()
    tags = [
        "-XMP-dc:Subject=night",
        "-XMP-dc:Subject=owl",
        "-XMP:Rating=4",
        "-XMP-dc:Title-de=Uhu",
        "-XMP:CreatorTool=x",
    ]
    tags += ["-XMP-crs:Exposure2012=0.5", "-XMP-lr:HierarchicalSubject=Time|night", "-XMP-digiKam:TagsList=Time/night"]
    subprocess.run(["exiftool", "-q", *tags, str(sidecar)], check=True, timeout=60)
    text = sidecar.read_text("utf-8")  # as Adobe writes it: a property as an attribute, with a line end
    attribute = "<rdf:Description rdf:about='' xmlns:photoshop='http://ns.adobe.com/photoshop/1.0/' "
    text = text.replace("<rdf:Description", attribute + "photoshop:Instructions='one&#xA;two'/> <rdf:Description", 1)
    sidecar.write_text(text, "utf-8")
    given = read(sidecar)
    assert given["Instructions"] == "one\ntwo"
    rows = {"a.jpg": {"label": "owl"}, "a.jpg#xywh=percent:0,0,50,50": {"label": "hawk"}}
    write_sidecars(Snapshot(photos(tmp_path, make, rows)), tmp_path / "photos")
    assert not (tmp_path / "photos" / "a.jpg.xmp").exists()
    found = read(sidecar)
    assert found["Subject"] == ["night", "owl", "hawk"]
    assert found["HierarchicalSubject"] == ["Time|night", "owl", "hawk"]
    changed = ("Subject", "HierarchicalSubject", "TagsList", "Names", "XMPToolkit")
    assert {k: v for k, v in found.items() if k not in changed} == {k: v for k, v in given.items() if k not in changed}
    # What Birder wrote goes when the label changes; "owl" was the user's own keyword before, and stays.
    relabelled = photos(tmp_path, make, {"a.jpg": {"label": "stone"}}, name="later.birder")
    write_sidecars(Snapshot(relabelled), tmp_path / "photos")
    found = read(sidecar)
    assert (found["Subject"], found["TagsList"]) == (["night", "owl", "stone"], ["Time/night", "stone"])
    assert found["Rating"] == 4


def test_hostile_and_foreign_sidecars_stay_as_they_are(make: Make, tmp_path: Path) -> None:
    bomb = (
        '<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;&a;">]><x:xmpmeta xmlns:x="adobe:ns:meta/">&b;</x:xmpmeta>'
    )
    kept = {
        "1.jpg.xmp": bomb.encode(),
        "2.jpg.xmp": b"no XML",
        "3.jpg.xmp": b"<html/>",
        "4.jpg.xmp": ("<a>" * 5000 + "</a>" * 5000).encode(),
        "5.jpg.xmp": bomb.encode("utf-16"),
    }
    made = photos(
        tmp_path, make, {name.removesuffix(".xmp"): {"label": "owl"} for name in (*kept, "6.jpg.xmp", "7.jpg.xmp")}
    )
    folder = tmp_path / "photos"
    for name, data in kept.items():
        (folder / name).write_bytes(data)
    (tmp_path / "outside.xmp").write_bytes(b"outside")
    (folder / "6.jpg.xmp").symlink_to(tmp_path / "outside.xmp")
    done = write_sidecars(Snapshot(made), folder)
    assert done.written == 1 and len(done.failures) == 6
    assert {name: (folder / name).read_bytes() for name in kept} == kept
    assert (tmp_path / "outside.xmp").read_bytes() == b"outside"
    assert not list(folder.glob(".birder-*"))


def test_only_images_in_the_folder_get_sidecars(make: Make, tmp_path: Path) -> None:
    made = photos(tmp_path, make, {"in/a.jpg": {"label": "owl"}, "out/b.jpg": {"label": "owl"}})
    done = write_sidecars(Snapshot(made), tmp_path / "photos" / "in")
    assert (done.written, done.left_out) == (1, 1)
    assert not (tmp_path / "photos" / "out" / "b.jpg.xmp").exists()
    with pytest.raises(CollectionError, match="has a name"):
        write_sidecars(Snapshot(made, "label = 'x'"), tmp_path / "photos")
    with pytest.raises(ConfigError, match="is not a folder"):
        write_sidecars(Snapshot(made), tmp_path / "nothing")


def test_names_of_folders_are_keywords_only_on_request(make: Make, tmp_path: Path) -> None:
    made = photos(tmp_path, make, {"DCIM/a.jpg": {"label": "DCIM"}, "DCIM/b.jpg": {"label": "DCIM", **OWL}})
    folder = tmp_path / "photos"
    assert write_sidecars(Snapshot(made), folder).written == 1
    assert not (folder / "DCIM" / "a.jpg.xmp").exists()
    assert "DCIM" not in (folder / "DCIM" / "b.jpg.xmp").read_text("utf-8")
    assert write_sidecars(Snapshot(made), folder, folder_labels=True).written == 2
    assert "DCIM" in (folder / "DCIM" / "a.jpg.xmp").read_text("utf-8")
