"""Image features as files: a row or entry for each image, under its path."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from birder.errors import ConfigError
from birder.files import replacing

Matrix = npt.NDArray[np.float32]


def write_features(file: Path, paths: Sequence[str], features: Matrix, model: str, *, force: bool = False) -> str:
    """Write features (N, E) in the form that the file's extension determines; `birder import` reads all but CSV.

    .parquet: `path` and `embedding`. .json: as `bioclip embed` writes it. .csv: `path`, then `0`, `1`, ... .npy: the
    matrix, and beside it a .csv with the column `path`, a line for each row.

    Returns
    -------
    A summary of what was written.

    Raises
    ------
    ConfigError
        The extension is unknown, the file exists and `force` is not set, or it cannot be written.
    """
    writers: dict[str, Callable[[Path, Sequence[str], Matrix, str], None]]
    writers = {".parquet": _write_parquet, ".json": _write_json, ".csv": _write_csv, ".npy": _write_npy}
    if (write := writers.get(file.suffix.lower())) is None:
        raise ConfigError(f"{file} ends in no form: name it {', '.join(writers)}.")
    beside = file.with_suffix(".csv") if file.suffix.lower() == ".npy" else None
    if beside is not None:
        with replacing(beside, force=force) as draft:
            _write_csv(draft, paths, features[:, :0], model)
    with replacing(file, force=force) as draft:
        write(draft, paths, features, model)
    more = f", and what its rows are in {beside}" if beside is not None else ""
    return f"Wrote {len(paths):,} features, {features.shape[1]}-dimensional, to {file}{more}."


def _write_parquet(file: Path, paths: Sequence[str], features: Matrix, model: str) -> None:
    column = pa.FixedSizeListArray.from_arrays(pa.array(features.reshape(-1)), features.shape[1])
    table = pa.table({"path": pa.array(paths, pa.string()), "embedding": column})
    pq.write_table(table.replace_schema_metadata({"model": model}), file, compression="zstd")


def _write_json(file: Path, paths: Sequence[str], features: Matrix, model: str) -> None:
    embeddings = dict(zip(paths, features.tolist(), strict=True))
    file.write_text(json.dumps({"model": model, "embeddings": embeddings}, ensure_ascii=False) + "\n", "utf-8")


def _write_csv(file: Path, paths: Sequence[str], features: Matrix, model: str) -> None:
    with file.open("w", encoding="utf-8", newline="") as out:
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(["path", *range(features.shape[1])])
        writer.writerows([path, *map(str, row)] for path, row in zip(paths, features, strict=True))


def _write_npy(file: Path, paths: Sequence[str], features: Matrix, model: str) -> None:
    with file.open("wb") as out:
        np.save(out, features, allow_pickle=False)
