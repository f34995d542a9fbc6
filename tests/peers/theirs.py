"""The published package's half of the comparison: run by the interpreter of .venv-peers, where `birder` is theirs.

Reads one JSON job from standard input:
    {"do": "write", network, classes, size, config, seed, path}: build a network, fill it with seeded numbers, save it
    {"do": "detector", network, detector, size, config, seed, path}: the same of a detector on that network
    {"do": "read", network, path}: load what we wrote
    {"do": "write pt2", network, path}, {"do": "read pt2", network, path}: export a small network, load an exported one
and all: {inputs: file.npz with `x`, image: photograph or null, outputs: file.npz to write}.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import birder
import numpy as np
import torch
from birder.common import fs_ops
from birder.inference.classification import infer_image
from birder.model_registry import registry
from birder.net.detection.base import get_detection_signature
from birder.tools.convert_model import pt2_export

RGB_STATS = {"mean": (0.48145466, 0.4578275, 0.40821073), "std": (0.26862954, 0.26130258, 0.27577711)}


def fill(net: torch.nn.Module, seed: int) -> None:
    """Give every parameter numbers that matter: as initialised, many are 0 or 1 and would hide a mistake."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in sorted(net.named_parameters()):
            # A convolution keeps the size of what it is given, so that nothing fades on its way through many.
            std = 0.02 if parameter.ndim != 4 else (2.0 / parameter[0].numel()) ** 0.5
            parameter.normal_(0.0, std, generator=generator)
            if parameter.ndim == 1 and name.endswith("weight"):
                parameter.add_(1.0)
        for name, buffer in sorted(net.named_buffers()):
            if name.endswith("running_mean"):
                buffer.normal_(0.0, 0.1, generator=generator)
            elif name.endswith("running_var"):
                buffer.uniform_(0.5, 1.5, generator=generator)


def write(job: dict[str, Any]) -> torch.nn.Module:
    size = tuple(job["size"])
    net = registry.net_factory(job["network"], job["classes"], 3, config=job["config"], size=size)
    fill(net, job["seed"])
    path = Path(job["path"])
    signature = {"inputs": [{"data_shape": [0, 3, *size]}], "outputs": [{"data_shape": [0, job["classes"]]}]}
    names = {f"class {i}": i for i in range(job["classes"])}
    if path.suffix == ".safetensors":
        fs_ops.save_st(net, str(path), str(net.task), names, signature, RGB_STATS, external_config=job["config"])
    else:
        torch.save(
            {
                "state": net.state_dict(),
                "birder_version": birder.__version__,
                "task": str(net.task),
                "signature": signature,
                "class_to_idx": names,
                "rgb_stats": RGB_STATS,
                "config": job["config"],
            },
            path,
        )
    return net.eval()


def write_detector(job: dict[str, Any]) -> torch.nn.Module:
    size = tuple(job["size"])
    backbone = registry.net_factory(job["network"], 3, 3, config=job["config"], size=size)
    net = registry.detection_net_factory(job["detector"], 3, backbone, size=size)
    fill(net, job["seed"])
    signature = get_detection_signature((1, 3, *size), 3, dynamic=False)
    config = {"backbone_config": job["config"]} if job["config"] else {}
    if job["path"].endswith(".safetensors"):
        fs_ops.save_st(
            net, job["path"], str(net.task), {"bird": 1}, signature, RGB_STATS, external_backbone_config=job["config"]
        )
    else:
        torch.save(
            {
                "state": net.state_dict(),
                "birder_version": birder.__version__,
                "task": net.task,
                "signature": signature,
                "class_to_idx": {"bird": 1},
                "rgb_stats": RGB_STATS,
                **config,
            },
            job["path"],
        )
    return net.eval()


def write_pt2(job: dict[str, Any], x: torch.Tensor) -> torch.Tensor:
    size = tuple(x.shape[2:])
    config = {"num_layers": 2, "num_heads": 2, "hidden_dim": 32, "mlp_dim": 64, "patch_size": 16}
    net = registry.net_factory(job["network"], 2, 3, config=config, size=size)
    fill(net, 0)
    signature = {"inputs": [{"data_shape": [0, 3, *size]}], "outputs": [{"data_shape": [0, 2]}]}
    pt2_export(
        net.eval(), signature, {"fox": 0, "owl": 1}, RGB_STATS, torch.device("cpu"), job["path"],
        dtype=torch.float32, dynamic_batch=True, dynamic_size=False, trace_size=None,
    )  # fmt: skip
    return net(x)


def read_pt2(job: dict[str, Any], x: torch.Tensor) -> dict[str, Any]:
    net, info = fs_ops.load_model(torch.device("cpu"), job["network"], path=job["path"], inference=True, pt2=True)
    names = sorted(info.class_to_idx, key=info.class_to_idx.get)
    return {
        "logits": net(x).numpy(),
        "names": np.array(names),
        "mean": np.array(info.rgb_stats["mean"]),
        "size": np.array(net.size),
    }


def main() -> None:
    job = json.load(sys.stdin)
    torch.set_grad_enabled(False)
    if job["do"] in ("write pt2", "read pt2"):
        x = torch.from_numpy(np.load(job["inputs"])["x"])
        results = read_pt2(job, x) if job["do"] == "read pt2" else {"logits": write_pt2(job, x).numpy()}
        np.savez(job["outputs"], **results)
        return
    if job["do"] == "detector":
        maps = write_detector(job).backbone.detection_features(torch.from_numpy(np.load(job["inputs"])["x"]))
        np.savez(job["outputs"], **{name: value.numpy() for name, value in maps.items()})
        return
    if job["do"] == "write":
        net, rgb_stats, class_to_idx = write(job), RGB_STATS, {}
    else:
        path = job["path"]
        st = path.endswith(".safetensors")
        net, info = fs_ops.load_model(torch.device("cpu"), job["network"], path=path, inference=True, st=st)
        rgb_stats, class_to_idx = info.rgb_stats, info.class_to_idx
    x = torch.from_numpy(np.load(job["inputs"])["x"])
    embedding = net.embedding(x)
    results = {
        "tokens": net.forward_features(x).numpy(),
        "embedding": embedding.numpy(),
        "logits": net.classify(embedding).numpy(),
    }
    for name, value in net.detection_features(x).items():
        results[f"detection_{name}"] = value.numpy()
    results["layer_norm_eps"] = np.array([m.eps for m in net.modules() if isinstance(m, torch.nn.LayerNorm)])
    net.set_dynamic_size()
    results["dynamic"] = net(torch.cat([x, x[..., : net.max_stride]], dim=-1)).numpy()
    net.set_dynamic_size(False)
    if job["image"] is not None:
        transform = birder.classification_transform(net.size, rgb_stats)
        results["image_out"], results["image_embedding"] = infer_image(
            net, job["image"], transform, return_embedding=True
        )
        results["image_tta"], _ = infer_image(net, job["image"], transform, tta=True)
    results["class_to_idx"] = np.array(json.dumps(class_to_idx))
    np.savez(job["outputs"], **results)


main()
