"""Lists, shards and folders that are broken, or made to do harm: each is refused in words, or costs only itself."""

from __future__ import annotations

import io
import itertools
import json
import os
import random
import shutil
import sys
import tarfile
from collections.abc import Callable
from datetime import date, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from birder.errors import BirderError, ConfigError
from birder.formats.megadetector import read_boxes
from birder.formats.sources import find_sources
from birder.images.guard import MAX_BYTES, reading
from birder.images.open import decoded_photo
from birder.images.transform import ClassificationTransform
from birder.pipeline.decode import Unreadable, read_group
from birder.pipeline.plan import column_types_of, plan
from birder.sources import Source, find_images, load_source, parquet, read_json
from birder.sources.columns import PlaceWarning, drop_off_earth
from birder.sources.lines import MAX_LINE
from birder.sources.table import read_table
from tests.robustness.documents import changed
from tests.sources.shards import write_tar

CAMTRAP = Path(__file__).parents[1] / "data" / "camtrap-dp"
TRANSFORM = ClassificationTransform((8, 8), (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
IMAGES = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def png() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (9, 9), "teal").save(buffer, "PNG")
    return buffer.getvalue()


def outcomes(sources: list[Source]) -> list[str | None]:
    """What becomes of sources in a run: the reasons why not, None for what can be embedded."""
    todo = plan(None, sources)
    todo.column_types()
    read = [read_group([item], TRANSFORM, True)[0] for item in todo.pending]
    return [each.reason if isinstance(each, Unreadable) else None for each in read]


# Folders


def test_folders_of_any_depth_are_searched(tmp_path: Path) -> None:
    folders = list(itertools.accumulate(["d"] * 500, os.path.join, initial=str(tmp_path)))
    Path(folders[-1]).mkdir(parents=True)
    (Path(folders[-1]) / "owl.jpg").write_bytes(b"x")
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(400)  # as 1,500 of them are for Python's own limit, and made sooner
    try:
        (source,) = find_images([tmp_path])
        assert source.path == f"{folders[-1]}/owl.jpg"
        assert len(find_sources([tmp_path])) == 1
        with pytest.raises(BirderError, match="too deeply for a pattern"):
            find_images([f"{tmp_path}/**/*.jpg"])
    finally:
        sys.setrecursionlimit(before)


def test_links_that_double_at_each_step_lead_to_each_image_once(tmp_path: Path) -> None:
    for i in range(30):
        folder = tmp_path / f"{i:02}"
        folder.mkdir()
        (folder / f"{i}.jpg").write_bytes(b"x")
        for name in ("a", "b") if i < 29 else ():
            (folder / name).symlink_to(tmp_path / f"{i + 1:02}")
    assert [Path(source.path).name for source in find_images([tmp_path / "00"])] == [f"{i}.jpg" for i in range(30)]
    assert len(find_images([tmp_path])) == 30


def test_a_folder_keeps_its_own_name_whatever_links_lead_to_it(tmp_path: Path) -> None:
    (tmp_path / "owls").mkdir()
    (tmp_path / "owls" / "1.jpg").write_bytes(b"x")
    (tmp_path / "a link").symlink_to(tmp_path / "owls")  # which comes first in the alphabet
    assert [source.path for source in find_images([tmp_path])] == [f"{tmp_path}/owls/1.jpg"]


# Tables


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_a_name_with_a_nul_is_a_failure_of_its_own(tmp_path: Path, ending: str) -> None:
    (tmp_path / "a.png").write_bytes(png())
    names = ["a.png", "b\0.png", "https://127.0.0.1:1/\0.png"]
    if ending == "csv":
        (tmp_path / "l.csv").write_text("\n".join(["path", *names]) + "\n")
    else:
        pq.write_table(pa.table({"path": names}), tmp_path / "l.parquet")
    fine, *reasons = outcomes(find_sources([tmp_path / f"l.{ending}"]))
    assert fine is None
    assert reasons == ["its name contains a NUL character"] * 2
    assert (
        outcomes([Source("/x/\0.png")])[0] == "it cannot be read (its name has characters that file names cannot have)"
    )


@pytest.mark.parametrize("quoted", [False, True])
def test_an_endless_line_is_refused(tmp_path: Path, quoted: bool) -> None:
    record = '"a\n",' * (MAX_LINE // 4) if quoted else "a," * MAX_LINE
    (tmp_path / "l.csv").write_text("path,x\n" + record)
    with pytest.raises(ConfigError, match="a line has more than 1,048,576 characters"):
        find_sources([tmp_path / "l.csv"])
    # nor is a sparse file of a gigabyte read whole to find that out: see tests/robustness/test_memory.py


def test_many_long_lines_are_accepted(tmp_path: Path) -> None:
    text = "é" * 100_000
    (tmp_path / "l.csv").write_text("path,x\n" + "".join(f'{i}.jpg,"{text}\n"\n' for i in range(20)), "utf-8")
    assert len(find_sources([tmp_path / "l.csv"])) == 20


def test_values_that_python_cannot_represent_are_null(tmp_path: Path) -> None:
    most = pa.array([2**62, 0])
    wrong = pa.py_buffer(b"\xff\xfeab"), pa.py_buffer(pa.array([0, 2, 4], pa.int32()).buffers()[1])
    columns = {
        "day": pa.array([2**31 - 1, 0], pa.int32()).view(pa.date32()),
        "moment": most.view(pa.timestamp("us")),
        "zoned": most.view(pa.timestamp("us", "UTC")),
        "hour": pa.array([2**62, 0]).view(pa.time64("us")),
        "large": pa.array([2**64 - 1, 5], pa.uint64()),
        "text": pa.Array.from_buffers(pa.string(), 2, [None, wrong[1], wrong[0]]),
    }
    expected = {
        "day": "1970-01-01",
        "moment": datetime(1970, 1, 1),
        "zoned": datetime(1970, 1, 1),
        "hour": "00:00:00",
        "large": 5,
        "text": "ab",
    }
    pq.write_table(pa.table({"path": ["a.png", "b.png"], **columns}), tmp_path / "list.parquet")
    first, second = find_sources([tmp_path / "list.parquet"])
    assert dict(first.columns) == dict.fromkeys(expected)
    assert dict(second.columns) == expected
    images = pa.array([{"bytes": png(), "path": "x"}] * 2, IMAGES)
    pq.write_table(pa.table({"image": images, **columns}), tmp_path / "shard.parquet")
    todo = plan(None, find_sources([tmp_path / "shard.parquet"]))
    first_, second_ = (load_source(item.source).columns for item in todo.pending)
    assert dict(first_) == {**dict.fromkeys(expected), "file_name": "x"}
    assert dict(second_) == {**expected, "file_name": "x"}


def test_days_are_text_as_people_write_it(tmp_path: Path) -> None:
    pq.write_table(pa.table({"path": ["a.png"], "day": [date(2024, 5, 1)]}), tmp_path / "l.parquet")
    assert find_sources([tmp_path / "l.parquet"])[0].columns["day"] == "2024-05-01"


def test_endlessly_nested_metadata_is_ignored(tmp_path: Path) -> None:
    table = pa.table({"image": pa.array([{"bytes": png(), "path": "x"}], IMAGES), "label": [1]})
    table = table.replace_schema_metadata({"huggingface": "[" * 100_000})
    pq.write_table(table, tmp_path / "x.parquet")
    assert outcomes(find_sources([tmp_path / "x.parquet"])) == [None]


def test_a_bad_parquet_file_among_many_fails_alone(tmp_path: Path) -> None:
    for i in range(4):
        table = pa.table({"image": pa.array([{"bytes": png(), "path": "x"}], IMAGES)})
        pq.write_table(table, tmp_path / f"{i}.parquet")
    bad = tmp_path / "2.parquet"
    bad.write_bytes(bad.read_bytes()[:-20])
    reasons = outcomes(find_sources([f"{tmp_path}/*.parquet"]))
    assert [reason is None for reason in reasons] == [True, True, False, True]
    assert f"Cannot read {bad}" in str(reasons[2])


@pytest.mark.parametrize("kind", ["zeros", "rows", "list"])
@pytest.mark.slow
def test_parquet_that_expands_a_thousandfold_is_refused_unread(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parquet, "_MOST", 50_000_000)  # of 1 GiB: tests/robustness/test_memory.py has that
    path = tmp_path / "x.parquet"
    if kind == "zeros":
        image = pa.array([{"bytes": bytes(20_000_000), "path": "a"}], IMAGES)
        table = pa.table({"image": pa.concat_arrays([image] * 3)})
        pq.write_table(table, path, compression="zstd", use_dictionary=False)
    elif kind == "rows":
        pq.write_table(pa.table({"image": pa.nulls(10_000_000, IMAGES)}), path)
    else:
        values = pa.array(["x" * 100_000]).take(pa.array([0] * 1000))
        tags = pa.ListArray.from_arrays(pa.array([0, 1000], pa.int32()), values)
        pq.write_table(pa.table({"path": ["a.jpg"], "tags": tags}), path, compression="zstd")
    assert path.stat().st_size < 100_000
    (reason,) = outcomes(find_sources([path]))
    expected = "it claims to have 10,000,000 images" if kind == "rows" else "in memory. Write it again"
    assert expected in str(reason)


def test_a_value_that_many_rows_share_is_read_a_few_rows_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parquet, "_SLICE_BYTES", 2_000_000)
    monkeypatch.setattr(parquet, "_KEPT_BYTES", 10_000_000)
    data = png() + bytes(1_000_000)
    image = pa.array([{"bytes": data, "path": "a"}], IMAGES)
    pq.write_table(pa.table({"image": pa.concat_arrays([image] * 100)}), tmp_path / "x.parquet", compression="zstd")
    assert (tmp_path / "x.parquet").stat().st_size < 100_000
    sources = plan(None, find_sources([tmp_path / "x.parquet"])).pending
    before = pa.total_allocated_bytes()
    most = 0
    for item in sources:
        assert load_source(item.source).data == data
        most = max(most, pa.total_allocated_bytes() - before)
    assert most < 40_000_000  # of 100 million


def test_a_table_whose_values_repeat_is_counted_before_they_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = pa.table({"path": [f"{i}.jpg" for i in range(2000)], "x": ["x" * 10_000] * 2000})
    pq.write_table(table, tmp_path / "l.parquet", compression="zstd")
    assert len(find_sources([tmp_path / "l.parquet"])) == 2000
    monkeypatch.setattr(parquet, "_MOST_ROWS", 10_000_000)
    with pytest.raises(ConfigError, match=r"needs more than 10,000,000 bytes of memory. Split it"):
        find_sources([tmp_path / "l.parquet"])


# Shards


def test_false_headers_are_a_failure_of_their_shard(tmp_path: Path) -> None:
    def pax(records: dict[str, str], size: str | None = None) -> bytes:
        info = tarfile.TarInfo("2.png")
        info.size, info.pax_headers = 3, records
        block = bytearray(info.tobuf(tarfile.PAX_FORMAT))
        if size is not None:
            block[124:136] = size.encode().ljust(12, b"\0")
            block[148:156] = b" " * 8
            block[148:156] = b"%06o\0 " % sum(block[:512])
        return bytes(block) + b"two".ljust(512, b"\0")

    name = tarfile.TarInfo("x" * 120)
    name.type, name.size = tarfile.GNUTYPE_LONGNAME, 121
    chained = (name.tobuf(tarfile.GNU_FORMAT)[-512:] + bytes(512)) * 3000
    lies = {
        "twenty digits": pax({"size": "9" * 20}),
        "negative": pax({"size": "-5"}),
        "no number": pax({"size": "ten"}),
        "gigabytes of headers": pax({"comment": "x"}, size="77777777777"),
        "headers for headers": chained,
    }
    for number, lie in enumerate(lies.values()):
        path = write_tar(tmp_path / f"{number}.tar", [("1.png", png())])
        path.write_bytes(path.read_bytes()[:1024] + lie + bytes(1024))
        reasons = outcomes(find_sources([path]))
        assert reasons[0] is None
        assert set(reasons[1:-1]) <= {None, "the file is empty"} and "damaged" in str(reasons[-1])


def test_any_damage_to_headers_has_a_readable_reason(tmp_path: Path) -> None:
    chance = random.Random(7)
    members = [(f"{'long' * 40}{i}.png", png()) for i in range(3)] + [("2.json", b'{"a": 1}')]
    whole = {
        kind: write_tar(tmp_path / "x.tar", members, kind).read_bytes()
        for kind in (tarfile.PAX_FORMAT, tarfile.GNU_FORMAT)
    }
    for _ in range(300):
        data = bytearray(chance.choice(list(whole.values())))
        for _ in range(chance.randint(1, 4)):
            data[chance.randrange(len(data))] = chance.choice(b"\0\xff9- \x80")
        header = chance.randrange(len(data) // 512) * 512
        data[header + 148 : header + 156] = b" " * 8
        data[header + 148 : header + 156] = b"%06o\0 " % sum(data[header : header + 512])
        (tmp_path / "x.tar").write_bytes(data)
        outcomes(find_sources([tmp_path / "x.tar"]))


def test_urls_of_urls_are_failures(tmp_path: Path) -> None:
    (tmp_path / "l.csv").write_text("path\nzip://x::file:///nowhere.zip\nzip://x::file://\n::\nfilecache://::\n")
    reasons = outcomes(find_sources([tmp_path / "l.csv"]))
    assert len(reasons) == 4 and None not in reasons


# JSON

TEXTS = ("9" * 5000, "\0", "\ud800", "a\udfff.jpg", "")
HOSTILE: tuple[Any, ...] = (5, -1.5, 10**400, 1e308, None, True, [], {}, [5], {"a": 5}, [None], [[]], *TEXTS)
RESULTS = {
    "info": {"format_version": "1.3"},
    "detection_categories": {"1": "animal"},
    "images": [
        {"file": "a.png", "detections": [{"category": "1", "conf": 0.9, "bbox": [0.1, 0.1, 0.5, 0.5]}]},
        {"file": "b.png", "failure": "no"},
    ],
}


def survives(read: Callable[[], list[Source]]) -> None:
    try:
        sources = read()
    except ConfigError as error:
        assert len(str(error)) < 20_000
        return
    for source in sources:
        source.uri.encode("utf-8")
        assert source.problem is None or len(source.problem) < 1000
    outcomes(sources)


def test_hostile_results_of_megadetector_are_refused_in_words_or_cost_only_themselves(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png())
    path = tmp_path / "r.json"
    for document in changed(RESULTS, HOSTILE):
        path.write_text(json.dumps(document))
        survives(lambda: read_boxes(path, tmp_path))
    for text in ("[" * 100_000, '{"a":' * 5000, "1" * 5000, "", "\ufeff{}", "nan"):
        path.write_text(text)
        with pytest.raises(ConfigError, match="MegaDetector's results"):
            read_boxes(path, tmp_path)


def test_hostile_data_packages_are_refused_in_words_or_cost_only_themselves(tmp_path: Path) -> None:
    tables = {
        "deployments": "deploymentID,latitude,longitude\nd,1,2\n",
        "media": "mediaID,deploymentID,timestamp,filePath,fileMediatype\nm,d,2020-05-30T04:57:37Z,a.png,image/png\n",
        "observations": "observationID,deploymentID,mediaID,eventStart,eventEnd,scientificName,count\no,d,m,,,Anas,2\n",
    }
    for name, text in tables.items():
        (tmp_path / f"{name}.csv").write_text(text)
    (tmp_path / "a.png").write_bytes(png())
    package = {
        "profile": "https://example.org/camtrap-dp-profile.json",
        "resources": [{"name": name, "path": f"{name}.csv"} for name in tables],
        "taxonomic": [{"scientificName": "Anas", "taxonRank": "genus", "kingdom": "Animalia"}],
    }
    path = tmp_path / "datapackage.json"
    for document in changed(package, HOSTILE):
        path.write_text(json.dumps(document))
        survives(lambda: find_sources([path]))
        survives(lambda: find_sources([tmp_path]))
    path.write_text(json.dumps(package))
    for name, text in tables.items():
        header, line = text.splitlines()
        for i, value in itertools.product(
            range(len(line.split(","))),
            (
                "\0",
                "9" * 5000,
                "-999",
                "nan",
                "9999-12-31T23:59:59-14:00",
                "0001-01-01T00:00:00+14:00",
                '"a\n',
                "٣",
                "../../x",
            ),
        ):
            cells = line.split(",")
            cells[i] = value
            (tmp_path / f"{name}.csv").write_text(f"{header}\n{','.join(cells)}\n{','.join(cells[:-1])}\n{line},more\n")
            survives(lambda: find_sources([path]))
        (tmp_path / f"{name}.csv").write_text(text)


def test_unpaired_surrogates_become_replacement_characters(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text(r'{"a\ud83e": ["\ud83e\udd89", "\udc00x", 1]}')
    assert read_json(str(tmp_path / "x.json")) == {"a\ufffd": ["\N{OWL}", "\ufffdx", 1]}


# What was wrong without a word


def test_a_damaged_datapackage_is_reported(tmp_path: Path) -> None:
    package = tmp_path / "package"
    shutil.copytree(CAMTRAP, package)
    described = package / "datapackage.json"
    described.write_bytes(described.read_bytes()[:-50])
    with pytest.raises(ConfigError, match=r"Cannot read the data package .* move it elsewhere"):
        find_sources([package])
    described.write_text(json.dumps({"profile": "https://x/camtrap-dp-profile.json", "resources": [{"name": "media"}]}))
    with pytest.raises(ConfigError, match="names no table"):
        find_sources([package])
    described.write_text(json.dumps({"name": "somebody else's", "resources": [{"name": "numbers"}]}))
    assert len(find_sources([package])) == len(find_images([package])) > 0


def test_media_that_share_a_file_are_one_image_with_what_all_say(tmp_path: Path) -> None:
    package = tmp_path / "package"
    shutil.copytree(CAMTRAP, package)
    deployments = (package / "deployments.csv").read_text().splitlines()
    where = [i for i, name in enumerate(deployments[0].split(",")) if name in ("latitude", "longitude")]
    assert len(where) == 2
    header = "mediaID,deploymentID,captureMethod,timestamp,filePath,filePublic,fileName,fileMediatype\n"
    lines = [
        f"m{i},none,,,media/20210531082538-RCNX0031.JPG,false,{'n.jpg' if i == 0 else ''},image/jpeg\n"
        for i in range(3)
    ]
    (package / "media.csv").write_text(header + "".join(lines))
    (package / "observations.csv").write_text((package / "observations.csv").read_text().splitlines()[0] + "\n")
    for image in (package / "media").iterdir():  # a folder's images that its list lacks would be taken as well
        if image.name != "20210531082538-RCNX0031.JPG":
            image.unlink()
    (source,) = find_sources([package])
    types = column_types_of([source])
    assert (types["latitude"], types["taken_at"]) == (pa.float64(), pa.timestamp("us"))
    assert (source.columns["mediaID"], source.columns["fileName"], source.columns["latitude"]) == ("m2", "n.jpg", None)
    assert outcomes([source]) == [None]


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_positions_off_the_earth_are_empty_and_counted(tmp_path: Path, ending: str) -> None:
    places = [(-999.0, 5.0), (50.0, 181.0), (90.0, -180.0), (None, 7.0), (float("inf"), 1.0)]
    path = tmp_path / f"l.{ending}"
    if ending == "csv":
        lines = [f"{i}.jpg,{'' if a is None else a},{b}\n".replace("inf", "1e999") for i, (a, b) in enumerate(places)]
        path.write_text("file_name,latitude,longitude\n" + "".join(lines))
    else:
        names = [f"{i}.jpg" for i in range(len(places))]
        pq.write_table(
            pa.table({"file_name": names, "latitude": [a for a, _ in places], "longitude": [b for _, b in places]}),
            path,
        )
    with pytest.warns(PlaceWarning, match="3 rows have a latitude beyond 90 or a longitude beyond 180"):
        table = read_table(path)
    rows = table.columns.to_pylist()
    assert [(row["latitude"], row["longitude"]) for row in rows] == [
        (None, None), (None, None), (90.0, -180.0), (None, 7.0), (None, None),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ({"latitude": -999, "longitude": 3}, {"latitude": None, "longitude": None}),
        ({"latitude": float("nan")}, {"latitude": None}),
        ({"latitude": -90, "longitude": 180.0}, None),
        ({"latitude": None, "x": -999}, None),
    ],
)
def test_a_row_of_a_shard_off_the_earth_has_no_position(
    columns: dict[str, Any], expected: dict[str, Any] | None
) -> None:
    row = dict(columns)
    assert drop_off_earth(row) is (expected is not None)
    assert row == (expected or columns)


# Bytes in flight


def test_a_large_file_that_is_not_an_image_is_not_read_whole(tmp_path: Path) -> None:
    reasons = {"zeros.jpg": b"", "video.jpg": b"\0\0\0\x18ftypmp42", "text.jpg": b"<!DOCTYPE html>", "small.png": png()}
    for name, head in reasons.items():
        with (tmp_path / name).open("wb") as file:
            file.write(head)
            file.truncate(MAX_BYTES // 8)
    for name in ("zeros.jpg", "video.jpg", "text.jpg"):
        assert len(load_source(Source(str(tmp_path / name))).data) == 4096
    assert outcomes([Source(str(tmp_path / name)) for name in reasons]) == [
        "the file contains only zeros",
        "not an image but a video",
        "not an image but a web page",
        None,
    ]


def test_the_beginning_of_every_format_is_recognised(tmp_path: Path) -> None:
    image = Image.new("RGB", (300, 200), "teal")
    for kind in (
        "JPEG",
        "PNG",
        "TIFF",
        "WEBP",
        "AVIF",
        "GIF",
        "BMP",
        "JPEG2000",
        "PPM",
        "ICO",
        "SGI",
        "PCX",
        "TGA",
        "DIB",
    ):
        path = tmp_path / f"x.{kind}"
        image.save(path, kind)
        with path.open("ab") as file:
            file.truncate(20_000_000)
        assert len(load_source(Source(str(path))).data) == 20_000_000, kind


def test_bytes_are_held_until_the_image_is_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(png() + bytes(1_000_000))
    held = []
    original = decoded_photo

    def looked(data: bytes, **options: Any) -> Any:
        held.append(reading._held)
        return original(data, **options)

    monkeypatch.setattr("birder.pipeline.decode.decoded_photo", looked)
    assert outcomes([Source(str(path))]) == [None]
    assert held == [2 * path.stat().st_size]  # a process apart may hold them too
    assert reading._held == 0
