from __future__ import annotations

import io
import json
import pickle
import tarfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from birder.errors import ConfigError
from birder.formats.sources import find_sources
from birder.sources import Source, load_source
from birder.sources.columns import with_taxonomy
from birder.sources.parquet import ParquetShard
from birder.sources.tar import TarShard
from tests.sources.shards import TREE, write_parquet, write_tar


def inside(path: Path) -> list[Source]:
    (shard,) = find_sources([path])
    assert shard.members is not None
    return list(shard.members.sources())


def test_a_sample_of_a_tar_is_its_image_with_its_texts(tmp_path: Path) -> None:
    owl, moss = inside(write_tar(tmp_path / "a b.tar", TREE))
    assert (owl.uri, moss.uri) == (f"file://{tmp_path}/a%20b.tar#20.jpg", f"file://{tmp_path}/a%20b.tar#21.jpg")
    loaded = load_source(owl)
    assert loaded.data == b"owl"
    assert dict(loaded.columns) == {
        "kingdom": "Animalia",
        "phylum": "Chordata",
        "class": "Aves",
        "order": "Strigiformes",
        "family": "Strigidae",
        "genus": "Strix",
        "species": "Strix aluco",
        "label": "Strix aluco",
        "taxonomic_name": "Animalia Chordata Aves Strigiformes Strigidae Strix aluco",
        "common_name": "tawny owl",
        "trap": 7,
        "place": '{"x": 1}',
        "source_id": "a",  # id is the collection's own
    }
    assert load_source(moss) == (b"moss", {"trap": 7.5})
    assert owl.part is not None
    assert dict(owl.part.types) == {
        "taxonomic_name": pa.string(),
        "common_name": pa.string(),
        "trap": pa.float64(),
        "place": pa.string(),
        "source_id": pa.string(),
    }


def test_ranks_that_are_named_one_by_one_may_be_missing() -> None:
    tag = "kingdom Plantae phylum Bryophyta class Bryopsida genus Bryum species argenteum."
    told = with_taxonomy({"taxonTag": tag, "taxonomic_name": "Plantae Bryophyta Bryopsida Bryum argenteum"})
    assert "family" not in told and "order" not in told
    assert (told["class"], told["genus"], told["species"]) == ("Bryopsida", "Bryum", "Bryum argenteum")


@settings(max_examples=40, deadline=None)
@given(
    samples=st.dictionaries(
        st.text(st.characters(blacklist_characters="./\0", blacklist_categories=["Cs"]), min_size=1, max_size=130),
        st.tuples(st.binary(max_size=2000), st.text(max_size=30)),
        min_size=1,
        max_size=6,
    ),
    format=st.sampled_from([tarfile.PAX_FORMAT, tarfile.GNU_FORMAT]),
)
def test_any_tar_reads_as_the_standard_library_reads_it(
    tmp_path_factory: pytest.TempPathFactory, samples: dict[str, tuple[bytes, str]], format: int
) -> None:
    members = []
    for key, (data, text) in samples.items():
        members += [(f"d/{key}.png", data), (f"d/{key}.note.txt", text.encode())]
    path = write_tar(tmp_path_factory.mktemp("t") / "x.tar", members, format)
    with tarfile.open(path) as archive:
        expected = {
            m.name: archive.extractfile(m).read()  # type: ignore[union-attr]
            for m in archive
            if m.name.endswith(".png")
        }
    sources = inside(path)
    assert len({source.uri for source in sources}) == len(sources) == len(samples)
    for source in sources:
        key = source.part.name[2:-4]  # type: ignore[union-attr]
        loaded = load_source(source)
        assert loaded.data == expected[f"d/{key}.png"] == samples[key][0]
        assert (loaded.columns.get("note") or "") == samples[key][1].strip()


def test_links_folders_and_names_that_lead_upwards_write_nothing(tmp_path: Path) -> None:
    path = tmp_path / "evil.tar"
    with tarfile.open(path, "w") as archive:
        for name, kind in (("link.jpg", tarfile.SYMTYPE), ("folder.jpg", tarfile.DIRTYPE)):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "/etc/passwd"
            archive.addfile(info)
        info = tarfile.TarInfo("../../up.jpg")
        info.size = 2
        archive.addfile(info, io.BytesIO(b"ab"))
    (source,) = inside(path)
    assert load_source(source).data == b"ab"
    assert [entry.name for entry in tmp_path.rglob("*")] == ["evil.tar"]


