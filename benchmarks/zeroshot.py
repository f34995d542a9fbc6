"""Names for photographs, measured beside pybioclip in one run.

Run by an interpreter that has pybioclip, with this project first on its path:

    PYTHONPATH=. .venv-peers/bin/python benchmarks/zeroshot.py

It makes a label matrix of 0.9 GB and a CLIP of random numbers in a temporary folder. Both packages are measured in
turns, so that what else the machine does meets both.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

RANKS_UP = {"genus": 90_000, "family": 9_700, "order": 1_700, "class": 420, "phylum": 110, "kingdom": 10}
PREPROCESS = {"mean": [0.5] * 3, "std": [0.5] * 3, "interpolation": "bicubic", "resize_mode": "squash"}
SMALL = {
    "embed_dim": 512,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 64, "patch_size": 32},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 1, "layers": 1},
}
VIT_B_16 = {
    "embed_dim": 512,
    "vision_cfg": {"image_size": 224, "layers": 12, "width": 768, "patch_size": 16},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 512, "heads": 8, "layers": 12},
}
Vectors = npt.NDArray[np.float32]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Names for photographs, beside pybioclip.")
    parser.add_argument("--taxa", type=int, default=450_000)
    parser.add_argument("--images", type=int, default=256)
    parser.add_argument("--labels", type=int, default=40, help="encoded by ours; pybioclip gets a tenth; at most 1000")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--child", nargs=3, metavar=("FOLDER", "IMAGES", "RANK"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        measure_memory(Path(options.child[0]), int(options.child[1]), options.child[2])
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_taxa(folder, options.taxa)
        compare_ranks(folder, options.images, options.rounds)
        compare_memory(folder, options.images)
        compare_texts(folder, options.labels, options.rounds)


def unit(x: Vectors) -> Vectors:
    """Rows of length 1."""
    scaled: Vectors = x / np.linalg.norm(x, axis=-1, keepdims=True)
    return scaled


def make_taxa(folder: Path, count: int) -> None:
    """A tree of life of the published one's size and form: few groups with many members, many with one or two."""
    rng = np.random.default_rng(0)
    matrix = np.lib.format.open_memmap(folder / "e.npy", mode="w+", dtype=np.float32, shape=(512, count))
    for start in range(0, count, 50_000):
        width = min(50_000, count - start)
        matrix[:, start : start + width] = unit(rng.standard_normal((width, 512), dtype=np.float32)).T
    matrix.flush()
    below, names = count, []
    parents: list[npt.NDArray[np.int64]] = []
    for rank, groups in RANKS_UP.items():
        groups = max(2, min(groups, below - 1))
        # Sizes fall off as a power of the group's place, and each group has a member.
        weights = 1.0 / np.arange(1, groups + 1) ** 0.9
        rest = rng.choice(groups, size=below - groups, p=weights / weights.sum())
        parents.append(rng.permutation(np.concatenate([np.arange(groups), rest])))
        names.append([f"{rank.title()}{latin(i)}" for i in range(groups)])
        below = groups
    taxa = []
    for i in range(count):
        lineage, at = [latin(i).lower()], i
        for parent, known in zip(parents, names, strict=True):
            at = int(parent[at])
            lineage.append(known[at])
        taxa.append([lineage[::-1], "" if i % 3 else f"common {i}"])
    (folder / "n.json").write_text(json.dumps(taxa))


def latin(number: int) -> str:
    """A number in syllables."""
    syllables = ("ra", "ne", "lis", "to", "vu", "ca", "pho", "min", "se", "do", "lu", "xi")
    text = ""
    while number or not text:
        number, digit = divmod(number, len(syllables))
        text += syllables[digit]
    return text


def make_images(folder: Path, count: int, kind: str) -> Vectors:
    """Image features, float32 (count, 512): unlike all labels ("random"), or near one each ("certain")."""
    rng = np.random.default_rng(1)
    noise = unit(rng.standard_normal((count, 512), dtype=np.float32))
    if kind == "random":
        return noise
    matrix = np.load(folder / "e.npy", mmap_mode="r")
    return unit(noise + 0.22 * matrix[:, rng.integers(0, matrix.shape[1], count)].T)


def make_clip(folder: Path, config: dict[str, Any]) -> str:
    """A CLIP of random numbers in OpenCLIP's layout, with BioCLIP's logit scale of 100."""
    import open_clip
    import torch

    torch.manual_seed(0)
    net = open_clip.CLIP(**config)
    net.logit_scale.data.fill_(float(np.log(100.0)))
    folder.mkdir()
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config, "preprocess_cfg": PREPROCESS}))
    torch.save(net.state_dict(), folder / "open_clip_pytorch_model.bin")
    return f"local-dir:{folder}"


def seconds(work: Callable[..., Any], *arguments: Any) -> tuple[float, Any]:
    """How long a call takes, and what it returns."""
    begun = time.perf_counter()
    result = work(*arguments)
    return time.perf_counter() - begun, result


