"""Whether an exported file computes what its network does, told by a runtime that shares no code with the network."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from birder.errors import WeightsError
from birder.vectors import unit

LARGEST_DIFFERENCE = 1e-4
"""Of an output in fp32, as a share of its largest value."""
LARGEST_WITH_TRANSFORM = 1e-3
"""The same where the transform is in the graph: a pixel in some ten thousand is rounded to its neighbour."""
LOWEST_COSINE = {"fp16": 0.999, "int8": 0.9}
"""Of an image's output in less than fp32: the lowest in fp16, the mean in int8."""
GOOD_COSINE = 0.99
"""A mean cosine in int8 below this deserves a warning."""
TEXTS = (
    "a photo of Bubo bubo.",
    "Animalia Chordata Aves Strigiformes Strigidae Strix aluco",
    "Vulpes vulpes",
    "a photo of Lynx lynx with common name Eurasian lynx.",
    "Quercus robur",
    "großer Brachvogel",
    "オオタカ",
    "café con leche & <b>tea</b> &amp; it's 20 °C",
    "a",
    "",
    "Turdus merula, a blackbird: male, 2 years old",
    "the quick brown fox jumps over the lazy dog " * 12,
    "Amanita muscaria (L.) Lam.",
    "DNA/RNA 16S rRNA",
    "un zorro rojo en la nieve 🦊",
    "a drawing of a beetle",
)
"""What a text encoder and its tokenizer are compared on: names, other scripts, marks, nothing, and too much."""

Run = Callable[[npt.NDArray[Any]], dict[str, npt.NDArray[Any]]]
_BATCHES = (1, 3)
"""Sizes of the first batches; the rest is the last."""


@dataclass(frozen=True)
class Agreement:
    """How near a file's outputs are to its network's.

    Attributes
    ----------
    runtime
        What ran the file.
    inputs
        How many images or texts.
    differences
        Of each output the largest difference, as a share of its largest value.
    mean_cosines, lowest_cosines
        Of each output, over the inputs.
    same_class
        Of how many inputs the first class is the same; None without classes.
    what
        "images" or "texts".
    """

    runtime: str
    inputs: int
    differences: Mapping[str, float]
    mean_cosines: Mapping[str, float]
    lowest_cosines: Mapping[str, float]
    same_class: int | None
    what: str = "images"

    def in_words(self, precision: str) -> str:
        """One sentence."""
        compared = f"{self.runtime} and the network were compared on {self.inputs} {self.what}"
        if precision == "fp32":
            worst = max(self.differences.values())
            return f"{compared}: outputs differ by at most {worst:.1e} of the largest value."
        cosines = "; ".join(
            f"cosine of {name} {self.mean_cosines[name]:.4f} on average, {self.lowest_cosines[name]:.4f} at the lowest"
            for name in self.differences
        )
        same = "" if self.same_class is None else f"; the first class is the same for {self.same_class}"
        return f"{compared} in fp32: {cosines}{same}."

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return dict(vars(self))


def check_images() -> list[Image.Image]:
    """The 16 images that come with Birder for this: RGB, of many sizes."""
    folder = resources.files("birder.data").joinpath("check-images")
    files = sorted((file for file in folder.iterdir() if file.name.endswith(".jpg")), key=lambda file: file.name)
    images = []
    for file in files:
        with file.open("rb") as opened:
            images.append(Image.open(opened).convert("RGB"))
    return images


def in_batches(run: Run, inputs: npt.NDArray[Any]) -> dict[str, npt.NDArray[Any]]:
    """Outputs (N, ...) of inputs (N, ...), in batches of several sizes."""
    starts = [0, *np.cumsum(_BATCHES)]
    parts = [run(inputs[a:b]) for a, b in zip(starts, [*starts[1:], len(inputs)], strict=True) if a < len(inputs)]
    return joined(parts)


def one_by_one(run: Run, inputs: Sequence[npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
    """Outputs (N, ...) of inputs of different shapes; each is three times in its batch."""
    return joined([{name: each[:1] for name, each in run(np.stack([one] * 3)).items()} for one in inputs])


def joined(parts: Sequence[Mapping[str, npt.NDArray[Any]]]) -> dict[str, npt.NDArray[Any]]:
    """Outputs of batches as those of one."""
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def agreement(
    found: Mapping[str, npt.NDArray[Any]], expected: Mapping[str, npt.NDArray[Any]], runtime: str, what: str = "images"
) -> Agreement:
    """Compare a file's outputs with the network's, of the same inputs."""
    differences, means, lowest = {}, {}, {}
    same_class = None
    for name, theirs in expected.items():
        ours = np.asarray(found[name], np.float64).reshape(len(theirs), -1)
        network = np.asarray(theirs, np.float64).reshape(len(theirs), -1)
        differences[name] = float(np.abs(ours - network).max() / max(float(np.abs(network).max()), 1e-30))
        cosines = (unit(ours) * unit(network)).sum(axis=1)
        means[name], lowest[name] = float(cosines.mean()), float(cosines.min())
        if name == "logits":
            same_class = int((ours.argmax(axis=1) == network.argmax(axis=1)).sum())
    count = len(next(iter(expected.values())))
    return Agreement(runtime, count, differences, means, lowest, same_class, what)


def require(found: Agreement, file: str, precision: str, *, with_transform: bool) -> None:
    """Raise `WeightsError` unless a file agrees with its network; it names the output, and how far it is off."""
    limit = LARGEST_WITH_TRANSFORM if with_transform else LARGEST_DIFFERENCE
    for name, difference in found.differences.items():
        if precision == "fp32":
            if not difference <= limit:  # NaN is not
                raise WeightsError(
                    f"{file} was not kept: {found.runtime} computes {name} with a difference of {difference:.2e} of "
                    f"its largest value, and {limit:.0e} is allowed. Please report this, with the model's name."
                )
            continue
        cosines = found.lowest_cosines if precision == "fp16" else found.mean_cosines
        if not cosines[name] >= LOWEST_COSINE[precision]:
            raise WeightsError(
                f"{file} was not kept: in {precision} the cosine of {name} to the network's is {cosines[name]:.4f}, "
                f"below {LOWEST_COSINE[precision]}. Use "
                f"{'--precision fp32' if precision == 'fp16' else 'more images for --calibrate, or --precision fp16'}."
            )