def test_a_sparse_member_that_claims_to_be_huge_is_left_out(tmp_path: Path) -> None:
    header = tarfile.TarInfo("huge.jpg")
    header.type, header.size = tarfile.GNUTYPE_SPARSE, 0
    block = bytearray(header.tobuf(tarfile.GNU_FORMAT))
    block[483:495] = b"%011o\0" % (1 << 32)  # the size that it would have
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    path = write_tar(tmp_path / "x.tar", [("1.jpg", b"one")])
    path.write_bytes(bytes(block) + path.read_bytes())
    assert [source.uri for source in inside(path)] == [f"file://{path}#1.jpg"]


def test_a_truncated_tar_gives_its_images_and_a_failure(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "x.tar", [(f"{i}.jpg", bytes(3000)) for i in range(5)])
    path.write_bytes(path.read_bytes()[:8000])
    *whole, last = inside(path)
    assert [source.problem for source in whole] == [None] * len(whole) and len(whole) >= 2
    assert last.uri == f"file://{path}" and "truncated" in str(last.problem)


def test_a_damaged_header_in_the_middle_is_reported(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "x.tar", [(f"{i}.jpg", b"x") for i in range(5)])
    data = bytearray(path.read_bytes())
    data[2 * 1024 + 150] ^= 1  # in the checksum of the third
    path.write_bytes(data)
    first, second, last = inside(path)
    assert (first.problem, second.problem) == (None, None)
    assert "no header at byte 2,048, 2 images before that" in str(last.problem).replace("), ", ", ")


def test_a_file_that_is_not_a_tar_is_reported(tmp_path: Path) -> None:
    (tmp_path / "x.tar").write_bytes(b"no tar" * 500)
    (source,) = inside(tmp_path / "x.tar")
    assert "damaged" in str(source.problem)
    (tmp_path / "x.tar.gz").write_bytes(b"x")
    with pytest.raises(ConfigError, match="gunzip"):
        find_sources([tmp_path / "x.tar.gz"])


def test_a_tar_that_changed_since_it_was_listed_gives_no_other_image(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "x.tar", [("1.jpg", b"one"), ("2.jpg", b"two")])
    sources = inside(path)
    write_tar(path, [("2.jpg", b"two"), ("1.jpg", b"one")])
    with pytest.raises(OSError, match="no longer at its place"):
        load_source(sources[0])


def test_rows_of_a_parquet_file_are_images_with_their_columns(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "x.parquet", 150, 70)
    sources = inside(path)
    assert [source.uri for source in sources[:2]] == [f"file://{path}#row=0", f"file://{path}#row=1"]
    for i in (0, 149, 3, 70, 69, 31, 32):  # forwards, back, across row groups
        data, columns = load_source(sources[i])
        assert data == b"%d" % i * 100
        assert columns == {
            "label": "wren" if i % 2 else "owl",
            "source_uri": f"u{i}",
            "tags": json.dumps(["a", str(i)]),
            "n": i,
            "file_name": f"{i}.jpg",
        }


def test_threads_and_other_processes_read_the_right_rows(tmp_path: Path) -> None:
    sources = pickle.loads(pickle.dumps(inside(write_parquet(tmp_path / "x.parquet", 200, 64))))  # as Ray does
    with ThreadPoolExecutor(8) as pool:
        data = [loaded.data for loaded in pool.map(load_source, sources)]
    assert data == [b"%d" % i * 100 for i in range(200)]


def test_only_a_few_rows_are_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sources = inside(write_parquet(tmp_path / "x.parquet", 200, 200))
    for source in sources:
        load_source(source)
    shard = sources[0].part.shard  # type: ignore[union-attr]
    assert isinstance(shard, ParquetShard)
    assert sum(batch.num_rows for _, batch in shard._slices) <= 200 - 8


def test_a_row_without_an_image_and_a_damaged_file_are_reported(tmp_path: Path) -> None:
    type_ = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    table = pa.table({"image": pa.array([{"bytes": None, "path": "x.jpg"}, None], type_)})
    pq.write_table(table, tmp_path / "x.parquet")
    for source in inside(tmp_path / "x.parquet"):
        with pytest.raises(OSError, match="has no image"):
            load_source(source)
    path = write_parquet(tmp_path / "y.parquet", 10, 10)
    (source, *_) = inside(path)
    path.write_bytes(bytes(500))
    with pytest.raises(OSError, match="damaged"):
        load_source(source)
    (whole,) = find_sources([path])
    assert "It must be a Parquet file" in str(whole.problem)


def test_a_source_in_a_shard_takes_little_memory(tmp_path: Path) -> None:
    assert not hasattr(TarShard("x"), "__dict__")
    assert all(not hasattr(source, "__dict__") for source in inside(write_tar(tmp_path / "x.tar", TREE)))
