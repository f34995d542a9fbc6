"""The published package's half of the comparison of detectors: run by the interpreter of .venv-peers.

Reads one JSON job from standard input:
    {path, backbone, make: null}: load the detector's checkpoint that we wrote
    {path, backbone, make: {classes, size, config, backbone_config}}: build one, fill it with seeded numbers, save it
and both: {inputs: file.npz with `x` and, for each image, `boxes_0`, `labels_0`, ...; outputs: file.npz to write}.

The losses and detections are those of the published package, and those of torchvision's FCOS with the same parameters.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import numpy as np
import torch
from birder.net.detection.base import get_detection_signature
from torchvision.models.detection import FCOS
from torchvision.models.detection.anchor_utils import AnchorGenerator

import birder
from birder.common import fs_ops
from birder.model_registry import registry

RGB_STATS = {"mean": (0.48145466, 0.4578275, 0.40821073), "std": (0.26862954, 0.26130258, 0.27577711)}
LEAST, OVERLAP = 0.05, 0.6


def made(job: dict[str, Any]) -> torch.nn.Module:
    wanted = job["make"]
    size, classes = tuple(wanted["size"]), wanted["classes"]
    torch.manual_seed(0)
    backbone = registry.net_factory(job["backbone"], classes, 3, config=wanted["backbone_config"], size=size)
    net = registry.detection_net_factory("fcos", classes, backbone, config=wanted["config"], size=size)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in sorted(net.named_parameters()):
            std = 0.02 if parameter.ndim != 4 else (2.0 / parameter[0].numel()) ** 0.5
            parameter.normal_(0.0, std, generator=generator)
            if parameter.ndim == 1 and name.endswith("weight"):
                parameter.add_(1.0)
    extra = {"config": wanted["config"]} if wanted["config"] else {}
    extra |= {"backbone_config": wanted["backbone_config"]} if wanted["backbone_config"] else {}
    torch.save(
        {
            "state": net.state_dict(),
            "birder_version": birder.__version__,
            "task": net.task,
            "signature": get_detection_signature((1, 3, *size), classes, dynamic=False),
            "class_to_idx": {f"class {i}": i + 1 for i in range(classes)},
            "rgb_stats": RGB_STATS,
            **extra,
        },
        job["path"],
    )
    return net


def main() -> None:
    job = json.load(sys.stdin)
    if job["make"] is not None:
        net = made(job).eval()
    else:
        net, info = fs_ops.load_detection_model(
            torch.device("cpu"), "fcos", path=job["path"], backbone=job["backbone"], inference=True
        )
        assert min(info.class_to_idx.values()) == 1
    given = np.load(job["inputs"])
    x = torch.from_numpy(given["x"])
    targets = [
        {"boxes": torch.from_numpy(given[f"boxes_{i}"]), "labels": torch.from_numpy(given[f"labels_{i}"])}
        for i in range(len(x))
    ]
    sizes = tuple(tuple(each) for each in net.anchor_generator.sizes)
    torchvision = FCOS(
        net.backbone_with_fpn, net.num_classes, anchor_generator=AnchorGenerator(sizes, ((1.0,),) * len(sizes)),
        min_size=x.shape[2], max_size=x.shape[3], image_mean=[0.0] * 3, image_std=[1.0] * 3, score_thresh=LEAST,
        nms_thresh=OVERLAP,
    )  # fmt: skip
    torchvision.head.load_state_dict(net.head.state_dict())
    net.score_thresh, net.nms_thresh = LEAST, OVERLAP
    results: dict[str, Any] = {}
    with torch.no_grad():
        torchvision.eval()
        for name, detections, first in (("birder", net.eval()(x)[0], 0), ("torchvision", torchvision(list(x)), 1)):
            for i, each in enumerate(detections):
                results |= {f"{name}_{key}_{i}": value.numpy() for key, value in each.items()}
                results[f"{name}_labels_{i}"] += first  # torchvision counts classes from 0
        for model in (net, torchvision):
            model.train()
            model.backbone.eval()
        copies = [{key: value.clone() for key, value in each.items()} for each in targets]
        from_zero = [{"boxes": each["boxes"], "labels": each["labels"] - 1} for each in targets]
        losses = {"birder": net(x, copies)[1], "torchvision": torchvision(list(x), from_zero)}
        for name, each in losses.items():
            results |= {f"{name}_{key}": value.numpy() for key, value in each.items()}
    np.savez(job["outputs"], **results)


main()
