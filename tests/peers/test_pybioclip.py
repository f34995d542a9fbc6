"""Agreement with `pybioclip`: the same names and scores from the same checkpoint, photographs and label table.

It runs in its own interpreter (BIRDER_PEERS, from `make peers`), with its real classes on a small CLIP of random
numbers and a table of 4,000 taxa. The photographs are brought to 224 x 224 first: for TreeOfLife it resizes them in its
own way (bilinear), we as the model's configuration says.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from birder.naming.label_sets import (
    Groups,
    Labels,
    group_by_bins,
    group_by_rank,
    label_names,
    subset_mask,
)
from birder.naming.predictions import rows_of
from birder.naming.text_embeddings import encode_labels
from birder.naming.tree_of_life import read_tree_of_life
from birder.naming.zero_shot import top_groups, top_labels
from birder.weights.clip import load_clip

THEIRS = Path(__file__).with_name("pybioclip_theirs.py")
RANKS = ["species", "genus", "family", "order", "class", "phylum", "kingdom"]
BINS = {
    "owl": "bird",
    "tawny owl, juvenile": "bird",
    "Eurasian magpie": "bird",
    "red fox": "mammal",
    "élan (Alces alces)": "mammal",
    "x Cuprocyparis leylandii": "plant",
    "hoverfly": "insect",
    "a very long name " * 12: "other",
}
K = 5
TOLERANCE = 1e-4


def run_theirs(**job: Any) -> dict[str, Any]:
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    done = subprocess.run(
        [os.environ["BIRDER_PEERS"], THEIRS], input=json.dumps(job), env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout)) if done.stdout else {}


def make_taxa(count: int) -> list[Any]:
    """Taxa in a tree: names say their place in it, some common names are missing, genera are of all sizes."""
    rng = np.random.default_rng(5)
    taxa = []
    for i in range(count):
        genus = int(rng.zipf(1.4)) % 900
        family = genus % 120
        order = family % 40
        place = (order % 3, order % 9, order % 18, order, family, genus)
        ranks = ("King", "Phyl", "Cla", "Ord", "Fam", "Gen")
        taxon = [f"{name}{number}" for name, number in zip(ranks, place, strict=True)]
        taxa.append([[*taxon, f"species{i}"], None if i % 7 == 0 else f"common {i}"])
    return [taxa[i] for i in rng.permutation(count)]


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory, photos: Path) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("pybioclip")
    run_theirs(do="write", folder=str(folder / "clip"))
    matrix = np.random.default_rng(6).standard_normal((192, 4000)).astype(np.float32)
    np.save(folder / "txt_emb_species.npy", matrix / np.linalg.norm(matrix, axis=0))
    taxa = make_taxa(4000)
    (folder / "txt_emb_species.json").write_text(json.dumps([[taxon, common or ""] for taxon, common in taxa]))
    (folder / "subset.csv").write_text("class\nCla1\nCla2\nCla11\n")
    images = []
    for name in ("birds/owl", "insects/mantis", "mammals/badger", "fish/clownfish", "birds/crow", "mammals/otter"):
        source = next(photos.rglob(f"{name.split('/')[1]}.jpg"))
        images.append(str(folder / f"{source.stem}.png"))
        Image.open(source).convert("RGB").resize((224, 224), Image.Resampling.BICUBIC).save(images[-1])
    job = {
        "folder": str(folder / "clip"),
        "embeddings": str(folder / "txt_emb_species.npy"),
        "names": str(folder / "txt_emb_species.json"),
        "subset": str(folder / "subset.csv"),
        "images": images,
        "ranks": RANKS,
        "labels": list(BINS),
        "bins": {label.strip(): group for label, group in BINS.items()},
        "k": K,
    }
    return job | {"results": run_theirs(do="predict", **job)}


@pytest.fixture(scope="module")
def ours(theirs: dict[str, Any]) -> dict[str, Any]:
    clip = load_clip(theirs["folder"])
    x = torch.stack([clip.transform(Image.open(image)) for image in theirs["images"]])
    features = clip.encode_image(x).numpy()
    tree = read_tree_of_life(Path(theirs["embeddings"]), Path(theirs["names"]))
    scale = clip.logit_scale

    def predict(labels: Labels, groups: Groups | None) -> list[list[dict[str, Any]]]:
        if groups is None:
            return rows_of(top_labels(features, labels, scale, K), labels.names)
        return rows_of(top_groups(features, labels, groups, scale, K), groups.names)

    results = {rank: predict(tree, group_by_rank(tree.names, rank)) for rank in RANKS[1:]}
    results["species"] = predict(tree, None)
    few = tree.take(subset_mask(tree.names, Path(theirs["subset"])))
    results["subset"] = predict(few, group_by_rank(few.names, "genus"))
    names = label_names(list(theirs["bins"]))
    labels = Labels(names, encode_labels(clip, names.column("label").to_pylist()))
    results["labels"] = predict(labels, None)
    results["bins"] = predict(labels, group_by_bins(names, theirs["bins"]))
    return results


@pytest.mark.parametrize("what", [*RANKS, "subset", "labels", "bins"])
def test_names_and_scores_agree(what: str, theirs: dict[str, Any], ours: dict[str, Any]) -> None:
    rows = theirs["results"][what]
    differences = []
    for image, predicted in zip(theirs["images"], ours[what], strict=True):
        expected = [row for row in rows if row["file_name"] == image]
        assert len(expected) == len(predicted) > 1
        for mine, other in zip(predicted, expected, strict=True):
            if what in ("labels", "bins"):
                assert mine["label"] == other["classification"]
            else:
                known = {key: value for key, value in other.items() if key in mine and key != "score"}
                assert {key: mine[key] for key in known} == known
                assert len(known) >= 1
            differences.append(abs(mine["score"] - other["score"]))
    assert max(differences) <= TOLERANCE, what
    print(f"{what}: {len(differences)} predictions, largest difference of a score {max(differences):.1e}")


def test_the_comparison_is_not_of_certainties(ours: dict[str, Any]) -> None:
    # Scores that are all 0 or 1, or the same for every photograph, would agree whatever was computed.
    for what in ("species", "genus", "family", "labels"):
        best = [rows[0]["score"] for rows in ours[what]]
        assert min(best) > 0.02
        assert max(best) < 0.999
        assert len({rows[0]["score"] for rows in ours[what]}) == len(best)
