"""Streams of samples: whatever is broken, however they are shared, from any sample on."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import braceexpand
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from birder.errors import ConfigError
from birder.learning import clip_shards
from birder.learning.clip_shards import Captions, ShardStream, count_samples
from birder.sources import samples
from birder.sources.shard_names import expand_braces, expand_shards
from tests.sources.remote import Handler, site

__all__ = ["site"]
QUICK = settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
BREAKS = ("whole", "no image", "damaged image", "no text", "empty texts", "damaged header")


def jpeg(value: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.full((6, 5, 3), value % 256, np.uint8)).save(buffer, "JPEG", quality=100)
    return buffer.getvalue()


def write_shard(path: Path, breaks: list[str], first: int = 0) -> Path:
    """A shard of a sample for each way to break one."""
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as archive:
        for number, how in enumerate(breaks, start=first):
            image, texts = jpeg(number), {"sci": f"a photo of {number}.", "taxon": f"a photo of Aves {number}."}
            if how == "damaged image":
                image = image[:40]
            if how == "no text":
                texts = {}
            if how == "empty texts":
                texts = dict.fromkeys(texts, " ")
            members = {"jpg": image} | {f"{name}.txt": text.encode() for name, text in texts.items()}
            if how == "no image":
                del members["jpg"]
            for ending, data in sorted(members.items()):
                info = tarfile.TarInfo(f"{number:04d}.{ending}")
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
    content = bytearray(path.read_bytes())
    for number, how in enumerate(breaks, start=first):
        if how == "damaged header":
            content[content.index(f"{number:04d}.jpg".encode()) + 150] ^= 0x55
    path.write_bytes(content)
    return path


def keys(stream: ShardStream, count: int) -> list[str]:
    return [next(stream).key for _ in range(count)]


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Five shards of 0 to 13 samples, some of them broken."""
    folder = tmp_path_factory.mktemp("shards")
    sizes = (7, 0, 13, 1, 9)
    return [
        str(
            write_shard(
                folder / f"shard-{n}.tar", [BREAKS[i % 9 % 6] if i % 4 == 3 else "whole" for i in range(size)], 100 * n
            )
        )
        for n, size in enumerate(sizes)
    ]


@QUICK
@given(st.lists(st.sampled_from(BREAKS), min_size=1, max_size=12))
def test_any_broken_samples_are_left_out_and_listed(tmp_path: Path, breaks: list[str]) -> None:
    path = write_shard(tmp_path / "s.tar", breaks)
    stream = ShardStream([str(path)], once=True, shuffle=0)
    assert [sample.key for sample in stream] == [f"{n:04d}" for n, how in enumerate(breaks) if how == "whole"]
    assert {name for name in stream.failed if "at byte" not in name} == {
        f"{path} {n:04d}" for n, how in enumerate(breaks) if how != "whole"
    }
    assert sum("at byte" in name for name in stream.failed) == breaks.count("damaged header")


def test_a_sample_is_its_pixels_and_texts(tmp_path: Path) -> None:
    (sample,) = ShardStream([str(write_shard(tmp_path / "s.tar", ["whole"], 77))], once=True)
    assert sample.pixels.shape == (6, 5, 3) and sample.pixels.dtype == np.uint8 and set(sample.pixels.ravel()) == {77}
    assert sample.texts == {"sci": "a photo of 77.", "taxon": "a photo of Aves 77."}


@QUICK
@given(cut=st.integers(1, 9000))
def test_a_truncated_shard_gives_what_is_whole(tmp_path: Path, cut: int) -> None:
    path = write_shard(tmp_path / "s.tar", ["whole"] * 3)
    content = path.read_bytes()
    path.write_bytes(content[:cut])
    whole = [place for n in range(3) if (place := content.index(f"a photo of {n}.".encode())) < cut - 12]
    found = [sample.key for sample in ShardStream([str(path)], once=True, shuffle=0)]
    assert found == [f"{n:04d}" for n in range(len(found))] and len(whole) <= len(found) <= len(whole) + 1


@pytest.mark.slow
@QUICK
@given(
    before=st.integers(0, 60), shuffle=st.sampled_from([0, 1, 3, 50]), resample=st.booleans(), stream=st.integers(0, 6)
)
def test_a_stream_goes_on_from_any_sample(
    shards: list[str], before: int, shuffle: int, resample: bool, stream: int
) -> None:
    options: dict[str, Any] = {"seed": 5, "shuffle": shuffle, "resample": resample, "stream": stream, "streams": 7}
    if not resample and stream in (1, 3, 6):  # of the streams that share five shards, these get too little
        options["streams"], options["stream"] = 2, stream % 2
    first = ShardStream(shards, **options)
    keys(first, before)
    state = json.loads(json.dumps(first.state()))
    second = ShardStream(shards, **options)
    second.restore(state)
    assert keys(first, 70) == keys(second, 70)
    assert first.state() == second.state()


@QUICK
@given(streams=st.integers(1, 8), shuffle=st.sampled_from([0, 4, 100]), seed=st.integers(0, 3))
def test_streams_share_each_pass(tmp_path: Path, streams: int, shuffle: int, seed: int) -> None:
    shards = [str(write_shard(tmp_path / f"{n}.tar", ["whole"] * 6, 10 * n)) for n in range(3)]
    every = sorted(f"{10 * n + i:04d}" for n in range(3) for i in range(6))
    parts = [list(ShardStream(shards, once=True, stream=n, streams=streams)) for n in range(streams)]
    assert sorted(sample.key for part in parts for sample in part) == every
    orders = []
    for number in range(2):
        found: list[str] = []
        for n, part in enumerate(parts):
            stream = ShardStream(shards, seed=seed, shuffle=shuffle, stream=n, streams=streams)
            # With as many shards as streams or more, a stream has other shards in each pass, of six samples each.
            count = len(part)
            if streams <= 3 and 3 % streams:
                continue
            found += keys(stream, (number + 1) * count)[number * count :]
        if streams > 3 or 3 % streams == 0:
            assert sorted(found) == every
        orders.append(found)
    if shuffle and streams == 1:
        assert orders[0] != orders[1] != every


