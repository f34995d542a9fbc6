"""What the model card of an exported file says of its input and outputs, and the program that runs it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from birder.images.transform import ClassificationTransform
from birder.inference.export.graph import TOKENS, Graph

_PRECISIONS = {
    "fp32": "in single precision",
    "fp16": "with its weights in half precision, computed in single",
    "int8": "quantised to int8",
}


def what(name: str, network: str, file: str, precision: str) -> str:
    """What the file is."""
    return f"`{file}` is {name} ({network}), {_PRECISIONS[precision]}, exported by Birder. It runs without Birder."


def given(graph: Graph, transform: ClassificationTransform | None, facts: Mapping[str, str]) -> str:
    """What the input is."""
    if graph.given == TOKENS:
        return f"int64 (B, {graph.example.shape[1]}): tokens of texts, as `tokenizer.json` gives them"
    assert transform is not None  # of images
    if facts["transform"] == "in the graph":
        return "uint8 (B, height, width, 3): RGB images of any size, upright; resized and normalised in the graph"
    _, channels, height, width = graph.example.shape
    mean, std = (", ".join(f"{each:.6g}" for each in values) for values in (transform.mean, transform.std))
    return (
        f"float32 (B, {channels}, {height}, {width}): RGB images, resized as a whole (bicubic, antialiased, as Pillow "
        f"does), divided by 255, minus the mean ({mean}), divided by the standard deviation ({std})"
    )


def output(name: str, graph: Graph) -> str:
    """What an output is."""
    if name == "embedding":
        return "float32 (B, D): the embedding, as a Birder collection stores it"
    if name == "logits":
        return "float32 (B, C): logits; their softmax gives the probabilities of the classes"
    if name == "features":
        other = "images" if graph.given == TOKENS else "texts"
        return f"float32 (B, E): scale to length 1, then their dot product with those of {other} is the cosine"
    return "float32 (B, channels, rows, columns): a map for a detector"


def usage(
    dest: Path, graph: Graph, transform: ClassificationTransform | None, facts: Mapping[str, str], has_classes: bool
) -> str:
    """A program that runs the file."""
    lines = ["import numpy as np"]
    if graph.given == TOKENS:
        lines += ["from tokenizers import Tokenizer", ""]
        lines += ['tokenizer = Tokenizer.from_file("tokenizer.json")']
        lines += ['tokens = np.array([tokenizer.encode("a photo of Strix aluco.").ids], np.int64)']
    else:
        assert transform is not None  # of images
        lines += ["from PIL import Image", "", 'image = Image.open("owl.jpg").convert("RGB")']
        if facts["transform"] == "in the graph":
            lines += ["images = np.asarray(image)[None]"]
        else:
            height, width = transform.size
            stats = json.loads(facts["rgb_stats"])
            lines += [
                f"image = image.resize(({width}, {height}), Image.Resampling.BICUBIC)",
                f"mean, std = np.array({stats['mean']}), np.array({stats['std']})",
                "images = ((np.asarray(image) / 255 - mean) / std).astype(np.float32).transpose(2, 0, 1)[None]",
            ]
    lines += ["", *_run(dest, graph)]
    if has_classes:
        lines += [
            'labels = open("labels.txt", encoding="utf-8").read().splitlines()',
            "print(labels[int(logits[0].argmax())])",
        ]
    return "\n".join(lines)


def _run(dest: Path, graph: Graph) -> list[str]:
    names = ", ".join(graph.outputs)
    if dest.suffix == ".onnx":
        unpacked = f"{names}," if len(graph.outputs) == 1 else names
        return [
            "import onnxruntime",
            "",
            f'session = onnxruntime.InferenceSession("{dest.name}")',
            f'{unpacked} = session.run(None, {{"{graph.given}": {graph.given}}})',
        ]
    if dest.suffix == ".xml":
        return [
            "import openvino",
            "",
            f'found = openvino.Core().compile_model("{dest.name}", "CPU")({graph.given})',
            *(f'{name} = found["{name}"]' for name in graph.outputs),
        ]
    lines = ["import torch", "", f'found = torch.export.load("{dest.name}").module()(torch.from_numpy({graph.given}))']
    if len(graph.outputs) == 1:
        return [*lines, f"{names} = found.detach().numpy()"]
    return [*lines, *(f'{name} = found["{name}"].detach().numpy()' for name in graph.outputs)]
