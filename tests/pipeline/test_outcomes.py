"""What became of a source turns into rows and failures by the same function for threads and for Ray."""

from __future__ import annotations

import ast
from datetime import datetime
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest

import birder
from birder.collection.schema import Content
from birder.pipeline.decode import Decoded, Unreadable
from birder.pipeline.known import Pending
from birder.pipeline.outcomes import (
    UNUSABLE_EMBEDDING,
    Embedded,
    Summary,
    commit_of,
    described,
    embedded,
    patches_bytes,
)
from birder.sources import Source, Stamp


class Recorded:
    """An engine whose embedding is (mean, mean) and whose patch tokens are the pixels; it keeps the batches' sizes."""

    def __init__(self, patches: tuple[int, int, int] | None = None) -> None:
        self.patches = patches
        self.batches: list[int] = []

    def embed(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        self.batches.append(len(pixels))
        means = pixels.reshape(len(pixels), -1).mean(1)
        return np.stack([means, means], 1).astype("f4")

    def embed_with_patches(
        self, pixels: npt.NDArray[np.uint8]
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float16]]:
        return self.embed(pixels), pixels.astype("f2")


def pending(name: str, *, known: bool = False, failed: bool = False, label: str | None = None) -> Pending:
    return Pending(Source(f"/photos/{name}", label=label), Stamp(1, 2), known, failed)


def decoded(name: str, sha256: str, value: int | None) -> Decoded:
    pixels = None if value is None else np.full((2, 2, 3), value, np.uint8)
    return Decoded(pending(name), sha256, {}, pixels, 40, 30, datetime(2024, 5, 1), 1.5, 2.5, "grey")


def test_content_has_each_value_in_its_own_field() -> None:
    vector, patches = np.ones(2, "f4"), np.ones(3, "f2")
    assert decoded("a", "aa", 1).content(vector, patches) == Content(
        embedding=vector,
        width=40,
        height=30,
        taken_at=datetime(2024, 5, 1),
        latitude=1.5,
        longitude=2.5,
        suspect="grey",
        patches=patches,
    )


def test_embedding_keeps_the_order_and_the_size_of_batches() -> None:
    engine = Recorded()
    read: list[Decoded | Unreadable] = [
        decoded("a", "aa", 1),
        Unreadable(pending("b"), None, "gone"),
        decoded("c", "aa", None),
    ]
    read += [decoded(f"{value}", f"{value:02x}", value) for value in (2, 3, 0)]
    outcomes = embedded(engine, read, 3)  # type: ignore[arg-type] # all of an engine that is used
    assert engine.batches == [3, 1]
    assert [outcome.item for outcome in outcomes] == [each.item for each in read]
    assert outcomes[1] == read[1]
    contents = [outcome.content if isinstance(outcome, Embedded) else None for outcome in outcomes]
    values = {i: content.embedding[0] for i, content in enumerate(contents) if content is not None}
    assert values == {0: 1, 3: 2, 4: 3}
    assert outcomes[2] == Embedded(read[2].item, "aa", {}, False, None)
    assert outcomes[5] == Unreadable(read[5].item, "00", UNUSABLE_EMBEDDING)


def test_patch_tokens_are_flattened_row_by_row() -> None:
    (outcome,) = embedded(Recorded((2, 2, 3)), [decoded("a", "aa", 5)], 8)  # type: ignore[arg-type]
    assert isinstance(outcome, Embedded) and outcome.content is not None and outcome.content.patches is not None
    assert outcome.content.patches.tolist() == [5] * 12
    assert patches_bytes((2, 2, 3)) == outcome.content.patches.nbytes


def test_a_commit_has_rows_failures_and_counts_in_order() -> None:
    content = Content(np.ones(2, "f4"), 1, 1, None, None, None)
    unreadable = {"dd": "corrupt image data"}
    commit = commit_of(
        [
            Embedded(pending("waits"), "cc", {}, False, None),  # for what comes after it
            Embedded(pending("new", failed=True), "aa", {"label": "owl"}, True, content),
            Embedded(pending("copy", known=True), "aa", {}, False, None),
            Unreadable(pending("broken", known=True), "cc", "truncated image data"),
            Unreadable(pending("away", known=True), None, "it cannot be read"),
            Embedded(pending("as before"), "dd", {}, False, None),
        ],
        unreadable,
    )
    assert [(row.uri[15:], row.content is None, row.known, row.failed) for row in commit.rows] == [
        ("new", False, False, True),
        ("copy", True, True, False),
    ]
    assert commit.rows[0].columns == {"label": "owl"}
    assert [(failure.uri[15:], failure.reason, failure.known) for failure in commit.failures] == [
        ("waits", "truncated image data", False),
        ("broken", "truncated image data", True),
        ("away", "it cannot be read", False),  # its row stays: not even its bytes could be read
        ("as%20before", "corrupt image data", False),
    ]
    assert commit.failed[0] == ("/photos/waits", "truncated image data")
    assert (commit.reused, commit.off_earth) == (1, 1)
    assert unreadable == {"dd": "corrupt image data", "cc": "truncated image data"}
    summary = Summary()
    summary.add(commit)
    assert (summary.embedded, summary.reused, summary.off_earth, summary.finished) == (2, 1, 1, 6)


def test_columns_of_the_source_take_precedence_over_its_shard_and_folder() -> None:
    read = Decoded(pending("a", label="folder's"), "aa", {"label": "shard's", "trap": "7", "latitude": 91.0})
    told = described(read, {"trap": pa.int64()})
    assert isinstance(told, Decoded)
    assert told.columns == {"label": "shard's", "label_source": "table", "trap": 7, "latitude": None}
    assert told.off_earth
    bare = described(read._replace(columns={}), {})
    assert isinstance(bare, Decoded)
    assert bare.columns == {"label": "folder's", "label_source": "folder"} and not bare.off_earth
    failure = Unreadable(pending("b"), None, "gone")
    assert described(failure, {}) is failure


@pytest.mark.parametrize("executor", ["embed", "distributed"])
def test_both_executors_handle_outcomes_by_the_shared_functions_alone(executor: str) -> None:
    tree = ast.parse((Path(birder.__file__).parent / "pipeline" / f"{executor}.py").read_text("utf-8"))
    called = {node.func.id for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)}
    assert {"described", "embedded", "commit_of"} <= called
    assert not {"Row", "Failure", "Content", "Unreadable", "Embedded"} & called
