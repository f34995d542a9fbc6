"""Training CLIP beside open_clip_train, which its wheel contains: the same losses, gradients and updates.

Both run in .venv-peers, by clip_training_theirs.py; what they found is compared here.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from birder.net.tokenizer import ClipTokenizer
from tests.peers.comparing import THEIR_PYTHON, Results, relative_error

ROOT = Path(__file__).parents[2]
MODEL = ROOT / "tests" / "data" / "openclip"
KINDS = ("owl", "fox", "hare", "beetle", "moss", "fern", "gull", "trout", "newt", "wasp")


def make_job(folder: Path, rows: int, **job: Any) -> Path:
    """A job with random images, each with a text about two organisms."""
    random = np.random.default_rng(0)
    texts = [f"a photo of {KINDS[i % 10]} and {KINDS[i // 10 % 10]}." for i in random.permutation(rows).tolist()]
    images = random.standard_normal((rows, 3, 224, 224), dtype=np.float32)
    np.savez(folder / "batches.npz", images=images, tokens=ClipTokenizer()(texts).numpy())
    path = folder / "job.json"
    job |= {"model": str(MODEL), "batches": str(folder / "batches.npz"), "outputs": str(folder)}
    path.write_text(json.dumps(job))
    return path


def run(what: str, job: Path, *, processes: int = 1) -> None:
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    done = subprocess.run(
        [THEIR_PYTHON, *(launcher if processes > 1 else []), ROOT / "tests/peers/clip_training_theirs.py", what, job],
        env=os.environ | {"PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


def compare(ours: Results, theirs: Results) -> None:
    assert ours.keys() == theirs.keys()
    errors = {name: relative_error(ours[name], theirs[name]) for name in theirs}
    assert max(errors.values()) <= 1e-5, errors


@pytest.mark.parametrize("processes", [1, 2])
def test_loss_and_all_gradients_are_those_of_open_clip(processes: int, tmp_path: Path) -> None:
    run("gradients", make_job(tmp_path, 24, batch=4), processes=processes)
    for rank in range(processes):
        found = {file.stem.removesuffix(f" {rank}"): dict(np.load(file)) for file in tmp_path.glob(f"* {rank}.npz")}
        for how in ("features", "at once", "accumulated"):
            assert all(np.abs(each).max() > 0 for each in found[f"{how} theirs"].values())
            if how == "accumulated":  # open_clip_train adds the scale's gradient up as often as there are batches
                found["accumulated theirs"]["scale"] /= 24 / 4 / processes
            compare(found[f"{how} ours"], found[f"{how} theirs"])
        compare(found["accumulated ours"], found["at once theirs"])
