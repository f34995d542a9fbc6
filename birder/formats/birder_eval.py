"""A collection for the benchmarks of the published `birder` package, `python -m birder.eval`, as 0.8.4 reads it.

Its `birder/eval/_embeddings.py` reads `sample`, of which the file name without its extension identifies the image in a
benchmark's own tables, `label`, the index of the class, and `embedding`. Its `birder-predict --save-embeddings
--save-labels` writes `sample` as string, `label` as int64, and `embedding` as fixed-size list of float32.
"""

from __future__ import annotations

import json
from pathlib import Path, PurePosixPath

import pyarrow as pa
import pyarrow.parquet as pq

from birder.collection.storage import Storage
from birder.files import replacing
from birder.formats.names import LABEL, namer
from birder.formats.snapshot import Snapshot
from birder.formats.table import ExportReport
from birder.sources import uri_to_name
from birder.words import counted

NO_LABEL = -1
CLASSES = b"class_to_idx"


def export(collection: Storage, rows: Snapshot, to: Path, *, force: bool, by: str = LABEL) -> ExportReport:
    """Write Parquet with `sample`, `label` and `embedding`.

    Labels are the positions of names among all names in alphabetical order, and -1 where there is none. Which name is
    which stands in the file's metadata, as JSON under `class_to_idx`.

    Raises
    ------
    ConfigError
        `by` is not a column of text.
    UnknownNameError
        There is no column `by`.
    """
    names = namer(rows.schema, by)
    found = (names.name(row) for table in rows.batches(names.columns) for row in table.to_pylist())
    positions = {name: code for code, name in enumerate(sorted({each.name for each in found if each is not None}))}
    embedding = rows.schema.field("embedding").type
    schema = pa.schema(
        {"sample": pa.string(), "label": pa.int64(), "embedding": embedding},
        metadata={CLASSES: json.dumps(positions, ensure_ascii=False)},
    )
    count = unnamed = 0
    stems: set[str] = set()
    with (
        replacing(to, force=force) as draft,
        pq.ParquetWriter(draft, schema, compression="zstd", use_dictionary=["label"]) as writer,
    ):
        for table in rows.batches(list(dict.fromkeys(["uri", *names.columns, "embedding"]))):
            samples = [uri_to_name(uri) for uri in table["uri"].to_pylist()]
            given = [names.name(row) for row in table.select(names.columns).to_pylist()]
            labels = [NO_LABEL if name is None else positions[name.name] for name in given]
            writer.write_table(pa.table([pa.array(samples), pa.array(labels), table["embedding"]], schema=schema))
            count += table.num_rows
            unnamed += labels.count(NO_LABEL)
            stems.update(PurePosixPath(sample).stem for sample in samples)
    summary = f"{counted(count, 'row')} of {counted(len(positions), 'class', 'classes')} in {to}."
    if unnamed:
        summary += (
            f"\n{counted(unnamed, 'row has', 'rows have')} no {by}: {'its' if unnamed == 1 else 'their'} label is "
            f"{NO_LABEL}."
        )
    if len(stems) < count:
        summary += (
            f"\n{counted(count - len(stems), 'row has', 'rows have')} the file name of another: "
            "birder.eval tells images apart by file name."
        )
    return ExportReport(summary)