def test_a_place_in_other_shards_is_refused(shards: list[str]) -> None:
    state = ShardStream(shards, seed=1).state()
    for other in (ShardStream(shards, seed=2), ShardStream(shards[1:], seed=1), ShardStream(shards, seed=1, streams=2)):
        with pytest.raises(ConfigError, match="other shards"):
            other.restore(state)


def test_shards_without_any_sample_end_with_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clip_shards, "_HOPELESS", 100)
    for breaks in (["no image"] * 3, []):
        stream = ShardStream([str(write_shard(tmp_path / "s.tar", breaks))])
        with pytest.raises(ConfigError, match="No sample of the 1 shards can be read"):
            next(stream)
    gone = ShardStream([str(tmp_path / "gone.tar"), str(write_shard(tmp_path / "t.tar", ["whole"]))])
    assert keys(gone, 3) == ["0000"] * 3
    assert gone.failed == {str(tmp_path / "gone.tar"): "the file does not exist"}


def test_a_text_that_is_missing_is_replaced_and_counted() -> None:
    captions = Captions()
    assert captions.of({"com": "c", "taxon": "t"}, "com") == "c"
    assert captions.of({"com": "c", "taxon": "t", "sci": "s"}, "sci_com") == "t"
    assert captions.of({"com": "c", "scientific_name": "s"}, "sci_com") == "s"
    assert captions.of({"z": "z", "a": "a"}, "com") == "a"
    assert str(captions) == (
        "1 samples without com: a was taken; 1 samples without sci_com: scientific_name was taken; "
        "1 samples without sci_com: taxon was taken"
    )


@pytest.mark.slow
def test_a_server_that_breaks_off_is_asked_again(
    site: tuple[str, Path, list[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    url, folder, _ = site
    content = write_shard(folder / "s.tar", ["whole"] * 40).read_bytes()
    expected = keys(ShardStream([str(folder / "s.tar")], once=True, shuffle=0), 40)
    monkeypatch.setattr(samples, "_AT_ONCE", 4096)  # many requests
    pauses = []

    def mend(seconds: float) -> None:
        pauses.append(seconds)
        monkeypatch.setattr(Handler, "answer", answer)

    answer = Handler.answer
    monkeypatch.setattr("time.sleep", mend)
    stream = ShardStream([f"{url}/s.tar"], once=True, shuffle=0)
    found = keys(stream, 10)
    monkeypatch.setattr(Handler, "answer", lambda handler, _body: handler.send_error(503))
    assert len(content) > 20 * 4096
    assert found + keys(stream, 30) == expected
    assert pauses == [1.0] and stream.failed == {}


def test_shards_at_a_url(site: tuple[str, Path, list[Any]]) -> None:
    url, folder, _ = site
    (folder / "train").mkdir()
    for n in range(2):
        write_shard(folder / "train" / f"shard-00000{n}.tar", ["whole", "damaged header", "whole"], 10 * n)
    (folder / "train" / "sizes.json").write_text(json.dumps({"shard-000000.tar": 3, "shard-000001.tar": 3}))
    names = expand_shards(f"{url}/train/shard-{{000000..000001}}.tar")
    assert count_samples(names) == 6 and count_samples((*names, f"{url}/other/x.tar")) is None
    stream = ShardStream(names, seed=1, shuffle=3)
    found = keys(stream, 3)
    other = ShardStream(names, seed=1, shuffle=3)
    other.restore(stream.state())
    assert sorted(found + keys(other, 1)) == ["0000", "0002", "0010", "0012"]
    gone = ShardStream([f"{url}/gone.tar"])
    with pytest.raises(ConfigError, match="the file does not exist"):
        next(gone)


BRACED = st.recursive(
    st.one_of(st.sampled_from(["a", "b", "/", ".tar", "{0..3}", "{08..11}", "{003..001}", "{x}", ""])),
    lambda parts: st.one_of(
        st.lists(parts, min_size=2, max_size=3).map(lambda each: "{" + ",".join(each) + "}"),
        st.lists(parts, min_size=1, max_size=3).map("".join),
    ),
    max_leaves=6,
)


@given(BRACED)
@pytest.mark.slow
def test_braces_are_expanded_as_by_the_published_library(text: str) -> None:
    assert expand_braces(text) == list(braceexpand.braceexpand(text))


def test_names_of_shards(tmp_path: Path) -> None:
    for n in (2, 0, 1):
        write_shard(tmp_path / f"shard-{n}.tar", [])
    paths = tuple(str(tmp_path / f"shard-{n}.tar") for n in range(3))
    assert expand_shards(str(tmp_path / "*.tar")) == paths
    assert expand_shards([str(tmp_path / "shard-{2,0}.tar")]) == (paths[2], paths[0])
    assert expand_shards(f"{paths[1]}::{paths[0]}") == (paths[1], paths[0])
    for wrong in ("shard-{0..3}.tar", "*.zip", "gone.tar"):
        with pytest.raises(ConfigError, match="does not exist|matches no file"):
            expand_shards(str(tmp_path / wrong))
    with pytest.raises(ConfigError, match="No shard is named"):
        expand_shards([])
    with pytest.raises(ConfigError, match="more than 100,000"):
        expand_braces("{0..99999999}")
