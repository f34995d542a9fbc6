"""Many clients at once: no request fails, and memory stays bounded."""

from __future__ import annotations

import asyncio
import random
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import httpx
import pytest

from tests.factory import collection_by_model
from tests.server.live import awaited

CLIENTS = 64


def rss(pid: int) -> int:
    """Bytes of memory that a process has."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("no VmRSS")


async def one_client(base: str, number: int, end: float, ids: list[str], picture: bytes, seen: Counter[str]) -> None:
    """What a page asks for, in random order, and images from elsewhere."""
    rng = random.Random(number)
    async with httpx.AsyncClient(base_url=base, timeout=120) as client:
        while time.monotonic() < end:
            id_ = rng.choice(ids)
            kind = rng.choice(["list", "thumbnail", "image", "values", "neighbours", "search", "ids", "label", "embed"])
            if kind == "list":
                answer = await client.get(
                    "photos", params={"where": f"bytes > {rng.randrange(9000)}", "order": "-bytes"}
                )
            elif kind == "thumbnail":
                answer = await client.get(f"photos/{id_}/thumbnail", params={"size": rng.choice([96, 256, 512])})
            elif kind == "image":
                answer = await client.get(f"photos/{id_}/image")
            elif kind == "values":
                answer = await client.get("columns/label/values", params={"contains": rng.choice("abe")})
            elif kind == "neighbours":
                answer = await client.get(f"photos/{id_}/neighbours")
            elif kind == "search":
                answer = await client.post(
                    "search", json={"ids": [id_], "unlike": [each for each in ids[:1] if each != id_], "k": 20}
                )
            elif kind == "ids":
                answer = await client.get("ids", params={"where": "label = 'birds'"})
            elif kind == "label":
                if number % 16:
                    continue
                answer = await client.post("labels", json={"ids": [id_], "column": "note", "value": f"n{number}"})
            else:
                if number % 4:
                    continue
                answer = await client.post("embed", files={"file": ("a.jpg", picture)})
            seen[f"{kind} {answer.status_code}"] += 1
            assert answer.status_code == 200, (kind, answer.status_code, answer.text[:300])


def load(folder: Path, photos: Path, seconds: float) -> tuple[Counter[str], list[int]]:
    """Serve a collection to 64 clients from a process of its own: what was answered, and its memory meanwhile."""
    path = collection_by_model(folder, sorted(photos.glob("*/*.jpg")))
    program = (
        "import sys; from birder.server.app import create_app; from birder.server.limits.connections import *;"
        "s = listen('127.0.0.1', None); print(s.getsockname()[1], flush=True); app = create_app(sys.argv[1]);"
        "server_for(app, s, app.state.site.events.stop).run(sockets=[s])"
    )
    server = subprocess.Popen([sys.executable, "-c", program, str(path)], stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        base = f"http://127.0.0.1:{int(server.stdout.readline())}/api/v1/"
        with httpx.Client(base_url=base, timeout=60) as client:
            ids = client.get("ids").json()["ids"]
            picture = (photos / "birds" / "lark.jpg").read_bytes()
            for _ in range(3):  # what is loaded at first need counts as the start
                assert client.post("embed", files={"file": ("a.jpg", picture)}).status_code == 200
        seen: Counter[str] = Counter()
        sizes = [rss(server.pid)]

        async def everyone() -> None:
            end = time.monotonic() + seconds
            clients = [
                asyncio.create_task(one_client(base, number, end, ids, picture, seen)) for number in range(CLIENTS)
            ]
            for _ in range(4):
                await asyncio.sleep(seconds / 4)
                sizes.append(rss(server.pid))
            await asyncio.gather(*clients)

        awaited(everyone())
    finally:
        server.terminate()
        server.wait(20)
    return seen, sizes


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
def test_64_clients_at_once_see_no_error_and_in_bounded_memory(tmp_path: Path, photos: Path) -> None:
    seen, sizes = load(tmp_path, photos, 6)
    print(sum(seen.values()), dict(seen), [size >> 20 for size in sizes])
    assert {key.split()[0] for key in seen} >= {"list", "thumbnail", "image", "neighbours", "search", "embed"}
    assert sizes[-1] < 2 << 30
    assert sizes[-1] < sizes[2] * 1.25, f"memory grows: {[size >> 20 for size in sizes]} MB"
