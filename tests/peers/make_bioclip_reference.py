"""Make tests/data/bioclip-evaluation by BioCLIP's own evaluation code, run unchanged.

    python tests/peers/make_bioclip_reference.py BIOCLIP BIOCLIP2 tests/data/bioclip-evaluation

BIOCLIP and BIOCLIP2 are checkouts of github.com/Imageomics/bioclip (4ea3247) and bioclip-2 (49e1cf5), and BIRDER_PEERS
is the interpreter of .venv-peers (`make peers` makes it). What is judged is examples/photos as metadata.csv has it, by
the small CLIP of tests/data/openclip; benchmarks' classes come from the annotations in the checkouts. `reference.json`
has class names, the class of each row, and what each image is named; `reference.npz` has features.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

TESTS = Path(__file__).parents[1]
PHOTOS = TESTS.parent / "examples" / "photos"
METADATA = TESTS / "data" / "bioclip-evaluation" / "metadata.csv"
ANNOTATIONS = {
    "rare_species": "taxon_com",
    **{
        f"meta-album/{name}_Mini": "asis"
        for name in ("PLK", "INS", "INS_2", "PLT_NET", "FNG", "PLT_VIL", "MED_LF", "PLT_DOC")
    },
    "nabirds": "asis",
}


def theirs(code: Path, **job: Any) -> dict[str, Any]:
    """What `bioclip_theirs.py` gives for a job, in a checkout."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [Path(os.environ["BIRDER_PEERS"]).absolute(), TESTS / "peers" / "bioclip_theirs.py"],
        input=json.dumps(job),
        env=environment,
        cwd=code,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


def make(codes: dict[str, Path], to: Path) -> None:
    """Write reference.json and reference.npz."""
    told: dict[str, Any] = {}
    arrays: dict[str, Any] = {}
    for name, code in codes.items():
        folders = {
            benchmark.replace("rare_species", "rare-species"): (str(code / "data/annotation" / benchmark), text_type)
            for benchmark, text_type in ANNOTATIONS.items()
            if (code / "data/annotation" / benchmark / "metadata.csv").exists()
        }
        with tempfile.TemporaryDirectory() as folder:
            data, outputs = Path(folder) / "data", Path(folder) / "outputs.npz"
            shutil.copytree(PHOTOS, data)
            shutil.copy(METADATA, data)
            found = theirs(
                code, folders=folders, clip=str(TESTS / "data" / "openclip"), data=str(data),
                text_types=["asis", "taxon_com"], outputs=str(outputs),
            )  # fmt: skip
            with np.load(outputs) as given:
                told["templates"] = given["templates"].tolist()
                arrays |= {f"{name} {each}": given[each] for each in ("images", "asis", "taxon_com")}
        told[name] = {each: found[each] for each in ("asis", "taxon_com")}
        told[name]["benchmarks"] = {
            benchmark: {
                "classes": len(found[benchmark]["classes"]),
                "first": found[benchmark]["classes"][0],
                "sha256": digest([" ".join(each.split()) for each in found[benchmark]["classes"]]),
                "targets": digest(found[benchmark]["targets"]),
            }
            for benchmark in folders
        }
    (to / "reference.json").write_text(json.dumps(told, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    np.savez_compressed(to / "reference.npz", **arrays)


def digest(values: list[Any]) -> str:
    """The sha256 of a list as JSON."""
    return hashlib.sha256(json.dumps(values, ensure_ascii=False).encode()).hexdigest()


if __name__ == "__main__":
    make({"v1": Path(sys.argv[1]), "v2": Path(sys.argv[2])}, Path(sys.argv[3]))
