"""A real server in a thread, and small collections with real pictures for it."""

from __future__ import annotations

import contextlib
import hashlib
import io
import socket
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pyarrow as pa
import uvicorn
from PIL import Image

from birder.collection.model import load_encoder
from birder.collection.storage import Content, Failure, ModelCard, Row, Stamp, Storage
from birder.registry import DEFAULT_WEIGHTS
from birder.server.app import create_app

KINDS = ["owl", "fox", "o'hare", "Größe"]
SIZE = 16


@contextlib.contextmanager
def serving(path: Path, **options: Any) -> Iterator[httpx.Client]:
    """A client of a server on a free port of this machine."""
    app = create_app(path, **options)
    listening = socket.create_server(("127.0.0.1", 0), backlog=512)
    server = uvicorn.Server(uvicorn.Config(app, log_level="error", timeout_graceful_shutdown=2))
    port = listening.getsockname()[1]
    with running(server, listening), httpx.Client(base_url=f"http://127.0.0.1:{port}/api/v1/", timeout=60) as client:
        try:
            yield client
        finally:
            app.state.site.events.stop()  # as birder serve does at Ctrl-C


@contextlib.contextmanager
def running(server: uvicorn.Server, listening: socket.socket) -> Iterator[None]:
    """A server in a thread, for as long as it is needed."""
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    while not server.started and thread.is_alive():
        time.sleep(0.01)
    try:
        yield
    finally:
        server.should_exit = True
        thread.join(20)
        listening.close()
        assert not thread.is_alive(), "the server did not end"


def jpeg(seed: int = 0, size: tuple[int, int] = (64, 48)) -> bytes:
    """A little picture."""
    colours = np.random.default_rng(seed).integers(0, 255, (4, 6, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(colours).resize(size).save(buffer, "JPEG")
    return buffer.getvalue()


def card(**changes: Any) -> ModelCard:
    """The card of a model that is nowhere."""
    transform = {"size": [8, 8], "mean": [0.5] * 3, "std": [0.5] * 3, "center_crop": 1.0, "simple_crop": False}
    given = {
        "name": "nowhere",
        "source": "nowhere",
        "sha256": "0" * 64,
        "transform": {**transform, "draft": True},
        "engine": "torch",
        "precision": "fp32",
        "embedding_size": SIZE,
    }
    return ModelCard(**{**given, **changes})


def row_of(path: Path, vector: np.ndarray, **columns: Any) -> Row:
    """A row for a file that is there."""
    data = path.read_bytes()
    content = Content(vector.astype(np.float32), 64, 48, None, None, None)
    return Row(path.as_uri(), hashlib.sha256(data).hexdigest(), Stamp(len(data), 1_000_000), content, columns=columns)


def make(folder: Path, rows: int = 40, *, labelled: int = 20) -> Storage:
    """A collection of pictures in four clusters, named like their label; the first `labelled` have it as label too.

    Its columns: label, site (S0 to S2), night, `Temp C` (nan in one row, null in one), seen (days of May 2024).
    """
    photos = folder / "photos"
    photos.mkdir(parents=True)
    centres = np.random.default_rng(7).normal(size=(len(KINDS), SIZE))
    collection = Storage.create_or_open(folder / "c.birder", card())
    made = []
    for number in range(rows):
        kind = number % len(KINDS)
        path = photos / f"{number:04d} {KINDS[kind]}.jpg"
        path.write_bytes(jpeg(number))
        vector = centres[kind] + 0.2 * np.random.default_rng(number).normal(size=SIZE)
        temperature = {2: float("nan"), 3: None}.get(number, float(number))
        label = KINDS[kind] if number < labelled else None
        columns = {"label": label, "site": f"S{number % 3}", "night": number % 2 == 0, "Temp C": temperature}
        seen = pa.scalar(1714521600_000_000 + number * 86_400_000_000, pa.timestamp("us")).as_py()
        made.append(row_of(path, vector, **columns, seen=seen))
    with collection.writing():
        collection.add_columns(
            {"site": pa.string(), "night": pa.bool_(), "Temp C": pa.float64(), "seen": pa.timestamp("us")}
        )
        collection.write(made, [Failure("file:///gone/bad.jpg", "not an image (it begins with text)", None)])
    return collection


def embed(folder: Path, paths: Iterable[Path]) -> Path:
    """A collection of photographs with the model that is installed; their folder's name is their label."""
    encoder = load_encoder(DEFAULT_WEIGHTS, "cpu", engine="torch")
    collection = Storage.create_or_open(folder / "c.birder", encoder.card)
    with collection.writing():
        collection.write([row_of(path, encoder.embed_one(path), label=path.parent.name) for path in paths])
    return collection.path
