"""How well words find the example images without a text encoder: average precision by class names and WordNet.

    python benchmarks/words.py

The images of `examples/photos` are embedded with the default model; `group` in their table says what each shows.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

import birder

PHOTOS = Path(__file__).parents[1] / "examples" / "photos"
WORDS = {
    "bird": "birds",
    "mammal": "mammals",
    "insect": "insects",
    "flower": "plants/flowers",
    "feline": "mammals/cats",
    "amphibian": "amphibians",
    "fish": "fish",
}
"""A word, and how the groups begin that it should find."""


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        collection, _ = birder.embed(PHOTOS, Path(folder) / "photos.birder", table=PHOTOS / "photos.csv", progress=None)
        print("| word | images | average precision |\n|---|---|---|")
        for word, group in WORDS.items():
            rows = collection.search(texts=word, k=len(collection), columns=["group"]).to_list()
            right = np.array([str(row["group"]).startswith(group) for row in rows])
            precision = np.cumsum(right) / np.arange(1, len(right) + 1)
            print(f"| {word} | {right.sum()} | {precision[right].mean():.2f} |")


if __name__ == "__main__":
    main()
