"""How often the nearest photograph shows the same kind of organism: leave-one-out over examples/photos.

Prints the share of the photographs whose nearest neighbour (by the cosine of the embeddings) belongs to the same
top-level group (`group` in photos.csv, the part before "/"), and exits with an error below 80 %.

    python benchmarks/neighbours.py [WEIGHTS]
"""

from __future__ import annotations

import csv
import sys
from collections import Counter
from pathlib import Path

import numpy as np

import birder
from birder.inference.classification import infer_image

PHOTOS = Path(__file__).parents[1] / "examples" / "photos"
REQUIRED = 0.80


def main() -> None:
    """Embed, find each photograph's nearest other one, count the groups that agree."""
    weights = sys.argv[1] if len(sys.argv) > 1 else "efficientnet_lite0_in1k"
    with (PHOTOS / "photos.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    groups = np.array([row["group"].split("/")[0] for row in rows])

    net, _, transform = birder.load_pretrained_model_and_transform(weights)
    embeddings = np.empty((len(rows), net.embedding_size), np.float32)
    for i, row in enumerate(rows):
        _, embedding = infer_image(net, PHOTOS / row["file_name"], transform, return_embedding=True)
        embeddings[i] = embedding

    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    similarity = embeddings @ embeddings.T
    np.fill_diagonal(similarity, -np.inf)
    agree = groups[similarity.argmax(axis=1)] == groups

    share = float(agree.mean())
    print(f"{weights}: the nearest neighbour is of the same group for {agree.sum()} of {len(rows)} = {share:.1%}")
    for group, count in Counter(groups.tolist()).most_common():
        print(f"  {group:<12} {agree[groups == group].sum():>3} of {count}")
    if share < REQUIRED:
        sys.exit(f"Below the required {REQUIRED:.0%}.")


if __name__ == "__main__":
    main()
