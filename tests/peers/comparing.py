"""The published `birder` package in its own interpreter, our network beside it, and how far apart they are."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from birder.net.base import Backbone

THEIRS = Path(__file__).with_name("theirs.py")
THEIR_PYTHON = Path(os.environ["BIRDER_PEERS"]).absolute()
RGB_STATS = {"mean": (0.48145466, 0.4578275, 0.40821073), "std": (0.26862954, 0.26130258, 0.27577711)}
TOLERANCE = 1e-5

Results = dict[str, npt.NDArray[Any]]


def run_theirs(**job: Any) -> Results:
    """Run the published package on a job; its results by name."""
    outputs = Path(job["inputs"]).with_name("theirs.npz")
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    done = subprocess.run(
        [THEIR_PYTHON, THEIRS],
        input=json.dumps(job | {"outputs": str(outputs)}),
        env=environment,
        cwd=outputs.parent,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return dict(np.load(outputs))


def run_ours(net: Backbone, x: torch.Tensor) -> Results:
    """The same from our network."""
    with torch.inference_mode():
        embedding = net.embedding(x)
        results = {"tokens": net.forward_features(x), "embedding": embedding, "logits": net.classify(embedding)}
        net.set_dynamic_size()
        results["dynamic"] = net(torch.cat([x, x[..., : net.max_stride]], dim=-1))
        net.set_dynamic_size(False)
        results |= {f"detection_{name}": value for name, value in net.detection_features(x).items()}
    eps = np.array([module.eps for module in net.modules() if isinstance(module, torch.nn.LayerNorm)])
    return {name: value.numpy() for name, value in results.items()} | {"layer_norm_eps": eps}


def relative_error(ours: npt.NDArray[Any], theirs: npt.NDArray[Any]) -> float:
    """The largest difference, as a share of the largest value."""
    assert ours.shape == theirs.shape
    return float(np.abs(ours - theirs).max() / np.abs(theirs).max())


def compare(ours: Results, theirs: Results, names: list[str]) -> dict[str, float]:
    # A wrong epsilon moves these outputs by less than the tolerance, so it is compared itself.
    assert ours["layer_norm_eps"].tolist() == theirs["layer_norm_eps"].tolist()
    errors = {name: relative_error(ours[name], theirs[name]) for name in names}
    assert max(errors.values()) <= TOLERANCE, errors
    return errors
