"""What the model card of an exported file says of its input and outputs, and the program that runs it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from birder.images.transform import ClassificationTransform
from birder.inference.detector import GraphForm
from birder.inference.export.check import Agreement
from birder.inference.export.detector import LEAST_SCORE, OUTPUTS
from birder.inference.export.graph import IMAGES, TOKENS, Graph
from birder.weights.detector import DetectorFile
from birder.weights.model_card import CardFacts, model_card

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
    lines += ["", *_run_named(dest, graph.given, graph.outputs)]
    if has_classes:
        lines += [
            'labels = open("labels.txt", encoding="utf-8").read().splitlines()',
            "print(labels[int(logits[0].argmax())])",
        ]
    return "\n".join(lines)


def _run_named(dest: Path, given: str, outputs: Sequence[str]) -> list[str]:
    names = ", ".join(outputs)
    if dest.suffix == ".onnx":
        unpacked = f"{names}," if len(outputs) == 1 else names
        return [
            "import onnxruntime",
            "",
            f'session = onnxruntime.InferenceSession("{dest.name}")',
            f'{unpacked} = session.run(None, {{"{given}": {given}}})',
        ]
    if dest.suffix == ".xml":
        return [
            "import openvino",
            "",
            f'found = openvino.Core().compile_model("{dest.name}", "CPU")({given})',
            *(f'{name} = found["{name}"]' for name in outputs),
        ]
    lines = ["import torch", "", f'found = torch.export.load("{dest.name}").module()(torch.from_numpy({given}))']
    if len(outputs) == 1:
        return [*lines, f"{names} = found.detach().numpy()"]
    return [*lines, *(f'{name} = found["{name}"].detach().numpy()' for name in outputs)]


def detector_card(
    file: DetectorFile,
    dest: Path,
    form: GraphForm,
    facts: Mapping[str, str],
    agreement: Agreement,
    description: str | None,
) -> str:
    """The model card of a detector."""
    height, width = form.size
    given = (
        f"float32 (1, 3, {height}, {width}): one RGB image divided by 255, resized to fit (bilinear, antialiased), "
        f"centred, and filled up with the grey {form.fill}"
    )
    outputs = {
        "boxes": "float32 (M, 4): left, top, right and bottom in pixels of the input; at most 300",
        "scores": f"float32 (M,): highest first, none below {LEAST_SCORE}",
        "classes": "int64 (M,): indices into `labels.txt`",
    }
    program = f"""import numpy as np
from PIL import Image

image = Image.open("owl.jpg").convert("RGB")
scale = min({width} / image.width, {height} / image.height)
inner = round(image.width * scale), round(image.height * scale)
left, top = ({width} - inner[0]) // 2, ({height} - inner[1]) // 2
frame = np.full(({height}, {width}, 3), {form.fill}, np.uint8)
frame[top : top + inner[1], left : left + inner[0]] = np.asarray(image.resize(inner, Image.Resampling.BILINEAR))
images = (frame / 255).astype(np.float32).transpose(2, 0, 1)[None]

"""
    lines = _run_named(dest, IMAGES, OUTPUTS)
    lines.append("boxes = (boxes - [left, top, left, top]) / scale  # in pixels of the image")
    return model_card(
        CardFacts(
            name=file.name,
            file=dest.name,
            network=file.name,
            what=f"`{dest.name}` is the detector {file.name}, exported by Birder with the suppression of "
            "overlapping boxes in the graph. It runs without Birder.",
            given={IMAGES: given},
            outputs=outputs,
            usage=program + "\n".join(lines),
            checked=agreement.in_words("fp32"),
            classes=form.names,
            spec=None,
            adaptation={},
            metadata=facts,
            description=description,
        )
    )
