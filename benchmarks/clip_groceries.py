"""A CLIP from 2,375 images on two cores: the grocery images, named by texts alone.

    .venv/bin/python benchmarks/clip_groceries.py GROCERY [--judge val.txt] [-- OPTIONS OF birder train-clip]

GROCERY is the folder of GroceryStoreDataset (M. Klasson et al., arXiv 1901.00711), as for benchmarks/training.py. The
names of the 81 fine classes are species, those of the 42 coarse ones their genera. The images of train.txt become
shards, a tenth of them held out; an EfficientNet-Lite0 that stays as it is gets a text encoder; and the images of the
list of --judge, which are of other shops, are named by texts: the names in OpenAI's 80 templates, and the taxa.
Everything is written to the working folder (BIRDER_BENCH, or demo/bench).
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import resource
import time
from pathlib import Path

import training
from training import run, write_table

WORK = training.WORK.with_name("clip-groceries")
MODEL = "efficientnet_lite0_in1k"


def write_taxa(table: Path) -> Path:
    """The classes of a table of images, as a table of taxa: fine, genus, species, common_name."""
    with table.open(encoding="utf-8", newline="") as file:
        pairs = sorted({(row["coarse"], row["fine"]) for row in csv.DictReader(file)})
    to = WORK / "taxa.csv"
    with to.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["fine", "genus", "species", "common_name"])
        writer.writerows([fine, coarse, fine, fine] for coarse, fine in pairs)
    return to


def judge(table: Path, taxa: Path, model: Path) -> dict[str, float]:
    """The accuracy of names by texts: fine by the protocol, and fine and coarse among the taxa."""
    collection, report, names = WORK / f"{table.stem}.birder", WORK / table.stem, WORK / f"{table.stem}-names.csv"
    run("embed", table, "--in", collection, "--model", model)
    run("evaluate", collection, "--column", "fine", "--protocol", "zero-shot", "--to", report, "--force")
    run("predict", "--in", collection, "--labels", taxa, "-k", 1, "--to", names, "--force")
    figures = json.loads((report / "metrics.json").read_text("utf-8"))
    with table.open(encoding="utf-8", newline="") as file:
        truth = {Path(row["file_name"]).as_posix(): row for row in csv.DictReader(file)}
    with names.open(encoding="utf-8", newline="") as file:
        rows = [(truth[row["path"]], row) for row in csv.DictReader(file)]
    assert len(rows) == len(truth)
    return {
        "fine": figures["protocols"]["zero-shot"]["metrics"]["top1"]["estimate"],
        "taxa, fine": sum(true["fine"] == row["common_name"] for true, row in rows) / len(rows),
        "taxa, coarse": sum(true["coarse"] == row["genus"] for true, row in rows) / len(rows),
    }


def main() -> None:
    """Make shards, train, judge, and write clip-groceries.json."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("grocery", type=Path)
    parser.add_argument("--judge", default="val.txt")
    parser.add_argument("options", nargs="*", help="options of birder train-clip, behind --")
    asked = parser.parse_args()
    WORK.mkdir(parents=True, exist_ok=True)
    training.WORK = WORK
    begun = time.perf_counter()
    train, other = write_table(asked.grocery, "train.txt"), write_table(asked.grocery, asked.judge)
    taxa = write_taxa(train)
    collection, shards, model = WORK / "train.birder", WORK / "shards", WORK / "model"
    run("embed", train, "--in", collection, "--model", MODEL)
    run(
        "shards", collection, "--to", shards, "--column", "fine", "--taxonomy", taxa, "--group-by", "series",
        "--val-share", 0.1, "--force",
    )  # fmt: skip
    run(
        "train-clip", "--shards", shards / "train" / "*.tar", "--val", shards / "val" / "*.tar", "--to", model,
        "--recipe", "small", "--init", MODEL, "--force", *asked.options,
    )  # fmt: skip
    minutes = (time.perf_counter() - begun) / 60
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    result = judge(other, taxa, model)
    for name, value in result.items():
        print(f"{name}: {value:.1%} on {asked.judge}")
    cpu = (used.ru_utime + used.ru_stime) / 60
    print(f"From the images to the model: {minutes:.1f} minutes, {cpu:.1f} of processors, of which {os.cpu_count()}")
    told = result | {"minutes": minutes, "processor_minutes": cpu}
    (WORK / "clip-groceries.json").write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
