"""Training CLIP beside open_clip_train, which its wheel contains: the same losses, gradients and updates.

Both run in .venv-peers, by clip_training_theirs.py; what they found is compared here.
"""

from __future__ import annotations

import io
import json
import os
import random
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from birder.collection.clip_training import train_clip
from birder.net.tokenizer import ClipTokenizer
from birder.weights.clip import load_clip
from tests.peers.comparing import THEIR_PYTHON, TOLERANCE, Results, relative_error, run_theirs

ROOT = Path(__file__).parents[2]
MODEL = ROOT / "tests" / "data" / "openclip"
KINDS = ("owl", "fox", "hare", "beetle", "moss", "fern", "gull", "trout", "newt", "wasp")


def write_job(folder: Path, **job: Any) -> Path:
    path = folder / "job.json"
    path.write_text(json.dumps({"model": str(MODEL), "outputs": str(folder)} | job))
    return path


def write_batches(folder: Path, rows: int) -> Path:
    """Random images, each with a text about two organisms."""
    draw = np.random.default_rng(0)
    texts = [f"a photo of {KINDS[i % 10]} and {KINDS[i // 10 % 10]}." for i in draw.permutation(rows).tolist()]
    images = draw.standard_normal((rows, 3, 224, 224), dtype=np.float32)
    path = folder / "batches.npz"
    np.savez(path, images=images, tokens=ClipTokenizer()(texts).numpy())
    return path


def write_shards(folder: Path, photos: Path) -> dict[str, dict[str, str]]:
    """Two shards of the example images with five texts each; the texts by key and name."""
    texts = {}
    files = sorted(photos.rglob("*.jpg"))
    for number in range(2):
        with tarfile.open(folder / f"shard-{number:06}.tar", "w") as shard:
            for file in files[number::2]:
                label, group = file.stem.replace("-", " "), file.parent.name
                key = f"{group}-{file.stem}".replace(".", "-")
                texts[key] = {"sci": label, "com": f"the {label}", "taxon": f"{group} {label}"}
                texts[key] |= {"sci_com": f"{label}, the {label}", "taxon_com": f"{group} {label}, the {label}"}
                named = {f"{key}.{name}.txt": text.encode() for name, text in texts[key].items()}
                for name, data in ({f"{key}.jpg": file.read_bytes()} | named).items():
                    member = tarfile.TarInfo(name)
                    member.size = len(data)
                    shard.addfile(member, io.BytesIO(data))
    return texts


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
    assert max(errors.values()) <= TOLERANCE, errors


@pytest.mark.parametrize("processes", [1, 2])
def test_loss_and_all_gradients_are_those_of_open_clip(processes: int, tmp_path: Path) -> None:
    run("gradients", write_job(tmp_path, batches=str(write_batches(tmp_path, 24)), batch=4), processes=processes)
    for rank in range(processes):
        found = {file.stem.removesuffix(f" {rank}"): dict(np.load(file)) for file in tmp_path.glob(f"* {rank}.npz")}
        for how in ("features", "at once", "accumulated"):
            assert all(np.abs(each).max() > 0 for each in found[f"{how} theirs"].values())
            if how == "accumulated":  # open_clip_train adds the scale's gradient up as often as there are batches
                found["accumulated theirs"]["scale"] /= 24 / 4 / processes
            compare(found[f"{how} ours"], found[f"{how} theirs"])
        compare(found["accumulated ours"], found["at once theirs"])


@pytest.mark.parametrize("accumulate", [1, 2])
def test_fifty_updates_are_those_of_open_clip_train(accumulate: int, tmp_path: Path, photos: Path) -> None:
    """Its main program makes the model, the parameter groups and the schedule; both see the same batches."""
    texts = write_shards(tmp_path, photos)
    shards = [str(tmp_path / f"shard-{number:06}.tar") for number in range(2)]
    run("steps", write_job(tmp_path, shards=shards, updates=50, batch=16, accumulate=accumulate, lr=2e-3, warmup=5))
    ours, theirs = (json.loads((tmp_path / f"{name}.json").read_text()) for name in ("ours", "theirs"))
    assert len(ours["loss"]) == 50
    np.testing.assert_allclose(ours["loss"], theirs["loss"], rtol=1e-4)
    assert ours["lr"] == pytest.approx(theirs["lr"], rel=1e-12)
    assert ours["decay"] == theirs["decay"] and set(ours["decay"].values()) == {0.0, 0.2}
    assert ours["optimizer"] == theirs["optimizer"]
    np.testing.assert_allclose(ours["scale"][:-1], theirs["scale"][1:], rtol=1e-5)  # after an update, and before one
    assert min(ours["loss"][-10:]) < 0.9 * ours["loss"][0]
    # BioCLIP's loop seeds Python's generator with the number of the update, and chooses from the texts in this order.
    for number, (keys, taken) in enumerate(json.loads((tmp_path / "drawn.json").read_text())):
        random.seed(number // accumulate)
        name = random.choice(["sci", "com", "taxon", "sci_com", "taxon_com"])
        assert taken == [texts[key][name] for key in keys]


def test_the_published_packages_load_a_trained_clip(tmp_path: Path, photos: Path) -> None:
    write_shards(tmp_path, photos)
    trained = train_clip(
        str(tmp_path / "shard-*.tar"), tmp_path / "run", init=MODEL, batch_size=16, accumulate=1, epochs=1,
        samples=48, lr=1e-3, warmup=2, workers=1, device="cpu", progress=None,
    )  # fmt: skip
    batches = write_batches(tmp_path, 8)
    run("features", write_job(tmp_path, model=str(trained.path), batches=str(batches), batch=8))
    theirs, before, clip = np.load(tmp_path / "features.npz"), load_clip(MODEL), load_clip(trained.path)
    images, tokens = (torch.from_numpy(each) for each in np.load(batches).values())
    with torch.inference_mode():
        for name, ours, first in (
            ("image_features", clip.encode_image(images, normalize=True), before.encode_image(images, normalize=True)),
            ("text_features", clip.encode_text(tokens, normalize=True), before.encode_text(tokens, normalize=True)),
        ):
            assert relative_error(ours.numpy(), theirs[name]) <= TOLERANCE
            assert relative_error(first.numpy(), theirs[name]) > 1e-3
    assert float(theirs["logit_scale"]) == pytest.approx(float(clip.logit_scale), rel=1e-6)
    assert trained.image_encoder is not None
    network = trained.image_encoder.stem.removesuffix("_clip")
    np.savez(tmp_path / "inputs.npz", x=images.numpy()[:2])
    read = run_theirs(
        do="read", network=network, path=str(trained.image_encoder), inputs=str(tmp_path / "inputs.npz"), image=None
    )
    with torch.inference_mode():
        embedding = clip.net.image.embedding(images[:2]).numpy()
        features = clip.encode_image(images[:2]).numpy()
    assert relative_error(embedding, read["embedding"]) <= TOLERANCE
    assert relative_error(features, read["logits"]) <= TOLERANCE
