"""A tiny network of random numbers in a file, and a classifier for it as `birder adapt` records one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

import birder
from birder.weights.backbone import backbone_sha256
from birder.weights.checkpoint import make_signature, save_model
from birder.weights.head import Head
from birder.weights.load import LoadedModel

SMALL: dict[str, Any] = {"num_layers": 1, "num_heads": 2, "hidden_dim": 32, "mlp_dim": 64, "patch_size": 16}
RGB = {"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.2, 0.2]}
CLASSES = ("Bubo bubo", 'Größe; \x7f\n"', "owl")


def network_file(path: Path, *, outputs: int = 5, config: dict[str, Any] | None = None, seed: int = 0) -> Path:
    torch.manual_seed(seed)
    net = birder.create_network("vit_b16_pn", outputs, size=(32, 32), config=config or SMALL)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return save_model(net, path, signature=make_signature((32, 32), outputs), rgb_stats=RGB, config=config or SMALL)


def adaptation_of(model: LoadedModel) -> dict[str, Any]:
    return {
        "schema": 1,
        "column": "species",
        "metrics": {"top1": {"estimate": 0.8, "low": 0.7, "high": 0.9, "n": 100, "interval": "Wilson"}},
        "unknown": {"k": 2, "threshold": 0.5, "kept": 0.95},
        "conformal": {"level": 0.9, "kind": "marginal", "quantiles": 0.7},
        "ranks": {
            "names": ["order", "species"],
            "taxa": {name: {"order": "Strigiformes", "species": name} for name in CLASSES},
            "thresholds": {"order": {"0.95": {"precision": 1.0, "n": 50}}, "species": {}},
        },
        "backbone": {
            "name": model.name,
            "network": model.network,
            "sha256": backbone_sha256(model.net.state_dict()),
            "weights_sha256": model.sha256,
            "dimension": model.net.embedding_size,
        },
    }


def head_of(model: LoadedModel, **changes: Any) -> Head:
    random = np.random.default_rng(1)
    dimension = model.net.embedding_size
    head = Head(
        CLASSES,
        random.normal(size=(3, dimension)).astype(np.float32),
        random.normal(size=3).astype(np.float32),
        adaptation_of(model),
        random.integers(-127, 128, (7, dimension), np.int8),
    )
    return replace(head, **changes)
