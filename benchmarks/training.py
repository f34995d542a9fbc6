"""How much `birder train` gains over a classifier on embeddings: the grocery images, of 81 classes in 42 coarse ones.

    .venv/bin/python benchmarks/training.py GROCERY [--judge val.txt] [-- OPTIONS OF birder train]

GROCERY is the folder of GroceryStoreDataset (M. Klasson et al., arXiv 1901.00711): train.txt and the list of --judge,
lines of "path, fine id, coarse id", and classes.csv. The network is trained on the images of train.txt alone, a part of
which decides when to stop. It is then judged on the list of --judge, whose images are of other shops, and so is the
classifier that `birder adapt` fits. Everything is written to the working folder (BIRDER_BENCH, or demo/bench);
"-- --resume" goes on there.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
WORK = Path(os.environ.get("BIRDER_BENCH", ROOT / "demo" / "bench")) / "training"
SERIES = 10
BIRDER = [sys.executable, "-m", "birder"]


def write_table(grocery: Path, name: str) -> Path:
    """The list of images as a table that `birder embed` reads: file_name, fine, coarse, series.

    The images of a class are numbered as they were taken. Ten in a row are a series: mostly one shelf of one shop.
    """
    with (grocery / "classes.csv").open(encoding="utf-8", newline="") as file:
        names = {row[1].strip(): (row[0].strip(), row[2].strip()) for row in list(csv.reader(file))[1:]}
    to = WORK / f"{Path(name).stem}.csv"
    with to.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["file_name", "fine", "coarse", "series"])
        for line in (grocery / name).read_text("utf-8").splitlines():
            if line.strip():
                path, fine, _ = (part.strip() for part in line.split(","))
                number = int(re.findall(r"\d+", Path(path).stem)[-1])
                series = f"{names[fine][0]} {(number - 1) // SERIES}"
                writer.writerow([str((grocery / path).resolve()), *names[fine], series])
    return to


def run(*arguments: object) -> str:
    """Run a command, and tell how long it took."""
    print("birder", *arguments, flush=True)
    begun = time.perf_counter()
    done = subprocess.run([*BIRDER, *map(str, arguments)], stdout=subprocess.PIPE, text=True)
    print(done.stdout, f"({(time.perf_counter() - begun) / 60:.1f} minutes)", flush=True)
    if done.returncode:
        raise SystemExit(done.returncode)
    return done.stdout


def judge(table: Path, model: Path, coarse: dict[str, str]) -> tuple[float, float]:
    """The accuracy, fine and coarse, of a checkpoint on the images of a table."""
    collection = WORK / f"{table.stem} by {model.stem}.birder"
    run("embed", table, "--in", collection, "--model", model)
    report = WORK / f"{table.stem} by {model.stem}"
    run("evaluate", collection, "--column", "fine", "--model", model, "--to", report, "--force")

    import pyarrow.parquet as pq

    rows = pq.read_table(report / "predictions.parquet", columns=["true", "predicted"]).to_pylist()
    right = sum(row["true"] == row["predicted"] for row in rows)
    nearly = sum(coarse[row["true"]] == coarse[row["predicted"]] for row in rows)
    return right / len(rows), nearly / len(rows)


def main() -> None:
    """Train, judge, print a line for each, and write training.json."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("grocery", type=Path)
    parser.add_argument("--judge", default="val.txt")
    parser.add_argument("options", nargs="*", help="options of birder train, behind --")
    asked = parser.parse_args()
    WORK.mkdir(parents=True, exist_ok=True)
    train, other = write_table(asked.grocery, "train.txt"), write_table(asked.grocery, asked.judge)
    with train.open(encoding="utf-8", newline="") as file:
        coarse = {row["fine"]: row["coarse"] for row in csv.DictReader(file)}
    collection = WORK / "train.birder"
    run("embed", train, "--in", collection)
    adapted, trained = WORK / "adapted.safetensors", WORK / "trained.pt"
    run(
        "adapt", collection, "--column", "fine", "--to", adapted, "--unknown", "none", "--group-by", "series", "--force"
    )
    begun = time.perf_counter()
    again = [] if "--resume" in asked.options else ["--force"]
    run(
        "train",
        collection,
        "--column",
        "fine",
        "--to",
        trained,
        "--group-by",
        "series",
        "--yes",
        *again,
        *asked.options,
    )
    minutes = (time.perf_counter() - begun) / 60
    found = {name: judge(other, model, coarse) for name, model in (("adapt", adapted), ("train", trained))}
    for name, (fine, nearly) in found.items():
        print(f"{name}: {fine:.1%} fine, {nearly:.1%} coarse on {asked.judge}")
    print(f"birder train took {minutes:.1f} minutes on {os.cpu_count()} processors")
    result = {name: {"fine": fine, "coarse": nearly} for name, (fine, nearly) in found.items()}
    (WORK / "training.json").write_text(json.dumps(result | {"minutes": minutes}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