def compare_ranks(folder: Path, count: int, rounds: int) -> None:
    """Stored features to their five most probable genera."""
    import torch
    from bioclip import predict as theirs
    from bioclip.predict import Rank, TreeOfLifeClassifier

    from birder.naming.label_sets import group_by_rank
    from birder.naming.predictions import rows_of
    from birder.naming.tree_of_life import read_tree_of_life
    from birder.naming.zero_shot import top_groups

    took, labels = seconds(read_tree_of_life, folder / "e.npy", folder / "n.json")
    grouped, groups = seconds(group_by_rank, labels.names, "genus")
    print(f"{labels.names.num_rows:,} taxa, {groups.names.num_rows:,} genera; torch threads {torch.get_num_threads()}")
    print(f"Once: names and matrix opened in {took:.2f} s, taxa grouped in {grouped:.2f} s")

    model = make_clip(folder / "small", SMALL)
    theirs.TOL_MODELS[model] = "here"

    class Local(TreeOfLifeClassifier):  # type: ignore[misc]
        def get_cached_datafile(self, filename: str) -> str:
            return str(folder / ("e.npy" if filename.endswith(".npy") else "n.json"))

    classifier = Local(model_str=model)
    for kind in ("random", "certain"):
        features = make_images(folder, count, kind)
        ours, others = [], []
        batch = torch.from_numpy(features[:10])  # its default batch
        for turn in range(rounds):
            took, top = seconds(top_groups, features, labels, groups, 100.0, 5)
            ours.append(took / count)
            with torch.no_grad():
                took, probabilities = seconds(classifier.create_probabilities, batch, classifier.txt_embeddings)
            each, rows = seconds(classifier.format_grouped_probs, "", probabilities[turn], Rank.GENUS)
            others.append(took / len(batch) + each)
            mine = rows_of(top, groups.names)[turn]
            for a, b in zip(mine, rows, strict=False):  # it leaves out groups of which no species reaches 1e-9
                assert a["genus"] == b["genus"]
                assert abs(a["score"] - b["score"]) < 1e-4
        fast, slow = 1 / float(np.median(ours)), 1 / float(np.median(others))
        rates = f"ours {fast:.1f} images/s, pybioclip {slow:.2f} images/s"
        print(f"Top 5 genera, {kind} features: {rates}: {fast / slow:.0f} times")


def compare_memory(folder: Path, count: int) -> None:
    """Peak memory of a fresh process, as a multiple of the label matrix."""
    size = (folder / "e.npy").stat().st_size
    for images in (count, 4 * count):
        for rank in ("genus", "species"):
            command = [sys.executable, __file__, "--child", str(folder), str(images), rank]
            peak = int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
            print(f"Peak memory, {images:,} images, {rank}: {peak / size:.2f} x the matrix of {size / 1e6:.0f} MB")


def measure_memory(folder: Path, images: int, rank: str) -> None:
    """Print the peak memory of this process in bytes, once it has named `images` photographs."""
    from birder.naming.label_sets import group_by_rank
    from birder.naming.tree_of_life import read_tree_of_life
    from birder.naming.zero_shot import top_groups, top_labels

    labels = read_tree_of_life(folder / "e.npy", folder / "n.json")
    features = unit(np.random.default_rng(2).standard_normal((images, 512), dtype=np.float32))
    if rank == "species":
        top_labels(features, labels, 100.0, 5)
    else:
        top_groups(features, labels, group_by_rank(labels.names, rank), 100.0, 5)
    # Mapped pages of the matrix count too.
    lines = Path("/proc/self/status").read_text().splitlines()
    print(1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")))


def compare_texts(folder: Path, count: int, rounds: int) -> None:
    """Labels of ImageNet, each in 80 templates, through the text tower of a ViT-B-16."""
    from bioclip.predict import CustomLabelsClassifier

    from birder.naming.text_embeddings import encode_labels
    from birder.weights.clip import load_clip

    model = make_clip(folder / "clip", VIT_B_16)
    lines = resources.files("birder.data").joinpath("imagenet-1k-classes.txt").read_text("utf-8").splitlines()
    names = [line.split(" ", 1)[1].split(",")[0] for line in lines]
    chosen = [names[i] for i in np.random.default_rng(3).permutation(len(names))[: count * rounds]]
    clip = load_clip(folder / "clip")
    classifier = CustomLabelsClassifier(chosen[:1], model_str=model)
    ours, others = [], []
    for turn in range(rounds):
        part = chosen[turn * count : (turn + 1) * count]
        few = part[: max(1, count // 10)]
        took, mine = seconds(encode_labels, clip, part)
        ours.append(took / len(part))
        took, other = seconds(classifier._get_txt_embeddings, few)
        others.append(took / len(few))
        assert np.abs(mine[:, : len(few)] - other.numpy()).max() < 1e-5
    a, b = 1 / float(np.median(ours)), 1 / float(np.median(others))
    print(f"Labels in 80 templates, ViT-B-16: ours {a:.2f} labels/s, pybioclip {b:.2f} labels/s: {a / b:.1f} times")
    print(f"1,000 labels: ours {1000 / a:,.0f} s, pybioclip {1000 / b:,.0f} s")


if __name__ == "__main__":
    main()
