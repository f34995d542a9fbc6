"""Memory does not grow with what is decoded at once: peak RSS of real processes."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

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


def peak(*arguments: str | Path) -> int:
    process = subprocess.Popen([sys.executable, *map(str, arguments)])
    _, status, usage = os.wait4(process.pid, 0)
    assert status == 0
    return usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_eight_threads_on_large_images_stay_within_the_budget(tmp_path: Path, mode: str) -> None:
    buffer = io.BytesIO()
    Image.new(mode, (8000, 5000), "olive").save(buffer, "PNG", compress_level=1)
    path = tmp_path / "large.png"
    path.write_bytes(buffer.getvalue())
    nothing = peak("-c", CODE, path, "0")
    # 40 million pixels: 160 MB in each of eight threads were 1,280 MB, twice that with the converted copy
    assert peak("-c", CODE, path, "24") - nothing < 700_000_000


def test_the_promise_for_vit_b16_holds_and_does_not_grow_with_the_list() -> None:
    benchmark = Path(__file__).parents[2] / "benchmarks" / "memory.py"
    done = subprocess.run(
        [sys.executable, benchmark, "--small", "40", "--large", "6"], capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "peak" in done.stdout
