"""Memory does not grow with what is decoded at once: peak RSS of real processes."""

from __future__ import annotations

import functools
import io
import os
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not hasattr(os, "wait4"), reason="the system does not tell a child's memory"),
]

CODE = """
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from birder.images.open import decoded_photo

data = Path(sys.argv[1]).read_bytes()

def look(_):
    with decoded_photo(data) as photo:
        return photo.image.resize((32, 32)).getpixel((9, 9))

with ThreadPoolExecutor(8) as pool:
    assert len(list(pool.map(look, range(int(sys.argv[2]))))) == int(sys.argv[2])
"""


READ = """
import sys
from concurrent.futures import ThreadPoolExecutor
from birder.pipeline.plan import plan
from birder.pipeline.decode import read_group
from birder.errors import ConfigError
from birder.formats.sources import find_sources
from birder.images.transform import ClassificationTransform

transform = ClassificationTransform((8, 8), (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
read = 0
try:
    todo = plan(None, find_sources(sys.argv[1:]))
    with ThreadPoolExecutor(4) as pool:
        read = sum(len(pool.submit(read_group, [item], transform, True).result()) for item in todo.pending[:1])
        read += sum(map(len, pool.map(lambda item: read_group([item], transform, True), todo.pending[1:])))
except ConfigError as error:
    print(error)
print(read, "read")
"""


@functools.cache
def peak(*arguments: str | Path) -> int:
    process = subprocess.Popen([sys.executable, *map(str, arguments)])
    _, status, usage = os.wait4(process.pid, 0)
    assert status == 0
    return usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_eight_threads_on_large_images_stay_within_the_budget(tmp_path: Path, small: Path, mode: str) -> None:
    path = tmp_path / "large.png"
    Image.new(mode, (8000, 5000), "olive").save(path, compress_level=1)
    # 40 million pixels: 160 MB in each of eight threads were 1,280 MB, twice that with the converted copy
    assert peak("-c", CODE, path, "8") - peak("-c", CODE, small, "0") < 700_000_000


def test_the_promise_for_vit_b16_holds_and_does_not_grow_with_the_list() -> None:
    benchmark = Path(__file__).parents[2] / "benchmarks" / "memory.py"
    done = subprocess.run(
        [sys.executable, benchmark, "--small", "16", "--large", "4"], capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "peak" in done.stdout


def png() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (9, 9), "teal").save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("small") / "small.png"
    path.write_bytes(png())
    return path


def growth(small: Path, *paths: Path) -> int:
    """Peak RSS of reading what paths name at four threads, less that of reading one small image."""
    return peak("-c", READ, *paths) - peak("-c", READ, small)


def test_sparse_files_are_not_in_memory_at_the_same_time(tmp_path: Path, small: Path) -> None:
    paths = [tmp_path / f"{i}.png" for i in range(5)]  # the first is read alone, and then four threads begin
    for path in paths:
        path.write_bytes(png())
        os.truncate(path, 200_000_000)
    assert growth(small, *paths) < 350_000_000  # one of them, not four


def test_a_sparse_table_of_one_line_is_not_read_whole(tmp_path: Path, small: Path) -> None:
    (tmp_path / "l.csv").write_text("path\n")
    os.truncate(tmp_path / "l.csv", 1_000_000_000)
    assert growth(small, tmp_path / "l.csv") < 100_000_000


def test_parquet_of_a_few_kilobytes_takes_at_most_a_few_hundred_megabytes(tmp_path: Path, small: Path) -> None:
    value = pa.DictionaryArray.from_arrays(pa.array([0] * 100, pa.int32()), pa.array([png() + bytes(30_000_000)]))
    image = pa.StructArray.from_arrays([value], ["bytes"])
    path = tmp_path / "x.parquet"
    pq.write_table(pa.table({"image": image}), path, compression="zstd", store_schema=False)
    assert path.stat().st_size < 10_000
    # 3 GB if all rows were there at once; 192 of them were kept
    assert growth(small, path) < 800_000_000


SHARED = """
import sys
import numpy as np
from birder.collection.schema import Content, ModelCard, Row
from birder.collection.storage import Storage
from birder.sources import Stamp

transform = {"size": [32, 32], "mean": [0.5] * 3, "std": [0.5] * 3}
transform |= {"center_crop": 1.0, "simple_crop": False, "draft": True}
collection = Storage.create_or_open(sys.argv[1], ModelCard("m", "m", "0" * 64, transform, "torch", "fp32", 2048))
vector = np.ones(2048, np.float32)
content = Content(vector, 9, 9, None, None, None)
with collection.writing():
    for i in range(0, 20_000, 4_000):
        rows = [Row(f"file:///{i + j}.jpg", "a" * 64, Stamp(1, 1), content) for j in range(4_000)]
        collection.write(rows)
    if sys.argv[2] == "copy":
        collection.write([Row("file:///copy.jpg", "a" * 64, Stamp(1, 1), None)])
"""


def test_a_copy_of_a_content_that_thousands_of_files_have_reads_one_embedding(tmp_path: Path) -> None:
    without, with_copy = (peak("-c", SHARED, tmp_path / what, what) for what in ("plain", "copy"))
    assert with_copy - without < 60_000_000  # of 164 MB of the same embedding
