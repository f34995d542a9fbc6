"""How fast the server answers, and how much memory it takes, at a hundred thousand or a million rows.

    .venv/bin/python benchmarks/server.py [--rows 1000000] [--collection c.birder] [--map]

The rows are made (seed 0): vectors as benchmarks/search.py makes them, no images, and what a camera-trap project fills
in: species and family of a long-tailed distribution, deployments, times, places, a sentence of notes, a weight and a
count; half of the labels; sequences of one to five images. The collection is kept in the working folder (BIRDER_BENCH,
or demo/bench; 3.5 GB for a million rows), and each run serves a copy that shares its files. What is asked for goes over
HTTP to `birder serve` in a process of its own; written beside each time are the processor time of that process, its
memory before and after, and the highest in between. What is asked for at a million rows stands beside what was
measured, in a second table. With --map, the page's map is opened and dragged in Chromium as well
(benchmarks/server_map.py).
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import lancedb
import numpy as np
import numpy.typing as npt
import pyarrow as pa
from search import batches
from server_map import map_times

ROOT = Path(__file__).parents[1]
WORK = Path(os.environ.get("BIRDER_BENCH", ROOT / "demo" / "bench"))
SIZE = 768
SPECIES = 800
DEPLOYMENTS = 400
WORDS = [
    "fox",
    "near",
    "the",
    "stream",
    "at",
    "dusk",
    "two",
    "young",
    "animals",
    "rain",
    "blurred",
    "walking",
    "left",
    "feeding",
    "alert",
    "pair",
    "night",
    "dense",
    "fern",
]
MORE = {"notes": pa.string(), "weight": pa.float64(), "count": pa.int64()}

ASKED = [
    ("start to the first page", "start", "5 s, 1,200 MB"),
    ("smallest answer", "the smallest", "5 ms"),
    ("filter with counts", "filter over", "300 ms"),
    ("text find", "text find", "300 ms"),
    ("sort by any column, first time", "sort by", "500 ms"),
    ("label one", "label one", "100 ms"),
    ("label 10,000", "label 10,000", "2 s"),
    ("undo 10,000", "undo 10,000", "2 s"),
    ("search", "search by", "20 ms"),
    ("search, four clients", "search, four", "150 a second"),
    ("map in Chromium", "map in Chromium", "5 s, 30 pictures a second"),
]
"""What is measured, how the names of the figures begin, and what is asked for (the worst of them counts)."""
_WARM = 4.0  # seconds in which the server prepares for what comes after the first page


def make(path: Path, rows: int, size: int = SIZE) -> None:
    """A collection of so many rows; 20,000 of them at a time are in memory."""
    from birder.collection.index import ensure_index
    from birder.collection.storage import ModelCard, Storage

    if path.exists():
        return
    draft = path.with_name(f"{path.name}.draft")
    shutil.rmtree(draft, ignore_errors=True)
    card = ModelCard("synthetic", "synthetic", "0" * 64, {"draft": True}, "torch", "fp32", size)
    collection = Storage.create_or_open(draft, card)
    with collection.writing():
        collection.add_columns(MORE)
        schema = pa.schema(list(collection.columns.items()))
        images = lancedb.connect(draft).open_table("images")
        images.add(pa.RecordBatchReader.from_batches(schema, _rows(rows, schema, size)))
    ids = [_id(n) for n in range(rows)]
    xy = np.random.default_rng(2).standard_normal((rows, 2), np.float32)
    xy += np.random.default_rng(3).standard_normal((SPECIES, 2), np.float32)[_species(rows)] * 20
    made = {"id": ids, "sha256": [f"{n:064x}" for n in range(rows)], "x": xy[:, 0], "y": xy[:, 1]}
    card_of_map = {b"birder": json.dumps({"synthetic": True}).encode()}
    collection.write_side_table("map", pa.table(made).replace_schema_metadata(card_of_map))
    ensure_index(collection)  # as every run does at its end
    draft.rename(path)


def _rows(rows: int, schema: pa.Schema, size: int) -> Iterator[pa.RecordBatch]:
    random = np.random.default_rng(1)
    species = _species(rows)
    deployments = np.sort(random.integers(0, DEPLOYMENTS, rows))
    words = np.array(WORDS)
    bursts = np.repeat(np.arange(rows), np.random.default_rng(4).integers(1, 6, rows))[:rows]
    firsts = np.searchsorted(bursts, bursts)
    start = 0
    for vectors in batches(rows, 0, size):
        numbers = np.arange(start, start + len(vectors))
        kinds, places = species[numbers], deployments[numbers]
        start += len(vectors)
        some = words[random.integers(0, len(words), (len(numbers), 6))]
        named = np.array([f"Genus{kind // 4} species{kind}" for kind in range(SPECIES)])[kinds]
        labelled = random.random(len(numbers)) < 0.5
        moments = np.datetime64("2024-01-01", "us") + (numbers * 31 % 63_000_000).astype("m8[s]")
        columns: dict[str, Any] = {
            "id": [_id(int(n)) for n in numbers],
            "uri": [
                f"file:///images/station-{place:03}/IMG_{n:07}.jpg" for n, place in zip(numbers, places, strict=True)
            ],
            "sha256": [f"{n:064x}" for n in numbers],
            "embedding": pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), size),
            "width": np.full(len(numbers), 2048),
            "height": np.full(len(numbers), 1536),
            "bytes": 500_000 + numbers % 100_003,
            "taken_at": moments,
            "latitude": -3.0 + places / 100,
            "longitude": 36.0 + places / 70,
            "deployment": [f"station-{place:03}" for place in places],
            "sequence": [_id(int(n)) for n in firsts[numbers]],
            "label": pa.array(named, mask=~labelled),
            "species": named,
            "family": [f"Family{kind // 20}" for kind in kinds],
            "notes": [" ".join(each) for each in some],
            "weight": np.round(random.lognormal(2, 1, len(numbers)), 3),
            "count": random.integers(1, 9, len(numbers)),
        }
        arrays = [
            pa.nulls(len(numbers), field.type)
            if (values := columns.get(field.name)) is None
            else (values if isinstance(values, pa.Array) else pa.array(values)).cast(field.type)
            for field in schema
        ]
        yield pa.RecordBatch.from_arrays(arrays, schema=schema)


def _id(number: int) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_URL, str(number)))


def _species(rows: int) -> npt.NDArray[np.int64]:
    """The species of each row: few are frequent, many rare."""
    shares = 1 / np.arange(1, SPECIES + 1)
    return np.random.default_rng(4).choice(SPECIES, rows, p=shares / shares.sum())


class Server:
    """`birder serve` in a process of its own, its processor time and memory."""

    def __init__(self, path: Path) -> None:
        self.begun = time.perf_counter()
        command = [sys.executable, "-m", "birder", "serve", str(path)]
        self.log = path.with_suffix(".log").open("w+b")
        self.process = subprocess.Popen(command, stdout=self.log, stderr=subprocess.STDOUT)
        while (found := re.search(rb"http://127\.0\.0\.1:(\d+)", self._said())) is None:
            if self.process.poll() is not None:
                raise SystemExit(f"birder serve failed: {self._said().decode()}")
            time.sleep(0.02)
        self.client = httpx.Client(base_url=f"http://127.0.0.1:{found[1].decode()}", timeout=600)

    def _said(self) -> bytes:
        return Path(self.log.name).read_bytes()

    def seconds(self) -> float:
        """The processor time until now."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(") ", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def memory(self, what: str) -> float:
        """MB that are resident (VmRSS), or the most that were (VmHWM)."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.split(f"{what}:")[1].split()[0]) / 1024

    def forget_peak(self) -> None:
        """Let VmHWM begin at what is resident now."""
        Path(f"/proc/{self.process.pid}/clear_refs").write_text("5")

    def get(self, path: str, **values: Any) -> httpx.Response:
        return self.client.get(f"/api/v1/{path}", params=values).raise_for_status()

    def get_bytes(self, path: str, **values: Any) -> httpx.Response:
        accept = {"Accept": "application/octet-stream"}
        return self.client.get(f"/api/v1/{path}", params=values, headers=accept).raise_for_status()

    def post(self, path: str, body: Any) -> httpx.Response:
        return self.client.post(f"/api/v1/{path}", json=body).raise_for_status()

    def stop(self) -> None:
        self.client.close()
        self.process.terminate()
        self.process.wait(60)
        self.log.close()


def measure(path: Path, *, searches: bool, with_map: bool) -> Iterator[dict[str, Any]]:
    """Ask for everything that the page asks for, one after the other."""
    server = Server(path)
    try:
        answers = [server.client.get("/"), server.get("collection"), server.get("photos", limit=200)]
        first = time.perf_counter() - server.begun
        yield figures("start to the first page", [first], server.seconds(), server, 0.0)
        time.sleep(_WARM)
        ids = server.get("ids").json()["ids"]
        rows = answers[1].json()["rows"]
        assert len(ids) == rows

        def timed(
            what: str, ask: Callable[[int], httpx.Response], times: int = 5, settle: float = 0.0
        ) -> Iterator[dict[str, Any]]:
            server.forget_peak()
            before, cpu, taken, size = server.memory("VmRSS"), server.seconds(), [], 0
            for number in range(times):
                begun = time.perf_counter()
                size = len(ask(number).content)
                taken.append(time.perf_counter() - begun)
            time.sleep(settle)
            yield figures(what, taken, (server.seconds() - cpu) / times, server, before) | {"bytes": size}

        yield from timed("the smallest answer", lambda n: server.get("failures", limit=1), 50)
        yield from timed("one image", lambda n: server.get(f"photos/{ids[n * 7]}"), 20)
        yield from timed("a page of 200", lambda n: server.get("photos", offset=200 * n), 20)
        kinds = [f"Genus{n // 4} species{n}" for n in range(40)]

        def filtered(number: int) -> httpx.Response:
            named = ", ".join(f"'{kind}'" for kind in kinds[number : number + 8])
            where = f"`species` IN ({named})"
            server.get("photos", where=where)
            return server.get("columns/family/values", where=where)

        yield from timed("filter over 40 % of the rows, with the counts of a column", filtered)
        words = ["fox", "rain", "dense fern", "near", "pair"]

        def found(number: int) -> httpx.Response:
            return server.get("photos", where=f"lower(`notes`) LIKE '%{words[number]}%' ESCAPE '\\'")

        yield from timed("text find", found)
        yield from timed(
            "text find in the file name", lambda n: server.get("photos", where=f"lower(`uri`) LIKE '%_00{n}9%'")
        )

        def listed(number: int, order: str) -> httpx.Response:
            return server.get("photos", order=order)

        def counted(number: int, column: str) -> httpx.Response:
            return server.get(f"columns/{column}/values")

        for column in ("species", "notes", "taken_at", "weight", "id"):
            yield from timed(f"sort by {column}, first time", functools.partial(listed, order=column), 1)
            yield from timed(f"sort by {column}, descending", functools.partial(listed, order=f"-{column}"), 1)
        for column in ("species", "notes", "weight"):
            yield from timed(f"values of {column}", functools.partial(counted, column=column), 3)
        yield from timed("ids of all as JSON", lambda n: server.get("ids"), 3)
        yield from timed("ids of all", lambda n: server.get_bytes("ids"), 3)
        yield from timed("ids of all, sorted", lambda n: server.get_bytes("ids", order="species"), 3)

        def stacked(number: int, order: str) -> httpx.Response:
            return server.get("stacks", order=order, offset=200 * number)

        for how, order in (("", ""), (", sorted by weight", "-weight")):
            yield from timed(f"a page of 200 stacks{how}, first time", functools.partial(stacked, order=order), 1)
            yield from timed(f"a page of 200 stacks{how}", functools.partial(stacked, order=order))
        yield from timed("ids of all stacks", lambda n: server.get_bytes("stacks/ids"), 3)
        yield from timed("map points", lambda n: server.get("map/points"), 1)
        yield from timed("map ids", lambda n: server.get_bytes("map/ids"), 1)
        yield from timed("map column", lambda n: server.get_bytes("map/column/species"), 1)
        yield from timed("map column of numbers", lambda n: server.get_bytes("map/column/weight"), 1)
        if with_map:
            cpu, before = server.seconds(), server.memory("VmRSS")
            seen = map_times(str(server.client.base_url))
            what = f"map in Chromium ({seen.by})"
            yield figures(what, [seen.seconds], server.seconds() - cpu, server, before) | {"frames": seen.frames}
        if searches:
            yield from timed("search by an image", lambda n: server.post("search", {"ids": [ids[n * 31]], "k": 50}), 20)
            yield from searched_by_four(server, ids)
        some = [str(each) for each in np.random.default_rng(9).choice(ids, 10_000, replace=False)]
        settle = 5.0

        def label(number: int) -> httpx.Response:
            return server.post("labels", {"ids": [some[number]], "column": "label", "value": f"seen {number}"})

        yield from timed("label one, first time", label, 1)
        yield from timed("label one", label, 10)
        yield from timed(
            "a page filtered after it", lambda n: server.get("photos", where=f"`label` = 'seen {n}'"), 3, settle
        )
        many = {"ids": some, "column": "label", "value": "many"}
        yield from timed("label 10,000", lambda n: server.post("labels", many), 1)
        yield from timed("a page filtered after that", lambda n: server.get("photos", where="`label` = 'many'"), 1)
        settled = settle + rows / 50_000
        yield from timed("one image, while they are folded", lambda n: server.get(f"photos/{ids[n * 7]}"), 20, settled)
        yield from timed("undo 10,000", lambda n: server.post("labels/undo", {}), 1)
        yield from timed("a page filtered after undoing", lambda n: server.get("photos", where="`label` = 'many'"), 1)
        yield from timed("one image, while that is folded", lambda n: server.get(f"photos/{ids[n * 7]}"), 20, settled)
        yield from timed(
            "a page filtered when all is folded",
            lambda n: server.get("photos", where="`label` = 'many' OR `count` > 99"),
            1,
        )
    finally:
        server.stop()


def searched_by_four(server: Server, ids: list[str]) -> Iterator[dict[str, Any]]:
    """Four clients that search at once."""
    cpu, before, begun, asked = server.seconds(), server.memory("VmRSS"), time.perf_counter(), 25

    def client(number: int) -> None:
        with httpx.Client(base_url=server.client.base_url, timeout=600) as own:
            for n in range(asked):
                own.post("/api/v1/search", json={"ids": [ids[n * 101 + number]], "k": 50}).raise_for_status()

    threads = [threading.Thread(target=client, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    taken = time.perf_counter() - begun
    kept = figures(
        "search, four clients, each", [taken / (4 * asked)], (server.seconds() - cpu) / (4 * asked), server, before
    )
    yield kept | {"rate": 4 * asked / taken}


def figures(what: str, taken: list[float], cpu: float, server: Server, before: float) -> dict[str, Any]:
    """What is written about one kind of request."""
    return {
        "what": what,
        "median_ms": 1e3 * statistics.median(taken),
        "most_ms": 1e3 * max(taken),
        "cpu_ms": 1e3 * cpu,
        "before_mb": before,
        "after_mb": server.memory("VmRSS"),
        "peak_mb": server.memory("VmHWM"),
    }


def row(each: dict[str, Any]) -> str:
    """A row of the table."""
    more = f", {each['rate']:.0f} a second" if "rate" in each else ""
    more += f", {each['frames']:.0f} pictures a second" if "frames" in each else ""
    size = f"{each['bytes'] / 1e6:.2f}" if "bytes" in each else ""
    return (
        f"| {each['what']}{more} | {each['median_ms']:,.1f} | {each['most_ms']:,.1f} | {each['cpu_ms']:,.1f} | {size} "
        f"| {each['before_mb']:,.0f} | {each['after_mb']:,.0f} | {each['peak_mb']:,.0f} |"
    )


def judged(done: list[dict[str, Any]]) -> Iterator[str]:
    """The rows of the table of what is asked for at a million rows; the worst of those that an aim is for."""
    yield "| | asked | measured |"
    yield "|---|---|---|"
    for what, begins, asked in ASKED:
        some = [each for each in done if each["what"].startswith(begins)]
        if some:
            worst = max(some, key=lambda each: float(each["median_ms"]))
            value = (
                f"{worst['median_ms']:,.1f} ms" if worst["median_ms"] < 2000 else f"{worst['median_ms'] / 1e3:.1f} s"
            )
            value += f", {worst['peak_mb']:,.0f} MB" if what.startswith("start") else ""
            value += f", {worst['rate']:.0f} a second" if "rate" in worst else ""
            value += f", {worst['frames']:.0f} pictures a second" if "frames" in worst else ""
            yield f"| {what} | {asked} | {value} |"
    labelling = [each for each in done if "label" in each["what"] or "fold" in each["what"] or "undo" in each["what"]]
    if labelling:
        before, after = labelling[0]["before_mb"], labelling[-1]["after_mb"]
        peak = max(each["peak_mb"] for each in labelling)
        value = f"{after - before:+,.0f} MB, peak {peak - before:+,.0f}"
        yield f"| memory after labelling and undoing | within 200 MB | {value} |"


def main() -> None:
    """Make the rows if they are not there, serve a copy, ask, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--collection", type=Path, help="where they are kept (default: in the working folder)")
    parser.add_argument("--only-make", action="store_true", help="make the rows, and ask nothing")
    parser.add_argument("--no-search", action="store_true", help="leave searching out")
    parser.add_argument("--map", action="store_true", help="open the page's map in Chromium as well")
    options = parser.parse_args()
    kept = options.collection or WORK / f"server-{options.rows}.birder"
    kept.parent.mkdir(parents=True, exist_ok=True)
    make(kept, options.rows)
    if options.only_make:
        return
    copy = kept.with_name(f"{kept.stem}-{os.getpid()}.birder")
    shutil.copytree(kept, copy, copy_function=os.link)  # what LanceDB writes are new files
    try:
        print("| | median, ms | most, ms | processor, ms | MB | resident before, MB | after, MB | peak, MB |")
        print("|---|---|---|---|---|---|---|---|")
        done = []
        for each in measure(copy, searches=not options.no_search, with_map=options.map):
            done.append(each)
            print(row(each), flush=True)
        print("", *judged(done), sep="\n")
        kept.with_suffix(".json").write_text(json.dumps(done, indent=1))
    finally:
        shutil.rmtree(copy)
        with contextlib.suppress(FileNotFoundError):
            copy.with_suffix(".log").unlink()


if __name__ == "__main__":
    main()
